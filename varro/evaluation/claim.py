"""What the days so far allow to say: each paired difference over days, and the claim.

A day's differences are read once, as their mean; what a day could claim is drawn from the means up
to it, so that the reports of a year cost the same a day as those of a week.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np

from varro.domain import EvaluationInfo, stable_seed
from varro.evaluation.evaluate import CLAIMED, PARTS
from varro.evaluation.stats import (
    confidence_sequence,
    days_to_claim,
    mean_intervals,
    running_sequence,
)
from varro.report.metrics import MAX_COPY_RISE

SMALL_LIFT = 0.01
"""the lift whose cost in days is reported"""
MIN_DAYS = 7
DayMean = tuple[str, float, int]
"""(day, mean of a paired difference over its headlines, how many they are)"""
_IN_CLAIM = (*PARTS, "base_against_base", "heldout", "echo", "template")


def means_of(evaluations: Sequence[EvaluationInfo], part: str) -> list[DayMean]:
    """A paired difference of each day that has it, oldest first."""
    return _means_of_days([(e.day, e.detail["differences"].get(part) or []) for e in evaluations])


def claimed_means(evaluations: Sequence[EvaluationInfo]) -> dict[str, list[DayMean]]:
    """What `claim_from` asks for, of some days; days are in order, so that the beginning of each
    list is what was known earlier."""
    return {part: means_of(evaluations, part) for part in _IN_CLAIM}


def pooled(
    evaluations: Sequence[EvaluationInfo], part: str, *, seed: int, n_bootstrap: int
) -> dict[str, Any]:
    """One paired difference of a run over all its days: see `_pooled`."""
    found = {part: means_of(evaluations, part)}
    return pooled_means(found, seed=seed, n_bootstrap=n_bootstrap)[part]


def pooled_days(
    days: Sequence[tuple[str, Sequence[float]]], *, seed: int, n_bootstrap: int
) -> dict[str, Any]:
    """A difference over days, each with those of its headlines, which may be none: see
    `_pooled`."""
    found = {"": _means_of_days(days)}
    return pooled_means(found, seed=seed, n_bootstrap=n_bootstrap)[""]


def pooled_means(
    parts: Mapping[str, Sequence[DayMean]], *, seed: int, n_bootstrap: int
) -> dict[str, dict[str, Any]]:
    """Each difference over its days: name → `_pooled`."""
    intervals = mean_intervals(
        [[mean for _, mean, _ in days] for days in parts.values()],
        n_bootstrap=n_bootstrap,
        seed=stable_seed("pooled", seed),
    )
    return {
        name: _pooled(days, interval)
        for (name, days), interval in zip(parts.items(), intervals, strict=True)
    }


def _pooled(days: Sequence[DayMean], interval: tuple[float, float] | None) -> dict[str, Any]:
    """A difference over days, with its bootstrap interval.

    {n_days, n_headlines, mean, low, high: day-block bootstrap for display, claim_low, claim_high:
    the confidence sequence, valid however often it is read, since: the day from which it has stood
    on the side it stands on now, first: the first day it stood on either, n_days_above,
    n_days_below: on how many days it did}
    """
    means = [mean for _, mean, _ in days]
    claim = confidence_sequence(means, min_n=MIN_DAYS) if means else None
    lows, highs = running_sequence(means, min_n=MIN_DAYS) if means else (np.array([]),) * 2
    sides = ((lows > 0).astype(int) - (highs < 0)).tolist()
    told = [day for (day, _, _), side in zip(days, sides, strict=True) if side]
    now = list(takewhile(lambda n: sides[n] and sides[n] == sides[-1], range(len(days))[::-1]))
    return {
        "n_days": len(days),
        "n_headlines": sum([n for _, _, n in days]),
        "mean": float(np.mean(means)) if means else None,
        "low": interval[0] if interval else None,
        "high": interval[1] if interval else None,
        "claim_low": claim[0] if claim else None,
        "claim_high": claim[1] if claim else None,
        "since": days[now[-1]][0] if now else None,
        "first": told[0] if told else None,
        "n_days_above": sides.count(1),
        "n_days_below": sides.count(-1),
    }


def _means_of_days(days: Sequence[tuple[str, Sequence[float]]]) -> list[DayMean]:
    return [(day, float(np.mean(values)), len(values)) for day, values in days if values]


def pooled_accuracy(evaluations: Sequence[EvaluationInfo]) -> dict[str, dict[str, Any]]:
    """Share of all forecasts with a known direction that agreed: {served, base: {n, frac}}."""
    found = {}
    for side in ("served", "base"):
        days = [e.detail["accuracy"][side] for e in evaluations]
        n = sum(day["n"] for day in days)
        right = sum(day["n"] * day["frac"] for day in days if day["n"])
        found[side] = {"n": n, "frac": right / n if n else None}
    return found


def claim(evaluations: Sequence[EvaluationInfo], *, seed: int, n_bootstrap: int) -> dict[str, Any]:
    """What the days so far allow to say: see `claim_from`."""
    return claim_from(claimed_means(evaluations), seed=seed, n_bootstrap=n_bootstrap)


def claim_from(
    means: Mapping[str, Sequence[DayMean]], *, seed: int, n_bootstrap: int
) -> dict[str, Any]:
    """What `claimed_means` allow to say: {word, blocked_by, lift, sd_of_days, days_for_small_lift,
    small_lift, days_for_this_lift, and each part and control by its name}.

    The word is `learned`, `worse`, `not yet distinguishable`, `not enough days`, or `blocked`: a
    lift could be told, but a control that must be 0 is not, or, on the good side, the policy copies
    more than the base.
    """
    parts = pooled_means(means, seed=seed, n_bootstrap=n_bootstrap)
    lift = parts.pop(CLAIMED)
    days = [mean for _, mean, _ in means[CLAIMED]]
    sd = float(np.std(days, ddof=1)) if len(days) > 1 else None
    needed = days_to_claim(SMALL_LIFT, sd=sd) if sd is not None else None
    word, broken = _word(lift), []
    if word in ("learned", "worse"):
        broken = [name for name in ("shuffled", "base_against_base") if _sign(parts[name]) != 0]
    copied = parts["copy_frac"]["mean"]
    if word == "learned" and copied is not None and copied > MAX_COPY_RISE:
        broken.append("copy_frac")
    return {
        "word": "blocked" if broken else word,
        "blocked_by": broken,
        "lift": lift,
        "sd_of_days": sd,
        "days_for_small_lift": None if needed is None else max(0, needed - lift["n_days"]),
        "small_lift": SMALL_LIFT,
        "days_for_this_lift": _days_left(lift, sd),
        **parts,
    }


def _days_left(lift: Mapping[str, Any], sd: float | None) -> int | None:
    """More days until a lift as large as the mean so far would be told from 0, if it stays; None if
    that takes ten years, or there is no mean to go by."""
    if sd is None or not lift["mean"]:
        return None
    needed = days_to_claim(abs(lift["mean"]), sd=sd)
    return None if needed is None else max(0, needed - lift["n_days"])


def _word(lift: Mapping[str, Any]) -> str:
    if lift["claim_low"] is None:
        return "not enough days"
    return {1: "learned", -1: "worse", 0: "not yet distinguishable"}[_sign(lift)]


def _sign(part: Mapping[str, Any]) -> int:
    """+1 or −1 if the confidence sequence excludes 0, else 0."""
    if part["claim_low"] is None:
        return 0
    return int(part["claim_low"] > 0) - int(part["claim_high"] < 0)
