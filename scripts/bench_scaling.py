"""Cost against work: Varro's seconds a token and its memory as a day grows.

More headlines, then longer answers, on a random model; each run is a process of its own. A
rate that leaves ±20 % of the first row's is marked.

    python scripts/bench_scaling.py --rounds 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "peers"))

from launch import SYSTEMS, FastBlas, Run, Setting, make_model, run_system, say  # noqa: E402
from workload import MODELS  # noqa: E402

SERIES = ("headlines", "tokens")
N_HEADLINES = (8, 32, 128, 256)
N_TOKENS = (64, 128, 256, 512)
"""tokens an answer, of 16 headlines"""
_MARK = 0.2
"""relative to the first row's seconds a token"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--series", nargs="+", choices=SERIES, default=SERIES)
    parser.add_argument("--model", choices=MODELS, default="tiny")
    parser.add_argument("--headlines", type=int, nargs="+", default=N_HEADLINES, help="of each day")
    parser.add_argument("--tokens", type=int, default=64, help="an answer, where headlines grow")
    parser.add_argument("--mode", choices=("full", "lora"), default="lora")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--envs", type=Path, default=ROOT / ".bench", help="where the model goes")
    options = parser.parse_args()
    make_model(options.model, options.envs)
    series = {
        "headlines": [(n, options.tokens) for n in options.headlines],
        "tokens": [(16, n) for n in N_TOKENS],
    }
    for name in options.series:
        runs: dict[tuple[int, int], list[Run]] = {size: [] for size in series[name]}
        for number in range(1, options.rounds + 1):
            for n_prompts, n_tokens in runs:
                setting = Setting(
                    mode=options.mode,
                    n_prompts=n_prompts,
                    slow_prompts=1,
                    n_tokens=n_tokens,
                    threads=options.threads,
                    malloc=False,
                    folder=options.envs.resolve(),
                )
                run = run_system(
                    SYSTEMS["varro"], options.model, setting, FastBlas("own", None, {})
                )
                runs[n_prompts, n_tokens].append(run)
                say(f"round {number}, {n_prompts} × {n_tokens}: {run.result.whole_s:.1f} s")
        print("\n".join(scaling_table(name, runs)), end="\n\n")


def scaling_table(name: str, runs: dict[tuple[int, int], list[Run]]) -> list[str]:
    """Medians over rounds, one line a size.  Units: milliseconds a sampled token, GB."""
    columns = [
        *("headlines", "tokens an answer", "sampling ms a token", "update ms a token"),
        *("sampling + update ms a token", "peak RSS GB", "MLX peak GB"),
    ]
    lines = [f"More {name}:", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    first: list[float] = []
    for (n_prompts, n_tokens), done in runs.items():
        costs = [
            1e3 * statistics.median(seconds(run.result) / run.result.n_tokens for run in done)
            for seconds in (
                lambda result: result.sampling_s,
                lambda result: result.update_s,
                lambda result: result.sampling_s + result.update_s,
            )
        ]
        first = first or costs
        rss = statistics.median(run.rss_gb for run in done)
        mlx = statistics.median(run.result.mlx_peak_gb or 0.0 for run in done)
        cells = [str(n_prompts), str(n_tokens), *marked(costs, first), f"{rss:.2f}", f"{mlx:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def marked(costs: Sequence[float], first: Sequence[float]) -> list[str]:
    """Each cost, and how far it is from the first row's where that is past the mark."""
    cells = []
    for cost, base in zip(costs, first, strict=True):
        change = cost / base - 1
        cells.append(f"{cost:.3f}" + (f" **{change:+.0%}**" if abs(change) > _MARK else ""))
    return cells


if __name__ == "__main__":
    main()
