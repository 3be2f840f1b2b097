"""Intervals of paired differences."""

import numpy as np
import pytest

from varro.evaluation.evaluate import claim_word
from varro.evaluation.stats import block_interval, mean_interval


def test_the_interval_holds_the_mean_and_has_the_normal_width():
    """Catches quantiles of the values instead of their mean, and a wrong level."""
    values = np.array([1.5, -0.5] * 200)
    low, high = mean_interval(values, n_bootstrap=4000, seed=0)
    assert low < values.mean() < high
    # 2 · 1.96 · sd / sqrt(n), sd = 1, n = 400: 0.196.
    assert high - low == pytest.approx(0.196, rel=0.1)


def test_days_are_the_units_and_not_headlines():
    """Catches resampling headlines: ten copies of one day are one observation each."""
    days = [[0.0] * 10, [1.0] * 10, [0.0] * 10, [1.0] * 10]
    low, high = block_interval(days, n_bootstrap=4000, seed=0)
    pooled = mean_interval([v for day in days for v in day], n_bootstrap=4000, seed=0)
    assert high - low > 2 * (pooled[1] - pooled[0])


def test_coverage_with_few_days_is_near_its_level():
    """Catches the plain percentile interval, which with ten days covers about 90 % for 95 %."""
    rng = np.random.default_rng(3)
    hits = 0
    for i in range(400):
        low, high = block_interval([[v] for v in rng.normal(size=10)], n_bootstrap=400, seed=i)
        hits += low <= 0 <= high
    assert hits / 400 > 0.91


def test_one_value_has_no_interval():
    """Catches an interval of width zero that excludes 0."""
    assert mean_interval([0.3], n_bootstrap=100, seed=0) is None
    assert block_interval([[], [0.1, 0.2]], n_bootstrap=100, seed=0) is None


@pytest.mark.parametrize(
    ("low", "high", "n_days", "word"),
    [
        (0.001, 0.02, 7, "learned"),
        (-0.001, 0.02, 30, "not yet distinguishable"),
        (-0.02, -0.001, 30, "worse"),
        (0.001, 0.02, 6, "not enough days"),
        (None, None, 1, "not enough days"),
    ],
)
def test_the_claim_follows_the_interval(low, high, n_days, word):
    """Catches a claim made from the mean, or from a handful of days."""
    assert claim_word({"lift_low": low, "lift_high": high, "n_days": n_days}) == word
