"""One at a time: the lock file of a run.

The system releases the lock when its holder's process ends, however it ends. A holder that is
stopped, or whose machine sleeps, shows no sign of life; after a while another may take over, by a
new file under the same name. One that hangs while its threads still run does show some, and keeps
the lock: what bounds it is `schedule.max_run_h`. What the first one still writes is refused by the
ledger, where the new holder has a larger number (see `Ledger.take_lease`).
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from varro.errors import HeldError, StageError

BEAT_S = 2.0
"""between two signs of life"""
_TRIES = 4
"""who only looks whether the lock is held has it for a moment"""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock."""

    pid: int
    host: str
    since: datetime | None
    """None if nobody told it the time"""

    def __str__(self) -> str:
        since = f" since {self.since:%Y-%m-%dT%H:%M:%SZ}" if self.since else ""
        return f"process {self.pid} on {self.host}{since}"


def lock_path(home: Path, run: str) -> Path:
    return home / f".{run}.lock"


class RunLock:
    """A lock file that is held until it is closed, touched every few seconds by a thread."""

    def __init__(self, handle: BinaryIO, holder: Holder) -> None:
        self.holder = holder
        self._handle = handle
        self._is_closed = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)
        self._beats.start()

    def fileno(self) -> int:
        return self._handle.fileno()

    def close(self) -> None:
        if not self._is_closed.is_set():
            self._is_closed.set()
            self._beats.join()
            self._handle.truncate(0)
            self._handle.close()

    def _beat(self) -> None:
        while not self._is_closed.wait(BEAT_S):
            os.utime(self.fileno())


def hold_lock(path: Path, *, now: datetime | None = None, lease_s: float = 3600.0) -> RunLock:
    """The lock of a run, for this process. With `now` it can be taken over from a holder that has
    shown no sign of life for `lease_s`.

    Raises: HeldError, which names the holder, if another process has it; StageError if the folder
    can not be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _locked(path)
        if handle is None and now is not None and _stays_silent(path, now, lease_s):
            handle = _taken_over(path, now, lease_s)
        if handle is None:
            raise HeldError(
                f"another varro is at work on this run: {holder_of(path) or 'it has just begun'} "
                f"({path}); wait for it, or name another --run"
            )
        holder = Holder(os.getpid(), socket.gethostname(), now and now.astimezone(UTC))
        since = holder.since and holder.since.isoformat()
        handle.truncate(0)
        handle.write(json.dumps({"pid": holder.pid, "host": holder.host, "since": since}).encode())
        handle.flush()
    except OSError as error:
        raise StageError(f"cannot write in {path.parent}: {error.strerror}") from error
    return RunLock(handle, holder)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock now."""
    try:
        with path.open("rb") as handle:
            return not _try_lock(handle, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def is_silent(path: Path, now: datetime, lease_s: float) -> bool:
    """Whether the holder's last sign of life is older than `lease_s`, or there is no such file."""
    try:
        return now.timestamp() - path.stat().st_mtime >= lease_s
    except FileNotFoundError:
        return True


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Held while a few lines of a small file are read and written: others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def holder_of(path: Path) -> Holder | None:
    """Who holds the lock, by the file's own word; None if it has none (yet)."""
    for _ in range(_TRIES):
        try:
            facts = json.loads(path.read_bytes())
            since = facts["since"] and datetime.fromisoformat(facts["since"])
            return Holder(facts["pid"], facts["host"], since)
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(0.05)  # it is being written
    return None


def _locked(path: Path) -> BinaryIO | None:
    """The file under this name, locked; None if another process has it."""
    for _ in range(_TRIES):
        handle = path.open("ab")
        if _try_lock(handle, fcntl.LOCK_EX):
            if path.exists() and os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                return handle
        else:
            time.sleep(0.02)
        handle.close()
    return None


def _try_lock(handle: BinaryIO, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stays_silent(path: Path, now: datetime, lease_s: float) -> bool:
    """Whether the holder is silent, and shows no sign of life while we look: a machine that has
    just woken up wakes both."""
    if not is_silent(path, now, lease_s):
        return False
    last = path.stat().st_mtime
    time.sleep(2.5 * BEAT_S)
    return path.stat().st_mtime == last


def _taken_over(path: Path, now: datetime, lease_s: float) -> BinaryIO | None:
    """A new locked file under the name; None if another process was quicker."""
    fresh = path.with_name(f"{path.name}.next")
    handle = fresh.open("ab")
    if not _try_lock(handle, fcntl.LOCK_EX):
        handle.close()
        return None
    if not is_silent(path, now, lease_s) or not fresh.exists():
        handle.close()
        return None
    os.utime(handle.fileno())
    os.replace(fresh, path)
    return handle
