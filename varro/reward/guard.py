"""The temporal guard: when a day's forecasts must not be settled, and why. Pure.

`first_seen` is the clock, and the news room has already placed every headline by it: no rule here
moves one. What is left to doubt is whether the day was collected as its clock says. A publisher's
date can cast that doubt, and nothing else: it refuses a day, it never places an item in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from varro.domain import Headline

GUARD_VERSION = "guard-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardLimits:
    """Source: science.md §3.4, its dates translated to a clock that is always there."""

    max_undated_frac: float = 0.05
    """share of items without a publisher's date, among the items of feeds that give dates"""
    max_repeats_frac: float = 0.30
    """share of outcomes that repeat a prompt; 12 to 24 % is usual at week-ends"""
    max_late_h: float = 36.0
    """hours from publication to first sight, median of a side: a later file is an old one"""
    max_early_h: float = 12.0
    """hours that a publisher's date lies after first sight, median of a side"""
    min_dated: int = 5
    """items with a publisher's date that a side needs before its median is looked at"""
    min_outcomes: int = 10
    """outcomes left after the repeats are removed"""


def refuse_day(
    prompts: Sequence[Headline],
    outcomes: Sequence[Headline],
    *,
    limits: GuardLimits,
    n_repeats: int,
) -> str | None:
    """Why forecasts made on `prompts` must not be settled against `outcomes`, or None.

    `outcomes` are what is left of the window once `n_repeats` repeats of prompts are removed.
    All reasons are given, each with its figure and its limit. Any headlines will do: bad data is
    refused here, never an exception.
    """
    reasons = [
        _too_few(outcomes, limits),
        _too_many_repeats(n_repeats, len(outcomes), limits),
        _undated([*prompts, *outcomes], limits),
        _out_of_time("prompts", prompts, limits),
        _out_of_time("outcomes", outcomes, limits),
    ]
    return "; ".join(reason for reason in reasons if reason) or None


def _too_few(outcomes: Sequence[Headline], limits: GuardLimits) -> str | None:
    if len(outcomes) >= limits.min_outcomes:
        return None
    return f"{len(outcomes)} outcomes, {limits.min_outcomes} are needed"


def _too_many_repeats(n_repeats: int, n_left: int, limits: GuardLimits) -> str | None:
    n = n_repeats + n_left
    if n_repeats <= limits.max_repeats_frac * n:
        return None
    return (
        f"{n_repeats} of {n} outcomes ({_percent(n_repeats / n)}) repeat the prompts, more than "
        f"{_percent(limits.max_repeats_frac)}"
    )


def _undated(headlines: Sequence[Headline], limits: GuardLimits) -> str | None:
    """Feeds that never give a date are let alone: a date that comes and goes is the sign of a file
    put together from two."""
    dating = {h.feed for h in headlines if h.published}
    expected = [h for h in headlines if h.feed in dating]
    n_undated = sum(h.published is None for h in expected)
    if n_undated <= limits.max_undated_frac * len(expected):
        return None
    return (
        f"{n_undated} of {len(expected)} headlines ({_percent(n_undated / len(expected))}) have no "
        f"date though their feeds give dates, more than {_percent(limits.max_undated_frac)}"
    )


def _out_of_time(side: str, headlines: Sequence[Headline], limits: GuardLimits) -> str | None:
    late_h = [(h.first_seen - h.published).total_seconds() / 3600 for h in headlines if h.published]
    if not late_h or len(late_h) < limits.min_dated:
        return None
    middle = median(late_h)
    if middle > limits.max_late_h:
        return (
            f"the {side} were published {middle:.0f} h before they were first seen (median of "
            f"{len(late_h)}), more than {limits.max_late_h:g} h: collected on another day"
        )
    if middle < -limits.max_early_h:
        return (
            f"the {side} were published {-middle:.0f} h after they were first seen (median of "
            f"{len(late_h)}), more than {limits.max_early_h:g} h: their clock is wrong"
        )
    return None


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
