"""Gradients of micro-batches: built side by side, evaluated from the last layer to the first, and
added up as they come.

MLX walks a graph breadth first and takes the gradients of weights last: left to itself it keeps
what all of them need, and a whole tree of gradients for each micro-batch beside the sum. Asked for
one layer at a time it holds those of one layer, and lets go of that layer's activations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from varro.policy.load import Policy
from varro.policy.logprobs import ids_read
from varro.policy.mlx import mx, nn

TABLE = "model.embed_tokens.weight"


@dataclass
class Gradients:
    """Of one micro-batch, yet to be evaluated."""

    by_name: dict[str, mx.array]
    embedded: tuple[mx.array, mx.array] | None = None
    """where a table is both embedding and head: the token ids that were read (n,) and the gradients
    of their embeddings (n, H); that of the head is with the others"""


def differentiated(
    policy: Policy, loss_of: Callable[..., Any]
) -> Callable[..., tuple[Any, Gradients]]:
    """`loss_of` a batch (its first result is the loss) with its gradients.

    Note: a table that is both embedding and head would have a gradient of its size from each. That
    of the embedding is taken apart, for the rows that were read.
    """
    from mlx.utils import tree_flatten

    if policy.fine_tune != "full" or not policy.model.args.tie_word_embeddings:
        with_grads = nn.value_and_grad(policy.model, loss_of)

        def run(batch: Any, **kwargs: Any) -> tuple[Any, Gradients]:
            found, grads = with_grads(batch, **kwargs)
            return found, Gradients(dict(tree_flatten(grads)))

        return run

    def loss(trained: Any, embedded: mx.array, *args: Any, **kwargs: Any) -> Any:
        policy.model.update(trained)
        return loss_of(*args, **kwargs, embedded=embedded)

    with_both = mx.value_and_grad(loss, argnums=(0, 1))

    def run_tied(batch: Any, **kwargs: Any) -> tuple[Any, Gradients]:
        ids = ids_read(batch.prompt_ids, batch.tokens)
        trained = policy.model.trainable_parameters()
        found, (grads, rows) = with_both(trained, policy.embed(ids), batch, **kwargs)
        return found, Gradients(dict(tree_flatten(grads)), (ids, rows))

    return run_tied


def add_up(
    total: dict[str, mx.array], found: Sequence[Gradients], *, along: Sequence[mx.array] = ()
) -> None:
    """Evaluate gradients layer by layer, and add them to `total`, using them up. `along` is
    evaluated with the first of them."""
    also = list(along)
    tied = any(one.embedded for one in found)
    for names in _backward(list(found[0].by_name), tied=tied):
        mx.eval(also, [one.by_name[name] for one in found for name in names])
        also = []
        for name in names:
            for one in found:
                _add(total, name, one.by_name.pop(name))
    for one in found:
        if one.embedded:
            ids, rows = one.embedded
            total[TABLE] = total[TABLE].at[ids].add(rows)
            one.embedded = None
            mx.eval(total[TABLE])


def _add(total: dict[str, mx.array], name: str, gradient: mx.array) -> None:
    """One weight at a time: the sum takes no room of its own."""
    total[name] = total[name] + gradient if name in total else gradient
    del gradient
    mx.eval(total[name])


def _backward(names: Sequence[str], *, tied: bool) -> Iterator[list[str]]:
    """The names of one layer's weights, then of the one before it; the head's are the first."""
    order = list(reversed(names))
    if tied:
        order.remove(TABLE)
        order.insert(0, TABLE)
    for _, layer in groupby(order, key=lambda name: name.split(".")[:3]):
        yield list(layer)
