"""Whether a text says that the same thing goes both ways: by grammar, not by meaning. Pure.

"May rise or fall" cannot be wrong, so it says nothing. Two things that go two ways ("gold will
rise and the dollar will fall") are two claims and no hedge.
"""

from __future__ import annotations

import re

from varro.reward.words import FUNCTION_WORDS, sentences_in, words_in

_RISE = "rise|climb|grow|gain|rally|surge|jump|rebound|strengthen|increase|advance"
_FALL = "fall|decline|slip|slide|drop|tumble|plunge|weaken|shrink|decrease|retreat"
_UP = rf"(?:(?:{_RISE}|widen|improve|expand|accelerate|raise|approve)s?|pass|up|higher|upwards?)"
_DOWN = rf"(?:(?:{_FALL}|narrow|worsen|contract|slow|cut|ease|lose|reject|fail)s?|down|lower)"
_AMOUNT = (
    r"(?:\s+(?:by|to|about|around|nearly|further|again|sharply|slightly|modestly|tomorrow|today"
    r"|basis|points?|percent|bps|\d\S*)){0,4}"
)
_OR = (
    r"\s*(?:,?\s*\b(?:and/or|or|versus|vs\.?)\s+|/)"
    r"(?:(?:it|they|will|may|might|could|can|also|even|else|instead|possibly|perhaps|just)\s+){0,3}"
)
_MODAL = r"(?:will|may|might|could|can|should|would|(?:is|are) (?:likely|expected|set) to)"

HEDGE_PATTERNS: tuple[str, ...] = (
    rf"\b{_UP}\b{_AMOUNT}{_OR}{_DOWN}\b(?! short\b| votes?\b)",
    rf"\b{_DOWN}\b{_AMOUNT}{_OR}{_UP}\b(?! votes?\b)",
    rf"\b{_MODAL}\s+(?:both\s+)?(?:(?:{_RISE})\s+and\s+(?:{_FALL})|(?:{_FALL})\s+and\s+(?:{_RISE}))\b",
    r"\bwins? or loses?\b(?!,)",
    r"\b(?:go|goes|going|move|moves|swing|swings|break|cut|cuts|turn|end) either way\b",
    r"\bin (?:either|both|any) directions?\b",
    r"\bor (?:vice versa|the (?:opposite|reverse|other way))\b",
    r"\b(?:may|might|will|could) or (?:may|might|will|could) not\b",
)
"""regular expressions, case ignored, for one sentence"""
_HEDGES = tuple(re.compile(pattern, re.IGNORECASE) for pattern in HEDGE_PATTERNS)

_TO_BE_CHECKED = re.compile(
    r"(\b(?:verif\w+|check\w*|confirm\w*|compare\w*|shows?)\b[^.;]*?)\b(?:whether|if)\b.*",
    re.IGNORECASE | re.DOTALL,
)
_CLAUSE = re.compile(
    r"[,;:]\s|\b(?:and|or|but|though|although|while|whereas|yet|however)\b", re.IGNORECASE
)
_CLAIM = re.compile(
    rf"^(?P<subject>.*?)\b{_MODAL}\s+(?:(?!not\b|never\b)\w+\s+){{0,2}}?"
    rf"(?:(?P<up>{_RISE})|(?P<down>{_FALL}))\b",
    re.IGNORECASE | re.DOTALL,
)


def is_hedged(text: str) -> bool:
    """Whether a sentence offers both directions, or two claims give one subject both.

    Note: what a verification is to find ("check whether it rose or fell") is no claim.
    """
    said = [_TO_BE_CHECKED.sub(r"\1", sentence) for sentence in sentences_in(text)]
    if any(pattern.search(sentence) for sentence in said for pattern in _HEDGES):
        return True
    claims = _claims([clause for sentence in said for clause in _CLAUSE.split(sentence)])
    return any((subject, not up) in claims for subject, up in claims)


def _claims(clauses: list[str]) -> set[tuple[tuple[str, ...], bool]]:
    """(subject, whether it rises) of each clause that claims one; "it" is the last subject."""
    claims = set()
    subject: tuple[str, ...] = ()
    for clause in clauses:
        claim = _CLAIM.search(clause)
        if claim:
            named = tuple(w for w in words_in(claim["subject"]) if w not in FUNCTION_WORDS)
            subject = named or subject
            claims.add((subject, claim["up"] is not None))
    return claims
