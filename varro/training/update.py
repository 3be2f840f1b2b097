"""The update stage: groups with their advantages and the live policy in, a trained policy out.

Measure the day, choose what trains, ask the guard, take the steps, measure again, ask again. What
the guard does not let stand is undone exactly; the parent stays live.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varro.config import GuardConfig, LeashConfig, UpdateConfig
from varro.domain import Group, group_as_dict, stable_hash
from varro.errors import StalePolicyError
from varro.policy.checkpoint import TrainerState
from varro.policy.load import Policy
from varro.training.gspo import leashed_advantages
from varro.training.guard import Verdict, judge_leash, judge_update, next_norm_ema
from varro.training.leash import leash_strength, next_kl_coef
from varro.training.measure import distances_before, measure_after, n_after
from varro.training.prepare import PreparedDay, prepare_day
from varro.training.steering import bounded_lr_scale, next_clip_scale, next_lr_scale, warmed_up
from varro.training.steps import StepsDone, make_batch, run_steps

MAX_ATTEMPTS = 2
"""a step that was too long is taken again once, at half the rate"""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class UpdateResult:
    metrics: dict[str, Any]
    state: TrainerState
    refused: str | None
    """why the policy was put back to its parent, or None"""


@dataclass(frozen=True)
class _Settings:
    update: UpdateConfig
    leash: LeashConfig
    guard: GuardConfig
    temperature: float


@dataclass(frozen=True)
class _Attempt:
    lr: float
    strength: float
    """of the leash"""
    is_last: bool


def update_policy(
    policy: Policy,
    groups: Sequence[Group],
    advantages: Floats,
    state: TrainerState,
    *,
    low_variance: Bools,
    config: UpdateConfig,
    leash: LeashConfig,
    guard: GuardConfig,
    temperature: float,
    seed_parts: tuple[object, ...],
    on_group: Callable[[], None] | None = None,
) -> UpdateResult:
    """One GSPO update on settled groups, changing the policy's adapter in place.

    `advantages` (N, G) are those of the rewards, before the leash; groups that are `low_variance`
    (N,), or have none between them, are left out. In a cluster every process runs this, and ends
    with the same policy.

    An update that would end past the leash's hard end, or that moves the policy too far, is undone
    and done once more from the parent with half the learning rate (and twice the leash, if it was
    the leash's end). What the guard refuses leaves the adapter exactly as it was; of the new state
    only the leash's strength and the learning rate differ from the old, and those only if steps
    had been taken.

    Raises: StalePolicyError if a group was sampled by another version than the live policy;
    whatever stops the work halfway, with the adapter put back first.
    """
    if policy.cluster.rank == 0:  # a worker has yet to take the version over
        _refuse_stale(policy, groups)
    started = time.perf_counter()
    policy.cluster.call(
        "update",
        lambda: {
            "groups": [group_as_dict(group) for group in groups],
            "advantages": advantages,
            "low_variance": low_variance,
            "state": state.numbers(),
            "config": config.model_dump(mode="json"),
            "leash": leash.model_dump(mode="json"),
            "guard": guard.model_dump(mode="json"),
            "temperature": temperature,
            "seed_parts": seed_parts,
        },
    )
    policy.align()
    state = replace(state, optimizer=policy.cluster.mirror(state.optimizer))
    tick = on_group or (lambda: None)
    settings = _Settings(config, leash, guard, temperature)
    flat = low_variance | (np.ptp(advantages, axis=1) == 0)
    lengths = np.array([[len(f.token_ids) for f in g.forecasts] for g in groups])
    order = sorted(
        range(len(groups)),
        key=lambda n: stable_hash("minibatch", *seed_parts, groups[n].headline.id),
    )
    order = [n for n in order if lengths[n].any()]
    metrics: dict[str, Any] = {
        "n_groups": len(groups),
        "n_forecasts": int(advantages.size),
        "n_zero_variance": int((np.ptp(advantages, axis=1) == 0).sum()),
        "n_attempts": 0,
        "n_skipped_steps": 0,
        "lr_scale": state.lr_scale,
        "clip_scale": state.clip_scale,
        "kl_coef": state.kl_coef,
        "guard": [],
    }
    if not order:
        verdict = Verdict("refuse", f"no group left to learn from: {len(groups)} without a token")
        metrics["guard"].append(str(verdict))
        return _refused(metrics, state, verdict)
    day = prepare_day(
        policy,
        [groups[n] for n in order],
        advantages[order],
        flat[order],
        config=config,
        guard=guard,
        entropy_first=state.entropy_first,
        temperature=temperature,
        on_group=tick,
    )
    metrics |= day.metrics
    n_silent = len(groups) - len(order)
    metrics["n_too_few"] += n_silent
    metrics["n_empty"] += n_silent * advantages.shape[1]
    metrics["guard"].append(str(day.verdict))
    if day.verdict.action == "refuse":
        return _refused(metrics, state, day.verdict)
    n_tokens = int(lengths.sum())
    result = _attempts(policy, day, state, metrics, settings, tick)
    metrics["n_tokens"] = n_tokens
    metrics["tokens_per_s"] = n_tokens / (time.perf_counter() - started)
    return result


def undo_update(
    policy: Policy,
    parent: Mapping[str, Any],
    state: TrainerState,
    result: UpdateResult,
    verdict: Verdict,
    *,
    config: UpdateConfig,
) -> UpdateResult:
    """Take back an update that had been accepted, for what was seen of it since.

    `parent` and `state`, the adapter and the trainer's state from before it, are live again, the
    rate halved.
    """
    policy.set_adapter(dict(parent))
    scale = bounded_lr_scale(state.lr_scale / 2) if config.steer_lr else state.lr_scale
    state = replace(state, kl_coef=result.state.kl_coef, lr_scale=scale)
    return _refused(result.metrics, state, verdict)


def n_update_ticks(n_groups: int) -> int:
    """How often `on_group` is called for a day of so many groups, for a progress bar."""
    return 2 * n_groups + n_after(n_groups)


def reset_reference(policy: Policy, state: TrainerState) -> TrainerState:
    """Tie the leash to the policy as it is. The optimiser starts anew: its moments point to where
    the old leash was pulling."""
    policy.set_reference(policy.adapter())
    return replace(state, optimizer={}, last_reset=state.n_updates)


def _refuse_stale(policy: Policy, groups: Sequence[Group]) -> None:
    for group in groups:
        if group.policy_version != policy.version:
            raise StalePolicyError(
                f"group {group.id[:12]} was made by policy v{group.policy_version} but "
                f"the live policy is v{policy.version}; see 'varro status'"
            )


def _attempts(
    policy: Policy,
    day: PreparedDay,
    state: TrainerState,
    metrics: dict[str, Any],
    settings: _Settings,
    tick: Callable[[], None],
) -> UpdateResult:
    """The update, and if the guard asks for it once more from the parent; metrics are filled in."""
    config, leash = settings.update, settings.leash
    parent = policy.adapter()  # the optimiser makes new arrays and leaves these as they are
    lr = warmed_up(config.lr * state.lr_scale, state.n_updates, n_warmup=config.n_warmup)
    strength = leash_strength(
        state.kl_coef, metrics["kl_ref"], gain=leash.gain, dead_band=leash.dead_band
    )
    first_move: float | None = None
    for n in range(1, MAX_ATTEMPTS + 1):
        metrics |= {"n_attempts": n, "lr": lr, "leash_strength": strength}
        attempt = _Attempt(lr, strength, n == MAX_ATTEMPTS)
        try:
            done, verdict = _attempt(policy, day, attempt, state, metrics, settings, tick)
        except BaseException:
            policy.set_adapter(parent)
            raise
        metrics["guard"].append(str(verdict))
        if first_move is None:
            first_move = metrics.get("kl_update")
        if verdict.action == "accept":
            break
        policy.set_adapter(parent)
        if verdict.action == "refuse":
            break
        tick = _silent
        lr /= 2
        if verdict.past_limit:
            strength *= 2
    next_coef = next_kl_coef(
        state.kl_coef,
        metrics["kl_ref"],
        past_limit=verdict.past_limit,
        n_forecasts=metrics["n_forecasts"],
        target=leash.target,
        dead_band=leash.dead_band,
        horizon=leash.horizon,
        min_kl_coef=leash.min_kl_coef,
        max_kl_coef=leash.max_kl_coef,
    )
    if verdict.action != "accept":
        scale = state.lr_scale
        if config.steer_lr and not verdict.past_limit:  # that far out only the leash leads back
            scale = bounded_lr_scale(scale / 2)
        return _refused(metrics, replace(state, kl_coef=next_coef, lr_scale=scale), verdict)
    assert first_move is not None
    metrics["refused"] = None
    accepted = replace(
        _steered(state, metrics, first_move, config), kl_coef=next_coef, optimizer=done.optimizer
    )
    return UpdateResult(metrics, accepted, None)


def _attempt(
    policy: Policy,
    day: PreparedDay,
    attempt: _Attempt,
    state: TrainerState,
    metrics: dict[str, Any],
    settings: _Settings,
    tick: Callable[[], None],
) -> tuple[StepsDone, Verdict]:
    """Leash, steps and the look back at them, whatever may then become of the policy."""
    config, leash = settings.update, settings.leash
    in_reward = leash.kind == "reward"
    unleashed, leashed = (
        leashed_advantages(day.earned, day.kl, kl_coef=c, max_advantage=config.max_advantage)
        for c in (0.0, attempt.strength if in_reward else 0.0)
    )
    verdict = judge_leash(unleashed, leashed, day.kl)
    if verdict.action == "refuse":
        return StepsDone(state.optimizer, verdict), verdict
    rows = zip(day.groups, day.trains, leashed, day.weights, strict=True)
    batches = []
    for group, trains, advantages, weights in rows:
        if trains.any():
            batches.append(make_batch(group, trains, advantages, weights))
        else:
            tick()
    done = run_steps(
        policy,
        batches,
        state.optimizer,
        config=config,
        lr=attempt.lr,
        clip_scale=state.clip_scale,
        loss_kl_coef=0.0 if in_reward else attempt.strength,
        norm_ema=state.grad_norm_ema,
        guard=settings.guard,
        temperature=settings.temperature,
        on_group=tick,
    )
    metrics["guard"] += map(str, done.skips)
    metrics |= {"n_skipped_steps": len(done.skips), **done.metrics}
    if done.verdict.action == "refuse":
        return done, done.verdict
    before = distances_before(policy, day.guarded)
    after = measure_after(policy, day.guarded, temperature=settings.temperature, on_group=tick)
    metrics |= {
        "kl_update": after.kl_update,
        "kl_ref_after": after.kl_ref,
        "kl_base_after": after.kl_base,
    }
    return done, judge_update(
        kl_update=after.kl_update,
        kl_ref=(before.kl_ref, after.kl_ref),
        kl_base=(before.kl_base, after.kl_base),
        kl_limit=leash.kl_limit,
        base_kl_limit=leash.base_kl_limit,
        may_redo=not attempt.is_last,
        limits=settings.guard,
    )


def _steered(
    state: TrainerState, metrics: dict[str, Any], first_move: float, config: UpdateConfig
) -> TrainerState:
    """The state after an accepted update, without leash and optimiser."""
    clip_scale, lr_scale = state.clip_scale, state.lr_scale
    is_warmup = state.n_updates < config.n_warmup
    if config.steer_clip:
        clip_scale = next_clip_scale(clip_scale, metrics["clip_frac"], is_warmup=is_warmup)
    if config.steer_lr:
        lr_scale = next_lr_scale(
            lr_scale,
            first_move,
            kl_low=config.kl_day_low,
            kl_high=config.kl_day_high,
            is_warmup=is_warmup,
        )
    first = state.entropy_first
    return replace(
        state,
        n_updates=state.n_updates + 1,
        clip_scale=clip_scale,
        lr_scale=lr_scale,
        grad_norm_ema=next_norm_ema(state.grad_norm_ema, metrics["grad_norm"]),
        entropy_first=metrics["entropy"] if first is None else first,
    )


def _refused(metrics: dict[str, Any], state: TrainerState, verdict: Verdict) -> UpdateResult:
    metrics["refused"] = verdict.reason
    return UpdateResult(metrics, state, verdict.reason)


def _silent() -> None:
    pass
