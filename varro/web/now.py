"""What a home's runs are doing now, from a few small files: it may be asked every second."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from varro.lock import holder_of, is_held, lock_path
from varro.service.doing import Doing, load_doing
from varro.service.pause import load_pause
from varro.service.tick import State, load_state, state_path


@dataclass(frozen=True, slots=True)
class RunNow:
    """A run as its small files show it."""

    run: str
    holder: str | None
    """who is at work on it"""
    doing: Doing | None
    paused: str | None
    state: State | None
    """of the service that runs its days, if one has ever looked"""

    def in_words(self, now: datetime, last: Mapping[str, float]) -> str:
        """What is going on, in a line. `last`: how long each stage took the last time, for those
        whose end can not be told before."""
        if self.doing is None:
            return f"at work: {self.holder}" if self.holder else "nobody is at work"
        doing = self.doing
        parts = [f"{doing.day} {doing.stage}"]
        if doing.is_finished:
            return f"{parts[0]}: finished, the next stage is being prepared"
        passed = doing.done + doing.spared
        if doing.total:
            parts.append(f"{min(passed, doing.total):,} of {doing.total:,} {doing.unit}")
        rate, left = doing.rate(), doing.seconds_left(now)
        if rate is not None:
            parts.append(
                f"{rate:,.3g} {doing.unit}/s" if rate < 10 else f"{rate:,.0f} {doing.unit}/s"
            )
        parts.append(f"for {duration(doing.seconds(now))}")
        if left is not None:
            parts.append(f"about {duration(left)} left")
        elif not doing.total and doing.stage in last:
            parts.append(f"took {duration(last[doing.stage])} the last time")
        return ", ".join(parts)

    def share(self) -> float | None:
        """Of the running stage, in [0, 1]; None if it is not known."""
        doing = self.doing
        if doing is None or not doing.total:
            return None
        return 1.0 if doing.is_finished else min(1.0, (doing.done + doing.spared) / doing.total)


def look_at_runs(home: Path, configured: str, *others: str) -> list[RunNow]:
    """The configured run, and all that have ever been opened in a home, by name."""
    locks = (path.name.removeprefix(".").removesuffix(".lock") for path in home.glob(".*.lock"))
    return [_look_at(home, run) for run in sorted({configured, *others, *locks})]


def state_key(runs: Sequence[RunNow]) -> str:
    """The same as long as only figures move: a page with another key is out of date."""
    shapes = [
        (
            now.run,
            now.holder,
            now.paused,
            now.doing and (now.doing.day, now.doing.stage, now.doing.is_finished),
            now.state and (now.state.at, now.state.outcome),
        )
        for now in runs
    ]
    return hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]


def in_figures(
    runs: Sequence[RunNow], now: datetime, last: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """{key, runs: {run: {words, share}}}: what an event carries."""
    return {
        "key": state_key(runs),
        "runs": {
            found.run: {
                "words": found.in_words(now, last.get(found.run, {})),
                "share": found.share(),
            }
            for found in runs
        },
    }


def _look_at(home: Path, run: str) -> RunNow:
    lock = lock_path(home, run)
    paused = load_pause(home, run)
    return RunNow(
        run,
        str(holder_of(lock) or "it has just begun") if is_held(lock) else None,
        load_doing(home, run),
        None if paused is None else str(paused),
        load_state(state_path(home, run)),
    )


def duration(seconds: float) -> str:
    """Such as 1.3 s, 45 s, 4:05 min or 3:04 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"
