"""The KL leash's controller."""

from varro.training.leash import next_kl_coef

LEASH = {
    "n_forecasts": 256,
    "target": 8.0,
    "dead_band": (7.0, 9.0),
    "horizon": 1024,
    "min_kl_coef": 0.003,
    "max_kl_coef": 0.3,
}


def test_the_coefficient_rests_inside_the_dead_band():
    """Catches a controller that chases noise around its target."""
    assert next_kl_coef(0.03, 7.0, **LEASH) == 0.03
    assert next_kl_coef(0.03, 9.0, **LEASH) == 0.03


def test_too_far_tightens_and_too_near_loosens():
    """Catches the sign: a leash that loosens as the policy runs away."""
    # Errors are clipped to ±0.2, and 256/1024 of a correction is due: ×1.05 and ×0.95.
    assert abs(next_kl_coef(0.03, 40.0, **LEASH) - 0.0315) < 1e-12
    assert abs(next_kl_coef(0.03, 0.1, **LEASH) - 0.0285) < 1e-12
    # 9.2 / 8 − 1 = 0.15 is inside the clip: 1 + 0.15/4 = 1.0375.
    assert abs(next_kl_coef(0.04, 9.2, **LEASH) - 0.0415) < 1e-12


def test_a_refused_update_doubles_the_leash():
    """Catches a policy at its limit that is refused every day for ever."""
    assert next_kl_coef(0.03, 8.0, past_limit=True, **LEASH) == 0.06
    assert next_kl_coef(0.2, 8.0, past_limit=True, **LEASH) == 0.3


def test_the_coefficient_stays_within_its_bounds():
    """Catches a coefficient that dies at zero and can never come back."""
    assert next_kl_coef(0.003, 0.0, **LEASH) == 0.003
    assert next_kl_coef(0.3, 99.0, **LEASH) == 0.3
