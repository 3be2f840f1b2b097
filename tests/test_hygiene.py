"""The hygiene detector: what is wrong with a text, and that honest texts pass."""

import time

import pytest

from varro.reward.hedging import is_hedged
from varro.reward.hygiene import (
    LEAK_PATTERNS,
    HygieneLimits,
    inspect_text,
    leaks_in,
    without_copied_sentences,
)
from varro.reward.words import FUNCTION_WORDS, sentences_in, words_in

HEADLINE = "OPEC agrees to cut oil output"
GOOD = "Brent crude will rise 2% by Friday, driven by OPEC cuts; verify with ICE settlement data."

HONEST = (
    # economics
    GOOD,
    "The Federal Reserve will keep to its current range on Wednesday, citing sticky services "
    "inflation. Check the statement at 2 p.m. in Washington.",
    "US payrolls will come in near 140,000 on Friday, helped by health care hiring, and the "
    "jobless rate will stay at 4.2%. The Bureau of Labor Statistics report settles it.",
    "Headline inflation in the euro zone will ease to 2.1% tomorrow because energy is cheaper than "
    "a year ago; Eurostat's flash estimate will confirm it.",
    "Sterling gains 0.3% against the dollar by the London close as the Bank of England avoids any "
    "hint of a cut. Verify with the 4 p.m. fix.",
    "Do not expect a rate cut tomorrow: the ECB will hold at 2.0% and say that risks are balanced.",
    "Gold slips 0.5% to $3,310 an ounce by Thursday on a firmer dollar, as shown by the LBMA "
    "afternoon price.",
    "Nvidia shares will climb 1-2% by tomorrow's close after strong data-centre guidance from Dell "
    "Technologies Inc. and Micron.",
    "Copper falls about 1% within 24 hours: Chinese property sales are weak and inventories at the "
    "LME rose. Check the LME's Friday stock report.",
    "The yen should strengthen to 142 per dollar by Monday, driven by repatriation flows and a "
    "hawkish Bank of Japan. Tokyo's 5 p.m. rate is the test.",
    "Tesla will make sure that its Berlin plant reopens by Tuesday; expect deliveries down 3% on "
    "the quarter in its filing.",
    "Treasury yields edge up 4 basis points by Friday because the auction was soft. See the "
    "10-year close on Bloomberg.",
    "Shell and BP are set to rise roughly 1% tomorrow, lifted by firmer gas prices in Europe and "
    "Asia. Compare their closing prices in London.",
    "Retail sales in Britain probably fell 0.4% last month, hurt by rain; the ONS release on "
    "Friday will tell.",
    "Bitcoin will lose 2% by tomorrow night, weighed by outflows from US funds and a stronger "
    "dollar. Verify on Coinbase at midnight UTC.",
    "Boeing will avoid a strike this week: the union's vote on Thursday should pass with about "
    "60%, thanks to a higher pay offer.",
    "India's rupee will stay within 0.2% of 85.5 per dollar on Monday, as the central bank sells "
    "dollars. The RBI reference rate will show it.",
    "Wheat futures rise 1.5% in Chicago by tomorrow, supported by frost in Kansas and strong "
    "export sales. Look for the CBOT settlement.",
    # politics
    "The Senate will pass the spending bill by a narrow margin on Thursday, driven by pressure to "
    "avoid a shutdown. Check the roll call on Senate.gov.",
    "Keir Starmer will keep to his fiscal rules tomorrow, though two backbenchers will rebel; "
    "Hansard will record the vote.",
    "Poland's president will sign the border law within a day, because his party has asked him to. "
    "The official gazette will publish it.",
    "Turnout in Sunday's vote will rise two points to 68%, according to the electoral commission's "
    "first count, helped by good weather.",
    "Talks between Kyiv and Moscow in Istanbul will end without a ceasefire on Friday, but a "
    "prisoner swap of about 300 will be announced by both sides.",
    "The court will uphold the ban tomorrow by six votes to three, on narrow grounds. Its opinion "
    "will be posted at 10 a.m.",
    "Canada's new cabinet, to be sworn in on Tuesday, will have about 28 ministers, fewer than "
    "before. The Governor General's office will list them.",
    "Trump will delay the tariffs by 30 days, says nobody yet, but markets, donors and two "
    "senators want it. A White House order by Wednesday would confirm it.",
    "Brussels will fine the company around 500 million euros this week, a little less than "
    "feared, under its digital rules. See the Commission's press release.",
    "The coalition in The Hague will fall apart by Friday over asylum policy: Mr. Wilders has "
    "nothing to lose. Verify with the NOS evening bulletin.",
    "South Korea's ruling party will lose two seats in Wednesday's by-elections, due to anger over "
    "prices. The election commission publishes the tally overnight.",
    "Iran will not respond with force before Monday; it will answer with a letter to the U.N. "
    "instead. Look for the text on the Security Council's site.",
    "The mayor will resign by Thursday because the audit found missing funds. City hall's "
    "statement would be the proof.",
    "A majority of about 30 in the Commons will back the welfare bill tomorrow after the minister "
    "softens it, as the division list will show.",
    # science
    "The James Webb team will publish spectra of K2-18b on Wednesday with a 3-sigma hint of "
    "dimethyl sulphide, no more. Check the arXiv listing.",
    "SpaceX will launch Starship by Friday night if winds stay below 20 knots; the FAA notice and "
    "the webcast will confirm it.",
    "Measles cases in Texas will rise by about 15 this week, driven by low vaccination in Gaines "
    "County. The state's Tuesday update is the measure.",
    "The WHO will declare the mpox emergency over within days, since cases have fallen 40% in two "
    "months. Its committee's statement settles it.",
    "Sea ice in the Arctic will shrink by 0.4 million square kilometres over the week because of "
    "warm southerly winds; NSIDC data will tell.",
    "As an AI company under scrutiny, OpenAI will publish its system card tomorrow and name the "
    "drivers of its safety score. Its blog will carry it.",
    "The user base of Bluesky will grow 1% by Sunday, helped by another outage at X. Its public "
    "counter shows the figure.",
    "CERN's new run will start on Monday at 13.6 TeV, a day later than planned, after a vacuum "
    "leak. Verify with the LHC status page.",
    "A panel of the FDA will back the drug by 9 votes to 2 on Thursday, thanks to clean safety "
    "data. The agency posts the tally the same day.",
    "El Niño odds will go up five points to 60% in NOAA's Thursday bulletin because the "
    "subsurface Pacific has warmed.",
    "Novo Nordisk's trial will report a weight loss of 22% tomorrow, a little under hopes; the "
    "company announcement at 7 a.m. is decisive.",
    "The probe will enter orbit around Mars on Friday with β-angle limits kept, and the first "
    "images of 5 m per pixel will follow within hours.",
    # sport
    "Arsenal will beat Chelsea 2-1 on Saturday, with Saka decisive, because Chelsea's defence is "
    "depleted. The Premier League site will show the result.",
    "Carlos Alcaraz wins in four sets tomorrow, driven by his serve on grass and a tired opponent. "
    "Check the Wimbledon scoreboard.",
    "Ferrari will name the driver for its second car by Friday, and it will be Hamilton. The "
    "team's statement settles it.",
    "The Lakers will lose by about six points tonight without LeBron James, due to poor "
    "rebounding. See the NBA box score.",
    "England reach 300 by tea on day two at Lord's, helped by a flat pitch, and lead by 40. "
    "Cricinfo's card will tell.",
    "An assistant coach will take charge of Sunday's match vs. Porto, and the team will draw, as "
    "two midfielders are suspended. UEFA's report confirms it.",
    "Kenya's Faith Kipyegon will miss the four-minute mile on Thursday by three seconds; wind and "
    "pacing are against her. World Athletics will publish the time.",
    "Ticket prices for the final rise 5% by Monday on resale sites because both finalists are "
    "local. Compare the StubHub median.",
    "Win or lose, the All Blacks will keep their captain for Saturday's test, says the coach; "
    "the team sheet is due on Thursday.",
    "The peloton will stay together until the last climb tomorrow, and Pogačar will gain 20 "
    "seconds, thanks to his team. The Tour's standings verify it.",
    "Attendance at the derby will fall 3% to about 51,000 on Sunday, hurt by rail works. The "
    "club's official figure will confirm it.",
    # disaster
    "Hurricane Erin will weaken to category two by Friday over cooler water, though surf will stay "
    "high. Verify with the NHC 5 a.m. advisory.",
    "The death toll from the quake in Myanmar will pass 3,500 by tomorrow, as crews reach Sagaing. "
    "Check the U.N. situation report.",
    "Firefighters will contain about 40% of the Palisades blaze by Thursday, helped by calmer "
    "winds and aircraft. Cal Fire's evening update shows the share.",
    "The river at Passau will crest near 9 metres on Tuesday night and then go down, driven by "
    "Alpine rain. Bavaria's flood service publishes the gauge.",
    "Power will be back for most of Porto by 8 p.m. tomorrow because two lines are repaired; look "
    "at the grid operator's map.",
    "Lava from the Reykjanes eruption will not reach Grindavík this week, as the flow has slowed. "
    "The Met Office's map is updated daily.",
    "Typhoon Wipha brings 200 mm of rain to Guangdong by Monday, a bit less than feared, and "
    "flights in Hong Kong resume. See the Observatory's totals.",
    "Investigators will say by Friday that the ferry was overloaded by about 60 people, citing the "
    "manifest. The transport ministry's bulletin is the source.",
    "Drought limits in Catalonia will be eased on Wednesday since reservoirs rose to 75%; the "
    "water agency's order will confirm it.",
    "Evacuation orders for about 2,000 homes near Kelowna will be lifted tomorrow, thanks to rain, "
    "according to the regional district",
    "Check whether the dam's level rose or fell overnight: it will rise 30 cm by Sunday, fed by "
    "snowmelt, on the ministry's gauge.",
    "The avalanche risk in Tyrol will go up to level four by Saturday with 50 cm of new snow "
    "(see the Lawinenwarndienst bulletin).",
)


