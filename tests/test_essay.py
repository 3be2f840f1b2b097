"""The essay's five figures, against values worked by hand from its formulas."""

import pytest

from varro.reward.essay import (
    ORIGINAL_LEAKS,
    essay_figures,
    original_leak,
    original_quality,
)

SENTENCE = "The US group will support its supply today."
FILLER = "We like it in the old town near the sea"
"""ten words without a cue: checked below"""


def test_the_golden_value_of_q():
    """Catches a repaired Q: the original gives its maximum to a text that says nothing."""
    # "up" in group, support, supply; US is an acronym; "day" in today; 32 words, 4 sentences.
    assert original_quality(" ".join([SENTENCE] * 4)) == pytest.approx(0.85)


@pytest.mark.parametrize(
    ("text", "quality"),
    [
        ("", 0.0),
        (FILLER, 0.0),
        (SENTENCE, 0.85 * 0.5),  # 8 words
        (" ".join([SENTENCE] * 2 + [FILLER]), 0.85 * 0.8),  # 26 words, 2 sentences
        (" ".join([SENTENCE] * 7), 0.85 * 0.8),  # 56 words, 7 sentences
        (" ".join([SENTENCE] * 23), 0.85 * 0.6),  # 184 words
        (" ".join([SENTENCE] * 3 + ["Please note it now."]), 0.85 * 0.7),  # 28 words, 4; please
        # The original's value for such a text: 0.595 = 0.85 * 0.7.
        (
            f"CEO please increase support today. I like tea. Cats sleep well. {FILLER} {FILLER}.",
            0.595,
        ),
        (f"{FILLER}. {FILLER}. A Rally at sea.", 0.35 * 0.5),  # 24 words
        (f"{FILLER}. {FILLER}. A Rally at the sea.", 0.35),  # 25 words; capitals do not count
        (f"{FILLER}. {FILLER}. {FILLER}. A group.", 0.35),  # direction alone
        (f"{FILLER}. {FILLER}. {FILLER}. The turmoil.", 0.30),  # oil in turmoil
        (f"{FILLER}. {FILLER}. {FILLER}. A CEO.", 0.30),  # an acronym
        (f"{FILLER}. {FILLER}. {FILLER}. On Monday.", 0.20),  # day in Monday
        (f"{FILLER}. {FILLER}. {FILLER}. A group on Monday.", 0.55),
        (f"{FILLER}. {FILLER} {FILLER} 1.5% up on Monday", 0.55 * 0.8),  # "." twice: 2 sentences
    ],
)
def test_q_by_hand(text, quality):
    """Catches whole-word cues, another length rule, or a weight that moved."""
    assert original_quality(text) == pytest.approx(quality)


def test_the_thirteen_expressions_match_as_the_original_did():
    """Catches a list of twelve, and a repair: "Answer: x" does not match, honest English does."""
    assert len(ORIGINAL_LEAKS) == 13
    for text in ("Rates keep to 2%.", "AVOID risk", "do not sell", "Make sure", "answer:up",
                 "the following are", "start with", "final answer", "use one paragraph",
                 "in this forecast", "you must", "the user wants", "note:it"):  # fmt: skip
        assert original_leak(text), text
    for text in ("Answer: up", "Note: it rises", "keeping to", "unavoidable", ""):
        assert not original_leak(text), text


def test_the_five_figures_and_their_denominators():
    """Catches empty texts in the mean of words, and zeros left out of very low."""
    # Q: 0.425, 0, 0, and day alone in a short text 0.2 * 0.5 = 0.1.
    texts = [SENTENCE, FILLER, "", "Monday, and keep to it."]
    figures = essay_figures(texts)
    assert figures is not None
    assert figures.quality_original == pytest.approx((0.425 + 0.1) / 4)
    assert figures.zeros_frac == 0.5
    assert figures.very_low_frac == 0.75
    assert figures.leak_frac == pytest.approx(1 / 3)
    assert figures.words == pytest.approx((8 + 10 + 5) / 3)


def test_nothing_to_measure_is_none_and_not_zero():
    """Catches a day without forecasts that is reported as a day of bad ones."""
    assert essay_figures([]) is None
    empty = essay_figures(["", " "])
    assert empty is not None
    assert (empty.quality_original, empty.zeros_frac) == (0.0, 1.0)
    assert (empty.leak_frac, empty.words) == (None, None)
