"""What a forecast claims, on what grounds, and how it says that can be checked. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from varro.forecast.timeframe import TIME_WORDS
from varro.forecast.words import STOPWORDS, WORD, flow, sentence_spans

_VAGUE = frozenset(
    """sentiment news trend trends event events caution factor factors condition conditions
    uncertainty development developments market markets investor investors global seasonal general
    wider broader regional recent latest official comment comments report reports public interest
    steady early trading activity dynamics situation issue issues things various certain overall
    current ongoing potential policy several other key main outlook expectations mood momentum
    concerns""".split()
)
_EMPTY = frozenset("close closing open opening bell session result expected".split())
_LIST_ENDS = frozenset(
    """according which while though although whereas but or will would could should may might can
    must reaching leaving making verify verified check checked confirm confirmed""".split()
)
_PARTICIPLES = """driven led helped supported fuelled fueled boosted lifted hurt hit pushed
    pressured weighed spurred sparked triggered prompted buoyed underpinned caused aided dragged
    dented powered propelled bolstered stoked encouraged held carried pulled"""
_MARKER = re.compile(
    rf"\b(?:(?:{'|'.join(_PARTICIPLES.split())})\s(?:(?:up|down|back|on|along)\s)?by"
    r"|because(?:\sof)?|due\sto|owing\sto|thanks\sto|on\sthe\sback\sof|as\sa\sresult\sof"
    r"|in\s(?:response|reaction)\sto|on\s(?:news|account)\sof|amid(?:st)?|given|after(?!\s\d)"
    r"|(?<!the\s)following"
    r"|(?:drivers?|reasons?|causes?|catalysts?)(?:\s(?:is|are|include|includes|will\sbe|being)|:)"
    r"|(?P<loose>as|since|on|with))\s",
    re.IGNORECASE,
)
"""`loose` markers have other uses: they name a cause where a clause has ended before them"""
_OTHER_USE = re.compile(
    r"(?:a\sresult|well|much|many|expected|of|shown|measured|reported|usual|such|far|long|soon"
    r"|if|though|seen|confirmed|published|verified|track|record|average|\d|no\s|at\s|the\snext"
    r"|(?:a\s)?(?:\w{1,9}\s)?(?:probability|confidence|chance))"
)
_ON_A_PLACE_OR_DAY = re.compile(
    r"(?:the\s)?[A-Z]|(?:\w{1,9}\s){0,2}(?:day|night|weekend|morning|evening)\b"
)
_CLAUSE = re.compile(
    r"(?:[^\s,.;:]{1,20}\s){1,6}(?:is|are|was|were|has|have|had|remains?|[a-z]{3,12}ed)\b"
)
_AND = re.compile(r",|:|—|–|(?<![\w-])and(?![\w-])|\bplus\b|\bas\swell\sas\b", re.IGNORECASE)

_CHECKS = "verify|check|confirm|validate|compare|track|consult|monitor|measure"
_CHECKED = "verified|checked|confirmed|validated|measured|tracked|judged|settled|tested"
_CHECK_FIRST = re.compile(
    r"[^\w]{0,4}(?:(?:to|please|then|and|finally,?|(?:readers|one|we|you|anyone)\s(?:can|could"
    rf"|should|may|will))\s)?(?:{_CHECKS}|{_CHECKED}|(?:an?\s|the\s)?(?:simple\s|clear\s|key\s)?"
    r"(?:check|test|proof|evidence|confirmation|verification))\b",
    re.IGNORECASE,
)
_CHECK_LATER = re.compile(r"\W{0,4}(?:look\s(?:for|at|up)|watch|see|read)\s", re.IGNORECASE)
_CHECK_INSIDE = re.compile(
    r"\b(?:verif(?:y|ied|iable|ication)|checkable)\s(?:with|by|in|against|from|on|at|through|via"
    r"|using|whether|if|when|the|this|that|it|of)\b"
    rf"|(?<=[,:(–—])\s?(?:as\s)?(?:{_CHECKED}|shown|seen)\s(?:by|in|with|against|from|on|if|when)\b"
    rf"|\b(?:{_CHECKED})\s(?:by|in|with|against)\s"
    r"(?=[^.;,]{0,40}\b(?:reports?|data|figures?|close|closing|statements?|filings?|release|index"
    r"|results?)\b)"
    r"|\bas\s(?:measured|shown|seen|reported|recorded|reflected|published)\s(?:by|in|on)\b"
    r"|\b(?:this|that|it|which)\s(?:(?:can|could|should|will|may|would|must)\s)?(?:is\s|be\s)"
    rf"(?:{_CHECKED})\b",
    re.IGNORECASE,
)
_EVIDENCE = re.compile(
    r"\b(?:reports?|data|figures?|close|closing|prices?|statements?|filings?|releases?|index"
    r"|announcements?|bulletins?|minutes|results?|tally|counts?|votes?|surveys?|records?|statistics"
    r"|numbers?|website|site|page|press|papers|scoreboard|scorecard|score|standings|rankings?|table"
    r"|transcripts?|rulings?|docket|opinions?|charts?|quotes?|headlines?|census|auction|gauges?"
    r"|readings?|satellite|images?|photos|pictures|notices?|declaration|classification|journal"
    r"|gazette|prospectus|list|sheets?|livestream|stream|webcast|telemetry|dashboard"
    r"|advisor(?:y|ies)|settlement|rates?|polls?|updates?|letters?|communiqu[eé]|box\sscore"
    r"|roll\scall|feed|map)\b",
    re.IGNORECASE,
)
_OFFICES = re.compile(
    r"\b(?:agency|office|bureau|ministry|department|commission|exchange|central\sbank|league|court"
    r"|parliament|association|authority|company|committee|observatory|institute|regulator"
    r"|officials?|government|council|service|union|federation|airline|hospital|university|morning"
    r"|evening|daily)\b",
    re.IGNORECASE,
)
_SHOWS = re.compile(
    r"\b(?:shows?|confirms?|settles?|proves?|records?|lists?|decides?|tells?|gives?|posts?"
    r"|publish(?:es)?|announces?|carry|carries|states?|notes?|reports?|updates?|spell|bears?"
    r"|(?:is|are|be)\s(?:the\s(?:test|proof|evidence)|public|published|final|read"
    r"|released|posted|declared|announced))\b",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"\b(?:not|no|never|cannot|can[’']t|without|(?:hard|difficult|impossible|unable)\sto)"
    r"\s(?:be\s)?\Z",
    re.IGNORECASE,
)
_CHECK_WORDS = frozenset(
    """verify verified verifiable verification check checked checks confirm confirmed confirmation
    test proof evidence look watch see compare track""".split()
)

_WEAK, _PER_WORD, _WORDS = 0.4, 0.15, 2
_SECOND = 3 / 7
"""worth of each further cause: two specific ones make 1"""
_CHECK, _KIND, _SPECIFIC, _SOURCE = 0.4, 0.3, 0.1, 0.2
_SHOW_REACH = 90
"""characters in which a source has come to what it does"""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A claim, a check, or first the one and then the other."""

    start: int
    check: int
    """where its check begins; its end if it has none"""
    end: int
    flow: float
    """1 for prose, less for a heap of words"""