def words_of(n):
    """A number of different honest words."""
    return " ".join(["the market will rise on"] + [f"day{i}" for i in range(n - 5)])


@pytest.mark.parametrize("text", HONEST)
def test_honest_forecasts_pass(text):
    """Catches a detector that punishes good English: "keep to", "avoid", "do not", "U.N."."""
    found = inspect_text(text, HEADLINE)
    assert found.invalid_reason() is None
    assert (found.leak, found.hedged, found.truncated) == (False, False, False)
    assert found.script_frac < 0.05
    assert found.function_word_frac >= 0.2
    assert without_copied_sentences(text, HEADLINE) == text


def test_there_are_enough_honest_forecasts():
    """Catches a false-positive rate that is measured on a handful."""
    assert len(set(HONEST)) >= 60


def test_copies_are_measured_by_hand_worked_shares():
    """Catches a share of the wrong text, and an echo that a long rest hides."""
    # opec agrees | agrees to | to cut | cut oil | oil output: five bigrams in the headline.
    echo = inspect_text("OPEC agrees to cut oil output.", HEADLINE)
    assert (echo.copy_frac, echo.copy_run_frac) == (1.0, 1.0)
    # Thirteen words have twelve bigrams, five of them the headline's.
    padded = inspect_text(
        "“OPEC agrees, to cut OIL output” and so the price of crude will", HEADLINE
    )
    assert padded.copy_frac == pytest.approx(5 / 12)
    assert padded.copy_run_frac == 1.0
    # The longest run is "cut oil output": three of six words.
    partly = inspect_text("Members cut oil output as OPEC agrees.", HEADLINE)
    assert partly.copy_run_frac == 0.5
    assert partly.copy_frac == 0.5  # cut oil, oil output, opec agrees of six
    apart = inspect_text("Brent will rise.", HEADLINE)
    assert (apart.copy_frac, apart.copy_run_frac) == (0.0, 0.0)


