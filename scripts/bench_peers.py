"""Varro beside other trainers: the same sampling and the same update, in seconds and memory.

Every system does the same work (`scripts/peers/workload.py`): 16 prompts of 51 to 62 tokens × 8
answers × exactly 160 tokens from one random-weight Qwen3, then one sequence-level GSPO pass over
them with a KL reference and AdamW in float32. Each run is a process of its own in the system's own
environment. Systems take turns, round by round, and ratios are paired by round: read those, the
machine may be shared.

    python scripts/bench_peers.py --smoke
    python scripts/bench_peers.py --models tiny small --rounds 5 --out docs/performance.md
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "peers"))

from launch import (  # noqa: E402
    SYSTEMS,
    RunFailed,
    Setting,
    System,
    fast_blas,
    make_environment,
    make_model,
    measure_gemm,
    run_system,
    say,
)
from race_report import Race, as_json, describe, report, write_section  # noqa: E402
from workload import MAX_STEPS, MEMORY_ONLY, MODELS, WrongWork  # noqa: E402


def main() -> int:
    options = parse_arguments(sys.argv[1:])
    systems = [SYSTEMS[n] for n in options.systems if options.mode in SYSTEMS[n].modes]
    for name in sorted({s.environment for s in systems if s.environment}):
        make_environment(name, options.envs)
    races = []
    for model in options.models:
        make_model(model, options.envs)
        setting = Setting(
            mode=options.mode,
            n_prompts=options.prompts,
            slow_prompts=options.slow_prompts,
            n_tokens=options.tokens,
            threads=options.threads,
            malloc=options.malloc,
            folder=options.envs.resolve(),
        )
        rounds = 1 if model in MEMORY_ONLY else options.rounds
        warm_up = options.warm_up and rounds > 1
        races.append(race(model, systems, setting, rounds=rounds, warm_up=warm_up))
    command = f"make bench ARGS='{' '.join(shown_arguments(sys.argv[1:]))}'"
    text = "\n".join([describe(races, command), *map(report, races)])
    print(text)
    if options.out:
        name = f"{'+'.join(options.models)} {options.mode}{' tuned' if options.malloc else ''}"
        write_section(options.out, name, text)
    if options.json:
        options.json.write_text(json.dumps(as_json(races), indent=2) + "\n")
    return 1 if any(one.failed for one in races) else 0


def shown_arguments(arguments: Sequence[str]) -> list[str]:
    """The command without folders, which belong to one machine."""
    hidden = ("--envs", "--out", "--json")
    return [
        argument
        for before, argument in zip(["", *arguments], arguments, strict=False)
        if argument not in hidden and before not in hidden
    ]


def race(
    model: str, systems: Sequence[System], setting: Setting, *, rounds: int, warm_up: bool
) -> Race:
    """A B C, A B C, …: one round to warm up if asked for, then those that count.

    A system that failed is left out of further rounds.
    """
    fast = fast_blas(setting)
    found = Race(model, setting, fast.name, {s.name: [] for s in systems}, [], {})
    for number in range(0 if warm_up else 1, rounds + 1):
        if model not in MEMORY_ONLY and number:
            found.gemm.append(measure_gemm(model, setting))
        for system in systems:
            if system.name in found.failed:
                continue
            label = f"round {number}" if number else "warm-up"
            try:
                run = run_system(system, model, setting, fast)
            except (RunFailed, WrongWork) as error:
                found.failed[system.name] = f"{label}: {error}"
                say(f"{model} {system.name} FAILED, {found.failed[system.name]}")
                continue
            say(f"{model} {label} {system.name}: {run.result.whole_s:.1f} s")
            if number:
                found.runs[system.name].append(run)
    return found


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["tiny", "small"])
    parser.add_argument("--mode", choices=("full", "lora"), default="full")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--warm-up",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a round before those that count, where there is more than one",
    )
    parser.add_argument("--prompts", type=int, default=16, help="1 to 3, or a multiple of 4")
    parser.add_argument("--slow-prompts", type=int, default=1, help="for systems that are scaled")
    parser.add_argument("--tokens", type=int, default=160, help="of each answer")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--malloc", action="store_true", help="tune glibc's allocator, for all")
    parser.add_argument("--envs", type=Path, default=ROOT / ".bench")
    parser.add_argument("--out", type=Path, help="Markdown page to put the tables into")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true", help="tiny, 2 prompts, 16 tokens, 1 round")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.models, options.prompts, options.tokens, options.rounds = ["tiny"], 2, 16, 1
    if options.prompts < 1 or (options.prompts > MAX_STEPS and options.prompts % MAX_STEPS):
        parser.error(f"--prompts {options.prompts}: {MAX_STEPS} equal minibatches are wanted")
    if options.slow_prompts < 1 or options.prompts % options.slow_prompts:
        parser.error(f"--slow-prompts {options.slow_prompts} must divide {options.prompts} prompts")
    return options


if __name__ == "__main__":
    sys.exit(main())
