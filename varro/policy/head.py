"""The language-model head for log-probs, a bounded piece of the vocabulary table at a time.

A day's logits do not fit in memory ((256, 176, 151,936) float32 is 27 GB), and their soft-max need
not be kept either. For a frozen head the gradient of a log-prob with respect to the hidden state,

    ∂ log π(y) / ∂h = ( E[y] − Σ_v π(v) E[v] ) / T,

does not depend on what follows, so it is computed beside the log-prob and kept in place of the
soft-max: H numbers a token instead of V. A head that trains keeps its soft-max where that is small,
and computes it again where it is not.
Source of the idea to fuse head and loss: Liger kernel, arXiv:2410.10989.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from varro.policy.fastmath import exp
from varro.policy.mlx import mx

MAX_LOGITS_BYTES = 16 * 2**20
"""of one piece of logits: a small one stays in the processor's cache"""
MIN_ROWS = 128
"""positions of a piece, however large their logits: each piece costs its product a copy of the
whole weight"""
MAX_KEPT_BYTES = 128 * 2**20
"""of the soft-max of a head that trains, kept for the backward pass; a larger one is computed
again, a piece at a time"""


def rows_at_once(n_vocab: int, n_policies: int = 1) -> int:
    """Positions whose float32 logits, of each of the policies, are one piece."""
    return max(MIN_ROWS, MAX_LOGITS_BYTES // (4 * n_vocab * n_policies))


@dataclass(frozen=True)
class Head:
    """Maps hidden states to logits: `weight` (V, H)."""

    weight: mx.array
    trains: bool = False
    """whether gradients with respect to the weight are wanted"""


def scaled_logits(head: Head, hidden: mx.array, temperature: float) -> mx.array:
    """Float32 logits over the temperature. Shapes: (M, H) → (M, V)."""
    if head.weight.dtype == mx.float32:
        return (hidden * (1.0 / temperature)) @ head.weight.T  # cheaper before the product
    return (hidden @ head.weight.T).astype(mx.float32) * (1.0 / temperature)


def token_logprobs(
    head: Head, hidden: mx.array, tokens: mx.array, *, temperature: float
) -> mx.array:
    """log π(token), differentiable in hidden (and in the head's weight if it trains).

    Shapes: (M, H), (M,) → (M,) float32.  Units: nats.
    """
    if head.trains:
        return _training_head(temperature)(hidden, head.weight, tokens)[0]
    both = _frozen_head(head, temperature)(hidden, tokens)
    logprobs: mx.array = both[0]
    return logprobs


def plain_token_logprobs(
    head: Head, hidden: mx.array, tokens: mx.array, *, temperature: float
) -> mx.array:
    """As `token_logprobs`, at half its cost and without a gradient."""
    parts: list[mx.array] = []
    for a, b in _pieces(hidden.shape[0], head.weight.shape[0]):
        logits = scaled_logits(head, after(hidden[a:b], parts[-1:]), temperature)
        parts.append(_read(logits, tokens[a:b]).logprobs)
    return mx.concatenate(parts)


@dataclass(frozen=True)
class Seen:
    """A policy at some positions, whole: every log-prob there follows from it."""

    hidden: mx.array
    """(M, H) last hidden states"""
    head: Head


@dataclass(frozen=True)
class Compared:
    """One policy beside others at the same positions. All (M,) float32, in nats."""

    logprobs: mx.array
    """of the tokens, under the one"""
    entropy: mx.array
    """exact entropy of the one"""
    others: list[mx.array]
    """log-probs of the tokens, under each other"""
    kl: list[mx.array]
    """exact KL(one‖other), summed over the vocabulary"""


def compare(one: Seen, others: Sequence[Seen], tokens: mx.array, *, temperature: float) -> Compared:
    """Log-probs, entropy and exact KL of policies at M positions.

    Note: no gradient.
    """
    parts: list[list[mx.array]] = []
    part: list[mx.array] = []
    for a, b in _pieces(one.hidden.shape[0], one.head.weight.shape[0], 1 + len(others)):
        mine = _read(
            scaled_logits(one.head, after(one.hidden[a:b], part), temperature), tokens[a:b]
        )
        log_total = mx.log(mine.total)
        entropy = log_total - (mine.powers * mine.shifted).sum(axis=-1) / mine.total
        part = [mine.logprobs, entropy]
        for other in others:
            logits = scaled_logits(other.head, after(other.hidden[a:b], part), temperature)
            its = _read(logits, tokens[a:b])
            gap = (mine.powers * (mine.shifted - its.shifted)).sum(axis=-1) / mine.total
            part += [its.logprobs, gap + mx.log(its.total) - log_total]
        parts.append(part)
    logprobs, entropy, *rest = (mx.concatenate(list(column)) for column in zip(*parts, strict=True))
    return Compared(logprobs, entropy, rest[0::2], rest[1::2])


@dataclass(frozen=True)
class _Reading:
    logprobs: mx.array  # (M,) of the tokens
    shifted: mx.array  # (M, V) logit − largest: figures near 0 keep their last digits
    powers: mx.array  # (M, V) e^shifted
    total: mx.array  # (M,) their sum


def _read(logits: mx.array, tokens: mx.array) -> _Reading:
    shifted = logits - mx.max(logits, axis=-1, keepdims=True)
    powers = exp(shifted)
    total = powers.sum(axis=-1)
    chosen = mx.take_along_axis(shifted, tokens[:, None], axis=-1)[:, 0]
    return _Reading(chosen - mx.log(total), shifted, powers, total)


def after(x: mx.array, done: Sequence[mx.array]) -> mx.array:
    """x, but not before what is `done` with the piece before: one piece of logits in memory at a
    time, if that is all that it was read for."""
    if not done:
        return x
    waited: mx.array = mx.depends(x, list(done))
    return waited


def _frozen_head(head: Head, temperature: float) -> Callable[..., tuple[mx.array, mx.array]]:
    weight = head.weight

    @mx.custom_function
    def logprobs_and_slopes(hidden: mx.array, tokens: mx.array) -> tuple[mx.array, mx.array]:
        logprobs: list[mx.array] = []
        slopes: list[mx.array] = []
        for a, b in _pieces(hidden.shape[0], weight.shape[0]):
            done = [logprobs[-1], slopes[-1]] if slopes else []
            logits = scaled_logits(head, after(hidden[a:b], done), temperature)
            read = _read(logits, tokens[a:b])
            expected = (read.powers.astype(weight.dtype) @ weight) / read.total[:, None]
            slope = (weight[tokens[a:b]] - expected) / temperature
            logprobs.append(read.logprobs)
            slopes.append(slope.astype(hidden.dtype))
        return mx.concatenate(logprobs), mx.concatenate(slopes)

    @logprobs_and_slopes.vjp
    def vjp(
        primals: tuple[mx.array, mx.array],
        cotangents: tuple[mx.array, mx.array],
        outputs: tuple[mx.array, mx.array],
    ) -> tuple[mx.array, mx.array]:
        slope = outputs[1]
        return cotangents[0][:, None].astype(slope.dtype) * slope, mx.zeros_like(primals[1])

    return cast(Callable[..., tuple[mx.array, mx.array]], logprobs_and_slopes)


def _training_head(temperature: float) -> Callable[..., tuple[mx.array, ...]]:
    @mx.custom_function
    def logprobs_and_powers(
        hidden: mx.array, weight: mx.array, tokens: mx.array
    ) -> tuple[mx.array, ...]:
        if not _keeps_powers(hidden, weight):
            head = Head(weight)
            return (plain_token_logprobs(head, hidden, tokens, temperature=temperature),)
        reads: list[_Reading] = []
        done: list[mx.array] = []
        for a, b in _pieces(hidden.shape[0], weight.shape[0]):
            logits = scaled_logits(Head(weight), after(hidden[a:b], done), temperature)
            reads.append(_read(logits, tokens[a:b]))
            done = [reads[-1].logprobs, reads[-1].powers, reads[-1].total]
        columns = zip(*((r.logprobs, r.powers, r.total) for r in reads), strict=True)
        return tuple(mx.concatenate(list(column)) for column in columns)

    @logprobs_and_powers.vjp
    def vjp(
        primals: tuple[mx.array, mx.array, mx.array],
        cotangents: tuple[mx.array, ...],
        outputs: tuple[mx.array, ...],
    ) -> tuple[mx.array, mx.array, mx.array]:
        hidden, weight, tokens = primals
        scale = (cotangents[0].astype(mx.float32) / temperature)[:, None]  # (M, 1)

        def taken(a: int, b: int, powers: mx.array, total: mx.array) -> mx.array:
            """What all tokens take from a position's gradient. Shapes: (m, V), (m,) → (m, V)."""
            return powers * (-scale[a:b] / total[:, None])

        if len(outputs) > 1:
            whole = taken(0, hidden.shape[0], *outputs[1:])
            for_hidden, for_weight = whole @ weight, whole.T @ hidden
        else:
            parts: list[mx.array] = []
            for_weight = mx.zeros_like(weight)
            for a, b in _pieces(hidden.shape[0], weight.shape[0]):
                piece = after(hidden[a:b], [for_weight])
                read = _read(scaled_logits(Head(weight), piece, temperature), tokens[a:b])
                part = taken(a, b, read.powers, read.total)
                parts.append(part @ weight)
                for_weight = for_weight + part.T @ hidden[a:b]
            for_hidden = mx.concatenate(parts)
        # And what the chosen tokens get, into the same array.
        for_weight = for_weight.at[tokens].add((scale * hidden).astype(weight.dtype))
        return for_hidden + scale * weight[tokens], for_weight, mx.zeros_like(tokens)

    return cast(Callable[..., tuple[mx.array, ...]], logprobs_and_powers)


def _keeps_powers(hidden: mx.array, weight: mx.array) -> bool:
    return 4 * hidden.shape[0] * weight.shape[0] <= MAX_KEPT_BYTES


def _pieces(n_rows: int, n_vocab: int, n_policies: int = 1) -> list[tuple[int, int]]:
    size = rows_at_once(n_vocab, n_policies)
    return [(a, min(a + size, n_rows)) for a in range(0, n_rows, size)]
