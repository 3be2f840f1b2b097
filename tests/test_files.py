"""Durable files: whole or not there, and what the disk refuses said in words."""

from __future__ import annotations

import errno
import os
import resource

import pytest

from varro.errors import DiskError
from varro.files import disk_errors, make_folder, publish_folder, write_file


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "make room and run it again"),
        (errno.EIO, "look after the disk and run it again"),
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
