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

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from varro.domain import Forecast, Group, Role, stable_seed
from varro.evaluation.evaluate import SERVED
from varro.evaluation.stats import mean_interval

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
    surprisal = -np.asarray(logprobs, dtype=np.float64)
    entropy = None if entropies is None else np.asarray(entropies, dtype=np.float64)
    if not np.isfinite(surprisal).all() or (entropy is not None and not np.isfinite(entropy).all()):
        raise ValueError("a log-prob or an entropy is not finite; it was damaged after sampling")
    if entropy is not None and entropy.shape != surprisal.shape:
        raise ValueError(f"expected {surprisal.shape} entropies, found {entropy.shape}")
    n = len(surprisal)
    spikes = spiking(surprisal)
    return Cadence(
        surprisal=float(surprisal.mean()) if n else None,
        entropy=float(entropy.mean()) if n and entropy is not None else None,
        spikes_per_100=100 * float(spikes.mean()) if n else None,
        peak_interval=_peak_interval(surprisal, spikes),
        masd=float(np.abs(np.diff(surprisal)).mean()) if n > 1 else None,
        acf1=_autocorrelation(surprisal, 1),
        acf2=_autocorrelation(surprisal, 2),
        cooldown=None if entropy is None else _cooldown(entropy, spikes),
    )


def spiking(surprisal: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which tokens have a surprisal ≥ mean + 1 sd (n); none in a level series.

    Shapes: (T,) → (T,).
    """
    if not len(surprisal) or not np.ptp(surprisal):
        return np.zeros(len(surprisal), dtype=bool)
    return np.asarray(surprisal >= surprisal.mean() + surprisal.std())


def compare_cadence(
    groups: Sequence[Group], *, seed: int, day: str, n_bootstrap: int
) -> dict[str, Any] | None:
    """Served policy against frozen base on the headlines that both forecast that day.

    {n_headlines, n_served, n_base: forecasts, measures: name → {served, base, difference, low,
    high, n}}: means over headlines, each headline's forecasts averaged first, over the n that have
    the measure on both sides; the interval is a bootstrap over headlines. None if they share none.
    """
    served, base = _by_headline(groups, SERVED), _by_headline(groups, (Role.BASE,))
    shared = sorted(served.keys() & base.keys())
    if not shared:
        return None
    ours = {h: _means(served[h]) for h in shared}
    theirs = {h: _means(base[h]) for h in shared}
    draw = stable_seed("cadence", seed, day)
    return {
        "n_headlines": len(shared),
        "n_served": sum(len(served[h]) for h in shared),
        "n_base": sum(len(base[h]) for h in shared),
        "measures": {
            name: _compared(
                [
                    (a, b)
                    for h in shared
                    if (a := ours[h][name]) is not None and (b := theirs[h][name]) is not None
                ],
                seed=draw,
                n_bootstrap=n_bootstrap,
            )
            for name in MEASURES
        },
    }


def _compared(
    pairs: Sequence[tuple[float, float]], *, seed: int, n_bootstrap: int
) -> dict[str, Any]:
    differences = [a - b for a, b in pairs]
    interval = mean_interval(differences, n_bootstrap=n_bootstrap, seed=seed)
    served, base = zip(*pairs, strict=True) if pairs else ((), ())
    return {
        "served": _mean(served),
        "base": _mean(base),
        "difference": _mean(differences),
        "low": interval[0] if interval else None,
        "high": interval[1] if interval else None,
        "n": len(pairs),
    }


def _by_headline(groups: Sequence[Group], roles: Sequence[Role]) -> dict[str, list[Forecast]]:
    found: dict[str, list[Forecast]] = {}
    for group in groups:
        if group.role in roles:
            found.setdefault(group.headline.id, []).extend(group.forecasts)
    return found


def _means(forecasts: Sequence[Forecast]) -> Mapping[str, float | None]:
    rows = [astuple(cadence(f.sampler_logprobs, f.sampler_entropies)) for f in forecasts]
    return {
        name: _mean([value for value in column if value is not None])
        for name, column in zip(MEASURES, zip(*rows, strict=True), strict=True)
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _peak_interval(surprisal: NDArray[np.float64], spikes: NDArray[np.bool_]) -> float | None:
    padded = np.concatenate([[-np.inf], surprisal, [-np.inf]])
    highest = (padded[1:-1] > padded[:-2]) & (padded[1:-1] >= padded[2:])
    peaks = np.flatnonzero(spikes & highest)
    return float(np.diff(peaks).mean()) if len(peaks) > 1 else None


def _autocorrelation(surprisal: NDArray[np.float64], lag: int) -> float | None:
    """Σ_t (s_t − s̄)(s_{t+lag} − s̄) / Σ_t (s_t − s̄)²; None for a level series, or with fewer than
    two pairs, whose value is given beforehand."""
    if len(surprisal) < lag + 2 or not np.ptp(surprisal):
        return None
    apart = surprisal - surprisal.mean()
    return float((apart[:-lag] * apart[lag:]).sum() / (apart**2).sum())


def _cooldown(entropy: NDArray[np.float64], spikes: NDArray[np.bool_]) -> float | None:
    """A spike on the last token has nothing behind it and is left out."""
    drops = [
        entropy[i] - entropy[i + 1 : i + 1 + COOLDOWN].mean()
        for i in np.flatnonzero(spikes)
        if i + 1 < len(entropy)
    ]
    return float(np.mean(drops)) if drops else None