@dataclass(frozen=True, slots=True)
class Layout:
    """A text's sentences."""

    text: str
    sentences: tuple[Sentence, ...]
    starts: tuple[int, ...]

    def at(self, offset: int) -> Sentence:
        return self.sentences[max(0, bisect_right(self.starts, offset) - 1)]

    def is_claim(self, offset: int) -> bool:
        return offset < self.at(offset).check


@dataclass(frozen=True, slots=True)
class Cause:
    """A named driver."""

    marker: int
    """where its marker begins: "driven by" """
    start: int
    end: int
    strength: float
    """0.4 for a vague one or a single word, 0.7 for two telling words"""


def lay_out(text: str) -> Layout:
    """Sentences, and where their checks begin."""
    sentences = tuple(
        Sentence(a, _check_start(text, start=a, end=b, is_first=n == 0), b, flow(text[a:b]))
        for n, (a, b) in enumerate(sentence_spans(text))
    )
    return Layout(text, sentences, tuple(s.start for s in sentences))


def find_causes(
    text: str,
    *,
    start: int,
    end: int,
    clause_ended: Callable[[int], bool],
    is_free: Callable[[int], bool],
) -> list[Cause]:
    """Causes named between two offsets, each once.

    `clause_ended` says whether a clause may have ended before an offset; `is_free` is false where
    a time stands.
    """
    markers = [
        m
        for m in _MARKER.finditer(text, start, end)
        if not m["loose"] or _is_cause(m, clause_ended=clause_ended, is_free=is_free)
    ]
    causes: list[Cause] = []
    known: set[tuple[str, ...]] = set()
    bounds = [*(m.start() for m in markers[1:]), end]
    for marker, bound in zip(markers, bounds, strict=False):
        for a, b in _items(text, marker.end(), bound):
            words = [m for m in WORD.finditer(text, a, b) if is_free(m.start())]
            telling = tuple(w for m in words if _tells(w := m[0].casefold()))
            if telling and telling not in known:
                known.add(telling)
                causes.append(
                    Cause(marker.start(), words[0].start(), words[-1].end(), _strength(telling))
                )
    return causes


