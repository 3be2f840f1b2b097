"""The contrast reward's maths, on vectors in the plane: an angle is a meaning."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from varro.reward.contrast import (
    MIN_POOL,
    copy_gate,
    cosines,
    direction_votes,
    even_contrast,
    even_difference,
    link_outcomes,
    match_outcomes,
    mean_over_days,
    placebo_similarities,
    semantic_reward,
    topic_gate,
)

ONE = np.array([0])
"""one forecast, about headline 0"""


def unit(*angles):
    """Unit vectors in the plane, angles in degrees."""
    radians = np.deg2rad(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def scattered(n, seed=0, size=384):
    """Unit vectors of the embedder's size, in random directions about a common one."""
    vectors = np.random.default_rng(seed).normal(size=(n, size)) + 0.5
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def pool(*angles, size):
    """A placebo day with these headlines; the rest is about the opposite of 0°."""
    return unit(*angles, *[180] * (size - len(angles)))


def placebo(forecasts, headlines, days, *, n, seed=0):
    of_headline = np.arange(len(forecasts)) % len(headlines)
    return placebo_similarities(forecasts, of_headline, headlines, days, n_outcomes=n, seed=seed)


def reward(contrast, vote=0.0, margin=0.0, gate=1.0):
    found = semantic_reward(*(np.array([float(x)]) for x in (contrast, vote, margin, gate)))
    return float(found[0])


# -- linking


def test_the_three_nearest_outcomes_are_linked_best_first():
    """Catches a link to all outcomes, to the farthest, or in the order of the day."""
    outcomes = unit(80, 10, 60, -30, 20)
    # Distances from 0°: 80, 10, 60, 30, 20.
    assert link_outcomes(unit(0), outcomes) == ((1, 4, 3),)
    # From 68°: 12, 58, 8, 98, 48.
    assert link_outcomes(unit(0, 68), outcomes)[1] == (2, 0, 4)
    # Of equals those that come first in the day.
    assert link_outcomes(unit(0), unit(10, 10, 10, 10)) == ((0, 1, 2),)


def test_a_headline_is_unresolved_if_its_best_outcome_is_below_the_threshold():
    """Catches a reward for matching a day on which nothing was published about the headline."""
    # cos 72° = 0.309, cos 73° = 0.292: the threshold is 0.30.
    assert link_outcomes(unit(0), unit(73, 90, 100)) == ((),)
    # The threshold is for the best one: what is linked beside it may be below.
    assert link_outcomes(unit(0), unit(73, 72, 100)) == ((1, 0, 2),)
    assert link_outcomes(unit(0, 90), unit(80)) == ((), (0,))


def test_no_outcome_links_nothing():
    """Catches an index into nothing."""
    assert link_outcomes(unit(0, 90), unit()) == ((), ())


def test_a_forecast_about_another_topic_gets_no_full_marks():
    """Catches the maximum over the whole day: there this forecast meets its own echo."""
    outcomes = unit(10, 20, 30, 120)
    found = match_outcomes(unit(120), ONE, unit(0), outcomes)
    assert cosines(unit(120), outcomes).max() == pytest.approx(1.0)
    # Linked are 10°, 20° and 30°; the best of them is 90° away.
    assert found.similarity == pytest.approx([0.0], abs=1e-6)
    assert found.outcome.tolist() == [2]
    assert found.linked == ((0, 1, 2),)


def test_each_forecast_meets_the_outcomes_of_its_own_headline():
    """Catches forecasts read against another group's headline, and an index within the links."""
    outcomes = unit(0, 5, 10, 90, 95, 100)
    found = match_outcomes(unit(100, 0, 100), np.array([0, 1, 1]), unit(0, 95), outcomes)
    assert found.outcome.tolist() == [2, 3, 5]
    assert found.similarity == pytest.approx(np.cos(np.deg2rad([90, 90, 0])), abs=1e-6)


