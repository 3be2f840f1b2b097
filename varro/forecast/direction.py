"""Which way a text says things go: directional words with negation, and their opposites. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

from varro.forecast.lexicon import LEXICON_VERSION, Entry, build_lexicon
from varro.forecast.vocabulary import (
    BAD,
    BE,
    BREAK,
    BURDENS,
    CAUSES,
    COMMON,
    COMPOUNDS,
    COPULAR,
    DEALS,
    DEFEATED,
    ENDING,
    GOOD,
    IGNORED,
    LASTING,
    LIFT,
    MODAL_VERBS,
    MODALS,
    NEEDS_MODAL,
    NEGATING_VERBS,
    NEGATORS,
    PRIZES,
    REACHING,
    RECORDS,
    STATES,
    STOPPING,
    STRIKE,
    TAKES,
    TRAIL,
    WINS,
)

DIRECTION_VERSION = f"direction-2/{LEXICON_VERSION}"

_VERBS, _PLAIN = build_lexicon()
_ENDED = Entry(-0.5, 1.0, None, True)
_LONGEST = max(map(len, [*_VERBS, *_PLAIN]))
_TOKEN = re.compile(r"[^\W\d_][\w'’-]*|\d[\d.,]*%?|[.!?;:,–—]")
_SENTENCE_END = frozenset(".!?;")
_NEGATING_PAIRS = frozenset(
    {("rule", "out"), ("rules", "out"), ("ruled", "out"), ("short", "of"), ("instead", "of"),
     ("rather", "than"), ("far", "from"), ("less", "likely"), ("prevented", "from"),
     ("no", "longer")}
)  # fmt: skip
_NOT_A_CAUSE = {
    "as": frozenset("expected many much high low well soon a an the planned".split()),
    "on": frozenset(
        """
    monday tuesday wednesday thursday friday saturday sunday january february march april may
    june july august september october november december track course schedule time hold record
    to the
    """.split()
    ),
}
_VERIFYING = re.compile(
    r"^\W*(?:verif|check|confirm|look for|watch for|proof|to be (?:verified|checked)|the test"
    r"|this (?:can|will) be (?:verified|checked|confirmed)|see the|measured)",
    re.IGNORECASE,
)
_REPORTING = re.compile(
    r"\b(?:will|would|should|can|could|may|to)\s+(?:\w+ly\s+)?(?:verify|confirm|show|prove|settle|tell"
    r"|list|record|announce|carry|give|report|say|reveal|publish|be the (?:test|proof|evidence))\b",
    re.IGNORECASE,
)
"""in a later sentence: who will tell whether it came so"""
_SINGULAR = {"are": "is", "were": "was"}
_KNOCK = frozenset("knock knocks knocked".split())
_CALL = frozenset("call calls called".split())
_FIRST = {("ahead", "of"), ("faster", "than"), ("better", "than"), ("clear", "of")}
_AMOUNTS = frozenset("a an one two three four five six at about around under over".split())
_SECOND = {("slower", "than"), ("worse", "than"), ("second", "to"), ("runner-up", "to")}
_REACH = 4
"""tokens that a negation reaches forward"""


@dataclass(frozen=True, slots=True)
class DirectionWord:
    """A word or phrase that says which way things go."""

    start: int
    end: int
    """character span"""
    level: float
    valence: float
    """sense, with negation applied; both 0 for a word that says that nothing moves"""
    is_verb: bool
    in_driver: bool
    """stands in a cause ("after", "as yields rise"), which is not what is forecast"""
    in_check: bool
    """stands in a sentence that says how to verify"""
    sentence: int
    opposite: str | None

    @property
    def sign(self) -> int:
        """+1 up or success, -1 down or failure, 0 as it was."""
        return int(math.copysign(1, self.level or self.valence)) if self.moves else 0

    @property
    def moves(self) -> bool:
        return bool(self.level or self.valence)


@dataclass(frozen=True, slots=True)
class Direction:
    """The main clause's sense: a vector, or `steady`."""

    level: float
    valence: float
    steady: bool


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    start: int
    end: int


def direction_words(text: str) -> list[DirectionWord]:
    """All directional words in their order; of overlapping phrases the longest."""
    tokens = _tokens(text)
    sentences, checks = _sentences(text, tokens)
    drivers = _driver_flags(tokens)
    names = _name_flags(text, tokens)
    found = []
    i = 0
    while i < len(tokens):
        entry, n = _longest_match(tokens, i)
        if entry is None or names[i]:
            i += 1
            continue
        sign = -1.0 if _negated(tokens, i) else 1.0
        if n == 1 and tokens[i].text in WINS and _is_passive([t.text for t in tokens], i):
            sign = -sign
        if entry.level or entry.valence or sign > 0:
            level, valence = _sense(tokens, i, n, entry)
            found.append(
                DirectionWord(
                    start=tokens[i].start,
                    end=tokens[i + n - 1].end,
                    level=sign * level,
                    valence=sign * valence,
                    is_verb=entry.is_verb,
                    in_driver=drivers[i],
                    in_check=checks[sentences[i]],
                    sentence=sentences[i],
                    opposite=entry.opposite,
                )
            )
        i += n
    return found


