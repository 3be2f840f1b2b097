"""Semantic similarity of forecasts to what was then published: pure NumPy on unit vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def best_match(
    forecasts: NDArray[np.float32], outcomes: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Highest cosine over the outcomes, clipped to [0, 1], and which outcome it was.

    Shapes: (B, E) and (M, E), rows of unit length → (B,), (B,).
    Raises: ValueError if there is no outcome.
    """
    if not len(outcomes):
        raise ValueError("no outcome to match")
    cosines = forecasts.astype(np.float64) @ outcomes.astype(np.float64).T
    return np.clip(cosines.max(axis=1), 0.0, 1.0), cosines.argmax(axis=1)


def placebo_similarity(
    forecasts: NDArray[np.float32],
    placebo_days: Sequence[NDArray[np.float32]],
    *,
    n_outcomes: int,
    seed: int,
) -> NDArray[np.float64] | None:
    """Mean over placebo days of the best match, each day's pool made as large as the outcomes.

    A maximum grows with the size of its pool, so a short day is joined with the next ones and
    `n_outcomes` headlines are drawn; without enough headlines in all there is no placebo.
    Shapes: (B, E) and one (M_i, E) per placebo day → (B,).
    """
    scores = []
    for i in range(len(placebo_days)):
        joined = list(placebo_days[i : i + 1])
        following = [*placebo_days[i + 1 :], *placebo_days[:i]]
        while sum(map(len, joined)) < n_outcomes and following:
            joined.append(following.pop(0))
        pool = np.concatenate(joined)
        if len(pool) < n_outcomes:
            return None
        draw = np.random.Generator(np.random.PCG64([seed, i]))
        chosen = np.sort(draw.choice(len(pool), size=n_outcomes, replace=False))
        scores.append(best_match(forecasts, pool[chosen])[0])
    return np.mean(scores, axis=0) if scores else None
