"""Which way a text says things go: words, negation, causes, names, contests, and turning round."""

from __future__ import annotations

import time

import pytest

from varro.forecast.direction import (
    agreement,
    direction,
    direction_of,
    direction_words,
    flip,
    is_negated,
)
from varro.forecast.lexicon import SINGLE, VERBS, build_lexicon


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("Brent crude will rise 2% by Friday, driven by OPEC cuts.", 1),
        ("Shares slid in early trading.", -1),
        ("Parliament will approve the budget tomorrow.", 1),
        ("Parliament will reject the budget tomorrow.", -1),
        ("The Bank of England leaves rates unchanged.", 0),
        ("Fed holds rates", 0),
        ("The minister will speak at noon.", None),
        ("The blaze was contained overnight.", -1),
        ("Jobless claims come in lower than expected.", -1),
        ("Inflation picks up in May", 1),
        ("Rocket launch postponed again", -1),
        ("The race will be cancelled.", -1),
        ("Labour faces defeat in the north.", -1),
        ("Labour will defeat the motion.", 1),
    ],
)
def test_the_main_clause_says_the_direction(text, sign):
    """Catches a lexicon that lost a form (third person, past, participle, phrase)."""
    assert direction_of(text) == sign


@pytest.mark.parametrize(
    "text",
    [
        "Supporters met upstairs in the downtown group today.",
        "The increment of the release was pleasing.",
    ],
)
def test_words_are_matched_whole(text):
    """Catches "up" in "support" or "ease" in "release"."""
    assert direction_words(text) == []


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("The court will not uphold the ban.", -1),
        ("Lawmakers won't pass the bill.", -1),
        ("The team fails to beat the champions.", -1),
        ("Prices are unlikely to fall.", 1),
        ("The ministry refuses to approve the merger.", -1),
        ("Talks did not fail.", 1),
    ],
)
def test_negation_turns_the_direction_round(text, sign):
    """Catches a negation that is ignored, or that reaches past another one."""
    assert direction_of(text) == sign


def test_a_cause_is_not_what_is_forecast():
    """Catches "stocks fall as yields rise" read as a draw."""
    assert direction_of("Stocks fall as yields rise") == -1
    assert direction_of("After weak data, stocks climb") == 1
    assert direction_of("Oil will climb, driven by falling stocks and lower output.") == 1


def test_a_list_of_causes_ends_with_its_clause():
    """Catches the second of three drivers read as the forecast, and a forecast after its cause read
    as a driver."""
    text = "Ice will shrink, with southerly winds, rising seas and higher sun as drivers."
    assert direction_of(text) == -1
    assert direction_of("The rocket on its first flight will fail tomorrow.") == -1


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("Stocks trim losses.", 1),
        ("Stocks erase gains.", -1),
        ("The curfew will end.", 1),
        ("The index will close slightly higher.", 1),
        ("The plant will remain closed.", -1),
        ("The launch tower stands by the sea.", None),
        ("Union calls off strike", 1),
        ("Union calls on members to strike", 1),
        ("Curfew extended", 1),
        ("Fighting resumes", -1),
        ("Blackout continues", -1),
        ("Fighting stops", 1),
        ("Losing streak reaches seven", 1),
        ("Bitcoin breaks above $100,000", 1),
        ("Minister steps down", -1),
        ("Shares are less likely to rise", -1),
        ("Rates will neither rise nor fall", None),
    ],
)
def test_what_a_verb_does_depends_on_its_noun(text, sign):
    """Catches "erase gains" as good news, and "close higher" as a closure."""
    assert direction_of(text) == sign


def test_who_will_tell_is_not_what_is_forecast():
    """Catches "a briefing will confirm it" read as a success."""
    assert direction_of("Crews will dig on; a briefing will confirm the count.") is None


def test_a_check_is_not_what_is_forecast():
    """Catches "confirmed if the index closes lower" outvoting the forecast."""
    text = "The index will gain 1%. Verify with the report; a lower close would refute it."
    assert direction_of(text) == 1


def test_names_are_not_directions():
    """Catches "Manchester United" as good news and "Marine Life Rescue" as a rescue."""
    assert direction_of("The squad of Manchester United arrived in Boston on Monday.") is None


def test_title_case_headlines_keep_their_directions():
    """Catches a name rule that silences every headline in title case."""
    assert direction_of("Oil Prices Rise on Supply Fears") == 1


