"""`mlx.core` and `mlx.nn`, with a fast BLAS loaded first.

Every other module imports `mx` and `nn` from here: once MLX has bound the reference BLAS there is
no way back (see `varro.policy.blas`).
"""

import ctypes
import os
import sys

from varro.policy.blas import load_fast_blas
from varro.threads import cpu_streams

load_fast_blas()
# Work on two CPU streams runs side by side only if MLX walks the graph breadth first.
os.environ.setdefault("MLX_BFS_MAX_WIDTH", "1000")

if sys.platform == "linux":
    # MLX's CPU back end asks malloc for each array. glibc gives large blocks back to the system at
    # once, and zeroing them again costs an eighth of an update: keep them.
    _libc = ctypes.CDLL(None)
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(-4, 0)  # M_MMAP_MAX
        _libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        _libc.mallopt(-2, 64 * 2**20)  # M_TOP_PAD

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402

__all__ = ["device_name", "make_streams", "mx", "nn"]


def device_name() -> str:
    """`metal`, `cuda` or `cpu`: what the default device is."""
    if mx.default_device() == mx.Device(mx.cpu):
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def make_streams() -> tuple[mx.Stream, ...]:
    """The streams that work is dealt out to: the default one and, on a CPU, more beside it."""
    default = mx.default_stream(mx.default_device())
    if device_name() != "cpu":
        return (default,)
    return (default, *(mx.new_stream(mx.cpu) for _ in range(cpu_streams() - 1)))
