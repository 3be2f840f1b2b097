"""The reward taken apart: how far each component moves it, and what is missing. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from varro.domain import Group, Role, Settlement, settled_groups
from varro.reward.summary import component_array

COMPONENTS = ("format", "semantic", "contrast", "similarity", "placebo", "vote", "margin", "gate")


def components_apart(settled: Sequence[tuple[Settlement, Group]]) -> list[dict[str, Any]]:
    """Of each component over the training forecasts: {name, n, mean, sd, within_sd, correlation,
    missing_frac}; empty if nothing was settled.

    `within_sd` is √ of the mean variance within groups, the part that a group's comparison can
    learn from; `correlation` is Pearson's with the reward. Missing is not 0: those forecasts are
    left out of the rest, and a reward without its semantic part is none.
    """
    groups = list({group.id: group for _, group in settled}.values())
    train = settled_groups(groups, [s for s, _ in settled], Role.TRAIN)
    if not train:
        return []
    reward = np.array([[s.reward for s in item.settlements] for item in train], dtype=np.float64)
    reward[~np.isfinite(component_array(train, "semantic"))] = np.nan
    return [_component(name, component_array(train, name), reward) for name in COMPONENTS] + [
        _component("reward", reward, reward)
    ]


def _component(
    name: str, values: np.ndarray[Any, Any], reward: np.ndarray[Any, Any]
) -> dict[str, Any]:
    present = np.isfinite(values)
    n = int(present.sum())
    whole = values[present.all(axis=1)]
    both = present & np.isfinite(reward)
    return {
        "name": name,
        "n": n,
        "mean": float(values[present].mean()) if n else None,
        "sd": float(values[present].std()) if n > 1 else None,
        "within_sd": math.sqrt(float(whole.var(axis=1).mean())) if len(whole) else None,
        "correlation": _correlation(values[both], reward[both]),
        "missing_frac": 1 - n / values.size,
    }


def _correlation(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float | None:
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
