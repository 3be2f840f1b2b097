"""Cadence: how surprise rises and falls along a forecast, from what was stored while sampling.

Surprisal is −log p of the token that was drawn, entropy that of the distribution it was drawn from,
both in nats at the sampling temperature. In a policy's own words the mean of the one estimates the
mean of the other: a surprisal far from its entropy tells of chance, or of a sampler that is not the
policy. Prose that is written, rather than strung together, is said to spike and then cool down.

Nothing here is a claim: served and base differ in cadence as soon as they write other words.
Source: Horace (strangeloopcanon/Horace, tools/analyze.py), formulas restated: spikes, peaks,
intervals between peaks, MASD, autocorrelation, and the drop of entropy behind a spike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from varro.domain import Group, Role, stable_seed
from varro.evaluation.evaluate import SERVED
from varro.evaluation.stats import mean_intervals

COOLDOWN = 3
"""tokens behind a spike over which entropy is averaged"""


@dataclass(frozen=True, slots=True)
class Cadence:
    """One forecast's; None where its tokens do not allow a figure."""

    surprisal: float | None
    """mean, nats a token"""
    entropy: float | None
    """mean, nats a token; None too for forecasts of ledgers that did not store it"""
    spikes_per_100: float | None
    """tokens with surprisal ≥ mean + 1 sd, a hundred tokens; 0 for a level series"""
    peak_interval: float | None
    """mean distance in tokens between peaks: spikes that are higher than what stands before them
    and not lower than what follows"""
    masd: float | None
    """mean absolute successive difference of surprisal, nats"""
    acf1: float | None
    """autocorrelation of surprisal from token to token"""
    acf2: float | None
    """the same over two tokens"""
    cooldown: float | None
    """entropy at a spike less its mean over up to three tokens behind, mean over spikes, nats"""


MEASURES = tuple(field.name for field in fields(Cadence))


def cadence(logprobs: ArrayLike, entropies: ArrayLike | None = None) -> Cadence:
    """The cadence of one forecast.

    Shapes: both (T,), T ≥ 0.  Units: nats.
    Raises: ValueError if they differ in length, or a value is not finite.
    """
    (row,) = _measure([logprobs], [entropies])
    return Cadence(*(None if np.isnan(value) else float(value) for value in row))


def spiking(surprisal: ArrayLike) -> NDArray[np.bool_]:
    """Which tokens have a surprisal ≥ mean + 1 sd (n); none in a level series.

    Shapes: (T,) → (T,).
    """
    x, mask = _padded([surprisal])
    (found,) = _spikes(x, mask)
    return np.asarray(found)


def compare_cadence(
    groups: Sequence[Group], *, seed: int, day: str, n_bootstrap: int
) -> dict[str, Any] | None:
    """Served policy against frozen base on the headlines that both forecast that day.

    {n_headlines, n_served, n_base: forecasts, measures: name → {served, base, difference, low,
    high, n}}: means over headlines, each headline's forecasts averaged first, over the n that have
    the measure on both sides; the interval is a bootstrap over headlines. None if they share none.
    """
    (ours, n_ours), (theirs, n_theirs) = (_by_headline(groups, of) for of in (SERVED, (Role.BASE,)))
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return None
    pairs = {
        name: [
            (a, b)
            for h in shared
            if (a := ours[h][name]) is not None and (b := theirs[h][name]) is not None
        ]
        for name in MEASURES
    }
    differences = [[a - b for a, b in of] for of in pairs.values()]
    draw = stable_seed("cadence", seed, day)
    intervals = mean_intervals(differences, n_bootstrap=n_bootstrap, seed=draw)
    return {
        "n_headlines": len(shared),
        "n_served": sum(n_ours[h] for h in shared),
        "n_base": sum(n_theirs[h] for h in shared),
        "measures": {
            name: {
                "served": _mean([a for a, _ in pairs[name]]),
                "base": _mean([b for _, b in pairs[name]]),
                "difference": _mean(apart),
                "low": interval[0] if interval else None,
                "high": interval[1] if interval else None,
                "n": len(apart),
            }
            for name, apart, interval in zip(MEASURES, differences, intervals, strict=True)
        },
    }