def test_a_forecast_on_an_unresolved_headline_meets_nothing():
    """Catches "unresolved" read as similarity 0 with the first outcome."""
    found = match_outcomes(unit(90, 0), np.array([0, 1]), unit(0, 90), unit(90))
    assert np.isnan(found.similarity).tolist() == [True, False]
    assert found.outcome.tolist() == [-1, 0]


# -- placebo


def test_pools_as_large_as_the_day_are_taken_whole():
    """Catches thinning, and the mean over a pool in place of its maximum."""
    days = [pool(0, 60, 90, size=40), pool(60, 80, 90, size=40)]
    found = placebo(unit(0), unit(0), days, n=40)
    # cos 0° and cos 60°.
    np.testing.assert_allclose(found, [[1.0], [0.5]], atol=1e-6)


def test_a_short_pool_is_grown_with_the_next_days():
    """Catches a maximum over fewer headlines, which would make the day look foreseen."""
    days = [pool(90, size=20), pool(0, size=40), pool(90, size=40), pool(60, size=40)]
    # The first is joined with the second, 60 headlines drawn to 40: 0° is in or out, four times.
    # The others are whole: cos 0°, cos 90°, cos 60°.
    first, *others = placebo(unit(0), unit(0), days, n=40)[:, 0]
    assert first.round(6) in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert others == pytest.approx([1.0, 0.0, 0.5], abs=1e-6)


def test_a_flood_of_outcomes_does_not_enlarge_the_pools():
    """Catches strangers who lower what honest forecasts earn by posting titles: past the median
    placebo day (40 headlines here) more outcomes change nothing."""
    days = [pool(90, size=20), pool(0, size=40), pool(90, size=40), pool(60, size=40)]
    usual, flooded = (placebo(unit(0), unit(0), days, n=n) for n in (40, 140))
    np.testing.assert_array_equal(usual, flooded)


def test_a_long_pool_is_drawn_down_to_the_size_of_the_day():
    """Catches a null with a larger maximum than the day can have."""
    long = [pool(0, *[90] * 159, size=160)] * 50
    found = placebo(unit(0), unit(0), long, n=40)
    # 0° is among 40 of 160 in a quarter of the draws: 0.25, with a deviation of 0.03 over 200.
    assert found.mean() == pytest.approx(0.25, abs=0.1)
    # Averages of four draws, not one draw for all days.
    assert len(np.unique(found.round(3))) > 2


def test_a_handful_of_outcomes_is_compared_with_a_fair_pool():
    """Catches a null of one headline, about anything: every forecast would look like foresight."""
    days = [pool(0, *[90] * 59, size=60)] * 50
    # 30 of 60 are drawn and not 1: 0° is among them half the time.
    assert MIN_POOL == 30
    assert placebo(unit(0), unit(0), days, n=1).mean() == pytest.approx(0.5, abs=0.1)
    # If the placebo days hold less, all of it.
    few = [unit(90), unit(0, 90)]
    np.testing.assert_allclose(placebo(unit(0), unit(0), few, n=1), [[1.0], [1.0]], atol=1e-6)


def test_too_few_placebo_headlines_give_no_placebo():
    """Catches a null drawn from a smaller pool, which would look like foresight."""
    assert placebo(unit(0), unit(0), [unit(0), unit(0)], n=3) is None
    assert placebo(unit(0), unit(0), [unit(0), unit(0)], n=2) is not None
    assert placebo(unit(0), unit(0), [], n=1) is None
    assert placebo(unit(0), unit(0), [unit(), unit()], n=1) is None


def test_a_day_without_outcomes_has_no_placebo():
    """Catches the maximum of an empty pool."""
    assert placebo(unit(0), unit(0), [unit(0, 10)], n=0) is None


def test_an_empty_placebo_day_is_left_out():
    """Catches a day without news read as one on which nothing was alike."""
    found = placebo(unit(0), unit(0), [unit(), unit(60)], n=1)
    np.testing.assert_allclose(found, [[0.5]], atol=1e-6)