@lru_cache(maxsize=20_000)
def direction(text: str) -> Direction | None:
    """The sense of what is said to happen, or None if no word tells.

    The first sentence that has one speaks for the text; in it verbs weigh more than nouns and
    adjectives, earlier words more than later ones. Causes are heard only if nothing else speaks,
    and so is a check that opens the text; who will tell in a later sentence says nothing.
    """
    words = direction_words(text)
    main = [w for w in words if not w.in_driver and not w.in_check]
    main = main or [w for w in words if not w.in_check or not w.sentence]
    if not main:
        return None
    first = main[0].sentence
    level = valence = still = total = 0.0
    weight = 1.0
    for word in main:
        if word.sentence != first:
            break
        share = weight * (1.0 if word.is_verb else 0.35)
        level += share * word.level
        valence += share * word.valence
        still += 0.0 if word.moves else share
        total += share
        weight *= 0.7
    if still and not level:
        return Direction(0.0, 0.0, steady=True)
    if math.hypot(level, valence) < 0.2 * total:
        return None
    return Direction(level, valence, steady=False)


def direction_of(text: str) -> int | None:
    """+1 up or success, -1 down or failure, 0 unchanged, None if no word tells."""
    found = direction(text)
    if found is None:
        return None
    if found.steady:
        return 0
    strongest = found.level if abs(found.level) >= abs(found.valence) else found.valence
    return 1 if strongest > 0 else -1


@lru_cache(maxsize=20_000)
def agreement(forecast: str, outcome: str) -> int:
    """+1 if both texts say the same direction, -1 if opposite ones, 0 if that can not be told."""
    roles = _roles(forecast, outcome)
    if roles:
        return roles
    f, o = direction(forecast), direction(outcome)
    if f is None or o is None:
        denied = is_negated(forecast), is_negated(outcome)
        if f and denied == (False, True):
            return -int(math.copysign(1, f.valence)) if f.valence else 0
        return -1 if denied[0] != denied[1] else 0
    if f.steady or o.steady:
        if f.steady and o.steady:
            return 1
        return -1 if (f.level or o.level) else 0
    product = f.level * o.level + f.valence * o.valence
    cosine = product / (math.hypot(f.level, f.valence) * math.hypot(o.level, o.valence))
    if abs(cosine) < 0.3:
        return -1 if is_negated(forecast) != is_negated(outcome) else 0
    return 1 if cosine > 0 else -1


def is_negated(text: str) -> bool:
    """True if the first sentence's main clause denies something ("will not", "fails to")."""
    tokens = _tokens(text)
    drivers = _driver_flags(tokens)
    n = 0
    for i, token in enumerate(tokens):
        if token.text in _SENTENCE_END:
            break
        after = tokens[i + 1].text if i + 1 < len(tokens) else ""
        n += not drivers[i] and (
            token.text in NEGATORS
            or token.text.endswith("n't")
            or _is_negating_verb(token.text, after)
        )
    return n % 2 == 1


def flip(text: str) -> str:
    """The text with every directional word that has an opposite replaced by it."""
    parts = []
    last = 0
    for word in direction_words(text):
        if word.opposite is None:
            continue
        old = text[word.start : word.end]
        new = word.opposite.capitalize() if old[:1].isupper() else word.opposite
        parts += [text[last : word.start], new]
        last = word.end
    return "".join([*parts, text[last:]])


def _tokens(text: str) -> list[_Token]:
    return [_Token(m.group().lower().replace("’", "'"), *m.span()) for m in _TOKEN.finditer(text)]


def _longest_match(tokens: list[_Token], i: int) -> tuple[Entry | None, int]:
    """The entry of the longest phrase that begins at a token, and its length in tokens."""
    for n in range(min(_LONGEST, len(tokens) - i), 0, -1):
        phrase = tuple(_SINGULAR.get(t.text, t.text) for t in tokens[i : i + n])
        if n > 1 or _counts(tokens, i):
            if n == 1 and phrase[0] in LIFT and _near(tokens, i) & BURDENS:
                return _ENDED, 1
            if phrase in _VERBS and (n > 1 or _is_verb(tokens, i)):
                return _VERBS[phrase], n
            if phrase in _PLAIN:
                return _PLAIN[phrase], n
    return None, 1


