"""Group Sequence Policy Optimization, the maths.

    s_i = exp( (1/|y_i|) Σ_t [new_t − old_t] )
    L   = −(1/B) Σ_i w_i min( s_i A_i, clip(s_i, 1 − ε_low, 1 + ε_high) A_i )

with B the forecasts that train in the minibatch and w_i the weight for what the sampler and the
trainer disagree about. Left out of the paper's form: the per-group division by the standard
deviation (Dr. GRPO, arXiv:2503.20783: it overweights groups that hardly differ); see
`training.advantage`.
Source: arXiv:2507.18071, sections 4.1 to 4.3; w_i, arXiv:2510.18855.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from varro.policy.mlx import mx


def leashed_advantages(
    advantages: NDArray[np.float64],
    kl: NDArray[np.float64],
    *,
    kl_coef: float,
    max_advantage: float,
) -> NDArray[np.float64]:
    """A − kl_coef · (kl − group mean), clipped to ± max_advantage.

    The leash is k1 in the reward: its expected gradient is that of the reverse KL.
    Shapes: advantages, kl (N, G) → (N, G).  Units: kl in nats a sequence; A in running spreads.
    Raises: ValueError if anything is not finite.
    Source: k1 in the reward, arXiv:2512.21852.
    """
    if not (np.isfinite(advantages).all() and np.isfinite(kl).all()):
        raise ValueError("advantages and KL must be finite")
    leash = kl_coef * (kl - kl.mean(axis=1, keepdims=True))
    leashed: NDArray[np.float64] = np.clip(advantages - leash, -max_advantage, max_advantage)
    return leashed


def sequence_log_ratio(new: mx.array, old: mx.array, mask: mx.array) -> mx.array:
    """Mean log importance ratio of each forecast, (1/|y|) Σ_t (new − old).

    Shapes: all inputs (B, T) float32 → (B,).  Units: nats a token.
    Raises: ValueError if a row has no sampled token.
    Source: GSPO, arXiv:2507.18071, definition of s_i.
    """
    lengths = mask.sum(axis=-1)
    if mx.any(lengths == 0).item():
        raise ValueError("a forecast without a sampled token has no ratio")
    # where, not a product: what lies past a row's end may be infinite.
    difference = mx.where(mask > 0, new - old, 0.0)
    return difference.sum(axis=-1) / lengths


def gspo_objective(
    log_ratio: mx.array, advantages: mx.array, *, clip_low: float, clip_high: float
) -> mx.array:
    """min(s A, clip(s) A) of each forecast: to be maximised. Shapes: (B,), (B,) → (B,)."""
    ratio = mx.exp(log_ratio)
    clipped = mx.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)
    return mx.minimum(ratio * advantages, clipped * advantages)


def gspo_token_objective(
    new: mx.array,
    log_ratio: mx.array,
    advantages: mx.array,
    mask: mx.array,
    *,
    clip_low: float,
    clip_high: float,
) -> mx.array:
    """(1/|y|) Σ_t min(s_t A_t, clip(s_t) A_t) with s_t = sg[s] · π(y_t) / sg[π(y_t)].

    The value of every s_t is the sequence's s, so nothing is clipped token by token: with one
    advantage a forecast is clipped whole or not at all, and value and gradient are those of
    `gspo_objective`. What the form is for is an advantage of each token.
    Shapes: new, mask (B, T), log_ratio (B,), advantages (B, 1) or (B, T) → (B,).
    Source: GSPO-token, arXiv:2507.18071, section 4.3.
    """
    own = mx.where(mask > 0, new - mx.stop_gradient(new), 0.0)  # zeros that carry the gradient
    ratio = mx.exp(mx.stop_gradient(log_ratio)[:, None] + own)  # (B, T)
    clipped = mx.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)
    gained = mx.minimum(ratio * advantages, clipped * advantages)
    return mx.where(mask > 0, gained, 0.0).sum(axis=-1) / mask.sum(axis=-1)


def leash_penalty(new: mx.array, ref: mx.array, mask: mx.array, *, kl_coef: float) -> mx.array:
    """kl_coef · (1/|y|) · ½ (Σ_t (new − ref))²: the leash as k2 in the loss, to be minimised.

    Its gradient is kl_coef/|y| · log r · ∇ log π(y), which on samples of π has the expectation
    kl_coef/|y| · ∇KL(π‖ref). The leash in the reward has the same one: GSPO's gradient of
    −A/|y| Σ_t log π with A = −kl_coef · log r. Without the 1/|y| the switch would tighten the
    leash by the length of an answer. (What is centred on a mean over G forecasts, the leash in the
    reward like the reward itself, is short by 1/G; this is not.)
    Note: nothing is centred here, so the gradient is the same on average and far noisier.
    Shapes: (B, T) → (B,).  Source: k2 in the loss, arXiv:2512.21852.
    """
    log_r = sequence_kl(new, ref, mask)
    return 0.5 * kl_coef * log_r * log_r / mask.sum(axis=-1)


def sampler_weights(old: mx.array, sampler: mx.array, mask: mx.array) -> mx.array:
    """π_trainer(y) / π_sampler(y) of each forecast: exp Σ_t (old − sampler); 1 if they agree.

    Shapes: (B, T) → (B,).  Source: truncated importance sampling, arXiv:2510.18855.
    """
    return mx.exp(sequence_kl(old, sampler, mask))


def is_clipped(
    log_ratio: mx.array, advantages: mx.array, *, clip_low: float, clip_high: float
) -> mx.array:
    """True where the clipped branch is active, so the forecast has no gradient. Shapes: (B,)."""
    ratio = mx.exp(log_ratio)
    gained = (advantages > 0) & (ratio > 1.0 + clip_high)
    shed = (advantages < 0) & (ratio < 1.0 - clip_low)
    return gained | shed


def sequence_kl(logprobs: mx.array, other: mx.array, mask: mx.array) -> mx.array:
    """k1 estimate of KL(π‖other) for samples of π: Σ_t (logprobs − other).

    Shapes: (B, T) → (B,).  Units: nats a sequence.  Source: Ziegler et al., arXiv:1909.08593.
    """
    return mx.where(mask > 0, logprobs - other, 0.0).sum(axis=-1)


def sequence_k3(new: mx.array, old: mx.array, mask: mx.array) -> mx.array:
    """k3 estimate of KL(old‖new) for samples of old: Σ_t (r − 1 − log r), r = new/old. For logs.

    Shapes: (B, T) → (B,).  Units: nats a sequence.  Source: J. Schulman, "Approximating KL".
    """
    log_r = mx.where(mask > 0, new - old, 0.0)
    return (mx.expm1(log_r) - log_r).sum(axis=-1)
