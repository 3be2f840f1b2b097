"""What a forecast earns on its own day beyond what other days would have paid it: pure NumPy.

    L(h)  linked outcomes: the top 3 of the day by cosine to the headline, the best at least 0.30
    s(f)  = max over L(h) of cos(f, o)
    n(f)  = mean over placebo pools of the same maximum, linked alike, pools of the day's size
    c(f)  = s(f) − n(f)                                        contrast
    μ(f)  = clip(cos(f, o*) − cos(f, flip(o*)), ± 0.10)        if both directions are known
    w     = clip(c / 0.05, 0, 1)                               weight of direction
    r     = clip(clip((c + 0.10) / 0.80, 0, 1) · p + 1.5 w μ, 0, 1) · g

p is 0.6, 0.85 or 1 by whether the directions of f and its outcomes disagree, can not be told, or
agree, drawn towards 0.85 by w: what other days would have matched better is no outcome to be right
about. g falls with what is copied from the headline. Without linking, a forecast about another
topic scores full marks on the headline that happens to be about it; without the placebo, sounding
like news in general pays; without direction, the opposite of what happened pays as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONTRAST_VERSION = "contrast-2"

N_LINKED = 3
MIN_LINK = 0.30
"""cosine of headline and best outcome below which nothing was published about the headline"""
N_DRAWS = 4
"""seeded draws from a placebo pool that is larger than the day"""
MIN_POOL = 30
"""headlines"""
SAME_STORY = 0.15
"""linked outcomes whose cosine to the forecast is this close to the best one vote on direction"""
MAX_MARGIN = 0.10
TELLING_CONTRAST = 0.05
"""from which direction counts in full"""

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Matches:
    """What forecasts met among the outcomes linked to their headlines."""

    similarity: Floats
    """(B,) s(f)"""
    outcome: NDArray[np.int64]
    """(B,) index of o*"""
    linked: tuple[tuple[int, ...], ...]
    """for each headline the linked outcomes, best first; empty if unresolved"""


def link_outcomes(headlines: Matrix, outcomes: Matrix) -> tuple[tuple[int, ...], ...]:
    """For each headline its linked outcomes, best first; none if the best is below MIN_LINK.

    Shapes: (N, E), (M, E), rows of unit length → N tuples of at most N_LINKED indices.
    """
    if not len(outcomes):
        return ((),) * len(headlines)
    found = cosines(headlines, outcomes)
    order = np.argsort(-found, axis=1, kind="stable")[:, :N_LINKED]
    return tuple(
        tuple(int(i) for i in row) if found[n, row[0]] >= MIN_LINK else ()
        for n, row in enumerate(order)
    )


def match_outcomes(
    forecasts: Matrix, of_headline: NDArray[np.int64], headlines: Matrix, outcomes: Matrix
) -> Matches:
    """The best linked outcome of each forecast; similarity NaN and outcome −1 if unresolved.

    Shapes: forecasts (B, E), of_headline (B,) index into headlines (N, E), outcomes (M, E).
    """
    linked = link_outcomes(headlines, outcomes)
    similarity = np.full(len(forecasts), np.nan)
    best = np.full(len(forecasts), -1, dtype=np.int64)
    for b, n in enumerate(of_headline):
        if linked[n]:
            met = cosines(forecasts[b : b + 1], outcomes[list(linked[n])])[0]
            best[b] = linked[n][int(met.argmax())]
            similarity[b] = met.max()
    return Matches(similarity, best, linked)


def is_measured(n_outcomes: int, n_placebo: int) -> bool:
    """Whether so many placebo headlines are enough to compare so many outcomes with."""
    return bool(n_outcomes) and n_placebo >= min(n_outcomes, MIN_POOL)


def placebo_similarities(
    forecasts: Matrix,
    of_headline: NDArray[np.int64],
    headlines: Matrix,
    placebo_days: Sequence[Matrix],
    *,
    n_outcomes: int,
    seed: int,
) -> Floats | None:
    """What each forecast would have met on each placebo day: best linked cosine, without threshold.

    A maximum grows with the size of its pool, so each pool is made as large as the outcomes: a
    short day is joined with the next ones, and N_DRAWS draws of that size are averaged. Pools do
    not fall below MIN_POOL while there are headlines: a handful of other news pays next to nothing,
    and every forecast would look like foresight. Nor do they grow past the median placebo day: who
    floods the day with titles must not lower what honest forecasts earn.
    Returns None if there is no outcome, or if all placebo days together hold fewer headlines than
    the outcomes and than MIN_POOL.
    Shapes: (B, E), (B,), (N, E), one (M_e, E) per placebo day → (P, B).
    """
    pools = [pool for pool in placebo_days if len(pool)]
    total = sum(map(len, pools))
    if not is_measured(n_outcomes, total):
        return None
    usual = int(np.median([len(pool) for pool in pools]))
    size = min(max(min(n_outcomes, usual), MIN_POOL), total)
    return _pool_similarities(forecasts, of_headline, headlines, pools, size=size, seed=seed)


def even_contrast(
    forecasts: Matrix,
    of_headline: NDArray[np.int64],
    headlines: Matrix,
    outcomes: Matrix,
    placebo_days: Sequence[Matrix],
    *,
    seed: int,
) -> Floats:
    """What the claim is made of: similarity less placebo with both sides on even terms.

    The reward's c(f) is not even: its outcomes must be linked at MIN_LINK, its placebo need not be,
    and a large day keeps its size. Days are then chosen by how near they came to the headline, and
    whoever stays nearer to the headline gains without foreseeing anything. Here no day is left out,
    and outcomes and placebo are drawn to one size: if the day were one more placebo day, the mean
    would be 0 for any forecast.
    NaN if there is nothing to compare with. Shapes: as `placebo_similarities` → (B,).
    """
    pools = [pool for pool in placebo_days if len(pool)]
    if not is_measured(len(outcomes), sum(map(len, pools))):
        return np.full(len(forecasts), np.nan)
    size = min(len(outcomes), int(np.median([len(pool) for pool in pools])))
    about = (forecasts, of_headline, headlines)
    met = _nearest_similarity(*about, outcomes, size=size, seed=(seed, len(pools)))
    return np.asarray(met - mean_over_days(_pool_similarities(*about, pools, size=size, seed=seed)))


def even_difference(
    forecasts: Matrix,
    of_headline: NDArray[np.int64],
    headlines: Matrix,
    day: Matrix,
    other: Matrix,
    *,
    seed: int,
) -> Floats:
    """Similarity to one day less similarity to another, both drawn to the size of the smaller one,
    no threshold. Shapes: (B, E), (B,), (N, E), (M, E), (L, E), neither empty → (B,)."""
    size = min(len(day), len(other))
    about = (forecasts, of_headline, headlines)
    met, other_met = (
        _nearest_similarity(*about, titles, size=size, seed=(seed, n))
        for n, titles in enumerate((day, other))
    )
    return met - other_met


def _pool_similarities(
    forecasts: Matrix,
    of_headline: NDArray[np.int64],
    headlines: Matrix,
    pools: Sequence[Matrix],
    *,
    size: int,
    seed: int,
) -> Floats:
    """`_nearest_similarity` in each pool; one smaller than `size` is joined with the next ones.
    Shapes: → (P, B)."""
    found = []
    for e in range(len(pools)):
        joined, following = [pools[e]], [*pools[e + 1 :], *pools[:e]]
        while sum(map(len, joined)) < size:
            joined.append(following.pop(0))
        pool = np.concatenate(joined)
        found.append(
            _nearest_similarity(forecasts, of_headline, headlines, pool, size=size, seed=(seed, e))
        )
    return np.array(found)


def _nearest_similarity(
    forecasts: Matrix,
    of_headline: NDArray[np.int64],
    headlines: Matrix,
    titles: Matrix,
    *,
    size: int,
    seed: tuple[int, int],
) -> Floats:
    """Best cosine of each forecast among the N_LINKED titles nearest to its headline: of `size`
    titles, in the mean of N_DRAWS draws if there are more. Shapes: titles (M, E) → (B,)."""
    to_headlines = cosines(headlines, titles)  # (N, M)
    to_forecasts = cosines(forecasts, titles)  # (B, M)
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn = []
    for _ in range(1 if len(titles) == size else N_DRAWS):
        chosen = generator.permutation(len(titles))[:size]
        top = np.argsort(-to_headlines[:, chosen], axis=1, kind="stable")[:, :N_LINKED]
        linked = chosen[top][of_headline]  # (B, N_LINKED)
        drawn.append(np.take_along_axis(to_forecasts, linked, axis=1).max(axis=1))
    return np.asarray(np.mean(drawn, axis=0))


def direction_votes(agreements: Sequence[int], cosines: Sequence[float]) -> float:
    """Mean agreement (−1, 0, 1) of the linked outcomes that tell the forecast's story.

    An outcome votes if its cosine to the forecast is within SAME_STORY of the best one's; one that
    tells no direction does not vote. 0 without a vote.
    """
    best = max(cosines)
    votes = [a for a, c in zip(agreements, cosines, strict=True) if a and c >= best - SAME_STORY]
    return float(np.mean(votes)) if votes else 0.0


def semantic_reward(contrast: Floats, vote: Floats, margin: Floats, gate: Floats) -> Floats:
    """r of this module's formula, in [0, 1].

    Shapes: all (B,). `vote` in [−1, 1] sets p between 0.6, 0.85 and 1; `margin` is μ, 0 where a
    direction is unknown; both count by how far the contrast is above 0. `gate` is g in [0, 1].
    Note: the ramp must not saturate on a true match, or the direction term is lost there.
    """
    telling = np.clip(contrast / TELLING_CONTRAST, 0.0, 1.0)
    vote, margin = telling * vote, telling * margin
    factor = np.where(vote < 0, 0.85 + 0.25 * vote, 0.85 + 0.15 * vote)
    ramp = np.clip((contrast + 0.10) / 0.80, 0.0, 1.0)
    bounded = np.clip(margin, -MAX_MARGIN, MAX_MARGIN)
    return np.asarray(np.clip(ramp * factor + 1.5 * bounded, 0.0, 1.0) * gate)


def copy_gate(copy_frac: Floats, copy_run_frac: Floats) -> Floats:
    """1 for own words, falling with the share of bigrams from the headline (0.15 to 0.60) and with
    the longest run of the headline's words (half of it to all of it, to 0.5). Shapes: (B,)."""
    bigrams = 1.0 - np.clip((copy_frac - 0.15) / 0.45, 0.0, 1.0)
    run = 1.0 - 0.5 * np.clip((copy_run_frac - 0.5) / 0.5, 0.0, 1.0)
    return np.asarray(bigrams * run)


