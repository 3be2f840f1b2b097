"""The update stage: groups with their advantages and the live policy in, a trained policy out.

One pass over the day: old and reference log-probs from a teacher-forced pass (adapter on, adapter
off), advantages, then one optimiser step per minibatch of whole groups, gradients accumulated a
group at a time so that memory does not grow with the day.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varro.config import LeashConfig, UpdateConfig
from varro.domain import Group, stable_hash
from varro.errors import StalePolicyError
from varro.policy.checkpoint import TrainerState
from varro.policy.load import Policy
from varro.policy.logprobs import pad_responses, response_logprobs
from varro.policy.mlx import mx, nn
from varro.training.gspo import (
    gspo_objective,
    is_clipped,
    leashed_advantages,
    sequence_k3,
    sequence_kl,
    sequence_log_ratio,
)
from varro.training.leash import next_kl_coef

MAX_ATTEMPTS = 3
MAX_WEIGHT = 2.0
"""truncation of sequence importance weights"""


@dataclass(frozen=True)
class UpdateResult:
    metrics: dict[str, Any]
    state: TrainerState
    refused: str | None
    """why the policy was put back to its parent, or None"""


@dataclass
class _Batch:
    """One group on the device."""

    prompt_ids: tuple[int, ...]
    tokens: mx.array  # (G, T)
    mask: mx.array  # (G, T)
    old: mx.array  # (G, T)
    ref: mx.array  # (G, T)
    sampler: mx.array  # (G, T)
    advantages: mx.array  # (G,)
    n_tokens: int


class _Refusal(Exception):
    """The update must not stand; the reason is for people."""


class _PastLimit(_Refusal):
    """The policy would be further from the reference than the leash allows."""


def update_policy(
    policy: Policy,
    groups: Sequence[Group],
    advantages: NDArray[np.float64],
    state: TrainerState,
    *,
    config: UpdateConfig,
    leash: LeashConfig,
    temperature: float,
    seed_parts: tuple[object, ...],
    on_group: Callable[[], None] | None = None,
) -> UpdateResult:
    """One GSPO update on settled groups, changing the policy's adapter in place.

    `advantages` (N, G) are those of the rewards, before the leash.

    An update that would end past the leash's hard end is undone and tried again from the parent
    with half the learning rate and twice the leash, at most MAX_ATTEMPTS times. One that stays past
    it, or meets anything that is not finite, is refused: the adapter is put back exactly, and of
    the new state only the leash's strength differs from the old.

    Raises: StalePolicyError if a group was sampled by another version than the live policy.
    """
    for group in groups:
        if group.policy_version != policy.version:
            raise StalePolicyError(
                f"group {group.id[:12]} was made by policy v{group.policy_version} but "
                f"the live policy is v{policy.version}; see 'varro status'"
            )
    started = time.perf_counter()
    tick = on_group or (lambda: None)
    parent = {name: mx.array(array) for name, array in policy.adapter().items()}
    order = sorted(
        range(len(groups)),
        key=lambda n: stable_hash("minibatch", *seed_parts, groups[n].headline.id),
    )
    earned = advantages[order]  # (N, G)
    batches = [_prepare(policy, groups[n], temperature, tick) for n in order]
    kl = np.array([np.array(sequence_kl(b.old, b.ref, b.mask)) for b in batches], dtype=np.float64)
    metrics: dict[str, Any] = {
        "n_groups": len(batches),
        "n_forecasts": int(earned.size),
        "n_zero_variance": int((np.ptp(earned, axis=1) == 0).sum()),
        "kl_ref": float(kl.mean()),
        **_behaviour_metrics(batches),
    }
    n_tokens = sum(b.n_tokens for b in batches)
    refused, past_limit = None, False
    optimizer_state: Mapping[str, mx.array] = state.optimizer
    for attempt in range(MAX_ATTEMPTS):
        lr = config.lr / 2**attempt
        kl_coef = min(state.kl_coef * 2**attempt, max(leash.max_kl_coef, state.kl_coef))
        metrics |= {"n_attempts": attempt + 1, "lr": lr, "kl_coef": kl_coef}
        try:
            leashed = leashed_advantages(
                earned, kl, kl_coef=kl_coef, max_advantage=config.max_advantage
            )
            for batch, row in zip(batches, leashed, strict=True):
                batch.advantages = mx.array(row.astype(np.float32))
            optimizer_state, steps = _train(policy, batches, state, config, lr, temperature, tick)
            metrics |= steps | _after_metrics(policy, batches, temperature, tick)
            # A policy that is out there already may take any step that leads back.
            if metrics["kl_ref_after"] > max(leash.kl_limit, metrics["kl_ref"]):
                raise _PastLimit(
                    f"KL to the reference would be {metrics['kl_ref_after']:.2f} nats a sequence, "
                    f"past the limit of {leash.kl_limit:g}"
                )
        except (_Refusal, ValueError) as reason:
            refused, past_limit = str(reason), isinstance(reason, _PastLimit)
            policy.set_adapter(parent)
            optimizer_state = state.optimizer
            if past_limit:
                continue
        else:
            refused, past_limit = None, False
        break
    metrics["refused"] = refused
    metrics["n_tokens"] = n_tokens
    metrics["tokens_per_s"] = n_tokens / (time.perf_counter() - started)
    next_coef = next_kl_coef(
        kl_coef,
        metrics["kl_ref"],
        past_limit=past_limit,
        n_forecasts=metrics["n_forecasts"],
        target=leash.target,
        dead_band=leash.dead_band,
        horizon=leash.horizon,
        min_kl_coef=leash.min_kl_coef,
        max_kl_coef=leash.max_kl_coef,
    )
    return UpdateResult(
        metrics=metrics,
        state=TrainerState(
            kl_coef=next_coef,
            n_updates=state.n_updates + (refused is None),
            optimizer=optimizer_state,
        ),
        refused=refused,
    )


def n_update_ticks(n_groups: int) -> int:
    """How often `on_group` is called for a day of so many groups, for a progress bar."""
    return 3 * n_groups


def _prepare(policy: Policy, group: Group, temperature: float, tick: Callable[[], None]) -> _Batch:
    forecasts = group.forecasts
    prompt_ids = group.prompt_ids
    tokens, mask = pad_responses([f.token_ids for f in forecasts])
    old = response_logprobs(policy, prompt_ids, tokens, temperature=temperature)
    with policy.adapter_off():
        ref = response_logprobs(policy, prompt_ids, tokens, temperature=temperature)
    sampler = np.zeros(tokens.shape, dtype=np.float32)
    for row, forecast in zip(sampler, forecasts, strict=True):
        row[: len(forecast.sampler_logprobs)] = forecast.sampler_logprobs
    mx.eval(tokens, mask, old, ref)
    tick()
    zeros = mx.zeros(len(forecasts))
    n_tokens = sum(len(f.token_ids) for f in forecasts)
    return _Batch(prompt_ids, tokens, mask, old, ref, mx.array(sampler), zeros, n_tokens)


def _behaviour_metrics(batches: Sequence[_Batch]) -> dict[str, float]:
    """Entropy and sampler mismatch of the policy that made the day's forecasts, per token."""
    n_tokens = sum(b.n_tokens for b in batches)
    surprise = sum(-float((b.old * b.mask).sum()) for b in batches)
    mismatch = sum(float((mx.abs(b.sampler - b.old) * b.mask).sum()) for b in batches)
    return {"entropy": surprise / n_tokens, "kl_sampler": mismatch / n_tokens}


