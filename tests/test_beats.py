"""The five-beat parser."""

import random
import string
import time
from datetime import date
from itertools import pairwise

import pytest

from varro.forecast.beats import Beats, parse_beats
from varro.forecast.figures import find_probabilities
from varro.forecast.words import content_words, flow, sentence_spans

TUESDAY = date(2026, 1, 6)
NORVIK = "Norvik Energy reports strong gas demand"
APPLE = "Apple unveils thinner iPhone in Cupertino"
FED = "Fed holds rates as inflation cools"
CUP = "Rovers face Albion in cup final"
WHOLE = (
    "Norvik Energy shares will rise 1.5% by tomorrow, driven by strong gas demand and firm orders. "
    "Verify with the Norvik Energy closing report on Tuesday."
)
DRIVERS = ", driven by strong gas demand and firm orders"
CHECK = " Verify with the Norvik Energy closing report on Tuesday."


def parse(text, headline=NORVIK):
    return parse_beats(text, headline, made_on=TUESDAY)


def test_a_whole_forecast_has_all_beats():
    """Catches a parser that cannot give full marks."""
    beats = parse(WHOLE)
    assert set(beats.scores().values()) == {1.0}
    assert beats.format_score() == 1.0
    assert beats.sign == 1
    assert beats.magnitude_value == "1.5%"
    assert beats.dates == (date(2026, 1, 7), date(2026, 1, 7))
    assert beats.drivers_named == ("strong gas demand", "firm orders")
    assert beats.probability is None


@pytest.mark.parametrize(
    ("old", "new", "beat"),
    [
        ("Norvik Energy shares", "The broader market", "object"),
        ("rise", "be", "direction"),
        (" 1.5%", "", "magnitude"),
        (" by tomorrow", "", "timeframe"),
        (DRIVERS, "", "drivers"),
        (CHECK, "", "verification"),
    ],
)
def test_a_dropped_beat_costs_that_beat_only(old, new, beat):
    """Catches beats that lean on each other's words."""
    whole, dropped = parse(WHOLE), parse(WHOLE.replace(old, new))
    # The check still says "on Tuesday": a time that stands only there is worth half.
    assert getattr(dropped, beat) == (0.5 if beat == "timeframe" else 0.0)
    others = {name: score for name, score in whole.scores().items() if name != beat}
    assert {name: dropped.scores()[name] for name in others} == others
    # The mean of five beats; direction and magnitude are half a beat each.
    cost = 0.1 if beat in ("direction", "magnitude", "timeframe") else 0.2
    assert whole.format_score() - dropped.format_score() == pytest.approx(cost)


