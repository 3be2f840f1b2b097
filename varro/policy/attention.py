"""Attention of forecasts that share their prompt, for sampler and trainer alike.

A prompt's keys and values exist once, however many forecasts attend to them: with a prompt as long
as the answer and eight siblings that saves most of the memory of decoding, and in training two
thirds of the work. The scores against prompt and own tokens go through one soft-max.

A pass has one memory a layer; all its memories share where its tokens stand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from varro.policy.fastmath import exp, softmax
from varro.policy.mlx import mx
from varro.policy.positions import Positions

_MASKED = -1e30
ROOM_STEP = 32
"""tokens by which the room for decoded keys grows: between, no array changes its shape, and what
`mx.compile` fuses is traced for each shape"""


class LayerMemory(Protocol):
    """Keys and values that one layer has seen; stands where mlx_lm expects a cache."""

    @property
    def positions(self) -> Positions:
        """Of the tokens that are read."""
        ...

    def make_mask(self, n: int, **_: object) -> None:
        """None: `attend` masks by itself."""

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        """Weighted values. Shapes: (B, H, L, D), (B, KV, L, D) twice → (B, H, L, D)."""
        ...


class PromptMemory:
    """One prompt while it is read."""

    def __init__(self, positions: Positions) -> None:
        self.positions = positions
        self.keys: mx.array = mx.zeros((1, 1, 0, 1))  # (1, KV, P, D)
        self.values: mx.array = self.keys

    def make_mask(self, n: int, **_: object) -> None:
        """None: `attend` masks by itself."""

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        self.keys, self.values = keys, values
        weights = softmax(_causal_scores(queries, keys))
        return (weights @ values).reshape(queries.shape)


def prompt_memories(n_layers: int) -> list[PromptMemory]:
    """For a pass that reads one prompt."""
    positions = Positions(0)
    return [PromptMemory(positions) for _ in range(n_layers)]


@dataclass(frozen=True)
class Prompts:
    """One layer's keys and values of several prompts, padded on the right to the longest."""

    keys: mx.array  # (N, KV, P, D)
    values: mx.array  # (N, KV, P, D)
    padding: mx.array | None  # (N, 1, 1, P): 0, or a large negative number past a prompt's end


@dataclass(frozen=True)
class Rows:
    """Which forecast hangs on which prompt: rows of a batch in a grid of (N prompts, S slots).

    Rows of a prompt stand together, prompts in order. Where all prompts have equally many rows the
    grid is the batch, and nothing is moved.
    """

    n_prompts: int
    n_slots: int
    grid: mx.array | None  # (N · S,) row in each slot, 0 in an empty one
    slot: mx.array | None  # (B,) slot of each row


def arrange_rows(prompt_of: Sequence[int], n_prompts: int) -> Rows:
    """The grid of rows whose prompts are `prompt_of`, ascending in [0, n_prompts)."""
    counts = np.bincount(prompt_of, minlength=n_prompts)
    n_slots = int(counts.max())
    if (counts == n_slots).all():
        return Rows(n_prompts, n_slots, None, None)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    order = np.asarray(prompt_of)
    slot = order * n_slots + (np.arange(len(order)) - starts[order])
    grid = np.zeros(n_prompts * n_slots, dtype=np.int32)
    grid[slot] = np.arange(len(order))
    return Rows(n_prompts, n_slots, mx.array(grid), mx.array(slot.astype(np.int32)))


def gather_prompts(read: Sequence[PromptMemory]) -> Prompts:
    """One layer's prompts, each read alone, side by side."""
    lengths = [memory.keys.shape[2] for memory in read]
    width = max(lengths)
    padding = None
    if min(lengths) < width:
        short = np.arange(width)[None] >= np.array(lengths)[:, None]
        padding = mx.array(np.where(short, _MASKED, 0.0)[:, None, None].astype(np.float32))

    def padded(arrays: Sequence[mx.array]) -> mx.array:
        return mx.concatenate(
            [mx.pad(a, [(0, 0), (0, 0), (0, width - a.shape[2]), (0, 0)]) for a in arrays]
        )

    return Prompts(padded([m.keys for m in read]), padded([m.values for m in read]), padding)


