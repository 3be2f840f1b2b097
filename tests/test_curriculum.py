"""The curriculum: what a bucket's spread is, and who gets the day's places."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from varro.training.curriculum import (
    TOPICS,
    Candidate,
    bucket_of,
    choose_headlines,
    day_spread,
    running_spread,
    topic_of,
)

N_SEEDS = 2000


def candidates(bucket, n, *, source="wire"):
    return [Candidate(f"{source}/{bucket}/{i}", source, bucket) for i in range(n)]


def chosen(pool, n, **settings):
    return [pool[i] for i in choose_headlines(pool, n, **settings)]


def shares(pool, n, **settings):
    """Mean number of places of each bucket over the seeds."""
    counts: Counter[str] = Counter()
    for seed in range(N_SEEDS):
        counts.update(c.bucket for c in chosen(pool, n, seed=seed, **settings))
    return {bucket: count / N_SEEDS for bucket, count in counts.items()}


def within_chance(expected):
    """Four standard deviations of the mean of N_SEEDS places that are each won or lost."""
    return pytest.approx(expected, abs=4 * 0.5 / math.sqrt(N_SEEDS))


def test_a_topic_is_the_anchor_with_the_highest_cosine():
    """Catches a dot product, in which the longest anchor takes every headline."""
    anchors = np.array([[1, 0], [0, 100]], dtype=np.float32)
    vectors = np.array([[3, 1], [0.1, 0.2], [1, 1]], dtype=np.float32)
    # Cosines: 3/√10 against 1/√10; 1/√5 against 2/√5; equal, so the first.
    found = topic_of(vectors, anchors)
    assert found.tolist() == [0, 1, 0]
    assert found.dtype == np.int64
    assert topic_of(vectors[:0], anchors).tolist() == []


@pytest.mark.parametrize(
    ("vectors", "anchors", "reason"),
    [
        ([[0.0, 0.0]], [[1.0, 0.0]], "no direction"),
        ([[1.0, 0.0]], [[math.nan, 0.0]], "no direction"),
        (np.ones((1, 2)), np.zeros((0, 2)), "no anchor"),
    ],
)
def test_what_has_no_direction_has_no_topic(vectors, anchors, reason):
    """Catches NaN cosines, whose argmax files a headline under the first topic."""
    with pytest.raises(ValueError, match=reason):
        topic_of(np.array(vectors, dtype=np.float32), np.array(anchors, dtype=np.float32))


def test_plain_headlines_find_their_topic(embedder):
    """Catches an anchor text that swallows its neighbours or that no headline reaches."""
    plain = {
        "markets": "Nikkei closes 2% higher as investors return to shares",
        "companies": "Brewer warns on profits and cuts 300 jobs",
        "economy": "Central bank lifts interest rates to fight inflation",
        "commodities": "Oil slides below $60 as producers agree to pump more",
        "politics": "Parliament passes the election law by two votes",
        "war": "Ceasefire talks resume after missile strikes",
        "technology": "Chipmaker unveils processor for artificial intelligence",
        "science": "Vaccine shows promise against malaria in trial",
        "sport": "Rovers sack coach after fifth defeat of the season",
        "disasters": "Earthquake shakes coast and floods fishing villages",
        "crime": "Judge rejects appeal in murder trial",
        "culture": "Actor wins prize for her role in a film about a painter",
    }
    assert list(plain) == list(TOPICS)
    found = topic_of(embedder.encode(list(plain.values())), embedder.encode(list(TOPICS.values())))
    assert found.tolist() == list(range(len(TOPICS)))


def test_a_bucket_is_a_source_and_a_topic():
    """Catches two sources that share the spread of a topic."""
    assert bucket_of("ft.com", "economy") == "ft.com · economy"
    assert len({bucket_of(s, t) for s in ("ft.com", "wsj.com") for t in TOPICS}) == 2 * len(TOPICS)


def test_the_spread_of_a_day_is_the_mean_sd_within_groups():
    """Catches the sd over a bucket, which is large where headlines differ and forecasts do not."""
    # a: sd of (0, 0.2) is 0.1, of (5, 5.4) is 0.2: mean 0.15 of two groups; pooled it would be 2.6.
    # b: one contrast has no spread. c: all equal, a spread of 0 that counts.
    found = day_spread(
        [("a", [0.0, 0.2]), ("b", [0.7]), ("a", [5.0, 5.4]), ("c", [0.3, 0.3, 0.3]), ("b", [])]
    )
    assert found == {"a": (pytest.approx(0.15), 2), "c": (0.0, 1)}
    with pytest.raises(ValueError, match="not finite"):
        day_spread([("a", [0.1, math.nan])])


def test_the_running_spread_decays_with_age_and_counts_groups():
    """Catches a mean of day means, a decay that runs the wrong way, and ages in met days only."""
    days = [{"a": (0.1, 2)}, {"b": (0.25, 3)}, {"a": (0.4, 1), "c": (0.0, 1)}]
    # a: (0.5² · 2 · 0.1 + 1 · 0.4) / (0.5² · 2 + 1) = 0.45 / 1.5; b and c have one day each.
    assert running_spread(days, decay=0.5) == {"a": pytest.approx(0.3), "b": 0.25, "c": 0.0}
    # Without decay: (2 · 0.1 + 0.4) / 3.
    assert running_spread(days, decay=1.0)["a"] == pytest.approx(0.2)
    assert running_spread([], decay=0.5) == {}


def test_a_bucket_not_met_for_long_keeps_its_spread():
    """Catches 0/0 once the weight of an old day underflows, and a spread that fades to zero."""
    days = [{"a": (0.2, 4)}, *[{} for _ in range(1000)]]
    assert running_spread(days, decay=0.1) == {"a": pytest.approx(0.2)}


@pytest.mark.parametrize("decay", [0.0, -0.1, 1.1, math.nan])
def test_a_decay_that_is_none_is_refused(decay):
    """Catches a decay of 0, which forgets every day, and one above 1, which prefers the past."""
    with pytest.raises(ValueError, match="decay"):
        running_spread([], decay=decay)


@pytest.mark.parametrize("entry", [(-0.1, 1), (math.nan, 1), (math.inf, 1), (0.1, 0)])
def test_a_spread_that_is_none_is_refused(entry):
    """Catches one NaN that makes the bucket's spread NaN for good."""
    with pytest.raises(ValueError, match="bucket 'a'"):
        running_spread([{"a": entry}], decay=0.9)