def test_pools_are_linked_like_the_day():
    """Catches a null taken over a whole pool: it would charge a forecast about another topic for
    what it was never paid."""
    found = placebo(unit(120), unit(0), [unit(10, 20, 30, 120)], n=4)
    # Linked are 10°, 20°, 30°; cos 90° = 0 and not cos 0° = 1.
    np.testing.assert_allclose(found, [[0.0]], atol=1e-6)


def test_pools_are_linked_without_the_threshold():
    """Catches a null of nothing on a placebo day that is silent about the headline."""
    found = placebo(unit(100), unit(0), [unit(100, 110, 120)], n=3)
    np.testing.assert_allclose(found, [[1.0]], atol=1e-6)


def test_draws_are_seeded():
    """Catches a null that changes when a day is settled again, and one that never changes."""
    days = [unit(*range(0, 180, 3))] * 2
    forecasts, headlines = unit(*range(0, 40, 10)), unit(20)
    once, again, other = (placebo(forecasts, headlines, days, n=5, seed=s) for s in (5, 5, 6))
    assert once.tobytes() == again.tobytes()
    assert not np.array_equal(once, other)
    # Two pools that hold the same are drawn apart.
    assert not np.array_equal(once[0], once[1])


# -- what a forecast earns does not depend on its company


@pytest.mark.parametrize("size", [384, 768])
def test_cosines_are_exact_whatever_stands_beside_them(size):
    """Catches a matrix product whose last bits change with its shape: the day would be another
    day with one headline more. Near 1 the first of them are, as for a text and its copy."""
    a, b = scattered(96, 1, size), scattered(200, 2, size)
    b[:40] = a[:40]
    whole = cosines(a, b)
    order = np.random.default_rng(3).permutation(96)
    np.testing.assert_array_equal(cosines(a[order], b), whole[order])
    for n in (0, 1, 50):
        np.testing.assert_array_equal(cosines(a[n : n + 1], b), whole[n : n + 1])
        np.testing.assert_array_equal(cosines(a[n:], b[n : n + 1]), whole[n:, n : n + 1])
    np.testing.assert_allclose(whole, a.astype(np.float64) @ b.T.astype(np.float64), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused(value):
    """Catches NaN that sorts last and inf that sorts first, and are never looked at again."""
    bad = unit(0, 90)
    bad[1, 0] = value
    for pair in ((bad, unit(0)), (unit(0), bad)):
        with pytest.raises(ValueError, match="not finite"):
            cosines(*pair)


def test_the_mean_over_days_does_not_depend_on_the_other_forecasts():
    """Catches a sum that is taken in another order for one forecast than for many."""
    found = np.random.default_rng(0).random((9, 40))
    whole = mean_over_days(found)
    np.testing.assert_allclose(whole, found.mean(axis=0), rtol=1e-14)
    for b in range(40):
        assert mean_over_days(found[:, b : b + 1])[0] == whole[b]


def test_a_placebo_does_not_depend_on_the_other_forecasts():
    """Catches draws that are shared out among the forecasts of a call."""
    days = [scattered(50, seed) for seed in range(9)]
    forecasts, headlines = scattered(24, 20), scattered(6, 21)
    of_headline = np.arange(24) % 6
    whole = placebo_similarities(forecasts, of_headline, headlines, days, n_outcomes=40, seed=1)
    assert whole.shape == (9, 24)
    some = np.array([17, 3, 11])
    alone = placebo_similarities(
        forecasts[some], of_headline[some], headlines, days, n_outcomes=40, seed=1
    )
    np.testing.assert_array_equal(alone, whole[:, some])


# -- even terms


def trials(measure, *, days=150, n=16, size=64):
    """Mean of days and its standard error of what `measure` finds between a policy that stays near
    its headlines and one that does not, where nothing can be foreseen: all days are one law's.

    `measure(both, about, headlines, draw, seed)`; `draw(n)` makes a day of n titles.
    """
    rng = np.random.default_rng(0)

    def unit_rows(x):
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    lifts = []
    for seed in range(days):
        topics = unit_rows(rng.normal(size=(3 * n, size)))
        headlines = topics[:n]

        def draw(n_titles, topics=topics):
            about = topics[rng.integers(len(topics), size=n_titles)]
            return unit_rows(about + 0.25 * rng.normal(size=about.shape))

        near, far = (unit_rows(headlines + s * rng.normal(size=(n, size))) for s in (0.03, 0.12))
        found = measure(
            np.concatenate([near, far]), np.tile(np.arange(n), 2), headlines, draw, seed
        )
        lifts.append(np.nanmean(found[:n] - found[n:]))
    return np.mean(lifts), np.std(lifts) / np.sqrt(days)


@pytest.mark.parametrize(
    ("n_outcomes", "n_placebo"),
    [(60, [60] * 9), (120, [60] * 9), (60, [120] * 9), (100, [100, 30, 30, 100, 100, 100])],
    ids=["one size", "a large day", "large placebo days", "a Monday"],
)
def test_without_foresight_there_is_no_lift_on_even_terms(n_outcomes, n_placebo):
    """Catches a threshold, or a size, on one side only: days that came near to the headline are
    then chosen, and staying near to it passes for foresight."""

    def even(both, about, headlines, draw, seed):
        pools = [draw(size) for size in n_placebo]
        return even_contrast(both, about, headlines, draw(n_outcomes), pools, seed=seed)

    def as_the_reward_has_it(both, about, headlines, draw, seed):
        pools, outcomes = [draw(size) for size in n_placebo], draw(n_outcomes)
        null = placebo_similarities(both, about, headlines, pools, n_outcomes=n_outcomes, seed=seed)
        met = match_outcomes(both, about, headlines, outcomes).similarity
        return met - mean_over_days(null)

    mean, error = trials(even)
    assert abs(mean) < 3 * error
    uneven, error = trials(as_the_reward_has_it)
    assert uneven > 3 * error


@pytest.mark.parametrize("sizes", [(60, 60), (200, 40), (12, 60)])
def test_two_days_of_one_law_do_not_differ_on_even_terms(sizes):
    """Catches a large day held against a small one."""

    def difference(both, about, headlines, draw, seed):
        day, other = (draw(size) for size in sizes)
        return even_difference(both, about, headlines, day, other, seed=seed)

    mean, error = trials(difference)
    assert abs(mean) < 3 * error


def test_what_the_day_alone_told_is_found_on_even_terms():
    """Catches a measure that is 0 whatever is foreseen."""

    def foreseen(both, about, headlines, draw, seed):
        outcomes = np.concatenate([draw(20), both[: len(headlines)]])
        pools = [draw(36) for _ in range(8)]
        return even_contrast(both, about, headlines, outcomes, pools, seed=seed)

    mean, _ = trials(foreseen, days=20)
    assert mean > 0.1


# -- the reward


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ((0.30,), 0.425),  # (0.25 + 0.10) / 0.70 = 0.5, times 0.85: no direction told
        ((0.30, 1.0), 0.5),
        ((0.30, -1.0), 0.3),
        ((0.30, -0.5), 0.3625),  # half way from 0.85 to 0.6: 0.725
        ((0.30, 0.5), 0.4625),  # half way from 0.85 to 1: 0.925
        ((0.30, 0.0, 0.04), 0.485),  # + 1.5 · 0.04
        ((0.30, 0.0, 0.5), 0.575),  # the margin is bounded: + 1.5 · 0.10
        ((0.30, 0.0, -0.5), 0.275),
        ((0.30, 1.0, 0.0, 0.5), 0.25),
        ((0.30, 1.0, 0.0, 0.0), 0.0),
        ((-0.10, 1.0), 0.0),
        ((-0.30, 1.0, -0.10), 0.0),
        ((0.95, 1.0, 0.10), 1.0),
    ],
)
def test_the_reward_by_hand(terms, expected):
    """Catches a wrong slope, a vote on the wrong side, an unbounded margin and a gate added."""
    assert reward(*terms) == pytest.approx(expected, abs=1e-12)


