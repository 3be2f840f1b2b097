"""A fast BLAS for MLX on Linux CPUs, and the name of the one in use.

MLX's Linux wheel links the reference BLAS: about 8 GFLOP/s in float32 on two cores. Loading an
optimised BLAS into the global symbol scope *before* `mlx.core` is first imported makes the
dynamic linker resolve `sgemm` to it: about 200 GFLOP/s or more. On macOS (Accelerate and
Metal) nothing is needed. This module must be the first to touch MLX; every other module gets
`mlx` through code that called `load_fast_blas()` at its start.

MKL picks code by buffer alignment unless told not to (MKL_CBWR); a day must give the same bits
twice. Source: Intel MKL, "Getting Started with Conditional Numerical Reproducibility".
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from varro.threads import share_blas_threads

REFERENCE = "reference BLAS (slow)"

_in_use: str | None = None


def load_fast_blas() -> str:
    """Load the best BLAS found and return its name; later calls return the same name.

    `VARRO_BLAS` may name a library to load instead, or be `off`.
    Note: call it before anything imports `mlx.core`; afterwards it can only report.
    """
    global _in_use
    if _in_use is None:
        _in_use = _load()
    return _in_use


def _load() -> str:
    if sys.platform == "darwin":
        return "Accelerate / Metal"
    if "mlx.core" in sys.modules:
        return f"{REFERENCE}: MLX was imported before varro.policy.blas"
    wanted = os.environ.get("VARRO_BLAS")
    if wanted == "off":
        return f"{REFERENCE}: VARRO_BLAS=off"
    share_blas_threads()
    os.environ.setdefault("MKL_CBWR", "AVX512,STRICT" if _has_avx512() else "AVX2,STRICT")
    if _has_avx512():
        # OpenBLAS takes some newer processors for older ones without it.
        os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
    for name, path in [(wanted, wanted)] if wanted else _candidates():
        try:
            library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        if hasattr(library, "cblas_sgemm") or hasattr(library, "sgemm_"):
            return str(name)
    return REFERENCE


def _has_avx512() -> bool:
    try:
        return " avx512f " in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def _candidates() -> list[tuple[str, str]]:
    found = []
    openblas = ctypes.util.find_library("openblas")
    if openblas:
        found.append((f"OpenBLAS ({openblas})", openblas))
    torch = find_spec("torch")
    if torch and torch.origin:
        path = Path(torch.origin).parent / "lib" / "libtorch_cpu.so"
        if path.exists():
            found.append(("MKL (libtorch_cpu.so)", str(path)))
    return found
