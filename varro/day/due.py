"""Which days can be run now."""

from __future__ import annotations

from datetime import UTC, date, datetime

from varro.ledger.store import Ledger
from varro.run import OpenRun
from varro.service.slots import ONE_DAY, Begun, DueDay, due_live, load_timetable


def due_days(work: OpenRun, now: datetime) -> list[DueDay]:
    """Days that can be run, oldest first. An archive's days are due in their order, each as of its
    midnight; from live feeds only the newest cycle of the timetable can ever be begun, for the past
    can not be fetched, but one that was stopped halfway is finished first, under its own clock.

    Raises: StageError if the clock stands before a live run's newest cycle.
    """
    if work.archive is None:
        return due_live(
            load_timetable(work.config.schedule), now, newest_begun(work.ledger, work.name)
        )
    last = max(work.ledger.days_done(work.name), default="")
    return [
        DueDay(day.isoformat(), end_of_day(day))
        for day in work.archive.days()
        if day.isoformat() > last
    ]


def newest_begun(ledger: Ledger, run: str) -> Begun | None:
    """A run's newest day that was begun."""
    newest = ledger.newest_day(run)
    if newest is None:
        return None
    stages = ledger.stage_runs(run, newest)
    return Begun.of(newest, stages[0].as_of, [s.stage for s in stages])


def end_of_day(day: date) -> datetime:
    """The first moment after a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + ONE_DAY
