"""Calibration of stated probabilities, by hand."""

import pytest

from varro.evaluation.calibration import (
    MIN_FORECASTS,
    Calibration,
    ReliabilityBin,
    brier,
    calibration,
    reliability,
)


def test_the_brier_score_is_the_mean_squared_miss():
    """Catches an absolute miss, a sum for a mean, and events read the wrong way round."""
    # (0.7 − 1)² = 0.09, (0.7 − 0)² = 0.49, (0.2 − 0)² = 0.04: mean 0.62 / 3.
    assert brier([0.7, 0.7, 0.2], [True, False, False]) == pytest.approx(0.62 / 3)


def test_bins_hold_their_lower_edge_and_the_last_holds_one():
    """Catches 0.6 in the bin below (an edge of 0.6000000000000001), and 1.0 in no bin."""
    found = reliability(
        [0.6, 0.7, 1.0, 0.0, 0.19, 0.8], [True, False, True, False, True, True], n_bins=5
    )
    assert [(b.low, b.high, b.n) for b in found] == [(0.0, 0.2, 2), (0.6, 0.8, 2), (0.8, 1.0, 2)]
    assert [b.mean_probability for b in found] == pytest.approx([0.095, 0.65, 0.9])
    assert [b.happened_frac for b in found] == [0.5, 0.5, 1.0]


def test_whole_percents_fall_where_they_are_written():
    """Catches 0.29 · 100 = 28.999999999999996 rounded down."""
    percents = [i / 100 for i in range(100)]
    found = reliability(percents, [True] * 100, n_bins=100)
    assert [b.n for b in found] == [1] * 100
    assert [b.low for b in found] == percents


def test_calibration_waits_for_thirty_forecasts():
    """Catches a Brier score shown from a handful, and one withheld at the limit itself."""
    pair = (0.7, True)
    assert MIN_FORECASTS == 30
    assert calibration([pair] * 29) is None
    assert calibration([pair] * 30) is not None


def test_calibration_is_read_beside_its_base_rate():
    """Catches probability and event swapped, and a base rate taken from the probabilities."""
    # 20 at 0.9 of which 15 happened, 20 at 0.1 of which 1 happened.
    pairs = [(0.9, i < 15) for i in range(20)] + [(0.1, i < 1) for i in range(20)]
    found = calibration(pairs)
    assert isinstance(found, Calibration)
    assert found.n == 40
    # 34 misses of 0.1 and 6 of 0.9: (34 · 0.01 + 6 · 0.81) / 40 = 5.2 / 40.
    assert found.brier == pytest.approx(0.13)
    # 16 of 40 happened: 0.4 · 0.6.
    assert found.base_rate_brier == pytest.approx(0.24)
    assert [(b.n, b.happened_frac) for b in found.bins] == [(20, 0.05), (20, 0.75)]
    assert isinstance(found.bins[0], ReliabilityBin)


@pytest.mark.parametrize(
    ("probabilities", "happened"),
    [([], []), ([0.5], []), ([70.0], [True]), ([-0.1], [True]), ([float("nan")], [True])],
)
def test_what_is_not_a_probability_is_refused(probabilities, happened):
    """Catches percents read as probabilities, NaN averaged in, and a mean of nothing."""
    with pytest.raises(ValueError, match="expected"):
        brier(probabilities, happened)
    with pytest.raises(ValueError, match="expected"):
        reliability(probabilities, happened)
