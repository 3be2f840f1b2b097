"""`varro doctor`: is everything here that a day needs, and how fast is this machine?"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from varro.config import Config
from varro.errors import VarroError


@dataclass(frozen=True)
class Check:
    name: str
    status: str
    """`ok`, `warning` or `error`"""
    text: str


def examine(config: Config, now: datetime) -> list[Check]:
    """All checks, each on its own: one that fails does not hide the next."""
    checks: list[tuple[str, Callable[[Config], tuple[str, str]]]] = [
        ("news", _news),
        ("ledger", _ledger),
        ("disk", _disk),
        ("blas", _blas),
        ("policy", _policy),
        ("embedder", _embedder),
        ("schedule", lambda config: _schedule(config, now)),
    ]
    results = []
    for name, check in checks:
        try:
            status, text = check(config)
        except VarroError as error:
            status, text = "error", str(error)
        results.append(Check(name, status, text))
    return results


def _news(config: Config) -> tuple[str, str]:
    if config.news.source == "archive":
        from varro.news.archive import load_archive

        assert config.news.archive is not None
        archive = load_archive(
            config.news.archive, max_malformed_frac=config.news.max_malformed_frac
        )
        days = archive.days()
        text = (
            f"archive {archive.corpus}: {len(archive.headlines)} headlines, {days[0]} to {days[-1]}"
        )
        if archive.malformed:
            first = archive.malformed[0]
            return "warning", (
                f"{text}; {len(archive.malformed)} malformed lines, first line {first.line}: "
                f"{first.reason}"
            )
        return "ok", text
    from varro.news.opml import load_opml

    assert config.news.feeds is not None
    return "ok", f"{len(load_opml(config.news.feeds))} feeds in {config.news.feeds}"


def _ledger(config: Config) -> tuple[str, str]:
    from varro.ledger.store import open_ledger
    from varro.run import ledger_path

    path = ledger_path(config.home)
    if not path.exists():
        return "ok", f"none yet; will be made at {path}"
    with open_ledger(path) as ledger:
        return "ok", f"{path}: runs {', '.join(r.name for r in ledger.runs()) or 'none'}"


def _disk(config: Config) -> tuple[str, str]:
    folder = config.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    return ("ok" if free > 2 else "warning"), f"{free:.1f} GB free in {folder}"


def _blas(config: Config) -> tuple[str, str]:
    from varro.policy.blas import REFERENCE, load_fast_blas

    name = load_fast_blas()
    from varro.policy.mlx import device_name

    rate = matmul_gflops()
    text = f"{name} on {device_name()}: {rate:.0f} GFLOP/s in float32"
    if name.startswith(REFERENCE):
        return "warning", (
            f"{text}; install torch 2.13 (CPU) or OpenBLAS (Debian: libopenblas0) for about twenty "
            "times the speed"
        )
    return "ok", text


def matmul_gflops(*, size: int = 1024, n_runs: int = 5) -> float:
    """Best rate of a square float32 matrix product."""
    from varro.policy.mlx import mx

    a: Any = mx.random.normal((size, size))
    mx.eval(a @ a)
    best = float("inf")
    for _ in range(n_runs):
        started = time.perf_counter()
        mx.eval(a @ a)
        best = min(best, time.perf_counter() - started)
    return float(2 * size**3 / best / 1e9)


def _policy(config: Config) -> tuple[str, str]:
    from varro.policy.load import load_policy

    policy = load_policy(config.policy, lora_seed=0)
    base, trainable = policy.n_parameters()
    return "ok", (
        f"{policy.model_path.name}: {base / 1e6:.2f} M parameters, adapter {trainable / 1e6:.2f} M "
        f"({trainable / (base + trainable):.1%})"
    )


def _embedder(config: Config) -> tuple[str, str]:
    from varro.reward.embed import load_embedder

    vectors = load_embedder(config.embedder).encode(["varro"])
    return "ok", f"{config.embedder.model}: {vectors.shape[1]} dimensions, hash verified"


def _schedule(config: Config, now: datetime) -> tuple[str, str]:
    from varro.service.status import describe_schedule

    facts = describe_schedule(config, now)
    text = (
        f"{facts['at']} {facts['zone']}, every {facts['cadence']}; "
        f"{'due now: ' + facts['due'] if facts['due'] else 'nothing is due'}; "
    )
    if facts["heartbeat"] is None:
        return "ok", f"{text}no service has looked yet, see 'varro schedule install'"
    text += f"last looked {facts['heartbeat'][:16]}Z"
    quiet = now - datetime.fromisoformat(facts["heartbeat"])
    if quiet.total_seconds() > 3 * 60 * config.schedule.wake_every_min:
        return "warning", f"{text}, {quiet.total_seconds() / 3600:.0f} hours ago: nothing wakes it"
    return ("warning", f"{text}; {'; '.join(facts['alerts'])}") if facts["alerts"] else ("ok", text)
