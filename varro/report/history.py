"""The days of a run in a row each: what charts, comparisons with last week and the index draw on.

    rows = history_rows(stages, updates, evaluations, rewards, changes=changes)

A row is plain JSON values; what was not measured that day is null, never 0. Pure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from varro.domain import EvaluationInfo, Role, Stage, StageRun, UpdateInfo, stable_seed
from varro.evaluation.claim import MIN_DAYS, DayMean, means_of
from varro.evaluation.evaluate import CLAIMED, SERVED
from varro.evaluation.stats import change_interval, mean_interval, running_sequence

CHANGES = ("reward", "valid", "kl_ref_after", "no_signal_frac", "seconds")
"""what a day is compared with the week before in"""
CHARTED = (
    "day", "version", "config_changed", "reward", "reward_low", "reward_high", "base_reward",
    "n_headlines", "lift", "lift_low", "lift_high", "n_compared", "mean_lift", "claim_low",
    "claim_high", "kl_ref", "kl_ref_after", "kl_update", "entropy", "grad_norm", "clip_frac",
    "words", "base_words", "valid", "invalid", "n_forecasts",
)  # fmt: skip
"""what a report keeps of each of its days"""
_OF_STEPS = ("kl_update", "grad_norm", "clip_frac")
N_BINS = 20
"""of the histogram of rewards, which lie in [0, 1]"""
_N_BOOTSTRAP = 2000
"""of a band that is drawn, not claimed"""


@dataclass(frozen=True, slots=True)
class DayRewards:
    """What a day's forecasts earned, headline by headline."""

    served: float | None = None
    low: float | None = None
    high: float | None = None
    """95 % bootstrap over headlines: forecasts of one headline are not independent"""
    base: float | None = None
    """the frozen base on the same headlines"""
    n_headlines: int = 0
    counts: tuple[int, ...] = (0,) * N_BINS
    """training forecasts by reward"""


def day_rewards(rows: Sequence[tuple[str, str, float]], *, seed: int) -> DayRewards:
    """A day's (role, headline, reward) of forecasts with a semantic reward, in means and counts.

    Served and base are compared on the headlines that both forecast, or, where the base has none,
    the served policy stands alone.
    """
    by_side: dict[bool, dict[str, list[float]]] = {True: {}, False: {}}
    for role, headline, reward in rows:
        by_side[role in SERVED].setdefault(headline, []).append(reward)
    served, base = by_side[True], by_side[False]
    shared = sorted(served.keys() & base.keys()) or sorted(served)
    means = [float(np.mean(served[h])) for h in shared]
    interval = mean_interval(means, n_bootstrap=_N_BOOTSTRAP, seed=seed)
    of_base = [float(np.mean(base[h])) for h in shared if h in base]
    trained = [reward for role, _, reward in rows if role == Role.TRAIN]
    counts, _ = np.histogram(np.clip(trained, 0.0, 1.0), bins=N_BINS, range=(0.0, 1.0))
    return DayRewards(
        served=float(np.mean(means)) if means else None,
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        base=float(np.mean(of_base)) if of_base else None,
        n_headlines=len(shared),
        counts=tuple(int(n) for n in counts),
    )


