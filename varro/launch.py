"""What `mlx.launch` or `mpirun` says of the processes that were started together.

Read from the environment, before MLX is loaded: how many processes share this machine decides how
many threads a BLAS gets.
"""

from __future__ import annotations

import json
import os
from pathlib import Path


def launched_backend() -> str | None:
    """`ring`, `jaccl`, `nccl` or `mpi`; None if this process was started alone."""
    if os.environ.get("OMPI_COMM_WORLD_SIZE", "1") != "1":
        return "mpi"
    if "MLX_RANK" not in os.environ:
        return None
    if "MLX_JACCL_COORDINATOR" in os.environ:
        return "jaccl"
    if "NCCL_HOST_IP" in os.environ:
        return "nccl"
    hosts = _ring_hosts()
    return "ring" if hosts is None or len(hosts) > 1 else None


def processes_here() -> int:
    """Processes of the cluster on this machine, this one included; 1 where it is not said."""
    if launched_backend() == "mpi":
        return int(os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1"))
    if launched_backend() != "ring":
        return 1
    hosts = _ring_hosts() or []
    rank = int(os.environ["MLX_RANK"])
    return hosts.count(hosts[rank]) if rank < len(hosts) else 1


def _ring_hosts() -> list[str] | None:
    """First address of each rank, without its port; empty for a launch of one process; None where
    the hostfile can not be read, which is for the one who joins to say."""
    try:
        text = Path(os.environ.get("MLX_HOSTFILE", "")).read_text(encoding="utf-8")
        ranks = json.loads(text or "[]")
        return [addresses[0].rpartition(":")[0] for addresses in ranks]
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return None