def test_the_reward_rises_with_each_of_its_terms():
    """Catches a term with the wrong sign, anywhere in its range."""
    grids = (
        np.linspace(-0.3, 0.9, 13),
        np.linspace(-1, 1, 5),
        np.linspace(-0.2, 0.2, 9),
        np.linspace(0, 1, 5),
    )
    columns = np.array(list(product(*grids))).T
    found = semantic_reward(*columns).reshape([len(g) for g in grids])
    assert found.min() == 0.0
    assert found.max() == 1.0
    for axis in (1, 2, 3):
        assert np.diff(found, axis=axis).min() >= -1e-12
    # What says the opposite earns less the surer it is of the same story.
    assert np.diff(found[:, 2:, 4:], axis=0).min() >= -1e-12


def test_direction_counts_by_how_much_the_day_told():
    """Catches a bonus for agreeing with an outcome that other days would have matched better, and a
    cliff where the contrast passes 0."""
    contrast = np.array([-0.2, 0.0, 0.025, 0.05, 0.4])
    ones = np.ones(5)
    agree, oppose = (semantic_reward(contrast, v * ones, v * 0.1 * ones, ones) for v in (1, -1))
    apart = agree - oppose
    assert apart[:2].tolist() == [0.0, 0.0]
    # Halfway the vote and the margin of 0.1 count half.
    assert apart[2] == pytest.approx(0.15625 * 0.925 + 0.075 - 0.15625 * 0.725 + 0.075)
    assert apart[3] == pytest.approx(0.1875 + 0.15 - max(0.0, 0.1875 * 0.6 - 0.15))