def test_a_copy_hides_behind_no_punctuation_case_or_invisible_character():
    """Catches a copy gate that "U.S." for "US", a curly apostrophe or a zero-width space opens."""
    headline = "US holds Trump's 2.5% tariff"
    for text in ("U.S. holds Trump’s 2.5% tariff", "us HOLDS, trump's: 2.5 tariff",
                 "U\u200bS ho\u00adlds Trump's 2.5% tariff"):  # fmt: skip
        assert inspect_text(text, headline).copy_run_frac == 1.0, text


def test_no_headline_and_no_text_divide_nothing_by_nothing():
    """Catches a ZeroDivisionError in the night."""
    for text, headline in (("", HEADLINE), (GOOD, ""), ("", ""), ("!", "?"), ("a", "b")):
        found = inspect_text(text, headline)
        assert (found.copy_frac, found.copy_run_frac, found.repetition_frac) == (0.0, 0.0, 0.0)


def test_repetition_is_the_share_of_trigrams_seen_before():
    """Catches a count of words: 12 words have 10 trigrams; four words in turn have 4 of them."""
    found = inspect_text("oil will rise soon " * 3, HEADLINE)
    assert found.repetition_frac == pytest.approx(0.6)
    assert found.invalid_reason() is None  # 0.6 is not more than 0.6
    assert inspect_text("oil will rise soon " * 4, HEADLINE).invalid_reason() == "repetition"
    assert inspect_text(GOOD, HEADLINE).repetition_frac == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "Brent crude will rise 2% by Friday, driven by the",
        "Brent crude will rise 2% by Friday, driven by OPEC cuts and",
        "Brent crude will rise 2% by Friday, because the market is",
        "On Friday Brent crude will rise by 2%,",
        "Brent crude will rise 2% by Friday (as shown by ICE",
        'Brent crude will rise 2% by Friday, says "the best desk in London',
        "Brent crude will rise 2% by Friday to $",
        "Brent crude will rise 2% by Friday, a near-",
        "Brent crude will rise 2% by Friday. Verify with its",
    ],
)
def test_a_text_cut_in_mid_sentence_is_truncated(text):
    """Catches the original's 89 % of forecasts that stop in the middle and score as whole."""
    found = inspect_text(text, HEADLINE)
    assert (found.truncated, found.unclosed) == (True, False)
    assert found.invalid_reason() == "truncated"


