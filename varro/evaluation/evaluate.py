"""The evaluate stage: served policy against frozen base, paired by headline.

Both forecast the same held-out headlines before outcomes exist, with the same seeds. The claim is
`lift`: the mean paired difference in contrast, contrast being the best similarity to the real
outcomes minus the mean best similarity to placebo days. Format and style can not move it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from varro.domain import EvaluationInfo, Group, Role, Settlement, stable_seed
from varro.evaluation.stats import block_interval, mean_interval

PARTS = ("reward", "format", "semantic", "contrast")


def compare_with_base(
    settled: Sequence[tuple[Settlement, Group]],
    *,
    run: str,
    day: str,
    seed: int,
    n_bootstrap: int,
) -> EvaluationInfo | None:
    """The day's paired comparison, or None if nothing held out was settled."""
    served = _headline_means(settled, Role.HELDOUT)
    base = _headline_means(settled, Role.BASE)
    shared = sorted(served.keys() & base.keys())
    if not shared:
        return None
    differences = {
        part: [
            served[h][part] - base[h][part] for h in shared if part in served[h] and part in base[h]
        ]
        for part in PARTS
    }
    lift = differences["contrast"]
    interval = mean_interval(lift, n_bootstrap=n_bootstrap, seed=stable_seed("lift", seed, day))
    return EvaluationInfo(
        run=run,
        day=day,
        n_headlines=len(shared),
        lift=_mean(lift),
        lift_low=interval[0] if interval else None,
        lift_high=interval[1] if interval else None,
        detail={
            "served": {p: _mean([served[h][p] for h in shared if p in served[h]]) for p in PARTS},
            "base": {p: _mean([base[h][p] for h in shared if p in base[h]]) for p in PARTS},
            **{f"lift_{p}": _mean(differences[p]) for p in ("reward", "format", "semantic")},
            "differences": lift,
            "reward_differences": differences["reward"],
        },
    )


def pooled_lift(
    evaluations: Sequence[EvaluationInfo],
    *,
    seed: int,
    n_bootstrap: int,
    key: str = "differences",
) -> dict[str, Any]:
    """Lift over all days with its day-block interval: {n_days, n_headlines, lift, lift_low, …}.

    With `key="reward_differences"` the same for the raw reward.
    """
    blocks = [e.detail[key] for e in evaluations if e.detail[key]]
    interval = block_interval(blocks, n_bootstrap=n_bootstrap, seed=stable_seed("pooled", seed))
    return {
        "n_days": len(blocks),
        "n_headlines": sum(map(len, blocks)),
        "lift": float(np.mean([np.mean(b) for b in blocks])) if blocks else None,
        "lift_low": interval[0] if interval else None,
        "lift_high": interval[1] if interval else None,
    }


def claim_word(pooled: dict[str, Any], *, min_days: int = 7) -> str:
    """`learned`, `worse`, `not yet distinguishable` or `not enough days`, from a pooled lift."""
    if pooled["n_days"] < min_days or pooled["lift_low"] is None:
        return "not enough days"
    if pooled["lift_low"] > 0:
        return "learned"
    if pooled["lift_high"] < 0:
        return "worse"
    return "not yet distinguishable"


def _headline_means(
    settled: Sequence[tuple[Settlement, Group]], role: Role
) -> dict[str, dict[str, float]]:
    """Mean of each part over a headline's forecasts; contrast only where a placebo exists."""
    rows: dict[str, list[dict[str, float]]] = {}
    for settlement, group in settled:
        if group.role is not role or settlement.reward is None:
            continue
        parts = {
            "reward": settlement.reward,
            "format": settlement.components["format"],
            "semantic": settlement.components["semantic"],
        }
        if "placebo" in settlement.components:
            parts["contrast"] = parts["semantic"] - settlement.components["placebo"]
        rows.setdefault(group.headline.id, []).append(parts)
    return {
        headline: {part: float(np.mean([r[part] for r in parts])) for part in parts[0]}
        for headline, parts in rows.items()
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