class AnswerMemory:
    """Answers read whole, behind the one prompt they share. Source of all training log-probs."""

    def __init__(self, prompts: Prompts, positions: Positions) -> None:
        self._prompts = prompts
        self.positions = positions

    def make_mask(self, n: int, **_: object) -> None:
        """None: `attend` masks by itself."""

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        attention = _attention_of_answers(queries.shape[0], queries.shape[2])
        folded = _folded(queries, keys.shape[1])
        out: mx.array = attention(folded, self._prompts.keys, self._prompts.values, keys, values)[0]
        return out.reshape(queries.shape)


def answer_memories(prompt: Sequence[PromptMemory]) -> list[AnswerMemory]:
    """For a pass that reads answers behind a prompt that was read. Gradients flow into both."""
    positions = Positions(prompt[0].keys.shape[2])
    return [AnswerMemory(Prompts(m.keys, m.values, None), positions) for m in prompt]


class Decoding:
    """Rows that are decoded in step: what the memories of all layers share."""

    def __init__(self, rows: Rows, offset: mx.array) -> None:
        self.rows = rows
        self.positions = Positions(offset)
        self.n_tokens = 0
        """own tokens that all layers have read"""
        self._unseen: mx.array | None = None

    def unseen(self, room: int) -> mx.array:
        """(room,): 0 for own tokens read, the newest with them, a large negative number past it."""
        if self._unseen is None:
            past = np.arange(room) > self.n_tokens
            self._unseen = mx.array(np.where(past, _MASKED, 0.0).astype(np.float32))
        return self._unseen

    def move(self) -> None:
        """On to the next token, which all layers are yet to read."""
        self.n_tokens += 1
        self.positions.move(1)
        self._unseen = None

    def keep(self, kept: mx.array, rows: Rows) -> None:
        """Go on with the rows `kept` (ascending), arranged as `rows`."""
        self.rows = rows
        self.positions.keep(kept)


class DecodeMemory:
    """Answers grown token by token behind their prompts; finished rows are taken out.

    Note: no gradient.
    """

    def __init__(self, prompts: Prompts, decoding: Decoding) -> None:
        self._prompts = prompts
        self._decoding = decoding
        self._keys: mx.array | None = None  # (B, KV, room, D)
        self._values: mx.array | None = None

    @property
    def positions(self) -> Positions:
        return self._decoding.positions

    def make_mask(self, n: int, **_: object) -> None:
        """None: a single token sees everything before it."""

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        n = self._decoding.n_tokens
        if self._keys is None or self._values is None or n == self._keys.shape[2]:
            self._keys = _grown(self._keys, keys, ROOM_STEP)
            self._values = _grown(self._values, values, ROOM_STEP)
        self._keys[:, :, n : n + 1] = keys
        self._values[:, :, n : n + 1] = values
        out = _attend_both(
            self._prompts,
            self._decoding.rows,
            _folded(queries, keys.shape[1]),
            self._keys,
            self._values,
            unseen=self._decoding.unseen(self._keys.shape[2]),
        )[0]
        return out.reshape(queries.shape)

    def keep(self, kept: mx.array, prompts: Prompts) -> None:
        """Go on with the rows `kept` (ascending) over `prompts`."""
        self._prompts = prompts
        if self._keys is not None and self._values is not None:
            self._keys, self._values = self._keys[kept], self._values[kept]


def keep_prompts(prompts: Prompts, kept: mx.array) -> Prompts:
    """Only the prompts `kept`."""
    padding = None if prompts.padding is None else prompts.padding[kept]
    return Prompts(prompts.keys[kept], prompts.values[kept], padding)