def _train(
    policy: Policy,
    batches: Sequence[_Batch],
    state: TrainerState,
    config: UpdateConfig,
    lr: float,
    temperature: float,
    tick: Callable[[], None],
) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """The inner steps. Returns the optimiser's flat state and the steps' metrics."""
    import mlx.optimizers as optim
    from mlx.utils import tree_flatten, tree_map, tree_unflatten

    optimizer = optim.AdamW(
        learning_rate=lr,
        betas=[config.beta1, config.beta2],
        weight_decay=config.weight_decay,
        bias_correction=True,
    )
    optimizer.init(policy.model.trainable_parameters())
    if state.optimizer:
        optimizer.state = tree_unflatten(list(state.optimizer.items()))
        optimizer.learning_rate = lr

    def loss_of(model: Any, batch: _Batch, n_forecasts: int) -> tuple[mx.array, mx.array]:
        new = response_logprobs(
            policy, batch.prompt_ids, batch.tokens, temperature=temperature, trains=True
        )
        log_ratio = sequence_log_ratio(new, batch.old, batch.mask)
        objective = gspo_objective(
            log_ratio, batch.advantages, clip_low=config.clip_low, clip_high=config.clip_high
        )
        return -objective.sum() / n_forecasts, log_ratio

    loss_and_grad = nn.value_and_grad(policy.model, loss_of)
    losses, norms, log_ratios, clipped = [], [], [], []
    for minibatch in _minibatches(batches, config.n_minibatches):
        n_forecasts = sum(b.advantages.size for b in minibatch)
        total: Any = None
        loss = 0.0
        for batch in minibatch:
            (value, log_ratio), grads = loss_and_grad(policy.model, batch, n_forecasts)
            total = grads if total is None else tree_map(mx.add, total, grads)
            mx.eval(value, log_ratio, total)
            loss += value.item()
            log_ratios.append(np.array(log_ratio))
            clipped.append(
                np.array(
                    is_clipped(
                        log_ratio,
                        batch.advantages,
                        clip_low=config.clip_low,
                        clip_high=config.clip_high,
                    )
                )
            )
            tick()
        clipped_grads, norm = optim.clip_grad_norm(total, config.max_grad_norm)
        if not (math.isfinite(loss) and math.isfinite(norm.item())):
            raise _Refusal(f"loss {loss} or gradient norm {norm.item()} is not finite")
        optimizer.update(policy.model, clipped_grads)
        mx.eval(policy.model.trainable_parameters(), optimizer.state)
        losses.append(loss)
        norms.append(norm.item())
    if not all(mx.isfinite(a).all().item() for a in policy.adapter().values()):
        raise _Refusal("a weight is not finite after the update")
    ratios = np.exp(np.concatenate(log_ratios))
    metrics = {
        "n_steps": len(losses),
        "loss": float(np.mean(losses)),
        "grad_norm": float(np.mean(norms)),
        "max_grad_norm": float(np.max(norms)),
        "clip_frac": float(np.concatenate(clipped).mean()),
        "ratio_mean": float(ratios.mean()),
        "ratio_min": float(ratios.min()),
        "ratio_max": float(ratios.max()),
    }
    return dict(tree_flatten(optimizer.state)), metrics


