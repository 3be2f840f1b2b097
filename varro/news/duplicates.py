"""Which headlines tell the same news again in nearly the same words. Pure.

A near-duplicate may differ in function words, inflection, punctuation, the order of its clauses,
a wire prefix ("UPDATE 1-") and a source suffix (" - Reuters"). Any other word, number or name that
differs makes other news: a pair that states something new is never called a duplicate, at the
price of a retold story now and then.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise

from rapidfuzz import fuzz

SIMILAR = 80.0
"""token_sort_ratio, 0 to 100: only pairs at least so alike are shown to the guard. Of 3,016 real
titles every pair within two days that passes the guard is above 95."""

_GLUE = frozenset("a an the and that is are was were has have had its their his her".split())
"""words that may come and go, whatever the order of the rest"""
_SMALL = frozenset("of in on at as amid".split())
"""prepositions that may come and go while the rest keeps its order; "to", "from", "for", "by",
"after" and their like are news ("to $60", "from $60")"""
_PREPOSITIONS = _SMALL | frozenset(
    "about after against before between by during for from into over since through to under until "
    "with without".split()
)
_NO_CONTENT = _GLUE | _PREPOSITIONS
_REPORTED = frozenset("say says said saying".split())
_SPELT = {
    word: str(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve".split()
    )
}
_SCALES = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
"""by the first letter of the scale, "thousand" excepted"""

_QUOTES = str.maketrans("‘’ʼ−", "'''-")
_INITIALS = re.compile(r"\b(?:[^\W\d_]\.)+[^\W\d_]\b\.?")
_NUMBERED_LETTER = re.compile(r"\b([A-Za-z])-(?=\d)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_INNER_AMPERSAND = re.compile(r"(?<=\w)&(?=\w)")
_QUESTION = re.compile(r"\?+")
# A decimal point, a sign before a number, per cent, a question mark, an apostrophe.
_MEANT = re.compile(r"(?<=\d)\.(?=\d)|(?<![\w.])\.(?=\d)|(?<![\w%])-(?=[$£€¥]?\.?\d)|[%?']")
_NUMBER = re.compile(
    r"(?<!\w)(?P<sign>[-+]?)(?P<currency>[a-z]{0,2}\$|[£€¥])?(?P<digits>\d+(?:\.\d+)?|\.\d+)"
    r"(?:(?P<scale>\s?(?:thousand|million|billion|trillion|mln|bln|mn|bn|tn)|[kmbt])\b)?"
    r"(?P<percent>\s?(?:%|(?:percent|per\s?cent|pct|pc)\b))?",
    re.I,
)
_SPELT_NUMBER = re.compile(rf"\b(?:{'|'.join(_SPELT)})\b", re.I)

_WIRE = r"(?:UPDATE|WRAPUP|RPT|REFILE|CORRECTED|EXCLUSIVE)(?:\s\d+)?\s?-\s?"
_LABEL = r"(?i:breaking(?: news)?|just in|live(?: updates?)?|exclusive|developing|watch|update)"
_PREFIX = re.compile(rf"^\W*(?:{_WIRE}|{_LABEL}(?:\s*[:|]|\s+[-–—])\s*)+")
_OUTLET = (
    r"Reuters|CNBC|BBC(?: News| Sport)?|Bloomberg|AP(?: News)?|Associated Press|AFP|CNN|NPR|DW|"
    r"WSJ|(?:The )?Wall Street Journal|FT|Financial Times|(?:The )?New York Times|NYT|"
    r"(?:The )?(?:Washington Post|Guardian|Economist|Times|Telegraph|Independent)|Sky News|ESPN|"
    r"Politico|Axios|Forbes|(?:Fox|NBC|ABC|CBS) News|Al Jazeera|Euronews|France 24|MarketWatch|"
    r"Yahoo Finance|Nature|[Uu]pdate|[Ll]ive"
)
_SUFFIX = re.compile(rf"(?:\s+[-–—|]\s*(?:{_OUTLET}))+\W*$")


class _NoPunctuation(dict[int, str | int]):
    """For str.translate: a space for each character of punctuation, others as they are. Filled as
    characters are met."""

    def __missing__(self, code: int) -> str | int:
        is_mark = code == ord("|") or unicodedata.category(chr(code)).startswith("P")
        self[code] = " " if is_mark else code
        return self[code]


_NO_PUNCTUATION = _NoPunctuation()


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    bases: frozenset[str]
    """the word, and what it may be an inflection of"""


@dataclass(frozen=True, slots=True)
class _Story:
    """A title as the guard reads it."""

    key: str
    words: tuple[_Word, ...]
    """in their order, numbers in one spelling, without glue and "says" """
    names: frozenset[str]
    """words that are surely names: acronyms, and capitals inside a title in sentence case"""
    capitalised: frozenset[str]
    is_reported: bool
    """someone says it"""

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


def title_key(title: str) -> str:
    """The title without case and punctuation: equal for one title in two spellings.

    Note: what carries meaning stays: symbols ("$", "%", "+", "?"), a number's sign and its point.
    """
    return _key(_plain(title)) or title


def _key(plain: str) -> str:
    return " ".join(plain.casefold().replace("'", "").split())


def is_near_duplicate(a: str, b: str) -> bool:
    """Whether two titles tell the same news in nearly the same words. Symmetric."""
    first, second = _story(a), _story(b)
    score = fuzz.token_sort_ratio(first.text, second.text)
    return first.key == second.key or (score >= SIMILAR and _is_same_news(first, second))


def without_near_duplicates(titles: Sequence[str], known: Sequence[str]) -> list[int]:
    """Indices of the titles that are no near-duplicate of a known one, in their order."""
    stories, others = [_story(t) for t in titles], [_story(t) for t in known]
    keys = {other.key for other in others}
    alike = _alike(stories, others)
    return [
        i
        for i, story in enumerate(stories)
        if story.key not in keys and not any(_is_same_news(story, others[j]) for j in alike[i])
    ]


def first_of_each(titles: Sequence[str]) -> list[int]:
    """Indices of the titles that near-duplicate no earlier one of them that is kept."""
    told = [_story(title) for title in titles]
    earliest: dict[str, int] = {}
    for i, story in enumerate(told):
        earliest.setdefault(story.key, i)
    indices = list(earliest.values())
    stories = [told[i] for i in indices]
    alike = _alike(stories, stories)
    kept: dict[int, int] = {}
    for n, story in enumerate(stories):
        if not any(j in kept and _is_same_news(story, stories[j]) for j in alike[n]):
            kept[n] = indices[n]
    return list(kept.values())


def _alike(stories: Sequence[_Story], others: Sequence[_Story]) -> list[list[int]]:
    """For each story the indices of the others that are similar enough to be compared.

    Note: two that tell the same news share every content word in some form, so only those are
    looked at that share the story's rarest one: a day of 100,000 titles has 5 thousand million
    pairs, and almost none of them.
    """
    forms = [frozenset(base for word in other.words for base in word.bases) for other in others]
    sizes = [(len(other.words), len(_without_small(other))) for other in others]
    holders: defaultdict[str, list[int]] = defaultdict(list)
    for j, bases in enumerate(forms):
        for base in bases:
            holders[base].append(j)

    def n_sharing(word: _Word) -> int:
        return sum(len(holders.get(base, ())) for base in word.bases)

    def near(story: _Story) -> list[int]:
        content = _without_small(story)
        n_words, n_content = len(story.words), len(content)
        words = sorted(content or story.words, key=n_sharing)
        if not words:
            return []
        found = sorted({j for base in words[0].bases for j in holders.get(base, ())})
        return [
            j
            for j in found
            if (sizes[j][0] == n_words or sizes[j][1] == n_content)
            and not any(word.bases.isdisjoint(forms[j]) for word in words[1:])
            and fuzz.token_sort_ratio(story.text, others[j].text, score_cutoff=SIMILAR)
        ]

    return [near(story) for story in stories]


def _is_same_news(a: _Story, b: _Story) -> bool:
    return (
        a.is_reported == b.is_reported
        and a.names <= b.capitalised
        and b.names <= a.capitalised
        and (_is_same(_without_small(a), _without_small(b)) or _is_turned(a.words, b.words))
    )


def _is_same(a: Sequence[_Word], b: Sequence[_Word]) -> bool:
    return 0 < len(a) == len(b) and not any(
        x.bases.isdisjoint(y.bases) for x, y in zip(a, b, strict=True)
    )


def _is_turned(a: Sequence[_Word], b: Sequence[_Word]) -> bool:
    """Whether b is a with its end put first: clauses change places so, and who did what to whom
    does not ("Iran strikes Israel" and "Israel strikes Iran" are no such turn)."""
    return len(a) == len(b) and any(_is_same([*a[n:], *a[:n]], b) for n in range(1, len(a)))


def _without_small(story: _Story) -> list[_Word]:
    return [word for word in story.words if word.text not in _SMALL]


def _story(title: str) -> _Story:
    bare = _SUFFIX.sub("", _PREFIX.sub("", title))
    text = _plain(bare)
    key = (_key(text) or title) if bare == title else title_key(title)
    text = _SPELT_NUMBER.sub(lambda m: _SPELT[m[0].casefold()], text)
    text = _NUMBER.sub(_one_spelling, text)
    cased = [word for piece in text.split() if (word := _without_possessive(piece))]
    folded = [word.casefold() for word in cased]
    return _Story(
        key=key,
        words=tuple(
            _Word(word, _bases(word, after))
            for word, after in pairwise([*folded, ""])
            if word not in _GLUE and word not in _REPORTED
        ),
        names=_folded(_names(cased)),
        capitalised=_folded(word for word in cased if word != word.lower()),
        is_reported=not _REPORTED.isdisjoint(folded),
    )


def _plain(title: str) -> str:
    """The title with its case and without punctuation that means nothing."""
    text = unicodedata.normalize("NFKC", title).translate(_QUOTES)
    text = _INITIALS.sub(lambda m: m[0].replace(".", ""), text)
    text = _NUMBERED_LETTER.sub(r"\1", text)
    text = _THOUSANDS.sub("", text)
    text = _INNER_AMPERSAND.sub("", text)
    text = _QUESTION.sub(" ? ", text)
    pieces, end = [], 0
    for match in _MEANT.finditer(text):
        pieces += [text[end : match.start()].translate(_NO_PUNCTUATION), match[0]]
        end = match.end()
    return "".join(pieces) + text[end:].translate(_NO_PUNCTUATION)


def _one_spelling(match: re.Match[str]) -> str:
    """A number as " $3000000000 ", whether it was $3bn, $3 billion or $3,000m."""
    scale = (match["scale"] or "").strip().casefold()
    factor = 10**3 if scale == "thousand" else _SCALES.get(scale[:1], 1)
    value = (Decimal(match["digits"]) * factor).normalize()
    currency = (match["currency"] or "").casefold().removeprefix("us")
    return f" {match['sign']}{currency}{value:f}{'%' if match['percent'] else ''} "


def _without_possessive(word: str) -> str:
    return re.sub(r"'[sS]$", "", word).replace("'", "") if "'" in word else word


def _bases(word: str, following: str) -> frozenset[str]:
    """The word, and the words it may be the plural, the -s, the -ing or the -ed form of.

    Note: a form in -ed before a preposition, a number or the end may be a passive and stands for
    itself: "Apple sued over patents" is not "Apple sues over patents".
    """
    return _forms(word, following[-1:].isalpha() and following not in _PREPOSITIONS)


@lru_cache(maxsize=1 << 16)
def _forms(word: str, is_active: bool) -> frozenset[str]:
    bases = {word}
    if word.endswith("s"):
        bases.add(word[:-1])
    if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        bases.add(word[:-2])
    if word.endswith(("ies", "ied")):
        bases.add(word[:-3] + "y")
    if word.endswith("ing") or (word.endswith("ed") and is_active):
        stem = word.removesuffix("ing").removesuffix("ed")
        bases |= {stem, stem + "e"}
        if stem[-1:] == stem[-2:-1]:
            bases.add(stem[:-1])
    return frozenset(base for base in bases if base == word or len(base) > 2)


def _names(words: Sequence[str]) -> list[str]:
    """Words that are surely names. In Title Case and in capitals most words look like one."""
    if not any(c.islower() for word in words for c in word):
        return []
    acronyms = [word for word in words if word[1:] != word[1:].lower()]
    is_sentence = any(
        word[0].islower() and len(word) > 3 and word not in _NO_CONTENT for word in words
    )
    return acronyms + [word for word in words[1:] if is_sentence and word[0].isupper()]


def _folded(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word.casefold() for word in words)
