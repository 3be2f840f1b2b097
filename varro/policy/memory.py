"""Memory planned before it is used: rows decoded together, groups measured side by side, forecasts
trained side by side, and whether layers are computed twice instead of kept.

The figures are upper estimates of MLX's peak, from the model's shape; `tests/test_memory.py` holds
them to what MLX then reports. With room to spare MLX runs ahead of what is computed and takes more;
at its limit it waits, and may pass it by a few operations' results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol, TypedDict

from varro.errors import PolicyError
from varro.policy.attention import ROOM_STEP
from varro.policy.head import MAX_KEPT_BYTES, rows_at_once
from varro.policy.mlx import device_memory_bytes, mx

_LOGITS_COPIES = 6
"""pieces of logits that live at once: logits, shifted, powers, and what comes of them"""
_READ_COPIES = 7
"""the same where policies are compared: shifted and powers of the one, logits, shifted, powers and
two products of the other; of tokens that are drawn it is less"""
_KEPT_COPIES = 2
"""of the soft-max that a training head keeps: in pieces and then whole, or whole and what the
backward pass makes of it"""
_KEPT = (9, 5, 2)
"""floats kept for the backward pass, a token and layer: × hidden, × feed-forward, × heads × tokens
seen"""
_COPIES = 7
"""of what trains, at most: itself, its gradient, AdamW's two moments, and of the parent all but the
gradient, until the update stands; a frozen base, where all trains, is one more, and so is a
reference that is not the base"""


@dataclass(frozen=True)
class ModelShape:
    """What memory depends on."""

    weights_bytes: int
    trainable_bytes: int
    value_bytes: int
    """of one key or value"""
    n_layers: int
    hidden: int
    feed_forward: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_vocab: int
    trains_head: bool = False
    has_reference: bool = False
    """the leash is tied to an adapter, or weights, of its own"""

    @property
    def layer_weights(self) -> int:
        """Weights of one layer's matrices."""
        of_heads = 2 * (self.n_heads + self.n_kv_heads) * self.head_dim
        return self.hidden * (of_heads + 3 * self.feed_forward)

    def kv_bytes(self, n_tokens: int) -> int:
        """Keys and values of so many tokens in all layers."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * self.value_bytes * n_tokens

    def layer_bytes(self, n_tokens: int, n_seen: int) -> int:
        """What one layer keeps of so many tokens for its backward pass, in float32."""
        of_hidden, of_feed_forward, of_scores = _KEPT
        floats = (
            of_hidden * self.hidden
            + of_feed_forward * self.feed_forward
            + of_scores * self.n_heads * n_seen
        )
        return 4 * n_tokens * floats

    def prompt_bytes(self, n_tokens: int) -> int:
        """What a prompt takes in a layer that reads it: its soft-max's scores four times."""
        return 2 * self.layer_bytes(n_tokens, n_tokens)

    def logits_bytes(self, n_positions: int) -> int:
        """What the head takes to be read at so many positions, a piece at a time."""
        return _LOGITS_COPIES * 4 * min(n_positions, rows_at_once(self.n_vocab)) * self.n_vocab

    def read_logits_bytes(self, n_positions: int, n_policies: int) -> int:
        """The same where no gradient is asked for, and policies are read side by side."""
        n = min(n_positions, rows_at_once(self.n_vocab, n_policies))
        return _READ_COPIES * 4 * n * self.n_vocab

    def kept_logits_bytes(self, n_positions: int) -> int:
        """What a head that trains keeps besides for its backward pass."""
        kept = min(MAX_KEPT_BYTES, 4 * n_positions * self.n_vocab)
        return _KEPT_COPIES * kept if self.trains_head else 0

    def update_bytes(self) -> int:
        """What there is from an update's first pass to its last, whatever is passed through."""
        copies = _COPIES - 1 + self.trains_head + self.has_reference  # one is among the weights
        return self.weights_bytes + copies * self.trainable_bytes

    def gradient_bytes(self) -> int:
        """Gradients that a micro-batch holds at once: of a layer, and of a head that trains."""
        of_head = 4 * self.n_vocab * self.hidden if self.trains_head else 0
        return self.trainable_bytes // self.n_layers + of_head


@dataclass(frozen=True)
class UpdatePlan:
    n_rows: int
    """forecasts of a micro-batch: a stream's share of a group, or half of it"""
    n_side_by_side: int
    """micro-batches at once"""
    recompute: bool
    """layers are computed again in the backward pass (gradient checkpointing)"""
    peak_bytes: int


class AnsweredGroup(Protocol):
    """A prompt's ids and its answers' tokens."""

    @property
    def prompt_ids(self) -> Sequence[int]: ...

    @property
    def tokens(self) -> mx.array:
        """(R, T)"""


class GroupSizes(TypedDict):
    """What the plans of an update and its passes ask of a day's groups."""

    prompt_tokens: int
    answer_tokens: int
    group_size: int


def largest_sizes(groups: Sequence[AnsweredGroup]) -> GroupSizes:
    """The longest prompt, the longest answer and the largest group, each of whichever has it."""
    return {
        "prompt_tokens": max(len(group.prompt_ids) for group in groups),
        "answer_tokens": max(group.tokens.shape[1] for group in groups),
        "group_size": max(group.tokens.shape[0] for group in groups),
    }


def default_budget_bytes() -> int:
    """Half of the device's memory: the other half is for the embedder, the system and people.
    Processes of a cluster on one machine share it."""
    return device_memory_bytes() // 2


