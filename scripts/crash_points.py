"""Numbered points of a process at which it can be killed, or told that the disk has failed.

`watch` wraps what a process writes with (files, folders, the ledger's commits), so production code
has no hook of any kind. Points are counted in the order they are passed; the same work passes the
same points. There is one before every change to the disk, which is the one after the change before
it; a write has three more inside: after 1 byte, half, and all but 1.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Watch:
    """Counts the points below a folder and acts at one of them."""

    home: Path
    at: int = 0
    """the point to act at, from 1; 0 is none"""
    code: int | None = None
    """the errno of a failing disk; None kills the process. They have points of their own: a disk
    can fail while it is read from, and nothing is left to fail after a write"""
    seen: list[str] = field(default_factory=list)
    wrote: bool = False
    """the open transaction has something to commit"""

    def point(self, what: str) -> None:
        """A moment at which the process may be killed."""
        if self.code is None and self._counted(what):
            os.kill(os.getpid(), signal.SIGKILL)

    def call(self, what: str) -> None:
        """A call that may fail."""
        if self.code is not None and self._counted(what):
            raise OSError(self.code, os.strerror(self.code), what.split()[-1])

    def statement(self, what: str) -> None:
        """A statement of the ledger that may fail."""
        if self.code is not None and self._counted(what):
            raise _of_sqlite(self.code)

    def _counted(self, what: str) -> bool:
        self.seen.append(what)
        return len(self.seen) == self.at

    def name(self, path: Any) -> str | None:
        """The watched folder or a path below it, relative to it; None for any other."""
        if not isinstance(path, str | os.PathLike):
            return None
        text = os.path.abspath(os.fspath(path))
        is_below = text == str(self.home) or text.startswith(f"{self.home}{os.sep}")
        return os.path.relpath(text, self.home) if is_below else None


def watch(home: Path, *, at: int = 0, code: int | None = None) -> Watch:
    """Count this process's points below `home` from now on; there is no way back."""
    found = Watch(Path(os.path.abspath(home)), at, code)
    _watch_files(found)
    _watch_folders(found)
    _watch_tensors(found)
    _watch_ledger(found)
    return found


def _watch_files(found: Watch) -> None:
    real_open = io.open

    class Watched(io.FileIO):
        def write(self, data: Any) -> int:
            name, content = str(found.name(self.name)), bytes(data)
            found.point(f"before write {name}")
            found.call(f"write {name}")
            done = 0
            for upto in sorted({min(1, len(content)), len(content) // 2, len(content) - 1}):
                while done < upto:
                    done += super().write(content[done:upto]) or 0
                found.point(f"{done} of {len(content)} bytes {name}")
            found.call(f"end of write {name}")
            while done < len(content):
                done += super().write(content[done:]) or 0
            return done

    def watched_open(
        file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None,
        newline: Any = None, closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        name = found.name(file)
        if name is None:
            return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        found.call(f"open {name}")
        if not set(mode) & set("wax+"):
            return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        found.point(f"before open {name}")
        raw = Watched(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        buffered: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    io.open = builtins.open = watched_open


def _watch_folders(found: Watch) -> None:
    def wrap(name: str, describe: Callable[..., str | None]) -> None:
        real = getattr(os, name)

        def watched(*args: Any, **keywords: Any) -> Any:
            what = describe(*args)
            if what is None:
                return real(*args, **keywords)
            found.point(f"before {name} {what}")
            found.call(f"{name} {what}")
            return real(*args, **keywords)

        setattr(os, name, watched)

    def of_handle(handle: Any, *_: Any) -> str | None:
        fd = handle if isinstance(handle, int) else handle.fileno()
        return found.name(_path_of(fd))

    for name in ("replace", "rename", "link"):
        wrap(name, lambda source, target, *_: found.name(target))
    for name in ("mkdir", "rmdir", "unlink"):
        wrap(name, lambda path, *_: found.name(path) if os.path.isabs(path) else str(path))
    wrap("fsync", of_handle)


def _watch_tensors(found: Watch) -> None:
    """The library writes with its own hands: what a kill would have left is made of the whole."""
    import safetensors
    import safetensors.numpy as library

    real_save = library.save_file

    def watched_save(tensors: Any, file: str, *args: Any, **keywords: Any) -> None:
        name = str(found.name(file))
        found.point(f"before save {name}")
        try:
            found.call(f"save {name}")
        except OSError as error:
            raise safetensors.SafetensorError(f"I/O error: {error.strerror}") from error
        real_save(tensors, file, *args, **keywords)
        content = Path(file).read_bytes()
        for n_bytes in (0, 1, len(content) // 2, len(content) - 1):
            if found.code is None and len(found.seen) + 1 == found.at:
                os.truncate(file, n_bytes)
            found.point(f"{n_bytes} of {len(content)} bytes {name}")

    library.save_file = watched_save


def _watch_ledger(found: Watch) -> None:
    from sqlalchemy.engine.default import DefaultDialect

    real_commit, real_execute = DefaultDialect.do_commit, DefaultDialect.do_execute
    real_many = DefaultDialect.do_executemany

    def commit(self: Any, connection: Any) -> None:
        wrote, found.wrote = found.wrote, False
        if not wrote:
            return real_commit(self, connection)
        found.point("before commit")
        found.statement("commit")
        real_commit(self, connection)

    def watched(real: Any) -> Any:
        def execute(self: Any, cursor: Any, statement: str, *args: Any, **keywords: Any) -> None:
            words = statement.split()
            if words[0] in ("INSERT", "UPDATE", "DELETE", "CREATE", "ALTER"):
                found.wrote = True
                found.statement(" ".join(words[:3]))
            real(self, cursor, statement, *args, **keywords)

        return execute

    DefaultDialect.do_commit = commit
    DefaultDialect.do_execute = watched(real_execute)
    DefaultDialect.do_executemany = watched(real_many)


def _path_of(fd: int) -> str:
    if hasattr(fcntl, "F_GETPATH"):  # macOS
        return os.fsdecode(fcntl.fcntl(fd, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    return os.readlink(f"/proc/self/fd/{fd}")


def _of_sqlite(code: int) -> sqlite3.OperationalError:
    text, number = {
        errno.ENOSPC: ("database or disk is full", sqlite3.SQLITE_FULL),
        errno.EIO: ("disk I/O error", sqlite3.SQLITE_IOERR),
        errno.EMFILE: ("unable to open database file", sqlite3.SQLITE_CANTOPEN),
    }[code]
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = number
    return error