@pytest.mark.parametrize(
    ("headline", "text", "bands"),
    [
        # object
        (APPLE, "Apple shares will rise.", {"object": (0.99, 1)}),
        (APPLE, "Apple's rivals will fall.", {"object": (0.8, 1)}),
        (APPLE, "The broader market will rise.", {"object": (0, 0)}),
        ("Apple falls as market slides", "The broader market will rise.", {"object": (0.1, 0.3)}),
        (APPLE, "I expect Apple stock to edge up.", {"object": (0.99, 1)}),
        (APPLE, "There will be a fall in Apple shares.", {"object": (0.8, 1)}),
        (APPLE, "A decline in Apple shares is likely.", {"object": (0.8, 1)}),
        (APPLE, "Shares of rivals will rise as Apple fails.", {"object": (0, 0)}),
        ("US group backs supply", "The US group will win.", {"object": (0.99, 1)}),
        ("U.S. exports fall", "US exports will recover.", {"object": (0.99, 1)}),
        ("Kumyelm Energy orders up 1.8%", "Kumyelm will gain.", {"object": (0.45, 0.55)}),
        ("Oil prices slip", "The price of oil will rise.", {"object": (0.99, 1)}),
        # direction
        (FED, "The Fed will hold rates steady.", {"direction": (1, 1)}),
        (FED, "Rates may rise or fall.", {"direction": (0.2, 0.3)}),
        (FED, "Rates will rise. However, they could fall.", {"direction": (0.01, 0.5)}),
        (FED, "Rates will move as prices rise.", {"direction": (0, 0)}),
        (FED, "The Fed will meet tomorrow.", {"direction": (0, 0)}),
        # magnitude
        (FED, "Rates will rise 1-2%.", {"magnitude": (1, 1)}),
        (FED, "Rates will rise 4-12%.", {"magnitude": (0.3, 0.7)}),
        (FED, "The Fed will cut by 25 basis points.", {"magnitude": (1, 1)}),
        (FED, "The Fed will hike by a quarter point.", {"magnitude": (1, 1), "direction": (1, 1)}),
        (FED, "Rates will rise slightly.", {"magnitude": (0.4, 0.6)}),
        (FED, "Rates will rise in 2026.", {"magnitude": (0, 0)}),
        (FED, "Rates will rise within 24 hours.", {"magnitude": (0, 0)}),
        (FED, "Rates will rise after a 10% tariff.", {"magnitude": (0, 0)}),
        (FED, "There is a 70% chance that rates rise.", {"magnitude": (0, 0)}),
        (CUP, "Rovers will win by two goals.", {"magnitude": (1, 1)}),
        (CUP, "Rovers will win by a narrow margin.", {"magnitude": (0.4, 0.6)}),
        # timeframe
        (CUP, "Rovers will win tomorrow.", {"timeframe": (1, 1)}),
        (CUP, "Rovers will win next quarter.", {"timeframe": (0.01, 0.1)}),
        (CUP, "Rovers will win tomorrow, next week or by year-end.", {"timeframe": (0.2, 0.6)}),
        (CUP, "Rovers will win, as rain falls tomorrow.", {"timeframe": (1, 1)}),
        # drivers
        (FED, "Rates will rise because of demand.", {"drivers": (0.3, 0.5)}),
        (FED, "Rates will rise on strong demand.", {"drivers": (0.6, 0.8)}),
        (FED, "Rates will rise on Friday.", {"drivers": (0, 0)}),
        (FED, "Rates will rise, driven by market sentiment.", {"drivers": (0.3, 0.5)}),
        (FED, "Rates will rise, as wages grow and oil prices climb.", {"drivers": (0.9, 1)}),
        (FED, "Rates will rise, driven by oil prices and oil prices.", {"drivers": (0.6, 0.8)}),
        (FED, "Rates will rise. Check the index after the weak jobs report.", {"drivers": (0, 0)}),
        # verification
        (FED, "Rates will rise. Check.", {"verification": (0.05, 0.4)}),
        (FED, "Rates will rise. We can check that easily enough.", {"verification": (0.4, 0.5)}),
        (FED, "Rates will rise. Check it in the closing data.", {"verification": (0.75, 0.85)}),
        (FED, "Rates will rise. Check the Treasury data on Friday.", {"verification": (1, 1)}),
        (FED, "Rates will rise; Friday's minutes will confirm it.", {"verification": (0.8, 1)}),
        (FED, "Rates will rise, as shown by the bond index.", {"verification": (0.75, 1)}),
        (FED, "Rates will rise. This cannot be verified by any report.", {"verification": (0, 0)}),
        (FED, "Rates will rise. Time will tell how this plays out.", {"verification": (0, 0)}),
        (FED, "The jobs report will show a rise.", {"verification": (0, 0), "direction": (1, 1)}),
    ],
)  # fmt: skip
def test_beats_fall_in_their_bands(headline, text, bands):
    """Catches, case by case, a beat read by a word's mere presence."""
    scores = parse(text, headline).scores()
    for beat, (low, high) in bands.items():
        assert low <= scores[beat] <= high, (beat, scores[beat])


def test_words_are_matched_whole():
    """Catches substring cues: the original counted "up" in "support" and "group"."""
    beats = parse("The US group will support its supply today.", "US group backs supply")
    assert beats.direction == beats.magnitude == 0.0
    assert beats.sign is None


