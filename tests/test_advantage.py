"""Advantages: components with the stated shares, their running scale, and what stands apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from varro.training.advantage import (
    MIN_SPREAD,
    Moments,
    coefficients,
    component_advantages,
    is_low_variance,
    plain_advantages,
    running_moments,
    within_group_correlation,
    within_group_moments,
)

WEIGHTS = (0.25, 0.75)
NAN = math.nan


def correlated(rho, *, n=200, size=8, sd=(0.08, 0.06), seed=0):
    """Format and semantic of n groups, with this correlation within groups and none between."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n, size))
    levels = rng.random((2, n, 1))
    return levels[0] + sd[0] * a, levels[1] + sd[1] * (rho * a + math.sqrt(1 - rho**2) * b)


def all_valid(values):
    return np.ones(np.shape(values), dtype=bool)


def advantages(format_, semantic, *, valid=None, moments=None, weights=WEIGHTS, **more):
    format_, semantic = np.array(format_, dtype=float), np.array(semantic, dtype=float)
    mask = all_valid(format_) if valid is None else np.array(valid, dtype=bool)
    return component_advantages(format_, semantic, mask, moments=moments, weights=weights, **more)


# -- coefficients


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5])
@pytest.mark.parametrize("weights", [(0.25, 0.75), (0.5, 0.5), (0.9, 0.1)])
def test_the_stated_weights_are_the_shares_of_the_variance(rho, weights):
    """Catches weights that are shares only while the components do not go together."""
    a, b = coefficients(rho, weights)
    z = np.random.default_rng(1).normal(size=(2, 400_000))
    first, second = z[0], rho * z[0] + math.sqrt(1 - rho**2) * z[1]
    total = a * first + b * second
    assert total.var() == pytest.approx(1.0, abs=0.01)
    assert np.mean(a * first * total) == pytest.approx(weights[0], abs=0.01)
    assert np.mean(b * second * total) == pytest.approx(weights[1], abs=0.01)
    assert a > 0
    assert b > 0


@pytest.mark.parametrize("rho", [-1.0, 1.0])
def test_components_that_go_wholly_together_have_finite_coefficients(rho):
    """Catches a division by the nothing that is left of A when one component undoes the other."""
    a, b = coefficients(rho, (0.5, 0.5))
    assert math.isfinite(a)
    assert a == pytest.approx(b)
    # Bounded at ± 0.9: 2 a² (1 ± 0.9) = 1.
    assert a == pytest.approx(math.sqrt(1 / (2 * (1 + 0.9 * rho))))


# -- moments


def test_moments_by_hand():
    """Catches a spread between groups, a mean over invalid forecasts, and unresolved groups."""
    format_ = np.array([[0.2, 0.4, 0.9], [0.5, 0.7, 0.6], [0.0, 1.0, 0.0]])
    semantic = np.array([[0.1, 0.5, 0.0], [0.9, 0.3, 0.3], [NAN, NAN, NAN]])
    valid = np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1]], dtype=bool)
    found = within_group_moments(format_, semantic, valid)
    # Group 0, two valid: format ∓0.1, semantic ∓0.2. Group 1: format −0.1, 0.1, 0 and semantic
    # 0.4, −0.2, −0.2. Five forecasts: (0.02 + 0.02)/5, (0.08 + 0.24)/5, (0.04 − 0.06)/5.
    assert found.var_format == pytest.approx(0.008)
    assert found.var_semantic == pytest.approx(0.064)
    assert found.covariance == pytest.approx(-0.004)
    assert found.n_groups == 2


def test_a_group_with_one_valid_forecast_has_no_moments():
    """Catches a spread of 0 from a group that could not have any."""
    lonely = np.array([[1, 0, 0]], dtype=bool)
    values = np.array([[0.3, 0.0, 0.0]])
    assert within_group_moments(values, values, lonely) == Moments(0.0, 0.0, 0.0, 0)
    assert within_group_moments(values, values * NAN, ~lonely) == Moments(0.0, 0.0, 0.0, 0)