def _sense(tokens: list[_Token], i: int, n: int, entry: Entry) -> tuple[float, float]:
    """Level and valence of a word beside the noun it speaks of: fewer outages are good, and to
    trim losses is to do better."""
    if not entry.is_verb or entry is _ENDED:
        return entry.level, entry.valence
    of = _polarity(tokens[i + n : i + n + 4]) or _polarity(tokens[max(0, i - 5) : i][::-1])
    word = tokens[i].text
    if of and word in ENDING and (word not in _CALL or tokens[i + 1].text == "off"):
        return 0.5 * min(entry.level, 0.0), -of
    if of and word in LASTING:
        return entry.level, abs(entry.valence) * of
    if word in REACHING and any(t.text[0].isdigit() for t in tokens[i + 1 : i + 3]):
        return 1.0, 0.7 * of
    if entry.level and not entry.valence:
        return entry.level, 0.7 * of * entry.level
    if of < 0 and entry.level * entry.valence > 0:
        return entry.level, -entry.valence
    return entry.level, entry.valence


def _polarity(tokens: list[_Token]) -> float:
    """−1 or +1 of the first noun that is bad or good to have more of, 0 if there is none before
    the clause ends."""
    for token in tokens:
        if not token.text[0].isalnum() or token.text in CAUSES or token.text == "from":
            break
        if token.text in BAD:
            return -1.0
        if token.text in GOOD:
            return 1.0
        plain = _PLAIN.get((token.text,))
        if plain is not None and plain.valence and not plain.level:
            return math.copysign(1.0, plain.valence)
    return 0.0


def _counts(tokens: list[_Token], i: int) -> bool:
    """False for a word that is in the lexicon but is something else here."""
    word = tokens[i].text
    after = tokens[i + 1].text if i + 1 < len(tokens) else ""
    if word in IGNORED or _is_negating_verb(word, after):
        return False
    if word in COPULAR and STATES & {t.text for t in tokens[i + 1 : i + 3]}:
        return False
    if word == "losing" and after in ("streak", "run", "skid"):
        return False
    if after in COMPOUNDS or (word == "left" and i and tokens[i - 1].text == "the"):
        return False
    if word in STRIKE and _near(tokens, i) & DEALS:
        return False
    if word in BREAK and _near(tokens, i) & RECORDS:
        return False
    if word in ("more", "less", "fewer", "above", "below") and after == "than":
        return word == "fewer"
    if word == "more" and after and not after[0].isalpha():
        return False
    return not (word in ("up", "down") and after == "to")


def _near(tokens: list[_Token], i: int) -> set[str]:
    """The four words before and the five that follow."""
    return {t.text for t in [*tokens[max(0, i - 4) : i], *tokens[i + 1 : i + 6]]}


def _is_verb(tokens: list[_Token], i: int) -> bool:
    """False for a base form that is something else unless a modal or `to` stands before it."""
    before = tokens[i - 1].text if i else ""
    return tokens[i].text not in NEEDS_MODAL or before in MODALS or before.endswith("n't")


def _is_negating_verb(word: str, after: str) -> bool:
    if word in STOPPING:
        return after.endswith("ing")
    return word in NEGATING_VERBS and after == "to"


def _negated(tokens: list[_Token], i: int) -> bool:
    """An odd number of negations before a word, in its clause."""
    n = 0
    for j in range(i - 1, max(-1, i - 1 - _REACH), -1):
        word = tokens[j].text
        if not (word[0].isalnum() or word == "'"):
            break
        after = tokens[j + 1].text
        negating = (
            (word in NEGATORS and (word, after) != ("no", "longer"))
            or word.endswith("n't")
            or _is_negating_verb(word, after)
            or ((word, after) in _NEGATING_PAIRS and j + 2 <= i)
        )
        n += negating
        if word in ("neither", "nor"):
            break
        if word in ("but", "and", "or", "than") and not negating:
            break
    return n % 2 == 1


def _driver_flags(tokens: list[_Token]) -> list[bool]:
    """For each token whether it stands in a cause: from its marker to the sentence's end, or to the
    clause that is forecast, if that follows it."""
    flags = []
    inside = told = False
    last_modal = _last_modals(tokens)
    for i, token in enumerate(tokens):
        word = token.text
        after = tokens[i + 1].text if i + 1 < len(tokens) else ""
        before = tokens[i - 1].text if i else ""
        if word in _SENTENCE_END:
            inside, told = False, False
        elif word in MODAL_VERBS:
            inside, told = inside and told, True
        elif word in (",", "–", "—"):
            inside = inside and last_modal[i] < i
        elif (
            word in CAUSES
            and after not in _NOT_A_CAUSE.get(word, ())
            and not after[:1].isdigit()
            and before not in BE
        ):
            inside = True
        elif word == "by" and before.endswith(("ed", "en", "led", "hurt", "up", "back")):
            inside = inside or not after[:1].isdigit()
        elif word == "with" and before == ",":
            inside = True
        flags.append(inside)
    return flags


