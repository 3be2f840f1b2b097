"""Intervals of paired differences, the claim under daily reading, and the medoid."""

import numpy as np
import pytest

from varro.evaluation.stats import (
    block_interval,
    change_interval,
    confidence_sequence,
    days_to_claim,
    mean_interval,
    medoid,
    running_sequence,
    sequence_half_width,
)


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


# The half-width on day 10 at α = 0.05, tuned for 30, sd 1, by hand:
#   −2 ln 0.05 = 5.991465; ln(1 + 5.991465) = 1.944690; ρ² = 7.936155 / 30 = 0.264538
#   tρ² + 1 = 3.645385; its root 1.909289; over α 38.18578; ln 3.642463
#   2 · 3.645385 / (100 · 0.264538) = 0.275603; · 3.642463 = 1.003873; root 1.001935
#   (1 + 2/10) · 1.001935 = 1.202322
DAY_10 = 1.202322


def test_the_half_width_is_the_one_worked_by_hand():
    """Catches a lost factor 2, ρ for ρ², log base 10, and a dropped (1 + 2/t)."""
    assert sequence_half_width(10, 1.0) == pytest.approx(DAY_10, abs=1e-5)
    widths = sequence_half_width(np.array([10, 10]), np.array([0.0, 3.0]))
    assert widths == pytest.approx([0.0, 3 * DAY_10], abs=1e-5)


def test_the_confidence_sequence_is_centred_on_the_mean_with_the_sample_sd():
    """Catches the population sd (t for t − 1), which is 5 % too small on day 10."""
    # 1, 3, 1, 3 …: mean 2, squares sum to 10, sd = sqrt(10 / 9) = 1.0540926.
    # 1.0540926 · 1.202322 = 1.267359.
    assert confidence_sequence([1.0, 3.0] * 5) == pytest.approx((0.732641, 3.267359), abs=1e-5)


def test_day_seven_is_the_first_with_an_interval():
    """Catches a claim from six days, and an interval withheld on the seventh."""
    assert confidence_sequence([1.0, 1.1] * 3) is None
    assert confidence_sequence([]) is None
    assert confidence_sequence([1.0, 1.1] * 3 + [1.0]) is not None
    low, _ = running_sequence([1.0, 1.1] * 5)
    assert (low > 0).tolist() == [False] * 6 + [True] * 4


def test_equal_days_give_their_mean_and_equal_zeros_claim_nothing():
    """Catches rounding that turns a base-against-base lift of 0 into a claim, or a NaN width."""
    assert confidence_sequence([0.1] * 20) == (0.1, 0.1)
    assert confidence_sequence([0.0] * 20) == (0.0, 0.0)


def test_the_sd_survives_a_far_mean():
    """Catches squares minus squared mean, whose digits cancel: sd is 1.0541 at 2 and at 10⁹."""
    low, high = confidence_sequence([1e9 + 1, 1e9 + 3] * 5)
    assert (high - low) / 2 == pytest.approx(1.267359, abs=1e-5)


def test_each_day_uses_only_the_days_up_to_it():
    """Catches an sd or mean over all days, with which day 9's claim would know day 30."""
    values = np.random.default_rng(5).normal(size=(3, 30))
    low, high = running_sequence(values)
    for t in (7, 12, 30):
        for row in range(3):
            expected = confidence_sequence(values[row, :t])
            assert (low[row, t - 1], high[row, t - 1]) == pytest.approx(expected)
    assert np.isneginf(low[:, :6]).all()
    assert np.isposinf(high[:, :6]).all()


def test_a_claim_that_is_lost_is_withdrawn():
    """Catches a verdict from the running intersection: a lift that is lost must be withdrawn."""
    # Seven days of 1, 3, …: mean 13/7, squares sum to 48/7, sd 1.069, width 1.71 < 1.857.
    lost = [1.0, 3.0] * 4 + [-10.0] * 5
    assert running_sequence(lost)[0][6] > 0
    low, high = confidence_sequence(lost)
    assert low < 0 < high


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_day_that_is_not_finite_is_refused(bad):
    """Catches NaN passing as "not yet distinguishable" for ever after."""
    for days in ([bad], [0.1] * 8 + [bad]):
        with pytest.raises(ValueError, match="not finite"):
            confidence_sequence(days)
        with pytest.raises(ValueError, match="not finite"):
            running_sequence(days)
    with pytest.raises(ValueError, match="finite"):
        days_to_claim(bad, sd=1.0)
    with pytest.raises(ValueError, match="finite"):
        days_to_claim(0.01, sd=bad)


def test_settings_without_an_interval_are_refused():
    """Catches an sd of one day, and a level outside (0, 1) giving NaN widths."""
    with pytest.raises(ValueError, match="min_n"):
        confidence_sequence([0.1] * 8, min_n=1)
    with pytest.raises(ValueError, match="alpha"):
        sequence_half_width(10, 1.0, alpha=1.0)
    with pytest.raises(ValueError, match="tuned_for"):
        sequence_half_width(10, 1.0, tuned_for=0)
    with pytest.raises(ValueError, match="sd"):
        days_to_claim(0.01, sd=-1.0)


def test_days_to_claim_is_the_first_day_whose_width_is_below_the_lift():
    """Catches days counted from day 7, a width equal to the lift, and standard errors for sds."""
    assert days_to_claim(1.2024, sd=1.0) == 10
    assert days_to_claim(1.2022, sd=1.0) == 11
    assert days_to_claim(0.012024, sd=0.01) == 10
    assert days_to_claim(float(sequence_half_width(10, 1.0)), sd=1.0) == 11
    # No claim is made before day 7, however large the lift.
    assert days_to_claim(100.0, sd=1.0) == 7
    assert days_to_claim(0.01, sd=0.0) == 7


