"""The sections on cadence and on the best of k: words from tokens, and what is said of a curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from varro.config import PolicyConfig
from varro.domain import EvaluationInfo, Forecast
from varro.errors import PolicyError
from varro.policy.pieces import token_pieces
from varro.report.best_of import SAID, best_of_part, best_of_section
from varro.report.cadence import END, cadence_part, cadence_section, word_surprisal

TINY = Path(__file__).resolve().parent.parent / "data" / "tiny-policy"


def forecast(*surprisal):
    return Forecast("f", "g", 0, (1,) * len(surprisal), -np.float32(surprisal), "", "stop", 0)


def test_a_word_is_as_surprising_as_its_tokens_together():
    """Catches a word that is told by its first token alone, and a stop token taken for a word."""
    pieces = ["Cop", "per", " rises", " by", " 2", "%", ".\n", "Why", "?", ""]
    found = word_surprisal(forecast(1.0, 2.0, 0.5, 0.5, 4.0, 0.25, 0.5, 8.0, 0.5, 0.5), pieces)
    # Mean 1.775, sd 2.35: of the tokens only the 8 is a spike, the 4 just is not.
    assert found == [
        ["Copper", 3.0, False],
        ["rises", 0.5, False],
        ["by", 0.5, False],
        ["2%.", 4.75, False],
        ["Why?", 8.5, True],
        [END, 0.5, False],
    ]


def test_tokens_of_space_and_of_half_a_character_belong_to_what_they_lead_to():
    """Catches an empty word, and a surprisal that is lost with a token without text."""
    found = word_surprisal(forecast(1.0, 0.5, 0.5, 2.0, 4.0), ["a", " ", "\n", "", "é b"])
    assert found == [["a", 1.0, False], ["é b", 7.0, True]]
    assert word_surprisal(forecast(), []) == []
    assert word_surprisal(forecast(0.5), [""]) == [[END, 0.5, False]]


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(TINY / "tokenizer.json"))


@pytest.mark.parametrize(
    "text", ["Copper rises 2 %, by Friday.\n\nWhy? ", "تیل مہنگا", "तेल महँगा", "🚢 émeutes", ""]
)
def test_pieces_are_the_text_that_each_token_wrote(tokenizer, text):
    """Catches characters of several tokens that are lost, or shown as signs of damage."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    pieces = token_pieces(PolicyConfig(model=str(TINY)), ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)


def test_a_character_that_was_cut_off_is_shown_as_one(tokenizer):
    """Catches the last piece of a forecast that ended inside a character, dropped or waited for."""
    ids = tokenizer.encode("🚢", add_special_tokens=False).ids
    assert len(ids) > 1
    pieces = token_pieces(PolicyConfig(model=str(TINY)), ids[:-1])
    assert "".join(pieces).strip("\ufffd") == "" and pieces[-1]


def test_special_tokens_write_nothing(tokenizer):
    """Catches the stop token's name shown as a word of the forecast."""
    stop = tokenizer.token_to_id("<|im_end|>")
    ids = [*tokenizer.encode("Oil", add_special_tokens=False).ids, stop]
    assert token_pieces(PolicyConfig(model=str(TINY)), ids)[-1] == ""


def test_a_tokenizer_that_is_gone_is_none_and_a_damaged_one_an_error(tmp_path):
    """Catches a report that fails, or asks the network, when its model is not on this machine."""
    for model in (tmp_path / "gone", tmp_path, "nobody/no-such-model"):
        assert token_pieces(PolicyConfig(model=str(model)), [1]) is None
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(PolicyError, match="cannot read the tokenizer"):
        token_pieces(PolicyConfig(model=str(tmp_path)), [1])


def part(example, pieces):
    return cadence_part([], example, pieces, seed=0, day="2026-01-05", n_bootstrap=200)


def test_the_least_expected_word_is_named_and_the_chart_has_every_word():
    """Catches a finding of another word than the chart shows."""
    section = cadence_section(part(forecast(0.5, 4.0, 0.5), ["Oil", " falls", ""]))
    (chart,) = section.charts
    assert "the least expected word is falls ▲, at 4.000 nats" in chart.finding
    assert [row[:2] for row in chart.rows] == [
        ("Oil", "0.500"), ("falls ▲", "4.000"), (END, "0.500"),
    ]  # fmt: skip
    assert section.tables == () and "forecast by both" in section.notes[0]


@pytest.mark.parametrize(("example", "pieces"), [(None, None), (forecast(1.0), None)])
def test_what_is_not_there_is_said(example, pieces):
    """Catches an empty chart where the tokenizer is not at hand, and a day without forecasts."""
    found = part(example, pieces)
    assert found == {"compared": None, "example": None}
    section = cadence_section(found)
    assert section.charts == () and len(section.notes) == 2


def test_a_long_forecast_is_drawn_as_far_as_the_page_has_room():
    """Catches a page that grows with its longest forecast, and one that does not say so."""
    found = part(forecast(*[0.5] * 150), [" word"] * 150)
    (chart,) = cadence_section(found).charts
    assert len(found["example"]["words"]) == 150 and len(chart.rows) == 100
    assert chart.finding.endswith("Of 150 words the first 100.")


def test_a_forecast_without_tokens_is_a_chart_without_words():
    """Catches a maximum of nothing."""
    (chart,) = cadence_section(part(forecast(), [])).charts
    assert chart.rows == () and "is —, at — nats" in chart.finding


def evaluation(day, *rows):
    return EvaluationInfo("r", day, 1, None, None, None, {"best_of": list(rows)} if rows else {})


def row(k, difference):
    return {"k": k, "n": 9, "served": 0.2 + difference, "base": 0.2, "difference": difference,
            "low": None, "high": None}  # fmt: skip


def test_the_curve_of_all_days_is_put_in_words():
    """Catches a word that the page does not explain, and days of older ledgers that end it."""
    days = [
        evaluation("2026-01-05"),
        *(evaluation(f"2026-01-0{n}", row(1, 0.05 + n / 1000), row(2, 0.001 * (-1) ** n))
          for n in range(6, 10)),
    ]  # fmt: skip
    found = best_of_part([], days, seed=0, day="2026-01-09", n_bootstrap=500)
    assert found["word"] == "sharper" and found["night"] == []
    assert [pooled["n_days"] for pooled in found["pooled"]] == [4, 4]
    section = best_of_section(found)
    assert SAID["sharper"] in section.charts[0].finding
    assert [table.caption[:8] for table in section.tables] == ["Over all"]
    assert [row[0] for row in section.charts[0].rows] == ["1", "2"]


def test_a_first_day_has_no_curve():
    """Catches an empty table, or a chart of zeros."""
    found = best_of_part([], [evaluation("2026-01-05")], seed=0, day="2026-01-05", n_bootstrap=200)
    assert found == {"night": [], "pooled": [], "word": "open"}
    section = best_of_section(found)
    assert (section.tables, section.charts) == ((), ()) and len(section.notes) == 1
