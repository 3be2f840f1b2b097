"""The scorer with the real embedder: what right, wrong and hollow texts earn, and what they do
not depend on."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from random import Random

import numpy as np
import pytest

from varro.config import RewardConfig
from varro.reward.score import (
    News,
    combine,
    reward_version,
    rival_contrasts,
    score_texts,
)

ROOT = Path(__file__).resolve().parent.parent
CONFIG = RewardConfig()
PLAIN = RewardConfig(kind="similarity")
SILENT = "A retired baker in Lower Wimble has taught his parrot to whistle the kettle's tune"
"""nothing like it is published"""

ALWAYS = {
    "format", "raw", "gate", "topic", "valid", "words", "copy_frac", "copy_run_frac",
    "repetition_frac", "truncated", "leak", "hedged", "script_frac",
    "object", "direction", "magnitude", "timeframe", "drivers", "verification",
}  # fmt: skip
RESOLVED = {"similarity", "vote", "margin"}
AGAINST_OTHER_DAYS = {"placebo", "contrast", "semantic"}
EVEN = {"even_contrast", "shuffled", "raw_placebo"}
"""whether or not anything is linked to the headline"""


@pytest.fixture(scope="module")
def bench():
    """The benchmark script, as a module."""
    path = ROOT / "scripts" / "bench_reward.py"
    spec = importlib.util.spec_from_file_location("bench_reward", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sets():
    folder = ROOT / "scripts" / "reward_items"
    return {
        path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted(folder.glob("*.jsonl"))
    }


@pytest.fixture(scope="module")
def items(sets):
    return sets["c"]


@pytest.fixture(scope="module")
def news(bench, sets):
    """The day of set c; the other sets are its past."""
    return News(
        headlines=(*(item["headline"] for item in sets["c"]), SILENT),
        outcomes=tuple(title for item in sets["c"] for title in item["outcomes"]),
        placebo_days=bench.placebo_days([sets["a"], sets["b"]]),
    )


@pytest.fixture(scope="module")
def score(embedder, news):
    """Scores texts about the day's headlines."""

    def scored(texts, about, *, news=news, config=CONFIG, seed=0, **rest):
        return score_texts(texts, about, news, embedder=embedder, config=config, seed=seed, **rest)

    return scored


# -- what is absent, and what is nothing


def test_an_invalid_text_earns_nothing(score, items):
    """Catches a right forecast that is paid though it leaks the prompt, and one cut off."""
    right = items[0]["right"]
    texts = [right, right, f"<|im_end|> {right}", "Rates fall.", ""]
    reasons = ["stop", "length", "stop", "stop", "stop"]
    found = score(texts, [0] * 5, finish_reasons=reasons)
    assert [s.invalid for s in found] == [None, "truncated", "leak", "too short", "empty"]
    assert found[0].reward > 0.4
    for scored in found[1:]:
        assert scored.reward == 0.0
        assert scored.components["format"] == scored.components["semantic"] == 0.0
        assert scored.components["valid"] == 0.0


def test_an_unresolved_headline_has_no_semantic_part(score, items, news):
    """Catches "nothing was published" read as "nobody foresaw it": the reward is the format's."""
    text = (
        "The retired baker's parrot will whistle 2 more tunes by Friday, driven by daily practice "
        "and fresh seed. Verify with the Lower Wimble newsletter."
    )
    unresolved, resolved = score([text, items[0]["right"]], [len(items), 0])
    assert set(unresolved.components) == ALWAYS | EVEN
    assert unresolved.outcome is None
    assert unresolved.invalid is None
    assert unresolved.components["format"] > 0.3
    assert unresolved.reward == pytest.approx(0.25 * unresolved.components["format"])
    assert resolved.outcome is not None
    # An invalid text about it is still unresolved, and earns nothing.
    (cut,) = score([text], [len(items)], finish_reasons=["length"])
    assert "semantic" not in cut.components
    assert cut.reward == 0.0