def hidden_recomputed(body: Any, embedded: mx.array, prompt: Sequence[PromptMemory]) -> mx.array:
    """Hidden states of answers, each block computed again in the backward pass instead of kept.

    The prompt's keys and values are arguments of each block, so gradients flow into them too.
    Shapes: (B, T, H) → (B, T, H).
    """
    hidden = embedded
    for block, memory in zip(body.layers, prompt, strict=True):
        own = block.trainable_parameters()

        def run(
            own: Any, x: mx.array, keys: mx.array, values: mx.array, block: Any = block
        ) -> mx.array:
            held = block.trainable_parameters()
            block.update(own)
            memory = AnswerMemory(Prompts(keys, values, None), Positions(keys.shape[2]))
            out: mx.array = block(x, None, memory)
            block.update(held)  # or the next micro-batch would wait for this one's backward pass
            return out

        hidden = _recomputed(run)(own, hidden, memory.keys, memory.values)
    out: mx.array = body.norm(hidden)
    return out


def _recomputed(run: Callable[..., mx.array]) -> Callable[..., mx.array]:
    """`run` of a tree and some arrays, computed again in its backward pass: after what follows it,
    and all its gradients before what precedes it.

    Note: `mx.checkpoint` leaves that order open. Walking breadth first, MLX takes the gradients of
    weights last, in all layers, and what they need is kept until then: nothing would be saved.
    """
    from mlx.utils import tree_flatten, tree_unflatten

    again = mx.custom_function(run)

    @again.vjp
    def vjp(primals: tuple[Any, ...], cotangent: mx.array, output: mx.array) -> tuple[Any, ...]:
        own = tree_flatten(primals[0])
        names, n = [name for name, _ in own], len(own)

        def flat(*arrays: mx.array) -> list[mx.array]:
            return [run(tree_unflatten(list(zip(names, arrays, strict=False))), *arrays[n:])]

        given = mx.depends([*(array for _, array in own), *primals[1:]], [cotangent])
        _, grads = mx.vjp(flat, given, [cotangent])
        back = mx.depends(grads[n:], grads[:n])
        return tree_unflatten(list(zip(names, grads, strict=False))), *back

    return cast(Callable[..., mx.array], again)


def _causal_scores(queries: mx.array, keys: mx.array) -> mx.array:
    """Scores of L tokens with themselves. Shapes: (B, H, L, D), (B, KV, L, D) → (B, KV, R · L, L),
    with R = H / KV."""
    folded = _folded(queries, keys.shape[1])
    scores = folded @ keys.swapaxes(-1, -2)
    future = _future(queries.shape[2], folded.shape[2])
    return scores if future is None else scores + future.astype(scores.dtype)