def test_a_lift_that_can_not_be_claimed_has_no_day():
    """Catches a day promised for a lift of 0 or below, and one past the horizon."""
    assert days_to_claim(0.0, sd=0.0) is None
    assert days_to_claim(-0.01, sd=1.0) is None
    assert days_to_claim(1.2022, sd=1.0, max_days=10) is None
    assert days_to_claim(1.2022, sd=1.0, max_days=11) == 11


def claimed(values):
    """Shares of runs that claim "learned" and "worse" on any of their days."""
    low, high = running_sequence(values)
    return (low > 0).any(axis=1).mean(), (high < 0).any(axis=1).mean()


def test_no_lift_is_claimed_in_at_most_one_run_in_forty_on_each_side():
    """Catches the plain width and any fixed-day interval read daily.

    Runs of 90 null days, read each day from the seventh: 10,000 of them, since 2,000 do not tell
    this width (1.7 %) from the plain one (3.1 %) for sure. A daily look at z > 1.96 claims in
    about 19 %: the same draws must show that, so no infinitely wide interval passes.
    """
    values = np.random.default_rng(11).normal(size=(10000, 90))
    learned, worse = claimed(values)
    assert learned <= 0.025
    assert worse <= 0.025
    assert min(learned, worse) >= 0.01
    peeked = np.zeros(2000, dtype=bool)
    for t in range(7, 91):
        seen = values[:2000, :t]
        peeked |= seen.mean(axis=1) / (seen.std(axis=1, ddof=1) / np.sqrt(t)) > 1.96
    assert peeked.mean() > 0.15


def test_day_means_with_heavy_tails_or_some_skew_claim_little_more():
    """Catches a width that holds for normal days only: measured 1.0 %, and 1.1 and 2.6 %."""
    rng = np.random.default_rng(12)
    assert max(claimed(rng.standard_t(3, size=(2000, 90)))) <= 0.025
    # The mean of 32 exponential headlines: skew 2 / sqrt(32) = 0.35, "worse" pays for it.
    learned, worse = claimed(rng.gamma(32, size=(2000, 90)) - 32)
    assert learned <= 0.025
    assert worse <= 0.04


@pytest.mark.parametrize("tau", [0.0, 0.005, 0.01])
def test_a_lift_of_one_hundredth_is_claimed_within_fifteen_days(tau):
    """Catches an interval so careful that nothing is ever learned.

    32 headlines a day of paired sd 0.034, and a true lift that moves by tau from day to day.
    """
    rng = np.random.default_rng(13)
    values = 0.01 + rng.normal(0, tau, (2000, 90)) + rng.normal(0, 0.034 / 32**0.5, (2000, 90))
    low, _ = running_sequence(values)
    first = np.where((low > 0).any(axis=1), (low > 0).argmax(axis=1) + 1, 999)
    assert np.median(first) <= 15


def test_the_medoid_is_the_row_nearest_the_others():
    """Catches the first row, the outlier, and an index into another order."""
    # Angles 0°, 10°, 30°, 100°. Summed cosines to the others:
    #   0°: .985 + .866 − .174 = 1.677; 10°: .985 + .940 + 0 = 1.925
    #   30°: .866 + .940 + .342 = 2.148; 100°: −.174 + 0 + .342 = .168
    angles = np.deg2rad([0.0, 10.0, 30.0, 100.0])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert medoid(rows) == 2
    assert medoid(rows[::-1]) == 1


def test_ties_for_the_medoid_go_to_the_first():
    """Catches a display that changes with the last bit of a float32."""
    rows = np.random.default_rng(2).normal(size=(2, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert medoid(rows) == 0
    assert medoid(rows[[0, 1, 1, 0, 1, 0]]) == 0
    assert medoid(rows[[0, 1, 1, 1]]) == 1
    assert medoid(rows[:1]) == 0


def test_no_rows_have_no_medoid():
    """Catches index 0 of nothing."""
    with pytest.raises(ValueError, match="N ≥ 1"):
        medoid(np.zeros((0, 384), dtype=np.float32))
    with pytest.raises(ValueError, match="finite"):
        medoid(np.full((2, 3), np.nan, dtype=np.float32))


def test_a_change_is_clear_only_if_days_differ_less_than_it() -> None:
    """Catches an arrow for an ordinary day: with days 1, 2 and 3 (mean 2, sd 1) a new one lies
    within t(0.975, 2) · sqrt(4/3) = 4.303 · 1.155 = 4.97 of 2."""
    low, high = change_interval(4.0, [1.0, 2.0, 3.0])
    assert (low, high) == (pytest.approx(2 - 4.968, abs=0.001), pytest.approx(2 + 4.968, abs=0.001))
    low, _ = change_interval(8.0, [1.0, 2.0, 3.0])
    assert low > 0
    assert change_interval(4.0, [1.0, 2.0]) is None
    assert change_interval(4.0, [1.0, 1.0, 1.0]) is None
    with pytest.raises(ValueError, match="not finite"):
        change_interval(float("nan"), [1.0, 2.0, 3.0])


def test_a_change_is_called_clear_on_one_null_day_in_twenty() -> None:
    """Catches an interval of the mean taken for one of a day."""
    draw = np.random.default_rng(5)
    days = draw.normal(size=(4000, 8))
    clear = 0
    for *earlier, today in days.tolist():
        low, high = change_interval(today, earlier)
        clear += not low <= 0 <= high
    assert 0.035 <= clear / 4000 <= 0.065
