"""Which of the day's headlines to train on when there are more than the budget.

A headline teaches if its forecasts earn differently: where all earn the same there is nothing to
prefer. What a headline will do is not known before it is forecast, so the curriculum goes by its
bucket (source and topic): the bucket's running within-group spread of the contrast stands for
regret. Most places go by that spread, the rest go blindly, so that no source is forgotten and a
bucket once judged dull is tried again.
Source: unsupervised environment design as in RLNVR, arXiv:2508.12165; regret as what selects,
arXiv:2012.02096.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from varro.domain import Topic, stable_hash, stable_seed

TOPICS: Mapping[Topic, str] = {
    "markets": "headlines about stock markets: shares, bond yields, the dollar and other "
    "currencies, traders and investors",
    "companies": "headlines about companies: quarterly profit, sales, takeovers, job cuts, "
    "chief executives",
    "economy": "headlines about the economy: central banks, interest rates, inflation, "
    "unemployment, growth",
    "commodities": "headlines about energy and commodities: oil, gas, power plants, wind farms, "
    "mining, metals, crops",
    "politics": "headlines about politics: elections, parliament, the Senate, presidents, "
    "ministers, parties, laws",
    "war": "headlines about war and diplomacy: armies, missiles, ceasefires, sanctions, foreign "
    "ministers, treaties",
    "technology": "headlines about technology: software, artificial intelligence, chips, "
    "smartphones, hackers, social networks",
    "science": "headlines about science and health: medicine, vaccines, disease, hospitals, "
    "researchers, space, planets",
    "sport": "headlines about sport: teams, players, matches, goals, coaches, races, championships",
    "disasters": "headlines about disasters and weather: earthquakes, storms, floods, wildfires, "
    "crashes, heatwaves",
    "crime": "headlines about crime and courts: police, murder, arrests, trials, judges, prison",
    "culture": "headlines about culture: films, books, music, actors, museums, food, travel",
}
"""topic → the text whose embedding is its anchor; their order is the index `topic_of` gives"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A headline that could be trained on."""

    id: str
    source: str
    bucket: str
    """`bucket_of(source, topic)`"""


