"""The five beats of a forecast, found by words and grammar: a pure parser.

    object · direction + small magnitude · tight timeframe · named drivers · concrete verification

Each beat scores 0 to 1, continuously. A sentence is a claim, a check ("Verify with ..."), or first
the one and then the other; object, direction, magnitude and drivers are read in claims. What
stands in a heap of keywords counts by how far the heap is a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby, pairwise
from typing import Protocol

from varro.forecast.direction import DirectionWord, direction_of, direction_words
from varro.forecast.figures import Size, find_probabilities, find_sizes
from varro.forecast.grounds import (
    Cause,
    Layout,
    Sentence,
    check_score,
    drivers_score,
    find_causes,
    lay_out,
)
from varro.forecast.subject import subject_score
from varro.forecast.timeframe import TimePhrase, find_times, nearness

BEATS_VERSION = "beats-2"

_STANCES = frozenset("support supports supported supporting".split())
"""where somebody stands, not which way something goes"""
_HEDGE = re.compile(r"\b(?:or|either|but|yet|though|although|however|while|whether)\b", re.I)
_MAYBE = re.compile(r"\b(?:may|might|could)\b", re.IGNORECASE)
_NOUN_AFTER = re.compile(r"\s(?:in|of)\b", re.IGNORECASE)
"""behind a noun: "a rise in prices" """

_READ = 8_000
"""characters that are read; a forecast has about a thousand"""
_HEDGED = 0.5
_MIXED = 0.8
"""both directions, but not as alternatives"""
_TIME_IN_CHECK = 0.5
"""worth of a time that stands only in the check"""


@dataclass(frozen=True, slots=True)
class Span:
    """Where a beat stands in the text."""

    beat: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Beats:
    """How well each beat is said, in [0, 1], and what was read."""

    object: float
    direction: float
    magnitude: float
    timeframe: float
    drivers: float
    verification: float
    spans: tuple[Span, ...] = ()
    """in their order, without overlaps"""
    sign: int | None = None
    """+1 up or success, -1 down or failure, 0 unchanged"""
    magnitude_value: str | None = None
    """as written"""
    dates: tuple[date, date] | None = None
    """first and last day of the timeframe, if it is known when the forecast was made"""
    drivers_named: tuple[str, ...] = ()
    probability: float | None = None
    """stated; nothing requires it"""

    def scores(self) -> dict[str, float]:
        """The six scores by their names."""
        return {
            "object": self.object,
            "direction": self.direction,
            "magnitude": self.magnitude,
            "timeframe": self.timeframe,
            "drivers": self.drivers,
            "verification": self.verification,
        }

    def format_score(self) -> float:
        """Mean of the five beats."""
        return mean_of_beats(self.scores())


def mean_of_beats(scores: Mapping[str, float]) -> float:
    """Mean of the five beats from the six scores: direction and magnitude are one beat."""
    move = (scores["direction"] + scores["magnitude"]) / 2
    rest = ("object", "timeframe", "drivers", "verification")
    return (move + sum(scores[name] for name in rest)) / 5


_Spans = Sequence[tuple[int, int]]
_Beat = tuple[float, _Spans]
"""a score before the sentence's flow, and where the beat stands"""