def test_without_placebo_days_there_is_no_contrast(score, items, news):
    """Catches raw similarity paid as contrast on a run's first days."""
    alone = replace(news, placebo_days=())
    text = items[0]["right"]
    (found,) = score([text], [0], news=alone)
    assert set(found.components) == ALWAYS | RESOLVED
    assert found.reward == pytest.approx(0.25 * found.components["format"])
    # Days without news are no placebo days, and too few headlines are none.
    few = replace(news, placebo_days=((), ("Rain expected in the north",)))
    assert "semantic" not in score([text], [0], news=few)[0].components


def test_an_assumed_placebo_stands_in(score, items, news):
    """Catches an assumption that overrules placebo days that are there, or is added to."""
    text = items[0]["right"]
    alone = replace(news, placebo_days=())
    (found,) = score([text], [0], news=alone, assumed_placebo=0.3)
    assert set(found.components) == ALWAYS | RESOLVED | AGAINST_OTHER_DAYS
    assert found.components["placebo"] == 0.3
    assert found.components["contrast"] == pytest.approx(found.components["similarity"] - 0.3)
    with_days, without = score([text], [0], assumed_placebo=0.9)[0], score([text], [0])[0]
    assert with_days.components == without.components


def test_a_day_without_outcomes_scores_the_format(score, items, news):
    """Catches the maximum of no outcomes, with past days or without."""
    text = items[0]["right"]
    for days in (news.placebo_days, ()):
        (found,) = score([text], [0], news=replace(news, outcomes=(), placebo_days=days))
        assert "semantic" not in found.components
        assert found.components["raw"] == 0.0
        assert found.reward == pytest.approx(0.25 * found.components["format"])


def test_no_texts_score_nothing(score):
    """Catches an empty batch sent to the embedder."""
    assert score([], []) == []


def test_a_text_that_only_copies_its_headline_has_no_words_of_its_own(score, items):
    """Catches the headline's own similarity paid once the copied sentences are struck out."""
    headline = items[3]["headline"]
    (found,) = score([f"{headline}. {headline}."], [3])
    assert found.components["similarity"] == found.components["semantic"] == 0.0
    assert found.outcome is None


def test_copied_sentences_are_struck_out_before_anything_is_compared(score, items):
    """Catches the headline pasted in front, which lends a forecast its own similarity."""
    headline, right = items[3]["headline"], items[3]["right"]
    plain, pasted = score([right, f"{headline}. {right}"], [3, 3])
    for name in ("similarity", "placebo", "contrast", "vote", "margin"):
        assert pasted.components[name] == plain.components[name], name
    assert pasted.components["gate"] < plain.components["gate"]
    assert pasted.reward < plain.reward


def test_a_forecast_about_something_else_has_no_format(score, items):
    """Catches five beats paid to a forecast that was written for any headline."""
    here, elsewhere = score([items[0]["right"]] * 2, [0, len(items)])
    assert here.components["topic"] == 1.0
    assert here.components["format"] > 0.3
    assert elsewhere.components["topic"] == elsewhere.components["format"] == 0.0


# -- components


def test_components_are_the_documented_ones(score, items):
    """Catches a component that appears or is renamed unseen: the report reads them by name."""
    told = f"{items[0]['right']} The probability is 70%."
    plain, sure = score([items[0]["right"], told], [0, 0])
    everything = ALWAYS | RESOLVED | AGAINST_OTHER_DAYS | EVEN
    assert set(plain.components) == everything
    assert set(sure.components) == everything | {"probability"}
    assert sure.components["probability"] == pytest.approx(0.7)
    for scored in (plain, sure):
        assert all(math.isfinite(value) for value in scored.components.values())
        for name in ("format", "semantic", "gate", "topic", *scored.beats.scores()):
            assert 0 <= scored.components[name] <= 1, name


def test_the_control_with_a_past_day_can_fail(items, news, score):
    """Catches a control that looks at no day, and one that never leaves the nearest: what was
    published stands on one placebo day here, and is found out if that day is drawn. Over all draws
    it cancels; what the control holds to account is the measure, not one day."""
    days = [list(day) for day in news.placebo_days]
    for n in range(len(days)):
        leaking = [(*day, *items[0]["outcomes"]) if i == n else day for i, day in enumerate(days)]
        told = replace(news, placebo_days=tuple(map(tuple, leaking)))
        found = [
            score([items[0]["right"]], [0], news=told, seed=seed)[0].components["shuffled"]
            for seed in range(len(days))
        ]
        assert max(found) > 0.15
        assert found.index(max(found)) == n


