"""Several processes at one policy: the ranks that `mlx.launch` started, on one machine or many.

Rank 0 runs the day, and it alone holds the ledger. The others, workers, hold the policy and wait
for a job; then every rank runs the same function, each on its share:

    rank 0   settle   call ─► share · gather · sum_gradients ─►   publish
    worker        next_job ─► share · gather · sum_gradients ─► next_job

What decides is the same on all ranks, so they stay in step without being told. Each exchange begins
with a header from every rank, so a rank that failed, or is elsewhere, is found before anything is
added up. A process alone is a cluster of one, and nothing of this costs it anything.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from varro.errors import ClusterError
from varro.launch import launched_backend
from varro.policy.mlx import mx, nn
from varro.policy.wire import pack, unpack

JOIN_S = 60.0
"""for all processes to find each other, after `mlx.launch` has started them"""
_CHUNK = 64 * 2**20
"""bytes in one collective"""
_JOB, _GATHER, _SUM, _LEAVE = range(1, 5)
_NAMES = {_JOB: "waiting for a job", _GATHER: "gathering", _SUM: "summing gradients"}

_T = TypeVar("_T")


class MainIsDone(Exception):
    """Rank 0 has finished: there are no more jobs."""


@dataclass
class Cluster:
    """This process's place among the others."""

    rank: int = 0
    size: int = 1
    group: Any = None
    """mx.distributed.Group; None for a process alone"""
    timeout_s: float = 1800.0
    """longest wait for the others; then this process ends"""
    is_open: bool = True
    """no exchange was broken off, so that the next one can be understood"""

    def call(self, job: str, values: Callable[[], dict[str, Any]]) -> None:
        """On rank 0: tell the workers what comes next, and with what. A worker has been told, and a
        process alone has nobody to tell: `values` is not asked for."""
        if self.size > 1 and self.rank == 0:
            self._exchange(_JOB, pack({"job": job, **values()}))

    def next_job(self) -> dict[str, Any]:
        """On a worker: what rank 0 calls for, `job` and its values.

        Raises: MainIsDone.
        """
        job: dict[str, Any] = unpack(self._exchange(_JOB, b"")[0])
        return job

    def share(self, items: Sequence[_T]) -> list[_T]:
        """Those of all ranks' items that are this rank's."""
        return list(items[self.rank :: self.size])

    def gather(self, mine: list[_T], *, on_other: Callable[[], None] | None = None) -> list[_T]:
        """All ranks' items; those of a `share`, in the order that they had before.

        `on_other` is called once for each item of another rank.
        """
        if self.size == 1:
            return mine
        found = [unpack(data) for data in self._exchange(_GATHER, pack(mine))]
        found[self.rank] = mine
        if on_other:
            for _ in range(sum(map(len, found)) - len(mine)):
                on_other()
        return [part[n] for n in range(max(map(len, found))) for part in found if n < len(part)]

    def from_main(self, value: _T) -> _T:
        """Rank 0's value, on every rank."""
        if self.size == 1:
            return value
        data = self._exchange(_GATHER, pack(value) if self.rank == 0 else b"")[0]
        return value if self.rank == 0 else unpack(data)

    def mirror(self, arrays: Mapping[str, mx.array]) -> Mapping[str, mx.array]:
        """Rank 0's arrays: this rank's own if no rank's differ from them."""
        if self.size == 1:
            return arrays
        digests = self.gather([_digest(arrays)])
        return arrays if len(set(digests)) == 1 else self.from_main(arrays)

    def sum_gradients(self, gradients: Any) -> Any:
        """The sum of all ranks' gradients, a tree of arrays that is shaped alike on each."""
        if self.size == 1:
            return gradients
        from mlx.utils import tree_map

        self._exchange(_SUM, b"")
        with self._awaited():
            mean = nn.average_gradients(gradients, self.group)
            total = tree_map(lambda gradient: gradient * self.size, mean)
            mx.eval(total)
        return total

    def meet(self, facts: Mapping[str, Any]) -> None:
        """Compare what must be the same on all ranks.

        Raises: ClusterError, on all of them, naming the first that differs from rank 0.
        """
        everyone = self.gather([{"host": socket.gethostname(), **facts}])
        for rank, other in enumerate(everyone):
            for name, wanted in everyone[0].items():
                if name != "host" and other[name] != wanted:
                    raise ClusterError(
                        f"rank {rank} on {other['host']} has {name} {other[name]!r}, rank 0 on "
                        f"{everyone[0]['host']} has {wanted!r}: install the same Varro and the "
                        "same policy on both, and start them with the same command line"
                    )

    def leave(self, reason: str = "") -> None:
        """Go, and say so: rank 0 when all is done, a worker when it has failed, with the reason."""
        if self.size > 1 and self.is_open:
            with suppress(ClusterError, MainIsDone):
                self._exchange(_LEAVE, reason.encode())
        self.is_open = False

    def _exchange(self, kind: int, data: bytes) -> list[bytes]:
        """Every rank's data, if all ranks are at the same kind of exchange.

        Raises: MainIsDone; ClusterError if a rank is gone, has left, or is at another kind.
        """
        header = np.zeros((self.size, 2), dtype=np.int64)
        header[self.rank] = kind, len(data)
        with self._awaited():
            header = _all_sum(header, self.group)
            kinds, sizes = header[:, 0], header[:, 1]
            leaves = kinds == _LEAVE
            if leaves.any():
                sizes = np.where(leaves, sizes, 0)
            elif len(set(kinds.tolist())) > 1:
                raise ClusterError(_out_of_step(kinds.tolist()))
            starts = np.concatenate([[0], np.cumsum(sizes)])
            whole = np.zeros(starts[-1], dtype=np.uint8)
            if sizes[self.rank]:
                mine = np.frombuffer(data, dtype=np.uint8)
                whole[starts[self.rank] : starts[self.rank + 1]] = mine
            for a in range(0, len(whole), _CHUNK):
                whole[a : a + _CHUNK] = _all_sum(whole[a : a + _CHUNK], self.group)
        parts = [whole[a:b].tobytes() for a, b in pairwise(starts)]
        if leaves.any():
            self.is_open = False
            if leaves[0]:
                raise MainIsDone
            rank = int(np.flatnonzero(leaves)[0])
            raise ClusterError(f"rank {rank} has failed: {parts[rank].decode()}")
        return parts

    @contextmanager
    def _awaited(self) -> Iterator[None]:
        """Inside, other ranks are waited for: a lost one is an error, a silent one the end.

        A collective can not be broken off, so after `timeout_s` the process ends where it stands;
        nothing is written while it waits.
        """
        if not self.is_open:
            raise ClusterError("the cluster is no more; run the same command again")
        self.is_open = False
        watchdog = threading.Timer(self.timeout_s, self._give_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        except RuntimeError as error:
            raise ClusterError(
                f"rank {self.rank} has lost the others ({error}): one of them has ended; nothing "
                "of this stage was kept, run the same command again"
            ) from error
        finally:
            watchdog.cancel()
        self.is_open = True

    def _give_up(self) -> None:
        print(
            f"varro: rank {self.rank} has waited {self.timeout_s:g} s (cluster.timeout_s) for the "
            "others: one of them hangs or can not be reached; nothing of this stage was kept, run "
            "the same command again",
            file=sys.stderr,
            flush=True,
        )
        os._exit(ClusterError.exit_code)


def join_cluster(*, timeout_s: float) -> Cluster:
    """This process's place in the cluster that it was launched in.

    Raises: ClusterError if the others can not be found.
    """
    backend = launched_backend() or "any"
    with _interrupted_after(JOIN_S):
        try:
            group = mx.distributed.init(strict=True, backend=backend)
        except (RuntimeError, ValueError) as error:
            raise ClusterError(
                f"cannot find the other processes ({error}): check that each of them runs, and "
                "the addresses and ports in the hostfile, see docs/cluster.md"
            ) from error
    return Cluster(group.rank(), group.size(), group, timeout_s)


@contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    """Inside, system calls that wait are interrupted after so long, and each second from then on.

    MLX waits for its peers without letting other Python threads run, so no thread can end it.
    """
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _all_sum(array: NDArray[Any], group: Any) -> NDArray[Any]:
    total = mx.distributed.all_sum(mx.array(array), group=group)
    mx.eval(total)
    return np.array(total)


def _digest(arrays: Mapping[str, mx.array]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.asarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _out_of_step(kinds: list[int]) -> str:
    said = ", ".join(f"rank {r} {_NAMES.get(kind, kind)}" for r, kind in enumerate(kinds))
    return f"the processes are not in step ({said}); run the same command again"
