"""The evaluate stage: served policy against frozen base, paired by headline, and the claim.

Both forecast the same headlines before outcomes exist, with the same seeds; the served policy has
not seen the day either, so every headline is an honest test, and the held-out ones stay so after
the update. The claim is `lift`: the mean paired difference in contrast on even terms (see
`reward.contrast.even_contrast`). Beside it stand controls that must be 0 (a day that is not the
forecast's, the base against itself), rivals that need no policy at all (the headline echoed, one
sentence that suits any headline), and the day before: what merely goes on was as near to the
headline then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from varro.domain import EvaluationInfo, Group, Role, Settlement, stable_seed
from varro.evaluation.best_of import compare_best
from varro.evaluation.stats import mean_interval

SERVED = (Role.TRAIN, Role.HELDOUT)
CLAIMED = "even_contrast"
"""the part that the claim is about"""
OF_SKILL = (CLAIMED, "contrast", "shuffled", "over_day_before")
"""parts that an invalid forecast does not have"""
PARTS = (*OF_SKILL, "reward", "format", "semantic", "vote", "copy_frac", "repetition_frac",
         "words", "similarity", "placebo", "valid")  # fmt: skip
"""means that are compared headline by headline, where both sides have them"""


def compare_with_base(
    settled: Sequence[tuple[Settlement, Group]],
    *,
    run: str,
    day: str,
    seed: int,
    n_bootstrap: int,
    rivals: Mapping[str, Mapping[str, float]] | None = None,
) -> EvaluationInfo | None:
    """The day's paired comparison, or None if nothing that both forecast was settled.

    `rivals`: name → headline id → contrast on even terms of a text that needs no policy.
    """
    served = headline_means(headline_values(settled, SERVED))
    base = headline_means(headline_values(settled, (Role.BASE,)))
    shared = sorted(served.keys() & base.keys())
    if not shared:
        return None
    heldout = {g.headline.id for _, g in settled if g.role is Role.HELDOUT}
    differences = {part: _differences(served, base, shared, part) for part in PARTS}
    halves = [headline_means(headline_values(settled, (Role.BASE,), parity=p)) for p in (0, 1)]
    differences["base_against_base"] = _differences(halves[0], halves[1], shared, CLAIMED)
    differences["heldout"] = _differences(
        served, base, [h for h in shared if h in heldout], CLAIMED
    )
    for name, contrasts in (rivals or {}).items():
        rival = {h: {CLAIMED: value} for h, value in contrasts.items()}
        differences[name] = _differences(served, rival, shared, CLAIMED)
    lift = differences[CLAIMED]
    interval = mean_interval(lift, n_bootstrap=n_bootstrap, seed=stable_seed("lift", seed, day))
    return EvaluationInfo(
        run=run,
        day=day,
        n_headlines=len(lift),
        lift=_mean(lift),
        lift_low=interval[0] if interval else None,
        lift_high=interval[1] if interval else None,
        detail={
            "n_shared": len(shared),
            "served": _means(served, shared),
            "base": _means(base, shared),
            "rivals": {
                name: _mean([v for h, v in contrasts.items() if h in shared])
                for name, contrasts in (rivals or {}).items()
            },
            "accuracy": {
                "served": _accuracy(settled, SERVED),
                "base": _accuracy(settled, (Role.BASE,)),
            },
            "differences": differences,
            "best_of": day_curve(settled, seed=seed, day=day, n_bootstrap=n_bootstrap),
        },
    )


def day_curve(
    settled: Sequence[tuple[Settlement, Group]], *, seed: int, day: str, n_bootstrap: int
) -> list[dict[str, Any]]:
    """The best of k of what a day settled, by the part that the claim is about: `compare_best`."""
    served, base = (
        {h: parts[CLAIMED] for h, parts in headline_values(settled, of).items() if CLAIMED in parts}
        for of in (SERVED, (Role.BASE,))
    )
    return compare_best(
        served, base, seed=stable_seed("best of", seed, day), n_bootstrap=n_bootstrap
    )


def headline_values(
    settled: Sequence[tuple[Settlement, Group]],
    roles: Sequence[Role],
    *,
    parity: int | None = None,
) -> dict[str, dict[str, list[float]]]:
    """Headline → part → what its forecasts have of it; of one parity of k, if given."""
    rows: dict[str, dict[str, list[float]]] = {}
    for settlement, group in settled:
        if group.role not in roles or settlement.reward is None:
            continue
        if parity is not None and _k(settlement, group) % 2 != parity:
            continue
        parts = rows.setdefault(group.headline.id, {})
        for part in PARTS:
            value = settlement.components.get(part)
            if part == "reward" and "semantic" in settlement.components:
                value = settlement.reward
            if part == "vote" and not value:
                continue  # unknown is not a draw
            if part in OF_SKILL and not settlement.components.get("valid", 1.0):
                continue  # what was thrown out has no skill to compare
            if value is not None:
                parts.setdefault(part, []).append(value)
    return rows


def headline_means(rows: Mapping[str, Mapping[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Mean of each part over a headline's forecasts that have it."""
    return {
        headline: {part: float(np.mean(values)) for part, values in parts.items()}
        for headline, parts in rows.items()
    }


def _k(settlement: Settlement, group: Group) -> int:
    return next(f.k for f in group.forecasts if f.id == settlement.forecast_id)


def _differences(
    first: Mapping[str, Mapping[str, float]],
    second: Mapping[str, Mapping[str, float]],
    headlines: Sequence[str],
    part: str,
) -> list[float]:
    return [
        first[h][part] - second[h][part]
        for h in headlines
        if part in first.get(h, {}) and part in second.get(h, {})
    ]


def _means(
    rows: Mapping[str, Mapping[str, float]], headlines: Sequence[str]
) -> dict[str, float | None]:
    return {p: _mean([rows[h][p] for h in headlines if p in rows[h]]) for p in PARTS}


def _accuracy(settled: Sequence[tuple[Settlement, Group]], roles: Sequence[Role]) -> dict[str, Any]:
    """Share of forecasts whose direction agreed with the outcomes', where that can be told."""
    votes = [
        s.components["vote"]
        for s, g in settled
        if g.role in roles and s.reward is not None and s.components.get("vote")
    ]
    return {"n": len(votes), "frac": float(np.mean([v > 0 for v in votes])) if votes else None}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
