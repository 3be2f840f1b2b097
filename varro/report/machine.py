"""What the day ran on: device, BLAS, versions; and what each stage took of memory."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("varro", "mlx", "mlx-lm", "torch", "sentence-transformers", "sqlalchemy", "numpy")


_SOURCE = Path(__file__).resolve().parent.parent
"""the package's folder"""


def describe_machine(policy: Any = None, home: Path | None = None) -> dict[str, Any]:
    """Facts for the report. With a loaded policy, its size too; with a home, the room left on its
    disk in GB (10^9 bytes)."""
    facts: dict[str, Any] = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "revision": revision(_SOURCE),
        "device": None,
        "blas": None,
        "n_parameters": None,
        "trainable_frac": None,
    }
    if policy is not None:
        from varro.policy.blas import load_fast_blas
        from varro.policy.mlx import device_name

        base, trainable = policy.n_parameters()
        facts |= {
            "device": device_name(),
            "blas": load_fast_blas(),
            "n_parameters": base,
            "trainable_frac": trainable / (base + trainable),
            "n_processes": policy.cluster.size,
        }
    if home is not None:
        facts["disk_free_gb"] = shutil.disk_usage(home).free / 1e9
    return facts


@cache
def revision(source: Path) -> str | None:
    """The git commit that the code in a folder is, "with changes" if files that git knows differ
    from it. None where the package does not lie in a checkout of its own, as an installed one does
    not, whatever lies around it."""
    if not (source.parent / ".git").exists():
        return None
    try:
        said = subprocess.run(
            ["git", "-C", str(source), "describe", "--always", "--dirty= with changes",
             "--exclude=*", "--abbrev=12"],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None


def stage_memory(*, with_mlx: bool) -> dict[str, float]:
    """What a stage took, read at its end: this process's resident memory, the largest it has ever
    been and now, and MLX's own since its peak was last reset.

    Units: GB (10^9 bytes).
    """
    memory = {"peak_rss_gb": peak_rss_gb(), "rss_gb": rss_gb()}
    if with_mlx:
        from varro.policy.mlx import read_memory

        memory |= read_memory()
    return memory


def rss_gb() -> float:
    """Resident memory of this process now. Units: GB (10^9 bytes)."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e9
    # macOS tells only a process's largest size by itself; ps is part of every system.
    said = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True
    )
    return int(said.stdout) * 1024 / 1e9


def peak_rss_gb() -> float:
    """Largest resident memory of this process so far. Units: GB (10^9 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
