"""`varro doctor`: is everything here that a day needs, how fast is this machine, and does anything
wake it?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from varro.config import Config
from varro.errors import VarroError

_N_NAMED = 3
"""feeds that are named, of those that fail"""


@dataclass(frozen=True)
class Check:
    """What was found of one thing."""

    name: str
    status: str
    """`ok`, `warning` or `error`"""
    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    """the figures in it, as plain JSON values"""


def examine(config: Config, now: datetime, *, arguments: Sequence[str] = ()) -> list[Check]:
    """All checks, each on its own: one that fails does not hide the next. `arguments` are those of
    the command line by which a scheduler would call this configuration."""
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("news", lambda: _news(config)),
        ("feeds", lambda: _feeds(config, now)),
        ("ledger", lambda: _ledger(config)),
        ("disk", lambda: _disk(config)),
        ("blas", _blas),
        ("policy", lambda: _policy(config)),
        ("embedder", lambda: _embedder(config)),
        ("schedule", lambda: _schedule(config, now, arguments)),
        ("output", lambda: _output(config, now)),
    ]
    results = []
    for name, check in checks:
        try:
            results.append(check())
        except VarroError as error:
            results.append(Check(name, "error", str(error)))
    return results


def _news(config: Config) -> Check:
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
        facts = {
            "source": "archive",
            "path": str(config.news.archive),
            "headlines": len(archive.headlines),
            "malformed": len(archive.malformed),
        }
        if archive.malformed:
            first = archive.malformed[0]
            text += (
                f"; {len(archive.malformed)} malformed lines, first line {first.line}: "
                f"{first.reason}"
            )
        return Check("news", "warning" if archive.malformed else "ok", text, facts)
    from varro.news.opml import load_opml

    assert config.news.feeds is not None
    n = len(load_opml(config.news.feeds))
    facts = {"source": "feeds", "path": str(config.news.feeds), "feeds": n}
    return Check("news", "ok", f"{n} feeds in {config.news.feeds}", facts)


def _feeds(config: Config, now: datetime) -> Check:
    """How the feeds have been, by the ledger; none is asked."""
    if config.news.source == "archive":
        return Check("feeds", "ok", "none: the news come from an archive")
    from varro.service.feeds import STANDINGS, health_of, how_many

    found = health_of(config, now=now)
    counts = how_many(found)
    text = ", ".join(f"{counts[standing]} {standing}" for standing in STANDINGS)
    bad = [row for row in found if row["n_failures"]]
    if bad:
        named = "; ".join(f"{row['feed']}: {row['reason']}" for row in bad[:_N_NAMED])
        more = f"; and {len(bad) - _N_NAMED} more" if len(bad) > _N_NAMED else ""
        text += f" ({named}{more}); see 'varro feeds health'"
    n_unreached = sum(row["status"] == "unreached" for row in found)
    if n_unreached:
        text += f"; {n_unreached} not reached in time (news.max_s), and first the next time"
    n_well = counts["healthy"] + counts["unread"]
    if n_well < config.news.min_feeds:
        text += f"; {config.news.min_feeds} are needed, or the day is degraded"
    is_well = n_well >= config.news.min_feeds and not counts["suspended"]
    return Check("feeds", "ok" if is_well else "warning", text, counts)


def _ledger(config: Config) -> Check:
    from varro.ledger.place import in_words, is_begun, ledger_place
    from varro.ledger.store import open_ledger_of

    place = ledger_place(config)
    if not is_begun(place):
        return Check("ledger", "ok", f"none yet; will be made at {in_words(place)}", {"runs": []})
    with open_ledger_of(config) as ledger:
        runs = [run.name for run in ledger.runs()]
    text = f"{in_words(place)}: runs {', '.join(runs) or 'none'}"
    return Check("ledger", "ok", text, {"runs": runs})


def _disk(config: Config) -> Check:
    from varro.service.status import free_gb

    free, wanted = free_gb(config.home), config.alerts.min_free_gb
    status = "ok" if free >= wanted else "warning"
    text = f"{free:.1f} GB free for {config.home}" + (
        "" if free >= wanted else f", less than {wanted:g}"
    )
    return Check("disk", status, text, {"free_gb": free})


def _blas() -> Check:
    from varro.policy.blas import REFERENCE, load_fast_blas

    name = load_fast_blas()
    from varro.policy.mlx import device_name

    rate = matmul_gflops()
    text = f"{name} on {device_name()}: {rate:.0f} GFLOP/s in float32"
    facts = {"name": name, "device": device_name(), "gflops": rate}
    if name.startswith(REFERENCE):
        advice = (
            "install torch 2.13 (CPU) or OpenBLAS (Debian: libopenblas0) for about twenty times "
            "the speed"
        )
        return Check("blas", "warning", f"{text}; {advice}", facts)
    return Check("blas", "ok", text, facts)


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


def _policy(config: Config) -> Check:
    from varro.policy.load import load_policy

    policy = load_policy(config.policy, lora_seed=0)
    base, trainable = policy.n_parameters()
    text = (
        f"{policy.model_path.name}: {base / 1e6:.2f} M parameters, adapter {trainable / 1e6:.2f} M "
        f"({trainable / (base + trainable):.1%})"
    )
    facts = {"path": str(policy.model_path), "parameters": base, "trainable": trainable}
    return Check("policy", "ok", text, facts)


def _embedder(config: Config) -> Check:
    from varro.reward.embed import load_embedder

    model, sha256 = str(config.embedder.model), config.embedder.sha256
    vectors = load_embedder(config.embedder).encode(["varro"])
    text = f"{model}: {vectors.shape[1]} dimensions, sha256 {sha256[:12]}… verified"
    facts = {"model": model, "sha256": sha256, "dimensions": vectors.shape[1]}
    return Check("embedder", "ok", text, facts)


def _schedule(config: Config, now: datetime, arguments: Sequence[str]) -> Check:
    """Whether something wakes this run, has done so lately, and for what next."""
    from varro.lock import is_held, lock_path
    from varro.service.schedule import installed_here
    from varro.service.status import describe_schedule, what_is_due

    facts = {**installed_here(config, arguments, now=now), **describe_schedule(config, now)}
    told = {
        "yes": "installed",
        "no": "not installed",
        "off": "installed, but switched off",
        "differs": "installed otherwise",
    }
    text = (
        f"{facts['at']} {facts['zone']}, every {facts['cadence']}; "
        f"{what_is_due(facts)}"
        + (f", next due {facts['next_due'][:16]}Z" if facts["next_due"] else "")
        + f"; {facts['kind']}: {told.get(facts['installed'], facts['installed'])}; "
        + (f"{facts['remark']}; " if facts["remark"] else "")
    )
    warnings = list(facts["alerts"])
    if facts["paused"]:
        warnings.append(f"{facts['paused']}: 'varro resume' lets it go on")
    if facts["installed"] == "differs":
        warnings.append("what is installed is not what this command line would install")
    if facts["installed"] == "off":
        warnings.append("'varro schedule install' switches it on again")
    if facts["heartbeat"] is None:
        text += "no service has looked yet, see 'varro schedule install'"
    else:
        text += f"last looked {facts['heartbeat'][:16]}Z"
        quiet = now - datetime.fromisoformat(facts["heartbeat"])
        is_at_work = is_held(lock_path(config.home, config.run.name))  # it looks no more till then
        if quiet.total_seconds() > 3 * 60 * config.schedule.wake_every_min and not is_at_work:
            warnings.append(f"{quiet.total_seconds() / 3600:.0f} hours ago: nothing wakes it")
    status = "warning" if warnings or facts["refused"] else "ok"
    return Check("schedule", status, "; ".join([text, *warnings]), facts)


def _output(config: Config, now: datetime) -> Check:
    """The newest day of the run, and where what was said of it lies."""
    from varro.service.status import describe_output

    facts = describe_output(config)
    if facts["day"] is None:
        return Check("output", "ok", f"no finished day of run {facts['run']!r} yet", facts)
    log = f", log {facts['log']}" if facts["log"] else ""
    text = f"{facts['day']}, as of {facts['as_of'][:16]}Z: {facts['report']}{log}"
    warnings = []
    if not facts["has_report"]:
        warnings.append(f"the page is gone: 'varro report --day {facts['day']}' writes it again")
    quiet = now - datetime.fromisoformat(facts["as_of"])
    longest = config.alerts.max_quiet_cycles * config.schedule.period()
    if config.news.source == "feeds" and quiet > longest:
        warnings.append(f"no cycle was completed for {quiet.total_seconds() / 3600:.0f} hours")
    return Check("output", "warning" if warnings else "ok", "; ".join([text, *warnings]), facts)
