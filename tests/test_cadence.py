"""Cadence: figures worked by hand, what too few tokens allow, and the pairing with the base."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from varro.domain import Forecast, Group, Headline, Role
from varro.evaluation.cadence import MEASURES, Cadence, cadence, compare_cadence

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SURPRISAL = [1.0, 1.0, 5.0, 1.0, 1.0, 1.0, 5.0, 1.0]
"""mean 2, variance 24 / 8: spikes from 2 + √3 on, which are tokens 2 and 6"""
ENTROPY = [2.0, 2.0, 4.0, 1.0, 2.0, 3.0, 5.0, 1.0]


def of(surprisal, entropies=None):
    return cadence(-np.float32(surprisal), None if entropies is None else np.float32(entropies))


def test_each_figure_is_the_one_worked_by_hand():
    """Catches log-probs read with their sign, a peak counted twice, a sum that is no mean."""
    found = of(SURPRISAL, ENTROPY)
    assert found.surprisal == 2.0
    assert found.entropy == 2.5
    assert found.spikes_per_100 == 25.0
    assert found.peak_interval == 4.0
    # Steps 0, 4, 4, 0, 0, 4, 4.
    assert found.masd == pytest.approx(16 / 7)
    # Distances from the mean: −1 −1 3 −1 −1 −1 3 −1, squares 24.
    # Lag 1: 1 − 3 − 3 + 1 + 1 − 3 − 3 = −9; lag 2: −3 + 1 − 3 + 1 − 3 + 1 = −6.
    assert found.acf1 == pytest.approx(-9 / 24)
    assert found.acf2 == pytest.approx(-6 / 24)
    # 4 − (1 + 2 + 3) / 3 = 2, and 5 − 1 = 4 with one token behind.
    assert found.cooldown == pytest.approx(3.0)


def test_a_plateau_is_one_peak_and_two_spikes():
    """Catches an interval of 1 inside one peak, and a peak at the end that is not seen."""
    # Mean 1.5, variance (5 · 2.25 + 3 · 6.25) / 8 = 3.75: spikes from 3.44 on.
    found = of([0.0, 4.0, 4.0, 0.0, 0.0, 0.0, 0.0, 4.0])
    assert found.spikes_per_100 == 37.5
    assert found.peak_interval == 6.0


NOTHING = dict.fromkeys(MEASURES)


@pytest.mark.parametrize(
    ("surprisal", "entropies", "known"),
    [
        ([], [], {}),
        ([0.5], [0.25], {"surprisal": 0.5, "entropy": 0.25, "spikes_per_100": 0.0}),
        # Mean 2, sd 1: the 3 is a spike. As the last token it has nothing behind it.
        (
            [1.0, 3.0],
            [1.0, 2.0],
            {"surprisal": 2.0, "entropy": 1.5, "spikes_per_100": 50.0, "masd": 2.0},
        ),
        (
            [3.0, 1.0],
            [2.0, 0.5],
            {
                "surprisal": 2.0,
                "entropy": 1.25,
                "spikes_per_100": 50.0,
                "masd": 2.0,
                "cooldown": 1.5,
            },
        ),
        # Three tokens have two pairs at lag 1 and one at lag 2: 0 · 1.5 and −1.5 · 0 … over 4.5.
        (
            [1.0, 2.5, 4.0],
            None,
            {"surprisal": 2.5, "spikes_per_100": 100 / 3, "masd": 1.5, "acf1": 0.0},
        ),
    ],
    ids=["none", "one", "two, rising", "two, falling", "three"],
)
def test_what_a_few_tokens_do_not_allow_is_none(surprisal, entropies, known):
    """Catches a division by zero, and a figure that is given beforehand told as measured."""
    found = of(surprisal, entropies)
    for name, value in (NOTHING | known).items():
        assert getattr(found, name) == pytest.approx(value), name


@pytest.mark.parametrize("level", [0.0, 0.1, 1 / 3])
def test_a_level_series_has_no_spike_and_no_autocorrelation(level):
    """Catches 100 spikes in 100 tokens where nothing stands out, and 0 / 0 of rounding errors."""
    found = of([level] * 7, [1.0] * 7)
    assert (found.spikes_per_100, found.masd) == (0.0, 0.0)
    assert (found.peak_interval, found.acf1, found.acf2, found.cooldown) == (None,) * 4
    assert found.surprisal == pytest.approx(level)


def test_one_peak_has_no_interval():
    """Catches a distance to the beginning told as one between peaks."""
    assert of([1.0, 1.0, 9.0, 1.0]).peak_interval is None


def test_without_entropies_the_rest_is_told():
    """Catches entropy made up from surprisal for forecasts that did not store it."""
    whole, half = of(SURPRISAL, ENTROPY), of(SURPRISAL)
    assert (half.entropy, half.cooldown) == (None, None)
    assert (
        Cadence(
            **{name: getattr(whole, name) for name in MEASURES}
            | {"entropy": None, "cooldown": None}
        )
        == half
    )


@pytest.mark.parametrize("surprisal", [[1.0, np.nan], [np.inf, 1.0]])
def test_a_log_prob_that_is_no_number_is_refused(surprisal):
    """Catches a damaged row that makes a day's mean not a number."""
    with pytest.raises(ValueError, match="not finite"):
        of(surprisal)
    with pytest.raises(ValueError, match="not finite"):
        of([1.0, 1.0], surprisal)
    with pytest.raises(ValueError, match="entropies"):
        of([1.0, 1.0], [1.0])


