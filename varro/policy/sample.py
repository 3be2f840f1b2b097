"""Sampling: all groups decoded together, each prompt prefilled once and shared by its forecasts.

Randomness is one uniform per (forecast, step), drawn from the forecast's own seed and turned into
a token through the inverse CDF, so order of work changes nothing, and two policies sampled with
the same seeds make the same choices wherever they agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varro.domain import even_runs
from varro.errors import PolicyError
from varro.policy.attention import (
    DecodeMemory,
    Decoding,
    PromptMemory,
    Prompts,
    arrange_rows,
    gather_prompts,
    keep_prompts,
    prompt_memories,
)
from varro.policy.fastmath import exp
from varro.policy.head import Head, after, rows_at_once, scaled_logits
from varro.policy.load import Policy
from varro.policy.memory import plan_rows
from varro.policy.mlx import mx

_CHECK_EVERY = 16
"""decode steps between looks at which rows have finished"""
_STREAM_WORK = 50_000_000
"""products of one layer's weights with rows, a step, that are worth a stream: with fewer it waits
for operations to be handed to it, and two streams finish later than one"""
_BLOCK = 512
"""vocabulary block of the two-level CDF"""
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    temperature: float
    max_tokens: int
    stop_at_paragraph: bool
    max_rows: int
    """forecasts decoded together, if the policy's memory budget allows so many"""


@dataclass(frozen=True, slots=True)
class Sample:
    token_ids: tuple[int, ...]
    """the stop token included"""
    logprobs: NDArray[np.float32]
    """(T,) at the sampling temperature"""
    entropies: NDArray[np.float32]
    """(T,) nats, of the distribution that each token was drawn from"""
    finish_reason: str


@dataclass
class _Row:
    prompt: int
    k: int
    uniforms: NDArray[np.float32]
    token_ids: list[int]
    logprobs: list[float]
    entropies: list[float]
    finish_reason: str | None = None


def sample_groups(
    policy: Policy,
    prompts: Sequence[tuple[int, ...]],
    *,
    seeds: Sequence[Sequence[int]],
    settings: SamplingSettings,
    on_tokens: Callable[[int, int], None] | None = None,
) -> list[list[Sample]]:
    """For each prompt, one sample per seed; the processes of a cluster share the prompts.

    `on_tokens` is told how many tokens were sampled, and how many need not be: answers have ended.

    Raises: PolicyError if a prompt and its answer do not fit the model's context, or one group
    does not fit the memory budget.
    """
    for prompt in prompts:
        if len(prompt) + settings.max_tokens > policy.context_length:
            raise PolicyError(
                f"a prompt of {len(prompt)} tokens and {settings.max_tokens} more do not fit the "
                f"policy's context of {policy.context_length}; lower sampling.max_tokens"
            )
    cluster = policy.cluster
    cluster.call(
        "sample",
        lambda: {
            "prompts": prompts,
            "seeds": seeds,
            "settings": asdict(settings),
            "of_base": policy.is_base,
        },
    )
    policy.align()
    found = _sample_share(
        policy,
        cluster.share(prompts),
        seeds=cluster.share(seeds),
        settings=settings,
        on_tokens=on_tokens and (lambda *n: on_tokens(*(k * cluster.size for k in n))),
    )
    everyone = cluster.gather(
        [
            [(s.token_ids, s.logprobs, s.entropies, s.finish_reason) for s in samples]
            for samples in found
        ]
    )
    return [
        [
            Sample(tuple(ids), logprobs, entropies, reason)
            for ids, logprobs, entropies, reason in samples
        ]
        for samples in everyone
    ]


