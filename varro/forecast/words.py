"""Words and sentences of a text. Pure."""

from __future__ import annotations

import re

STOPWORDS = frozenset(
    """a an the of to in on at by for from with and or but as is are was were be been it its this
    that these those will would could should may might can has have had not no than then over
    after before into out about amid more most new says say said us we you they he she his her
    their our your what why how who when which because due if while within through during between
    since so there any each every both above below under against near per at least most""".split()
)
WORD = re.compile(r"(?:[^\W\d_]\.){2,9}|\d{1,9}(?:[.,]\d{1,9}){1,4}|[^\W_][\w'’&-]*")
"""words and numbers; "U.S." and "2,000" are one word each"""

_LETTERS = re.compile(r"[^\W\d_][\w'’-]*")
_STOP = re.compile(r"[.!?;]+(?=[\"'”’)\]]{0,3}(?:\s|\Z))|\n+")
_ABBREVIATED = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Sen|Rep|Gov|Gen|Inc|Corp|Co|Ltd|vs|approx|Jan|Feb|Mar|Apr|Aug|Sept?"
    r"|Oct|Nov|Dec)|\b[^\W\d_])\.\Z"
)
_OPENER = re.compile(
    r"\s{1,3}(?:The|An?|It|This|That|These|Its?|In|On|By|Check|Verify|Confirm|Look|Watch|Key)\b"
)
"""how a sentence begins after an abbreviation that ends one: "... in the U.S. Check the ..." """
_WHOLE = 3
"""words of a sentence"""
_STRETCH = 7
"""content words in a row after which a word of grammar is due"""
_LONGEST_NAME = 4
"""words of a name that count as one"""


def content_words(text: str) -> list[str]:
    """Lower-case words that are not stop words, in order."""
    found = (word.casefold() for word in _LETTERS.findall(text))
    return [word for word in found if word not in STOPWORDS]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Where sentences, and parts divided by a semicolon or a new line, begin and end."""
    spans: list[tuple[int, int]] = []
    start = 0
    for stop in _STOP.finditer(text):
        is_abbreviated = stop[0] == "." and _ABBREVIATED.search(
            text, max(start, stop.start() - 8), stop.end()
        )
        if is_abbreviated and stop.end() < len(text) and not _OPENER.match(text, stop.end()):
            continue
        spans.append((start, stop.end()))
        start = stop.end()
    spans.append((start, len(text)))
    return [(a, b) for a, b in spans if not text[a:b].isspace() and a < b]


def stem(word: str) -> str:
    """A word without case, possessive, plural and the dots of an acronym."""
    word = word.casefold().replace(".", "").replace("’", "'").removesuffix("'s").rstrip("'")
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def flow(sentence: str) -> float:
    """How far some words are a sentence: 1 for prose, towards 0 for a heap of keywords.

    Twice the share of words in stretches of more than seven content words between two words of
    grammar is taken off; fewer than three words are less than a sentence.
    """
    words = WORD.findall(sentence)
    if not words:
        return 0.0
    heaped = units = length = name = 0
    for word in [*words, "the"]:
        if word.casefold() in STOPWORDS and not is_acronym(word):
            heaped += length if units > _STRETCH else 0
            units = length = name = 0
            continue
        name = name % _LONGEST_NAME + 1 if word[0].isupper() else 0
        units += name < 2
        length += 1
    return min(1.0, len(words) / _WHOLE) * max(0.0, 1.0 - 2.0 * heaped / len(words))


def is_acronym(word: str) -> bool:
    """Capitals only: "US" is not "us"."""
    return len(word) > 1 and word.isupper()