def plan_rows(
    shape: ModelShape,
    *,
    prompt_tokens: int,
    max_tokens: int,
    group_size: int,
    n_streams: int,
    budget_bytes: int,
) -> int:
    """Rows that can be decoded together, whole groups of them.

    Raises: PolicyError if not even one group fits.
    """
    fixed = shape.weights_bytes + (1 + shape.has_reference) * shape.trainable_bytes
    of_prompt = shape.prompt_bytes(prompt_tokens)
    room = budget_bytes - fixed - of_prompt
    answer_room = -(-max_tokens // ROOM_STEP) * ROOM_STEP
    one_layer = shape.layer_bytes(group_size, prompt_tokens + answer_room)
    answers = group_size * shape.kv_bytes(answer_room)
    group = shape.kv_bytes(prompt_tokens) + answers + one_layer
    logits = group_size * shape.read_logits_bytes(1, 1)
    if room < group + logits:
        needed = budget_bytes - room + group + logits
        raise PolicyError(_too_small("sampling one group", needed, budget_bytes))
    room -= (n_streams - 1) * of_prompt  # of several prompts each stream reads one
    n_groups = max(1, room // (group + logits))
    most = n_streams * rows_at_once(shape.n_vocab)  # rows whose logits are there at a time
    if n_groups * group_size > most:
        n_groups = (room - most * shape.read_logits_bytes(1, 1)) // group
    return int(n_groups) * group_size


def plan_update(
    shape: ModelShape,
    *,
    prompt_tokens: int,
    answer_tokens: int,
    group_size: int,
    n_streams: int,
    budget_bytes: int,
) -> UpdatePlan:
    """The quickest way to train on groups of this size within the budget.

    A group is shared out among the streams, so that what is kept is that of one group however many
    there are. Where that is too much there are three ways: half as many forecasts at once, so that
    the prompt is read twice as often; layers computed again; a stream that stands still.
    Raises: PolicyError if not even half a stream's share fits with its layers recomputed.
    """
    fixed = shape.update_bytes()
    share = -(-group_size // n_streams)
    ways = product(
        dict.fromkeys((share, -(-share // 2))), dict.fromkeys((n_streams, 1)), (False, True)
    )

    def cost(way: tuple[int, int, bool]) -> float:
        """Tokens passed through the layers, forward and twice that backward, over what the streams
        are worth: two are worth one and a half."""
        n_rows, n_side_by_side, recompute = way
        answers = group_size * answer_tokens
        passed = 3 * (-(-group_size // n_rows) * prompt_tokens + answers) + recompute * answers
        return passed / (1 + n_side_by_side)

    for n_rows, n_side_by_side, recompute in sorted(ways, key=cost):
        one = _micro_batch_bytes(
            shape, prompt_tokens, answer_tokens, n_rows=n_rows, recompute=recompute
        )
        peak = fixed + n_side_by_side * (one + shape.gradient_bytes())
        if peak <= budget_bytes:
            return UpdatePlan(n_rows, n_side_by_side, recompute, peak)
    raise PolicyError(_too_small("training on one group", peak, budget_bytes))


def plan_passes(
    shape: ModelShape,
    *,
    prompt_tokens: int,
    answer_tokens: int,
    group_size: int,
    n_streams: int,
    budget_bytes: int,
) -> int:
    """Groups that are measured side by side before and after the steps, no gradient asked for; one
    at the least, which MLX lets wait at its limit."""
    one = pass_bytes(shape, prompt_tokens, answer_tokens, n_rows=group_size)
    return max(1, min(n_streams, (budget_bytes - shape.update_bytes()) // one))


def pass_bytes(shape: ModelShape, prompt_tokens: int, answer_tokens: int, *, n_rows: int) -> int:
    """What a group takes while the policy, and then its reference, passes through it, and the two
    are compared."""
    n_positions = n_rows * answer_tokens
    of_prompt = shape.prompt_bytes(prompt_tokens)
    of_answers = shape.layer_bytes(n_positions, prompt_tokens + answer_tokens)
    of_each = shape.kv_bytes(prompt_tokens) + 4 * n_positions * shape.hidden
    logits = shape.read_logits_bytes(n_positions, 2)
    return max(of_prompt, of_answers) + 2 * of_each + logits


def _micro_batch_bytes(
    shape: ModelShape, prompt_tokens: int, answer_tokens: int, *, n_rows: int, recompute: bool
) -> int:
    n_positions = n_rows * answer_tokens
    of_prompt = shape.layer_bytes(prompt_tokens, prompt_tokens)
    one_layer = of_prompt + shape.layer_bytes(n_positions, prompt_tokens + answer_tokens)
    head = shape.logits_bytes(n_positions) + shape.kept_logits_bytes(n_positions)
    if not recompute:
        return (shape.n_layers + 1) * one_layer + head  # one for its backward pass
    inputs = 2 * shape.n_layers * 4 * n_positions * shape.hidden
    return shape.n_layers * of_prompt + 2 * one_layer + inputs + head  # the prompt's are kept


def _too_small(what: str, needed: int, budget: int) -> str:
    return (
        f"{what} takes {needed / 1e9:.1f} GB and memory.budget_gb allows {budget / 1e9:.1f}; raise "
        "it, lower sampling.max_tokens or sampling.n_forecasts, or take a smaller policy"
    )
