"""What the trainer must know of a day: teacher-forced passes before and after the steps.

Only forecasts with a token are passed through; a group without any is no part of this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varro.domain import Group
from varro.policy.head import Seen, compare
from varro.policy.load import Policy
from varro.policy.logprobs import (
    behaviour_logprobs,
    pad_responses,
    response_logprobs,
    response_seen,
)
from varro.policy.memory import AnsweredGroup, largest_sizes, plan_passes
from varro.policy.mlx import mx
from varro.training.gspo import sampler_weights, sequence_k3, sequence_kl

GUARD_GROUPS = 8
"""groups, spread evenly over the day, on which the update is measured after its steps"""
_GUARD_SHARE = 4
"""the guard measures at least one in so many of the day's forecasts: with all of its groups' an
update of 8 headlines took a quarter longer"""
_MIN_GUARDED = 16
"""forecasts that it measures at least, where the day has them"""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Given:
    """One group's forecasts that have a token, as they were sampled. Shapes: (R, T), R of the
    group's G forecasts."""

    prompt_ids: tuple[int, ...]
    rows: NDArray[np.int_]
    """(R,) their places in the group"""
    tokens: mx.array
    mask: mx.array
    sampler: mx.array
    n_tokens: int


@dataclass(frozen=True)
class Measured(Given):
    """The same with what was measured before the update. Shapes: (R, T)."""

    old: mx.array
    """behaviour, recomputed or the sampler's"""
    ref: mx.array
    kl: Floats | None
    """(R,) exact Σ_t KL(behaviour‖reference), nats a sequence; None if only sampled tokens were
    looked at"""
    entropy: float | None
    """nats, summed over tokens"""


@dataclass(frozen=True)
class Guarded:
    """One of the guard's groups, or some of its forecasts, with the policies that the new one will
    be held against. Shapes: (R, T).

    Only hidden states are kept, (R · T, H) of each: no second model, and no second pass.
    """

    prompt_ids: tuple[int, ...]
    tokens: mx.array
    mask: mx.array
    old: Seen
    ref: Seen
    base: Seen
    """the reference, as long as they are the same"""
    kl_ref: Floats
    """(R,) exact Σ_t KL(behaviour‖reference)"""
    kl_base: Floats


@dataclass(frozen=True)
class Before:
    groups: list[Measured]
    guarded: list[Guarded]
    """of the guard's groups those that this process measured"""
    old_from: str
    """`recomputed` or `sampler`"""
    kl_sampler: float
    """mean |sampler − recomputed|, nats a token, on the groups that were recomputed at once"""


@dataclass(frozen=True)
class Distances:
    """The new policy on the guard's forecasts. Units: nats a sequence, means over forecasts.

    Each is an exact KL(new‖other) at each token, but the prefixes are the old policy's, and no
    importance weights make up for it: across one day's step they would add more noise than truth.
    """

    kl_update: float
    """to the behaviour policy"""
    kl_ref: float
    kl_base: float


def measure_before(
    policy: Policy,
    groups: Sequence[Group],
    *,
    from_sampler: bool,
    max_kl_sampler: float,
    n_first: int,
    temperature: float,
    on_group: Callable[[], None],
) -> Before:
    """Old and reference log-probs of a day's groups, which the processes of a cluster share.

    With `from_sampler` the first `n_first` groups (a minibatch) and those of the guard are
    recomputed, and if the sampler's log-probs are within `max_kl_sampler` of them, they are the old
    ones of all groups, those included: the ratio has one denominator. Otherwise all is recomputed.
    """
    for_guard = _spread(len(groups))
    n_rows = n_guarded(len(groups), max(len(group.forecasts) for group in groups))
    at_once = {*range(n_first), *for_guard} if from_sampler else set(range(len(groups)))
    found: dict[int, Measured] = {}
    guarded: list[Guarded] = []

    given = [_sampled_tokens(group) for group in groups]
    cluster = policy.cluster

    def collect(places: list[int], measured: list[dict[str, Any]]) -> None:
        everyone = cluster.gather(measured, on_other=on_group)
        for n, figures in zip(places, everyone, strict=True):
            found[n] = Measured(**vars(given[n]), **figures)

    def recompute(places: list[int]) -> None:
        mine = cluster.share(places)
        measured = []
        for n, (figures, anchors) in zip(
            mine, _recomputed(policy, [given[n] for n in mine], temperature), strict=True
        ):
            measured.append(figures)
            if n in for_guard:
                group = Measured(**vars(given[n]), **figures)
                guarded.append(
                    _guarded(policy, group, anchors, temperature=temperature, n_rows=n_rows)
                )
            on_group()
        collect(places, measured)

    recompute(sorted(at_once))
    kl_sampler = _mismatch([found[n] for n in sorted(at_once)])
    agrees = from_sampler and kl_sampler <= max_kl_sampler
    rest = sorted(set(range(len(groups))) - at_once)
    if agrees:
        found = {n: replace(m, old=m.sampler) for n, m in found.items()}
        refs = _from_sampler(policy, [given[n] for n in cluster.share(rest)], temperature)
        collect(rest, refs)
        for _ in refs:
            on_group()
    else:
        recompute(rest)
    return Before(
        [found[n] for n in range(len(groups))],
        guarded,
        "sampler" if agrees else "recomputed",
        kl_sampler,
    )


