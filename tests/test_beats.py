"""The five-beat parser."""

import pytest

from varro.forecast.beats import parse_beats

HEADLINE = "Norvik Energy reports strong gas demand"
WHOLE = (
    "Norvik Energy shares will rise 1.5% by tomorrow, driven by strong gas demand and firm orders. "
    "Verify with the Norvik Energy closing report on Tuesday."
)


def test_a_whole_forecast_has_all_beats():
    """Catches a parser that cannot give full marks."""
    beats = parse_beats(WHOLE, HEADLINE)
    assert (beats.object, beats.direction, beats.magnitude) == (1.0, 1.0, 1.0)
    assert (beats.timeframe, beats.drivers, beats.verification) == (1.0, 1.0, 1.0)
    assert beats.format_score() == 1.0


@pytest.mark.parametrize(
    ("old", "new", "beat"),
    [
        ("Norvik Energy shares", "The broader market", "object"),
        ("rise", "be", "direction"),
        (" 1.5%", "", "magnitude"),
        (" by tomorrow", "", "timeframe"),
        (", driven by strong gas demand and firm orders", "", "drivers"),
        (" Verify with the Norvik Energy closing report on Tuesday.", "", "verification"),
    ],
)
def test_a_dropped_beat_costs_that_beat_only(old, new, beat):
    """Catches beats that lean on each other's words."""
    whole, dropped = parse_beats(WHOLE, HEADLINE), parse_beats(WHOLE.replace(old, new), HEADLINE)
    if beat == "timeframe":  # "on Tuesday" in the second sentence still names a time
        dropped = parse_beats(WHOLE.replace(old, new).replace(" on Tuesday", ""), HEADLINE)
    assert getattr(dropped, beat) == 0.0
    others = {"object", "direction", "magnitude", "timeframe", "drivers", "verification"} - {beat}
    assert all(getattr(dropped, name) == getattr(whole, name) for name in others)
    # The mean of five beats; direction and magnitude are half a beat each.
    cost = 0.1 if beat in ("direction", "magnitude") else 0.2
    assert whole.format_score() - dropped.format_score() == pytest.approx(cost)


def test_words_are_matched_whole():
    """Catches substring cues: the original counted "up" in "support" and "group"."""
    beats = parse_beats("The US group will support its supply today.", "US group backs supply")
    assert beats.direction == 0.0
    assert beats.magnitude == 0.0


def test_a_hedge_both_ways_is_half_a_direction():
    """Catches full marks for saying that something will rise or fall."""
    assert parse_beats("Shares may rise or fall.", HEADLINE).direction == 0.5


def test_small_magnitudes_beat_large_ones():
    """Catches a bare check for a number."""
    scores = [
        parse_beats(f"It will rise {size} tomorrow.", HEADLINE).magnitude
        for size in ("1-3%", "25 basis points", "8%", "40%", "1,200 points", "in 2026")
    ]
    assert scores == [1.0, 1.0, 0.5, 0.2, 0.2, 0.0]


def test_vague_timeframes_earn_less_than_tight_ones():
    """Catches the essay's failure: "next quarter" scored as a next-day forecast."""
    scores = [
        parse_beats(f"It will rise {when}.", HEADLINE).timeframe
        for when in ("within 24 hours", "this week", "next week", "in the coming months", "")
    ]
    assert scores == [1.0, 0.6, 0.4, 0.2, 0.0]


def test_an_empty_forecast_scores_nothing():
    """Catches a parser that falls over, or pays, where there is no text."""
    assert parse_beats("", HEADLINE).format_score() == 0.0
    assert parse_beats("", "").format_score() == 0.0
