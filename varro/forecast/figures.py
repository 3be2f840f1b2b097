"""Sizes and probabilities that a text states, as written and as numbers. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SMALL_PERCENT = 5.0
_SMALL_BASIS_POINTS = 50.0
_FALL = 0.75
"""exponent of the fall above a small size: 8 % 0.70, 20 % 0.35, 40 % 0.21"""
_LEVEL = 0.8
"""a percentage reached ("to 4.3%") is a size too, but says less of the move"""
_VERBAL_SMALL = 0.5
_VERBAL_LARGE = 0.2

_NAMED_NUMBERS = {
    "half a": 0.5, "a quarter": 0.25, "quarter": 0.25, "one": 1, "two": 2, "a couple of": 2,
    "three": 3, "a few": 3, "four": 4, "five": 5, "several": 5, "a handful of": 5, "six": 6,
    "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "a dozen": 12,
    "fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "a hundred": 100,
}  # fmt: skip
_COUNTED = """
    points? pts goals? runs? wickets? sets? strokes? shots? games? places? seats? votes? ballots?
    people jobs? posts? deaths? cases? homes? degrees? °C °F mm cm m km metres? meters? kilometres?
    kilometers? miles? inches feet barrels? tonnes? tons? minutes? seconds? cents? pence dollars?
    euros? pounds? yen rupees? million billion trillion