def test_the_choice_does_not_depend_on_the_order_of_the_candidates():
    """Catches a draw by position: a feed that answers first would change what is trained on."""
    pool = [
        c
        for source in ("ft.com", "wsj.com", "bbc.co.uk")
        for bucket in ("a", "b", "c")
        for c in candidates(bucket, 7, source=source)
    ]
    spread = {"a": 0.05, "b": 0.2}
    rng = np.random.default_rng(0)
    for seed in range(20):
        shuffled = [pool[i] for i in rng.permutation(len(pool))]
        first = set(chosen(pool, 12, spread=spread, seed=seed))
        assert first == set(chosen(shuffled, 12, spread=spread, seed=seed))
    assert first != set(chosen(pool, 12, spread=spread, seed=20))


@pytest.mark.parametrize("uniform_frac", [0.0, 0.25, 0.3, 1.0])
def test_the_budget_is_met_exactly_and_no_headline_is_chosen_twice(uniform_frac):
    """Catches shares that are rounded apart, and a headline drawn in both shares."""
    pool = candidates("a", 20) + candidates("b", 5, source="other")
    for n in range(30):
        found = choose_headlines(pool, n, spread={"a": 0.0}, seed=n, uniform_frac=uniform_frac)
        assert len(found) == min(n, 25)
        assert found == sorted(set(found))
    assert found == list(range(25))


def test_a_quarter_is_blind_and_the_rest_goes_by_spread():
    """Catches a share on the wrong side, and a blind share that avoids or prefers the dull."""
    pool = candidates("lively", 60) + candidates("dull", 60)
    spread = {"lively": 0.1, "dull": 0.0}
    # 1 of 4 places is blind and finds either bucket as often; 3 of 4 have weight only in one.
    found = shares(pool, 4, spread=spread)
    assert found["lively"] == within_chance(3.5)
    assert found["dull"] == within_chance(0.5)


def test_one_place_is_won_in_proportion_to_spread():
    """Catches weights used as keys, ranks for weights, and a bucket drawn before its headlines."""
    pool = candidates("a", 1) + candidates("b", 6)
    # Per headline: 0.4 against 6 · 0.1. By bucket it would be 0.4 of 0.5.
    found = shares(pool, 1, spread={"a": 0.4, "b": 0.1}, uniform_frac=0.0)
    assert found["a"] == within_chance(0.4)