def test_running_moments_by_hand():
    """Catches a decay of the newest day, a mean that a day of one group sways like one of ten, and
    the first day's spread halved by a start from 0."""
    days = [Moments(4.0, 8.0, -2.0, 10), Moments(1.0, 2.0, 1.0, 5)]
    # Weights 10 · 0.5 = 5 and 5: the plain mean.
    assert running_moments(days, decay=0.5) == Moments(2.5, 5.0, -0.5, 15)
    assert running_moments(days[:1], decay=0.5) == days[0]
    # Nothing kept: the newest day alone.
    assert running_moments(days, decay=0.0) == Moments(1.0, 2.0, 1.0, 15)


def test_a_day_without_resolved_groups_leaves_the_running_moments():
    """Catches a silent day pulling the scale to 0, and its advantages with it out of size."""
    days = [Moments(4.0, 8.0, -2.0, 10), Moments(0.0, 0.0, 0.0, 0)]
    assert running_moments(days, decay=0.9) == Moments(4.0, 8.0, -2.0, 10)
    assert running_moments(days[1:], decay=0.9) is None
    assert running_moments([], decay=0.9) is None


# -- advantages


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5])
def test_a_days_shares_are_the_weights(rho):
    """Catches "25:75" that amounts to 44:56 in the gradient: the spreads differ, the components
    correlate, and the shares stand all the same."""
    format_, semantic = correlated(rho, sd=(0.3, 0.06))
    moments = within_group_moments(format_, semantic, all_valid(format_))
    found = advantages(format_, semantic, moments=moments)
    assert found.shares == pytest.approx({"format": 0.25, "semantic": 0.75}, abs=1e-9)
    assert np.mean(found.total**2) == pytest.approx(1.0)
    np.testing.assert_allclose(found.format + found.semantic, found.total, atol=1e-12)
    np.testing.assert_allclose(found.total.mean(axis=1), 0, atol=1e-12)


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5])
def test_without_a_scale_per_component_the_weights_are_plain_factors(rho):
    """Catches a control that is the thing itself: the raw sum over its spread, in which the
    component that spreads five times as much owns the gradient."""
    format_, semantic = correlated(rho, sd=(0.3, 0.06))
    moments = within_group_moments(format_, semantic, all_valid(format_))
    found = advantages(format_, semantic, moments=moments, per_component=False)
    raw = 0.25 * format_ + 0.75 * semantic
    centred = raw - raw.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found.total, centred / centred.std(), atol=1e-9)
    assert found.shares["format"] > 0.5


def test_spreads_below_their_floors_are_not_blown_up():
    """Catches noise made as loud as signal on a day when all forecasts are alike."""
    format_, semantic = correlated(0.0, sd=(0.005, 0.002))
    moments = within_group_moments(format_, semantic, all_valid(format_))
    found = advantages(format_, semantic, moments=moments)
    # A tenth of each floor, 0.05 and 0.02: a tenth of the usual size.
    assert MIN_SPREAD == {"format": 0.05, "semantic": 0.02}
    assert np.sqrt(np.mean(found.total**2)) == pytest.approx(0.1, rel=0.1)
    # No moments known is as if all were below the floors: 0.05 / 0.05 · 0.5.
    first = advantages([[0.5, 0.6]], [[0.3, 0.3]])
    np.testing.assert_allclose(first.total, [[-0.5, 0.5]], atol=1e-12)


def test_an_invalid_forecast_does_not_lift_its_neighbours():
    """Catches a 0 in the group's mean: where one rambles, all others would be praised."""
    moments = Moments(0.01, 0.01, 0.0, 1)
    plain = advantages([[0.4, 0.6]], [[0.2, 0.4]], moments=moments)
    beside = advantages([[0.4, 0.0, 0.6]], [[0.2, 0.0, 0.4]], valid=[[1, 0, 1]], moments=moments)
    np.testing.assert_array_equal(beside.total[:, [0, 2]], plain.total)
    assert beside.total[0, 1] == -1.0
    assert beside.shares == pytest.approx(plain.shares)


def test_a_group_of_invalid_forecasts_teaches_nothing():
    """Catches a push away from everything, which leads nowhere."""
    found = advantages([[0.0] * 4], [[0.0] * 4], valid=[[0] * 4])
    assert (found.total == 0.0).all()
    assert found.shares is None


