"""`mlx.core` and `mlx.nn`, with a fast BLAS loaded first.

Every other module imports `mx` and `nn` from here: once MLX has bound the reference BLAS there is
no way back (see `varro.policy.blas`).
"""

from varro.policy.blas import load_fast_blas

load_fast_blas()

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402

__all__ = ["device_name", "mx", "nn"]


def device_name() -> str:
    """`metal`, `cuda` or `cpu`: what the default device is."""
    if mx.default_device() == mx.Device(mx.cpu):
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"
