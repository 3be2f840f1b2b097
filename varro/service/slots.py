"""When cycles fall due, by the wall clock of one place. Pure, but for `load_timetable`.

A day's first cycle is due from one wall time on; with a shorter cadence others follow it until the
next day's first. A wall time that a clock change leaves out is taken as far behind the change as it
would have been; one that comes twice is its first; a date that a place has skipped has no cycle.
What of it was run is the ledger's to say, never a scheduler's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from time import tzset
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from varro.config import ScheduleConfig
from varro.errors import ConfigError, StageError

ONE_DAY = timedelta(days=1)
_CLOCK_STEP = timedelta(minutes=10)
"""by which a clock may be put right without a word"""


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """A cycle that is to be run."""

    at: datetime
    """when it falls due (UTC)"""
    cycle: str
    """its name in the ledger: `YYYY-MM-DD`, or `YYYY-MM-DDTHHMM` with a shorter cadence, which is
    the local time it is due at on a day without a clock change; sorts as time"""


@dataclass(frozen=True, slots=True)
class Begun:
    """The newest cycle of a run that was begun."""

    cycle: str
    as_of: datetime
    is_half: bool = False
    """it has settled forecasts and was then stopped: leaving it would lose them. One that has only
    taken in its news can be passed over"""
    is_done: bool = False

    @classmethod
    def of(cls, cycle: str, as_of: datetime, finished: Collection[str]) -> Begun:
        """From the names of its finished stages."""
        is_done = "report" in finished
        return cls(cycle, as_of, is_half="settle" in finished and not is_done, is_done=is_done)


@dataclass(frozen=True)
class DueDay:
    """A cycle that can be run now: a day, if the configuration does not say otherwise."""

    day: str
    """its name in the ledger"""
    as_of: datetime
    """its clock: nothing first seen later is read"""
    missed: tuple[Slot, ...] = ()
    """cycles before it that nobody ran, and that nobody can run any more"""


@dataclass(frozen=True, slots=True)
class Timetable:
    """The cycles of one place."""

    zone: tzinfo
    at: time = time(6, 30)
    cadence: timedelta = ONE_DAY
    """a day, or a part that divides it"""

    def day(self, day: date) -> list[Slot]:
        """The cycles of a local date, in order; none if the place has skipped it."""
        first = moment(day, self.at, self.zone)
        if first is None:
            return []
        if self.cadence == ONE_DAY:
            return [Slot(first, day.isoformat())]
        following = next(
            m for n in range(1, 4) if (m := moment(day + n * ONE_DAY, self.at, self.zone))
        )
        slots = []
        for n in range(ONE_DAY // self.cadence):
            at = first + n * self.cadence
            if at < following:  # on a day of 23 hours the last ones fall away
                nominal = datetime.combine(day, self.at) + n * self.cadence
                slots.append(Slot(at, f"{nominal:%Y-%m-%dT%H%M}"))
        return slots

    def between(self, after: datetime, until: datetime) -> Iterator[Slot]:
        """Slots with after < at ≤ until, in order."""
        day = after.astimezone(self.zone).date() - 2 * ONE_DAY
        last = until.astimezone(self.zone).date() + ONE_DAY
        while day <= last:
            yield from (slot for slot in self.day(day) if after < slot.at <= until)
            day += ONE_DAY

    def latest(self, now: datetime) -> Slot:
        """The newest slot that has fallen due."""
        newest = now.astimezone(self.zone).date() + ONE_DAY
        days = (self.day(newest - n * ONE_DAY) for n in range(5))
        return next(max(past) for day in days if (past := [s for s in day if s.at <= now]))

    def following(self, now: datetime) -> Slot:
        """The next one that will."""
        return min(self.between(now, now + 4 * ONE_DAY))


def due_live(timetable: Timetable, now: datetime, newest: Begun | None) -> list[DueDay]:
    """Cycles of live feeds that can be run, oldest first: one that was stopped halfway, under its
    own clock; then the newest that has fallen due, for the past can not be fetched.

    Raises: StageError if the clock stands before the newest cycle.
    """
    slot = timetable.latest(now)
    if newest is None:
        return [DueDay(slot.cycle, now)]
    if now < newest.as_of - _CLOCK_STEP:
        raise StageError(
            f"the clock says {now:%Y-%m-%dT%H:%M:%SZ}, but cycle {newest.cycle} was begun at "
            f"{newest.as_of:%Y-%m-%dT%H:%M:%SZ}: set the clock right; if it was wrong then, wait "
            "until it has passed, or begin another run with --run NAME",
            day=newest.cycle,
        )
    unfinished = DueDay(newest.cycle, newest.as_of)
    if slot.cycle == newest.cycle:
        return [] if newest.is_done else [unfinished]
    half = [unfinished] if newest.is_half else []
    # Who travels west meets a date again that is done, and a clock may be put right by a second.
    if slot.cycle < newest.cycle or now <= newest.as_of:
        return half
    # What has only taken in its news is passed over: missed, as one that was slept through.
    is_over = newest.is_done or newest.is_half
    missed = [
        passed
        for passed in timetable.between(newest.as_of - 2 * ONE_DAY, now)
        if newest.cycle < passed.cycle < slot.cycle
    ]
    if not is_over:
        missed.insert(0, Slot(newest.as_of, newest.cycle))
    return [*half, DueDay(slot.cycle, now, tuple(missed))]


def load_timetable(schedule: ScheduleConfig) -> Timetable:
    """The timetable of a configuration; without a zone in it, of the system's own as it
    is now.

    Raises: ConfigError if the system does not say where it is.
    """
    if schedule.zone is not None:
        zone: tzinfo = ZoneInfo(schedule.zone)
    else:
        import tzlocal

        # A process that stays is to see that its machine has moved, as its children do: read again,
        # and by the C library, too, against which tzlocal holds it.
        tzset()
        try:
            zone = tzlocal.reload_localzone()
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigError(
                f"the system's time zone can not be told ({error}); set schedule.zone"
            ) from error
    return Timetable(zone, schedule.at, schedule.period())


def is_cycle(text: str) -> bool:
    """Whether a text is the name of a cycle."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)(?:T([01]\d|2[0-3])[0-5]\d)?", text)
    try:
        return found is not None and bool(date.fromisoformat(found[1]))
    except ValueError:
        return False


def moment(day: date, at: time, zone: tzinfo) -> datetime | None:
    """The UTC moment of a wall time, or None if the place has no such date."""
    wall = datetime.combine(day, at)
    found = wall.replace(tzinfo=zone).astimezone(UTC)
    shift = found.astimezone(zone).replace(tzinfo=None) - wall
    return found if shift < ONE_DAY else None
