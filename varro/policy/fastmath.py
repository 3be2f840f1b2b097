"""exp, soft-max, SwiGLU, and weights laid out for products, quick on x86 CPUs too.

MLX's CPU back end vectorises sums and products on x86 but calls the scalar `exp`: 12 ns an element,
which after a fast BLAS is most of a decode step. Here exp is made of sums, products and shifts
only, fused by `mx.compile` where a compiler is at hand: 2 ns an element (4 to 7 without one).
Elsewhere (Apple silicon, CUDA) MLX's own are used.

    e^x = 2^n · 2^f,   n = round(x · log2 e),   f = x · log2 e − n in [−½, ½],   2^f by a polynomial
"""

from __future__ import annotations

import math
import platform
import shutil
from typing import cast

from varro.policy.blas import load_fast_blas
from varro.policy.mlx import device_name, mx

_MIN_EXPONENT = -100.0
"""2^-100 and below is 0: denormals make a matrix product tens of times slower"""
_MAX_EXPONENT = 126.0
_ROUND = 1.5 * 2.0**23
"""a float32 this large holds no fraction: adding it rounds, and leaves n in the low bits"""
_POLYNOMIAL = (1.0, 0.69314698, 0.24022242, 0.055507338, 0.0096715133, 0.0013264718)
"""minimax for 2^f with 2^0 = 1 exactly; relative error 9e-8"""
_SLOW_STRIDE_BYTES = 1024
"""rows that lie a multiple of it apart: laid out by columns, products of 32 and 64 rows took 0.81
to 0.92 of the time on most such weights, and 1.04 to 1.07 on the worst (DECISIONS)"""

_SMALL = 1 << 10
"""elements below which fusing costs more than it saves: each new shape is traced again"""


def exp(x: mx.array) -> mx.array:
    """e^x of float32 within a relative 8e-6 and an absolute 1e-30, exactly 0 below x = -69.3.

    Note: not differentiable; the functions below bring their own gradients.
    """
    if not _SCALAR_EXP or x.dtype != mx.float32:
        return mx.exp(x)
    return _fused_exp(x) if x.size > _SMALL else _exp(x)


def softmax(x: mx.array) -> mx.array:
    """Soft-max over the last axis, summed in float32."""
    if not _SCALAR_EXP or x.dtype != mx.float32:
        return mx.softmax(x, axis=-1, precise=True)
    return cast(mx.array, _softmax(x))


def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """x · gate · sigmoid(gate)."""
    if not _SCALAR_EXP or gate.dtype != mx.float32:
        return gate * mx.sigmoid(gate) * x
    return cast(mx.array, _swiglu(gate, x))


def quick_layout(weight: mx.array) -> mx.array:
    """The same weight, laid out in memory by columns where that is quicker. Shapes: (O, I) → same.

    OpenBLAS copies a weight into blocks for each x @ weight.T, and does so slowly from rows that
    lie whole kilobytes apart.
    """
    stride_bytes = weight.shape[1] * weight.itemsize
    if not _OPENBLAS or weight.dtype != mx.float32 or stride_bytes % _SLOW_STRIDE_BYTES:
        return weight
    return mx.contiguous(weight.T).T


def _exp(x: mx.array) -> mx.array:
    scaled = mx.minimum(mx.maximum(x * math.log2(math.e), _MIN_EXPONENT), _MAX_EXPONENT)
    shifted = scaled + _ROUND
    rest = scaled - (shifted - _ROUND)
    power = mx.full((), _POLYNOMIAL[-1])
    for coefficient in _POLYNOMIAL[-2::-1]:
        power = power * rest + coefficient
    exponent = mx.left_shift(shifted.view(mx.int32), 23)
    value: mx.array = (power.view(mx.int32) + exponent).view(mx.float32) - 2.0**_MIN_EXPONENT
    return value


def _swiglu_forward(gate: mx.array, x: mx.array) -> mx.array:
    return x * gate / (1.0 + _exp(-gate))


def _swiglu_backward(gate: mx.array, x: mx.array, cotangent: mx.array) -> tuple[mx.array, mx.array]:
    sigmoid = 1.0 / (1.0 + _exp(-gate))
    silu = gate * sigmoid
    return cotangent * x * (sigmoid + silu * (1.0 - sigmoid)), cotangent * silu


@mx.custom_function
def _swiglu(gate: mx.array, x: mx.array) -> mx.array:
    return _fused_swiglu(gate, x) if gate.size > _SMALL else _swiglu_forward(gate, x)


@_swiglu.vjp
def _swiglu_vjp(
    primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array
) -> tuple[mx.array, mx.array]:
    gate, x = primals
    back = _fused_swiglu_backward if gate.size > _SMALL else _swiglu_backward
    pair: tuple[mx.array, mx.array] = back(gate, x, cotangent)
    return pair


@mx.custom_function
def _softmax(x: mx.array) -> mx.array:
    # The difference outside the fused part: broadcasting inside it would be slow.
    powers = exp(x - mx.max(x, axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@_softmax.vjp
def _softmax_vjp(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return output * (cotangent - (output * cotangent).sum(axis=-1, keepdims=True))


_SCALAR_EXP = device_name() == "cpu" and platform.machine().lower() in ("x86_64", "amd64")
_OPENBLAS = _SCALAR_EXP and "openblas" in load_fast_blas().lower()
_COMPILER = shutil.which("g++") is not None
"""MLX's CPU back end fuses by writing C++ and calling g++"""
_fused_exp = mx.compile(_exp) if _COMPILER else _exp
_fused_swiglu = mx.compile(_swiglu_forward) if _COMPILER else _swiglu_forward
_fused_swiglu_backward = mx.compile(_swiglu_backward) if _COMPILER else _swiglu_backward
