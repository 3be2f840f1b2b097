"""Advantages from the components of the reward, so that stated weights are shares of the gradient.

In raw units the component that spreads most within a group owns the gradient, whatever weight is
written beside it. Here each component is centred in its group and divided by a running spread, and
the coefficients are chosen so that the components' shares of the advantage's variance are the
weights:

    A = a z_format + b z_semantic,    a (a + ρ b) : b (b + ρ a) = w_format : w_semantic,  Var A = 1

with ρ the running within-group correlation. Pure NumPy.
Source: per-component normalisation as in GDPO, arXiv:2601.05242; no per-group deviation as in
Dr. GRPO, arXiv:2503.20783; the split of variance by covariance is Euler's, as in risk budgeting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_SPREAD = {"format": 0.05, "semantic": 0.02}
"""spreads below this are noise, and are not blown up to size"""
INVALID_ADVANTAGE = -1.0
"""of an invalid forecast in a group that has a valid one"""
UNRESOLVED_WEIGHT = 0.25
"""of format in a group whose headline nothing was published about"""
LOW_SPREAD = 0.25
"""share of a running spread below which a group's forecasts are as good as equal"""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """Within-group second moments of the components, over valid forecasts."""

    var_format: float
    var_semantic: float
    covariance: float
    n_groups: int
    """resolved groups behind them"""


@dataclass(frozen=True, slots=True)
class Advantages:
    """(N, G) advantages before the leash, and what each component contributes."""

    total: Floats
    format: Floats
    semantic: Floats
    shares: dict[str, float] | None
    """component → its share of the advantage's variance over valid forecasts; they sum to 1. None
    on a day without a resolved group"""
    low_variance: NDArray[np.bool_]
    """(N,) groups that hardly differ, which the update leaves out"""


def within_group_moments(format_: Floats, semantic: Floats, valid: NDArray[np.bool_]) -> Moments:
    """Moments of one day.

    Shapes: all (N, G); `semantic` is NaN in unresolved groups.
    """
    resolved = ~np.isnan(semantic).any(axis=1) & (valid.sum(axis=1) > 1)
    if not resolved.any():
        return Moments(0.0, 0.0, 0.0, 0)
    f = _centred(format_[resolved], valid[resolved])
    s = _centred(semantic[resolved], valid[resolved])
    n = valid[resolved].sum()
    return Moments(
        float((f * f).sum() / n),
        float((s * s).sum() / n),
        float((f * s).sum() / n),
        int(resolved.sum()),
    )


def running_moments(days: Sequence[Moments], *, decay: float) -> Moments | None:
    """Exponentially decayed mean of days' moments, weighted by their groups; None without any.

    `days` oldest first, the present one included: its own spread is known when it trains.
    """
    weights = [d.n_groups * decay ** (len(days) - 1 - i) for i, d in enumerate(days)]
    total = sum(weights)
    if not total:
        return None

    def mean(values: list[float]) -> float:
        return sum(w * v for w, v in zip(weights, values, strict=True)) / total

    return Moments(
        mean([d.var_format for d in days]),
        mean([d.var_semantic for d in days]),
        mean([d.covariance for d in days]),
        sum(d.n_groups for d in days),
    )


def coefficients(correlation: float, weights: tuple[float, float]) -> tuple[float, float]:
    """(a, b) of this module's formula. Weights (format, semantic) sum to 1."""
    w_format, w_semantic = weights
    if not w_format or not w_semantic:
        return float(w_format > 0), float(w_semantic > 0)
    rho = max(-0.9, min(0.9, correlation))
    ratio = w_format / w_semantic
    middle = rho * (1 - ratio)
    t = (-middle + math.sqrt(middle**2 + 4 * ratio)) / 2  # a / b
    b = 1 / math.sqrt(t * t + 1 + 2 * t * rho)
    return t * b, b


def _plain_coefficients(
    moments: Moments, spreads: tuple[float, float], weights: tuple[float, float]
) -> tuple[float, float]:
    """(a, b) that undo the components' spreads, and make the sum's spread 1."""
    raw_f, raw_s = weights[0] * spreads[0], weights[1] * spreads[1]
    covariance = weights[0] * weights[1] * moments.covariance
    spread = math.sqrt(max(raw_f**2 + raw_s**2 + 2 * covariance, MIN_SPREAD["semantic"] ** 2))
    return raw_f / spread, raw_s / spread


