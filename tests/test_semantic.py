"""Similarity to outcomes and to placebo days."""

import numpy as np
import pytest

from varro.reward.semantic import best_match, placebo_similarity


def unit(*angles):
    """Unit vectors in the plane, angles in degrees."""
    radians = np.deg2rad(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_the_best_outcome_is_found_and_negative_cosine_is_nothing():
    """Catches a mean over outcomes, a wrong index, and negative rewards."""
    scores, matched = best_match(unit(0, 180), unit(60, 90))
    # cos 60° = 0.5; from 180° the nearest is 90°, cos 90° = 0.
    np.testing.assert_allclose(scores, [0.5, 0.0], atol=1e-6)
    assert matched.tolist() == [0, 1]


def test_no_outcome_is_an_error_and_not_a_zero():
    """Catches the silent fallback: nothing published read as reward 0."""
    with pytest.raises(ValueError, match="no outcome"):
        best_match(unit(0), unit())


def test_the_placebo_pool_is_as_large_as_the_outcomes():
    """Catches an unfair null: a maximum grows with its pool."""
    days = [unit(90, 90, 90), unit(0)]
    # Day 0 has three headlines, one is drawn: cos 90° = 0. Day 1: cos 0° = 1. Mean 0.5.
    found = placebo_similarity(unit(0), days, n_outcomes=1, seed=0)
    np.testing.assert_allclose(found, [0.5], atol=1e-6)
    # With two outcomes day 1 is joined with day 0: 4 headlines, 2 drawn.
    joined = placebo_similarity(unit(0), [unit(0), unit(60, 60, 60)], n_outcomes=4, seed=0)
    np.testing.assert_allclose(joined, [1.0], atol=1e-6)


def test_too_few_placebo_headlines_give_no_placebo():
    """Catches a null drawn from a smaller pool, which would look like foresight."""
    assert placebo_similarity(unit(0), [unit(0)], n_outcomes=2, seed=0) is None
    assert placebo_similarity(unit(0), [], n_outcomes=1, seed=0) is None


def test_the_draw_is_seeded():
    """Catches a null that changes when a day is settled again."""
    days = [unit(*range(0, 90, 3))]
    once = [placebo_similarity(unit(0), days, n_outcomes=3, seed=5) for _ in range(2)]
    assert once[0] == once[1]
