"""The KL leash: its controller, its gradient either way, and when its reference moves."""

import itertools
from functools import partial

import numpy as np
import pytest

from varro.policy.mlx import mx
from varro.training.gspo import (
    gspo_objective,
    leash_penalty,
    leashed_advantages,
    sequence_kl,
    sequence_log_ratio,
)
from varro.training.leash import leash_strength, next_kl_coef, should_reset_reference

LEASH = {
    "n_forecasts": 256,
    "target": 8.0,
    "dead_band": (7.0, 9.0),
    "horizon": 1024,
    "min_kl_coef": 0.003,
    "max_kl_coef": 0.3,
}


def test_the_leash_is_stronger_the_further_out_at_once():
    """Catches a leash that is at its strongest a month after the policy has run off."""
    at = partial(leash_strength, 0.03, gain=0.25, dead_band=(7.0, 9.0))
    assert [at(kl) for kl in (0.0, 7.0, 8.0, 11.0)] == pytest.approx([0.03, 0.03, 0.28, 1.03])
    assert leash_strength(0.0, 11.0, gain=0.0, dead_band=(7.0, 9.0)) == 0.0


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


# -- the gradient, on a policy small enough to add up all of its answers

ANSWERS = list(itertools.product(range(3), repeat=2))
"""two tokens of three: all nine"""


def answer_logprobs(table):
    """(9, 2) log-probs of each answer's tokens. Row 0 of the table is for the first token, row
    1 + i for the second after i."""
    logs = table - mx.logsumexp(table, axis=-1, keepdims=True)
    return mx.stack([mx.stack([logs[0, a], logs[1 + a, b]]) for a, b in ANSWERS])


def exact_kl(table, ref):
    new = answer_logprobs(table)
    return (mx.exp(new.sum(axis=-1)) * (new - ref).sum(axis=-1)).sum()


@pytest.mark.parametrize("kind", ["reward", "loss"])
def test_the_leash_pulls_by_the_exact_gradient_of_the_reverse_kl(kind):
    """Catches k3 in the loss, whose gradient is another KL's; a flipped sign; and a switch between
    the kinds that changes the strength by the length of an answer."""
    table, other = (mx.array(np.random.default_rng(n).normal(size=(4, 3))) for n in (0, 1))
    ref, mask = answer_logprobs(other), mx.ones((9, 2))
    old = answer_logprobs(table)
    probs = mx.exp(old.sum(axis=-1))  # what each answer counts for in an expectation
    kl = np.array(sequence_kl(old, ref, mask), dtype=np.float64)[None]
    taken = leashed_advantages(np.zeros((1, 9)), kl, kl_coef=0.2, max_advantage=99.0)
    advantages = mx.array(taken[0].astype(np.float32))

    def loss(table):
        new = answer_logprobs(table)
        if kind == "loss":
            return (probs * leash_penalty(new, ref, mask, kl_coef=0.2)).sum()
        log_ratio = sequence_log_ratio(new, old, mask)
        return -(probs * gspo_objective(log_ratio, advantages, clip_low=0.9, clip_high=9.0)).sum()

    # kl_coef / |y| · ∇KL = 0.2 / 2 · ∇KL.
    expected = 0.1 * np.array(mx.grad(lambda t: exact_kl(t, ref))(table))
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(np.array(mx.grad(loss)(table)), expected, atol=1e-6)


# -- the reference


def due(kl_refs=(9.5,) * 7, *, n_since_reset=None, canaries_fine=True, lift_proven=True):
    return should_reset_reference(
        kl_refs,
        above=9.0,
        n_since_reset=n_since_reset,
        canaries_fine=canaries_fine,
        lift_proven=lift_proven,
    )


def test_a_reference_moves_only_to_a_policy_that_earned_its_distance():
    """Catches a leash that follows a runaway, or one bad day that is taken for a week."""
    assert due()
    assert due((1.0, *(9.5,) * 7))
    assert not due((9.5,) * 6)
    assert not due((*(9.5,) * 6, 9.0))
    assert not due((*(9.5,) * 3, 8.0, *(9.5,) * 3))
    assert not due(canaries_fine=False)
    assert not due(lift_proven=False)


def test_a_reference_rests_for_four_weeks():
    """Catches a reference that is reset every day once it was, which is no reference."""
    assert not due(n_since_reset=27)
    assert due(n_since_reset=28)
