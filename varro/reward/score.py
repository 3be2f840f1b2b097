"""Texts in, rewards with their components out: the scorer of settle, canaries and `varro score`.

    reward = 0.25 · format + 0.75 · semantic       0 if the text is invalid

`format` is the mean of the five beats in the text's own words, lowered by repetition, hedging,
copying, brevity and straying from the headline's topic. `semantic` is the contrast reward (see
`reward.contrast`). An unresolved headline has no semantic part: what could not be scored is absent,
never 0, and its reward is that of the format alone.

Kind `similarity` is the essay's plain reward: the mean of the five beats and the best cosine to any
outcome, without any of this. A function of the user's own (`reward.own`) takes the semantic part's
place and leaves the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from varro.config import RewardConfig
from varro.forecast.beats import BEATS_VERSION, Beats, parse_beats
from varro.forecast.direction import DIRECTION_VERSION, agreement, direction, flip
from varro.reward.contrast import (
    CONTRAST_VERSION,
    copy_gate,
    cosines,
    direction_votes,
    even_contrast,
    even_difference,
    match_outcomes,
    mean_over_days,
    placebo_similarities,
    semantic_reward,
    topic_gate,
)
from varro.reward.embed import Embedder, Vectors
from varro.reward.hygiene import (
    HYGIENE_VERSION,
    Hygiene,
    inspect_text,
    without_copied_sentences,
)
from varro.reward.own import load_own, own_rewards

SCORE_VERSION = f"score-3/{CONTRAST_VERSION}/{DIRECTION_VERSION}/{BEATS_VERSION}/{HYGIENE_VERSION}"

_FULL_LENGTH = 20
"""words from which brevity costs nothing"""
ASSUMED_PLACEBO = 0.30
"""cosine; stands in where no placebo days are at hand. A right forecast meets 0.25 among twenty
titles that are not its day's, 0.34 among a hundred (the items of scripts/bench_reward.py)"""


@dataclass(frozen=True, slots=True)
class Scored:
    """What one text earned."""

    reward: float
    components: dict[str, float]
    """see README, "The reward"; without `semantic` if unresolved, without `placebo` if there is no
    placebo day"""
    outcome: int | None
    """index of the outcome it matched best"""
    invalid: str | None
    """why it earns nothing"""
    beats: Beats


@dataclass(frozen=True, slots=True)
class News:
    """Titles that texts are scored against."""

    headlines: tuple[str, ...]
    """what the texts are about"""
    outcomes: tuple[str, ...]
    placebo_days: tuple[tuple[str, ...], ...]
    day_before: tuple[str, ...] = ()
    """the day as long before the headlines' as the outcomes come after it"""


def reward_version(config: RewardConfig) -> str:
    """Names the formula and each of its parts: another version, another reward."""
    own = load_own(config.kind).version if _is_own(config) else config.kind
    return f"{own}/{SCORE_VERSION}"


def _is_own(config: RewardConfig) -> bool:
    return config.kind not in ("contrast", "similarity")


def score_texts(
    texts: Sequence[str],
    of_headline: Sequence[int],
    news: News,
    *,
    embedder: Embedder,
    config: RewardConfig,
    seed: int,
    finish_reasons: Sequence[str | None] | None = None,
    made_on: date | None = None,
    assumed_placebo: float | None = None,
) -> list[Scored]:
    """The reward of each text about one of the news' headlines, in the order given.

    Without placebo days there is no contrast and no semantic part, unless `assumed_placebo` stands
    in for what other days would have paid.
    Raises: ValueError if the embedder returns a vector that is not finite.
    """
    if not texts:
        return []
    reasons = finish_reasons or [None] * len(texts)
    titles = [news.headlines[n] for n in of_headline]
    hygiene = [
        inspect_text(text, title, finish_reason=reason)
        for text, title, reason in zip(texts, titles, reasons, strict=True)
    ]
    own = [without_copied_sentences(text, title) for text, title in zip(texts, titles, strict=True)]
    beats = [
        parse_beats(text, title, made_on=made_on, window_days=config.window_h / 24)
        for text, title in zip(own, titles, strict=True)
    ]
    meaning = _meaning(
        texts,
        own,
        np.asarray(of_headline, dtype=np.int64),
        news,
        hygiene,
        embedder=embedder,
        seed=seed,
        assumed_placebo=assumed_placebo,
    )
    if _is_own(config):
        measured = [
            {**said.parts, **parsed.scores(), **_hygiene_components(found)}
            for said, parsed, found in zip(meaning, beats, hygiene, strict=True)
        ]
        own_reward = load_own(config.kind)
        paid = own_rewards(own_reward, texts, titles, news.outcomes, measured, made_on=made_on)
        for said, value in zip(meaning, paid, strict=True):
            said.parts.pop("semantic", None)
            if value is not None:
                said.parts["semantic"] = value
    scored = []
    for text, about, found, parsed, said in zip(
        texts, of_headline, hygiene, beats, meaning, strict=True
    ):
        parts, outcome = said.parts, said.matched
        invalid = found.invalid_reason()
        if config.kind == "similarity":
            plain = parse_beats(
                text, news.headlines[about], made_on=made_on, window_days=config.window_h / 24
            )
            format_ = plain.format_score()
            if news.outcomes:
                parts["semantic"] = min(1.0, max(0.0, parts["raw"])) if text.strip() else 0.0
                outcome = said.nearest if text.strip() else None
        else:
            format_ = 0.0 if invalid else _format(parsed, found, parts)
            if invalid and "semantic" in parts:
                parts["semantic"] = 0.0
        components = {
            "format": format_,
            **parts,
            **parsed.scores(),
            **_hygiene_components(found),
            "valid": float(invalid is None),
        }
        if parsed.probability is not None:
            components["probability"] = parsed.probability
        if not all(math.isfinite(value) for value in components.values()):
            raise ValueError(f"a component of the reward of {text[:60]!r} is not finite")
        scored.append(Scored(combine(components, config), components, outcome, invalid, parsed))
    return scored