def test_what_merely_goes_on_is_not_over_the_day_before(score, items, news):
    """Catches persistence that passes for foresight: what is told tomorrow was told the day before
    the headline as well."""
    texts = [items[0]["right"]]
    assert "over_day_before" not in score(texts, [0])[0].components
    (goes_on,) = score(texts, [0], news=replace(news, day_before=news.outcomes))
    assert goes_on.components["over_day_before"] == pytest.approx(0.0, abs=1e-9)
    (new,) = score(texts, [0], news=replace(news, day_before=sum(news.placebo_days, ())))
    assert new.components["over_day_before"] > 0.15
    # It is shown beside the claim and pays nothing.
    assert new.reward == goes_on.reward


def test_contrast_is_similarity_less_placebo(score, items, news, embedder):
    """Catches a null that is not this forecast's own, and a similarity to what is not linked."""
    found = score([i["right"] for i in items[:6]], range(6))
    titles = embedder.encode(news.outcomes)
    headlines = embedder.encode(news.headlines[:6])
    for n, scored in enumerate(found):
        parts = scored.components
        assert parts["contrast"] == pytest.approx(parts["similarity"] - parts["placebo"])
        text = embedder.encode([items[n]["right"]])[0]
        linked = np.argsort(-(titles @ headlines[n]))[:3]
        assert parts["similarity"] == pytest.approx((titles[linked] @ text).max(), abs=1e-6)
        assert scored.outcome == linked[(titles[linked] @ text).argmax()]


def test_the_margin_is_positive_for_the_direction_that_was_published(score, items):
    """Catches a margin with the wrong sign: it would pay for the opposite of what happened."""
    texts = [items[n][key] for n in range(20) for key in ("right", "flipped")]
    found = score(texts, [n for n in range(20) for _ in range(2)])
    margins = np.array([s.components["margin"] for s in found]).reshape(20, 2)
    told = margins[(margins != 0).all(axis=1)]
    assert len(told) >= 10
    assert np.mean(told[:, 0] > told[:, 1]) > 0.7
    assert told[:, 0].mean() > 0.02


def test_the_date_it_was_made_on_places_its_timeframe(score, items):
    """Catches a forecast read without its clock: "tomorrow" has no date then."""
    with_clock, without = (
        score([items[0]["right"]], [0], made_on=day)[0] for day in (date(2026, 1, 6), None)
    )
    assert with_clock.beats.dates == (date(2026, 1, 7), date(2026, 1, 7))
    assert without.beats.dates is None


def test_parts_are_added_by_their_weights():
    """Catches swapped weights, and an absent part that takes the other's weight."""
    weights = RewardConfig(format_weight=0.4, semantic_weight=0.6)
    assert combine({"format": 0.5, "semantic": 0.25}, weights) == pytest.approx(0.35)
    assert combine({"format": 0.5}, weights) == pytest.approx(0.2)
    assert combine({"format": 1.0, "semantic": 1.0}, CONFIG) == 1.0


def test_the_version_names_the_kind_and_every_part():
    """Catches a changed lexicon or parser under an old version."""
    contrast, plain = reward_version(CONFIG), reward_version(PLAIN)
    assert contrast != plain
    assert contrast.startswith("contrast/")
    for part in ("contrast-", "direction-", "lexicon-", "beats-", "hygiene-"):
        assert f"/{part}" in contrast


# -- the plain reward