def _minibatches(batches: Sequence[_Batch], n_minibatches: int) -> list[Sequence[_Batch]]:
    """Whole groups in at most `n_minibatches` runs whose sizes differ by at most one."""
    n = min(n_minibatches, len(batches))
    bounds = [round(i * len(batches) / n) for i in range(n + 1)]
    return [batches[a:b] for a, b in pairwise(bounds)]


def _after_metrics(
    policy: Policy, batches: Sequence[_Batch], temperature: float, tick: Callable[[], None]
) -> dict[str, float]:
    """How far the new policy is from the behaviour policy and the reference, on the day's samples.

    Note: the samples are the behaviour's, so `kl_ref_after` weighs them by the sequence importance
    ratio, truncated at 2 (one rare sample must not speak for all) and self-normalised.
    """
    k3: list[NDArray[Any]] = []
    kl: list[NDArray[Any]] = []
    log_weights: list[NDArray[Any]] = []
    for batch in batches:
        new = response_logprobs(policy, batch.prompt_ids, batch.tokens, temperature=temperature)
        k3.append(np.array(sequence_k3(new, batch.old, batch.mask)))
        kl.append(np.array(sequence_kl(new, batch.ref, batch.mask)))
        log_weights.append(np.array(sequence_kl(new, batch.old, batch.mask)))
        tick()
    weights = np.minimum(np.exp(np.minimum(np.concatenate(log_weights), 1.0)), MAX_WEIGHT)
    kl_ref_after = float(np.sum(weights * np.concatenate(kl)) / np.sum(weights))
    kl_update = float(np.concatenate(k3).mean())
    if not (math.isfinite(kl_ref_after) and math.isfinite(kl_update)):
        raise _Refusal("the new policy's log-probs are not finite")
    return {"kl_update": kl_update, "kl_ref_after": kl_ref_after}