@pytest.mark.parametrize(
    "text",
    [
        "Apple rise up gain 1% 2% tomorrow driven by because of verify check report data close",
        "Rise, up, gain, 1%, 50 basis points, tomorrow, by Friday, driven by demand, verify, data.",
        "Apple. Up. 1%. Tomorrow. Demand. Verify.",
        "Apple " * 40,
    ],
)
def test_a_heap_of_keywords_earns_little(text):
    """Catches full marks for the cue words without a sentence around them."""
    assert parse(text, APPLE).format_score() < 0.3


TINY = (
    "Norvik Energy will {} {}% {}, {} {} and {}. {}",
    ("climb", "1.2", "by tomorrow evening", "driven by", "strong gas demand", "early trading"),
    ("drop", "0.5", "within 24 hours", "because of", "a factory fire", "wider regional news"),
    ("slip", "3", "tomorrow", "on the back of", "record new orders", "the latest reports"),
)


@pytest.mark.parametrize("parts", TINY[1:])
@pytest.mark.parametrize(
    "check",
    [
        "Verify with the Norvik Energy report and the official figures on Monday.",
        "Verify with the Norvik Energy report in the morning papers.",
        "Check the official Norvik Energy figures published on Friday.",
        "Check the closing figures and the headlines on Thursday.",
        "Confirmed if the statistics office publishes a matching figure on Tuesday.",
    ],
)
def test_the_tiny_policys_own_sentences_score_well(parts, check):
    """Catches a parser too strict for what the tiny policy can say at its best."""
    beats = parse(TINY[0].format(*parts, check))
    assert min(beats.scores().values()) >= 0.8, beats.scores()
    assert beats.verification == 1.0


def test_generic_drivers_and_vague_checks_earn_less():
    """Catches equal pay for a cause that could stand under any headline."""
    generic = "Norvik Energy will climb 1% tomorrow, driven by market sentiment and early trading."
    named = "Norvik Energy will climb 1% tomorrow, driven by strong gas demand and a factory fire."
    assert 0.0 < parse(generic).drivers < parse(named).drivers == 1.0
    assert parse(generic + " Time will tell how this plays out.").verification == 0.0


def test_large_percentages_fall_without_steps():
    """Catches a bare check for a number, and plateaus that a group of eight cannot tell apart."""
    scores = [parse(f"Gas will rise {n}% tomorrow.").magnitude for n in range(1, 60)]
    assert scores[:5] == [1.0] * 5
    assert all(a > b for a, b in pairwise(scores[4:]))
    # (5 / 40)^0.75 = 0.21.
    assert scores[39] == pytest.approx(0.21, abs=0.01)


def test_a_decimal_point_ends_no_sentence():
    """Catches "1.5%" cut in two, and a check taken for the rest of the claim."""
    text = "U.S. gas will rise 1.5% in the U.S. tomorrow. Mr. Ash said so. Check the index."
    assert [text[a:b].strip() for a, b in sentence_spans(text)] == [
        "U.S. gas will rise 1.5% in the U.S. tomorrow.",
        "Mr. Ash said so.",
        "Check the index.",
    ]


def test_a_hedge_earns_at_most_half_and_has_no_sign():
    """Catches full marks for saying that something will rise or fall."""
    beats = parse("Gas may rise or fall.")
    assert 0.0 < beats.direction <= 0.5
    assert beats.sign is None


def test_the_sign_is_the_main_clauses_not_the_causes():
    """Catches "fall as yields rise" read as a rise."""
    assert parse("Gas will fall 1% tomorrow as yields rise.").sign == -1
    assert parse("Gas will not fall tomorrow.").sign == 1
    assert parse("Gas will remain unchanged.").sign == 0
    assert parse("Gas will be talked about.").sign is None


