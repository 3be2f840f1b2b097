"""Times in words become dates, and nearness falls with their distance."""

from datetime import date, timedelta

import pytest

from varro.forecast.timeframe import find_times, nearness

TUESDAY = date(2026, 1, 6)
FRIDAY = date(2026, 1, 9)


def frame(text, made_on=TUESDAY):
    found = find_times(text, made_on=made_on)
    assert len(found) == 1, found
    return found[0].first.isoformat(), found[0].last.isoformat()


def near(text, made_on=TUESDAY, window_days=1.5):
    return nearness(find_times(text, made_on=made_on)[0], made_on=made_on, window_days=window_days)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("this evening", "2026-01-06", "2026-01-06"),
        ("tomorrow", "2026-01-07", "2026-01-07"),
        ("by tomorrow evening", "2026-01-07", "2026-01-07"),
        ("the day after tomorrow", "2026-01-08", "2026-01-08"),
        ("on the next trading day", "2026-01-07", "2026-01-07"),
        ("by the close", "2026-01-06", "2026-01-07"),
        ("within 24 hours", "2026-01-06", "2026-01-07"),
        ("over the next 36 hours", "2026-01-06", "2026-01-08"),
        ("within a day or two", "2026-01-06", "2026-01-08"),
        ("within a couple of days", "2026-01-06", "2026-01-08"),
        ("by Friday", "2026-01-06", "2026-01-09"),
        ("on Friday", "2026-01-09", "2026-01-09"),
        ("next Friday", "2026-01-16", "2026-01-16"),
        ("by the close on Tuesday", "2026-01-06", "2026-01-06"),
        ("by Monday's close", "2026-01-06", "2026-01-12"),
        ("by the weekend", "2026-01-10", "2026-01-11"),
        ("on 12 March", "2026-03-12", "2026-03-12"),
        ("by March 12", "2026-03-12", "2026-03-12"),
        ("on the 12th of March 2027", "2027-03-12", "2027-03-12"),
        ("on 2026-01-08", "2026-01-08", "2026-01-08"),
        ("by mid-March", "2026-03-01", "2026-03-31"),
        # 6 January 2026 is a Tuesday: its week ends on Sunday the 11th.
        ("this week", "2026-01-06", "2026-01-11"),
        ("by the end of the week", "2026-01-06", "2026-01-11"),
        ("next week", "2026-01-12", "2026-01-18"),
        ("in 2-4 weeks", "2026-01-20", "2026-02-03"),
        ("within two to four weeks", "2026-01-06", "2026-02-03"),
        ("by month-end", "2026-01-06", "2026-01-31"),
        ("next month", "2026-02-01", "2026-02-28"),
        ("this quarter", "2026-01-06", "2026-03-31"),
        ("next quarter", "2026-04-01", "2026-06-30"),
        ("by year-end", "2026-01-06", "2026-12-31"),
        ("in Q3", "2026-07-01", "2026-09-30"),
        ("in 2027", "2027-01-01", "2027-12-31"),
        # A few is three: 90 days from 6 January.
        ("in the coming months", "2026-01-06", "2026-04-06"),
    ],
)
def test_phrases_become_dates(text, first, last):
    """Catches an off-by-one in a week, a month's end or a weekday's offset."""
    assert frame(text) == (first, last)


@pytest.mark.parametrize(
    "text",
    [
        "last Friday",
        "since Monday",
        "so far this week",
        "the Monday report",
        "it may 12 or march 5",
        "on 31 February",
        "Black Friday sales",
        "24 hours",
        "the monthly report of the day-care centre",
    ],
)
def test_what_sets_no_time_is_no_time(text):
    """Catches past days, modal verbs and nouns read as deadlines."""
    assert find_times(text, made_on=TUESDAY) == []


def test_a_weekday_that_is_today_is_today():
    """Catches "by Friday", said on a Friday, put off by a week."""
    assert frame("by Friday", FRIDAY) == ("2026-01-09", "2026-01-09")
    assert near("by Friday", FRIDAY) == 1.0
    assert frame("by Thursday", FRIDAY) == ("2026-01-09", "2026-01-15")


def test_a_date_just_past_stays_past():
    """Catches a stale date that earns marks as next year's."""
    assert frame("by 2 January", TUESDAY) == ("2026-01-02", "2026-01-02")
    assert near("by 2 January", TUESDAY) == 0.0
    assert frame("on 30 December", TUESDAY)[0] == "2025-12-30"
    assert frame("on 3 January", date(2025, 12, 30))[0] == "2026-01-03"


def test_nearness_is_full_in_the_window_and_falls_with_the_distance():
    """Catches steps, and "next quarter" paid as a next-day forecast."""
    # 1.5 days are two whole days: tomorrow and the day after earn all.
    assert near("tomorrow") == near("the day after tomorrow") == near("within 48 hours") == 1.0
    assert 0.4 <= near("within a week") <= 0.5
    assert 0.15 <= near("within a month") <= 0.25
    assert 0.03 <= near("within a year") <= 0.06
    days = [
        near(f"by {(TUESDAY + timedelta(n)).isoformat()}", window_days=1.5) for n in range(2, 60)
    ]
    assert days == sorted(days, reverse=True)
    assert len(set(days)) == len(days)


def test_the_window_is_the_settle_window():
    """Catches a timeframe scored against a window that the reward does not use."""
    assert near("within a week", window_days=7.0) == 1.0
    assert near("tomorrow", window_days=0.5) == 1.0
    assert near("within two days", window_days=0.5) < 1.0


def test_without_a_date_a_weekday_counts_nine_tenths():
    """Catches a crash, or full marks for a day that may be six days off."""
    friday = find_times("by Friday", made_on=None)[0]
    tomorrow = find_times("tomorrow", made_on=None)[0]
    assert nearness(friday, made_on=None, window_days=1.5) == 0.9
    assert nearness(tomorrow, made_on=None, window_days=1.5) == 1.0


def test_times_are_found_whole_and_in_order():
    """Catches overlaps: "by the close on Friday" is one time, not two."""
    text = "Shares rise by the close on Friday, and again within two weeks."
    found = [text[t.start : t.end] for t in find_times(text, made_on=TUESDAY)]
    assert found == ["by the close on Friday", "within two weeks"]


@pytest.mark.parametrize("made_on", [date(2024, 2, 29), date(2026, 12, 31), date(2026, 1, 1)])
def test_every_period_holds_its_order_on_awkward_days(made_on):
    """Catches leap days and year ends: a month that does not exist, a week that ends early."""
    for text in ("this week", "next month", "this quarter", "next quarter", "by year-end", "in Q1"):
        first, last = frame(text, made_on)
        assert first <= last and last >= made_on.isoformat()


def test_absurd_lengths_do_not_overflow():
    """Catches an OverflowError from "in 9999 decades"."""
    assert near("in 9999 decades") < 0.01
