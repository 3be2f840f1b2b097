"""The GSPO maths: worked values, gradients, and an oracle written apart from the code."""

from __future__ import annotations

import math

import numpy as np
import pytest

from varro.policy.mlx import mx
from varro.training.advantage import component_advantages, within_group_moments
from varro.training.gspo import (
    gspo_objective,
    gspo_token_objective,
    is_clipped,
    leash_penalty,
    leashed_advantages,
    sampler_weights,
    sequence_k3,
    sequence_kl,
    sequence_log_ratio,
)

CLIP = {"clip_low": 0.1, "clip_high": 0.2}


def loss(new, old, mask, advantages):
    ratio = sequence_log_ratio(new, old, mask)
    return -gspo_objective(ratio, advantages, **CLIP).mean()


def arrays(*values):
    return tuple(mx.array(v, dtype=mx.float32) for v in values)


def day_advantages(format_, semantic):
    """Advantages of a day's groups of valid forecasts, scaled by the day's own spread."""
    format_, semantic = np.array(format_), np.array(semantic)
    valid = np.ones(format_.shape, dtype=bool)
    moments = within_group_moments(format_, semantic, valid)
    return component_advantages(format_, semantic, valid, moments=moments, weights=(0.25, 0.75))


def test_ratio_is_one_where_the_policy_has_not_moved():
    """Catches a ratio against the reference instead of the behaviour policy."""
    old, mask = arrays([[-1.0, -2.0, -0.5]], [[1, 1, 1]])
    assert mx.exp(sequence_log_ratio(old, old, mask)).item() == 1.0


def test_log_ratio_is_the_mean_over_sampled_tokens():
    """Catches a sum, a mean over the padded width, or a swapped difference."""
    new, old, mask = arrays([[-1.0, -2.0, 7.0]], [[-1.5, -2.1, -9.0]], [[1, 1, 0]])
    # ((-1 + 1.5) + (-2 + 2.1)) / 2 = 0.3; the third token was never sampled.
    assert sequence_log_ratio(new, old, mask).item() == pytest.approx(0.3, abs=1e-6)


def test_a_row_without_tokens_is_refused():
    """Catches a division by zero that would become a NaN weight."""
    new, mask = arrays([[-1.0], [-1.0]], [[1], [0]])
    with pytest.raises(ValueError, match="without a sampled token"):
        sequence_log_ratio(new, new, mask)


def test_first_gradient_is_minus_advantage_over_length_and_batch():
    """Catches a wrong sign, a token mean over the batch, and a missing 1/|y|."""
    old, mask, advantages = arrays(
        [[-1.0, -2.0, -0.5, 0.0], [-0.3, -0.7, 0.0, 0.0]],
        [[1, 1, 1, 1], [1, 1, 0, 0]],
        [2.0, -1.0],
    )
    gradient = np.array(mx.grad(loss)(old, old, mask, advantages))
    # −A/(|y|·B): row 0: −2/(4·2) = −0.25; row 1: +1/(2·2) = +0.25, and nothing where masked.
    expected = [[-0.25, -0.25, -0.25, -0.25], [0.25, 0.25, 0.0, 0.0]]
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_the_stop_token_has_the_same_gradient_as_any_other():
    """Catches a mask that leaves out the last sampled token."""
    old, mask, advantages = arrays([[-1.0, -2.0, -0.1]], [[1, 1, 1]], [3.0])
    gradient = np.array(mx.grad(loss)(old, old, mask, advantages))
    assert gradient[0, -1] == pytest.approx(-1.0)  # −3/(3·1)


@pytest.mark.parametrize("filling", [0.0, 50.0, -math.inf, math.nan])
def test_what_lies_past_a_rows_end_changes_nothing(filling):
    """Catches a mask that multiplies (inf · 0 is NaN) or is inverted."""
    advantages = mx.array([1.5])
    short = mx.grad(loss)(*arrays([[-1.0, -2.0]], [[-1.1, -1.9]], [[1, 1]]), advantages)
    new, old, mask = arrays([[-1.0, -2.0, filling]], [[-1.1, -1.9, -3.0]], [[1, 1, 0]])
    padded = mx.grad(loss)(new, old, mask, advantages)
    np.testing.assert_array_equal(np.array(padded)[:, :2], np.array(short))