def group(headline, role, *series, entropies=True):
    title = Headline(headline, "w", "f", "s", headline, headline, "", None, NOON)
    forecasts = tuple(
        Forecast(
            f"{role}-{headline}-{k}", f"{role}-{headline}", k, (1,) * len(s), -np.float32(s), "",
            "stop", k, np.float32(s) if entropies else None,
        )
        for k, s in enumerate(series)
    )  # fmt: skip
    return Group(
        f"{role}-{headline}", "r", "2026-01-05", role, title, 0, NOON, "p", (1,), forecasts
    )


def compared(*groups):
    return compare_cadence(groups, seed=0, day="2026-01-05", n_bootstrap=200)


def test_a_day_is_paired_by_headline():
    """Catches means over forecasts instead of headlines, and a headline that one side forecast."""
    found = compared(
        group("a", Role.TRAIN, [1.0, 1.0], [3.0, 3.0]),
        group("b", Role.HELDOUT, [4.0, 4.0]),
        group("c", Role.TRAIN, [9.0, 9.0]),
        group("d", Role.BASE, [9.0, 9.0]),
        group("b", Role.BASE, [1.0, 1.0]),
        group("a", Role.BASE, [1.0, 1.0]),
    )
    assert (found["n_headlines"], found["n_served"], found["n_base"]) == (2, 3, 2)
    surprisal = found["measures"]["surprisal"]
    # a: 2 − 1, b: 4 − 1.
    assert (surprisal["served"], surprisal["base"], surprisal["difference"]) == (3.0, 1.0, 2.0)
    assert surprisal["low"] < 2.0 < surprisal["high"]
    assert found["measures"]["entropy"]["difference"] == 2.0
    assert found["measures"]["acf1"] == dict.fromkeys(
        ("served", "base", "difference", "low", "high")
    ) | {"n": 0}


def test_a_measure_that_one_side_lacks_is_not_compared():
    """Catches a base of an older ledger, without entropies, taken for one with entropy 0."""
    found = compared(
        group("a", Role.TRAIN, [1.0, 3.0]), group("a", Role.BASE, [1.0, 3.0], entropies=False)
    )
    assert found["measures"]["entropy"]["difference"] is None
    assert found["measures"]["masd"]["difference"] == 0.0
    assert found["measures"]["masd"]["low"] is None
    assert compared(group("a", Role.TRAIN, [1.0])) is None
    assert compared() is None