def _by_headline(
    groups: Sequence[Group], roles: Sequence[Role]
) -> tuple[dict[str, dict[str, float | None]], dict[str, int]]:
    """Headline → its forecasts' mean of each measure, and headline → how many they are."""
    made = [(g.headline.id, f) for g in groups if g.role in roles for f in g.forecasts]
    rows = _measure([f.sampler_logprobs for _, f in made], [f.sampler_entropies for _, f in made])
    places: dict[str, list[int]] = {}
    for place, (headline, _) in enumerate(made):
        places.setdefault(headline, []).append(place)
    means = {
        headline: {
            name: _mean(column[~np.isnan(column)])
            for name, column in zip(MEASURES, rows[at].T, strict=True)
        }
        for headline, at in places.items()
    }
    return means, {headline: len(at) for headline, at in places.items()}


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _measure(
    logprobs: Sequence[ArrayLike], entropies: Sequence[ArrayLike | None]
) -> NDArray[np.float64]:
    """The figures of MEASURES of N forecasts at once, NaN where there is none. Shapes: → (N, 8)."""
    x, mask = _padded(logprobs)
    x = -x
    lengths = mask.sum(axis=1)
    h, known = _padded([() if e is None else e for e in entropies])
    if not np.isfinite(x).all() or not np.isfinite(h).all():
        raise ValueError("a log-prob or an entropy is not finite; it was damaged after sampling")
    for n, entropy in zip(lengths, entropies, strict=True):
        if entropy is not None and np.size(entropy) != n:
            raise ValueError(f"expected {n} entropies, found {np.size(entropy)}")
    h, known = _as_wide(h, x), _as_wide(known, x)
    spikes = _spikes(x, mask)
    steps = np.abs(np.diff(x, axis=1)) * mask[:, 1:]
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is NaN: no such figure
        columns = (
            x.sum(axis=1) / lengths,
            h.sum(axis=1) / known.sum(axis=1),
            100 * spikes.sum(axis=1) / lengths,
            _peak_interval(x, mask, spikes),
            np.where(lengths > 1, steps.sum(axis=1) / (lengths - 1), np.nan),
            _autocorrelation(x, mask, 1),
            _autocorrelation(x, mask, 2),
            _cooldown(h, known, spikes),
        )
    return np.stack(columns, axis=1)


def _padded(series: Sequence[ArrayLike]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Series of any lengths beside each other, 0 behind their ends, and where they have values."""
    rows = [np.asarray(values, dtype=np.float64) for values in series]
    x = np.zeros((len(rows), max((len(row) for row in rows), default=0)))
    mask = np.zeros(x.shape, dtype=bool)
    for i, row in enumerate(rows):
        x[i, : len(row)], mask[i, : len(row)] = row, True
    return x, mask


def _as_wide(values: NDArray[Any], as_: NDArray[np.float64]) -> NDArray[Any]:
    return np.pad(values, [(0, 0), (0, as_.shape[1] - values.shape[1])])


def _apart(x: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distances from each row's mean, 0 behind its end; exactly 0 throughout a level row, whose
    mean may be off by a rounding."""
    n = np.maximum(mask.sum(axis=1, keepdims=True), 1)
    first = x[:, :1]
    from_first = np.where(mask, x - first, 0.0)
    return np.where(mask, from_first - from_first.sum(axis=1, keepdims=True) / n, 0.0)


def _spikes(x: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    apart = _apart(x, mask)
    n = np.maximum(mask.sum(axis=1, keepdims=True), 1)
    sd = np.sqrt((apart**2).sum(axis=1, keepdims=True) / n)
    return np.asarray(mask & (sd > 0) & (apart >= sd))


def _peak_interval(
    x: NDArray[np.float64], mask: NDArray[np.bool_], spikes: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """From the first peak to the last, over the steps between."""
    around = np.pad(np.where(mask, x, -np.inf), [(0, 0), (1, 1)], constant_values=-np.inf)
    peaks = spikes & (x > around[:, :-2]) & (x >= around[:, 2:])
    n = peaks.sum(axis=1)
    places = np.arange(x.shape[1])
    last = np.where(peaks, places, -1).max(axis=1, initial=-1)
    first = np.where(peaks, places, x.shape[1]).min(axis=1, initial=x.shape[1])
    return np.where(n > 1, (last - first) / (n - 1), np.nan)


def _autocorrelation(
    x: NDArray[np.float64], mask: NDArray[np.bool_], lag: int
) -> NDArray[np.float64]:
    """Σ_t (s_t − s̄)(s_{t+lag} − s̄) / Σ_t (s_t − s̄)²; none for a level series, or with fewer than
    two pairs, whose value is given beforehand."""
    apart = _apart(x, mask)
    found = (apart[:, :-lag] * apart[:, lag:]).sum(axis=1) / (apart**2).sum(axis=1)
    return np.where(mask.sum(axis=1) < lag + 2, np.nan, found)


def _cooldown(
    entropy: NDArray[np.float64], known: NDArray[np.bool_], spikes: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """A spike on the last token has nothing behind it and is left out."""
    width = entropy.shape[1]
    after = np.pad(entropy, [(0, 0), (0, COOLDOWN)])
    there = np.pad(known, [(0, 0), (0, COOLDOWN)])
    total = sum(after[:, lag : lag + width] for lag in range(1, COOLDOWN + 1))
    n = sum(there[:, lag : lag + width].astype(int) for lag in range(1, COOLDOWN + 1))
    counted = spikes & known & (n > 0)
    drops = np.where(counted, entropy - total / np.maximum(n, 1), 0.0)
    return np.asarray(drops.sum(axis=1) / counted.sum(axis=1))
