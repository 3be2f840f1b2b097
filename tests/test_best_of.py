"""Best of k: the estimator by exhaustion, what is paired, and what a curve is said to show."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from varro.evaluation.best_of import compare_best, expected_best, pool_best, sharpening


def test_the_best_of_two_of_three_is_worked_by_hand():
    """Catches weights of the smallest, or draws with replacement."""
    # Pairs of 1, 2, 4 have the bests 2, 4, 4.
    assert expected_best([4.0, 1.0, 2.0], 2) == pytest.approx(10 / 3)
    assert expected_best([4.0, 1.0, 2.0], 1) == pytest.approx(7 / 3)
    assert expected_best([4.0, 1.0, 2.0], 3) == 4.0


@pytest.mark.parametrize("k", range(1, 9))
def test_it_is_the_mean_over_all_choices(k):
    """Catches an off-by-one in the weights, at any k of the eight, and with equal values."""
    values = [0.3, -0.2, 0.3, 1.5, 0.0, -2.0, 0.7, 0.1]
    expected = np.mean([max(chosen) for chosen in combinations(values, k)])
    assert expected_best(values, k) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "k"), [(3, 0), (3, 4), (0, 1)])
def test_more_than_there_are_cannot_be_chosen(n, k):
    """Catches a best of eight told from four forecasts."""
    with pytest.raises(ValueError, match=f"of {n} values"):
        expected_best([1.0] * n, k)


def curve(served, base):
    return compare_best(served, base, seed=0, n_bootstrap=200)


def test_a_day_is_paired_by_headline_and_ends_where_the_base_does():
    """Catches pairing by position, and a base of two forecasts whose best of three is told."""
    rows = curve(
        {"a": [1.0, 2.0, 3.0], "b": [0.0, 0.0, 6.0], "only served": [9.0, 9.0, 9.0]},
        {"b": [1.0, 1.0], "a": [0.0, 4.0], "only base": [9.0, 9.0]},
    )
    assert [(row["k"], row["n"]) for row in rows] == [(1, 2), (2, 2), (3, 2)]
    # k = 1: served 2 and 2, base 2 and 1. k = 2: served 8/3 and 4, base 4 and 1. k = 3: 3 and 6.
    assert [row["served"] for row in rows] == pytest.approx([2.0, 10 / 3, 4.5])
    assert [row["base"] for row in rows] == [1.5, 2.5, None]
    assert rows[0]["difference"] == 0.5
    assert rows[1]["difference"] == pytest.approx(5 / 6)
    assert [rows[2][key] for key in ("difference", "low", "high")] == [None, None, None]
    assert rows[1]["low"] < rows[1]["difference"] < rows[1]["high"]


def test_a_headline_that_lacks_a_value_leaves_the_whole_curve():
    """Catches a curve that falls with k because a good headline left it half-way."""
    rows = curve({"good": [9.0, 9.0], "plain": [1.0, 2.0, 3.0]}, {"good": [0.0], "plain": [0.0]})
    assert [row["served"] for row in rows] == pytest.approx([2.0, 8 / 3, 3.0])
    assert {row["n"] for row in rows} == {1}
    assert {row["low"] for row in rows} == {None}


@pytest.mark.parametrize(
    ("served", "base"),
    [({}, {}), ({"a": [1.0]}, {}), ({"a": [1.0]}, {"b": [1.0]}), ({"a": []}, {"a": []})],
)
def test_a_day_without_pairs_has_no_curve(served, base):
    """Catches a row of zeros on a first day."""
    assert curve(served, base) == []


def row(k, served, base, n=3):
    difference = None if base is None else served - base
    return {"k": k, "n": n, "served": served, "base": base, "difference": difference,
            "low": None, "high": None}  # fmt: skip


def test_days_weigh_alike_and_a_day_without_a_curve_is_none():
    """Catches headlines pooled over days, and a dash read as 0."""
    days = [[row(1, 1.0, 0.0, n=30), row(2, 2.0, None)], [], [row(1, 3.0, 0.0, n=1)]]
    one, two = pool_best(days, seed=0, n_bootstrap=200)
    assert (one["n_days"], one["n"], one["served"], one["base"]) == (2, 31, 2.0, 0.0)
    assert one["low"] < one["difference"] == 2.0 < one["high"]
    assert (two["n_days"], two["served"]) == (1, 2.0)
    assert [two[key] for key in ("base", "difference", "low", "high")] == [None] * 4
    assert pool_best([[], []], seed=0, n_bootstrap=200) == []


@pytest.mark.parametrize(
    ("one", "many", "word"),
    [
        ((0.1, 0.2), (0.1, 0.2), "both"),
        ((0.1, 0.2), (-0.1, 0.2), "sharper"),
        ((-0.1, 0.2), (0.1, 0.2), "wider"),
        ((-0.2, -0.1), (0.1, 0.2), "wider"),
        ((0.1, 0.2), (-0.2, -0.1), "narrower"),
        ((-0.1, 0.2), (-0.2, -0.1), "narrower"),
        ((-0.2, -0.1), (-0.2, -0.1), "worse"),
        ((-0.1, 0.2), (-0.1, 0.2), "open"),
        ((-0.2, -0.1), (-0.1, 0.2), "open"),
        ((None, None), (None, None), "open"),
    ],
)
def test_the_word_follows_from_both_ends_of_the_curve(one, many, word):
    """Catches a gain at one forecast sold as something new."""
    rows = [
        {"k": k, "low": low, "high": high}
        for k, (low, high) in ((1, one), (2, (0.0, 0.0)), (4, many), (8, (None, None)))
    ]
    assert sharpening(rows if one[0] is not None else [rows[0], rows[2]]) == word
    assert sharpening([]) == sharpening(rows[:1]) == "open"
