"""When cycles fall due: once each, in order, whatever the clocks of the world do."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varro.config import ScheduleConfig
from varro.errors import StageError
from varro.service.slots import (
    ONE_DAY,
    Begun,
    Timetable,
    due_live,
    is_cycle,
    load_timetable,
    moment,
)

ZONES = (
    "America/Los_Angeles", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe",
    "Pacific/Apia", "Asia/Kathmandu", "America/Nuuk", "UTC",
)  # fmt: skip
HOUR = timedelta(hours=1)


def first_day(zone):
    """Two years from here on hold a skipped date in Apia, and four clock changes elsewhere."""
    return date(2011, 1, 1) if zone == "Pacific/Apia" else date(2024, 6, 1)


def dates(first, n):
    return [first + k * ONE_DAY for k in range(n)]


class Keeper:
    """A ledger of names: what a run would have begun at each wake-up."""

    def __init__(self, timetable):
        self.timetable = timetable
        self.ran = []
        self.missed = []
        self.newest = None

    def wake(self, now):
        for due in due_live(self.timetable, now, self.newest):
            self.ran.append(due.day)
            self.missed += [slot.cycle for slot in due.missed]
            self.newest = Begun(due.day, due.as_of, is_done=True)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("at", ["00:15", "01:30", "06:30", "23:45"])
def test_two_years_of_wakeups_run_every_day_once_and_in_order(zone, at):
    """Catches what a cron trigger in a local zone does: a day lost in spring, two in autumn."""
    keeper = Keeper(Timetable(ZoneInfo(zone), time.fromisoformat(at)))
    first = first_day(zone)
    draw = random.Random(f"{zone} {at}")
    now = moment(first, time.fromisoformat(at), ZoneInfo(zone))
    end = now + 730 * ONE_DAY
    while now < end:
        for _ in range(draw.choice([1, 1, 1, 2])):  # also twice in one second
            keeper.wake(now)
        # At least one wake-up a cycle: the shortest day has 23 hours.
        now += timedelta(seconds=draw.uniform(60, 11.4 * 3600))
    expected = [d.isoformat() for d in dates(first, 730)]
    if zone == "Pacific/Apia":
        expected.remove("2011-12-30")
    # The last day may fall beyond the end, by what an hour of daylight saving is worth.
    assert keeper.ran[: len(expected)] == expected
    assert len(keeper.ran) - len(expected) in (0, 1)
    assert keeper.missed == []


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("hole", [1, 7, 20])
def test_a_hole_is_missed_and_never_run_under_another_date(zone, hole):
    """Catches days made up afterwards from today's feeds, and a hole that nobody hears of."""
    at = time(6, 30)
    keeper = Keeper(Timetable(ZoneInfo(zone), at))
    days = dates(first_day(zone), 60)
    slept = {10 + k for k in range(hole)}
    for n, day in enumerate(days):
        if n not in slept:
            keeper.wake(moment(day, at, ZoneInfo(zone)) + HOUR)
    assert keeper.missed == [days[n].isoformat() for n in sorted(slept)]
    assert sorted(keeper.ran + keeper.missed) == [d.isoformat() for d in days]
    assert max(Counter(keeper.ran).values()) == 1


def test_a_cycle_that_only_took_in_its_news_is_missed_when_the_next_begins():
    """Catches a day that is neither done nor missed, and stands as unfinished for good."""
    timetable = Timetable(ZoneInfo("Europe/Berlin"))
    begun = datetime(2026, 3, 3, 6, 0, tzinfo=UTC)
    now = datetime(2026, 3, 5, 6, 0, tzinfo=UTC)
    left = Begun("2026-03-03", begun)
    (due,) = due_live(timetable, now, left)
    assert (due.day, [slot.cycle for slot in due.missed]) == (
        "2026-03-05",
        ["2026-03-03", "2026-03-04"],
    )
    # One that has settled is finished first, and one that is done is no miss.
    for newest in (replace(left, is_half=True), replace(left, is_done=True)):
        *_, due = due_live(timetable, now, newest)
        assert [slot.cycle for slot in due.missed] == ["2026-03-04"]


@settings(deadline=None, max_examples=150)
@given(
    zone=st.sampled_from(ZONES),
    cadence=st.sampled_from(["1d", "12h", "8h", "2h", "30m"]),
    at=st.times().map(lambda t: t.replace(second=0, microsecond=0, tzinfo=None)),
    start=st.integers(0, 700),
    steps=st.lists(st.integers(1, 40 * 60), min_size=1, max_size=60),
)
def test_no_cycle_is_begun_twice_or_out_of_order(zone, cadence, at, start, steps):
    """Catches names that do not sort as time, and a repeated hour that is run again."""
    period = ScheduleConfig(cadence=cadence).period()
    timetable = Timetable(ZoneInfo(zone), at, period)
    keeper = Keeper(timetable)
    first = first_day(zone) + start * ONE_DAY
    now = begin = datetime(first.year, first.month, first.day, tzinfo=UTC)
    for minutes in steps:
        now += timedelta(minutes=minutes)
        keeper.wake(now)
    assert keeper.ran == sorted(set(keeper.ran))
    # Between the first that ran and the last, every slot was either run or missed, once.
    told = sorted(keeper.ran + keeper.missed)
    slots = [s.cycle for s in timetable.between(begin - 2 * ONE_DAY, now)]
    assert told == slots[slots.index(told[0]) :]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cadence", ["12h", "2h", "30m"])
