"""What the live view says: of each run what it is doing, has done, and has to do.

What is asked every second (`look_at_runs`) reads a few small files; what a page is made of
(`page_facts`) asks the ledger too, at a glance and without a lock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from varro.config import Config
from varro.domain import Stage
from varro.errors import VarroError
from varro.ledger.glance import History, history_at, runs_at
from varro.ledger.place import ledger_place
from varro.lock import holder_of, is_held, lock_path
from varro.report.page import Badge
from varro.service.alerts import is_over
from varro.service.doing import Doing, load_doing
from varro.service.pause import load_pause
from varro.service.slots import ONE_DAY, load_timetable
from varro.service.status import claim_of
from varro.service.tick import State, due_cycle, glance_of, load_state, state_path

_N_FOLLOWING = 5
"""cycles that are shown as next"""


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

    def in_words(self, now: datetime) -> str:
        """What is going on, in a line."""
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
            parts.append(f"{rate:,.3g} {doing.unit}/s" if rate < 10 else f"{rate:,.0f} {doing.unit}/s")
        parts.append(f"for {_duration(doing.seconds(now))}")
        if left is not None:
            parts.append(f"about {_duration(left)} left")
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


def in_figures(runs: Sequence[RunNow], now: datetime) -> dict[str, Any]:
    """{key, runs: {run: {words, share}}}: what an event carries."""
    rows = {run.run: {"words": run.in_words(now), "share": run.share()} for run in runs}
    return {"key": state_key(runs), "runs": rows}


class Looker:
    """Looks at one home, for the run that a configuration names and for those beside it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.run = config.run.name
        self._archive: tuple[tuple[int, int], list[str]] | None = None

    def runs(self) -> list[RunNow]:
        return look_at_runs(self.config.home, self.run)

    def page_facts(self, now: datetime) -> dict[str, Any]:
        """What a page is made of: {state, key, runs, queue, stages, refused}."""
        home, place = self.config.home, ledger_place(self.config)
        refused, histories = None, {}
        try:
            runs = look_at_runs(home, self.run, *runs_at(place))
            histories = {found.run: history_at(place, found.run) for found in runs}
        except VarroError as error:
            refused, runs = str(error), self.runs()
        rows = [self._row(found, histories.get(found.run), now) for found in runs]
        # The configured run first, for the buttons are its own.
        rows.sort(key=lambda row: (row["run"] != self.run, row["run"]))
        queue = self._queue(now)
        return {
            "title": f"Varro at work in {home}",
            "state": _state_of(runs, self.run, queue, refused or queue["refused"]),
            "key": state_key(runs),
            "now": now,
            "home": str(home),
            "run": self.run,
            "runs": rows,
            "queue": queue,
            "stages": [str(stage) for stage in Stage],
            "refused": refused,
        }

    def _row(self, found: RunNow, history: History | None, now: datetime) -> dict[str, Any]:
        home, state = self.config.home, found.state
        days = [
            {
                "day": day.day,
                "seconds": {s: _duration(t) for s, t in day.seconds.items()},
                "total": _duration(sum(day.seconds.values())),
                "is_done": Stage.REPORT in day.seconds,
                "report": _report_address(home, found.run, day.day),
            }
            for day in (history.days if history else ())
        ]
        done = [day["day"] for day in days if day["is_done"]]
        return {
            **asdict(found),
            "words": found.in_words(now),
            "share": found.share(),
            "n_done": history and history.n_done,
            "version": history and history.version,
            "days": days,
            "claim": claim_of(home, found.run, done[0]) if done else None,
            "alerts": [e["text"] for e in ((state and state.told) or {}).values() if not is_over(e)],
        }

    def _queue(self, now: datetime) -> dict[str, Any]:
        """{due, refused, following, n_more}: cycles that can be run now, and those that come."""
        config = self.config
        try:
            glance = glance_of(config)
            if config.news.source == "archive":
                last = glance.done[0][0] if glance.done else ""
                days = [day for day in self._archive_days() if day > last]
                following = [(day, "when the one before is done") for day in days[1:]]
                due = days[0] if days else None
            else:
                due = due_cycle(config, glance, now)
                slots = load_timetable(config.schedule).between(now, now + 4 * ONE_DAY)
                following = [
                    (slot.cycle, f"due in {_duration((slot.at - now).total_seconds())}, {slot.at:%Y-%m-%d %H:%M}Z")
                    for slot in islice(slots, _N_FOLLOWING)
                ]
        except VarroError as error:
            return {"due": None, "refused": str(error), "following": [], "n_more": 0}
        return {
            "due": due,
            "refused": None,
            "following": following[:_N_FOLLOWING],
            "n_more": max(0, len(following) - _N_FOLLOWING),
        }

    def _archive_days(self) -> list[str]:
        """Read again only when the file is another: it may hold years."""
        from varro.news.archive import load_archive

        path = self.config.news.archive
        assert path is not None
        try:
            found = path.stat()
        except OSError as error:
            raise VarroError(f"{path}: {error.strerror}") from error
        key = found.st_mtime_ns, found.st_size
        if self._archive is None or self._archive[0] != key:
            archive = load_archive(path, max_malformed_frac=self.config.news.max_malformed_frac)
            self._archive = key, [day.isoformat() for day in archive.days()]
        return self._archive[1]


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


def _state_of(
    runs: Sequence[RunNow], run: str, queue: dict[str, Any], refused: str | None
) -> Badge:
    this = next(found for found in runs if found.run == run)
    state = this.state
    if this.paused:
        return Badge("PAUSED", f"{run} is {this.paused}; nothing is begun until it is resumed", "‖", "calm")
    if this.holder:
        return Badge("AT WORK", f"{run}: {this.holder}", "▶", "good")
    if refused:
        return Badge("REFUSED", refused, "✕", "bad")
    if state is not None and state.exit_code:
        return Badge("FAILED", f"{run}: {state.error}", "✕", "bad")
    if queue["due"]:
        return Badge("DUE", f"{queue['due']} is due, and is begun at the next wake-up", "…", "calm")
    return Badge("IDLE", f"nothing is due in {run}", "✓", "good")


def _report_address(home: Path, run: str, day: str) -> str | None:
    """Relative, and only where there is a page."""
    page = Path("reports") / run / day / "report.html"
    return page.as_posix() if (home / page).exists() else None


def _duration(seconds: float) -> str:
    """12.3 s, 4:05 min, or 3:04:05 h."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = timedelta(seconds=round(seconds))
    if whole < timedelta(hours=1):
        return f"{whole.seconds // 60}:{whole.seconds % 60:02d} min"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d} h"


def utc_now() -> datetime:
    return datetime.now(UTC)
