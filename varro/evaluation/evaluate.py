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
from itertools import takewhile
from typing import Any

import numpy as np

from varro.domain import EvaluationInfo, Group, Role, Settlement, stable_seed
from varro.evaluation.best_of import compare_best
from varro.evaluation.stats import (
    block_interval,
    confidence_sequence,
    days_to_claim,
    mean_interval,
    running_sequence,
)
from varro.report.metrics import MAX_COPY_RISE

SERVED = (Role.TRAIN, Role.HELDOUT)
CLAIMED = "even_contrast"
"""the part that the claim is about"""
OF_SKILL = (CLAIMED, "contrast", "shuffled", "over_day_before")
"""parts that an invalid forecast does not have"""
PARTS = (*OF_SKILL, "reward", "format", "semantic", "vote", "copy_frac", "repetition_frac",
         "words", "similarity", "placebo", "valid")  # fmt: skip
"""means that are compared headline by headline, where both sides have them"""
SMALL_LIFT = 0.01
"""the lift whose cost in days is reported"""
MIN_DAYS = 7


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


def pooled(
    evaluations: Sequence[EvaluationInfo], part: str, *, seed: int, n_bootstrap: int
) -> dict[str, Any]:
    """One paired difference of a run over all its days: see `pooled_days`."""
    days = [(e.day, e.detail["differences"].get(part) or []) for e in evaluations]
    return pooled_days(days, seed=seed, n_bootstrap=n_bootstrap)


def pooled_days(
    days: Sequence[tuple[str, Sequence[float]]], *, seed: int, n_bootstrap: int
) -> dict[str, Any]:
    """A difference over days, each with those of its headlines; a day without any is left out.

    {n_days, n_headlines, mean, low, high: day-block bootstrap for display, claim_low, claim_high:
    the confidence sequence, valid however often it is read, since: the day from which it has stood
    on the side it stands on now, first: the first day it stood on either, n_days_above,
    n_days_below: on how many days it did}
    """
    days = [(day, values) for day, values in days if values]
    means = [float(np.mean(values)) for _, values in days]
    interval = block_interval(
        [values for _, values in days],
        n_bootstrap=n_bootstrap,
        seed=stable_seed("pooled", seed),
    )
    claim = confidence_sequence(means, min_n=MIN_DAYS) if means else None
    lows, highs = running_sequence(means, min_n=MIN_DAYS) if means else (np.array([]),) * 2
    sides = [int(low > 0) - int(high < 0) for low, high in zip(lows, highs, strict=True)]
    told = [day for (day, _), side in zip(days, sides, strict=True) if side]
    now = list(takewhile(lambda n: sides[n] and sides[n] == sides[-1], range(len(days))[::-1]))
    return {
        "n_days": len(days),
        "n_headlines": sum(len(values) for _, values in days),
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
    """What the days so far allow to say: {word, blocked_by, lift, sd_of_days, days_for_small_lift,
    small_lift, days_for_this_lift, and each part and control by its name}.

    The word is `learned`, `worse`, `not yet distinguishable`, `not enough days`, or `blocked`: a
    lift could be told, but a control that must be 0 is not, or, on the good side, the policy copies
    more than the base.
    """
    names = (*PARTS, "base_against_base", "heldout", "echo", "template")
    # Those with the same number of days one after another: they share their resamples.
    n_days = {n: sum(bool(e.detail["differences"].get(n)) for e in evaluations) for n in names}
    parts = {
        name: pooled(evaluations, name, seed=seed, n_bootstrap=n_bootstrap)
        for name in sorted(names, key=n_days.__getitem__)
    }
    lift = parts.pop(CLAIMED)
    found = [e.detail["differences"].get(CLAIMED) for e in evaluations]
    days = [np.mean(values) for values in found if values]
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
