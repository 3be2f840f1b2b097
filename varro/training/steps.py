"""The inner steps of an update: one optimiser step for each minibatch of whole groups, gradients
accumulated a micro-batch at a time so that memory does not grow with the day."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varro.config import GuardConfig, UpdateConfig
from varro.domain import even_runs
from varro.policy.load import Policy
from varro.policy.logprobs import response_logprobs
from varro.policy.memory import UpdatePlan, largest_sizes, plan_update
from varro.policy.mlx import mx
from varro.training.gradients import Gradients, add_up, differentiated
from varro.training.gspo import (
    gspo_objective,
    gspo_token_objective,
    is_clipped,
    leash_penalty,
    sequence_log_ratio,
)
from varro.training.guard import Verdict, judge_step
from varro.training.measure import Measured

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StepBatch:
    """The forecasts of one group that train, on the device. Shapes: (R, T) and (R,)."""

    prompt_ids: tuple[int, ...]
    tokens: mx.array
    mask: mx.array
    old: mx.array
    ref: mx.array
    advantages: mx.array
    weights: mx.array


@dataclass
class StepsDone:
    optimizer: Mapping[str, mx.array]
    """flat state, as it was if the steps were broken off"""
    verdict: Verdict
    skips: list[Verdict] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Tally:
    """What the steps came to, forecast by forecast and step by step."""

    losses: list[float] = field(default_factory=list)
    leash_losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    log_ratios: list[NDArray[Any]] = field(default_factory=list)
    clipped: list[NDArray[Any]] = field(default_factory=list)

    def metrics(self) -> dict[str, Any]:
        ratios = np.exp(np.concatenate(self.log_ratios))
        return {
            "n_steps": len(self.losses),
            "loss": _mean(self.losses),
            "leash_loss": _mean(self.leash_losses),
            "grad_norm": _mean(self.norms),
            "max_grad_norm": max(self.norms, default=0.0),
            "clip_frac": float(np.concatenate(self.clipped).mean()),
            "ratio_mean": float(ratios.mean()),
            "ratio_min": float(ratios.min()),
            "ratio_max": float(ratios.max()),
        }


def make_batch(
    group: Measured, trains: NDArray[np.bool_], advantages: Floats, weights: Floats
) -> StepBatch:
    """A group's forecasts that train, the padding of the others cut off.

    Shapes: all (G,), with at least one True in `trains`.
    """
    keep = np.flatnonzero(trains[group.rows])
    index = mx.array(keep)
    places = group.rows[keep]
    width = int(np.array(group.mask[index].sum(axis=-1)).max())

    def kept(array: mx.array) -> mx.array:
        return array[index][:, :width]

    return StepBatch(
        prompt_ids=group.prompt_ids,
        tokens=kept(group.tokens),
        mask=kept(group.mask),
        old=kept(group.old),
        ref=kept(group.ref),
        advantages=mx.array(advantages[places].astype(np.float32)),
        weights=mx.array(weights[places].astype(np.float32)),
    )


def run_steps(
    policy: Policy,
    batches: Sequence[StepBatch],
    optimizer_state: Mapping[str, mx.array],
    *,
    config: UpdateConfig,
    lr: float,
    clip_scale: float,
    loss_kl_coef: float,
    norm_ema: float | None,
    guard: GuardConfig,
    temperature: float,
    on_group: Callable[[], None],
) -> StepsDone:
    """One pass over the day's batches, changing the policy's adapter in place. The processes of a
    cluster share each minibatch, and take its step alike.

    A step whose gradient is a spike is left out; what must not go on is broken off, with the
    adapter wherever it then is: the caller has the parent. `loss_kl_coef` is the leash's strength
    in the loss; 0 if it is in the advantages.
    """
    import mlx.optimizers as optim
    from mlx.utils import tree_flatten, tree_unflatten

    optimizer = optim.AdamW(
        learning_rate=lr,
        betas=[config.beta1, config.beta2],
        weight_decay=config.weight_decay,
        bias_correction=True,
    )
    optimizer.init(policy.model.trainable_parameters())
    if optimizer_state:
        optimizer.state = tree_unflatten(list(optimizer_state.items()))
        optimizer.learning_rate = lr
    clip = {
        "clip_low": config.clip_low * clip_scale,
        "clip_high": config.clip_high * clip_scale,
    }

    plan = plan_update(
        policy.shape(),
        **largest_sizes(batches),
        n_streams=len(policy.streams),
        budget_bytes=policy.budget_bytes,
    )

    def loss_of(
        batch: StepBatch, n_forecasts: int, embedded: mx.array | None = None
    ) -> tuple[mx.array, ...]:
        new = response_logprobs(
            policy,
            batch.prompt_ids,
            batch.tokens,
            temperature=temperature,
            trains=True,
            recompute=plan.recompute,
            embedded=embedded,
        )
        log_ratio = sequence_log_ratio(new, batch.old, batch.mask)
        if config.form == "token":
            objective = gspo_token_objective(
                new, log_ratio, batch.advantages[:, None], batch.mask, **clip
            )
        else:
            objective = gspo_objective(log_ratio, batch.advantages, **clip)
        loss = -(batch.weights * objective).sum() / n_forecasts
        leash = mx.zeros(())
        if loss_kl_coef:
            penalty = leash_penalty(new, batch.ref, batch.mask, kl_coef=loss_kl_coef)
            leash = (batch.weights * penalty).sum() / n_forecasts
        return loss + leash, leash, log_ratio

    loss_and_gradients = differentiated(policy, loss_of)
    tally = _Tally()
    done = StepsDone(optimizer_state, Verdict("accept", "steps taken"))
    for minibatch in _minibatches(batches, config.n_minibatches):
        n_forecasts = sum(b.advantages.size for b in minibatch)
        total, everyone = _gradients(
            policy,
            minibatch,
            partial(loss_and_gradients, n_forecasts=n_forecasts),
            plan=plan,
            clip=clip,
            on_group=on_group,
        )
        losses, leash_losses, log_ratios, clipped = zip(*everyone, strict=True)
        loss, leash_loss = sum(losses), sum(leash_losses)
        tally.log_ratios += log_ratios
        tally.clipped += clipped
        clipped_grads, norm = optim.clip_grad_norm(total, config.max_grad_norm)
        del total  # as the clipped ones further down: else a step would hold three of each
        grad_norm = policy.cluster.from_main(norm.item())
        verdict = judge_step(
            loss,
            grad_norm,
            leash_loss,
            norm_ema=norm_ema,
            n_skipped=len(done.skips),
            limits=guard,
        )
        if verdict.action == "refuse":
            done.verdict = verdict
            return done
        if verdict.action == "skip":
            done.skips.append(verdict)
            del clipped_grads
            continue
        optimizer.update(policy.model, clipped_grads)
        del clipped_grads
        # Weight by weight: breadth first, the optimiser's intermediates of all would be held.
        for array in policy.adapter().values():
            mx.eval(array)
        mx.eval(optimizer.state)
        tally.losses.append(loss)
        tally.leash_losses.append(leash_loss)
        tally.norms.append(grad_norm)
    done.metrics = tally.metrics()
    if not tally.losses:
        done.verdict = Verdict("refuse", f"no step was taken: {done.skips[0].reason}")
        return done
    if not all(mx.isfinite(a).all().item() for a in policy.adapter().values()):
        done.verdict = Verdict("refuse", "a weight is not finite after the update")
        return done
    done.optimizer = dict(tree_flatten(optimizer.state))
    return done


def _gradients(
    policy: Policy,
    minibatch: Sequence[StepBatch],
    loss_and_gradients: Callable[[StepBatch], tuple[Any, Gradients]],
    *,
    plan: UpdatePlan,
    clip: Mapping[str, float],
    on_group: Callable[[], None],
) -> tuple[Any, list[Any]]:
    """Gradients of a minibatch, summed over groups and processes, and of each group the loss, the
    leash's part of it, log ratios (R,) and which of them are clipped (R,)."""
    from mlx.utils import tree_unflatten

    cluster = policy.cluster
    total: dict[str, mx.array] = {}
    dealt = [_parts(batch, plan.n_rows) for batch in cluster.share(minibatch)]
    results = _in_order(
        policy.built_side_by_side(
            loss_and_gradients,
            [part for parts in dealt for part in parts],
            at_once=plan.n_side_by_side,
        ),
        total,
    )
    figures = []
    for parts in dealt:
        group = []
        for part, (value, leash, log_ratio) in zip(parts, results, strict=False):
            is_past = is_clipped(log_ratio, part.advantages, **clip)
            group.append((value.item(), leash.item(), np.array(log_ratio), np.array(is_past)))
        values, leashes, log_ratios, clipped = zip(*group, strict=True)
        figures.append(
            (sum(values), sum(leashes), np.concatenate(log_ratios), np.concatenate(clipped))
        )
        on_group()
    # In one order on every process; one that got no group brings zeros.
    gradients = tree_unflatten(
        [
            (name, total.pop(name) if total else mx.zeros_like(array))
            for name, array in policy.adapter().items()
        ]
    )
    return cluster.sum_gradients(gradients), cluster.gather(figures, on_other=on_group)


def _in_order(
    built: Iterable[list[tuple[Any, Gradients]]], total: dict[str, mx.array]
) -> Iterator[Any]:
    """The figures of each micro-batch, its gradients added to `total`."""
    for run in built:
        figures, gradients = zip(*run, strict=True)
        add_up(total, gradients, along=figures)
        yield from figures


def _parts(batch: StepBatch, n_rows: int) -> list[StepBatch]:
    """The group in micro-batches of at most `n_rows` forecasts, sizes differing by at most one."""
    size = batch.advantages.size

    def part(a: int, b: int) -> StepBatch:
        arrays = {name: value[a:b] for name, value in vars(batch).items() if name != "prompt_ids"}
        return StepBatch(batch.prompt_ids, **arrays)

    return [part(a, b) for a, b in even_runs(size, -(-size // n_rows))]


def _minibatches(batches: Sequence[StepBatch], n_minibatches: int) -> list[Sequence[StepBatch]]:
    """Whole groups in at most `n_minibatches` runs whose sizes differ by at most one."""
    n = min(n_minibatches, len(batches))
    return [batches[a:b] for a, b in even_runs(len(batches), n)]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