def history_rows(
    stages: Sequence[StageRun],
    updates: Sequence[UpdateInfo],
    evaluations: Sequence[EvaluationInfo],
    rewards: Mapping[str, Sequence[tuple[str, str, float]]],
    *,
    changes: Mapping[str, Sequence[Any]],
    after: str = "",
) -> list[dict[str, Any]]:
    """A row for each day after one that settled, oldest first, each from its own day and those
    before it. A number that is not finite is null: the report of its day names it."""
    by_day: dict[str, dict[Stage, StageRun]] = {}
    for stage in stages:
        by_day.setdefault(stage.day, {})[stage.stage] = stage
    updated = {update.day: update for update in updates}
    evaluated = {evaluation.day: evaluation for evaluation in evaluations}
    claims = _claims(means_of(evaluations, CLAIMED))
    rows: list[dict[str, Any]] = [
        {
            **_settled(day, found[Stage.SETTLE].detail),
            **_trained(updated.get(day), found.get(Stage.UPDATE)),
            **_compared(evaluated.get(day)),
            **_earned(day, rewards.get(day, ())),
            # All stages but the report's own: its time is known only when it has been written.
            "seconds": sum(s.seconds for s in found.values() if s.stage is not Stage.REPORT),
            **claims.get(day, dict.fromkeys(("mean_lift", "claim_low", "claim_high"))),
            "config_changed": bool(changes.get(day)),
        }
        for day, found in sorted(by_day.items())
        if Stage.SETTLE in found and day > after
    ]
    return [{name: _finite(value) for name, value in row.items()} for row in rows]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _settled(day: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    components, n = detail["components"], detail["n_forecasts"]
    return {
        "day": day,
        "n_forecasts": n,
        "valid": components.get("valid"),
        "words": components.get("words"),
        "invalid": {why: count / n for why, count in detail["invalid_reasons"].items()}
        if n
        else None,
    }


def _trained(update: UpdateInfo | None, stage: StageRun | None) -> dict[str, Any]:
    """What the update measured. One that was refused tells of the policy that serves on, nothing of
    its steps."""
    metrics = update.metrics if update else stage.detail.get("metrics", {}) if stage else {}
    if update is None:
        metrics = {**metrics, **dict.fromkeys(_OF_STEPS), "kl_ref_after": metrics.get("kl_ref")}
    n_groups = metrics.get("n_groups")
    # Those without any spread are among those that hardly differ.
    idle = max(metrics.get("n_zero_variance", 0), metrics.get("n_low_variance", 0))
    return {
        "version": update.to_version if update else None,
        **{name: metrics.get(name) for name in ("kl_ref", "entropy", "kl_ref_after", *_OF_STEPS)},
        "no_signal_frac": idle / n_groups if n_groups else None,
    }


def _compared(info: EvaluationInfo | None) -> dict[str, Any]:
    base = info.detail["base"] if info else {}
    return {
        "lift": info.lift if info else None,
        "lift_low": info.lift_low if info else None,
        "lift_high": info.lift_high if info else None,
        "n_compared": info.n_headlines if info else 0,
        "base_words": base.get("words"),
    }


def _earned(day: str, rows: Sequence[tuple[str, str, float]]) -> dict[str, Any]:
    found = day_rewards(rows, seed=stable_seed("reward band", day))
    return {
        "reward": found.served,
        "reward_low": found.low,
        "reward_high": found.high,
        "base_reward": found.base,
        "n_headlines": found.n_headlines,
        "counts": list(found.counts),
    }


def _claims(days: Sequence[DayMean]) -> dict[str, dict[str, float | None]]:
    """The mean lift up to each compared day and its confidence sequence, as it stood that day."""
    means = np.array([mean for _, mean, _ in days])
    if not len(means):
        return {}
    lows, highs = running_sequence(means, min_n=MIN_DAYS)
    so_far = np.cumsum(means) / np.arange(1, len(means) + 1)
    return {
        day: {
            "mean_lift": float(mean),
            "claim_low": float(low) if np.isfinite(low) else None,
            "claim_high": float(high) if np.isfinite(high) else None,
        }
        for (day, _, _), mean, low, high in zip(days, so_far, lows, highs, strict=True)
    }


def change_of(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """The last row's number against the mean of up to seven measured days before it: {today, mean,
    n_days, low, high}; the interval is of the change, None before three days."""
    today = rows[-1][name] if rows else None
    earlier = [row[name] for row in rows[:-1] if row[name] is not None][-7:]
    interval = change_interval(today, earlier) if today is not None else None
    return {
        "today": today,
        "mean": float(np.mean(earlier)) if earlier else None,
        "n_days": len(earlier),
        "low": interval[0] if interval else None,
        "high": interval[1] if interval else None,
    }


def histogram(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rewards of the last row's day against those of up to seven days before it, as shares."""
    today = rows[-1]["counts"] if rows else [0] * N_BINS
    week = [sum(column) for column in zip(*(r["counts"] for r in rows[-8:-1]), strict=True)]
    week = week or [0] * N_BINS
    return {
        "n_today": sum(today),
        "n_week": sum(week),
        "today": [n / sum(today) for n in today] if sum(today) else None,
        "week": [n / sum(week) for n in week] if sum(week) else None,
    }


def invalid_kinds(rows: Sequence[Mapping[str, Any]], *, n: int = 4) -> list[str]:
    """Why forecasts were invalid, the commonest first: at most n reasons."""
    total: Counter[str] = Counter()
    for row in rows:
        total.update({why: share or 0.0 for why, share in (row["invalid"] or {}).items()})
    return [why for why, _ in sorted(total.items(), key=lambda kind: (-kind[1], kind[0]))[:n]]
