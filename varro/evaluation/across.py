"""Runs beside each other: the essay's figures of each, and what one earns more than another. Pure.

Two runs are compared as a run is with its frozen base: the mean paired difference in contrast on
even terms, on the headlines that the served policies of both forecast on the same day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from varro.domain import Group, Settlement, StageRun, stable_seed
from varro.evaluation.best_of import pool_best, sharpening
from varro.evaluation.claim import pooled_days
from varro.evaluation.evaluate import (
    CLAIMED,
    SERVED,
    day_curve,
    headline_means,
    headline_values,
)

Scores = Sequence[tuple[Settlement, Group]]
ESSAY = ("quality_original", "quality", "zeros_frac", "leak_frac", "words")
PAIRED = (CLAIMED, "reward")


def essay_means(settles: Sequence[StageRun]) -> dict[str, float | None]:
    """The essay's figures, each the mean over the days that have it; None if none has."""
    days = [s.detail["essay"] for s in settles if s.detail.get("essay")]
    found = {name: [d[name] for d in days if d.get(name) is not None] for name in ESSAY}
    return {name: float(np.mean(of)) if of else None for name, of in found.items()}


def best_over_days(scores: Scores, *, seed: int, n_bootstrap: int) -> dict[str, Any]:
    """{pooled: the best of k over all days, word: what it shows}."""
    curves = [
        day_curve(rows, seed=seed, day=day, n_bootstrap=n_bootstrap)
        for day, rows in _by_day(scores).items()
    ]
    pooled = pool_best(curves, seed=stable_seed("best of", seed), n_bootstrap=n_bootstrap)
    return {"pooled": pooled, "word": sharpening(pooled)}


def compare_served(
    first: Scores, other: Scores, *, seed: int, n_bootstrap: int
) -> dict[str, dict[str, Any]]:
    """Part → the paired difference other − first over the days on which both forecast, as
    `pooled_days` gives it, with a `word`: `better`, `worse`, `not yet distinguishable`, or `not
    enough days`."""
    ours, theirs = (
        {day: headline_means(headline_values(rows, SERVED)) for day, rows in _by_day(of).items()}
        for of in (other, first)
    )
    found = {}
    for part in PAIRED:
        days = [
            (
                day,
                [
                    ours[day][h][part] - theirs[day][h][part]
                    for h in sorted(ours[day].keys() & theirs[day].keys())
                    if part in ours[day][h] and part in theirs[day][h]
                ],
            )
            for day in sorted(ours.keys() & theirs.keys())
        ]
        pooled = pooled_days(days, seed=seed, n_bootstrap=n_bootstrap)
        found[part] = pooled | {"word": _word(pooled)}
    return found


def differing(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """[{key, values}] of the keys in which runs are not all alike, a value a run; None where a run
    does not know the key."""
    return [
        {"key": key, "values": values}
        for key in sorted({key for of in settings for key in of})
        for values in ([of.get(key) for of in settings],)
        if any(value != values[0] for value in values)
    ]


def _word(pooled: Mapping[str, Any]) -> str:
    low, high = pooled["claim_low"], pooled["claim_high"]
    if low is None:
        return "not enough days"
    return "better" if low > 0 else "worse" if high < 0 else "not yet distinguishable"


def _by_day(scores: Scores) -> dict[str, list[tuple[Settlement, Group]]]:
    """By the day the forecasts were made in, oldest first, whenever each run came to settle it."""
    days: dict[str, list[tuple[Settlement, Group]]] = {}
    for settlement, group in scores:
        days.setdefault(group.day, []).append((settlement, group))
    return dict(sorted(days.items()))
