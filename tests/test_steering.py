"""What the trainer changes from day to day by what it measured."""

import pytest

from varro.training.steering import bounded_lr_scale, next_clip_scale, next_lr_scale, warmed_up

BAND = {"kl_low": 0.05, "kl_high": 0.30, "is_warmup": False}


def clip_after(scale, clip_frac):
    return next_clip_scale(scale, clip_frac, is_warmup=False)


def test_too_much_clipping_widens_the_range_and_too_little_narrows_it():
    """Catches a range that closes on a day when nine of ten forecasts were thrown away."""
    assert clip_after(1.0, 0.21) == 1.25
    assert clip_after(1.0, 0.04) == 0.8
    assert clip_after(1.0, 0.05) == clip_after(1.0, 0.20) == 1.0


def test_a_small_move_raises_the_rate_and_a_large_one_lowers_it():
    """Catches a rate that grows as the policy runs away."""
    assert next_lr_scale(1.0, 0.04, **BAND) == 1.25
    assert next_lr_scale(1.0, 0.31, **BAND) == pytest.approx(2 / 3)
    assert next_lr_scale(1.0, 0.05, **BAND) == next_lr_scale(1.0, 0.30, **BAND) == 1.0


def test_a_warm_up_raises_no_rate_and_narrows_no_range():
    """Catches a rate and a range set by days that were held back on purpose."""
    warm = BAND | {"is_warmup": True}
    assert next_lr_scale(1.0, 0.01, **warm) == 1.0
    assert next_lr_scale(1.0, 0.5, **warm) == pytest.approx(2 / 3)
    assert next_clip_scale(1.0, 0.01, is_warmup=True) == 1.0
    assert next_clip_scale(1.0, 0.5, is_warmup=True) == 1.25
    assert [warmed_up(1e-5, n, n_warmup=2) for n in range(3)] == pytest.approx([3e-6, 3e-6, 1e-5])


def test_steering_stays_within_its_bounds():
    """Catches a week of one kind that takes a month to undo, and a rate past what is known safe."""
    assert clip_after(4.0, 1.0) == 4.0
    assert clip_after(0.25, 0.0) == 0.25
    assert next_lr_scale(2.0, 0.0, **BAND) == 2.0
    assert next_lr_scale(1 / 16, 9.0, **BAND) == bounded_lr_scale(1 / 32) == 1 / 16