def test_the_plain_reward_is_the_best_cosine_of_the_whole_text(score, items, news, embedder):
    """Catches gates, links and placebo days in the reward that is kept to compare with."""
    texts = [
        items[0]["right"],
        f"{items[1]['headline']}. {items[1]['right']}",
        items[2]["right"],
    ]
    about = [0, 1, len(items)]
    found = score(texts, about, config=PLAIN)
    best = (embedder.encode(texts) @ embedder.encode(news.outcomes).T).max(axis=1)
    for scored, cosine in zip(found, best, strict=True):
        assert scored.components["semantic"] == pytest.approx(float(cosine), abs=1e-6)
        assert scored.reward == pytest.approx(
            0.25 * scored.components["format"] + 0.75 * cosine, abs=1e-6
        )
    without = score(texts, about, config=PLAIN, news=replace(news, placebo_days=()))
    assert [s.reward for s in without] == [s.reward for s in found]


def test_the_plain_reward_knows_no_invalid_text(score, items):
    """Catches hygiene in the reward that is kept to compare with; the verdict is still told."""
    found = score(
        [items[0]["right"], f"[INST] {items[0]['right']}", ""],
        [0] * 3,
        config=PLAIN,
        finish_reasons=["length", "stop", "stop"],
    )
    assert [s.invalid for s in found] == ["truncated", "leak", "empty"]
    assert [s.components["valid"] for s in found] == [0.0] * 3
    assert found[0].reward > 0.4
    assert found[1].reward > 0.4
    assert found[2].reward == 0.0


# -- what must not pay


@pytest.mark.parametrize("n", [0, 16, 33, 48, 66])
def test_the_right_forecast_earns_more_than_its_rivals(n, score, items, bench):
    """Catches a topic detector: an echo, an essay that suits any headline, a heap of keywords and
    the right forecast broken off all resemble what is published."""
    made = {"right": items[n]["right"], **bench.rivals(items, n)}
    found = dict(zip(made, score(list(made.values()), [n] * len(made)), strict=True))
    right = found.pop("right")
    assert right.invalid is None
    for rival, scored in found.items():
        assert scored.reward < right.reward, rival
    assert found["echo"].components["semantic"] < 0.1 * right.components["semantic"]
    assert found["stuffing"].invalid == "no prose"


def test_the_day_pays_less_for_what_other_days_would_have_paid(score, items, news):
    """Catches a placebo that is not subtracted: here each past day published the same."""
    past = (*news.outcomes[:1], *(f"{o} again" for o in news.outcomes[:9]))
    stale = replace(news, placebo_days=(past * 9, past * 9))
    fresh, told = (score([items[0]["right"]], [0], news=n)[0] for n in (news, stale))
    assert fresh.components["contrast"] > 0.2
    assert abs(told.components["contrast"]) < 0.05
    assert told.reward < fresh.reward - 0.1


# -- what a reward does not depend on


@pytest.mark.parametrize("config", [CONFIG, PLAIN], ids=["contrast", "similarity"])
def test_a_reward_does_not_depend_on_the_other_texts(config, score, items):
    """Catches a reward that is another one, if only in its last bit, when a group is settled with
    others: a day run again after a crash would not end the same."""
    texts = [items[n][key] for n in range(24) for key in ("right", "flipped")]
    about = [n for n in range(24) for _ in range(2)]
    whole = score(texts, about, config=config)
    order = Random(3).sample(range(48), 48)
    shuffled = score([texts[i] for i in order], [about[i] for i in order], config=config)
    for place, i in enumerate(order):
        assert shuffled[place] == whole[i]
    for i in (0, 1, 22, 47):
        assert score([texts[i]], [about[i]], config=config) == [whole[i]]
    assert score(texts[5:12], about[5:12], config=config) == whole[5:12]


def test_equal_texts_earn_the_same(score, items):
    """Catches noise within a group: eight equal forecasts must have no advantage."""
    found = score([items[7]["right"]] * 8, [7] * 8)
    assert len({s.reward for s in found}) == 1


def test_only_the_draws_depend_on_the_seed(score, items):
    """Catches a seed that reaches more than the placebo's draws."""
    one, other = (score([items[0]["right"]], [0], seed=seed)[0] for seed in (1, 2))
    differ = {k for k in one.components if one.components[k] != other.components[k]}
    assert differ <= {"placebo", "contrast", "semantic", "even_contrast", "shuffled"}


# -- bad vectors


