"""Texts whose order is known, scored with every settlement: if it breaks, the scorer is broken.

What was then published must earn more than its opposite, its words in disorder, nonsense, nothing,
a copy of the headline, a heap of its keywords and a forecast from another day. A day on which that
does not hold trains nothing. Canaries are never used for a claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from varro.config import RewardConfig
from varro.forecast.direction import direction, flip
from varro.reward.contrast import link_outcomes
from varro.reward.embed import Embedder
from varro.reward.score import News, score_texts
from varro.reward.words import words_in

CANARIES_VERSION = "canaries-3"

MAX_HEADLINES = 16
MIN_HEADLINES = 3
"""with fewer usable headlines the order of means is chance, and FROZEN ones take their place"""
MIN_LEAD = 0.03
"""semantic reward by which the exact outcome must lead each of the others, in the mean; its own
words shuffled it must only lead, for sentence embeddings hardly hear the order of words"""

FROZEN = (
    ("Oil traders await OPEC decision on output", "Oil prices rise 2% as OPEC cuts output"),
    ("Storm Ida moves towards the Gulf coast", "Storm Ida weakens as it nears the Gulf coast"),
    ("Senate to vote on farm aid bill", "Senate approves farm aid bill by two votes"),
    ("Turin and Porto meet in cup semi-final", "Turin beat Porto to win cup semi-final"),
    ("Central bank of Norway meets on rates", "Central bank of Norway raises rates to 4.5%"),
    ("Airline Corvia to publish quarterly results", "Corvia shares fall after quarterly loss"),
    ("Wheat growers watch the drought in Kansas", "Wheat prices climb as Kansas drought worsens"),
    ("Measles cases reported in two states", "Measles cases drop for third week in two states"),
)
"""headlines and what was published about them, for days that have too few of their own"""
_FROZEN_STRANGER = (
    "The premiere of the new opera in Vienna will draw 2% more visitors by Saturday, driven by "
    "warm reviews. Verify with the box office report."
)
_N_SHUFFLES = 4
"""one order of words can be luck"""
NONSENSE = "The purple ladder of a quiet number will sing to seven of the umbrellas by noon."


@dataclass(frozen=True, slots=True)
class Canaries:
    """Mean semantic reward of each kind, and what is wrong with their order."""

    n_headlines: int
    means: dict[str, float]
    frozen: bool
    """the day had too few headlines for them"""
    broken: str | None
    """the kinds that are not below `exact`, or None"""


def score_canaries(
    news: News, *, strangers: Sequence[str], embedder: Embedder, config: RewardConfig, seed: int
) -> Canaries | None:
    """Canaries on the day's own news, or on FROZEN news if too few headlines can carry them.

    A headline can if its best linked outcome says a direction that can be turned round.
    `strangers` are forecasts from another day, if there is one. None without placebo days: there is
    no semantic reward then, and nothing trains on the day. Canaries are judged by the contrast
    reward, whatever the policy is trained on.
    """
    usable = _usable(news, embedder)
    is_frozen = len(usable) < MIN_HEADLINES
    if is_frozen:
        headlines, outcomes = zip(*FROZEN, strict=True)
        news = replace(news, headlines=headlines, outcomes=outcomes)
        usable = list(enumerate(outcomes))
    strangers = strangers or [_FROZEN_STRANGER]
    Random(seed).shuffle(usable)
    usable = usable[:MAX_HEADLINES]
    kinds: list[str] = []
    texts: list[str] = []
    about: list[int] = []
    for place, (n, outcome) in enumerate(usable):
        made = _texts(
            news.headlines[n],
            outcome,
            strangers[place % len(strangers)],
            seed + _N_SHUFFLES * place,
        )
        kinds += [kind for kind, _ in made]
        texts += [text for _, text in made]
        about += [n] * len(made)
    scored = score_texts(
        texts,
        about,
        news,
        embedder=embedder,
        config=config.model_copy(update={"kind": "contrast"}),
        seed=seed,
    )
    if "even_contrast" not in scored[0].components:
        return None
    earned: dict[str, list[float]] = {kind: [] for kind in kinds}
    for kind, found in zip(kinds, scored, strict=True):
        semantic = found.components.get("semantic", 0.0)
        if kind in ("exact", "opposite", "shuffled"):
            semantic = ungated(found.components)
        earned[kind].append(semantic)
    means = {kind: float(np.mean(values)) for kind, values in earned.items()}
    wrong = [
        kind
        for kind, mean in means.items()
        if kind != "exact" and means["exact"] - mean <= (0.0 if kind == "shuffled" else MIN_LEAD)
    ]
    return Canaries(len(usable), means, is_frozen, ", ".join(wrong) or None)


def foretold(outcome: str) -> str:
    """A title as a forecast: prose, and nothing but the title."""
    return f"The papers of tomorrow will say that {outcome.rstrip('.!? ')}."


def ungated(components: Mapping[str, float]) -> float:
    """The semantic reward of a foretold outcome, which may share words with its headline: they were
    not copied from there."""
    return components.get("semantic", 0.0) / max(components["gate"], 0.05)


def _usable(news: News, embedder: Embedder) -> list[tuple[int, str]]:
    """Headlines that can carry canaries, by index, each with its best linked outcome."""
    linked = link_outcomes(embedder.encode(news.headlines), embedder.encode(news.outcomes))
    best = [(n, news.outcomes[row[0]]) for n, row in enumerate(linked) if row]
    return [(n, title) for n, title in best if direction(title) and _turned(title)]


def _turned(outcome: str) -> bool:
    return flip(outcome) != outcome


def _texts(headline: str, outcome: str, stranger: str, seed: int) -> list[tuple[str, str]]:
    told = outcome.rstrip(".!? ")
    keywords = [w for w in words_in(f"{headline} {outcome}") if len(w) > 3]
    return [
        ("exact", foretold(told)),
        ("opposite", foretold(flip(told))),
        *(("shuffled", foretold(_shuffled(told, seed + n))) for n in range(_N_SHUFFLES)),
        ("nonsense", NONSENSE),
        ("empty", ""),
        ("copy", f"{headline.rstrip('.!? ')}."),
        ("stuffing", " ".join(keywords * 2)),
        ("stranger", stranger),
    ]


def _shuffled(text: str, seed: int) -> str:
    words = text.split()
    Random(seed).shuffle(words)
    return " ".join(words)