def test_direction_still_pays_on_a_true_match():
    """Catches a ramp that saturates where forecasts are right, which erases the direction: at 0.7,
    which only a forecast in nearly the published words comes to."""
    wrong, silent, right = (reward(0.7, vote) for vote in (-1.0, 0.0, 1.0))
    assert (wrong, silent, right) == pytest.approx((0.6, 0.85, 1.0))
    assert reward(0.7, 0.0, -0.05) < silent < reward(0.7, 0.0, 0.05)
    assert reward(0.65, 1.0) < right


# -- gates and votes


def test_the_copy_gate_closes_on_copied_bigrams_and_on_a_copied_run():
    """Catches a gate that is shut for a name in common, or open for the headline pasted in."""
    bigrams = np.array([0.0, 0.15, 0.375, 0.60, 1.0])
    np.testing.assert_allclose(copy_gate(bigrams, 0 * bigrams), [1, 1, 0.5, 0, 0], atol=1e-12)
    runs = np.array([0.0, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(copy_gate(0 * runs, runs), [1, 1, 0.75, 0.5], atol=1e-12)
    both = copy_gate(np.array([0.375]), np.array([1.0]))
    assert both == pytest.approx([0.25])


def test_the_topic_gate_opens_with_the_similarity_to_the_headline():
    """Catches format paid in full to a text that suits any headline."""
    cosine = np.array([-0.3, 0.0, 0.10, 0.20, 0.30, 1.0])
    np.testing.assert_allclose(topic_gate(cosine), [0, 0, 0, 0.5, 1, 1], atol=1e-12)


@pytest.mark.parametrize(
    ("agreements", "similarities", "expected"),
    [
        ((1, -1, 0), (0.8, 0.7, 0.75), 0.0),  # both tell the story, one each way
        ((1, -1, 0), (0.8, 0.6, 0.75), 1.0),  # 0.2 from the best: another story
        ((0, -1, -1), (0.8, 0.7, 0.1), -1.0),  # the best is silent, the next one tells
        ((-1, -1, 1), (0.5, 0.5, 0.4), -1 / 3),
        ((0, 0, 0), (0.8, 0.7, 0.75), 0.0),
        ((0, 1, 1), (0.9, 0.2, 0.1), 0.0),
        ((1,), (0.3,), 1.0),
    ],
)
def test_outcomes_that_tell_the_same_story_vote_on_direction(agreements, similarities, expected):
    """Catches the one best outcome deciding alone, and a vote of what is about something else."""
    assert direction_votes(agreements, similarities) == pytest.approx(expected)