def drivers_score(causes: list[Cause]) -> float:
    """The strongest cause and 3/7 of each other one, up to 1."""
    strengths = sorted((c.strength for c in causes), reverse=True)
    return min(1.0, sum(strengths[:1]) + _SECOND * sum(strengths[1:]))


def check_score(check: str, *, names_time: bool) -> float:
    """0.4 for a check, 0.4 for concrete evidence, 0.2 for who publishes it or when."""
    words = [m[0] for m in WORD.finditer(check)]
    content = [
        w
        for w in words
        if w.casefold() not in STOPWORDS | TIME_WORDS | _CHECK_WORDS and not w[0].isdigit()
    ]
    score = _CHECK
    if _EVIDENCE.search(check):
        score += _KIND + (_SPECIFIC if len(content) > 1 else 0.0)
    named = any(w[0].isupper() and w in content for w in words[1:])
    if not _EVIDENCE.search(check) and named:
        score += _SOURCE
    if names_time or named or _OFFICES.search(check):
        score += _SOURCE
    return score


def _check_start(text: str, *, start: int, end: int, is_first: bool) -> int:
    """Where a sentence begins to say how the forecast is checked; `end` if it does not.

    A source that shows something ("The minutes will confirm it") is a check after the first
    sentence only: the first one may forecast what a report will show.
    """
    if _CHECK_FIRST.match(text, start, end):
        return start
    if not is_first:
        source = _EVIDENCE.search(text, start, end) or _OFFICES.search(text, start, end)
        reach = min(end, source.end() + _SHOW_REACH) if source else end
        if _CHECK_LATER.match(text, start, end) or (
            source and _SHOWS.search(text, source.end(), reach)
        ):
            return start
    for cue in _CHECK_INSIDE.finditer(text, start, end):
        if not _NEGATED.search(text, max(start, cue.start() - 30), cue.start()):
            return cue.start()
    return end


def _is_cause(
    marker: re.Match[str], *, clause_ended: Callable[[int], bool], is_free: Callable[[int], bool]
) -> bool:
    text, after = marker.string, marker.end()
    word = marker["loose"].lower()
    if _OTHER_USE.match(text, after) or not is_free(marker.start()) or not is_free(after):
        return False
    if word == "on" and _ON_A_PLACE_OR_DAY.match(text, after):
        return False
    return clause_ended(marker.start()) or (
        word in ("as", "since") and bool(_CLAUSE.match(text, after))
    )


def _items(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of a list of causes, up to where the sentence goes on to something else."""
    bounds = [(m.start(), m.end()) for m in _AND.finditer(text, start, end)]
    for n, (a, b) in enumerate(
        zip([start, *(b for _, b in bounds)], [*(a for a, _ in bounds), end], strict=True)
    ):
        words = {m[0].casefold() for m in WORD.finditer(text, a, b)}
        if n and words & _LIST_ENDS:
            return
        yield a, b


def _tells(word: str) -> bool:
    return (
        word not in STOPWORDS
        and word not in TIME_WORDS
        and word not in _EMPTY
        and (not word[0].isdigit())
    )


def _strength(words: tuple[str, ...]) -> float:
    telling = sum(word not in _VAGUE for word in words)
    return _WEAK + (_PER_WORD * min(_WORDS, telling) if len(words) > 1 else 0.0)