""".split()
_DIGITS = r"(?:\d{1,3}(?:,\d{3}){1,4}|\d{1,9})(?:\.\d{1,4})?"
_NAMED = "|".join(sorted(_NAMED_NUMBERS, key=len, reverse=True))
_NUMBER = rf"(?:{_DIGITS}|(?:{_NAMED})(?=[\s-])|(?<=\bby\s)a(?=\s))"
_NO_CHANCE = r"(?![\s-](?:(?:more|less)\s)?(?:likel|unlikel|chance|probab|odds|sure\b|certain))"
_UNIT = (
    rf"(?:(?P<percent>(?:%|per\s?cent\b|percentage[\s-]points?\b|pp\b){_NO_CHANCE})"
    r"|(?P<basis>basis[\s-]points?\b|bps?\b)"
    rf"|(?:of\sa\s|more\s|new\s|fewer\s|extra\s|additional\s)?(?:{'|'.join(_COUNTED)})\b)"
)
_SIZE = re.compile(
    rf"(?<![\w.,$€£¥])(?P<low>{_NUMBER})"
    rf"(?:\s?%?\s?(?:-|–|—|\bto\b|\band\b|\bor\b)\s?(?P<high>{_NUMBER}))?"
    rf"(?:\s(?:hundred|thousand)\b)?(?:\s|-)?{_UNIT}"
    rf"|[$€£¥]\s?{_DIGITS}(?:\s?(?:million|billion|trillion|bn|m|k)\b)?",
    re.IGNORECASE,
)
_LEVEL_BEFORE = re.compile(
    r"\b(?<!up\s)(?:to|at|above|below|reach|reaches|reaching)\s(?:about\s|around\s|nearly\s)?\Z",
    re.IGNORECASE,
)
_VERBAL = re.compile(
    r"\b(?:(?P<small>slightly|modestly|marginally|narrowly|mildly|fractionally|barely"
    r"|a\s(?:touch|bit|little|shade|tick|hair|tenth)|single[\s-]digits?"
    r"|by\sa\s(?:(?:slim|small|narrow|modest|tiny|slender|thin)\s)?(?:margin|amount)"
    r"|(?:slight|small|modest|marginal|minor|narrow|mild)\s(?=\w{1,12}\b)"
    r"|(?:by|about|around|roughly|nearly)\s(?:a\s(?:third|quarter|fifth|tenth)|half))"
    r"|(?P<large>sharply|significantly|substantially|dramatically|steeply|markedly|considerably"
    r"|at\sleast\sdouble|doubles?|triples?))\b",
    re.IGNORECASE,
)

_CHANCE = r"(?:probability|likelihood|chances?|odds|confidence)"
_SHARE = rf"(?P<p>{_DIGITS})(?:\s?(?:-|–|to)\s?(?P<high>{_DIGITS}))?\s?(?P<percent>%|per\s?cent)?"
_PROBABILITIES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?<![\w.,]){_SHARE}[\s-](?:likely\b|sure\b|certain|confident|{_CHANCE}\b)",
        rf"\b{_CHANCE}(?:\slevel)?\s?(?:of|is|at|:|=|being)?\s?(?:about\s|around\s|roughly\s)?"
        rf"{_SHARE}(?=[.,;:)]|\s(?:that|of|for|to|by|on|in)\b(?!\s\d)|\s?\Z)",
        rf"\b{_CHANCE}\s[^.;\d]{{1,60}}\s(?:is|are|at)\s(?:about\s|around\s|roughly\s)?"
        rf"{_SHARE}(?=[.,;:)]|\s?\Z)",
        r"(?<![\w.,])(?P<n>\d{1,3})\s(?:in|out\sof)\s(?P<of>\d{1,3})(?![\d%]|\.\d)"
        rf"(?=[.,;:)]|\s?\Z|\s(?:likely|that|{_CHANCE}|odds)\b)",
    )
)


@dataclass(frozen=True, slots=True)
class Size:
    """A size named in a text."""

    start: int
    end: int
    """character span"""
    score: float
    """1 for a small number with a unit, less for a large one, half for a small one in words"""
    is_verbal: bool = False


@dataclass(frozen=True, slots=True)
class Probability:
    """A probability stated in a text."""

    start: int
    end: int
    value: float
    """in [0, 1]; the middle of a range"""


def find_sizes(text: str) -> list[Size]:
    """Numbers with a unit in their order, then sizes in words."""
    numbers = [Size(*m.span(), _number_score(m)) for m in _SIZE.finditer(text)]
    words = [
        Size(
            m.start(),
            m.start() + len(m[0].rstrip()),
            _VERBAL_SMALL if m["small"] else _VERBAL_LARGE,
            is_verbal=True,
        )
        for m in _VERBAL.finditer(text)
    ]
    return numbers + words


def find_probabilities(text: str) -> list[Probability]:
    """ "70% likely", "a 70 percent chance", "probability of 0.7", "7 in 10", in their order."""
    found = sorted(
        (m for pattern in _PROBABILITIES for m in pattern.finditer(text)), key=lambda m: m.start()
    )
    kept: list[Probability] = []
    for match in found:
        value = _probability(match)
        if value is not None and (not kept or match.start() >= kept[-1].end):
            kept.append(Probability(*match.span(), value))
    return kept


def _number_score(match: re.Match[str]) -> float:
    """Continuous: 1 up to 5 % or 50 basis points, then (limit / size)^0.75; 1 for a count."""
    if not (match["percent"] or match["basis"]):
        return 1.0
    size = max(_number(match["low"]), _number(match["high"]))
    limit = _SMALL_PERCENT if match["percent"] else _SMALL_BASIS_POINTS
    if match["percent"] and _LEVEL_BEFORE.search(
        match.string, max(0, match.start() - 24), match.start()
    ):
        return _LEVEL
    return float((limit / max(size, limit)) ** _FALL)


def _number(text: str | None) -> float:
    if text is None:
        return 0.0
    if text[0].isdigit():
        return float(text.replace(",", ""))
    return _NAMED_NUMBERS.get(" ".join(text.lower().split()), 1.0)


def _probability(match: re.Match[str]) -> float | None:
    groups = match.groupdict()
    if groups.get("of"):
        value = float(groups["n"]) / max(1.0, float(groups["of"]))
    else:
        low = _number(groups["p"])
        value = (low + (_number(groups["high"]) or low)) / 2
        value /= 100.0 if groups["percent"] or value > 1.0 else 1.0
    return value if 0.0 <= value <= 1.0 else None
