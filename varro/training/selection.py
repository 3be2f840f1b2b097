"""Which of the day's forecasts train. Pure NumPy.

Selection comes after the advantages: a forecast that is left out stays in its group's mean, for it
was earned against like any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_WEIGHT, MAX_WEIGHT = 0.5, 2.0
"""a forecast whose weight for the sampler's mismatch is outside does not train; IcePop,
arXiv:2510.18855"""
MIN_FORECASTS = 2
"""of a group: one alone has nothing to be better than"""

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Selection:
    trains: Bools
    """(N, G)"""
    counts: dict[str, int]
    """what was left out and why, and `n_trained`"""


def select_forecasts(
    n_tokens: NDArray[np.int_],
    overlong: Bools,
    weights: NDArray[np.float64],
    low_variance: Bools,
    *,
    mask_overlong: bool,
) -> Selection:
    """The forecasts that have a token, were not cut at the limit, and on which sampler and trainer
    agree, in groups that differ and keep MIN_FORECASTS of them.

    A forecast that was cut says nothing about where it was going; without this it would have the
    advantage of an invalid one.
    Shapes: (N, G), low_variance (N,).  Units: weights as of `sampler_weights`, before truncation.
    """
    empty = n_tokens == 0
    cut = overlong & ~empty & mask_overlong
    # Not (w < MIN) | (w > MAX): what is not a number is not within.
    off_sampler = ~((weights >= MIN_WEIGHT) & (weights <= MAX_WEIGHT)) & ~empty
    trains = ~(empty | cut | off_sampler)
    too_few = (trains.sum(axis=1) < MIN_FORECASTS) & ~low_variance
    trains &= ~(low_variance | too_few)[:, None]
    return Selection(
        trains,
        {
            "n_empty": int(empty.sum()),
            "n_overlong": int(overlong.sum()),
            "n_off_sampler": int(off_sampler.sum()),
            "n_low_variance": int(low_variance.sum()),
            "n_too_few": int(too_few.sum()),
            "n_trained": int(trains.sum()),
        },
    )