def combine(components: dict[str, float], config: RewardConfig) -> float:
    """format_weight · format + semantic_weight · semantic, in [0, 1]; an absent part adds 0."""
    return config.format_weight * components["format"] + config.semantic_weight * components.get(
        "semantic", 0.0
    )


TEMPLATE = (
    "The broader market will rise by about 1% tomorrow, driven by investor sentiment and recent "
    "data. Check the closing report on Friday."
)
"""one forecast that suits any headline: what no policy is needed for"""


def rival_contrasts(news: News, *, embedder: Embedder, seed: int) -> dict[str, list[float | None]]:
    """Contrast on even terms of texts that need no policy, for each headline: its own words, and
    TEMPLATE. None if there is no placebo day. Shapes: name → (N,).
    """
    headlines = embedder.encode(news.headlines)
    outcomes = embedder.encode(news.outcomes)
    pools = [embedder.encode(titles) for titles in news.placebo_days if titles]
    rivals = {
        "echo": headlines,
        "template": np.repeat(embedder.encode([TEMPLATE]), len(headlines), axis=0),
    }
    each = np.arange(len(headlines))
    found: dict[str, list[float | None]] = {}
    for name, vectors in rivals.items():
        contrast = even_contrast(vectors, each, headlines, outcomes, pools, seed=seed)
        found[name] = [None if np.isnan(value) else float(value) for value in contrast]
    return found


@dataclass(frozen=True, slots=True)
class _Meaning:
    parts: dict[str, float]
    """semantic components"""
    matched: int | None
    """index of the linked outcome that the text's own words met"""
    nearest: int | None
    """index of the outcome nearest to the whole text, linked or not"""


def _meaning(
    texts: Sequence[str],
    own: Sequence[str],
    of_headline: NDArray[np.int64],
    news: News,
    hygiene: Sequence[Hygiene],
    *,
    embedder: Embedder,
    seed: int,
    assumed_placebo: float | None,
) -> list[_Meaning]:
    """What each text's own words say about the outcomes."""
    forecasts = embedder.encode(own)
    headlines = embedder.encode(news.headlines)
    outcomes = embedder.encode(news.outcomes)
    matches = match_outcomes(forecasts, of_headline, headlines, outcomes)
    pools = [embedder.encode(titles) for titles in news.placebo_days if titles]
    placebo = placebo_similarities(
        forecasts, of_headline, headlines, pools, n_outcomes=len(news.outcomes), seed=seed
    )
    gates = copy_gate(
        np.array([h.copy_frac for h in hygiene]), np.array([h.copy_run_frac for h in hygiene])
    ) * np.where([h.unclosed for h in hygiene], 0.7, 1.0)
    topics = topic_gate(np.sum(forecasts * headlines[of_headline], axis=1))
    votes = np.zeros(len(own))
    for b, text in enumerate(own):
        if matches.outcome[b] >= 0 and text:
            linked = list(matches.linked[of_headline[b]])
            met = cosines(forecasts[b : b + 1], outcomes[linked])[0]
            told = [agreement(text, news.outcomes[i]) for i in linked]
            votes[b] = direction_votes(told, met.tolist())
    margins = _flip_margins(own, forecasts, matches.outcome, news.outcomes, embedder)
    null = None if placebo is None else mean_over_days(placebo)
    if null is None and assumed_placebo is not None:
        null = np.full(len(own), assumed_placebo)
    whole = embedder.encode(texts)
    to_all = cosines(whole, outcomes) if len(news.outcomes) else np.zeros((len(own), 1))
    raw, nearest = to_all.max(axis=1), to_all.argmax(axis=1)
    raw_placebo = None
    if pools:
        raw_placebo = mean_over_days(np.array([cosines(whole, p).max(axis=1) for p in pools]))
    before = embedder.encode(news.day_before) if news.day_before else None
    even = _on_even_terms(
        forecasts, of_headline, headlines, outcomes, pools, before=before, seed=seed
    )
    contrast = np.full(len(own), np.nan) if null is None else matches.similarity - null
    earned = semantic_reward(contrast, votes, margins, gates)
    found = []
    for b, text in enumerate(own):
        parts = {"raw": float(raw[b]), "gate": float(gates[b]), "topic": float(topics[b])}
        if raw_placebo is not None:
            parts["raw_placebo"] = float(raw_placebo[b])
        parts |= {name: float(values[b]) if text else 0.0 for name, values in even.items()}
        matched = None
        if matches.outcome[b] >= 0:
            measured = {"similarity": matches.similarity[b]}
            if null is not None:
                measured |= {"placebo": null[b], "contrast": contrast[b], "semantic": earned[b]}
            parts |= {name: float(value) if text else 0.0 for name, value in measured.items()}
            parts |= {"vote": float(votes[b]), "margin": float(margins[b])}
            matched = int(matches.outcome[b]) if text else None
        closest = int(nearest[b]) if len(news.outcomes) else None
        found.append(_Meaning(parts, matched, closest))
    return found


