"""All runs of one model, as Markdown and as JSON."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from floor import Floor, flop_floor, paired_ratios
from launch import Run, Setting
from workload import GROUP, MEMORY_ONLY, MODELS, Result, prompt_ids


@dataclass
class Race:
    """All runs of one model; `runs[name][r]` is round r."""

    model: str
    setting: Setting
    blas: str
    runs: dict[str, list[Run]]
    gemm: list[dict[int, float]]
    failed: dict[str, str]


def report(race: Race) -> str:
    """The race as Markdown: what was run, and a table."""
    setting, shape = race.setting, MODELS[race.model]
    lengths = [len(p) for p in prompt_ids(setting.n_prompts, shape.vocab)]
    floor = flop_floor(shape, lengths, setting.n_tokens, setting.mode)
    lines = [
        f"### {race.model}: {shape.n_parameters / 1e6:.2f} M parameters, "
        f"{'full fine-tune' if setting.mode == 'full' else 'LoRA'}"
        f"{', malloc tuned' if setting.malloc else ''}",
        "",
        f"{setting.n_prompts} prompts × {GROUP} answers × {setting.n_tokens} tokens, "
        f"threads: {setting.threads}, BLAS of the MLX systems: {race.blas}. "
        f"The work needs {floor.sampling / 1e12:.3g} TFLOP to sample and {floor.update / 1e12:.3g} "
        f"to update, and {floor.attention / 1e12:.2g} in attention, which the share leaves out.",
        "",
    ]
    if race.gemm:
        rates = {rows: median_range([g[rows] for g in race.gemm]) for rows in race.gemm[0]}
        said = ", ".join(f"{rate} at M = {rows}" for rows, rate in rates.items())
        lines += [f"The model's matrix products, GFLOP/s: {said}.", ""]
    lines += table(race, floor)
    lines += [""] + [
        f"- {name}: {'; '.join(runs[0].result.notes)}" for name, runs in race.runs.items() if runs
    ]
    lines += [
        f"\n`{name}` failed.\n\n```\n{without_folders(error)}\n```"
        for name, error in sorted(race.failed.items())
    ]
    return "\n".join(lines) + "\n"


def table(race: Race, floor: Floor) -> list[str]:
    """One line a system. Ratios are to Varro; a failed system keeps its line."""
    timed, setting = race.model not in MEMORY_ONLY, race.setting
    columns = ["system", "mode", "BLAS", "peak RSS GB (one process)"]
    if timed:
        columns[3:3] = ["sampling s (tokens/s)", "update s (tokens/s)", "whole s"]
        columns += ["× Varro", "floor ÷ time: whole (sampling, update)"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    varro = race.runs.get("varro", [])
    for name, runs in race.runs.items():
        if name in race.failed:
            lines.append(f"| {name} | **failed** |" + " |" * (len(columns) - 2))
            continue
        results = [run.result for run in runs]
        title = name
        if runs[0].scale > 1:
            title += f", {setting.n_prompts // runs[0].scale} of {setting.n_prompts} prompts"
            title += f" × {runs[0].scale}"
        rss = max(run.rss_gb for run in runs)
        own = max(result.peak_rss_gb for result in results)
        cells = [title, results[0].mode, results[0].blas, f"{rss:.2f} ({own:.2f})"]
        if timed:
            whole = [result.whole_s for result in results]
            cells[3:3] = [
                seconds_and_rate([r.sampling_s for r in results], results[0].n_tokens),
                seconds_and_rate([r.update_s for r in results], results[0].n_tokens),
                median_range(whole),
            ]
            baseline = [run.result.whole_s for run in varro]
            comparable = len(baseline) == len(whole)
            cells += [
                median_range(paired_ratios(whole, baseline)) if comparable else "–",
                shares_of_floor([floor.seconds(g) for g in race.gemm], results),
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def without_folders(text: str) -> str:
    """The text with file names only, as it may stand on a page."""
    return re.sub(r"(?<![\w:/])/(?:[\w.@+-]+/)+", "", text)


def median_range(values: Sequence[float]) -> str:
    """`median (lowest–highest)`, three digits; one value stands alone."""
    low, middle, high = (digits(f(values)) for f in (min, statistics.median, max))
    return middle if len(values) == 1 else f"{middle} ({low}–{high})"


def seconds_and_rate(seconds: Sequence[float], n_tokens: int) -> str:
    middle = statistics.median(seconds)
    return f"{digits(middle)} ({digits(n_tokens / middle)})"


def shares_of_floor(floors: Sequence[tuple[float, float]], results: Sequence[Result]) -> str:
    """Medians of what the floor is of the whole time, and in brackets of both parts of it."""
    pairs = list(zip(floors, results, strict=True))
    whole = statistics.median(sum(f) / r.whole_s for f, r in pairs)
    sampling = statistics.median(f[0] / r.sampling_s for f, r in pairs)
    update = statistics.median(f[1] / r.update_s for f, r in pairs)
    return f"{whole:.0%} ({sampling:.0%}, {update:.0%})"


def digits(value: float) -> str:
    """Three digits, and all of those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def describe(races: Sequence[Race], command: str) -> str:
    """Machine, versions and command: all that is needed to read the tables."""
    versions: dict[str, dict[str, str]] = {}
    for one in races:
        for name, runs in one.runs.items():
            if runs:
                versions[name] = runs[0].result.versions
    lines = [
        f"Measured {datetime.now(UTC):%Y-%m-%d} by `{command}` on {machine()}.",
        "",
        *(
            f"- {name}: " + ", ".join(f"{package} {number}" for package, number in found.items())
            for name, found in versions.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Processor, cores and system; no names of hosts or folders."""
    model = platform.machine()
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        model = found[1] if found else model
    except OSError:
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GB, {platform.system()}"


def write_section(page: Path, name: str, text: str) -> None:
    """Put the text between the page's marks of that name, or at its end with new marks."""
    begin, end = f"<!-- bench: {name} -->", f"<!-- end of bench: {name} -->"
    section = f"{begin}\n{text}{end}\n"
    old = page.read_text(encoding="utf-8") if page.exists() else "# Performance\n"
    if begin in old:
        before, rest = old.split(begin, 1)
        new = before + section + rest.split(f"{end}\n", 1)[1]
    else:
        new = f"{old}\n{section}"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(new, encoding="utf-8")


def as_json(races: Sequence[Race]) -> list[dict[str, Any]]:
    return [
        {
            "model": one.model,
            "mode": one.setting.mode,
            "threads": one.setting.threads,
            "malloc_tuned": one.setting.malloc,
            "gemm_gflops": one.gemm,
            "failed": one.failed,
            "runs": {
                name: [
                    vars(run.result) | {"scale": run.scale, "tree_rss_gb": run.tree_rss_gb}
                    for run in runs
                ]
                for name, runs in one.runs.items()
            },
        }
        for one in races
    ]
