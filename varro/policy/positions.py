"""Where the tokens of a pass stand, and how rotary embedding turns queries and keys there."""

from __future__ import annotations

from collections.abc import Callable

from varro.policy.mlx import device_name, mx

Rope = Callable[..., mx.array]
"""an mlx_lm rotary embedding: `rope(x, offset=offset)`"""


class Positions:
    """Of the tokens that a pass reads, shared by the memories of all layers.

    On a CPU MLX makes rotary embedding of some twenty operations, cosines among them, in every
    layer, for queries and keys. Here cosines and sines are made once for all layers: they are what
    `rope` makes of (1, 0), so they hold whatever scaling it has. Elsewhere it is one kernel.
    """

    def __init__(self, offset: int | mx.array) -> None:
        self.offset = offset
        """position of the pass's first token: an int, or one for each row, (B,)"""
        self._turn: tuple[mx.array, mx.array] | None = None

    def rotated(self, rope: Rope, x: mx.array) -> mx.array:
        """x as `rope`, the same in all layers, turns it. Shapes: (B, H, L, D) → the same."""
        if not _ON_CPU or getattr(rope, "traditional", False):  # which turns neighbours, not halves
            return rope(x, offset=self.offset)
        if self._turn is None:
            self._turn = _turn(rope, self.offset, x)
        cosines, sines = self._turn
        first, second = mx.split(x, 2, axis=-1)
        return mx.concatenate(
            [first * cosines - second * sines, first * sines + second * cosines], axis=-1
        )

    def move(self, n_tokens: int) -> None:
        """On to a pass that begins so many tokens later."""
        self.offset = self.offset + n_tokens
        self._turn = None

    def keep(self, kept: mx.array) -> None:
        """Go on with the rows `kept`."""
        assert isinstance(self.offset, mx.array)
        self.offset = self.offset[kept]
        self._turn = None


def _turn(rope: Rope, offset: int | mx.array, like: mx.array) -> tuple[mx.array, mx.array]:
    """Cosines and sines, (B or 1, 1, L, D / 2) each."""
    n_rows = offset.shape[0] if isinstance(offset, mx.array) else 1
    shape = (n_rows, 1, like.shape[2], like.shape[3] // 2)
    one = mx.concatenate([mx.ones(shape, like.dtype), mx.zeros(shape, like.dtype)], axis=-1)
    cosines, sines = mx.split(rope(one, offset=offset), 2, axis=-1)
    return cosines, sines


_ON_CPU = device_name() == "cpu"