def component_advantages(
    format_: Floats,
    semantic: Floats,
    valid: NDArray[np.bool_],
    *,
    moments: Moments | None,
    weights: tuple[float, float],
    per_component: bool = True,
) -> Advantages:
    """Advantages of a day's groups, in units of their running spread.

    Without `per_component` the weights are plain factors of the components, and their sum is
    divided by its own running spread: the control of what the formula above is for.
    An unresolved group learns from its format alone, at UNRESOLVED_WEIGHT. An invalid forecast
    stands apart: it is no part of its group's mean, and has INVALID_ADVANTAGE. A group without a
    valid forecast teaches nothing.
    Shapes: (N, G), `semantic` NaN in unresolved groups.
    """
    running = moments or Moments(0.0, 0.0, 0.0, 0)
    sd_f = max(math.sqrt(running.var_format), MIN_SPREAD["format"])
    sd_s = max(math.sqrt(running.var_semantic), MIN_SPREAD["semantic"])
    if per_component:
        a, b = coefficients(running.covariance / (sd_f * sd_s), weights)
    else:
        a, b = _plain_coefficients(running, (sd_f, sd_s), weights)
    resolved = ~np.isnan(semantic).any(axis=1, keepdims=True)
    part_f = _centred(format_, valid) / sd_f * np.where(resolved, a, UNRESOLVED_WEIGHT)
    part_s = np.where(resolved, b * _centred(np.nan_to_num(semantic), valid) / sd_s, 0.0)
    total = part_f + part_s
    variance = float((total * total)[valid].sum())
    shares = None
    if resolved.any() and variance:
        share = float((part_f * total)[valid].sum()) / variance
        shares = {"format": share, "semantic": 1.0 - share}
    penalised = ~valid & valid.any(axis=1, keepdims=True)
    return Advantages(
        np.where(penalised, INVALID_ADVANTAGE, total),
        part_f,
        part_s,
        shares,
        is_low_variance(format_, semantic, valid, spreads=(sd_f, sd_s)),
    )


def is_low_variance(
    format_: Floats,
    semantic: Floats,
    valid: NDArray[np.bool_],
    *,
    spreads: tuple[float, float],
) -> NDArray[np.bool_]:
    """Groups whose valid forecasts spread by less than LOW_SPREAD of the running spread in format
    and in semantic; in format alone where nothing was published.

    What such a group says is noise, scaled up. One in which some forecasts are invalid and others
    are not does differ, whatever its valid ones earn: it stays.
    Shapes: (N, G), `semantic` NaN in unresolved groups → (N,).  Units: spreads of each component.
    Source: dynamic sampling, DAPO, arXiv:2503.14476; a threshold, as these rewards are continuous.
    """
    n = np.maximum(valid.sum(axis=1), 1)
    resolved = ~np.isnan(semantic).any(axis=1)
    sd_f = np.sqrt((_centred(format_, valid) ** 2).sum(axis=1) / n)
    sd_s = np.sqrt((_centred(np.nan_to_num(semantic), valid) ** 2).sum(axis=1) / n)
    flat_f = sd_f < LOW_SPREAD * spreads[0]
    flat_s = (sd_s < LOW_SPREAD * spreads[1]) | ~resolved
    mixed = valid.any(axis=1) & ~valid.all(axis=1)
    flat: NDArray[np.bool_] = flat_f & flat_s & ~mixed
    return flat


def plain_advantages(
    rewards: Floats, *, weights: tuple[float, float], format_: Floats
) -> Advantages:
    """Advantages of the plain reward: its raw scalar, centred, over the day's one spread.

    The shares tell what the raw weights amount to.
    Shapes: (N, G).
    """
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    varied = np.ptp(rewards, axis=1) > 0
    spread = float(np.sqrt(np.mean(centred[varied] ** 2))) if varied.any() else 1.0
    spread = max(spread, MIN_SPREAD["semantic"])
    total = centred / spread
    part_f = weights[0] * (format_ - format_.mean(axis=1, keepdims=True)) / spread
    variance = float((total * total).sum())
    share = float((part_f * total).sum()) / variance if variance else 0.0
    shares = {"format": share, "semantic": 1 - share} if variance else None
    low = np.sqrt(np.mean(centred**2, axis=1)) < LOW_SPREAD * spread
    return Advantages(total, part_f, total - part_f, shares, low)


def within_group_correlation(
    first: Floats, second: Floats, counted: NDArray[np.bool_]
) -> float | None:
    """Correlation of two quantities about their group means, over the forecasts that count; None if
    one does not vary.

    Shapes: all (N, G).
    """
    a, b = _centred(first, counted), _centred(second, counted)
    scale = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / scale if scale else None


def _centred(values: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Difference to the group's mean over valid forecasts; 0 where invalid."""
    n = np.maximum(valid.sum(axis=1, keepdims=True), 1)
    mean = np.where(valid, values, 0.0).sum(axis=1, keepdims=True) / n
    return np.where(valid, values - mean, 0.0)
