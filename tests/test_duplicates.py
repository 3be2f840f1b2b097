"""Which headlines are the same news told again, and which only look so."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from varro.news.archive import load_archive
from varro.news.duplicates import (
    first_of_each,
    is_near_duplicate,
    title_key,
    without_near_duplicates,
)

SAME = [
    # economics
    ("Fed holds rates steady at June meeting", "The Fed holds rates steady at its June meeting"),
    ("Fed holds rates", "UPDATE 1-Fed holds rates"),
    ("Fed holds rates", "Fed holds rates - Reuters"),
    ("Fed holds rates", "BREAKING: Fed holds rates | CNBC"),
    ("ECB raises rates to 4%", "ECB raised rates to 4 percent"),
    ("Oil rises 2% after OPEC cut", "After OPEC cut, oil rises 2%"),
    ("U.S. jobless claims rise", "US jobless claims rise"),
    ("Acme to buy Bolt for $3bn", "Acme to buy Bolt for $3 billion"),
    ("Acme to buy Bolt for $3.0 billion", "Acme to buy Bolt for $3,000 million"),
    ("Dollar at 3-year low", "Dollar at three-year low"),
    ("Inflation slows, Bank of Japan says", "Bank of Japan says inflation slows"),
    ("Low-carbon steel prices jump", "Low carbon steel price jumps"),
    ("STOCKS FALL ON TARIFF FEARS", "Stocks fall on tariff fears"),
    ("Stocks Fall on Tariff Fears", "Stocks fall on tariff fears"),
    ("Acme to buy Bolt for US$3bn", "Acme to buy Bolt for $3bn"),
    ("Tariffs slow growth, says ECB's Rossi", "Tariffs slow growth, ECB's Rossi says"),
    # politics
    ("Senate passes spending bill", "Senate Passes the Spending Bill"),
    ("Russia and Ukraine begin talks", "Russia, Ukraine begin talks"),
    ("Minister’s aide resigns", "Minister's aide resigns"),
    ("Premier is leaving the summit early", "Premier leaves summit early"),
    ("Rebels release hostage on Monday", "Rebels release hostage Monday"),
    ("Country tries a visa rule", "Countries try visa rules"),
    ("Live: Parliament votes on budget", "Parliament votes on budget"),
    # science
    ("NASA delays moon launch to 2027", "Nasa delays Moon launch to 2027"),
    ("Vaccine cuts malaria deaths by 70%", "Vaccine cuts malaria deaths by 70 per cent"),
    ("New fossil found in Chile", "New Fossil Found In Chile"),
    ("G-7 backs fusion research", "G7 backs fusion research"),
    # sport
    ("Rovers beat City 2-1", "Rovers beat City 2–1"),
    ("Champion withdraws from final", "The champion withdraws from the final - BBC Sport"),
    ("Coach “furious” after defeat", "Coach furious after defeat"),
    # disaster
    ("Quake kills nine in Peru", "Quake kills 9 in Peru"),
    ("Wildfires force thousands to flee", "Wildfire forces thousands to flee"),
    ("Ferry sinks off Java, 12 missing", "Ferry sinks off Java; twelve missing"),
    ("Tsunami warning lifted in Japan", "Tsunami warning is lifted in Japan — Update"),
]

OTHER = [
    # economics: a name, a number, a direction, a plan, a side
    ("Fed holds rates", "ECB holds rates"),
    ("Oil rises 2%", "Oil rises 3%"),
    ("Oil rises 1.5%", "Oil rises 15%"),
    ("Oil up +2%", "Oil up -2%"),
    ("Oil falls to $60", "Oil falls from $60"),
    ("Gold at $3 million", "Gold at $3 billion"),
    ("Fund loses $5m", "Fund loses £5m"),
    ("Rates rise to 5", "Rates rise to 5%"),
    ("Stocks rise on jobs data", "Stocks fall on jobs data"),
    ("Fed may cut rates", "Fed cuts rates"),
    ("Fed to cut rates", "Fed cuts rates"),
    ("Fed is cutting rates", "Is Fed cutting rates?"),
    ("Fed cuts rates", "Fed does not cut rates"),
    ("Fed isn't cutting rates", "Fed is cutting rates"),
    ("Acme sues over patents", "Acme sued over patents"),
    ("Bank fines $5m", "Bank fined $5m"),
    ("Acme to buy Bolt", "Bolt to buy Acme"),
    ("Oil falls after OPEC lifts output", "OPEC lifts output after oil falls"),
    ("Profit doubles in 2025", "Profit doubles in 2026"),
    ("Stocks rise Monday", "Stocks rise Tuesday"),
    ("US imports rise", "UK imports rise"),
    # politics
    ("Iran strikes Israel", "Israel strikes Iran"),
    ("Senate passes bill", "Senate passes bill despite veto threat"),
    ("Trump on Musk", "Musk on Trump"),
    ("Trump fired Musk", "Trump fired, Musk says"),
    ("Talks with Iran resume", "Talks without Iran resume"),
    ("Mayor says aide lied", "Aide says mayor lied"),
    ("Rebels to release hostage", "Rebels release hostage"),
    ("Labour gains in North Wales", "Labour gains in South Wales"),
    ("Parliament dissolves - Prime Minister resigns", "Parliament dissolves - King refuses"),
    ("Poll puts Left ahead, Right second", "Poll puts Right ahead, Left second"),
    ("IS attacks Aleppo", "Attacks on Aleppo"),
    ("Minister cleared of fraud", "Minister convicted of fraud"),
    # science
    ("Probe lands on Mars", "Probe lands on Moon"),
    ("Trial of drug succeeds", "Trial of drug fails"),
    ("Study links diet to cancer", "Study links exercise to cancer"),
    ("Covid-19 cases rise", "Covid-22 cases rise"),
    ("Team grows apple trees near Turin", "The team grows Apple trees near Turin"),
    # sport
    ("Rovers beat City 2-1", "City beat Rovers 2-1"),
    ("Rovers beat City 2-1", "Rovers beat City 1-2"),
    ("Rovers win final", "Rovers win semi-final"),
    ("Rovers coach fires", "Rovers coach fired"),
    ("Rovers sign Brown for a season", "Rovers sign Browns for a season"),
    # disaster
    ("Nine dead in school shooting", "10 dead in school shooting"),
    ("Quake of 6.1 hits Peru", "Quake of 6.7 hits Peru"),
    ("Storm nears Florida", "Storm leaves Florida"),
    ("Dam holds after flood", "Dam fails after flood"),
    ("Five rescued from mine", "Five feared dead in mine"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_the_same_news_told_again_is_found(a: str, b: str) -> None:
    """Catches an outcome that an echo of the prompt would match."""
    assert is_near_duplicate(a, b)
    assert is_near_duplicate(b, a)


@pytest.mark.parametrize(("a", "b"), OTHER)
def test_news_that_differs_in_one_fact_stays(a: str, b: str) -> None:
    """Catches the guard that throws away the very outcome a forecast is about: raw similarity of
    these pairs is as high as that of true repeats."""
    assert not is_near_duplicate(a, b)
    assert not is_near_duplicate(b, a)


def test_a_title_key_drops_spelling_and_keeps_what_carries_meaning() -> None:
    """Catches "1.5%" read as "15", and a per cent sign that is lost with the commas."""
    assert title_key("U.S. rates rise!") == title_key("US Rates: Rise") == "us rates rise"
    assert title_key("S&P’s 1,200-point drop") == "sps 1200 point drop"
    assert title_key("Oil −1.5% (Brent)") == "oil -1.5% brent"
    assert title_key("2025-26: $5 | Why?") == "2025 26 $5 why ?"
    keys = [title_key(f"Oil {n}") for n in ("5", "+5", "-5", "$5", "5%", ".5", "5?")]
    assert len(set(keys)) == len(keys)
    assert title_key("—!") == "—!"


def test_batches_agree_with_pairs() -> None:
    """Catches a prefilter that drops what the guard would have kept, or the reverse."""
    titles = [title for pair in SAME + OTHER for title in pair]
    known = titles[::7]
    left = without_near_duplicates(titles, known)
    assert left == [
        i for i, t in enumerate(titles) if not any(is_near_duplicate(t, k) for k in known)
    ]
    kept: list[int] = []
    for i, title in enumerate(titles):
        if not any(is_near_duplicate(title, titles[j]) for j in kept):
            kept.append(i)
    assert first_of_each(titles) == kept


def test_the_earliest_of_each_story_is_kept_in_its_place() -> None:
    """Catches a later retelling kept in place of the first."""
    titles = ["Fed holds rates", "Oil up", "The Fed holds rates", "FED HOLDS RATES!", "Oil down"]
    assert first_of_each(titles) == [0, 1, 4]
    assert first_of_each([]) == []


def test_nothing_known_and_nothing_new_are_no_trouble() -> None:
    """Catches a matrix without rows."""
    assert without_near_duplicates([], ["a"]) == []
    assert without_near_duplicates(["a", "b"], []) == [0, 1]


HEADLINE_LIKE = st.lists(
    st.sampled_from(
        "Fed ECB holds hold held raised raising by to from $3bn -2% 1.5 nine 10 and the U.S. us "
        "says Says? Trump's K9 ' % LIVE: - Reuters | ٣ ½ … हिन्दी 株価 -".split()
    ),
    max_size=8,
).map(" ".join)


@given(HEADLINE_LIKE | st.text(max_size=40), HEADLINE_LIKE | st.text(max_size=40))
@example("", "the")
@example("LIVE:", "The")
@example("its", "it's")
def test_any_two_titles_compare_alike_both_ways(a: str, b: str) -> None:
    """Catches a title that stops the day, an answer that depends on the order of the pair, and a
    batch that decides otherwise than the pair."""
    same = is_near_duplicate(a, b)
    assert is_near_duplicate(b, a) == same
    assert is_near_duplicate(a, a)
    assert without_near_duplicates([a], [b]) == ([] if same else [0])
    assert first_of_each([a, b]) == ([0] if same else [0, 1])


def test_a_day_is_compared_in_a_third_of_a_second() -> None:
    """Catches a guard that runs on all 24,000 pairs of a day."""
    stems = "Fed ECB Oil Gold Rain Quake Trial Rovers Senate Vaccine".split()
    titles = [
        f"{stems[i % 10]} news of place {i} rises {i % 9}% in year {i % 7}" for i in range(400)
    ]
    without_near_duplicates(titles[:9], titles[:9])
    begun = time.process_time()
    assert len(without_near_duplicates(titles, titles[::7])) == 400 - len(titles[::7])
    assert time.process_time() - begun < 0.3


def test_real_days_hold_few_repeats_of_the_day_before(shared_data: Callable[[str], Path]) -> None:
    """Catches a rule grown loose: each of these was read, and each is the same news told again."""
    archive = load_archive(shared_data("replay/finance-2025-04-18--2025-06-30.jsonl.gz"))
    by_day: dict[object, list[str]] = defaultdict(list)
    for headline in archive.headlines:
        by_day[headline.first_seen.date()].append(headline.title)
    days = list(by_day.values())
    within = sum(len(titles) - len(first_of_each(titles)) for titles in days)
    across = sum(
        len(today) - len(without_near_duplicates(today, yesterday))
        for yesterday, today in pairwise(days)
    )
    assert (within, across) == (27, 11)
