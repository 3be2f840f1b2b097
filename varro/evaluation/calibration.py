"""Are stated probabilities earned? Brier score and reliability bins: pure NumPy.

The event is that the forecast's stated direction agreed with the matched outcome's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_FORECASTS = 30


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Forecasts whose probability lies in [low, high); the last bin holds 1 too."""

    low: float
    high: float
    n: int
    mean_probability: float
    happened_frac: float


@dataclass(frozen=True, slots=True)
class Calibration:
    n: int
    brier: float
    """0 is perfect, 0.25 is what always saying 50 % earns, 1 is always sure and always wrong."""
    base_rate_brier: float
    """What always stating the share that happened would have earned: f(1 − f)."""
    bins: tuple[ReliabilityBin, ...]


def calibration(pairs: Sequence[tuple[float, bool]]) -> Calibration | None:
    """Calibration of (probability, happened) pairs; None under `MIN_FORECASTS` of them.

    Raises: ValueError on a probability outside [0, 1].
    Note: forecasts of one headline share their outcome, so n counts them and not independent
    trials; no interval is given.
    """
    if len(pairs) < MIN_FORECASTS:
        return None
    probabilities = [probability for probability, _ in pairs]
    happened = [bool(event) for _, event in pairs]
    happened_frac = float(np.mean(happened))
    return Calibration(
        n=len(pairs),
        brier=brier(probabilities, happened),
        base_rate_brier=happened_frac * (1 - happened_frac),
        bins=tuple(reliability(probabilities, happened)),
    )


def brier(probabilities: Sequence[float], happened: Sequence[bool]) -> float:
    """Mean squared distance of the probability from what happened, (1/n) Σ (p − o)².

    Raises: ValueError if there are none, the lengths differ, or a probability is outside [0, 1].
    Source: Brier 1950, Monthly Weather Review 78(1), in its one-event form (half the original's
    sum over both classes).
    """
    p, o = _checked(probabilities, happened)
    return float(np.mean((p - o) ** 2))


def reliability(
    probabilities: Sequence[float], happened: Sequence[bool], *, n_bins: int = 5
) -> list[ReliabilityBin]:
    """Stated probability against the share that happened, in `n_bins` of equal width.

    Empty bins are left out. Calibrated forecasts have `mean_probability` near `happened_frac`.
    Raises: as `brier`.
    Source: the reliability diagram, Murphy & Winkler 1977, Applied Statistics 26(1).
    """
    p, o = _checked(probabilities, happened)
    # Rounded, or 0.29 · 100 = 28.999999999999996 falls into the bin below its own.
    index = np.minimum(np.floor(np.round(p * n_bins, 9)), n_bins - 1).astype(int)
    return [
        ReliabilityBin(
            low=i / n_bins,
            high=(i + 1) / n_bins,
            n=int(inside.sum()),
            mean_probability=float(p[inside].mean()),
            happened_frac=float(o[inside].mean()),
        )
        for i in range(n_bins)
        if (inside := index == i).any()
    ]


def _checked(
    probabilities: Sequence[float], happened: Sequence[bool]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not len(probabilities) or len(probabilities) != len(happened):
        raise ValueError(
            f"expected as many events as probabilities, and at least one, "
            f"found {len(happened)} and {len(probabilities)}"
        )
    p = np.asarray(probabilities, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"expected probabilities in [0, 1], found {p.min()!r} to {p.max()!r}")
    return p, np.asarray(happened, dtype=np.float64)
