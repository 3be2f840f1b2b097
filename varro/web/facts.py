"""What the live view's page is made of: the runs, what they have done, and what is due.

The ledger is asked at a glance, without a lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from varro.config import Config
from varro.domain import Stage
from varro.errors import VarroError
from varro.ledger.glance import History, history_at, runs_at
from varro.ledger.place import ledger_place
from varro.report.claim import claim_of
from varro.report.page import Badge
from varro.service.alerts import is_over
from varro.service.slots import ONE_DAY, load_timetable
from varro.service.tick import due_cycle, glance_of
from varro.web.now import RunNow, duration, look_at_runs, state_key

_N_FOLLOWING = 5
"""cycles that are shown as next"""


class Looker:
    """Looks at one home, for the run that a configuration names and for those beside it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.run = config.run.name
        self._known: list[str] = []
        """runs of the ledger, when a page was made last: not all need to have been opened here"""
        self.last: dict[str, dict[str, float]] = {}
        """seconds of each run's stages, the last time that a page was made"""
        self._archive: tuple[tuple[int, int], list[str]] | None = None

    def runs(self) -> list[RunNow]:
        """All that are known, as they are now."""
        return look_at_runs(self.config.home, self.run, *self._known)

    def page_facts(self, now: datetime) -> dict[str, Any]:
        """What `live.html` is given."""
        home, place = self.config.home, ledger_place(self.config)
        refused, histories = None, {}
        try:
            self._known = runs_at(place)
            histories = {run: history_at(place, run) for run in self._known}
        except VarroError as error:
            refused = str(error)
        runs = self.runs()
        for run, history in histories.items():
            for day in reversed(history.days):
                self.last[run] = {**self.last.get(run, {}), **day.seconds}
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
            "has_index": (home / "reports" / "index.html").exists(),
        }

    def _row(self, found: RunNow, history: History | None, now: datetime) -> dict[str, Any]:
        home, state = self.config.home, found.state
        told = (state and state.told) or {}
        days: list[dict[str, Any]] = [
            {
                "day": day.day,
                "seconds": {s: duration(t) for s, t in day.seconds.items()},
                "total": duration(sum(day.seconds.values())),
                "is_done": Stage.REPORT in day.seconds,
                "report": _report_address(home, found.run, day.day),
            }
            for day in (history.days if history else ())
        ]
        done = [day["day"] for day in days if day["is_done"]]
        return {
            **asdict(found),
            "words": found.in_words(now, self.last.get(found.run, {})),
            "share": found.share(),
            "n_done": history and history.n_done,
            "version": history and history.version,
            "days": days,
            "claim": claim_of(home, found.run, done[0]) if done else None,
            "alerts": [entry["text"] for entry in told.values() if not is_over(entry)],
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
                    (
                        slot.cycle,
                        f"due {slot.at:%Y-%m-%d %H:%M}Z, in "
                        + duration((slot.at - now).total_seconds()),
                    )
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


def _state_of(
    runs: Sequence[RunNow], run: str, queue: dict[str, Any], refused: str | None
) -> Badge:
    this = next(found for found in runs if found.run == run)
    state = this.state
    if this.paused:
        return Badge(
            "PAUSED", f"{run} is {this.paused}; nothing is begun until it is resumed", "‖", "calm"
        )
    if this.holder:
        return Badge("AT WORK", f"{run}: {this.holder}", "▶", "good")
    if refused:
        return Badge("REFUSED", refused, "✕", "bad")
    if state is not None and state.exit_code and state.outcome != "held":
        return Badge("FAILED", f"{run}: {state.error}", "✕", "bad")
    if queue["due"]:
        return Badge("DUE", f"{queue['due']} is due, and is begun at the next wake-up", "…", "calm")
    return Badge("IDLE", f"nothing is due in {run}", "✓", "good")


def _report_address(home: Path, run: str, day: str) -> str | None:
    """Relative, and only where there is a page."""
    page = Path("reports") / run / day / "report.html"
    return page.as_posix() if (home / page).exists() else None