def topic_gate(cosines: Matrix | Floats) -> Floats:
    """0 for a text that is not about its headline (cosine to it 0.10 and below), 1 from MIN_LINK:
    what links an outcome to the headline links a forecast to it. Shapes: (B,)."""
    return np.clip((cosines.astype(np.float64) - 0.10) / (MIN_LINK - 0.10), 0.0, 1.0)


def cosines(a: Matrix, b: Matrix) -> Floats:
    """Dot products, the same to the last bit whichever rows stand beside a row.

    Shapes: (B, E), (M, E), rows of unit length → (B, M).
    Raises: ValueError if a vector is not finite: it would win or lose every comparison.
    Note: a matrix product adds in an order that depends on its shape. Coordinates rounded to
    2⁻²⁴ have products in steps of 2⁻⁴⁸ and sums of at most 1, which float64 holds exactly in any
    order.
    """
    return np.asarray(_rounded(a) @ _rounded(b).T)


def mean_over_days(placebo: Floats) -> Floats:
    """The placebo of each forecast, correctly rounded: it does not depend on the others.

    Shapes: (P, B) → (B,).
    """
    return np.array([math.fsum(column) / len(column) for column in placebo.T])


def _rounded(vectors: Matrix) -> Floats:
    if not np.isfinite(vectors).all():
        raise ValueError("a vector from the embedder is not finite")
    return np.asarray(np.rint(vectors.astype(np.float64) * 2**24) / 2**24)
