"""Sampling: all groups decoded together, each prompt prefilled once and shared by its forecasts.

Randomness is one uniform per (forecast, step), drawn from the forecast's own seed and turned into
a token through the inverse CDF, so order of work changes nothing, and two policies sampled with
the same seeds make the same choices wherever they agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varro.errors import PolicyError
from varro.policy.load import Policy
from varro.policy.mlx import mx

_CHECK_EVERY = 16
"""decode steps between looks at which rows have finished"""
_BLOCK = 512
"""vocabulary block of the two-level CDF"""
_MAX_PREFILL_ROWS = 64
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    temperature: float
    max_tokens: int
    stop_at_paragraph: bool
    max_rows: int


@dataclass(frozen=True, slots=True)
class Sample:
    token_ids: tuple[int, ...]
    """the stop token included"""
    logprobs: NDArray[np.float32]
    """(T,) at the sampling temperature"""
    finish_reason: str


@dataclass
class _Row:
    prompt: int
    k: int
    uniforms: NDArray[np.float32]
    token_ids: list[int]
    logprobs: list[float]
    finish_reason: str | None = None


def sample_groups(
    policy: Policy,
    prompts: Sequence[tuple[int, ...]],
    *,
    seeds: Sequence[Sequence[int]],
    settings: SamplingSettings,
    on_tokens: Callable[[int], None] | None = None,
) -> list[list[Sample]]:
    """For each prompt, one sample per seed.

    Raises: PolicyError if a prompt and its answer do not fit the model's context.
    """
    for prompt in prompts:
        if len(prompt) + settings.max_tokens > policy.context_length:
            raise PolicyError(
                f"a prompt of {len(prompt)} tokens and {settings.max_tokens} more do not fit the "
                f"policy's context of {policy.context_length}; lower sampling.max_tokens"
            )
    found: list[list[Sample]] = [[] for _ in prompts]
    for start, end in _batches([len(s) for s in seeds], settings.max_rows):
        rows = [
            _Row(p, k, _uniforms(seed, settings.max_tokens), [], [])
            for p in range(start, end)
            for k, seed in enumerate(seeds[p])
        ]
        _decode(policy, prompts, rows, settings, on_tokens)
        for row in rows:
            found[row.prompt].append(
                Sample(
                    tuple(row.token_ids),
                    np.asarray(row.logprobs, dtype=np.float32),
                    row.finish_reason or "length",
                )
            )
    return found


def _batches(sizes: Sequence[int], max_rows: int) -> list[tuple[int, int]]:
    """Runs of whole groups with at most `max_rows` rows each (a larger group stands alone)."""
    batches = []
    start = rows = 0
    for i, size in enumerate(sizes):
        if rows and rows + size > max_rows:
            batches.append((start, i))
            start, rows = i, 0
        rows += size
    if rows:
        batches.append((start, len(sizes)))
    return batches


def _uniforms(seed: int, n: int) -> NDArray[np.float32]:
    """n uniforms in (0, 1]."""
    draws = np.random.Generator(np.random.PCG64(seed)).random(n)
    return (1.0 - draws).astype(np.float32)


def _decode(
    policy: Policy,
    prompts: Sequence[tuple[int, ...]],
    rows: list[_Row],
    settings: SamplingSettings,
    on_tokens: Callable[[int], None] | None,
) -> None:
    cache, logits = _prefill(policy, prompts, rows)
    stop = np.zeros(logits.shape[-1], dtype=bool)
    stop[[i for i in policy.eos_ids if i < len(stop)]] = True
    if settings.stop_at_paragraph:
        stop[[i for i in policy.paragraph_ids if i < len(stop)]] = True
    live = rows
    uniforms = mx.array(np.stack([row.uniforms for row in live]))  # (B, max_tokens)
    step = 0
    while live:
        n_steps = min(_CHECK_EVERY, settings.max_tokens - step)
        chosen, logprobs = [], []
        for _ in range(n_steps):
            token, logprob = _sample_token(logits, uniforms[:, step], settings)
            chosen.append(token)
            logprobs.append(logprob)
            step += 1
            if step < settings.max_tokens:
                logits = policy.logits(policy.hidden(token[:, None], cache)[:, -1])
            mx.async_eval(token, logprob, logits)  # type: ignore[no-untyped-call]
        _record(
            live,
            np.array(mx.stack(chosen, axis=1)),
            np.array(mx.stack(logprobs, axis=1)),
            stop,
            policy.eos_ids,
        )
        keep = [i for i, row in enumerate(live) if row.finish_reason is None]
        if on_tokens:
            on_tokens(n_steps * len(live))
        if step >= settings.max_tokens:
            break
        if len(keep) < len(live):
            live = [live[i] for i in keep]
            if live:
                index = mx.array(keep)
                for layer in cache:
                    layer.filter(index)
                logits, uniforms = logits[index], uniforms[index]


def _prefill(
    policy: Policy, prompts: Sequence[tuple[int, ...]], rows: list[_Row]
) -> tuple[list[Any], mx.array]:
    """K/V caches with one row per forecast, and the logits of its first token (B, V)."""
    from mlx_lm.models.cache import BatchKVCache

    order = sorted({row.prompt for row in rows})
    width = max(len(prompts[p]) for p in order)
    parts, first_logits = [], []
    for start in range(0, len(order), _MAX_PREFILL_ROWS):
        some = order[start : start + _MAX_PREFILL_ROWS]
        padding = [width - len(prompts[p]) for p in some]
        tokens = mx.array(
            [[0] * pad + list(prompts[p]) for p, pad in zip(some, padding, strict=True)]
        )
        cache = [BatchKVCache(padding) for _ in range(policy.n_layers)]
        first_logits.append(policy.logits(policy.hidden(tokens, cache)[:, -1]))
        parts.append(cache)
        mx.eval(first_logits[-1], [c.state[:2] for c in cache])
    merged = parts[0]
    for cache in parts[1:]:
        for mine, other in zip(merged, cache, strict=True):
            mine.extend(other)
    place = {p: i for i, p in enumerate(order)}
    index = mx.array([place[row.prompt] for row in rows])
    for layer in merged:
        layer.filter(index)
    return merged, mx.concatenate(first_logits)[index]


def _sample_token(
    logits: mx.array, uniforms: mx.array, settings: SamplingSettings
) -> tuple[mx.array, mx.array]:
    """A token per row and its log-prob. Shapes: (B, V), (B,) → (B,), (B,)."""
    scaled = logits / settings.temperature
    log_total = mx.logsumexp(scaled, axis=-1)  # (B,)
    token = _inverse_cdf(mx.exp(scaled - log_total[:, None]), uniforms)
    chosen = mx.take_along_axis(scaled, token[:, None], axis=-1)[:, 0]
    return token, chosen - log_total


def _inverse_cdf(probs: mx.array, uniforms: mx.array) -> mx.array:
    """First index whose cumulative probability reaches u × total.

    Two levels (blocks, then inside the block), because a float32 running sum over 150,000 terms
    loses the tail. Shapes: (B, V), (B,) → (B,).
    """
    n_rows, size = probs.shape
    n_blocks = -(-size // _BLOCK)
    blocks = mx.pad(probs, [(0, 0), (0, n_blocks * _BLOCK - size)]).reshape(
        n_rows, n_blocks, _BLOCK
    )
    block_cdf = mx.cumsum(blocks.sum(axis=-1), axis=-1)  # (B, n_blocks)
    target = uniforms[:, None] * block_cdf[:, -1:]
    block = (block_cdf < target).sum(axis=-1, keepdims=True)  # (B, 1)
    before = mx.where(
        block > 0, mx.take_along_axis(block_cdf, mx.maximum(block - 1, 0), axis=-1), 0.0
    )
    inner = mx.take_along_axis(blocks, block[:, :, None], axis=1)[:, 0]  # (B, _BLOCK)
    cdf = mx.cumsum(inner, axis=-1)
    rest = mx.minimum(target - before, cdf[:, -1:])
    inside = (cdf < mx.maximum(rest, _TINY)).sum(axis=-1)
    return block[:, 0] * _BLOCK + inside


def _record(
    live: list[_Row],
    tokens: NDArray[Any],
    logprobs: NDArray[Any],
    stop: NDArray[Any],
    eos_ids: frozenset[int],
) -> None:
    """Append each row's new tokens up to and including its stop token."""
    for i, row in enumerate(live):
        hits = np.flatnonzero(stop[tokens[i]])
        end = tokens.shape[1] if not len(hits) else int(hits[0]) + 1
        row.token_ids.extend(tokens[i, :end].tolist())
        row.logprobs.extend(logprobs[i, :end].tolist())
        if len(hits):
            row.finish_reason = "stop" if row.token_ids[-1] in eos_ids else "paragraph"