@pytest.mark.parametrize(
    ("text", "unclosed"),
    [
        ("Brent crude will rise 2% by Friday, verify with ICE settlement data", True),
        ("Brent crude will be the one to watch, and it will go up", True),
        ("The vote on Friday will tell whether it passes or not", True),
        ("The jobless rate will rise to 7% for the first time in May", True),
        (GOOD, False),
        ("The minister will say by Friday that “growth is back.”", False),
        ("The price will rise by Friday (check the ICE data.)", False),
        ("The price will rise by Friday; so much for the", None),
    ],
)
def test_a_missing_full_stop_alone_is_only_unclosed(text, unclosed):
    """Catches a whole answer thrown away for its last character."""
    found = inspect_text(text, HEADLINE)
    assert found.truncated is (unclosed is None)
    assert found.unclosed is bool(unclosed)


def test_the_samplers_word_on_truncation_counts():
    """Catches a text that ran out of tokens just at a full stop."""
    assert inspect_text(GOOD, HEADLINE, finish_reason="length").truncated
    assert not inspect_text(GOOD, HEADLINE, finish_reason="paragraph").truncated


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"<think>The news is on oil.</think> {GOOD}", "control token"),
        (f"<|im_start|>assistant {GOOD}", "control token"),
        (f"[INST] {GOOD} [/INST]", "control token"),
        (f"Assistant: {GOOD}", "chat role"),
        (f"{GOOD}\nUser: what next?", "chat role"),
        (f"### Response\n{GOOD}", "chat role"),
        (f"As an AI language model, I cannot know. {GOOD}", "assistant talk"),
        (f"Here is a forecast for tomorrow: {GOOD}", "assistant talk"),
        (f"Here's the one-paragraph forecast. {GOOD}", "assistant talk"),
        (f"{GOOD} I cannot predict the future.", "assistant talk"),
        (f"{GOOD} Let me know if you need more.", "assistant talk"),
        (f"Sure! {GOOD}", "assistant talk"),
        (f"The headline says that OPEC agrees. {GOOD}", "task talk"),
        (f"The user wants a forecast. {GOOD}", "task talk"),
        (f"Headline: {HEADLINE}\n{GOOD}", "task talk"),
        (f"I need to name the drivers. {GOOD}", "task talk"),
        (f"{GOOD} In one paragraph.", "prompt echo"),
        ("Write one plain paragraph that forecasts tomorrow's news on it", "prompt echo"),
        ("Name the object, its direction with a small magnitude, by when", "prompt echo"),
        (f"{GOOD} This is how to verify it.", "prompt echo"),
        (f"{GOOD} Include the key drivers.", "prompt echo"),
        ("Brent crude will rise [number]% by [date], driven by OPEC cuts.", "placeholder"),
        ("Brent crude will rise XX% by Friday, driven by OPEC cuts.", "placeholder"),
    ],
)
def test_what_leaks_is_named(text, kind):
    """Catches instruction echo, assistant talk and control tokens that earn a reward."""
    assert kind in leaks_in(text)
    assert inspect_text(text, HEADLINE).leak


