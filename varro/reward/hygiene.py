"""What is wrong with a forecast's text apart from what it forecasts: one detector for all.

The scorer, the trainer and the report read the same `Hygiene`, so what the report calls clean is
what trained. Pure, and about the text alone: nothing here knows an outcome.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from types import MappingProxyType

from varro.reward.hedging import is_hedged
from varro.reward.words import FUNCTION_WORDS, sentences_in, words_in

HYGIENE_VERSION = "hygiene-2"
"""part of the reward's version: a changed list or limit is a changed reward"""

LEAK_PATTERNS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "control token": (
        r"<\|[^|<>]{0,40}\|>|</?(?:think|s|bos|eos|start_of_turn|end_of_turn)>|\bthink>",
        r"\[/?INST\]|<</?SYS>>|```",
    ),
    "chat role": (
        r"^[^\S\n]*+[#*\[(]*+[^\S\n]*+(?:system|user|assistant|human)[\])*]*[^\S\n]*:",
        r"(?<!#)#{2,}+[^\S\n]*+(?:instructions?|response|input|output|task|prompt|answer)\b",
    ),
    "assistant talk": (
        r"\bas an? (?:ai |large )+language model\b|\bas a language model, i\b",
        r"\bas an ai\b(?: (?:model|assistant|system|chatbot))?,? (?:i|my)\b",
        r"\bi(?:['’]m| am) (?:just |only )?an? (?:ai|language model|assistant)\b",
        r"\bi(?: cannot| can['’]?t| am (?:un|not )able to|['’]m (?:un|not )able to| don['’]t"
        r"| do not)(?: actually)? (?:predict|forecast|provide|access|browse|have (?:access|real))",
        r"\bmy (?:training data|knowledge cut-?off)\b|\bi hope this helps\b",
        r"\blet me know if (?:you|there)\b|\bfeel free to (?:ask|let|adjust|modify)",
        r"\bhere(?: is|['’]s| are) (?:the|a|an|my|your|one)(?: [a-z-]+){0,3}?"
        r" (?:forecast|prediction|paragraph|answer|response|summary|draft)\b",
        r"^[^\S\n]*+(?:sure|certainly|of course|absolutely)(?:!|[,.:]? (?:here|i |i['’]|let me))",
    ),
    "task talk": (
        r"\b(?:the|this|your) headline (?:says|states|reads|asks|provided|given|above)\b",
        r"\bthe (?:given|provided|above) (?:headline|prompt|instructions?)\b",
        r"\bthe user (?:wants|asks|asked|is asking|requested|provided|would like)\b",
        r"\b(?:final answer|the output should|the (?:answer|response) should be)\b",
        r"\bi (?:need|have) to (?:write|name|forecast|predict|give|provide|include)\b",
        r"^[^\S\n]*+(?:answer|headline|prompt|instructions?)[^\S\n]*:",
    ),
    "prompt echo": (
        r"\b(?:in|write|as) (?:one|a single) (?:plain |short |single )*paragraph\b",
        r"\b(?:one|a) plain paragraph\b|\bplain (?:text|sentences) only\b",
        r"\bforecasts? tomorrow['’]s news\b|\byou forecast the news\b",
        r"\bname the (?:object|direction)\b|\bhow to verify it\b",
        r"\bits direction with a small magnitude\b|\bby when, the drivers\b",
        r"(?:^|[.!?:;]\s+)(?:please )?(?:name|state|give|include|describe|mention|specify)"
        r" (?:the|an?) (?:[a-z-]+ ){0,2}?(?:object|direction|magnitude|timeframe|drivers?)\b",
        r"\b(?:restate|repeat) (?:the|these|any) instructions\b",
    ),
    "placeholder": (
        r"\[(?:(?:insert|your|specific) [^\]\n]{0,40}|object|direction|magnitude|date|number"
        r"|asset|company|headline|timeframe|drivers?|x+)\]",
        r"\{\w+\}|\bheadline_goes_here\b|\bx+%",
    ),
})  # fmt: skip
"""kind → regular expressions, case ignored, `^` at each line: any match is a leak.

Note: "keep to", "avoid", "make sure" and "do not" are honest English and stand in no pattern. The
essay's list, which counts them, is `varro.reward.essay.ORIGINAL_LEAKS`."""
_LEAKS = {
    kind: re.compile("|".join(patterns), re.IGNORECASE | re.MULTILINE)
    for kind, patterns in LEAK_PATTERNS.items()
}

_CANNOT_END = frozenset(
    """a an the its their his my your our every these those whose which who
    of to at by for from with into onto between among against during in on upon amid amidst
    despite per than via toward towards within until till without
    and or but nor because although whereas unless whether if while as
    is are was were be been being am has have had will would shall should can could may might must
    do does did""".split()
)
"""words that call for more; particles that may end a sentence ("go up", "or not") are left out"""
_OPEN_END = re.compile(r"[,;:&/+=@#$€£¥(\[{“«–—-]\Z")
_CLOSED_END = re.compile(r"[.!?…。！？][\"'”’»)\]}*_]*\Z")
_PAIRS = (("(", ")"), ("[", "]"), ("{", "}"), ("“", "”"), ("«", "»"))