def measure_after(
    policy: Policy,
    guarded: Sequence[Guarded],
    *,
    temperature: float,
    on_group: Callable[[], None],
) -> Distances:
    """How far the policy is now from the behaviour policy, the reference and the frozen base, on
    all processes' `guarded` groups."""

    def work(one: Guarded) -> list[mx.array]:
        now = response_seen(policy, one.prompt_ids, one.tokens)
        others = [one.old, one.ref] + ([one.base] if one.base is not one.ref else [])
        found = compare(now, others, one.tokens.reshape(-1), temperature=temperature)
        return [kl.reshape(one.tokens.shape) for kl in found.kl]

    sums: list[list[Floats]] = []
    at_once = _at_once(policy, guarded)
    for one, kl in zip(guarded, policy.side_by_side(work, guarded, at_once=at_once), strict=True):
        sums.append([_summed(k, one.mask) for k in kl])
        on_group()
    everyone = policy.cluster.gather(sums, on_other=on_group)
    kl_update, kl_ref, *kl_base = (_mean(column) for column in zip(*everyone, strict=True))
    return Distances(kl_update, kl_ref, kl_base[0] if kl_base else kl_ref)


def distances_before(policy: Policy, guarded: Sequence[Guarded]) -> Distances:
    """The same of the behaviour policy itself."""
    everyone = policy.cluster.gather([[one.kl_ref, one.kl_base] for one in guarded])
    kl_ref, kl_base = zip(*everyone, strict=True)
    return Distances(0.0, _mean(kl_ref), _mean(kl_base))


def n_after(n_groups: int) -> int:
    """Groups that are passed through after the steps."""
    return min(n_groups, GUARD_GROUPS)


def n_guarded(n_groups: int, group_size: int) -> int:
    """Forecasts of each of those groups: as many as make a quarter of the day's, or sixteen, where
    a group has so many; 64 of groups of eight at most."""
    wanted = max(n_groups * group_size / _GUARD_SHARE, _MIN_GUARDED)
    return min(group_size, math.ceil(wanted / n_after(n_groups)))


def by_forecast(
    measured: Sequence[Measured], values: Sequence[NDArray[np.float64]], *, size: int, empty: float
) -> Floats:
    """(N, G) from each group's (R,), with `empty` for forecasts without a token."""
    out = np.full((len(measured), size), empty)
    for row, group, found in zip(out, measured, values, strict=True):
        row[group.rows] = found
    return out


def k1_by_forecast(measured: Sequence[Measured], *, size: int) -> Floats:
    """(N, G) k1 estimates of KL(behaviour‖reference), nats a sequence; 0 without a token."""
    found = [np.array(sequence_kl(m.old, m.ref, m.mask), dtype=np.float64) for m in measured]
    return by_forecast(measured, found, size=size, empty=0.0)


def weights_by_forecast(measured: Sequence[Measured], *, size: int) -> Floats:
    """(N, G) sequence weights trainer/sampler, not truncated; 1 without a token."""
    found = [np.array(sampler_weights(m.old, m.sampler, m.mask)) for m in measured]
    return by_forecast(measured, [f.astype(np.float64) for f in found], size=size, empty=1.0)


def behaviour_figures(before: Before) -> dict[str, float]:
    """Exact KL and entropy of the policy that made the forecasts, with k1 and k3 beside them."""
    exact = [m for m in before.groups if m.kl is not None and m.entropy is not None]
    everyone = before.groups
    return {
        "kl_ref": _mean([m.kl for m in exact if m.kl is not None]),
        "kl_k1": _mean([np.array(sequence_kl(m.old, m.ref, m.mask)) for m in everyone]),
        "kl_k3": _mean([np.array(sequence_k3(m.ref, m.old, m.mask)) for m in everyone]),
        "entropy": sum(m.entropy for m in exact if m.entropy is not None)
        / sum(m.n_tokens for m in exact),
        "kl_sampler": before.kl_sampler,
    }


