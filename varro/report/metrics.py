"""Every number a report shows, in one table: name, label, formula in words, unit, healthy range."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """What one number means and how it is written."""

    name: str
    """the key in report.json"""
    label: str
    definition: str
    """the formula in words"""
    unit: str
    """`%` is stored as a share in [0, 1] and shown as a percentage"""
    healthy: str | None
    decimals: int
    """of the value as shown; a nonzero value too small for them is shown in scientific notation"""


METRICS: tuple[Metric, ...] = (
    Metric(
        "lift",
        "Lift over frozen base",
        "mean over held-out headlines of (served - frozen base) in day-specific similarity: best "
        "similarity to the next day's headlines minus its mean over placebo days",
        "cosine",
        "interval above 0",
        4,
    ),
    Metric(
        "contrast",
        "Day-specific similarity",
        "mean over held-out headlines of best similarity to the next day's headlines minus its "
        "mean over placebo days",
        "cosine",
        None,
        4,
    ),
    Metric(
        "lift_reward",
        "Reward difference",
        "mean over held-out headlines of (served - frozen base) in reward; style and placebo "
        "similarity count here, so it is not the claim",
        "reward",
        None,
        4,
    ),
    Metric(
        "lift_format",
        "Format difference",
        "mean over held-out headlines of (served - frozen base) in the format component",
        "component",
        None,
        4,
    ),
    Metric(
        "lift_semantic",
        "Semantic difference",
        "mean over held-out headlines of (served - frozen base) in the semantic component",
        "component",
        None,
        4,
    ),
    Metric(
        "kl_ref",
        "KL to reference",
        "mean over forecasts of Σ_t (old_logprobs - ref_logprobs)",
        "nats a sequence",
        "below 9; an update that would pass the limit (12) is refused",
        3,
    ),
    Metric(
        "kl_coef",
        "Leash strength",
        "the weight of kl_ref in the update, adjusted after each day towards the target KL",
        "per nat",
        None,
        4,
    ),
    Metric(
        "kl_update",
        "KL of the update",
        "mean over forecasts of the k3 estimate, new policy against the behaviour policy",
        "nats a sequence",
        None,
        4,
    ),
    Metric(
        "kl_sampler",
        "Sampler mismatch",
        "mean |sampler - recomputed| over the log-probs of sampled tokens",
        "nats a token",
        "< 1e-4 in float32",
        3,
    ),
    Metric(
        "clip_frac",
        "Clip fraction",
        "share of forecasts whose clipped branch is active",
        "%",
        "5\u201320 %",
        1,
    ),
    Metric(
        "ratio_mean",
        "Mean importance ratio",
        "mean over forecasts of exp(mean over tokens of (new_logprobs - old_logprobs))",
        "ratio",
        "near 1",
        4,
    ),
    Metric(
        "entropy",
        "Entropy",
        "minus the mean log-prob of the sampled tokens",
        "nats a token",
        "no steady fall",
        3,
    ),
    Metric(
        "grad_norm",
        "Gradient norm",
        "L2 norm of the adapter's gradient before clipping",
        "norm",
        "finite, no sudden rise",
        4,
    ),
    Metric(
        "loss",
        "Loss",
        "what the optimiser minimised: the clipped policy term (the leash is in the advantage)",
        "loss",
        "finite; its level is not progress",
        4,
    ),
    Metric("lr", "Learning rate", "step size of the optimiser", "per step", None, 3),
    Metric(
        "reward",
        "Reward",
        "the scalar the trainer uses: weighted sum of format and semantic; mean over the "
        "forecasts named",
        "reward",
        None,
        3,
    ),
    Metric(
        "format",
        "Format",
        "mean over forecasts of the format component: how well formed the five beats are",
        "component",
        None,
        3,
    ),
    Metric(
        "semantic",
        "Semantic",
        "mean over forecasts of the semantic component: best similarity to an outcome",
        "component",
        None,
        3,
    ),
    Metric(
        "placebo",
        "Placebo",
        "mean over forecasts of the best similarity to headlines of days that are not theirs: "
        "what is earned without foresight",
        "cosine",
        None,
        3,
    ),
    Metric(
        "beat",
        "Beat",
        "mean over forecasts of one component of format, from 0 (absent) to 1 (well formed)",
        "component",
        None,
        3,
    ),
    Metric("words", "Words", "mean words a forecast", "words", "no drift over days", 1),
    Metric(
        "n_headlines",
        "Headlines",
        "headlines that a mean or an interval is taken over",
        "count",
        None,
        0,
    ),
    Metric(
        "n_placebo_days",
        "Placebo days",
        "other days whose headlines serve as the control",
        "count",
        None,
        0,
    ),
    Metric("n_days", "Days", "evaluated days that a claim pools", "count", None, 0),
    Metric("n_groups", "Groups", "headlines with their forecasts together", "count", None, 0),
    Metric("n_forecasts", "Forecasts", "sampled answers", "count", None, 0),
    Metric(
        "n_void",
        "Void",
        "forecasts that could not be settled: excluded and counted, never read as 0",
        "count",
        "0",
        0,
    ),
    Metric(
        "n_zero_variance",
        "Groups without spread",
        "groups whose rewards are all equal, which teach nothing",
        "count",
        None,
        0,
    ),
    Metric("n_steps", "Inner steps", "optimiser steps of the daily update", "count", None, 0),
    Metric("n_tokens", "Tokens", "sampled tokens, stop tokens included", "count", None, 0),
    Metric("tokens_per_s", "Tokens per second", "tokens handled by wall time", "tokens/s", None, 0),
    Metric("n_new", "New headlines", "headlines first seen this day", "count", None, 0),
    Metric("n_train", "Training headlines", "headlines forecast for training", "count", None, 0),
    Metric("n_heldout", "Held-out headlines", "headlines never trained on", "count", None, 0),
    Metric("n_malformed", "Malformed", "items or lines that could not be read", "count", "0", 0),
    Metric(
        "n_duplicates",
        "Duplicates",
        "items already in the ledger, not added again",
        "count",
        None,
        0,
    ),
    Metric("n_feeds", "Feeds", "feeds asked; an archive counts as one", "count", None, 0),
    Metric("seconds", "Seconds", "wall time of a stage", "s", None, 1),
    Metric("peak_rss_gb", "Peak memory", "largest resident size of the process", "GB", None, 2),
    Metric("mlx_peak_gb", "Peak MLX memory", "largest allocation by MLX", "GB", None, 2),
    Metric("n_parameters", "Parameters", "weights of the policy", "count", None, 0),
    Metric(
        "trainable_frac", "Trainable", "share of the weights that the adapter trains", "%", None, 2
    ),
)

_BY_NAME = {metric.name: metric for metric in METRICS}


def find_metric(name: str) -> Metric:
    """The row of METRICS called `name`.

    Raises: ValueError if there is none: a number without a definition is not shown.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise ValueError(f"metric {name!r} has no definition; add it to METRICS") from None


def format_value(metric_name: str, value: float | None) -> str:
    """The value as shown to a person; a dash if it is not available.

    Raises: ValueError for an unknown metric, or a value that is not finite.
    """
    metric = find_metric(metric_name)
    if value is None:
        return "—"
    if not math.isfinite(value):
        raise ValueError(f"{metric_name} must be finite or null, found {value!r}")
    shown = value * 100 if metric.unit == "%" else value
    suffix = " %" if metric.unit == "%" else ""
    if shown != 0 and abs(shown) < 0.5 * 10**-metric.decimals:
        return f"{shown:.1e}{suffix}"
    return f"{shown + 0.0:,.{metric.decimals}f}{suffix}"
