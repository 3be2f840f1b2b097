"""A day's work of the policy at Qwen3-0.6B's true shape, on this machine's own device.

Random weights, 32 prompts × 8 answers × 176 tokens, LoRA: seconds and tokens a second of sampling
and update, MLX's peak memory, and the share reached of what the device could do: its memory
bandwidth and its rate of matrix products are measured in the same run.

    python scripts/bench_device.py --rounds 3
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts" / "peers"), str(ROOT)]

import run_varro  # noqa: E402
from floor import flop_floor  # noqa: E402
from launch import make_model, say  # noqa: E402
from workload import GROUP, MODELS, Job, Shape, installed, prompt_ids  # noqa: E402

from varro.policy.load import Policy  # noqa: E402
from varro.policy.mlx import (  # noqa: E402
    device_name,
    mx,
    read_memory,
    release_memory,
    reset_peak,
)

_ARRAY = 2**28
"""numbers in each array whose sum tells the bandwidth"""
_SIDE = {"cpu": 2048}
"""of the square product that tells the rate of matrix products"""
_TIMES = 10
_COLUMNS = ("", "s", "tokens/s", "MLX peak GB", "bound by memory s", "by products s", "reached")


@dataclass(frozen=True)
class Limits:
    """What the device was seen to do."""

    bytes_per_s: float
    """read and written by the sum of two large arrays"""
    flop_per_s: float
    """of a large matrix product in the base weights' type"""


@dataclass(frozen=True)
class Day:
    sampling_s: float
    update_s: float
    sampling_gb: float
    update_gb: float
    metrics: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="qwen3-0.6b")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=176)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the base weights")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget-gb", type=float, help="of memory; half of the machine's if unset")
    parser.add_argument("--models", type=Path, default=ROOT / ".bench", help="where the model goes")
    options = parser.parse_args()
    make_model(options.model, options.models)
    shape = MODELS[options.model]
    job = Job(
        folder=options.models / "models" / options.model,
        mode="lora",
        prompts=prompt_ids(options.prompts, shape.vocab),
        n_tokens=options.tokens,
        blas_library=None,
        budget_gb=options.budget_gb,
        print_line=print,
    )
    dtype = options.dtype or ("float32" if device_name() == "cpu" else "bfloat16")
    policy = run_varro.load(job, dtype=dtype)
    limits = measure_limits(getattr(mx, dtype))
    days = []
    for number in range(options.rounds + 1):  # the first compiles kernels
        days.append(run_day(policy, job))
        say(
            f"{f'round {number}' if number else 'warm-up'}: sampling {days[-1].sampling_s:.2f} s, "
            f"update {days[-1].update_s:.2f} s"
        )
    print("\n".join(report(policy, shape, job, dtype, limits, days[1:])))


def measure_limits(dtype: Any) -> Limits:
    x, y = mx.random.normal((_ARRAY,)), mx.random.normal((_ARRAY,))
    side = _SIDE.get(device_name(), 8192)
    a, b = (mx.random.normal((side, side)).astype(dtype) for _ in range(2))
    mx.eval(x, y, a, b)
    moved = 3 * x.nbytes / best_seconds(lambda: x + y)
    done = 2.0 * side**3 / best_seconds(lambda: a @ b)
    release_memory()
    return Limits(moved, done)


def best_seconds(work: Callable[[], Any]) -> float:
    best = float("inf")
    for _ in range(_TIMES):
        started = time.perf_counter()
        mx.eval(work())
        best = min(best, time.perf_counter() - started)
    return best


def run_day(policy: Policy, job: Job) -> Day:
    """Sampling and update, after which the policy is put back."""

    def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
        release_memory()
        reset_peak()
        started = time.perf_counter()
        found = work()
        return time.perf_counter() - started, read_memory()["mlx_peak_gb"], found

    parent = policy.adapter()
    sampling_s, sampling_gb, samples = timed(lambda: run_varro.sample(policy, job))
    update_s, update_gb, metrics = timed(lambda: run_varro.update(policy, job, samples))
    policy.set_adapter(parent)
    return Day(sampling_s, update_s, sampling_gb, update_gb, metrics)


def report(
    policy: Policy, shape: Shape, job: Job, dtype: str, limits: Limits, days: list[Day]
) -> list[str]:
    """Medians over rounds beside two bounds: weights, keys and values read once a step from memory,
    and the products of `flop_floor`."""
    versions = installed(run_varro.PACKAGES)
    n_tokens = len(job.prompts) * GROUP * job.n_tokens
    flop = flop_floor(shape, [len(p) for p in job.prompts], job.n_tokens, job.mode)
    of_model = policy.shape()
    # On average half of an answer's keys and values are there; a prompt's are read once a group.
    kept = sum(of_model.kv_bytes(len(p) + GROUP * job.n_tokens // 2) for p in job.prompts)
    by_bandwidth = job.n_tokens * (of_model.weights_bytes + kept) / limits.bytes_per_s
    lines = [
        f"{device_name()}, {dtype}, {', '.join(f'{k} {v}' for k, v in versions.items())}",
        f"{limits.bytes_per_s / 1e9:.0f} GB/s, {limits.flop_per_s / 1e12:.1f} TFLOP/s in {dtype}",
        f"{job.folder.name}, {len(job.prompts)} × {GROUP} × {job.n_tokens} tokens, {job.mode}, "
        f"{run_varro.describe_plan(policy, job)}; medians of {len(days)} rounds",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
    ]
    for name, seconds, peak, by_memory, by_products in (
        (
            "sampling",
            statistics.median(day.sampling_s for day in days),
            statistics.median(day.sampling_gb for day in days),
            by_bandwidth,
            flop.sampling / limits.flop_per_s,
        ),
        (
            "update",
            statistics.median(day.update_s for day in days),
            statistics.median(day.update_gb for day in days),
            None,
            flop.update / limits.flop_per_s,
        ),
    ):
        bound = max(by_memory or 0.0, by_products)
        lines.append(
            f"| {name} | {seconds:.2f} | {n_tokens / seconds:,.0f} | {peak:.2f} | "
            f"{'' if by_memory is None else f'{by_memory:.3f}'} | {by_products:.3f} | "
            f"{bound / seconds:.1%} |"
        )
    last = days[-1].metrics
    names = ("kl_sampler", "ratio_min", "ratio_max", "grad_norm", "kl_update", "old_from")
    return [*lines, "", ", ".join(f"{name} {last.get(name)}" for name in names)]


if __name__ == "__main__":
    main()