def _last_modals(tokens: list[_Token]) -> list[int]:
    """For each token the place of its sentence's last modal verb, or of the sentence's end if it
    has none: in a title the clause after the comma may be the news."""
    found = [0] * len(tokens)
    start, last = 0, -1
    for i, token in enumerate(tokens):
        if token.text in MODAL_VERBS:
            last = i
        if token.text in _SENTENCE_END or i == len(tokens) - 1:
            found[start : i + 1] = [last if last >= 0 else i] * (i + 1 - start)
            start, last = i + 1, -1
    return found


def _name_flags(text: str, tokens: list[_Token]) -> list[bool]:
    """For each token whether a capital inside a sentence marks it as a name ("Manchester United").
    A title with nearly every word capitalised marks none."""
    words = [t for t in tokens if len(t.text) > 3 and t.text[0].isalpha()]
    capitals = sum(text[t.start].isupper() for t in words)
    if capitals > 0.8 * len(words):
        return [False] * len(tokens)
    first = [i == 0 or tokens[i - 1].text in _SENTENCE_END | {":"} for i in range(len(tokens))]
    return [
        text[t.start].isupper() and not at_start for t, at_start in zip(tokens, first, strict=True)
    ]


def _sentences(text: str, tokens: list[_Token]) -> tuple[list[int], list[bool]]:
    """The number of each token's sentence, and of each sentence whether it is a check."""
    numbers, starts, n = [], [0], 0
    for token in tokens:
        numbers.append(n)
        if token.text in _SENTENCE_END or (token.text == ":" and text[token.end :][:1] == " "):
            n += 1
            starts.append(token.end)
    ends = [*starts[1:], len(text)]
    return numbers, [
        bool(
            _VERIFYING.match(text[start : start + 80])
            or (start and _REPORTING.search(text[start:end]))
        )
        for start, end in zip(starts, ends, strict=True)
    ]


def _roles(forecast: str, outcome: str) -> int:
    """+1 if both name one winner, -1 if one's winner is the other's loser, 0 if it is not told."""
    f, o = _contestants(forecast), _contestants(outcome)
    if f is None or o is None:
        return 0
    same = len(f[0] & o[0])
    crossed = len(f[0] & o[1]) + len(o[0] & f[1])
    return 0 if same and crossed else (1 if same else 0) - (1 if crossed else 0)


def _contestants(text: str) -> tuple[set[str], set[str]] | None:
    """Names of the winner, and names in the rest of the clause, of the first verb of contest."""
    tokens = [m.group().lower().replace("’", "'") for m in _TOKEN.finditer(text)]
    for i, word in enumerate(tokens):
        end = next((j for j in range(i, len(tokens)) if tokens[j] in _SENTENCE_END), len(tokens))
        start = next((j + 1 for j in range(i, -1, -1) if tokens[j] in _SENTENCE_END), 0)
        after = tokens[i + 1] if i + 1 < len(tokens) else ""
        before, rest = _names(tokens[start:i]), _names(tokens[i + 1 : end])
        if word in DEFEATED and "to" in tokens[i + 1 : min(end, i + 8)]:
            return _names(tokens[tokens.index("to", i + 1) + 1 : end]), before
        if (word in WINS and not (word in _KNOCK and after != "out")) or (
            word in TAKES and PRIZES & set(tokens[i + 1 : i + 4])
        ):
            negated = any(t in NEGATORS or t.endswith("n't") for t in tokens[max(0, i - 4) : i])
            return (rest, before) if negated != _is_passive(tokens, i) else (before, rest)
        if tuple(tokens[i : i + 2]) in _FIRST:
            return before, rest
        if word in TRAIL or tuple(tokens[i : i + 2]) in _SECOND:
            return rest, before
    return None


def _is_passive(words: list[str], i: int) -> bool:
    """ "Beaten by Korea" and "was edged by Fury", but neither "beat them by" nor "won by 3"."""
    for j in range(i + 1, min(i + 4, len(words) - 1)):
        if words[j] == "by":
            is_amount = words[j + 1][0].isdigit() or words[j + 1] in _AMOUNTS
            is_participle = bool(BE & set(words[max(0, i - 2) : i])) or words[i].endswith(
                ("ed", "en")
            )
            return is_participle and not is_amount
    return False


def _names(tokens: list[str]) -> set[str]:
    known = MODALS | CAUSES | COMMON
    return {
        t.removesuffix("'s") for t in tokens if len(t) > 2 and t[0].isalpha() and t not in known
    }