def topic_of(vectors: NDArray[np.float32], anchors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index of the anchor with the highest cosine, for each vector; the first of equals.

    Fixed anchors and no state: a headline has the same topic on every day and in every run.
    Shapes: (N, E) and (K, E), K ≥ 1 → (N,).
    Raises: ValueError for a vector or anchor that has no direction (zero or not finite).
    """
    if not len(anchors):
        raise ValueError("no anchor to compare with")
    cosines = _unit(vectors) @ _unit(anchors).T
    return np.asarray(cosines.argmax(axis=1), dtype=np.int64)


def bucket_of(source: str, topic: str) -> str:
    """The bucket of a headline, "source · topic"."""
    return f"{source} · {topic}"


def day_spread(
    contrasts: Iterable[tuple[str, Sequence[float]]],
) -> dict[str, tuple[float, int]]:
    """Bucket → (mean within-group sd, number of groups), from each group's (bucket, contrasts).

    The sd is over the group's forecasts, divided by their number. A group with fewer than two
    contrasts has no spread and is not counted.
    Raises: ValueError if a contrast is not finite.
    """
    spreads: defaultdict[str, list[float]] = defaultdict(list)
    for bucket, values in contrasts:
        if not np.isfinite(values).all():
            raise ValueError(f"a contrast in bucket {bucket!r} is not finite: {list(values)}")
        if len(values) > 1:
            spreads[bucket].append(float(np.std(values)))
    return {bucket: (float(np.mean(sds)), len(sds)) for bucket, sds in spreads.items()}


def running_spread(
    days: Sequence[Mapping[str, tuple[float, int]]], *, decay: float
) -> dict[str, float]:
    """Σ decay^age · n · sd / Σ decay^age · n of each bucket: a decayed mean over its groups.

    `days` holds `day_spread` of past days, oldest first, a day without settlements as an empty
    mapping. A bucket that is not met keeps its value: only newer groups outweigh older ones.
    Raises: ValueError if decay is outside (0, 1], an sd is negative or not finite, or n < 1.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be in (0, 1], not {decay!r}")
    totals: dict[str, tuple[float, float]] = {}
    last_met: dict[str, int] = {}
    for i, day in enumerate(days):
        for bucket, (sd, n) in day.items():
            _check_spread(bucket, sd)
            if n < 1:
                raise ValueError(f"bucket {bucket!r} has a spread of {n!r} groups")
            # Ages count from the bucket's newest day: its weights cannot all underflow.
            kept = decay ** (i - last_met.get(bucket, i))
            total, weight = totals.get(bucket, (0.0, 0.0))
            totals[bucket] = (kept * total + n * sd, kept * weight + n)
            last_met[bucket] = i
    return {bucket: total / weight for bucket, (total, weight) in totals.items()}


def choose_headlines(
    candidates: Sequence[Candidate],
    n: int,
    *,
    spread: Mapping[str, float],
    seed: int,
    uniform_frac: float = 0.25,
) -> list[int]:
    """Ascending indices of min(n, all) candidates; which they are does not depend on their order.

    First ceil(n · uniform_frac) places are given without regard to spread: one to each source, in
    a seeded order of the sources, and what is left over uniformly to any headline. The other
    places go by weight, without replacement: a headline's weight is the spread of its bucket, the
    mean of `spread` if its bucket has none yet, 1 if no bucket has one. Weightless headlines come
    after all others, uniformly.

    So with no more sources than uniform places every source has a headline; with more, every
    source has the same chance of a uniform place, and within a source every headline has. Between
    two headlines only the spreads of their buckets count, not how many share a bucket.
    Raises: ValueError if n < 0, uniform_frac is outside [0, 1], a spread is negative or not
    finite, or two candidates have one id.
    Source: weighted draw without replacement by exponential keys, Efraimidis and Spirakis 2006.
    """
    _check_choice(candidates, n, spread=spread, uniform_frac=uniform_frac)
    n_uniform = math.ceil(n * uniform_frac)
    blind = _blind_order(candidates, seed)[:n_uniform]
    rest = sorted(set(range(len(candidates))) - set(blind))
    weighted = _weighted_order([candidates[i] for i in rest], spread, seed)[: n - n_uniform]
    return sorted(blind + [rest[i] for i in weighted])


def _blind_order(candidates: Sequence[Candidate], seed: int) -> list[int]:
    """One headline of each source, sources in seeded order, then all others in seeded order."""
    uniform = sorted(
        range(len(candidates)), key=lambda i: stable_hash("blind", seed, candidates[i].id)
    )
    first: dict[str, int] = {}
    for i in uniform:
        first.setdefault(candidates[i].source, i)
    sources = sorted(first, key=lambda source: stable_hash("source", seed, source))
    return [first[s] for s in sources] + [i for i in uniform if first[candidates[i].source] != i]


def _weighted_order(
    candidates: Sequence[Candidate], spread: Mapping[str, float], seed: int
) -> list[int]:
    """By E/weight, E exponential with mean 1: as if drawn one by one in proportion to weight."""
    unseen = float(np.mean(list(spread.values()))) if spread else 1.0

    def key(i: int) -> tuple[float, float]:
        weight = spread.get(candidates[i].bucket, unseen)
        uniform = (stable_seed("weighted", seed, candidates[i].id) + 0.5) / 2**63
        exponential = -math.log(uniform)
        return (exponential / weight if weight > 0 else math.inf, exponential)

    return sorted(range(len(candidates)), key=key)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise ValueError("a vector of length zero or not finite has no direction")
    unit: NDArray[np.float64] = wide / norms
    return unit


def _check_choice(
    candidates: Sequence[Candidate], n: int, *, spread: Mapping[str, float], uniform_frac: float
) -> None:
    if n < 0:
        raise ValueError(f"n must be at least 0, not {n!r}")
    if not 0 <= uniform_frac <= 1:
        raise ValueError(f"uniform_frac must be in [0, 1], not {uniform_frac!r}")
    for bucket, value in spread.items():
        _check_spread(bucket, value)
    if len({c.id for c in candidates}) < len(candidates):
        raise ValueError("two candidates have one id, so they would share their draw")


def _check_spread(bucket: str, spread: float) -> None:
    if not (math.isfinite(spread) and spread >= 0):
        raise ValueError(f"the spread of bucket {bucket!r} must be finite and ≥ 0, not {spread!r}")
