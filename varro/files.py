"""Durable files: temp beside the target, fsync, rename, fsync of the folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from varro.errors import DiskError, StageError

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
    errno.ENXIO: "look after the disk",
    errno.ENODEV: "look after the disk",
    errno.ESTALE: "mount it again",
    errno.ENOTDIR: "name a folder where no file is in its way",
    errno.EEXIST: "name a folder where no file is in its way",
    errno.EISDIR: "move the folder that is in its way",
    errno.ENAMETOOLONG: "name it shorter",
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
        file = error.filename2 or error.filename  # of a copy, where it was to go
        where = f" ({file})" if file else ""
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


@contextmanager
def new_folder(target: Path, doing: str) -> Iterator[Path]:
    """A folder to fill, which gets its name when it is full and durable.

    Raises: StageError if something has the name already, but for an empty folder, or another
    process is filling it; DiskError.
    """
    with disk_errors(doing), ExitStack() as stack:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise StageError(f"{target} exists; name a new folder")
        partial = target.with_name(f".{target.name}.partial")
        if partial.exists():
            with _alone_in(partial, doing):  # else it is what a killed one has left
                shutil.rmtree(partial)
        make_folder(partial)
        stack.enter_context(_alone_in(partial, doing))
        try:
            yield partial
            publish_folder(partial, target)
        finally:
            if partial.exists():
                shutil.rmtree(partial)


@contextmanager
def _alone_in(folder: Path, doing: str) -> Iterator[None]:
    """Raises: StageError if another process is at work in a folder, where its disk can tell."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise StageError(f"{doing}: another process is at it; wait for it to end") from None
    except OSError:  # a share of another machine may have no locks
        pass
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def new_file(target: Path, doing: str) -> Iterator[Path]:
    """A path to write to, which gets its name when what was written is whole and durable.

    Raises: StageError if something has the name already; DiskError.
    """
    with disk_errors(doing):
        if target.exists():
            raise StageError(f"{target} exists; name a new file")
        make_folder(target.parent)
        partial = target.with_name(f".{target.name}.partial")
        try:
            yield partial
            with partial.open("rb") as handle:
                _sync(handle.fileno())
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(target.parent)


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
