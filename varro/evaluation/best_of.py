"""Best of k: what the best of k forecasts on a headline earns, beside what one earns. Pure.

    E[best of k] = Σ_i C(i − 1, k − 1) / C(n, k) · x_(i),   x_(1) ≤ … ≤ x_(n)

is the mean, over all choices of k of the n forecasts without replacement, of the best of them:
unbiased for k fresh ones, with no draw of its own. At k = 1 it is the mean, at k = n the maximum.
RL that only sharpens moves the mean towards a best that the base had already: best of 1 rises and
best of many does not. RL that finds something new lifts both.
Source: pass@k, arXiv:2107.03374, for values other than 0 and 1; sharpening, arXiv:2504.13837.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varro.evaluation.stats import mean_intervals


def expected_best(values: Sequence[float], k: int) -> float:
    """Mean of the best of k of the values.

    Raises: ValueError unless 1 ≤ k ≤ their number.
    """
    n = len(values)
    if not 1 <= k <= n:
        raise ValueError(f"the best of k of {n} values needs 1 ≤ k ≤ {n}, found {k!r}")
    weights = np.array([comb(i, k - 1) for i in range(n)], dtype=np.float64) / comb(n, k)
    return float(weights @ np.sort(np.asarray(values, dtype=np.float64)))


def compare_best(
    served: Mapping[str, Sequence[float]],
    base: Mapping[str, Sequence[float]],
    *,
    seed: int,
    n_bootstrap: int,
) -> list[dict[str, Any]]:
    """A day's curve: {k, n, served, base, difference, low, high} for k = 1, 2, … as far as the
    served policy's forecasts go; beyond the base's, its columns are None.

    All of it is over the same n headlines: those on which each side has all its values, for a curve
    over headlines that leave it on the way could fall. Empty if there are none. The interval is a
    bootstrap over headlines.
    """
    n_served = max(map(len, served.values()), default=0)
    n_base = max(map(len, base.values()), default=0)
    whole = sorted(
        h for h in served.keys() & base.keys()
        if len(served[h]) == n_served and len(base[h]) == n_base
    )  # fmt: skip
    if not whole or not n_base:
        return []
    ours = _curve([served[h] for h in whole], n_served)
    theirs = _curve([base[h] for h in whole], n_base)[:n_served]
    differences = [(a - b).tolist() for a, b in zip(ours, theirs, strict=False)]
    intervals = mean_intervals(differences, n_bootstrap=n_bootstrap, seed=seed)
    rows = []
    for place, earned in enumerate(ours):
        compared = place < len(theirs)
        interval = intervals[place] if compared else None
        rows.append(
            {
                "k": place + 1,
                "n": len(whole),
                "served": float(earned.mean()),
                "base": float(theirs[place].mean()) if compared else None,
                "difference": float(np.mean(differences[place])) if compared else None,
                "low": interval[0] if interval else None,
                "high": interval[1] if interval else None,
            }
        )
    return rows


def _curve(headlines: Sequence[Sequence[float]], n: int) -> list[NDArray[np.float64]]:
    """What the best of k = 1 … n earns on each headline."""
    return [np.array([expected_best(values, k) for values in headlines]) for k in range(1, n + 1)]


def pool_best(
    days: Sequence[Sequence[Mapping[str, Any]]], *, seed: int, n_bootstrap: int
) -> list[dict[str, Any]]:
    """One curve over the days' curves: means of the days' figures, the interval a bootstrap over
    days; {k, n_days, n, served, base, difference, low, high}, n headlines in all."""
    by_k: dict[int, list[Mapping[str, Any]]] = {}
    for day in days:
        for row in day:
            by_k.setdefault(row["k"], []).append(row)
    measured = {
        k: [row["difference"] for row in rows if row["difference"] is not None]
        for k, rows in sorted(by_k.items())
    }
    intervals = mean_intervals(list(measured.values()), n_bootstrap=n_bootstrap, seed=seed)
    pooled = []
    for (k, differences), interval in zip(measured.items(), intervals, strict=True):
        rows = by_k[k]
        bases = [row["base"] for row in rows if row["base"] is not None]
        pooled.append(
            {
                "k": k,
                "n_days": len(rows),
                "n": sum([row["n"] for row in rows]),
                "served": float(np.mean([row["served"] for row in rows])),
                "base": float(np.mean(bases)) if bases else None,
                "difference": float(np.mean(differences)) if differences else None,
                "low": interval[0] if interval else None,
                "high": interval[1] if interval else None,
            }
        )
    return pooled


def sharpening(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a curve says of the difference at one forecast and at the most that both made.

    `both`: both intervals are above 0. `sharper`: one forecast earns more, and the best of many no
    more, so what is best was within reach before. `wider`: only the best of many earns more.
    `narrower`: only the best of many earns less. `worse`: both earn less. `open` where no interval
    tells, or there is none.
    """
    told = [row for row in rows if row["low"] is not None]
    if len(told) < 2:
        return "open"
    one, many = (int(row["low"] > 0) - int(row["high"] < 0) for row in (told[0], told[-1]))
    if many < 0:
        return "worse" if one < 0 else "narrower"
    words = {(1, 1): "both", (1, 0): "sharper", (0, 1): "wider", (-1, 1): "wider"}
    return words.get((one, many), "open")