def test_every_kind_of_leak_has_a_text_that_only_it_catches():
    """Catches a kind that is listed in the report and can never be seen."""
    seen = {
        "control token": "<|endoftext|>",
        "chat role": "user: what next?",
        "assistant talk": "I hope this helps.",
        "task talk": "Final answer.",
        "prompt echo": "You forecast the news.",
        "placeholder": "[insert company here]",
    }
    assert {kind: leaks_in(text) for kind, text in seen.items()} == {k: (k,) for k in LEAK_PATTERNS}


@pytest.mark.parametrize(
    "text",
    [
        "Brent may rise or fall tomorrow.",
        "Brent may rise 2% or fall 2%, depending on OPEC.",
        "Shares could fall, or they could also climb, by Friday.",
        "The price will move up or down by 1%.",
        "The vote could go either way on Thursday.",
        "Gold will move in either direction by 2%.",
        "The bank will cut or raise rates.",
        "Gold will both rise and fall tomorrow.",
        "The bill may or may not pass.",
        "Arsenal will win or lose on Saturday.",
        "Exports will strengthen, or the opposite.",
        "It is unclear whether prices will be higher or lower.",
        "Brent will rise 1% by Friday. Brent will fall 1% by Friday.",
        "Brent crude will rise 1%, but it may fall 1%.",
        "The index is likely to gain 1%. However, it could also drop 2%.",
    ],
)
def test_both_ways_is_a_hedge(text):
    """Catches a forecast that cannot be wrong."""
    assert is_hedged(text)


@pytest.mark.parametrize(
    "text",
    [
        "Gold will rise 1% and the dollar will fall 1%.",
        "Gold will rise 1% while bond prices could also fall.",
        "Shares will rise 2% or more.",
        "Shares will rise 1%. Verify whether they rose or fell at the close.",
        "Shares will rise 1%. Check whether the close is higher or lower.",
        "Shares will rise or at least hold.",
        "Ford will cut costs or raise prices.",
        "The up or down vote is on Thursday.",
        "Revenue will rise or fall short of hopes by little.",
        "Inflation will not rise; it will fall 0.1 points.",
        "More or less all shares will rise.",
        "Win or lose, the coach stays.",
    ],
)
def test_two_claims_are_no_hedge(text):
    """Catches a count of up and down words: two things may go two ways."""
    assert not is_hedged(text)


def test_scripts_other_than_the_headlines_count():
    """Catches emoji, control characters and other alphabets that pass as prose."""
    # 5 of 8 letters; 1 emoji among 5 signs; 1 control among 3; 5 of 7 letters.
    assert inspect_text("oil нефть", "Oil").script_frac == pytest.approx(5 / 8)
    assert inspect_text("rise 🚀", "Oil").script_frac == pytest.approx(1 / 5)
    assert inspect_text("up\x07\n\t", "Oil").script_frac == pytest.approx(1 / 3)
    assert inspect_text("𝐁𝐫𝐞𝐧𝐭 up", "Oil").script_frac == pytest.approx(5 / 7)
    assert inspect_text("нефть oil", "Нефть дорожает").script_frac == 0.0
    assert inspect_text("Pogačar, Grindavík, 25 °C, ™, ▲ 2%", "Oil").script_frac == 0.0
    russian = "нефть дорожает the market in the end will see it."
    assert inspect_text(russian, "Oil up").invalid_reason() == "script"


