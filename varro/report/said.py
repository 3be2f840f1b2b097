"""The sections on what the policy said: settled forecasts, and those made today."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import accumulate
from typing import Any

from varro.report.examples import COPIED, PARTS
from varro.report.metrics import format_value
from varro.report.page import Example, Part, Piece, Row, Section, Table, number, shown
from varro.reward.summary import BEATS

MAX_BYTES = 8_500
"""of the forecasts of a section, so that the page stays under 200 kB whatever is said"""
_OF_EXAMPLE = 900
"""bytes of markup around one, generous"""
_DIRECTIONS = {1: "up", -1: "down", 0: "unchanged"}


def said_section(title: str, parts: Iterable[Part], why: str) -> Section:
    """Some of the settled forecasts, and how they were chosen."""
    examples = tuple(
        _example(part, (("Earned", _earned(part)), ("Invalid", part["invalid_reason"])))
        for part in parts
    )
    kept = _light(examples)
    return Section(
        f"{title}, n = {len(examples)}",
        notes=(why, *_left_out(examples, kept)) if examples else ("No settled forecasts to show.",),
        legend=_legend(kept),
        examples=kept,
    )


def _earned(part: Part) -> str:
    names = ("reward", *PARTS, "advantage")
    earned = ", ".join(f"{name} {number(part, name)}" for name in names)
    return f"{earned}; k = {shown(part['k'])}, {shown(part['role'])}"


def _example(part: Part, facts: Iterable[tuple[str, str | None]] = ()) -> Example:
    made = ("Forecast made", part["made_at"])
    present = tuple((what, shown(value)) for what, value in (*facts, made) if value is not None)
    return Example(
        headline=shown(part["headline"]),
        headline_link=part["headline_link"],
        source=shown(part["source"]),
        facts=(*present, ("Read as", _read(part["beats"])), ("Id", shown(part["forecast_id"]))),
        pieces=_pieces(shown(part["text"]), part["beats"]["spans"]),
        outcome=part.get("outcome"),
        outcome_link=part.get("outcome_link"),
        page=_own_page(part["page"]),
    )


def _read(beats: Part) -> str:
    """The parse in words: what was found of each beat, and how well it is said."""
    sign = beats["sign"]
    found = {
        "direction": None if sign is None else _DIRECTIONS.get(sign, shown(sign)),
        "magnitude": beats["magnitude"],
        "timeframe": _days(beats["dates"]),
        "drivers": ", ".join(map(shown, beats["drivers"])) or None,
    }
    scores = beats["scores"]
    said = [
        f"{beat} {format_value('beat', scores[beat])}"
        + (f" ({found[beat]})" if found.get(beat) is not None else "")
        for beat in BEATS
    ]
    if beats["probability"] is not None:
        said.append(f"probability {number(beats, 'probability')}")
    return "; ".join(said)


def _days(dates: Sequence[object] | None) -> str | None:
    """First and last day of a timeframe, or the one day that it is."""
    return None if dates is None else " to ".join(dict.fromkeys(map(shown, dates)))


def _pieces(text: str, spans: Iterable[Sequence[Any]]) -> tuple[Piece, ...]:
    pieces, end = [], 0
    for beat, start, stop in spans:
        pieces += [Piece(text[end:start]), Piece(text[start:stop], _mark(beat))]
        end = stop
    return tuple(piece for piece in (*pieces, Piece(text[end:])) if piece.text)


def _mark(beat: object) -> str | None:
    return next((known for known in (*BEATS, COPIED) if known == beat), None)


def _legend(examples: Sequence[Example]) -> tuple[Piece, ...]:
    """The marks that stand in the examples, each in its own colours."""
    used = {piece.beat for example in examples for piece in example.pieces}
    return tuple(Piece(beat, beat) for beat in (*BEATS, COPIED) if beat in used)


def new_section(forecast: Part, display: Iterable[Part], n_in_group: int | None) -> Section:
    """What was forecast today: how much, and one of each of some groups."""
    made = (
        f"Policy v{shown(forecast['policy_version'])} wrote n = {number(forecast, 'n_forecasts')} "
        f"forecasts in {number(forecast, 'n_groups')} groups: {number(forecast, 'n_tokens')} "
        f"tokens at {number(forecast, 'tokens_per_s')} tokens/s."
    )
    endings = tuple(
        Row(reason, (format_value("n_forecasts", count),), "n_forecasts")
        for reason, count in (forecast["finish_reasons"] or {}).items()
    )
    examples = tuple(_example(part) for part in display)
    kept = _light(examples)
    chosen = (
        f"Below, n = {len(examples)} headlines, each with the medoid of its group of "
        f"{format_value('n_forecasts', n_in_group)}: the forecast nearest in meaning to the "
        "others. They are sampled, settled and trained on like the rest."
    )
    table = Table(
        f"How they ended, n = {number(forecast, 'n_forecasts')}", ("Ending", "Forecasts"), endings
    )
    return Section(
        "Forecasts made today",
        notes=(made, chosen, *_left_out(examples, kept)),
        tables=(table,) if endings else (),
        legend=_legend(kept),
        examples=kept,
    )


def _light(examples: Sequence[Example]) -> tuple[Example, ...]:
    """The first examples, as many as a page can bear; one at least."""
    sizes = accumulate(map(_weight, examples))
    return tuple(e for n, (e, size) in enumerate(zip(examples, sizes, strict=True))
                 if n == 0 or size <= MAX_BYTES)  # fmt: skip


def _weight(example: Example) -> int:
    texts = [example.headline, example.headline_link, example.source, example.outcome,
             example.outcome_link, *(piece.text for piece in example.pieces),
             *(value for _, value in example.facts)]  # fmt: skip
    size = sum(len(escape(text or "").encode("utf-8", "replace")) for text in texts)
    return size + _OF_EXAMPLE


def _left_out(examples: Sequence[Example], kept: Sequence[Example]) -> tuple[str, ...]:
    n = len(examples) - len(kept)
    return (f"{n} more are left out for their length: see all forecasts.",) if n else ()


def _own_page(link: object) -> str | None:
    """The link to a group's page, if it is of the form that Varro gives it."""
    form = r"(?:settled|made)(?:-\d+)?\.html#g-[\w-]+"
    found = isinstance(link, str) and re.fullmatch(form, link)
    return str(link) if found else None
