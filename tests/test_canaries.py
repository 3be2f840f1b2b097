"""Canaries hold on the sample world's days, and break when the scorer is broken."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from varro.config import RewardConfig
from varro.domain import stable_seed
from varro.reward.canaries import FROZEN, MAX_HEADLINES, MIN_LEAD, score_canaries
from varro.reward.score import News

ROOT = Path(__file__).resolve().parent.parent
CONFIG = RewardConfig()
KINDS = {
    "exact", "opposite", "shuffled", "nonsense", "empty", "copy", "stuffing", "stranger",
}  # fmt: skip
STRANGERS = (
    "The Federal Reserve will lower its benchmark interest rate by 25 basis points tomorrow, "
    "driven by cooling inflation; verify with the policy statement.",
    "The summit in Geneva will end with a joint statement by Friday, as both sides want calm. "
    "Check the communiqué.",
)


@pytest.fixture(scope="module")
def world():
    """The sample world's titles, a list a day."""
    days = defaultdict(list)
    with gzip.open(ROOT / "data" / "sample" / "world.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            days[row["first_seen"][:10]].append(row["title"])
    return [days[day] for day in sorted(days)]


def news_of_day(world, n):
    """Day n's headlines, what followed, and the days that lie 3 to 5 before that."""
    return News(
        headlines=tuple(world[n][:32]),
        outcomes=tuple(world[n + 1]),
        placebo_days=tuple(tuple(world[n + 1 - lag]) for lag in (3, 4, 5)),
    )


def canaries(news, embedder, *, strangers=STRANGERS, config=CONFIG, seed=0):
    return score_canaries(news, strangers=strangers, embedder=embedder, config=config, seed=seed)


# -- embedders that are broken


class Alike:
    """Every text means the same."""

    def encode(self, texts):
        return np.tile(np.float32([0.6, 0.8]), (len(texts), 1))


class Random:
    """A text's vector is chance, about a direction that all have in common."""

    def __init__(self, common):
        self.common = common

    def encode(self, texts):
        vectors = np.array(
            [np.random.default_rng(stable_seed(text)).normal(size=384) for text in texts]
        )
        vectors *= np.sqrt((1 - self.common) / 384)
        vectors[:, 0] += np.sqrt(self.common)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class OneOff:
    """Each text has the vector of the text before it."""

    def __init__(self, embedder):
        self.embedder = embedder

    def encode(self, texts):
        return np.roll(self.embedder.encode(texts), 1, axis=0)


class FirstWords:
    """Reads three words of each text."""

    def __init__(self, embedder):
        self.embedder = embedder

    def encode(self, texts):
        return self.embedder.encode([" ".join(text.split()[:3]) for text in texts])


# -- on the sample world


@pytest.mark.parametrize("n", [8, 15, 22])
def test_canaries_hold_on_the_sample_worlds_days(n, world, embedder):
    """Catches a scorer that pays the opposite, disorder, a copy or a heap of keywords like what was
    then published, and canaries that cry on a sound day."""
    found = canaries(news_of_day(world, n), embedder, seed=n)
    assert found.broken is None
    assert found.n_headlines == MAX_HEADLINES
    assert set(found.means) == KINDS
    exact = found.means.pop("exact")
    assert exact > 0.6
    assert all(mean < exact - MIN_LEAD for mean in found.means.values())
    assert found.means["opposite"] < exact - 0.3
    assert found.means["empty"] == 0.0
    assert found.means["copy"] < 0.05


@pytest.mark.parametrize("n", [12, 15])
def test_canaries_break_when_all_texts_have_one_vector(n, world):
    """Catches a day trained on an embedder that says the same of everything."""
    found = canaries(news_of_day(world, n), Alike(), seed=n)
    assert {"nonsense", "stranger"} <= set(found.broken.split(", "))


@pytest.mark.parametrize("n", [8, 15])
def test_canaries_break_when_vectors_are_chance(n, world):
    """Catches weights that were never loaded."""
    found = canaries(news_of_day(world, n), Random(common=0.4), seed=n)
    # A stranger may also lose by its direction, which no vector tells: these two can not.
    assert {"opposite", "shuffled"} <= set(found.broken.split(", "))


@pytest.mark.parametrize("n", [8, 15])
def test_canaries_break_when_texts_have_each_others_vectors(n, world, embedder):
    """Catches rows that are put back in another order than their texts."""
    found = canaries(news_of_day(world, n), OneOff(embedder), seed=n)
    assert "nonsense" in found.broken


def test_canaries_break_when_texts_are_cut(world, embedder):
    """Catches an embedder that reads the beginning of a text."""
    found = canaries(news_of_day(world, 8), FirstWords(embedder))
    assert "nonsense" in found.broken


def test_vectors_without_anything_in_common_break_the_frozen_ones(world):
    """Catches a day that trains unjudged because its embedder links nothing to anything."""
    found = canaries(news_of_day(world, 8), Random(common=0.0))
    assert found.frozen
    assert {"opposite", "nonsense", "stranger"} <= set(found.broken.split(", "))


# -- when the day's own news can not carry them


@pytest.mark.parametrize("n", [6, 15, 24])
def test_frozen_headlines_stand_in_for_too_few(world, embedder, n):
    """Catches a day that trains unjudged, and one that does not train because of one unlucky
    headline."""
    day = news_of_day(world, n)
    silent = ("The parrot whistles a tune",) * 32
    for few in (replace(day, headlines=day.headlines[:2]), replace(day, headlines=silent)):
        found = canaries(few, embedder)
        assert found.frozen
        assert found.n_headlines == len(FROZEN) == 8
        assert found.broken is None
    assert not canaries(day, embedder).frozen


def test_frozen_headlines_find_a_broken_embedder(world, embedder):
    """Catches canaries that hold whatever the embedder does."""
    few = replace(news_of_day(world, 8), headlines=("The parrot whistles a tune",))
    assert "stranger" in canaries(few, FirstWords(embedder)).broken
    assert canaries(few, Alike()).broken is not None


def test_what_is_missing_is_not_judged(world, embedder):
    """Catches canaries that need another day's forecast on the second day, or that are judged
    without placebo days."""
    day = news_of_day(world, 8)
    assert canaries(day, embedder, strangers=()).means["stranger"] > 0
    assert canaries(replace(day, placebo_days=()), embedder) is None


def test_canaries_are_judged_by_the_contrast_whatever_trains(world, embedder):
    """Catches a plain-reward run on which the echo wins and every day is refused."""
    day = news_of_day(world, 8)
    plain = canaries(day, embedder, config=RewardConfig(kind="similarity"))
    assert plain == canaries(day, embedder)
    assert plain.broken is None


def test_the_same_day_has_the_same_canaries(world, embedder):
    """Catches a draw that is not seeded: a day run again would train or not by chance."""
    day = news_of_day(world, 8)
    once, again, other = (canaries(day, embedder, seed=seed) for seed in (1, 1, 2))
    assert once == again
    assert once != other
