"""Forecasts as a report shows them: what was read in them and where, what they earned. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from varro.domain import AdvantageInfo, Forecast, Group, Headline, Role, Settlement
from varro.forecast.beats import parse_beats
from varro.reward.hygiene import without_copied_sentences
from varro.reward.settle import made_on
from varro.reward.words import sentences_in

COPIED = "copied"
"""the span of a sentence taken from the headline: the scorer reads no beat there"""
N_DIVIDED, N_RANDOM = 3, 2
PARTS = ("format", "semantic", "contrast", "vote", "margin", "gate")


def settled_examples(
    settled: Sequence[tuple[Settlement, Group]],
    outcomes: Mapping[str, Headline],
    advantages: Mapping[str, AdvantageInfo],
    *,
    n: int,
    window_h: float,
    seed: int,
    links: Mapping[str, str],
) -> dict[str, list[dict[str, Any]]]:
    """The served policy's settled forecasts that a page shows: {best, worst, divided, random}.

    The best n, best first, and the worst n, worst first: a forecast is in one of them at most, so
    that on a short day the worst are fewer. Of the three groups whose rewards differ most, the best
    and the worst forecast each. Two drawn at random, by `seed`: the others were picked.
    """
    ranked = [
        (settlement, group)
        for settlement, group in settled
        if settlement.reward is not None and group.role in (Role.TRAIN, Role.HELDOUT)
    ]
    ranked.sort(key=lambda pair: (-(pair[0].reward or 0.0), pair[0].forecast_id))
    best = ranked[:n]
    worst = ranked[::-1][: min(n, len(ranked) - len(best))]
    draw = np.random.Generator(np.random.PCG64(seed))
    drawn = [ranked[i] for i in draw.permutation(len(ranked))[:N_RANDOM]]

    def shown(settlement: Settlement, group: Group) -> dict[str, Any]:
        forecast = next(f for f in group.forecasts if f.id == settlement.forecast_id)
        outcome = outcomes.get(settlement.outcome_id or "")
        advantage = advantages.get(forecast.id)
        return {
            **described(group, forecast, window_h=window_h, links=links),
            "k": forecast.k,
            "role": str(group.role),
            "reward": settlement.reward,
            **{part: settlement.components.get(part) for part in PARTS},
            "advantage": advantage.advantage if advantage else None,
            "invalid_reason": settlement.invalid_reason,
            "outcome": outcome.title if outcome else None,
            "outcome_link": outcome.link if outcome else None,
        }

    chosen = {"best": best, "worst": worst, "divided": _divided(ranked), "random": drawn}
    # The best of all are often those of a divided group: each is read once.
    pairs = {_key(pair[0]): pair for found in chosen.values() for pair in found}
    told = {key: shown(*pair) for key, pair in pairs.items()}
    return {kind: [told[_key(s)] for s, _ in found] for kind, found in chosen.items()}


def _key(settlement: Settlement) -> tuple[str, str]:
    return settlement.forecast_id, settlement.reward_version


def _divided(ranked: Sequence[tuple[Settlement, Group]]) -> list[tuple[Settlement, Group]]:
    """Best and worst forecast of each of the groups with the widest spread, the widest first."""
    by_group: dict[str, list[tuple[Settlement, Group]]] = {}
    for pair in ranked:
        by_group.setdefault(pair[1].id, []).append(pair)
    spreads = {
        key: float(np.std([s.reward or 0.0 for s, _ in pairs])) for key, pairs in by_group.items()
    }
    widest = sorted((key for key in spreads if spreads[key] > 0), key=lambda k: (-spreads[k], k))
    return [by_group[key][place] for key in widest[:N_DIVIDED] for place in (0, -1)]


def described(
    group: Group, forecast: Forecast, *, window_h: float, links: Mapping[str, str]
) -> dict[str, Any]:
    """A forecast with its headline and its beats, settled or not, and the link to all of its
    group."""
    return {
        "page": links.get(group.id),
        "made_at": f"{group.made_at:%Y-%m-%dT%H:%M:%SZ}",
        "forecast_id": forecast.id,
        "headline": group.headline.title,
        "headline_link": group.headline.link,
        "source": group.headline.source,
        "text": forecast.text,
        "beats": beats_in(forecast.text, group.headline.title, group.made_at, window_h),
    }


def beats_in(text: str, headline: str, made_at: datetime, window_h: float) -> dict[str, Any]:
    """The beats as the scorer read them, in the text's own words; spans as [beat, start, end]."""
    own, offsets, copied = _own_words(text, headline)
    beats = parse_beats(own, headline, made_on=made_on(made_at), window_days=window_h / 24)
    spans = [(span.beat, offsets[span.start], offsets[span.end - 1] + 1) for span in beats.spans]
    spans += [(COPIED, start, end) for start, end in copied]
    return {
        "scores": beats.scores(),
        "sign": beats.sign,
        "magnitude": beats.magnitude_value,
        "dates": None if beats.dates is None else [d.isoformat() for d in beats.dates],
        "drivers": list(beats.drivers_named),
        "probability": beats.probability,
        "spans": [list(span) for span in sorted(spans, key=lambda span: span[1])],
    }


def _own_words(text: str, headline: str) -> tuple[str, list[int], list[tuple[int, int]]]:
    """`without_copied_sentences(text, headline)`, where each of its characters stands in `text`,
    and where the sentences stand that it left out."""
    own: list[str] = []
    offsets: list[int] = []
    copied: list[tuple[int, int]] = []
    end = 0
    for sentence in sentences_in(text):
        start = text.index(sentence, end)
        if not without_copied_sentences(sentence, headline):
            end = start + len(sentence)
            copied.append((start, end))
            continue
        if own:
            offsets.append(end)  # of the space between two sentences
        end = start + len(sentence)
        own.append(sentence)
        offsets += range(start, end)
    return " ".join(own), offsets, copied