def test_places_are_drawn_one_after_the_other_without_replacement():
    """Catches inclusion in plain proportion, which here would promise more than certainty."""
    pool = [c for bucket in ("a", "b", "c") for c in candidates(bucket, 1)]
    # a has half of the weight: first with 1/2, else second with 2/3 of what is left: 1/2 + 1/3.
    found = shares(pool, 2, spread={"a": 0.2, "b": 0.1, "c": 0.1}, uniform_frac=0.0)
    assert found["a"] == within_chance(5 / 6)
    assert found["b"] == within_chance(7 / 12)


def test_a_large_bucket_does_not_win_by_its_size():
    """Catches a weight per bucket or a sum of spreads: with equal spreads headlines are equal."""
    pool = candidates("a", 1) + candidates("b", 9)
    found = shares(pool, 3, spread={"a": 0.2, "b": 0.2}, uniform_frac=0.0)
    assert found["a"] == within_chance(0.3)


def test_an_unseen_bucket_weighs_what_the_seen_ones_do_on_average():
    """Catches a bucket that is never tried because nothing is known of it."""
    pool = [c for bucket in ("a", "b", "new") for c in candidates(bucket, 1)]
    # new: (0.1 + 0.3) / 2 = 0.2 of 0.6 in all.
    found = shares(pool, 1, spread={"a": 0.1, "b": 0.3}, uniform_frac=0.0)
    assert found["a"] == within_chance(1 / 6)
    assert found["new"] == within_chance(1 / 3)


@pytest.mark.parametrize("spread", [{}, {"a": 0.0, "b": 0.0}, {"a": 5e-324, "b": 5e-324}])
def test_without_spread_every_headline_has_the_same_chance(spread):
    """Catches a first day, or a day of zeros, that trains on the head of the list."""
    pool = candidates("a", 2) + candidates("b", 6)
    counts: Counter[str] = Counter()
    for seed in range(N_SEEDS):
        counts.update(c.id for c in chosen(pool, 4, spread=spread, seed=seed))
    assert len(counts) == 8
    for count in counts.values():
        assert count / N_SEEDS == within_chance(0.5)


def test_every_source_has_a_headline_where_the_blind_share_is_large_enough():
    """Catches a loud source that takes a day, and a floor that a draw by spread can undo."""
    loud = candidates("loud", 300, source="loud")
    quiet = [c for i in range(7) for c in candidates("quiet", 1 + i, source=f"quiet{i}")]
    for seed in range(100):
        found = chosen(loud + quiet, 32, spread={"loud": 1.0, "quiet": 0.0}, seed=seed)
        # 8 blind places for 8 sources: one each; the other 24 go where the spread is.
        places = Counter(c.source for c in found)
        assert places == {"loud": 25, **{f"quiet{i}": 1 for i in range(7)}}


def test_with_too_few_blind_places_every_source_has_the_same_chance():
    """Catches a floor that rounds to nothing, and one that goes to the same sources every day."""
    loud = candidates("loud", 40, source="loud")
    quiet = [c for i in range(4) for c in candidates("quiet", 1 + 3 * i, source=f"quiet{i}")]
    counts: Counter[str] = Counter()
    for seed in range(N_SEEDS):
        found = chosen(loud + quiet, 8, spread={"loud": 1.0, "quiet": 0.0}, seed=seed)
        counts.update(c.source for c in found if c.source != "loud")
    # 2 blind places for 5 sources.
    for i in range(4):
        assert counts[f"quiet{i}"] / N_SEEDS == within_chance(0.4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n": -1}, "n must be"),
        ({"uniform_frac": -0.1}, "uniform_frac"),
        ({"uniform_frac": 1.5}, "uniform_frac"),
        ({"uniform_frac": math.nan}, "uniform_frac"),
        ({"spread": {"a": -0.1}}, "bucket 'a'"),
        ({"spread": {"elsewhere": math.nan}}, "bucket 'elsewhere'"),
        ({"candidates": candidates("a", 1) * 2}, "one id"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(change, reason):
    """Catches a NaN that sorts anywhere, and a headline that would have two tickets."""
    settings = {"candidates": candidates("a", 3), "n": 2, "spread": {}, "seed": 0} | change
    with pytest.raises(ValueError, match=reason):
        choose_headlines(settings.pop("candidates"), settings.pop("n"), **settings)