def test_order_of_forecasts_changes_nothing():
    """Catches a loss that ties a forecast to its neighbours."""
    rng = np.random.default_rng(0)
    new, old = rng.normal(-1, 0.3, (2, 6, 5)).astype(np.float32)
    mask = (rng.random((6, 5)) < 0.7).astype(np.float32)
    mask[:, 0] = 1
    advantages = rng.normal(size=6).astype(np.float32)
    order = rng.permutation(6)
    straight = mx.grad(loss)(*map(mx.array, (new, old, mask, advantages)))
    permuted = mx.grad(loss)(*(mx.array(x[order]) for x in (new, old, mask, advantages)))
    np.testing.assert_allclose(np.array(straight)[order], np.array(permuted), rtol=1e-5)


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "blocked"),
    [
        (+0.5, +1.0, True),  # good and already likelier by more than 1.2: no more gain
        (-0.5, -1.0, True),  # bad and already rarer by more than 0.9: no more gain
        (-0.5, +1.0, False),  # good but rarer: must be able to come back
        (+0.5, -1.0, False),  # bad but likelier: must be able to be pushed down
        (+0.15, +1.0, False),  # inside 1.2: exp(0.15) = 1.162
        (-0.15, -1.0, True),  # exp(-0.15) = 0.861, under 0.9: low and high are not the same
        (+0.15, -1.0, False),
    ],
)
def test_clip_blocks_only_gains(log_ratio, advantage, blocked):
    """Catches swapped clip sides, a max for the min, and a clip on the wrong sign."""
    ratios, advantages = arrays([log_ratio], [advantage])
    gradient = mx.grad(lambda x: gspo_objective(x, advantages, **CLIP).sum())(ratios).item()
    assert (gradient == 0.0) is blocked
    if not blocked:
        # d(s·A)/d(log s) = s·A
        assert gradient == pytest.approx(math.exp(log_ratio) * advantage, rel=1e-5)
    assert is_clipped(ratios, advantages, **CLIP).item() is blocked


def test_equal_rewards_give_no_advantage_and_no_gradient():
    """Catches a baseline that is not the group's own mean."""
    earned = day_advantages([[0.1] * 8, [0.7] * 8], [[0.2] * 8, [0.9] * 8])
    advantages = leashed_advantages(earned.total, np.zeros((2, 8)), kl_coef=0.5, max_advantage=3.0)
    assert (advantages == 0.0).all()
    old = mx.full((8, 3), -1.0)
    gradient = mx.grad(loss)(old, old, mx.ones((8, 3)), mx.array(advantages[0].astype(np.float32)))
    assert mx.abs(gradient).max().item() == 0.0


def test_the_leash_by_hand():
    """Catches a leash with the wrong sign, or one that is not centred in its group."""
    advantages = np.array([[-1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]])
    kl = np.array([[4.0, 2.0], [1.0, 1.0], [0.0, 0.0]])
    # 0.1·(kl − mean): ±0.1, 0, 0, taken off.
    expected = [[-1.1, 1.1], [-1.0, 1.0], [0.0, 0.0]]
    found = leashed_advantages(advantages, kl, kl_coef=0.1, max_advantage=3.0)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_advantages_share_one_scale_over_the_day():
    """Catches a division by each group's own deviation, which makes noise as loud as signal."""
    found = day_advantages([[0.5, 0.5]] * 2, [[0.0, 0.4], [0.0, 0.004]]).total
    assert found[0, 1] == pytest.approx(100 * found[1, 1])
    assert found[1, 1] > 0


def test_advantages_are_bounded_and_finite():
    """Catches one wild reward that takes the whole step."""
    wild = np.array([[0.0] * 31 + [100.0]])
    found = leashed_advantages(wild, np.zeros((1, 32)), kl_coef=0.0, max_advantage=3.0)
    assert found.max() == 3.0
    for advantages, kl in ((math.nan, 0.0), (0.0, math.inf)):
        with pytest.raises(ValueError, match="finite"):
            leashed_advantages(
                np.array([[advantages, 1.0]]), np.array([[kl, 0.0]]), kl_coef=0.1, max_advantage=3
            )


def test_kl_estimates_by_hand():
    """Catches a swapped KL and a k3 with the sign of its logarithm wrong."""
    new, old, mask = arrays([[-1.0, -2.0, 5.0]], [[-1.5, -1.8, 0.0]], [[1, 1, 0]])
    assert sequence_kl(new, old, mask).item() == pytest.approx(0.5 - 0.2, abs=1e-6)
    # r = e^0.5, e^-0.2: (1.64872 − 1 − 0.5) + (0.81873 − 1 + 0.2) = 0.14872 + 0.01873
    assert sequence_k3(new, old, mask).item() == pytest.approx(0.16745, abs=1e-5)
    assert sequence_k3(old, old, mask).item() == 0.0


def oracle(new, old, mask, advantages, clip_low, clip_high):
    """Loss, gradient and clip fraction, forecast by forecast and token by token."""
    n_rows = len(new)
    total, n_clipped = 0.0, 0
    gradient = np.zeros_like(new)
    for i in range(n_rows):
        sampled = [t for t in range(len(new[i])) if mask[i][t]]
        mean_difference = sum(new[i][t] - old[i][t] for t in sampled) / len(sampled)
        ratio, advantage = math.exp(mean_difference), advantages[i]
        too_high = advantage >= 0 and ratio > 1 + clip_high
        too_low = advantage < 0 and ratio < 1 - clip_low
        if too_high or too_low:
            total += advantage * (1 + clip_high if too_high else 1 - clip_low)
            n_clipped += 1
            continue
        total += advantage * ratio
        for t in sampled:
            gradient[i][t] = -advantage * ratio / (len(sampled) * n_rows)
    return -total / n_rows, gradient, n_clipped / n_rows


