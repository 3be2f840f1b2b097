"""Durable files: whole or not there, and what the disk refuses said in words."""

from __future__ import annotations

import errno
import os
import resource

import pytest

from varro.errors import DiskError, StageError
from varro.files import (
    disk_errors,
    make_folder,
    new_file,
    new_folder,
    publish_folder,
    write_file,
)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "make room and run it again"),
        (errno.EIO, "look after the disk and run it again"),
        (errno.ENODEV, "look after the disk and run it again"),
        (errno.ESTALE, "mount it again and run it again"),
        (errno.EMFILE, r"allow more open files \(ulimit -n\) and run it again"),
        (errno.EROFS, "let it be written to and run it again"),
    ],
)
def test_what_the_disk_refuses_says_what_to_do(code, advice):
    """Catches a full disk that reads like a fault of the program."""
    said = rf"report of today: .* \(/x/f\); {advice}"
    with pytest.raises(DiskError, match=said) as caught, disk_errors("report of today"):
        raise OSError(code, os.strerror(code), "/x/f")
    assert caught.value.exit_code == 9
    assert isinstance(caught.value.__cause__, OSError)


def test_a_copy_names_the_file_that_was_to_be_written():
    """Catches a full stick told as the full disk that the copied file lies on."""
    error = OSError(errno.ENOSPC, "No space left on device", "/home/x/from", None, "/media/to")
    said = r"No space left on device \(/media/to\); make room"
    with pytest.raises(DiskError, match=said), disk_errors("export"):
        raise error


def test_other_errors_are_not_the_disks():
    """Catches a missing file, or a server that hangs up, told as a broken disk."""
    for error in (FileNotFoundError(errno.ENOENT, "no"), ConnectionResetError(), ValueError("x")):
        with pytest.raises(type(error)), disk_errors("now"):
            raise error


def test_a_write_that_fails_leaves_the_old_content_and_no_remains(tmp_path):
    """Catches half a report, and remains that take the room which the next try needs."""
    file = tmp_path / "deep" / "report.json"
    write_file(file, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError):
            write_file(file, b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == b"old"
    assert [p.name for p in file.parent.iterdir()] == ["report.json"]
    write_file(file, b"new" * 1000)
    assert file.read_bytes() == b"new" * 1000


def test_a_published_folder_replaces_one_that_was_never_recorded(tmp_path):
    """Catches files of two tries mixed under one name."""
    for name in ("v1", ".v1.partial"):
        make_folder(tmp_path / name)
        (tmp_path / name / f"of{name}").write_text("x")
    publish_folder(tmp_path / ".v1.partial", tmp_path / "v1")
    assert [p.name for p in tmp_path.iterdir()] == ["v1"]
    assert [p.name for p in (tmp_path / "v1").iterdir()] == ["of.v1.partial"]


def test_what_two_kills_left_of_a_folder_goes_when_the_next_is_published(tmp_path):
    """Catches remains for good: killed once after a folder had its name, and once more while the
    next try was removing it: nothing then stands under that name to be replaced."""
    for name in (".v1.removed", ".v1.partial"):
        make_folder(tmp_path / name)
        (tmp_path / name / "adapters").write_text("x")
    publish_folder(tmp_path / ".v1.partial", tmp_path / "v1")
    assert [p.name for p in tmp_path.iterdir()] == ["v1"]


@pytest.mark.parametrize("new", [new_file, new_folder])
def test_what_is_new_gets_its_name_when_it_is_whole(tmp_path, new):
    """Catches a name that stands for a part, what an earlier try left taken for this one's, and
    something of somebody's that is written over."""
    target = tmp_path / "deep" / "out"
    partial = target.with_name(".out.partial")
    make_folder(partial if new is new_folder else partial.parent)
    (partial / "old" if new is new_folder else partial).write_text("old")
    with pytest.raises(ValueError), new(target, "export") as inside:
        assert not target.exists()
        (inside / "a" if new is new_folder else inside).write_text("half")
        raise ValueError
    assert list(target.parent.iterdir()) == []
    with new(target, "export") as inside:
        (inside / "a" if new is new_folder else inside).write_text("whole")
    assert [p.name for p in target.parent.iterdir()] == ["out"]
    with pytest.raises(StageError, match="exists; name a new"), new(target, "export"):
        pass
    assert (target / "a" if new is new_folder else target).read_text() == "whole"


@pytest.mark.parametrize("new", [new_file, new_folder])
def test_a_file_in_the_way_of_a_folder_is_said_in_words(tmp_path, new):
    """Catches "unforeseen FileExistsError" where a folder cannot be made."""
    (tmp_path / "file").write_text("mine")
    wanted = "name a folder where no file is in its way"
    with pytest.raises(DiskError, match=wanted), new(tmp_path / "file" / "out", "export"):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_in_the_place_of_a_file_is_said_in_words(tmp_path):
    """Catches "unforeseen IsADirectoryError" where a page of a site, or a report, is a folder."""
    (tmp_path / "page.html").mkdir()
    wanted = "move the folder that is in its way"
    with pytest.raises(DiskError, match=wanted), disk_errors("the site is not complete"):
        write_file(tmp_path / "page.html", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