def _on_even_terms(
    forecasts: Vectors,
    of_headline: NDArray[np.int64],
    headlines: Vectors,
    outcomes: Vectors,
    pools: Sequence[Vectors],
    *,
    before: Vectors | None,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """What the claim and the controls beside it are made of; it pays nothing. Shapes: name → (B,).

    Empty without placebo days. `shuffled` puts a placebo day drawn at random in the place of the
    outcomes, the others as its placebo. Not the nearest day: what it tells goes on more often, and
    is met more often, than what the others tell.
    """
    about = (forecasts, of_headline, headlines)
    claimed = even_contrast(*about, outcomes, pools, seed=seed)
    if np.isnan(claimed).any():
        return {}
    found = {"even_contrast": claimed}
    if before is not None:
        found["over_day_before"] = even_difference(*about, outcomes, before, seed=seed)
    if len(pools) > 1:
        drawn = seed % len(pools)
        others = [*pools[:drawn], *pools[drawn + 1 :]]
        shuffled = even_contrast(*about, pools[drawn], others, seed=seed)
        if not np.isnan(shuffled).any():
            found["shuffled"] = shuffled
    return found


def _flip_margins(
    own: Sequence[str],
    forecasts: Vectors,
    matched: NDArray[np.int64],
    titles: Sequence[str],
    embedder: Embedder,
) -> NDArray[np.float64]:
    """cos(f, o*) − cos(f, flip(o*)), 0 where a direction is unknown. Shapes: → (B,).

    Note: the outcome is turned round, not the forecast: a headline has one direction where a
    forecast also has drivers, and there are fewer of them to encode.
    """
    told = {
        b: titles[o]
        for b, (text, o) in enumerate(zip(own, matched, strict=True))
        if o >= 0 and direction(text) and direction(titles[o]) and flip(titles[o]) != titles[o]
    }
    margins = np.zeros(len(own))
    if told:
        plain = embedder.encode(list(told.values()))
        turned = embedder.encode([flip(title) for title in told.values()])
        for row, b in enumerate(told):
            both = np.stack([plain[row], turned[row]])
            as_said, opposite = cosines(forecasts[b : b + 1], both)[0]
            margins[b] = as_said - opposite
    return margins


def _format(beats: Beats, hygiene: Hygiene, parts: dict[str, float]) -> float:
    """Mean of the five beats, times what repetition, hedging, brevity, copying and straying from
    the headline's topic leave of it."""
    repetition = 1.0 - min(1.0, max(0.0, (hygiene.repetition_frac - 0.20) / 0.40))
    length = min(1.0, hygiene.words / _FULL_LENGTH)
    hedge = 0.8 if hygiene.hedged else 1.0
    return (
        beats.format_score()
        * repetition
        * length
        * hedge
        * (0.5 + 0.5 * parts["gate"])
        * parts["topic"]
    )


def _hygiene_components(hygiene: Hygiene) -> dict[str, float]:
    return {
        "words": float(hygiene.words),
        "copy_frac": hygiene.copy_frac,
        "copy_run_frac": hygiene.copy_run_frac,
        "repetition_frac": hygiene.repetition_frac,
        "truncated": float(hygiene.truncated),
        "leak": float(hygiene.leak),
        "hedged": float(hygiene.hedged),
        "script_frac": hygiene.script_frac,
    }