def test_an_unresolved_group_learns_a_little_from_its_format():
    """Catches "nothing was published" paid as 0, and a day of silence that trains on form."""
    moments = Moments(0.01, 0.01, 0.005, 1)
    found = advantages([[0.4, 0.6]], [[NAN, NAN]], moments=moments)
    # ∓0.1 / 0.1, at a quarter.
    np.testing.assert_allclose(found.total, [[-0.25, 0.25]], atol=1e-12)
    assert (found.semantic == 0.0).all()
    assert found.shares is None


def test_permuting_the_forecasts_permutes_their_advantages():
    """Catches an advantage that sticks to a place in the group and not to a forecast."""
    format_, semantic = correlated(0.3, n=6)
    valid = np.random.default_rng(5).random((6, 8)) > 0.2
    moments = within_group_moments(format_, semantic, valid)
    straight = advantages(format_, semantic, valid=valid, moments=moments)
    order = np.random.default_rng(6).permutation(8)
    turned = advantages(
        format_[:, order], semantic[:, order], valid=valid[:, order], moments=moments
    )
    np.testing.assert_allclose(turned.total, straight.total[:, order], atol=1e-12)
    groups = np.random.default_rng(7).permutation(6)
    shuffled = advantages(format_[groups], semantic[groups], valid=valid[groups], moments=moments)
    np.testing.assert_array_equal(shuffled.total, straight.total[groups])


def test_a_constant_of_the_group_changes_nothing():
    """Catches a baseline that is not the group's own: what all eight earn alike teaches nothing."""
    format_, semantic = correlated(0.0, n=3)
    moments = Moments(0.01, 0.01, 0.0, 3)
    levels = np.array([[0.3], [-0.2], [5.0]])
    found = advantages(format_ + levels, semantic - levels, moments=moments)
    expected = advantages(format_, semantic, moments=moments)
    np.testing.assert_allclose(found.total, expected.total, atol=1e-12)


# -- the plain reward


def test_the_plain_reward_by_hand():
    """Catches a spread per group, and groups without any in the day's."""
    rewards = np.array([[0.4, 0.6], [0.5, 0.5], [0.2, 0.8]])
    format_ = np.array([[0.8, 0.4], [0.5, 0.5], [0.1, 0.9]])
    found = plain_advantages(rewards, weights=WEIGHTS, format_=format_)
    # Spread of the two groups that have one: √((2·0.01 + 2·0.09) / 4) = √0.05 = 0.223607.
    expected = np.array([[-0.1, 0.1], [0.0, 0.0], [-0.3, 0.3]]) / 0.223607
    np.testing.assert_allclose(found.total, expected, atol=1e-5)
    np.testing.assert_allclose(found.format[0], [0.223607, -0.223607], atol=1e-5)
    # Σ 0.25 (f − mean) (r − mean) / Σ (r − mean)² = 0.25 · (−0.04 + 0.24) / 0.2.
    assert found.shares == pytest.approx({"format": 0.25, "semantic": 0.75})
    np.testing.assert_allclose(found.format + found.semantic, found.total, atol=1e-12)


def test_the_shares_of_the_plain_reward_sum_to_one():
    """Catches a share lost: the report shows what the raw weights amount to."""
    format_, semantic = correlated(0.4, n=20, sd=(0.3, 0.05))
    rewards = WEIGHTS[0] * format_ + WEIGHTS[1] * semantic
    shares = plain_advantages(rewards, weights=WEIGHTS, format_=format_).shares
    assert sum(shares.values()) == pytest.approx(1.0)
    # Raw spreads 0.075 and 0.0375: the component with a weight of 0.25 owns the gradient.
    assert shares["format"] > 0.6


def test_a_day_of_equal_rewards_has_no_advantages():
    """Catches 0 / 0."""
    same = np.full((3, 4), 0.7)
    found = plain_advantages(same, weights=WEIGHTS, format_=same)
    assert (found.total == 0.0).all()
    assert found.shares is None


# -- correlation within groups