def test_shorter_cycles_follow_each_other_at_their_pace(zone, cadence):
    """Catches two cycles at once, and a gap of more than the hour that a clock was put back."""
    period = ScheduleConfig(cadence=cadence).period()
    begin = datetime(*first_day(zone).timetuple()[:3], tzinfo=UTC)
    slots = list(
        Timetable(ZoneInfo(zone), time(6, 30), period).between(begin, begin + 730 * ONE_DAY)
    )
    gaps = Counter(b.at - a.at for a, b in pairwise(slots))
    assert [s.cycle for s in slots] == sorted({s.cycle for s in slots})
    # A clock put forward by one hour takes two half-hours away and leaves the rest in step.
    assert min(gaps) >= min(period, HOUR / 2) and max(gaps) <= period + HOUR
    assert gaps[period] / gaps.total() > 0.98


@pytest.mark.parametrize(
    ("zone", "day", "at", "utc"),
    [
        # 02:30 does not exist: clocks go from 02:00 EST to 03:00 EDT, and 07:30 UTC is 03:30 EDT.
        ("America/New_York", "2025-03-09", "02:30", "2025-03-09T07:30"),
        # 01:30 comes twice, first as EDT.
        ("America/New_York", "2025-11-02", "01:30", "2025-11-02T05:30"),
        # Half an hour of daylight saving: +11 in summer, +10:30 in winter.
        ("Australia/Lord_Howe", "2025-01-05", "06:30", "2025-01-04T19:30"),
        ("Australia/Lord_Howe", "2025-07-05", "06:30", "2025-07-04T20:00"),
        # Clocks go from 23:00 to 00:00 of the next day: the day has its cycle all the same.
        ("America/Nuuk", "2025-03-29", "23:30", "2025-03-30T01:30"),
        ("Asia/Kathmandu", "2025-01-05", "06:30", "2025-01-05T00:45"),
        ("Pacific/Apia", "2011-12-30", "06:30", None),
    ],
)
def test_wall_times_that_are_left_out_or_come_twice(zone, day, at, utc):
    """Catches a day that is dropped because its wall time is."""
    found = moment(date.fromisoformat(day), time.fromisoformat(at), ZoneInfo(zone))
    assert found == (utc and datetime.fromisoformat(utc).replace(tzinfo=UTC))


def test_a_half_finished_cycle_comes_first_and_under_its_own_clock():
    """Catches settled forecasts that are lost, and a cycle begun under a second clock."""
    timetable = Timetable(UTC)
    begun = datetime(2026, 1, 5, 7, tzinfo=UTC)
    tomorrow = begun + ONE_DAY
    half = Begun("2026-01-05", begun, is_half=True)
    assert [(d.day, d.as_of) for d in due_live(timetable, tomorrow, half)] == [
        ("2026-01-05", begun),
        ("2026-01-06", tomorrow),
    ]
    ingested = Begun("2026-01-05", begun)
    assert [d.as_of for d in due_live(timetable, begun + HOUR, ingested)] == [begun]
    assert [d.day for d in due_live(timetable, tomorrow, ingested)] == ["2026-01-06"]


def test_a_clock_that_was_set_back_is_refused():
    """Catches a cycle that is run before one that has been, by a battery that ran empty."""
    timetable = Timetable(UTC)
    done = Begun("2026-01-05", datetime(2026, 1, 5, 7, tzinfo=UTC), is_done=True)
    for now in (datetime(1970, 1, 5, 7, tzinfo=UTC), done.as_of - 3 * HOUR):
        with pytest.raises(StageError, match=r"clock says .*2026-01-05 was begun at .*07:00:00Z"):
            due_live(timetable, now, done)
    # A second that a time server takes back is no news.
    assert due_live(timetable, done.as_of - timedelta(seconds=1), done) == []


def test_who_travels_west_does_not_run_a_date_again():
    """Catches an error, or a second cycle, where a date goes back and the clock does not."""
    tokyo = Timetable(ZoneInfo("Asia/Tokyo"))
    there = datetime(2026, 1, 6, 6, 45, tzinfo=ZoneInfo("Asia/Tokyo")).astimezone(UTC)
    (due,) = due_live(tokyo, there, None)
    assert due.day == "2026-01-06"
    done = Begun(due.day, there, is_done=True)
    angeles = Timetable(ZoneInfo("America/Los_Angeles"))
    assert due_live(angeles, there + 12 * HOUR, done) == []
    (next_due,) = due_live(angeles, there + 36 * HOUR + 6 * HOUR, done)
    assert (next_due.day, next_due.missed) == ("2026-01-07", ())


def test_the_zone_is_the_systems_where_none_is_given():
    """Catches a service that takes every laptop for Greenwich."""
    assert load_timetable(ScheduleConfig(zone="Europe/Berlin")).zone == ZoneInfo("Europe/Berlin")
    local = datetime(2026, 1, 5).astimezone().utcoffset()
    assert load_timetable(ScheduleConfig()).zone.utcoffset(datetime(2026, 1, 5)) == local


def test_names_of_cycles_are_told_from_other_words():
    """Catches `varro show` that takes a forecast's id for a day, or a day for an id."""
    names = ["2026-01-05", "2026-01-05T0630", "2026-12-31T2359"]
    others = ["2026-02-30", "20260105", "2026-01-05T06:30", "2026-01-05T2430", "2026-01-05T", "a1"]
    assert [is_cycle(text) for text in names + others] == [True] * 3 + [False] * 6