def _future(n_tokens: int, n_queries: int) -> mx.array | None:
    """A large negative number in each token's future, 0 elsewhere; None for a single token.
    Shapes: (R · L, L), R · L queries of L tokens."""
    if n_tokens == 1:
        return None
    one = mx.triu(mx.full((n_tokens, n_tokens), _MASKED), k=1)
    return mx.concatenate([one] * (n_queries // n_tokens))


def _folded(queries: mx.array, n_kv: int) -> mx.array:
    """Query heads of one key head in a row. Shapes: (B, H, L, D) → (B, KV, R · L, D)."""
    n_rows, n_heads, n_tokens, size = queries.shape
    return queries.reshape(n_rows, n_kv, n_heads // n_kv * n_tokens, size)


def _attend_both(
    prompts: Prompts,
    rows: Rows,
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    *,
    unseen: mx.array | None,
) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    """One soft-max over the prompt's and the rows' own scores, both of which stay where they are.

    `unseen` is added to the own scores. Shapes: queries (B, KV, R · L, D), keys and values
    (B, KV, S, D) → the same as queries, and the powers e^(score − largest) of the prompt on the
    grid, of the rows themselves, and their total.
    """
    shared = _to_grid(queries, rows) @ prompts.keys.swapaxes(-1, -2)  # (N, KV, S · R · L, P)
    shared = shared.astype(mx.float32)
    if prompts.padding is not None:
        shared = shared + prompts.padding
    own = (queries @ keys.swapaxes(-1, -2)).astype(mx.float32)  # (B, KV, R · L, S)
    if unseen is not None:
        own = own + unseen
    of_shared = _to_rows(mx.max(shared, axis=-1, keepdims=True), rows)
    largest = mx.maximum(of_shared, mx.max(own, axis=-1, keepdims=True))
    shared = exp(shared - _to_grid(largest, rows))
    own = exp(own - largest)
    total = _to_rows(shared.sum(axis=-1, keepdims=True), rows) + own.sum(axis=-1, keepdims=True)
    shared, own = shared.astype(queries.dtype), own.astype(queries.dtype)
    out = (_to_rows(shared @ prompts.values, rows) + own @ values) / total
    return out.astype(queries.dtype), shared, own, total.astype(queries.dtype)


def _attention_of_answers(n_rows: int, n_tokens: int) -> Any:
    """Attention of answers behind one prompt, with a backward pass of its own: two passes over the
    scores and no copy of them."""
    rows = Rows(1, n_rows, None, None)

    @mx.custom_function
    def attention(
        queries: mx.array,
        prompt_keys: mx.array,
        prompt_values: mx.array,
        keys: mx.array,
        values: mx.array,
    ) -> tuple[mx.array, mx.array, mx.array, mx.array]:
        prompts = Prompts(prompt_keys, prompt_values, None)
        future = _future(n_tokens, queries.shape[2])
        return _attend_both(prompts, rows, queries, keys, values, unseen=future)

    @attention.vjp
    def vjp(primals: Any, cotangents: Any, outputs: Any) -> Any:
        queries, prompt_keys, prompt_values, keys, values = primals
        out, shared, own, total = outputs
        slope = cotangents[0] / total
        centre = (slope * out).sum(axis=-1, keepdims=True)
        on_grid = _to_grid(slope, rows)
        of_shared = shared * (on_grid @ prompt_values.swapaxes(-1, -2) - _to_grid(centre, rows))
        of_own = own * (slope @ values.swapaxes(-1, -2) - centre)
        return (
            _to_rows(of_shared @ prompt_keys, rows) + of_own @ keys,
            of_shared.swapaxes(-1, -2) @ _to_grid(queries, rows),
            shared.swapaxes(-1, -2) @ on_grid,
            of_own.swapaxes(-1, -2) @ queries,
            own.swapaxes(-1, -2) @ slope,
        )

    return attention


def _to_grid(x: mx.array, rows: Rows) -> mx.array:
    """(B, KV, Q, X) → (N, KV, S · Q, X)."""
    _, n_kv, n_queries, width = x.shape
    if rows.grid is not None:
        x = x[rows.grid]
    x = x.reshape(rows.n_prompts, rows.n_slots, n_kv, n_queries, width).transpose(0, 2, 1, 3, 4)
    return x.reshape(rows.n_prompts, n_kv, rows.n_slots * n_queries, width)


def _to_rows(x: mx.array, rows: Rows) -> mx.array:
    """(N, KV, S · Q, X) → (B, KV, Q, X)."""
    _, n_kv, _, width = x.shape
    x = x.reshape(rows.n_prompts, n_kv, rows.n_slots, -1, width).transpose(0, 2, 1, 3, 4)
    x = x.reshape(rows.n_prompts * rows.n_slots, n_kv, -1, width)
    return x if rows.slot is None else x[rows.slot]


def _grown(old: mx.array | None, like: mx.array, step: int) -> mx.array:
    n_rows, n_kv, _, size = like.shape
    room = mx.zeros((n_rows, n_kv, step, size), dtype=like.dtype)
    return room if old is None else mx.concatenate([old, room], axis=2)