@pytest.mark.parametrize(
    ("text", "probability"),
    [
        ("Gas is 70% likely to rise 2%.", 0.7),
        ("There is a 70 percent chance of a 2% rise.", 0.7),
        ("Gas will rise with a probability of 0.7.", 0.7),
        ("Gas will rise, a 7 in 10 chance.", 0.7),
        ("Gas will rise (confidence: 65%).", 0.65),
        ("The chance of a cut is 80%.", 0.8),
        ("It is 60-80% likely that gas will rise.", 0.7),
        ("Gas is 40% more likely to rise.", None),
        ("7 in 10 voters want gas.", None),
        ("There is a good chance of a 2% rise.", None),
        ("Gas is 150% likely to rise.", None),
        ("Gas will rise 2%.", None),
    ],
)
def test_a_stated_probability_is_read_and_is_no_magnitude(text, probability):
    """Catches "70% likely" paid as a move of 70 %, and a move read as a probability."""
    beats = parse(text)
    assert beats.probability == (None if probability is None else pytest.approx(probability))
    assert beats.magnitude_value == ("2%" if "2%" in text else None) or "%" not in text


def test_a_probability_has_its_place():
    """Catches spans that are cut wrong."""
    text = "It is 70% likely."
    found = find_probabilities(text)[0]
    assert text[found.start : found.end] == "70% likely"


def test_spans_colour_the_beats_in_order_without_overlap():
    """Catches a report that colours a word twice, or the wrong words."""
    beats = parse(WHOLE)
    assert [(s.beat, WHOLE[s.start : s.end]) for s in beats.spans] == [
        ("object", "Norvik Energy"),
        ("direction", "rise"),
        ("magnitude", "1.5%"),
        ("timeframe", "by tomorrow"),
        ("drivers", "strong gas demand"),
        ("drivers", "firm orders"),
        ("verification", "Verify with the Norvik Energy closing report on Tuesday."),
    ]


def test_prose_flows_and_heaps_do_not():
    """Catches a measure of grammar that punishes plain sentences with long names."""
    assert flow("Check the official New Jersey Transit rail passenger numbers on Friday.") == 1.0
    assert flow("Norvik Energy shares will rise 1.5% by tomorrow.") == 1.0
    assert flow("rise gain up surge demand report data verify") == 0.0


def test_an_empty_forecast_scores_nothing():
    """Catches a parser that falls over, or pays, where there is no text."""
    nothing = Beats(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert parse_beats("", NORVIK) == parse_beats(" \n\t", "") == nothing
    assert parse_beats("...!?", "").format_score() == 0.0
    assert nothing.format_score() == 0.0
    assert parse_beats(WHOLE, "").object == 0.0


def test_without_a_date_there_are_no_dates():
    """Catches dates counted from a clock that nobody gave."""
    beats = parse_beats("Gas will rise by Friday.", NORVIK)
    assert beats.dates is None
    assert beats.timeframe == 0.9


def test_hostile_text_stays_in_bounds():
    """Catches a crash, a score outside [0, 1] or overlapping spans on text nobody meant."""
    rng = random.Random(0)
    cues = "rise fall 1% 2-3 by tomorrow , . ; \n as with on after verify report not -".split(" ")
    for _ in range(150):
        text = " ".join(
            rng.choice([*cues, rng.choice(string.printable), "中", "\u202e", "é’s", "9" * 400])
            for _ in range(rng.randrange(60))
        )
        beats = parse(text)
        assert all(0.0 <= score <= 1.0 for score in beats.scores().values())
        ends = [0, *(n for s in beats.spans for n in (s.start, s.end))]
        assert ends == sorted(ends) and ends[-1] <= len(text)


@pytest.mark.parametrize("unit", ["up ", "1,", "in the next ", "chance of ", " ", "a.", WHOLE, "9"])
def test_a_hundred_thousand_characters_take_less_than_a_second(unit):
    """Catches a pattern that backtracks without end."""
    text = (unit * 100_000)[:100_000]
    started = time.process_time()
    parse(text)
    assert time.process_time() - started < 1.0


def test_content_words_are_lower_case_without_stop_words():
    """Catches numbers and articles among the words that say something."""
    assert content_words("The 3 Norvik Plants of 2026 will close") == ["norvik", "plants", "close"]