def test_within_group_correlation_by_hand():
    """Catches a correlation of the groups' levels, which no gradient sees."""
    # Deviations −1, 1 and −1, 1 against −2, 2 and 1, −1: (2 + 2 − 1 − 1) / √(4 · 10) = 0.3162.
    first = np.array([[0.0, 2.0], [100.0, 102.0]])
    second = np.array([[0.0, 4.0], [52.0, 50.0]])
    every = np.ones((2, 2), dtype=bool)
    assert within_group_correlation(first, second, every) == pytest.approx(2 / math.sqrt(40))
    assert within_group_correlation(first, -second, every) == pytest.approx(-2 / math.sqrt(40))
    assert within_group_correlation(first, 3 * first + 7, every) == pytest.approx(1.0)


def test_what_does_not_count_has_no_part_in_a_correlation():
    """Catches the zeros of invalid forecasts correlated as if they had been earned."""
    first = np.array([[0.0, 2.0, 50.0], [100.0, 102.0, np.nan]])
    second = np.array([[0.0, 4.0, -9.0], [52.0, 50.0, 1.0]])
    counted = np.array([[True, True, False], [True, True, False]])
    assert within_group_correlation(first, second, counted) == pytest.approx(2 / math.sqrt(40))


def test_what_does_not_vary_has_no_correlation():
    """Catches a 0 where nothing is known."""
    varied, flat = np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]])
    every = np.ones((1, 2), dtype=bool)
    assert within_group_correlation(varied, flat, every) is None
    assert within_group_correlation(flat, varied, every) is None


# -- groups that hardly differ


def low(format_, semantic, valid=None):
    format_, semantic = np.array(format_, dtype=float), np.array(semantic, dtype=float)
    mask = all_valid(format_) if valid is None else np.array(valid, dtype=bool)
    return is_low_variance(format_, semantic, mask, spreads=(0.08, 0.04)).tolist()


def test_a_group_is_dropped_only_if_it_differs_in_neither_component():
    """Catches an "or": a group that differs in semantic alone is what the run is for."""
    # Deviations ∓d have a spread of d; the limits are 0.25 · 0.08 = 0.02 and 0.25 · 0.04 = 0.01.
    flat_f, flat_s, wide_f, wide_s = [0.5, 0.538], [0.3, 0.318], [0.5, 0.542], [0.3, 0.322]
    assert low([flat_f, wide_f, flat_f, wide_f], [flat_s, flat_s, wide_s, wide_s]) == [
        True, False, False, False,
    ]  # fmt: skip


def test_an_unresolved_group_is_judged_by_its_format():
    """Catches a group that is dropped, or kept, for a component it does not have."""
    assert low([[0.5, 0.5], [0.5, 0.6]], [[NAN, NAN]] * 2) == [True, False]


def test_a_group_with_invalid_forecasts_beside_valid_ones_stays():
    """Catches a policy that rambles and is never told: the valid ones are alike, and their
    difference to the others is the lesson. A group of invalid ones has none."""
    same = [[0.5, 0.5, 0.0]] * 2
    assert low(same, [[0.3, 0.3, 0.0]] * 2, [[1, 1, 0], [0, 0, 0]]) == [False, True]


def test_advantages_carry_which_groups_hardly_differ():
    """Catches a threshold against a group's own spread, or below the floor of noise."""
    moments = Moments(0.08**2, 0.04**2, 0.0, 3)
    found = advantages([[0.5, 0.538], [0.4, 0.6]], [[0.3, 0.318], [0.3, 0.3]], moments=moments)
    assert found.low_variance.tolist() == [True, False]
    # Without moments the floors stand: 0.25 · 0.05 and 0.25 · 0.02.
    assert advantages([[0.5, 0.524]], [[0.3, 0.309]]).low_variance.tolist() == [True]
    assert advantages([[0.5, 0.526]], [[0.3, 0.309]]).low_variance.tolist() == [False]


def test_the_plain_reward_drops_by_its_own_spread():
    """Catches groups judged by components that the plain reward does not train on."""
    rewards = np.array([[0.2, 0.8], [0.4, 0.6], [0.49, 0.51], [0.5, 0.5]])
    # Spread of those that vary: √((0.09 + 0.01 + 0.0001) / 3) = 0.18267; a quarter is 0.0457.
    found = plain_advantages(rewards, weights=WEIGHTS, format_=rewards)
    assert found.low_variance.tolist() == [False, False, True, True]