def test_keywords_are_no_prose():
    """Catches keyword stuffing: it has no function words, prose has one in four."""
    stuffed = "oil brent OPEC cuts rise 2% Friday ICE settlement data report prices energy."
    found = inspect_text(stuffed, HEADLINE)
    assert found.function_word_frac == 0.0
    assert found.invalid_reason() == "no prose"
    assert inspect_text("— — — — — — — — —.", HEADLINE).invalid_reason() == "no prose"
    # will, by, by, with: 4 of the 15 words that are letters.
    assert inspect_text(GOOD, HEADLINE).function_word_frac == pytest.approx(4 / 15)


def test_short_and_empty_texts_earn_nothing():
    """Catches an empty answer with the reward of a middling one."""
    assert inspect_text("", HEADLINE).invalid_reason() == "empty"
    assert inspect_text(" \n", HEADLINE).invalid_reason() == "empty"
    assert inspect_text("Brent will rise by 2% on Friday.", HEADLINE).words == 7
    assert (
        inspect_text("Brent will rise by 2% on Friday.", HEADLINE).invalid_reason() == "too short"
    )
    assert inspect_text("Brent will rise by 2% on Friday night.", HEADLINE).invalid_reason() is None


def test_limits_are_limits():
    """Catches a limit that is read nowhere."""
    found = inspect_text(GOOD, HEADLINE)
    assert found.invalid_reason(HygieneLimits(min_words=99)) == "too short"
    assert found.invalid_reason(HygieneLimits(min_function_word_frac=0.9)) == "no prose"
    assert found.invalid_reason(HygieneLimits(max_repetition_frac=-1)) == "repetition"
    assert found.invalid_reason(HygieneLimits(max_script_frac=-1)) == "script"


def test_copied_sentences_go_and_the_rest_stays():
    """Catches a reward for the headline pasted in front of a forecast."""
    assert without_copied_sentences(f"{HEADLINE}. {GOOD}", HEADLINE) == GOOD
    assert without_copied_sentences(f"{GOOD} {HEADLINE}", HEADLINE) == GOOD
    assert without_copied_sentences(HEADLINE, HEADLINE) == ""
    # members opec | opec agrees | agrees to | to cut | cut oil: 4 of 5 are the headline's.
    sentence = "Members: OPEC agrees to cut oil."
    assert without_copied_sentences(sentence, HEADLINE, limit=0.79) == ""
    assert without_copied_sentences(sentence, HEADLINE, limit=0.8) == sentence


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("The U.S. economy grew 2.5% on Jan. 3. It will slow.", 2),
        ("Arsenal vs. Chelsea ends 2-1. Mr. Smith of Acme Corp. agrees.", 2),
        ("Output fell in the U.S. The Fed will cut.", 2),
        ("Opinion: the U.S. Will Pause Peace Talks", 1),
        ("It opens at 9 a.m. Verify at noon.", 2),
        ("J. Powell speaks at 2 p.m. on Wednesday.", 1),
        ("Will it rise? Yes! It will… and then stop.", 3),
        ("It will rise.\nIt will fall", 2),
        ("He said “it will rise.” Nobody agrees.", 2),
        ("The answer is no. Shares fall. See page No. 5 of the report.", 3),
        ("Yahoo! shares rise 1%.", 1),
        ("it rises 2%. verify with ICE data.", 2),
        ("", 0),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text, n):
    """Catches a split inside "2.5%", "U.S." or "Jan. 3"."""
    found = sentences_in(text)
    assert len(found) == n, found
    assert " ".join(found) == " ".join(text.split())


def test_words_are_folded():
    """Catches two tokenizers: function words must be spelled as words are."""
    assert words_in("The U.S.'s near-term 1,200.5 don’t—ﬁn Q3") == [
        "the", "uss", "near", "term", "1,200.5", "dont", "fin", "q3",
    ]  # fmt: skip
    assert all(words_in(word) == [word] for word in FUNCTION_WORDS)


@pytest.mark.parametrize(
    "piece",
    ["rise or ", "it will ", "( ", '" ', "a.b.", "# ", "here is a ", "\u200b", "<|", "\n", "\n ",
     " ", ".", "!", "…", "#", "*", "-"],
)  # fmt: skip
def test_hostile_lengths_are_quick(piece):
    """Catches a regular expression that backtracks: a thousand newlines took six seconds."""
    text = (piece * 20_000)[:20_000]
    started = time.process_time()
    inspect_text(text, HEADLINE)
    assert time.process_time() - started < 1.0