class Broken:
    """An embedder whose vector of one text is not finite."""

    def __init__(self, text, value):
        self.text, self.value = text, value

    def encode(self, texts: Sequence[str]):
        vectors = np.array(
            [[3.0, 4.0, sum(map(ord, t)) % 7] for t in texts], dtype=np.float32
        ).reshape(-1, 3)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        for i, text in enumerate(texts):
            if text == self.text:
                vectors[i, 1] = self.value
        return vectors


FORECAST = "Oil prices will rise by 1% tomorrow, driven by cuts; verify with the official close."


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "text",
    [
        FORECAST,
        "Oil traders wait",
        "Oil prices climb 3%",
        "Rain in the north",
        "Oil prices slide 3%",  # the outcome turned round
    ],
)
def test_a_vector_that_is_not_finite_is_an_error(text, value):
    """Catches NaN that wins or loses every comparison and passes for a reward."""
    news = News(
        ("Oil traders wait",),
        ("Oil prices climb 3%", "Gold is quiet"),
        (("Rain in the north", "Sun in the south"),),
    )
    with pytest.raises(ValueError, match="not finite"):
        score_texts([FORECAST], [0], news, embedder=Broken(text, value), config=CONFIG, seed=0)
    fine = score_texts([FORECAST], [0], news, embedder=Broken("", value), config=CONFIG, seed=0)
    assert fine[0].components["margin"] != 0.0
    assert 0 <= fine[0].reward <= 1


# -- rivals that need no policy


def test_rivals_are_compared_where_there_is_something_to_compare(embedder, news):
    """Catches a contrast of 0 on days that have no placebo, and headlines that are left out because
    nothing came near them: the served policy is compared there too."""
    some = replace(news, headlines=(*news.headlines[:3], SILENT))
    found = rival_contrasts(some, embedder=embedder, seed=0)
    assert set(found) == {"echo", "template"}
    for contrasts in found.values():
        assert all(isinstance(value, float) for value in contrasts)
        assert abs(contrasts[3]) < 0.05
    # An echo resembles what follows; an essay that suits any headline does not.
    assert np.mean(found["echo"][:3]) > np.mean(found["template"][:3])
    # Where every other day published the same, nothing is left.
    stale = rival_contrasts(
        replace(some, placebo_days=(some.outcomes,) * 2), embedder=embedder, seed=0
    )
    assert stale == {"echo": [0.0] * 4, "template": [0.0] * 4}
    alone = rival_contrasts(replace(some, placebo_days=()), embedder=embedder, seed=0)
    assert alone == {"echo": [None] * 4, "template": [None] * 4}


# -- the benchmark


@pytest.mark.parametrize("name", ["c", "f"])
def test_the_benchmark_meets_its_goals_where_raw_similarity_does_not(name, bench, sets, embedder):
    """Catches a reward that is no longer better than the topic detector it replaces."""
    table = bench.measure(sets[name], [sets["a"], sets["b"]], embedder)
    assert len(sets[name]) >= 60
    assert table["flipped"]["reward"] >= 0.90
    for rival in bench.RIVALS[1:]:
        assert table[rival]["reward"] >= 0.95, rival
    for rival in ("echo+right", "unrelated"):
        assert table[rival]["raw"] < 0.95, rival


@pytest.mark.parametrize(
    ("name", "measured"),
    [
        ("a", {"generic": 0.893, "unrelated": 0.853, "truncated": 0.947}),
        ("b", {"generic": 0.985, "stuffing": 0.969, "unrelated": 0.969}),
        ("d", {"flipped": 0.88}),
        ("e", {"flipped": 0.86, "generic": 0.99, "stuffing": 0.99, "truncated": 0.99}),
    ],
)
def test_the_harder_sets_stay_where_they_were_measured(name, measured, bench, sets, embedder):
    """Catches a reward fitted to one way of writing: only what is not named here was at 1. The
    idioms of a and b need a reader of what is flipped; there it is only reported."""
    others = [items for key, items in sets.items() if key != name]
    table = bench.measure(sets[name], others, embedder)
    for rival in bench.RIVALS if "flipped" in measured else bench.RIVALS[1:]:
        assert table[rival]["reward"] >= measured.get(rival, 1.0) - 0.05, rival
