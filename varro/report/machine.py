"""What the day ran on: device, BLAS, versions, memory."""

from __future__ import annotations

import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("mlx", "mlx-lm", "torch", "sentence-transformers", "sqlalchemy", "numpy")


def describe_machine(policy: Any = None) -> dict[str, Any]:
    """Facts for the report. With a loaded policy, its size and MLX's peak memory too.

    Units: memory in GB (10^9 bytes).
    """
    facts: dict[str, Any] = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "peak_rss_gb": peak_rss_gb(),
        "device": None,
        "blas": None,
        "mlx_peak_gb": None,
        "n_parameters": None,
        "trainable_frac": None,
    }
    if policy is not None:
        from varro.policy.blas import load_fast_blas
        from varro.policy.mlx import device_name, mx

        base, trainable = policy.n_parameters()
        facts |= {
            "device": device_name(),
            "blas": load_fast_blas(),
            "mlx_peak_gb": mx.get_peak_memory() / 1e9,
            "n_parameters": base,
            "trainable_frac": trainable / (base + trainable),
            "n_processes": policy.cluster.size,
        }
    return facts


def peak_rss_gb() -> float:
    """Peak resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