@dataclass(frozen=True, slots=True)
class HygieneLimits:
    """Beyond these a text earns nothing."""

    min_words: int = 8
    """words; a text between this and 25 is short, which is the format's matter"""
    max_repetition_frac: float = 0.6
    """share of trigrams that repeat an earlier one"""
    max_script_frac: float = 0.3
    """share of letters in a script that is neither Latin nor the headline's"""
    min_function_word_frac: float = 0.18
    """share of words; prose has more than 0.25, a heap of keywords less than 0.15"""


DEFAULT_LIMITS = HygieneLimits()


@dataclass(frozen=True, slots=True)
class Hygiene:
    """One text, inspected. Shares lie in [0, 1]."""

    words: int
    """count, as separated by white space"""
    copy_frac: float
    """share of the text's word bigrams that stand in the headline (copy2); 0 without a bigram"""
    copy_run_frac: float
    """longest run of headline words found verbatim, as a share of the headline's words: an echo
    is 1 however long the rest is. Case and punctuation do not count"""
    repetition_frac: float
    """1 - distinct/all word trigrams (rep3); 0 without a trigram"""
    truncated: bool
    """the sampler ran out of tokens, or the text stops where no sentence can"""
    unclosed: bool
    """no closing punctuation, and no sign that anything is missing"""
    leak: bool
    """control tokens, assistant talk, the prompt or its placeholders: see `leaks_in`"""
    hedged: bool
    """says that the same thing goes both ways"""
    script_frac: float
    """share of letters, emoji and invisible characters that are neither Latin letters nor letters
    of a script the headline is written in"""
    function_word_frac: float
    """share of the alphabetic words that are English function words"""

    def invalid_reason(self, limits: HygieneLimits = DEFAULT_LIMITS) -> str | None:
        """Why the text earns nothing, in one or two words; None if it may earn."""
        checks = (
            ("empty", self.words == 0),
            ("too short", self.words < limits.min_words),
            ("truncated", self.truncated),
            ("leak", self.leak),
            ("repetition", self.repetition_frac > limits.max_repetition_frac),
            ("script", self.script_frac > limits.max_script_frac),
            ("no prose", self.function_word_frac < limits.min_function_word_frac),
        )
        return next((reason for reason, wrong in checks if wrong), None)


def inspect_text(text: str, headline: str, *, finish_reason: str | None = None) -> Hygiene:
    """The hygiene of a forecast about a headline; `finish_reason` as the sampler gave it."""
    words, source = words_in(text), words_in(headline)
    truncated = finish_reason == "length" or _stops_mid_sentence(text)
    return Hygiene(
        words=len(text.split()),
        copy_frac=_copied_bigram_frac(words, source),
        copy_run_frac=_longest_copy(words, source) / len(source) if source else 0.0,
        repetition_frac=_repeated_trigram_frac(words),
        truncated=truncated,
        unclosed=bool(text.strip()) and not truncated and not _CLOSED_END.search(text.rstrip()),
        leak=bool(leaks_in(text)),
        hedged=is_hedged(text),
        script_frac=_foreign_frac(text, headline),
        function_word_frac=_function_word_frac(words),
    )


def leaks_in(text: str) -> tuple[str, ...]:
    """What leaked: the kinds of `LEAK_PATTERNS` that match, in their order."""
    return tuple(kind for kind, pattern in _LEAKS.items() if pattern.search(text))


def without_copied_sentences(text: str, headline: str, *, limit: float = 0.6) -> str:
    """The text without each sentence of whose word bigrams more than `limit` are the headline's."""
    source = words_in(headline)
    kept = [s for s in sentences_in(text) if _copied_bigram_frac(words_in(s), source) <= limit]
    return " ".join(kept)


def _copied_bigram_frac(words: list[str], source: list[str]) -> float:
    wanted = set(pairwise(source))
    found = [pair in wanted for pair in pairwise(words)]
    return sum(found) / len(found) if found else 0.0


def _longest_copy(words: list[str], source: list[str]) -> int:
    return SequenceMatcher(None, source, words, autojunk=False).find_longest_match().size


def _repeated_trigram_frac(words: list[str]) -> float:
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0


def _function_word_frac(words: list[str]) -> float:
    found = [word in FUNCTION_WORDS for word in words if word.isalpha()]
    return sum(found) / len(found) if found else 0.0


def _stops_mid_sentence(text: str) -> bool:
    """No closing punctuation, and a last word, mark or open bracket that calls for more."""
    text = text.rstrip()
    if not text or _CLOSED_END.search(text):
        return False
    unpaired = any(text.count(a) > text.count(b) for a, b in _PAIRS) or text.count('"') % 2
    last = words_in(text)[-1:]
    hanging = bool(_CANNOT_END.intersection(last)) and not text.endswith("May")  # the month
    return bool(unpaired or hanging or _OPEN_END.search(text))


def _foreign_frac(text: str, headline: str) -> float:
    known = {"LATIN"} | {_script(c) for c in headline if c.isalpha()}
    counted = [c for c in text if c.isalpha() or _is_emoji_or_invisible(c)]
    return sum(_script(c) not in known for c in counted) / len(counted) if counted else 0.0


def _script(char: str) -> str:
    """First word of a letter's Unicode name (LATIN, CYRILLIC, …), NONE for what is no letter."""
    return unicodedata.name(char, "NONE").split()[0] if char.isalpha() else "NONE"


def _is_emoji_or_invisible(char: str) -> bool:
    category = unicodedata.category(char)
    symbol = category == "So" and char >= "\u2600"  # below: degree signs, ™, the arrows of prices
    return symbol or (category[0] == "C" and char not in "\t\n\r")
