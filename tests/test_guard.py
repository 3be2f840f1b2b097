"""Days whose forecasts must not be settled, and healthy days that must be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varro.domain import Headline
from varro.news.archive import load_archive
from varro.news.duplicates import without_near_duplicates
from varro.reward.guard import GuardLimits, refuse_day

LIMITS = GuardLimits()
MIDNIGHT = datetime(2025, 5, 1, tzinfo=UTC)
ONE_DAY = timedelta(days=1)
SAMPLE = Path(__file__).resolve().parent.parent / "data" / "sample"


def headlines(n: int, *, late_h: float | None = 2.0, feed: str = "f") -> list[Headline]:
    """n headlines first seen at midnight, published late_h hours before, or without a date."""
    published = None if late_h is None else MIDNIGHT - timedelta(hours=late_h)
    return [
        Headline(f"{feed}{i}", "c", feed, "a.org", "", f"title {i}", "", published, MIDNIGHT)
        for i in range(n)
    ]


def refused(prompts: list[Headline], outcomes: list[Headline], n_repeats: int = 0) -> str | None:
    return refuse_day(prompts, outcomes, limits=LIMITS, n_repeats=n_repeats)


def test_a_healthy_day_is_settled() -> None:
    """Catches a guard that refuses everything."""
    assert refused(headlines(32), headlines(40), n_repeats=8) is None


def test_ten_outcomes_are_enough_and_nine_are_not() -> None:
    """Catches a reward that is the best of three headlines."""
    assert refused(headlines(32), headlines(10)) is None
    assert refused(headlines(32), headlines(9)) == "9 outcomes, 10 are needed"
    assert refused(headlines(32), []) == "0 outcomes, 10 are needed"


def test_more_than_thirty_percent_of_repeats_is_yesterdays_file() -> None:
    """Catches outcomes that are the prompts again: every echo wins. Also repeats counted against
    what is left of the outcomes, and not against all of them."""
    # 6 of 6 + 14 = 20 are exactly 30 %; 7 of 7 + 14 = 21 are 33.3 %, as is 6 of 6 + 12 = 18.
    assert refused(headlines(32), headlines(14), n_repeats=6) is None
    expected = "7 of 21 outcomes (33.3 %) repeat the prompts, more than 30 %"
    assert refused(headlines(32), headlines(14), n_repeats=7) == expected
    assert refused(headlines(32), headlines(12), n_repeats=6) is not None


def test_dates_that_come_and_go_refuse_the_day() -> None:
    """Catches a file put together from two, and one that lost its dates between the two sides."""
    # 4 of 80 are exactly 5 %; 5 of 80 are 6.25 %.
    prompts = headlines(40)
    assert refused(prompts, headlines(36) + headlines(4, late_h=None)) is None
    reason = refused(prompts, headlines(35) + headlines(5, late_h=None))
    assert reason == (
        "5 of 80 headlines (6.25 %) have no date though their feeds give dates, more than 5 %"
    )
    assert refused(prompts, headlines(40, late_h=None)) is not None


def test_feeds_and_archives_without_dates_are_settled() -> None:
    """Catches the optional key made compulsory: `published` may be left out of an archive, and
    one feed in five gives none."""
    assert refused(headlines(32, late_h=None), headlines(40, late_h=None)) is None
    mixed = headlines(32) + headlines(8, late_h=None, feed="undated")
    assert refused(mixed, mixed) is None


@pytest.mark.parametrize("side", ["prompts", "outcomes"])
def test_a_file_collected_on_another_day_is_refused(side: str) -> None:
    """Catches last week's file under today's name, on either side."""

    def day(late_h: float) -> str | None:
        odd, good = headlines(40, late_h=late_h), headlines(40)
        return refused(odd, good) if side == "prompts" else refused(good, odd)

    assert day(36) is None
    assert day(-12) is None
    assert day(37) == (
        f"the {side} were published 37 h before they were first seen (median of 40), more than "
        "36 h: collected on another day"
    )
    assert day(-13) == (
        f"the {side} were published 13 h after they were first seen (median of 40), more than "
        "12 h: their clock is wrong"
    )


def test_a_few_old_items_refuse_nothing() -> None:
    """Catches a mean in place of the median, and a median over four items."""
    years_old = headlines(19, late_h=20_000)
    assert refused(headlines(32), headlines(20) + years_old) is None
    assert refused(headlines(32), headlines(18) + years_old) is not None
    undated = headlines(36, late_h=None, feed="undated")
    assert refused(headlines(32), undated + headlines(4, late_h=20_000)) is None
    assert refused(headlines(32), undated + headlines(5, late_h=20_000)) is not None


def test_all_reasons_are_given_and_all_limits_can_be_moved() -> None:
    """Catches a day mended for one reason and refused for the next, and a limit nobody reads."""
    prompts = headlines(20, late_h=50)
    outcomes = headlines(4, late_h=-20) + headlines(4, late_h=None)
    # 4 of 28 have no date; 8 of 16 outcomes repeat.
    reason = refused(prompts, outcomes, n_repeats=8)
    assert reason is not None
    assert [part.split()[0] for part in reason.split("; ")] == ["8", "8", "4", "the"]
    open_limits = replace(LIMITS, max_undated_frac=1.0, max_repeats_frac=1.0, min_outcomes=0)
    open_limits = replace(open_limits, max_late_h=50.0, max_early_h=20.0)
    assert refuse_day(prompts, outcomes, limits=open_limits, n_repeats=8) is None
    assert refuse_day([], [], limits=replace(open_limits, min_dated=0), n_repeats=0) is None
    strict = replace(open_limits, max_early_h=19.0, min_dated=4)
    assert refuse_day(prompts, outcomes, limits=strict, n_repeats=8) is not None


DATES = st.none() | st.datetimes(timezones=st.just(UTC))
ITEMS = st.lists(
    st.builds(
        lambda feed, published, seen: Headline(
            "i", "c", feed, "", "", "t", "", published, seen or MIDNIGHT
        ),
        st.sampled_from("ab"),
        DATES,
        DATES,
    ),
    max_size=12,
)


@given(ITEMS, ITEMS, st.integers(0, 20))
def test_no_data_can_stop_the_guard(
    prompts: list[Headline], outcomes: list[Headline], n_repeats: int
) -> None:
    """Catches a division by no outcomes, a median of no dates and a date in the year 1."""
    reason = refused(prompts, outcomes, n_repeats)
    assert reason is None or reason != ""


def refused_days(path: Path) -> dict[str, str]:
    """Reasons by day, each day's headlines against those of the next."""
    archive = load_archive(path)
    found = {}
    for date in archive.days()[:-1]:
        midnight = datetime(date.year, date.month, date.day, tzinfo=UTC) + ONE_DAY
        prompts = archive.between(midnight - ONE_DAY, midnight)
        window = archive.between(midnight, midnight + ONE_DAY)
        left = without_near_duplicates([h.title for h in window], [h.title for h in prompts])
        outcomes = [window[i] for i in left]
        n_repeats = len(window) - len(outcomes)
        reason = refuse_day(prompts, outcomes, limits=LIMITS, n_repeats=n_repeats)
        if reason:
            found[date.isoformat()] = reason
    return found


@pytest.mark.parametrize("name", ["world", "shuffled"])
def test_the_sample_days_are_all_settled(name: str) -> None:
    """Catches a sample archive that trains on fewer days than it shows."""
    assert refused_days(SAMPLE / f"{name}.jsonl.gz") == {}


def test_the_backlog_of_a_real_archive_is_refused_and_its_week_ends_are_not(
    shared_data: Callable[[str], Path],
) -> None:
    """Catches a limit that costs healthy days, or lets the old items of a first capture train."""
    days = refused_days(shared_data("replay/finance-2025-04-18--2025-06-30.jsonl.gz"))
    # The feeds were first read on 18 April, and some of them again on the 19th with old items.
    assert list(days) == ["2025-04-18", "2025-04-19"]
    assert all("collected on another day" in reason for reason in days.values())
