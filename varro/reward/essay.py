"""The essay's five figures, computed as the original computed them, for comparison only.

quality is the original's Q: cue words found as substrings. It is kept with its flaws ("up" is in
"support", any acronym is an asset) so that a figure of Varro's can stand beside the essay's; no
reward reads it. The original clipped texts at 800 characters first; these functions do not.
Source: strangeloopcanon/Varro at 09f1e75, adaptive_rollout_generator.py:436-483 (Q) and
analysis/generate_all_runs_report.py:54-125 (the figures), formulas restated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

VERY_LOW = 0.2
"""quality below which the original called a forecast very low"""

_DIRECTIONS = (
    "rise rises rally up gain higher fall falls drop lower selloff tighten ease widen narrow"
).split()
_ASSETS = (
    "usd treasury bond oil wti brent gold btc s&p nasdaq dow ftse euro yen tech energy financials"
    " xl qqq spy"
).split()
_TIMES = (
    "day,days,week,weeks,month,months,quarter,q1,q2,q3,q4,by friday,by monday,next week,next month"
).split(",")
_TICKER = re.compile(r"\b[A-Z]{2,5}\b")
_META = re.compile(
    r"the output should|as an ai|please|ensure"
    r"|(?:format:|domain=|proxy=|horizon=|prob=|rationale=|risk=|confidence=)",
    re.IGNORECASE,
)

ORIGINAL_LEAKS: tuple[str, ...] = (
    r"\bkeep (it|to)\b",
    r"\bdo not\b",
    r"\bavoid\b",
    r"\buse (emojis|markdown|bold|bullet|headers|one paragraph)\b",
    r"\banswer:\b",
    r"\bfinal answer\b",
    r"\bnote:\b",
    r"\bthe following (is|are)\b",
    r"\bstart with\b",
    r"\bmake sure\b",
    r"\bin this forecast\b",
    r"\byou must\b",
    r"\bthe user wants\b",
)
"""the original's 13 regular expressions, case ignored; several match honest English"""
_ORIGINAL_LEAK = re.compile("|".join(ORIGINAL_LEAKS), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class EssayFigures:
    """The five figures of the essay over a set of forecasts, empty ones included unless said."""

    quality_original: float
    """mean Q, 0 to 0.85"""
    zeros_frac: float
    """share with Q exactly 0: no cue word of any kind"""
    very_low_frac: float
    """share with Q below 0.2, zeros included"""
    leak_frac: float | None
    """share of the non-empty texts that match one of the 13 expressions; None if all are empty"""
    words: float | None
    """mean count of words, separated by white space, of the non-empty texts; None likewise"""


def essay_figures(texts: Sequence[str]) -> EssayFigures | None:
    """The five figures of the texts; None if there is no text."""
    if not texts:
        return None
    qualities = [original_quality(text) for text in texts]
    spoken = [text for text in texts if text.strip()]
    return EssayFigures(
        quality_original=sum(qualities) / len(texts),
        zeros_frac=sum(quality == 0 for quality in qualities) / len(texts),
        very_low_frac=sum(quality < VERY_LOW for quality in qualities) / len(texts),
        leak_frac=sum(map(original_leak, spoken)) / len(spoken) if spoken else None,
        words=sum(len(text.split()) for text in spoken) / len(spoken) if spoken else None,
    )


def original_quality(text: str) -> float:
    """Q = (0.35 direction + 0.30 asset + 0.20 time) · length · (0.7 if it talks of the format).

    Units: 0 to 0.85. Length is 0.5 under 25 words, 0.6 over 180, 0.8 unless 3 to 6 marks of
    `.!?` stand in the text, else 1.
    """
    lower = text.lower()
    direction = any(cue in lower for cue in _DIRECTIONS)
    asset = any(cue in lower for cue in _ASSETS) or bool(_TICKER.search(text))
    time = any(cue in lower for cue in _TIMES)
    cues = 0.35 * direction + 0.30 * asset + 0.20 * time
    meta = 1 - 0.3 * bool(_META.search(text))
    return min(1.0, max(0.0, cues * _length_factor(text) * meta))


def original_leak(text: str) -> bool:
    """Whether one of the original's 13 expressions matches."""
    return bool(_ORIGINAL_LEAK.search(text))


def _length_factor(text: str) -> float:
    n_words = len(text.split())
    n_sentences = max(1, sum(text.count(mark) for mark in ".!?"))
    if n_words < 25:
        return 0.5
    if n_words > 180:
        return 0.6
    return 1.0 if 3 <= n_sentences <= 6 else 0.8
