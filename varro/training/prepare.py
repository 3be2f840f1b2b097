"""The day as the steps need it: measured, weighed, chosen from, and looked at by the guard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varro.config import GuardConfig, UpdateConfig
from varro.domain import Group
from varro.policy.load import Policy
from varro.training.advantage import within_group_correlation
from varro.training.guard import Verdict, judge_day
from varro.training.measure import (
    Guarded,
    Measured,
    behaviour_figures,
    k1_by_forecast,
    measure_before,
    weights_by_forecast,
)
from varro.training.selection import MAX_WEIGHT, select_forecasts

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class PreparedDay:
    """The day's groups that have a token; arrays are (N, G)."""

    groups: list[Measured]
    earned: Floats
    kl: Floats
    """k1 estimates, nats a sequence"""
    weights: Floats
    """trainer / sampler, truncated"""
    trains: Bools
    guarded: list[Guarded]
    """groups on which the guard will measure the new policy"""
    metrics: dict[str, Any]
    verdict: Verdict
    """whether it can be trained on"""


def prepare_day(
    policy: Policy,
    groups: Sequence[Group],
    earned: Floats,
    low_variance: Bools,
    *,
    config: UpdateConfig,
    guard: GuardConfig,
    entropy_first: float | None,
    temperature: float,
    on_group: Callable[[], None],
) -> PreparedDay:
    """Groups in the order of the minibatches, each with a token, with their advantages (N, G) and
    which of them hardly differ (N,); `entropy_first` is that of the run's first update."""
    before = measure_before(
        policy,
        groups,
        from_sampler=config.old_logprobs == "sampler",
        max_kl_sampler=config.max_kl_sampler,
        n_first=-(-len(groups) // config.n_minibatches),
        temperature=temperature,
        on_group=on_group,
    )
    size = earned.shape[1]
    weights = weights_by_forecast(before.groups, size=size) if config.tis else np.ones_like(earned)
    n_tokens = np.array([[len(f.token_ids) for f in g.forecasts] for g in groups])
    selection = select_forecasts(
        n_tokens,
        np.array([[f.finish_reason == "length" for f in g.forecasts] for g in groups]),
        weights,
        low_variance,
        mask_overlong=config.mask_overlong,
    )
    kl = k1_by_forecast(before.groups, size=size)
    weights = np.minimum(weights, MAX_WEIGHT)
    correlation = None
    if np.isfinite(earned).all():
        correlation = within_group_correlation(
            earned, n_tokens.astype(np.float64), selection.trains
        )
    figures = behaviour_figures(before)
    verdict = judge_day(
        {
            "an advantage": float(earned.sum()),
            "a log-prob of policy or reference": float(kl.sum()),
            **{name: figures[name] for name in ("kl_ref", "entropy", "kl_sampler")},
        },
        n_trained=selection.counts["n_trained"],
        excluded=", ".join(f"{name} {n}" for name, n in selection.counts.items() if n),
        length_correlation=correlation,
        entropy_first=entropy_first,
        limits=guard,
    )
    metrics = {
        **selection.counts,
        **figures,
        "old_from": before.old_from,
        "tis_mean": float(weights.mean()),
        "length_correlation": correlation,
    }
    return PreparedDay(
        groups=before.groups,
        earned=earned,
        kl=kl,
        weights=weights,
        trains=selection.trains,
        guarded=before.guarded,
        metrics=metrics,
        verdict=verdict,
    )
