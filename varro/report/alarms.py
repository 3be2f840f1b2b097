"""Alarms: what must be looked at before the day's numbers are believed. Pure.

A rule compares the served policy with the frozen base on the same headlines, or a measure with a
fixed limit; the limits stand in `metrics`, beside the definitions. What was not measured raises
no alarm. Two measures of the source are not taken and so not watched: the cosine of forecasts to
their headline, and to each other.
Source: science.md, section 4.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from varro.report.metrics import (
    MAX_COPY_RISE,
    MAX_FORMAT,
    MAX_HEDGED_FRAC,
    MAX_HUB_FRAC,
    MAX_PLACEBO_RISE,
    MAX_REPEATING_FRAC,
    MAX_REPETITION_RISE,
    MAX_TRUNCATED_FRAC,
    MAX_UNRESOLVED_FRAC,
    MAX_WORDS_DRIFT,
    MIN_ENTROPY_OF_FIRST,
    MIN_OPENINGS_FRAC,
    find_metric,
    format_value,
)

WEEK = 7
"""evaluated days over which style is watched"""
_FINE = ("accept:", "reset:")
"""what the training guard says of an update that needs no look"""
RISE = 2.0
"""spreads of a day by which the reward must have risen"""

Part = Mapping[str, Any]


def alarms(report: Part) -> list[dict[str, str]]:
    """The alarms that fire, as {name, found}: what was found, in words."""
    settled, components = report["settled"], report["settled"]["components"]
    evaluation, update = report["evaluation"] or {}, report["update"] or {}
    served, base = evaluation.get("served", {}), evaluation.get("base", {})
    found = {
        "style, not skill": [_style(report["learned"]["lift"], report["week"])],
        "echo": [_risen("copy_frac", served, base, MAX_COPY_RISE)],
        "repetition": [
            _risen("repetition_frac", served, base, MAX_REPETITION_RISE),
            _above("repeating_frac", settled["repeating_frac"], MAX_REPEATING_FRAC),
        ],
        "mode collapse": [
            _below("openings_frac", settled["openings_frac"], MIN_OPENINGS_FRAC),
            _fallen(update.get("entropy"), report["entropy_first"]),
        ],
        "length": [
            _drifted(served.get("words"), base.get("words")),
            _above("truncated", components.get("truncated"), MAX_TRUNCATED_FRAC),
        ],
        "hedging": [_above("hedged", components.get("hedged"), MAX_HEDGED_FRAC)],
        "nothing linked": [
            _above("unresolved_frac", settled["unresolved_frac"], MAX_UNRESOLVED_FRAC)
        ],
        "hub": [_above("hub_frac", settled["hub_frac"], MAX_HUB_FRAC)],
        "format saturation": [_above("format", components.get("format"), MAX_FORMAT)],
        "leash": [
            _above(name, kl, report["limits"]["kl_limit"])
            for name, kl in (("kl_ref", update.get("kl_ref")), ("kl_ref_after", kl_now(report)))
            if report["limits"]
        ],
        "training guard": [line for line in report["guard"] if not line.startswith(_FINE)],
        "checkpoint": list(report["lineage"]),
        "placebo positive": [_not_zero("shuffled", report["learned"]["shuffled"])],
        "base against itself": [
            _not_zero("base_against_base", report["learned"]["base_against_base"])
        ],
    }
    return [
        {"name": name, "found": "; ".join(text for text in texts if text)}
        for name, texts in found.items()
        if any(texts)
    ]


def _style(lift: Part, week: Sequence[Part]) -> str | None:
    """The reward rose and the placebo with it, while no lift can be told.

    Rewards and placebos are served minus base. A day's spread is taken from the steps between
    days, sqrt(mean step² / 2), which a trend hardly widens.
    """
    if len(week) < WEEK or lift["claim_low"] is None or lift["claim_low"] > 0:
        return None
    rewards = [day["reward"] for day in week]
    rise = rewards[-1] - rewards[0]
    placebo_rise = week[-1]["placebo"] - week[0]["placebo"]
    steps = [after - before for before, after in pairwise(rewards)]
    spread = (sum(step * step for step in steps) / len(steps) / 2) ** 0.5
    if rise <= RISE * spread or placebo_rise <= MAX_PLACEBO_RISE:
        return None
    return (
        f"over {len(week)} days the reward rose by {format_value('lift_reward', rise)} against the "
        f"frozen base and the placebo by {format_value('lift_placebo', placebo_rise)}, with no lift"
    )


def kl_now(report: Part) -> float | None:
    """Of the policy that serves on, whether its update was made or refused."""
    found: float | None = report["changes"]["kl_ref_after"]["today"] if report["changes"] else None
    return found


def _risen(name: str, served: Part, base: Part, limit: float) -> str | None:
    ours, theirs = served.get(name), base.get(name)
    if ours is None or theirs is None or ours - theirs <= limit:
        return None
    return (
        f"{_label(name)} {format_value(name, ours)}, more than {limit * 100:.0f} points above the "
        f"frozen base's {format_value(name, theirs)}"
    )


def _above(name: str, value: float | None, limit: float) -> str | None:
    if value is None or value <= limit:
        return None
    return f"{_label(name)} {format_value(name, value)}, above {format_value(name, limit)}"


def _below(name: str, value: float | None, limit: float) -> str | None:
    if value is None or value >= limit:
        return None
    return f"{_label(name)} {format_value(name, value)}, below {format_value(name, limit)}"


def _fallen(entropy: float | None, first: float | None) -> str | None:
    if entropy is None or first is None or entropy >= MIN_ENTROPY_OF_FIRST * first:
        return None
    return (
        f"entropy {format_value('entropy', entropy)}, below {MIN_ENTROPY_OF_FIRST:.0%} of the "
        f"first update's {format_value('entropy', first)}"
    )


def _drifted(words: float | None, base: float | None) -> str | None:
    if words is None or base is None or abs(words - base) <= MAX_WORDS_DRIFT * base:
        return None
    return (
        f"words {format_value('words', words)}, more than {MAX_WORDS_DRIFT:.0%} off the frozen "
        f"base's {format_value('words', base)}"
    )


def _not_zero(name: str, control: Part) -> str | None:
    """A control that must be 0 and is not: the measurement itself is in doubt."""
    low, high = control["claim_low"], control["claim_high"]
    if low is None or low <= 0 <= high:
        return None
    return f"confidence sequence {format_value(name, low)} to {format_value(name, high)}"


def _label(name: str) -> str:
    return find_metric(name).label.lower()