@pytest.mark.parametrize("seed", range(5))
def test_loss_and_gradient_agree_with_a_numpy_oracle(seed):
    """Catches any departure from the paper's formula that the worked cases above do not reach."""
    rng = np.random.default_rng(seed)
    old = rng.normal(-1.5, 0.8, (16, 24))
    new = old + rng.normal(0, 0.15, (16, 1)) + rng.normal(0, 0.05, (16, 24))
    mask = (np.arange(24)[None] < rng.integers(1, 25, (16, 1))).astype(float)
    advantages = rng.normal(size=16)
    expected_loss, expected_gradient, expected_clipped = oracle(
        new, old, mask, advantages, 0.1, 0.2
    )
    inputs = arrays(new, old, mask, advantages)
    found_loss, found_gradient = mx.value_and_grad(loss)(*inputs)
    clipped = is_clipped(sequence_log_ratio(*inputs[:3]), inputs[3], **CLIP)
    assert found_loss.item() == pytest.approx(expected_loss, abs=1e-5)
    np.testing.assert_allclose(np.array(found_gradient), expected_gradient, atol=1e-5)
    assert np.array(clipped).mean() == expected_clipped
    assert 0 < expected_clipped < 1


def token_loss(new, old, mask, advantages):
    log_ratio = sequence_log_ratio(new, old, mask)
    return -gspo_token_objective(new, log_ratio, advantages, mask, **CLIP).mean()


def test_the_token_form_has_the_value_and_gradient_of_the_sequence_form():
    """Catches a ratio that is not stopped (twice the gradient), and a clip token by token: with one
    advantage a forecast, the forms are one."""
    rng = np.random.default_rng(3)
    old = rng.normal(-1.5, 0.8, (16, 12))
    new = old + rng.normal(0, 0.15, (16, 1)) + rng.normal(0, 0.3, (16, 12))
    mask = (np.arange(12)[None] < rng.integers(1, 13, (16, 1))).astype(float)
    new[mask == 0] = np.nan  # what lies past a row's end
    inputs = arrays(new, old, mask, rng.normal(size=16))
    value, gradient = mx.value_and_grad(loss)(*inputs)
    found, found_gradient = mx.value_and_grad(token_loss)(*inputs[:3], inputs[3][:, None])
    assert found.item() == pytest.approx(value.item(), abs=1e-6)
    assert 0 < np.mean(np.array(gradient)[:, 0] == 0) < 1  # some forecasts are clipped, not all
    np.testing.assert_allclose(np.array(found_gradient), np.array(gradient), atol=1e-6)


def test_the_token_form_pays_each_token_its_own_advantage():
    """Catches advantages averaged over the tokens, which is what the form is there to avoid."""
    old, mask, advantages = arrays([[-1.0, -2.0, -0.5]], [[1, 1, 0]], [[3.0, 0.0, 9.0]])
    gradient = np.array(mx.grad(token_loss)(old, old, mask, advantages))
    # −A_t/|y|: −3/2, 0, and nothing past the end.
    np.testing.assert_allclose(gradient, [[-1.5, 0.0, 0.0]], atol=1e-6)


def test_the_sampler_weight_by_hand():
    """Catches the weight upside down: what the sampler made too often must count less."""
    old, sampler, mask = arrays([[-1.0, -2.0, 9.0]], [[-0.8, -1.9, -9.0]], [[1, 1, 0]])
    # exp(−0.2 − 0.1) = 0.7408: the sampler found it likelier than the trainer does.
    assert sampler_weights(old, sampler, mask).item() == pytest.approx(0.74082, abs=1e-5)


def test_the_leash_in_the_loss_by_hand():
    """Catches a square of each token instead of their sum, a missing half, and the sign."""
    new, ref, mask = arrays([[-1.0, -2.0, 9.0]], [[-1.6, -1.8, -9.0]], [[1, 1, 0]])
    # log r = 0.6 − 0.2 = 0.4; 0.5 · 0.5 · 0.16 / 2 tokens = 0.02; d/d new_t = 0.5 · 0.4 / 2.
    value, gradient = mx.value_and_grad(
        lambda x: leash_penalty(x, ref, mask, kl_coef=0.5).sum()
    )(new)  # fmt: skip
    assert value.item() == pytest.approx(0.02, abs=1e-6)
    np.testing.assert_allclose(np.array(gradient), [[0.1, 0.1, 0.0]], atol=1e-6)
