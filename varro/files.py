"""Durable files: temp beside the target, fsync, rename, fsync of the folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from varro.errors import DiskError

_ADVICE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EROFS: "let it be written to",
    errno.EACCES: "let it be read and written",
    errno.EPERM: "let it be read and written",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "allow more open files",
    errno.EIO: "look after the disk",
}


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Whatever the disk refuses inside is a DiskError that says what to do.

    Raises: DiskError for an OSError of a disk that is full, in error, not writable, or of a process
    without free descriptors; other errors pass.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _ADVICE:
            raise
        where = f" ({error.filename})" if error.filename else ""
        raise DiskError(
            f"{doing}: {error.strerror}{where}; {_ADVICE[error.errno]} and run it again, what was "
            "finished stays"
        ) from error


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old content or the new, never a part."""
    write_files(path.parent, {path.name: content})


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files of one folder in their order, each of them so; the folder is synced once."""
    make_folder(folder)
    for name, content in contents.items():
        partial = folder / f".{name}.partial"
        try:
            with partial.open("wb") as handle:
                handle.write(content)
                handle.flush()
                _sync(handle.fileno())
            os.replace(partial, folder / name)
        except OSError:
            partial.unlink(missing_ok=True)  # on a full disk it would take the room of the next try
            raise
    sync_folder(folder)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a file's lock inside, waiting for who holds it: for moments, not for days."""
    make_folder(path.parent)
    with path.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def make_folder(path: Path) -> None:
    """Make a folder and those above it, durably."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def publish_folder(partial: Path, target: Path) -> None:
    """Make a finished folder visible under its name, replacing an unrecorded earlier one, and what
    is left of one that was being replaced when the process was killed."""
    for file in sorted(partial.rglob("*")):
        if file.is_file():
            with file.open("rb") as handle:
                _sync(handle.fileno())
    sync_folder(partial)
    remove_folder(target)
    os.rename(partial, target)
    sync_folder(target.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder so that a crash leaves it whole or gone, never a part under its name."""
    doomed = path.with_name(f".{path.name}.removed")
    if doomed.exists():
        shutil.rmtree(doomed)
    if path.exists():
        os.rename(path, doomed)
        sync_folder(path.parent)
        shutil.rmtree(doomed)


def sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        _sync(handle)
    finally:
        os.close(handle)


def _sync(handle: int) -> None:
    """To the platter, on macOS too, where fsync only reaches the drive's cache."""
    os.fsync(handle)
    full_sync = getattr(fcntl, "F_FULLFSYNC", None)
    if full_sync is None:
        return
    try:
        fcntl.fcntl(handle, full_sync)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EINVAL):  # a file system that has only fsync
            raise


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
