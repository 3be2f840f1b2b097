"""How the processors are shared out, decided once, before a BLAS is loaded.

MLX's CPU back end runs everything but matrix products on one thread a stream, so Varro deals its
work out to two streams and gives each half of the BLAS threads.
"""

from __future__ import annotations

import os
from functools import cache

from varro.launch import processes_here


@cache
def cpu_threads() -> int:
    """Threads this process may use: OMP_NUM_THREADS if set, else its share of the processors it may
    run on."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        n_processors = len(os.sched_getaffinity(0))
    else:
        n_processors = os.cpu_count() or 1
    return max(1, n_processors // processes_here())


def cpu_streams() -> int:
    """Streams that work is dealt out to on a CPU."""
    return min(2, cpu_threads())


def share_blas_threads() -> None:
    """Give each stream its share of the BLAS threads. Without effect once a BLAS is loaded."""
    os.environ["OMP_NUM_THREADS"] = str(max(1, cpu_threads() // cpu_streams()))