@pytest.mark.parametrize(
    ("forecast", "outcome", "agrees"),
    [
        ("Oil will rise tomorrow.", "Crude climbs to a month's high", 1),
        ("Oil will rise tomorrow.", "Crude slumps", -1),
        ("The fire will spread.", "Wildfire worsens overnight", 1),
        ("The fire will be contained.", "Wildfire worsens overnight", -1),
        ("The Bank will hold rates.", "Bank keeps interest rates unchanged", 1),
        ("The Bank will raise rates.", "Bank keeps interest rates unchanged", -1),
        ("Sinner will beat Alcaraz in four sets.", "Alcaraz beats Sinner in a thriller", -1),
        ("Alcaraz will beat Sinner in four sets.", "Alcaraz beats Sinner in a thriller", 1),
        ("City will win the final against Inter.", "Inter lose Champions League final to City", 1),
        ("The chef will speak.", "Oil climbs", 0),
        ("Crews will not bring the miners out.", "Miners brought out after a week", -1),
        ("Ford and the union will strike a deal.", "Ford and union reach agreement", 1),
        ("Usyk will be outpointed by Fury.", "Usyk dethrones Fury", -1),
        ("Usyk will outpoint Fury.", "Fury is beaten by Usyk", 1),
        ("Sainz will finish behind Verstappen.", "Verstappen beats Sainz", 1),
        ("Outages will fall by 50,000.", "Power restored across the city", 1),
        ("Outages will climb by 50,000.", "Power restored across the city", -1),
        ("Japan will cancel its tsunami warning.", "Tsunami warning lifted", 1),
        ("Berlin refuses the deliveries.", "Berlin again refuses to hand over the missiles", 1),
        ("Berlin authorises the deliveries.", "Berlin again refuses to hand over the missiles", -1),
        ("The toll will grow by fifteen.", "Quake death toll passes 60", 1),
        ("Japan will beat Korea.", "Japan beaten by Korea", -1),
        ("Inter will beat City.", "City knocked out by Inter", 1),
        ("Korea will win by two goals.", "Korea beats Japan", 1),
    ],
)
def test_agreement_of_forecast_and_outcome(forecast, outcome, agrees):
    """Catches an opposite outcome that pays as well as the one forecast."""
    assert agreement(forecast, outcome) == agrees


def test_more_of_what_is_bad_is_bad():
    """Catches a curfew that is extended read as good news."""
    extended = direction("Curfew extended")
    assert extended is not None
    assert (extended.level, extended.valence) == (1.0, -1.0)


def test_each_verb_has_one_sense():
    """Catches an entry that another one hides: the first sense stands, and the second is dead."""
    paired = {
        verb for table in VERBS.values() for pair in table.split() for verb in pair.split(":")
    }
    single = [verb for table in SINGLE.values() for verb in table.split()]
    assert set(single) & paired == set()
    assert len(single) == len(set(single))


def test_spread_agrees_with_what_is_more_and_with_what_is_bad():
    """Catches one axis for all words: "spreads" is more of something bad."""
    spreads = direction("The fungus spreads")
    assert spreads is not None
    assert (spreads.level, spreads.valence) == (1.0, -1.0)


def test_flipping_replaces_each_word_by_its_opposite_in_the_same_form():
    """Catches a flip that breaks the grammar or the capital."""
    assert flip("Oil rises 2% on strong demand") == "Oil falls 2% on weak demand"
    assert flip("Higher prices boosted profits") == "Lower prices dented losses"


def test_flipping_a_text_without_a_direction_changes_nothing():
    """Catches a margin earned by a text that says no direction."""
    text = "The minister spoke for an hour about bees."
    assert flip(text) == text


def test_flipping_turns_the_agreement():
    """Catches an opposite that is not opposite: each pair of the lexicon is turned by flipping."""
    for lexicon in build_lexicon():
        for phrase, entry in lexicon.items():
            if entry.opposite is not None:
                back = lexicon[tuple(entry.opposite.split())]
                assert back.level * entry.level + back.valence * entry.valence < 0, phrase


def test_denial_is_seen_in_the_main_clause_only():
    """Catches "although no one was hurt" read as a denial."""
    assert is_negated("Crews will not bring the miners out.")
    assert not is_negated("Crews bring the miners out because no gas was found.")


def test_long_and_hostile_text_is_read_in_time():
    """Catches a pattern whose time explodes: 20,000 directional words within two seconds."""
    started = time.process_time()
    direction_words("up not down " * 7000)
    assert time.process_time() - started < 2.0
