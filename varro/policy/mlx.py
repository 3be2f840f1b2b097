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
# On CUDA, MLX rounds what goes into a float32 product to ten bits unless told not to: a sampler's
# log-probs were 4e-4 of a nat off a plain pass, and a row's tokens hung on its neighbours.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

_CACHE_SHARE = 4
_libc = ctypes.CDLL(None)

if sys.platform == "linux":
    # MLX's CPU back end asks malloc for each array. glibc gives large blocks back to the system at
    # once, and zeroing them again costs an eighth of an update: keep them until a stage has ended.
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(-4, 0)  # M_MMAP_MAX
        _libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        _libc.mallopt(-2, 64 * 2**20)  # M_TOP_PAD

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402

if mx.default_device() == mx.Device(mx.cpu):
    # Work on two CPU streams runs side by side only if MLX walks the graph breadth first. It asks
    # at its first evaluation.
    os.environ.setdefault("MLX_BFS_MAX_WIDTH", "1000")

__all__ = [
    "device_memory_bytes",
    "device_name",
    "limit_memory",
    "make_streams",
    "mx",
    "nn",
    "read_memory",
    "release_memory",
    "reset_peak",
]


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


def device_memory_bytes() -> int:
    """Memory of the device that work is done on: the machine's, or a CUDA card's own."""
    if device_name() == "cuda":
        return int(mx.device_info()["total_memory"])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def limit_memory(budget_bytes: int) -> None:
    """Tell MLX the budget: above it work waits for what is under way, and buffers kept for later go
    first. Of those a quarter of the budget is kept at most.

    Note: its own limits are nearly all memory there is; only the cache's on a CPU is 32 MiB, and
    stays, for there malloc keeps what is freed. Nothing is ever wired: a Mac's other work goes on.
    """
    mx.set_memory_limit(budget_bytes)
    if device_name() != "cpu":
        mx.set_cache_limit(budget_bytes // _CACHE_SHARE)


def release_memory() -> None:
    """Give what is free back to the system: MLX's cache, and what glibc's malloc holds on to."""
    mx.clear_cache()
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)


def reset_peak() -> None:
    """From now on the peak of `read_memory` is counted anew."""
    mx.reset_peak_memory()


def read_memory() -> dict[str, float]:
    """MLX's arrays in use, the buffers it keeps, and its peak.  Units: GB (10^9 bytes)."""
    active = mx.get_active_memory()
    return {
        "mlx_active_gb": active / 1e9,
        "mlx_cache_gb": mx.get_cache_memory() / 1e9,
        # A peak that was reset is 0 until something is allocated.
        "mlx_peak_gb": max(active, mx.get_peak_memory()) / 1e9,
    }
