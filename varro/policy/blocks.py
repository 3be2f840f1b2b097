"""The blocks of a loaded mlx_lm Qwen model as Varro runs them.

`run_blocks_here` gives them this module's attention, over prompts that are shared, and layers
that are handed to MLX in as few operations as can be: on a CPU, where a day is small, a step takes
as long to hand over as to compute. Weights, names and everything else stay mlx_lm's.
"""

from __future__ import annotations

from typing import Any

from varro.policy.attention import LayerMemory, PromptMemory
from varro.policy.fastmath import swiglu
from varro.policy.mlx import mx
from varro.policy.positions import Positions


def run_blocks_here(model: Any) -> None:
    """Give each block of a loaded mlx_lm Qwen model this module's layers."""
    from mlx_lm.tuner.lora import LoRALinear

    lora = _derived(_LoRA, LoRALinear)
    for block in model.layers:
        block.self_attn.__class__ = _derived(_Attention, type(block.self_attn))
        block.mlp.__class__ = _derived(_SwiGLU, type(block.mlp))
        for layer in block.modules():
            if type(layer) is LoRALinear:
                layer.__class__ = lora


def _derived(first: type, original: type) -> type:
    return original if issubclass(original, first) else type(first.__name__, (first, original), {})


class _Attention:
    """`__call__` of an mlx_lm attention block over a LayerMemory."""

    def __call__(
        self: Any, x: mx.array, mask: object = None, memory: LayerMemory | None = None
    ) -> mx.array:
        memory = memory or PromptMemory(Positions(0))
        n_rows, n_tokens, width = x.shape
        x = x.reshape(-1, width)  # once, or MLX does it for each product

        def heads(projected: mx.array, n: int) -> mx.array:
            return projected.reshape(n_rows, n_tokens, n, -1)

        queries = heads(self.q_proj(x), self.n_heads)
        keys = heads(self.k_proj(x), self.n_kv_heads)
        values = heads(self.v_proj(x), self.n_kv_heads).transpose(0, 2, 1, 3)
        if "q_norm" in self:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        queries = memory.positions.rotated(self.rope, queries.transpose(0, 2, 1, 3))
        keys = memory.positions.rotated(self.rope, keys.transpose(0, 2, 1, 3))
        out = memory.attend(queries * self.scale, keys, values)
        projected: mx.array = self.o_proj(out.transpose(0, 2, 1, 3).reshape(n_rows * n_tokens, -1))
        return projected.reshape(n_rows, n_tokens, width)


class _SwiGLU:
    """`__call__` of an mlx_lm gated MLP."""

    def __call__(self: Any, x: mx.array) -> mx.array:
        flat = x.reshape(-1, x.shape[-1])
        out: mx.array = self.down_proj(swiglu(self.gate_proj(flat), self.up_proj(flat)))
        return out.reshape(x.shape)


class _LoRA:
    """`__call__` of an mlx_lm LoRA layer without dropout; with its scale at 0 it is the layer
    beneath, at that layer's cost."""

    def __call__(self: Any, x: mx.array) -> mx.array:
        out: mx.array = self.linear(x)
        if self.scale == 0:
            return out
        narrow = x @ self.lora_a
        if narrow.dtype == out.dtype:
            out = mx.addmm(out, narrow, self.lora_b, alpha=self.scale)
        else:  # a float32 adapter over bfloat16 weights
            out = out + (self.scale * (narrow @ self.lora_b)).astype(out.dtype)
        return out
