"""The rate of the model's own matrix products x @ W.T with Varro's BLAS, one JSON line.

For each number of rows: all linear layers of a block, times the blocks, and the output head. Each
product on all of Varro's streams at once, which between them have all the BLAS threads: the rate is
the machine's, not one core's.
Units: GFLOP/s.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workload import MODELS, Shape

from varro.policy.mlx import make_streams, mx

ROWS = (8, 128, 2048)
_FOR_S = 0.03
"""at least this long a product, the best taken"""


def gemm_gflops(shape: Shape, n_rows: int) -> float:
    products = [(size, shape.layers) for size in shape.products()]
    products.append(((shape.vocab, shape.hidden), 1))
    streams = make_streams()
    flop = seconds = 0.0
    for (out, width), count in products:
        flop += count * len(streams) * 2.0 * n_rows * out * width
        seconds += count * best_seconds(streams, n_rows, out, width)
    return flop / seconds / 1e9


def best_seconds(streams: Sequence[mx.Stream], n_rows: int, out: int, width: int) -> float:
    """Of one product on each stream."""
    x, weight = mx.random.normal((n_rows, width)), mx.random.normal((out, width))
    mx.eval(x, weight)
    best, until = float("inf"), time.perf_counter() + _FOR_S
    while best == float("inf") or time.perf_counter() < until:
        started = time.perf_counter()
        mx.eval([mx.matmul(x, weight.T, stream=stream) for stream in streams])
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    shape = MODELS[sys.argv[1]]
    print(json.dumps({str(rows): gemm_gflops(shape, rows) for rows in ROWS}))


if __name__ == "__main__":
    main()