def _sampled_tokens(group: Group) -> Given:
    rows = np.array([k for k, f in enumerate(group.forecasts) if f.token_ids], dtype=np.int_)
    forecasts = [group.forecasts[k] for k in rows]
    tokens, mask = pad_responses([f.token_ids for f in forecasts])
    sampler = np.zeros(tokens.shape, dtype=np.float32)
    for row, forecast in zip(sampler, forecasts, strict=True):
        row[: len(forecast.sampler_logprobs)] = forecast.sampler_logprobs
    n_tokens = sum(len(f.token_ids) for f in forecasts)
    return Given(group.prompt_ids, rows, tokens, mask, mx.array(sampler), n_tokens)


def _recomputed(
    policy: Policy, groups: Sequence[Given], temperature: float
) -> Iterator[tuple[dict[str, Any], tuple[Seen, Seen]]]:
    """What was measured of each group, with the policy and its reference as they were seen."""

    def work(group: Given) -> tuple[Any, ...]:
        found = behaviour_logprobs(policy, group.prompt_ids, group.tokens, temperature=temperature)
        return found.old, found.ref, found.kl, found.entropy, found.hidden

    head = policy.head()
    with policy.as_reference():
        ref_head = policy.head()
    for group, (old, ref, kl, entropy, hidden) in zip(
        groups, policy.side_by_side(work, groups, at_once=_at_once(policy, groups)), strict=True
    ):
        figures = {
            "old": old,
            "ref": ref,
            "kl": _summed(kl, group.mask),
            "entropy": float(_summed(entropy, group.mask).sum()),
        }
        yield figures, (Seen(hidden[0], head), Seen(hidden[1], ref_head))


def _at_once(policy: Policy, groups: Sequence[AnsweredGroup]) -> int:
    """Groups that the memory budget lets pass side by side."""
    if not groups:
        return 1  # this process of a cluster got none
    return plan_passes(
        policy.shape(),
        **largest_sizes(groups),
        n_streams=len(policy.streams),
        budget_bytes=policy.budget_bytes,
    )


def _guarded(
    policy: Policy,
    group: Measured,
    anchors: tuple[Seen, Seen],
    *,
    temperature: float,
    n_rows: int,
) -> Guarded:
    """The group's first `n_rows` forecasts; all were drawn alike."""
    assert group.kl is not None
    prompt_ids, kl_ref = group.prompt_ids, group.kl[:n_rows]
    width = int(np.array(group.mask[:n_rows]).sum(axis=1).max())
    tokens, mask = group.tokens[:n_rows, :width], group.mask[:n_rows, :width]

    def cut(seen: Seen) -> Seen:
        hidden = seen.hidden.reshape(*group.tokens.shape, -1)[:n_rows, :width]
        return Seen(mx.contiguous(hidden).reshape(tokens.size, -1), seen.head)

    old, ref = map(cut, anchors)
    mx.eval(old.hidden, ref.hidden)  # or the whole group's would be kept
    if policy.reference is None:
        return Guarded(prompt_ids, tokens, mask, old, ref, ref, kl_ref, kl_ref)
    with policy.tied_to_base(), policy.as_reference():
        base = response_seen(policy, prompt_ids, tokens)
    found = compare(old, [base], tokens.reshape(-1), temperature=temperature)
    kl = found.kl[0].reshape(tokens.shape)
    mx.eval(base.hidden, kl)
    return Guarded(prompt_ids, tokens, mask, old, ref, base, kl_ref, _summed(kl, mask))


def _from_sampler(
    policy: Policy, groups: Sequence[Given], temperature: float
) -> list[dict[str, Any]]:
    def work(group: Given) -> mx.array:
        return response_logprobs(policy, group.prompt_ids, group.tokens, temperature=temperature)

    with policy.as_reference():
        refs = list(policy.side_by_side(work, groups, at_once=_at_once(policy, groups)))
    return [
        {"old": group.sampler, "ref": ref, "kl": None, "entropy": None}
        for group, ref in zip(groups, refs, strict=True)
    ]


def _mismatch(measured: Sequence[Measured]) -> float:
    off = [_summed(mx.abs(m.sampler - m.old), m.mask).sum() for m in measured]
    return float(sum(off)) / sum(m.n_tokens for m in measured)


def _summed(values: mx.array, mask: mx.array) -> Floats:
    """Σ_t over sampled tokens. Shapes: (R, T) → (R,)."""
    return np.array(mx.where(mask > 0, values, 0.0).sum(axis=-1), dtype=np.float64)


def _spread(n_groups: int) -> list[int]:
    """Places of the guard's groups."""
    return sorted({round(x) for x in np.linspace(0, n_groups - 1, n_after(n_groups))})


def _mean(parts: Sequence[NDArray[np.floating]]) -> float:
    return float(np.concatenate(parts).astype(np.float64).mean())