def _sample_share(
    policy: Policy,
    prompts: Sequence[tuple[int, ...]],
    *,
    seeds: Sequence[Sequence[int]],
    settings: SamplingSettings,
    on_tokens: Callable[[int, int], None] | None,
) -> list[list[Sample]]:
    found: list[list[Sample]] = [[] for _ in prompts]
    n_rows = settings.max_rows
    if prompts:
        in_budget = plan_rows(
            policy.shape(),
            prompt_tokens=max(map(len, prompts)),
            max_tokens=settings.max_tokens,
            group_size=max(map(len, seeds)),
            n_streams=len(policy.streams),
            budget_bytes=policy.budget_bytes,
        )
        n_rows = min(n_rows, in_budget)
    for start, end in _batches([len(s) for s in seeds], n_rows):
        rows = [
            _Row(p, k, _uniforms(seed, settings.max_tokens), [], [], [])
            for p in range(start, end)
            for k, seed in enumerate(seeds[p])
        ]
        _decode(policy, prompts, rows, settings, on_tokens)
        for row in rows:
            found[row.prompt].append(
                Sample(
                    tuple(row.token_ids),
                    np.asarray(row.logprobs, dtype=np.float32),
                    np.asarray(row.entropies, dtype=np.float32),
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


@dataclass(frozen=True)
class _Prefilled:
    """A prompt that was read, alone."""

    n_tokens: int
    last: mx.array
    """(1, H) last hidden state"""
    memory: list[PromptMemory]
    """one for each layer"""

    def arrays(self) -> tuple[mx.array, list[tuple[mx.array, mx.array]]]:
        return self.last, [(layer.keys, layer.values) for layer in self.memory]


@dataclass
class _Part:
    """Rows that are decoded in step on one stream, behind prompts that are theirs alone."""

    stream: mx.Stream
    live: list[_Row]
    """rows not finished, those of a prompt together, prompts in order"""
    prompts: list[int]
    """prompts of `live`, in order"""
    decoding: Decoding
    memory: list[DecodeMemory]
    """one for each layer"""
    shared: list[Prompts]
    """what each layer keeps of `prompts`"""
    hidden: mx.array
    """(B, H) last hidden state of each live row"""
    uniforms: mx.array
    """(B, max_tokens)"""
    chosen: list[mx.array] = field(default_factory=list)
    logprobs: list[mx.array] = field(default_factory=list)
    entropies: list[mx.array] = field(default_factory=list)

    def newest(self) -> tuple[mx.array, ...]:
        """What the last step made."""
        return self.hidden, self.chosen[-1], self.logprobs[-1], self.entropies[-1]


def _decode(
    policy: Policy,
    prompts: Sequence[tuple[int, ...]],
    rows: list[_Row],
    settings: SamplingSettings,
    on_tokens: Callable[[int, int], None] | None,
) -> None:
    head = policy.head()
    stop = np.zeros(head.weight.shape[0], dtype=bool)
    stop[[i for i in policy.eos_ids if i < len(stop)]] = True
    if settings.stop_at_paragraph:
        stop[[i for i in policy.paragraph_ids if i < len(stop)]] = True
    parts = _begin(policy, prompts, rows)
    step = 0
    while parts:
        n_steps = min(_CHECK_EVERY, settings.max_tokens - step)
        for _ in range(n_steps):
            for part in parts:
                with mx.stream(part.stream):
                    _step(policy, head, part, step, settings)
            # Whatever is left out would hold its logits until the next look.
            mx.async_eval([part.newest() for part in parts])  # type: ignore[no-untyped-call]
            step += 1
        n_live = sum(len(part.live) for part in parts)
        for part in parts:
            with mx.stream(part.stream):
                _finish_rows(part, stop, policy.eos_ids)
        parts = [part for part in parts if part.live] if step < settings.max_tokens else []
        if on_tokens:
            n_ended = n_live - sum(len(part.live) for part in parts)
            on_tokens(n_steps * n_live, n_ended * (settings.max_tokens - step))


def _shares(policy: Policy, rows: list[_Row]) -> list[tuple[list[_Row], mx.Stream]]:
    """The rows dealt out to as many of the policy's streams as they keep busy, groups together."""
    prompts = sorted({row.prompt for row in rows})
    n_worth = len(rows) * policy.shape().layer_weights // _STREAM_WORK
    n = max(1, min(len(policy.streams), len(prompts), n_worth))
    runs = even_runs(len(prompts), n)
    of_prompt = {p: i for i, (a, b) in enumerate(runs) for p in prompts[a:b]}
    return [
        ([row for row in rows if of_prompt[row.prompt] == i], policy.streams[i]) for i in range(n)
    ]


def _begin(policy: Policy, prompts: Sequence[tuple[int, ...]], rows: list[_Row]) -> list[_Part]:
    read = _read_prompts(policy, prompts, sorted({row.prompt for row in rows}))
    return [_begin_part(read, rows, stream) for rows, stream in _shares(policy, rows)]


def _read_prompts(
    policy: Policy, prompts: Sequence[tuple[int, ...]], places: Sequence[int]
) -> dict[int, _Prefilled]:
    """Each prompt read once, alone: what it gives does not depend on its neighbours.

    The streams are handed theirs in turn: MLX runs a few operations ahead only, and would be done
    with one stream's prompts before it was handed the next one's.
    """

    def read(place: int) -> _Prefilled:
        memory = prompt_memories(policy.n_layers)
        last = policy.hidden(mx.array([list(prompts[place])]), memory)[:, -1]
        return _Prefilled(len(prompts[place]), last, memory)

    found: list[_Prefilled] = []
    for built in policy.built_side_by_side(read, places, at_once=len(policy.streams)):
        mx.async_eval([prompt.arrays() for prompt in built])  # type: ignore[no-untyped-call]
        found += built
    return dict(zip(places, found, strict=True))


def _begin_part(read: Mapping[int, _Prefilled], rows: list[_Row], stream: mx.Stream) -> _Part:
    order = sorted({row.prompt for row in rows})
    place = {p: i for i, p in enumerate(order)}
    prompt_of = [place[row.prompt] for row in rows]
    with mx.stream(stream):
        shared = [
            gather_prompts(layer) for layer in zip(*(read[p].memory for p in order), strict=True)
        ]
        offset = mx.array([read[row.prompt].n_tokens for row in rows])
        decoding = Decoding(arrange_rows(prompt_of, len(order)), offset)
        return _Part(
            stream=stream,
            live=rows,
            prompts=order,
            decoding=decoding,
            memory=[DecodeMemory(layer, decoding) for layer in shared],
            shared=shared,
            hidden=mx.concatenate([read[p].last for p in order])[mx.array(prompt_of)],
            uniforms=mx.array(np.stack([row.uniforms for row in rows])),
        )


def _step(policy: Policy, head: Head, part: _Part, step: int, settings: SamplingSettings) -> None:
    """Draw each live row's next token and read it."""
    n_rows = rows_at_once(head.weight.shape[0])
    drawn: list[tuple[mx.array, mx.array, mx.array]] = []
    for a in range(0, part.hidden.shape[0], n_rows):
        hidden = after(part.hidden[a : a + n_rows], drawn[-1] if drawn else ())
        logits = scaled_logits(head, hidden, settings.temperature)
        drawn.append(draw_token(logits, part.uniforms[a : a + n_rows, step]))
    token, logprob, entropy = (mx.concatenate(list(x)) for x in zip(*drawn, strict=True))
    part.chosen.append(token)
    part.logprobs.append(logprob)
    part.entropies.append(entropy)
    if step + 1 < settings.max_tokens:
        part.hidden = policy.hidden(token[:, None], part.memory)[:, -1]
        part.decoding.move()


def _finish_rows(part: _Part, stop: NDArray[Any], eos_ids: frozenset[int]) -> None:
    """Record the steps since the last look, and take finished rows out."""
    tokens, logprobs, entropies = (
        np.array(mx.stack(steps, axis=1)) for steps in (part.chosen, part.logprobs, part.entropies)
    )
    _record(part.live, tokens, logprobs, entropies, stop, eos_ids)
    part.chosen, part.logprobs, part.entropies = [], [], []
    kept = [i for i, row in enumerate(part.live) if row.finish_reason is None]
    if len(kept) == len(part.live):
        return
    part.live = [part.live[i] for i in kept]
    if not kept:
        return
    left = sorted({row.prompt for row in part.live})
    if left != part.prompts:
        stay = mx.array([i for i, p in enumerate(part.prompts) if p in set(left)])
        part.shared = [keep_prompts(layer, stay) for layer in part.shared]
        part.prompts = left
    place = {p: i for i, p in enumerate(left)}
    index = mx.array(kept)
    part.decoding.keep(index, arrange_rows([place[row.prompt] for row in part.live], len(left)))
    for memory, layer in zip(part.memory, part.shared, strict=True):
        memory.keep(index, layer)
    part.hidden, part.uniforms = part.hidden[index], part.uniforms[index]


def draw_token(logits: mx.array, uniforms: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """A token per row by the inverse CDF, its log-prob, and the entropy of what it was drawn from.

    The first index whose cumulative probability reaches u × total. Two levels (blocks, then inside
    the block), because a float32 running sum over 150,000 terms loses the tail.
    Shapes: logits (B, V) over the temperature, uniforms (B,) → (B,), (B,), (B,).
    """
    n_rows, size = logits.shape
    shifted = logits - mx.max(logits, axis=-1, keepdims=True)
    powers = exp(shifted)
    weighted = (powers * shifted).sum(axis=-1)
    n_blocks = -(-size // _BLOCK)
    if n_blocks * _BLOCK > size:
        powers = mx.pad(powers, [(0, 0), (0, n_blocks * _BLOCK - size)])
    blocks = powers.reshape(n_rows, n_blocks, _BLOCK)
    block_cdf = mx.cumsum(blocks.sum(axis=-1), axis=-1)  # (B, n_blocks)
    total = block_cdf[:, -1:]
    target = uniforms[:, None] * total
    block = (block_cdf < target).sum(axis=-1, keepdims=True)  # (B, 1)
    before = mx.where(
        block > 0, mx.take_along_axis(block_cdf, mx.maximum(block - 1, 0), axis=-1), 0.0
    )
    inner = mx.take_along_axis(blocks, block[:, :, None], axis=1)[:, 0]  # (B, _BLOCK)
    cdf = mx.cumsum(inner, axis=-1)
    rest = mx.minimum(target - before, cdf[:, -1:])
    inside = (cdf < mx.maximum(rest, _TINY)).sum(axis=-1)
    token = block[:, 0] * _BLOCK + inside
    chosen = mx.take_along_axis(shifted, token[:, None], axis=-1)[:, 0]
    log_total = mx.log(total[:, 0])
    return token, chosen - log_total, log_total - weighted / total[:, 0]


def _record(
    live: list[_Row],
    tokens: NDArray[Any],
    logprobs: NDArray[Any],
    entropies: NDArray[Any],
    stop: NDArray[Any],
    eos_ids: frozenset[int],
) -> None:
    """Append each row's new tokens up to and including its stop token."""
    for i, row in enumerate(live):
        hits = np.flatnonzero(stop[tokens[i]])
        end = tokens.shape[1] if not len(hits) else int(hits[0]) + 1
        row.token_ids.extend(tokens[i, :end].tolist())
        row.logprobs.extend(logprobs[i, :end].tolist())
        row.entropies.extend(entropies[i, :end].tolist())
        if len(hits):
            row.finish_reason = "stop" if row.token_ids[-1] in eos_ids else "paragraph"
