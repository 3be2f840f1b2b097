"""A settled day in numbers, from its groups and settlements: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varro.domain import Forecast, Group, Role, SettledGroup, Settlement, settled_groups
from varro.evaluation.calibration import calibration
from varro.forecast.beats import mean_of_beats
from varro.reward.essay import essay_figures
from varro.training.advantage import within_group_correlation, within_group_moments

BEATS = ("object", "direction", "magnitude", "timeframe", "drivers", "verification")


def component_array(settled: Sequence[SettledGroup], name: str) -> NDArray[np.float64]:
    """One component of the groups' forecasts, NaN where absent. Shapes: → (N, G)."""
    rows = [[s.components.get(name, np.nan) for s in item.settlements] for item in settled]
    return np.array(rows, dtype=np.float64)


def summarize_day(groups: Sequence[Group], settlements: Sequence[Settlement]) -> dict[str, Any]:
    """Counts of all, and means over the training groups' forecasts."""
    void = Counter(s.void_reason for s in settlements if s.void_reason)
    train = settled_groups(groups, settlements, Role.TRAIN)
    scored = [s for item in train for s in item.settlements]
    forecasts = [f for item in train for f in item.group.forecasts]
    names = sorted({name for s in scored for name in s.components})
    matched = Counter(s.outcome_id for s in scored if s.outcome_id)
    top = matched.most_common(1)[0][1] / sum(matched.values()) if matched else None
    return {
        "n_settled": sum(s.reward is not None for s in settlements),
        "n_void": sum(void.values()),
        "void_reasons": dict(void),
        "n_groups": len(train),
        "n_unresolved_groups": sum("similarity" not in i.settlements[0].components for i in train),
        "n_forecasts": len(scored),
        "invalid_reasons": dict(Counter(s.invalid_reason for s in scored if s.invalid_reason)),
        "n_rewarded": sum("semantic" in s.components for s in scored),
        "reward": _mean(
            [s.reward for s in scored if s.reward is not None and "semantic" in s.components]
        ),
        "components": {
            name: _mean([s.components[name] for s in scored if name in s.components])
            for name in names
        },
        "essay": _essay(forecasts, scored),
        "hub_frac": top,
        "openings_frac": _distinct_openings(train),
        "null_correlation": {
            "semantic": _correlation(train, "semantic", "placebo"),
            "raw": _correlation(train, "raw", "raw_placebo"),
        },
        "moments": asdict(
            within_group_moments(
                component_array(train, "format"),
                component_array(train, "semantic"),
                component_array(train, "valid") > 0,
            )
        )
        if train
        else None,
        "probabilities": [
            [s.components["probability"], s.components["vote"] > 0]
            for s in scored
            if "probability" in s.components and s.components.get("vote")
        ],
    }


def calibrated(pairs: Sequence[tuple[float, bool]]) -> dict[str, Any] | None:
    """Brier score and reliability of stated probabilities, once enough have been settled.

    The event is that the forecast's direction agreed with what was published.
    """
    found = calibration([(float(p), bool(happened)) for p, happened in pairs])
    return None if found is None else asdict(found)


def spread_by_bucket(
    train: Sequence[SettledGroup], bucket: Callable[[Group], str]
) -> list[tuple[str, list[float]]]:
    """(bucket, contrasts) of each group that has a contrast: what the curriculum learns from."""
    return [
        (bucket(item.group), [s.components["contrast"] for s in item.settlements])
        for item in train
        if all("contrast" in s.components for s in item.settlements)
    ]


def _essay(forecasts: Sequence[Forecast], scored: Sequence[Settlement]) -> dict[str, Any] | None:
    """The essay's five figures, quality both as the original's Q and on the five beats."""
    figures = essay_figures([f.text for f in forecasts])
    if figures is None:
        return None
    return asdict(figures) | {"quality": _mean([mean_of_beats(s.components) for s in scored])}


def _correlation(train: Sequence[SettledGroup], first: str, second: str) -> float | None:
    if not train:
        return None
    a, b = component_array(train, first), component_array(train, second)
    present = ~(np.isnan(a) | np.isnan(b))
    return within_group_correlation(a, b, present & (component_array(train, "valid") > 0))


def _distinct_openings(train: Sequence[SettledGroup]) -> float | None:
    """Mean over groups of the number of distinct first five words, divided by the forecasts."""
    shares = []
    for item in train:
        openings = Counter(" ".join(f.text.split()[:5]).casefold() for f in item.group.forecasts)
        shares.append(len(openings) / len(item.group.forecasts))
    return _mean(shares)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
