"""What a headline is about, and whether a forecast speaks of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Container
from itertools import islice

from varro.forecast.direction import direction_words
from varro.forecast.timeframe import TIME_WORDS
from varro.forecast.words import STOPWORDS, WORD, is_acronym, stem

_VERBS = frozenset(
    """will would could should may might can must shall won't can't cannot is are was were has have
    had looks look appears appear seems remains remain stays""".split()
)
_OPINIONS = frozenset("expect expects think believe forecast predict anticipate see say".split())
"""verbs before the forecast itself: "we expect Apple to rise" """
_HEADLINE_VERBS = frozenset(
    """accuses adds aims announces approves asks awaits backs bans begins blocks brings buys calls
    claims closes confirmed confirms considers delays denies dies ends eyes faces fails fears fights
    files finds forces gets gives heads helps hinges hits holds hopes keeps kills launches leaves
    makes meets misses moves names needs nears opens orders pays plans plots pulls pushes puts
    raises reaches readies rejects reports returns reveals reviews rules says seeks sees sells set
    shows signs stakes starts strikes struggles sues suspends takes targets tells threatens told
    tries turns unveils urges visits votes vows wants warns weighs wins""".split()
)
_HEAD_ENDS = (
    _VERBS
    | _HEADLINE_VERBS
    | frozenset("to as after amid because due despite following over thanks".split())
)
_NO_KEYS = (
    STOPWORDS
    | TIME_WORDS
    | frozenset("opinion analysis exclusive breaking watch live video explainer".split())
)

_SUBJECT_WORDS = 24
"""words in which a forecast must have come to its verb"""
_FULL_WEIGHT = 4.0
"""two names, or a name and two other words"""
_NAME, _OTHER = 2.0, 1.0
_AFTER_HEAD = 0.5
"""worth of a word behind the headline's first verb, before which stands whom it is about"""
_NO_VERB = 0.5


def subject_score(
    text: str, headline: str, *, start: int, end: int, verbs: Container[int]
) -> tuple[float, tuple[int, int] | None]:
    """Share of the headline's key words in a claim's subject, and where they stand in the text.

    The claim is `text[start:end]`, `verbs` the offsets of further words that may be its verb. Half
    if it comes to no verb.
    """
    weights, whole = key_words(headline)
    subject, has_verb = _subject(text, start=start, end=end, verbs=verbs)
    found = [m for m in subject if any(stem(p) in weights for p in _pieces(m[0]))]
    if not found:
        return 0.0, None
    stems = {stem(piece) for m in found for piece in _pieces(m[0])}
    score = min(1.0, sum(weights.get(each, 0.0) for each in stems) / whole)
    return score * (1.0 if has_verb else _NO_VERB), (found[0].start(), found[-1].end())


def key_words(headline: str) -> tuple[dict[str, float], float]:
    """Stem to weight of a headline's content words, and the weight that counts as all of them.

    Names weigh double; words behind the first verb half, so that "the broader market" is not what
    "Apple falls with the broader market" is about.
    """
    verbs = {w.start for w in direction_words(headline) if w.is_verb}
    is_shouted = headline.isupper()
    weights: dict[str, float] = {}
    head = 0.0
    in_head = True
    for match in WORD.finditer(headline):
        word = match[0].casefold()
        if match.start() in verbs or word in _HEAD_ENDS:
            in_head = in_head and not weights
            continue
        if word.isdigit() or (word in _NO_KEYS and (is_shouted or not is_acronym(match[0]))):
            continue
        is_name = match[0][0].isupper() and not is_shouted
        weight = (_NAME if is_name else _OTHER) * (1.0 if in_head else _AFTER_HEAD)
        for piece in _pieces(match[0]):
            if stem(piece) not in weights:
                weights[stem(piece)] = weight
                head += weight if in_head else 0.0
    return weights, min(_FULL_WEIGHT, head) or 1.0


def _subject(
    text: str, *, start: int, end: int, verbs: Container[int]
) -> tuple[list[re.Match[str]], bool]:
    """Words before the first verb that has a subject, and whether there is a verb at all.

    "There will be" and "We expect" are passed over.
    """
    subject: list[re.Match[str]] = []
    has_verb = False
    for match in islice(WORD.finditer(text, start, end), _SUBJECT_WORDS):
        word = match[0].casefold()
        if word in _OPINIONS:
            subject = []
        elif match.start() in verbs or word in _VERBS:
            if any(m[0].casefold() not in STOPWORDS or is_acronym(m[0]) for m in subject):
                return subject, True
            subject = []
            has_verb = True
        else:
            subject.append(match)
    return subject, has_verb


def _pieces(word: str) -> list[str]:
    return [piece for piece in word.split("-") if piece]
