"""The five beats of a forecast, found by words and grammar: a pure parser.

    object · direction + small magnitude · tight timeframe · named drivers · concrete verification

Each beat scores 0 to 1. Words are matched whole ("up" is not in "support").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BEATS_VERSION = "beats-1"

UP = frozenset(
    """rise rises rising rose risen gain gains gaining gained climb climbs climbing climbed
    increase increases increasing increased grow grows growing grew advance advances advancing
    advanced rally rallies rallying rallied jump jumps jumped surge surges surged up higher
    strengthen strengthens strengthened improve improves improved widen widens expand expands
    expanded recover recovers recovered rebound rebounds rebounded soar soars soared edge-up
    firmer upward accelerate accelerates""".split()
)
DOWN = frozenset(
    """fall falls falling fell fallen drop drops dropping dropped decline declines declining
    declined decrease decreases decreased slip slips slipping slipped slide slides slid lose
    loses losing lost weaken weakens weakened shrink shrinks shrank retreat retreats retreated
    tumble tumbles tumbled sink sinks sank plunge plunges plunged down lower ease eases eased
    narrow narrows narrowed cut cuts contract contracts contracted worsen worsens softer
    downward slow slows slowed""".split()
)
STOPWORDS = frozenset(
    """a an the of to in on at by for from with and or but as is are was were be been it its this
    that these those will would could should may might can has have had not no than then over
    after before into out about amid more most new says say said us we you they he she his her
    their our your what why how who when which will""".split()
)

_VERBS = frozenset(
    """will would should could may might can is are looks expect expected likely set""".split()
)
_MAX_SUBJECT = 12
"""words in which a forecast must have come to its verb"""

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
_MAGNITUDE = re.compile(
    rf"({_NUMBER})\s*(?:(?:-|–|to)\s*({_NUMBER})\s*)?"
    r"(%|percent\b|per cent\b|percentage points?\b|points?\b|basis points?\b|bps?\b|cents?\b)",
    re.IGNORECASE,
)
_WEEKDAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_TIMEFRAMES: tuple[tuple[float, re.Pattern[str]], ...] = tuple(
    (score, re.compile(pattern, re.IGNORECASE))
    for score, pattern in (
        (
            1.0,
            r"\b(?:tomorrow|(?:with)?in (?:the next )?(?:24|twenty-four) hours|within a day"
            rf"|(?:by|on|before) {_WEEKDAY}|(?:the )?next (?:trading |business )?day"
            r"|by the (?:next )?close|overnight)\b",
        ),
        (0.6, r"\b(?:this week|within (?:the |a )?week|within (?:[2-7]|two|three|five) days)\b"),
        (0.4, r"\bnext week\b"),
        (
            0.2,
            r"\b(?:(?:next|this|coming|within a) (?:month|quarter|year)s?"
            r"|coming (?:weeks|months))\b",
        ),
    )
)
_DRIVERS = re.compile(
    r"\b(?:driven by|because(?: of)?|due to|on the back of|thanks to|led by|owing to|helped by"
    r"|supported by|fuell?ed by|pushed by|weighed (?:down )?by|hurt by|as a result of)\s+([^.;]+)",
    re.IGNORECASE,
)
_VERIFY = re.compile(
    r"\b(?:verif\w+|check(?:s|ed)?|confirm(?:s|ed)?|measured by|as shown by|look for|proof)\b",
    re.IGNORECASE,
)
_EVIDENCE = re.compile(
    r"\b(?:report|data|figures?|close|closing|prices?|statements?|filings?|releases?|index"
    r"|publishes|published|announcement|bulletin|minutes|results?|tally|vote|survey|records?)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class Beats:
    """Scores in [0, 1]."""

    object: float
    direction: float
    magnitude: float
    timeframe: float
    drivers: float
    verification: float

    def format_score(self) -> float:
        """Mean of the five beats; direction and magnitude are one beat."""
        move = (self.direction + self.magnitude) / 2
        return (self.object + move + self.timeframe + self.drivers + self.verification) / 5


def parse_beats(text: str, headline: str) -> Beats:
    """The beats of a forecast about a headline."""
    words = content_words(text)
    return Beats(
        object=_object(text, headline),
        direction=_direction(text),
        magnitude=_magnitude(text),
        timeframe=max((score for score, p in _TIMEFRAMES if p.search(text)), default=0.0),
        drivers=_drivers(text),
        verification=_verification(text) if words else 0.0,
    )


def content_words(text: str) -> list[str]:
    """Lower-case words that are not stop words, in order."""
    found = (word.casefold() for word in _WORD.findall(text))
    return [word for word in found if word not in STOPWORDS]


def _object(text: str, headline: str) -> float:
    """Share of two headline words among the forecast's subject: what stands before its verb."""
    wanted = set(content_words(headline))
    if not wanted:
        return 0.0
    words = [word.casefold() for word in _WORD.findall(text)[:_MAX_SUBJECT]]
    verb = next((i for i, w in enumerate(words) if w in _VERBS or w in UP | DOWN), len(words))
    return min(1.0, len(wanted.intersection(words[:verb])) / min(2, len(wanted)))


def _direction(text: str) -> float:
    """1 for one direction, 0.5 for a hedge both ways, 0 for none."""
    words = {word.casefold() for word in _WORD.findall(text)}
    return {0: 0.0, 1: 1.0, 2: 0.5}[bool(words & UP) + bool(words & DOWN)]


def _magnitude(text: str) -> float:
    """1 for a small number with a unit (to 5 %, 50 basis points), less for a large one."""
    found = _MAGNITUDE.search(text)
    if not found:
        return 0.0
    size = max(float(n.replace(",", "")) for n in found.groups()[:2] if n)
    limit = 50.0 if found.group(3).casefold().startswith(("b", "c")) else 5.0
    return 1.0 if size <= limit else 0.5 if size <= 2 * limit else 0.2


def _drivers(text: str) -> float:
    """0.6 for one named driver of two words or more, 1 for two or more drivers."""
    found = _DRIVERS.search(text)
    if not found:
        return 0.0
    named = [part for part in re.split(r",|\band\b", found.group(1)) if content_words(part)]
    if sum(len(content_words(part)) for part in named) < 2:
        return 0.3
    return 1.0 if len(named) > 1 else 0.6


def _verification(text: str) -> float:
    """1 if a check is named with its evidence, 0.5 for a check alone."""
    for sentence in _SENTENCE.split(text):
        if _VERIFY.search(sentence):
            return 1.0 if _EVIDENCE.search(sentence) else 0.5
    return 0.0