def parse_beats(
    text: str, headline: str, *, made_on: date | None = None, window_days: float = 1.5
) -> Beats:
    """The beats of a forecast about a headline.

    Units: `window_days` is how long the reward waits for outcomes, from `made_on`.
    """
    text = text[:_READ]
    layout = lay_out(text)
    if not layout.sentences:
        return Beats(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    times = find_times(text, made_on=made_on)
    chances = find_probabilities(text)
    taken = _mask(text, _places([*times, *chances]))
    sizes = [s for s in find_sizes(text) if layout.is_claim(s.start) and not taken[s.start]]
    words = _directional(layout, _mask(text, _places([*times, *chances, *_numbers(sizes)])))
    causes = _find_causes(layout, taken, ends={end for _, end in _places([*words, *sizes, *times])})
    in_cause = _mask(text, [(c.marker, c.end) for c in causes])
    moves = [w for w in words if not in_cause[w.start]]
    sizes = [s for s in sizes if not in_cause[s.start]]
    main = _main_claim(layout, moves)

    size = _main_size(layout, sizes, moves, main)
    own_times = _own_times(layout, times, in_cause, main)
    beats: dict[str, _Beat] = {  # a later one is painted over an earlier one
        "verification": _verification(layout, times),
        "drivers": (drivers_score(causes), _places(causes)),
        "timeframe": (
            _timeframe(layout, own_times, made_on=made_on, window_days=window_days),
            _places(own_times),
        ),
        "magnitude": (size.score, _places([size])) if size else (0.0, ()),
        "direction": _direction(layout, moves, main),
        "object": _object(layout, headline, moves, main),
    }
    return Beats(
        **{
            name: score * (layout.at(spans[0][0]).flow if spans else 0.0)
            for name, (score, spans) in beats.items()
        },
        spans=_paint(text, beats),
        sign=_sign(layout, sizes, moves, main),
        magnitude_value=text[size.start : size.end] if size else None,
        dates=(own_times[0].first, own_times[0].last) if own_times and made_on else None,
        drivers_named=tuple(text[c.start : c.end] for c in causes),
        probability=chances[0].value if chances else None,
    )


def _directional(layout: Layout, taken: bytearray) -> list[DirectionWord]:
    """What says a direction in claims: no causes, stances, names or parts of numbers."""
    text = layout.text
    return [
        w
        for w in direction_words(text)
        if not w.in_driver
        and layout.is_claim(w.start)
        and not taken[w.start]
        and text[w.start : w.end].casefold() not in _STANCES
        and (text[w.start].islower() or not text[layout.at(w.start).start : w.start].strip())
    ]


def _find_causes(layout: Layout, taken: bytearray, *, ends: set[int]) -> list[Cause]:
    text = layout.text

    def clause_ended(offset: int) -> bool:
        while offset and text[offset - 1].isspace():
            offset -= 1
        return text[offset - 1 : offset] == "," or offset in ends

    def is_free(offset: int) -> bool:
        return not taken[offset]

    return [
        cause
        for s in layout.sentences
        for cause in find_causes(
            text, start=s.start, end=s.check, clause_ended=clause_ended, is_free=is_free
        )
    ]


def _main_claim(layout: Layout, moves: list[DirectionWord]) -> Sentence:
    """The first claim that says a direction, else the first claim."""
    if moves:
        return layout.at(moves[0].start)
    claims = (s for s in layout.sentences if s.check > s.start)
    return next(claims, layout.sentences[0])


def _object(layout: Layout, headline: str, moves: list[DirectionWord], main: Sentence) -> _Beat:
    verbs = {w.start for w in moves if not _NOUN_AFTER.match(layout.text, w.end)}
    score, span = subject_score(
        layout.text, headline, start=main.start, end=main.check, verbs=verbs
    )
    return score, [span] if span else []


def _direction(layout: Layout, moves: list[DirectionWord], main: Sentence) -> _Beat:
    """1 for one direction, 0.8 for a mixed one, at most 0.5 for a hedge both ways.

    A claim apart from the main one is heard if it says may, might or could.
    """
    words = [w for w in moves if layout.at(w.start) is main or _is_maybe(layout, w)]
    words = [w for w in words if w.is_verb] or words
    signs = [w.sign for w in words if w.sign]
    score = 1.0 if words else 0.0
    if len(set(signs)) > 1:
        score = _MIXED
        if any(
            a.sign * b.sign < 0 and _HEDGE.search(layout.text, a.end, b.start)
            for a, b in pairwise(words)
        ):
            score = _HEDGED * max(signs.count(1), signs.count(-1)) / len(signs)
    return score, _places(words)


def _is_maybe(layout: Layout, word: DirectionWord) -> bool:
    sentence = layout.at(word.start)
    return bool(_MAYBE.search(layout.text, sentence.start, sentence.check))


def _sign(
    layout: Layout, sizes: list[Size], moves: list[DirectionWord], main: Sentence
) -> int | None:
    """Of the main claim, read without its numbers: "a quarter point" says no direction."""
    if not moves:
        return None
    claim = list(layout.text[main.start : main.check])
    for size in _numbers(sizes):
        if main.start <= size.start and size.end <= main.check:
            claim[size.start - main.start : size.end - main.start] = " " * (size.end - size.start)
    return direction_of("".join(claim))


def _main_size(
    layout: Layout, sizes: list[Size], moves: list[DirectionWord], main: Sentence
) -> Size | None:
    """The number nearest to the first directional word; a size in words if there is no number.

    A claim apart from the main one is heard if it says a direction too.
    """
    around = moves[0].start if moves else main.start
    moving = {main.start, *(layout.at(w.start).start for w in moves)}
    heard = [s for s in sizes if layout.at(s.start).start in moving]
    return min(
        heard,
        key=lambda s: (layout.at(s.start) is not main, s.is_verbal, abs(s.start - around)),
        default=None,
    )


def _own_times(
    layout: Layout, times: list[TimePhrase], in_cause: bytearray, main: Sentence
) -> list[TimePhrase]:
    """The times of the main claim; failing that, of other claims, of causes, of the check."""

    def rank(time: TimePhrase) -> int:
        if not layout.is_claim(time.start):
            return 3
        if in_cause[time.start]:
            return 2
        return 0 if layout.at(time.start) is main else 1

    first = min(map(rank, times), default=0)
    return [t for t in times if rank(t) == first]


def _timeframe(
    layout: Layout, times: list[TimePhrase], *, made_on: date | None, window_days: float
) -> float:
    """Mean nearness, so that a list of times earns no more than what it lists."""
    if not times:
        return 0.0
    near = sum(nearness(t, made_on=made_on, window_days=window_days) for t in times) / len(times)
    return near * (1.0 if layout.is_claim(times[0].start) else _TIME_IN_CHECK)


def _verification(layout: Layout, times: list[TimePhrase]) -> _Beat:
    """The best check."""
    timed = {layout.at(t.start).start for t in times if not layout.is_claim(t.start)}
    scored = [
        (check_score(layout.text[s.check : s.end], names_time=s.start in timed), s)
        for s in layout.sentences
        if s.check < s.end
    ]
    if not scored:
        return 0.0, ()
    score, best = max(scored, key=lambda pair: pair[0] * pair[1].flow)
    return score, [(best.check, best.end)]


def _numbers(sizes: Iterable[Size]) -> list[Size]:
    return [s for s in sizes if not s.is_verbal]


class _Placed(Protocol):
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


def _places(found: Iterable[_Placed]) -> list[tuple[int, int]]:
    return [(each.start, each.end) for each in found]


def _mask(text: str, spans: _Spans) -> bytearray:
    """1 for each character within a span."""
    mask = bytearray(len(text) + 1)
    for a, b in spans:
        mask[a:b] = b"\x01" * (b - a)
    return mask


def _paint(text: str, beats: dict[str, _Beat]) -> tuple[Span, ...]:
    """Spans without overlaps: where two beats stand, the later one in `beats` shows."""
    colours = bytearray(len(text))
    for colour, (_, spans) in enumerate(beats.values(), start=1):
        for a, b in spans:
            colours[a:b] = bytes([colour]) * (b - a)
    names = list(beats)
    painted: list[Span] = []
    end = 0
    for colour, run in groupby(colours):
        start, end = end, end + sum(1 for _ in run)
        piece = text[start:end]
        if colour and any(c.isalnum() for c in piece):
            left = start + len(piece) - len(piece.lstrip())
            painted.append(Span(names[colour - 1], left, start + len(piece.rstrip())))
    return tuple(painted)
