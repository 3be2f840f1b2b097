"""What a day at work is doing, for other processes to see.

A small file beside the service's state, replaced as a whole at most once a second. It is no source
of truth: nothing of it is synced, a disk that does not take it fails no day, and who reads it holds
it against the run's lock, for a process that was killed leaves it behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from varro.domain import Stage
from varro.lock import holder_of, is_held, lock_path

PACE_S = 1.0
"""between two looks at a day, and so between two words of it"""


@dataclass(frozen=True, slots=True)
class Doing:
    """The stage that is running, or has just ended."""

    holder: str
    """who holds the run's lock meanwhile"""
    day: str
    stage: str
    started_at: str
    at: str
    """when this was written"""
    unit: str
    total: int | None
    """None where it can not be told before"""
    done: int = 0
    spared: int = 0
    """what need not be done: it shortens the way and is no speed"""
    is_finished: bool = False

    def seconds(self, now: datetime) -> float:
        """Since the stage began."""
        return max(0.0, (now - datetime.fromisoformat(self.started_at)).total_seconds())

    def rate(self) -> float | None:
        """Of `unit` a second."""
        seconds = self.seconds(datetime.fromisoformat(self.at))
        return self.done / seconds if self.done and seconds else None

    def seconds_left(self, now: datetime) -> float | None:
        """By the stage's speed so far; None if it is not known."""
        passed = self.done + self.spared
        if self.is_finished or not self.total or not passed:
            return None
        at = datetime.fromisoformat(self.at)
        left = self.seconds(at) * max(0, self.total - passed) / passed
        return max(0.0, left - (now - at).total_seconds())


def doing_path(home: Path, run: str) -> Path:
    return home / "service" / f"{run}.doing"


def load_doing(home: Path, run: str) -> Doing | None:
    """What the process that holds the run is doing; None if none does, or it has not said."""
    lock = lock_path(home, run)
    try:
        doing = Doing(**json.loads(doing_path(home, run).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return doing if is_held(lock) and doing.holder == str(holder_of(lock)) else None


class DoingFile:
    """Writes what a day is doing; the lock of its run must be held."""

    def __init__(
        self,
        home: Path,
        run: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = doing_path(home, run)
        self._holder = str(holder_of(lock_path(home, run)))
        self._clock, self._ticks = clock, ticks
        self._doing: Doing | None = None
        self._done = self._spared = 0
        self._written = 0.0

    def started(self, day: str, stage: Stage, *, total: int | None, unit: str) -> None:
        now = self._clock().isoformat()
        self._doing = Doing(self._holder, day, str(stage), now, now, unit, total)
        self._done = self._spared = 0
        self._write()

    def advanced(self, n: int, spared: int) -> None:
        self._done += n
        self._spared += spared
        if self._ticks() - self._written >= PACE_S:
            self._write()

    def finished(self) -> None:
        self._write(is_finished=True)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self, *, is_finished: bool = False) -> None:
        if self._doing is None:
            return
        self._written = self._ticks()
        doing = replace(
            self._doing,
            at=self._clock().isoformat(),
            done=self._done,
            spared=self._spared,
            is_finished=is_finished,
        )
        partial = self._path.with_suffix(".partial")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(asdict(doing)), encoding="utf-8")
            os.replace(partial, self._path)
