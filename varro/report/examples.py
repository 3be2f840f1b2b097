"""Forecasts as a report shows them: what was read in them and where, what they earned. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from varro.domain import AdvantageInfo, Forecast, Group, Headline, Role, Settlement
from varro.forecast.beats import parse_beats
from varro.reward.hygiene import without_copied_sentences
from varro.reward.settle import made_on
from varro.reward.words import sentences_in

COPIED = "copied"
"""the span of a sentence taken from the headline: the scorer reads no beat there"""
PARTS = ("format", "semantic", "contrast", "vote", "margin", "gate")


def settled_examples(
    settled: Sequence[tuple[Settlement, Group]],
    outcomes: Mapping[str, Headline],
    advantages: Mapping[str, AdvantageInfo],
    *,
    n: int,
    window_h: float,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The served policy's best n settled forecasts, best first, and its worst, worst first.

    A forecast is in one of them at most: on a short day the worst are fewer.
    """
    ranked = [
        (settlement, group)
        for settlement, group in settled
        if settlement.reward is not None and group.role in (Role.TRAIN, Role.HELDOUT)
    ]
    ranked.sort(key=lambda pair: (-(pair[0].reward or 0.0), pair[0].forecast_id))
    best = ranked[:n]
    worst = ranked[::-1][: min(n, len(ranked) - len(best))]

    def shown(settlement: Settlement, group: Group) -> dict[str, Any]:
        forecast = next(f for f in group.forecasts if f.id == settlement.forecast_id)
        outcome = outcomes.get(settlement.outcome_id or "")
        advantage = advantages.get(forecast.id)
        return {
            **described(group, forecast, window_h=window_h),
            "k": forecast.k,
            "role": str(group.role),
            "reward": settlement.reward,
            **{part: settlement.components.get(part) for part in PARTS},
            "advantage": advantage.advantage if advantage else None,
            "invalid_reason": settlement.invalid_reason,
            "outcome": outcome.title if outcome else None,
            "outcome_link": outcome.link if outcome else None,
        }

    return [shown(*pair) for pair in best], [shown(*pair) for pair in worst]


def described(group: Group, forecast: Forecast, *, window_h: float) -> dict[str, Any]:
    """A forecast with its headline and its beats, settled or not."""
    return {
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
