"""What `varro status` says: each run, its newest cycle, what was missed, and what is due next."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from varro.config import Config
from varro.domain import RunInfo, Stage, degraded_days
from varro.errors import VarroError
from varro.files import write_file
from varro.ledger.glance import glance_at
from varro.ledger.place import is_begun, ledger_place
from varro.ledger.store import Ledger, open_ledger_of
from varro.lock import holder_of, is_held, lock_path
from varro.report.claim import claim_of
from varro.service.alerts import is_over
from varro.service.pause import load_pause
from varro.service.slots import load_timetable
from varro.service.tick import State, due_cycle, glance_of, load_state, state_path


def describe(config: Config, now: datetime) -> dict[str, Any]:
    """{home, free_gb, schedule, runs: [row]}: plain JSON values."""
    runs: list[dict[str, Any]] = []
    if is_begun(ledger_place(config)):
        with open_ledger_of(config) as ledger:
            runs = [_describe_run(config, ledger, info) for info in ledger.runs()]
    return {
        "home": str(config.home),
        "free_gb": free_gb(config.home),
        "schedule": describe_schedule(config, now),
        "runs": runs,
    }


def describe_schedule(config: Config, now: datetime) -> dict[str, Any]:
    """{run, zone, at, cadence, due, refused, paused, next_due, heartbeat, last_exit_code, alerts}
    of the configured run; `due` is the cycle that can be run now, `refused` why that can not be
    told, `paused` since when and by whom."""
    timetable = load_timetable(config.schedule)
    due = refused = None
    try:
        due = due_cycle(config, glance_of(config), now)
    except VarroError as error:
        refused = str(error)
    state = load_state(state_path(config.home, config.run.name))
    live = config.news.source == "feeds"
    return {
        "run": config.run.name,
        "zone": str(timetable.zone),
        "at": f"{config.schedule.at:%H:%M}",
        "cadence": config.schedule.cadence,
        "due": due,
        "refused": refused,
        "paused": _paused(config.home, config.run.name),
        "next_due": timetable.following(now).at.isoformat() if live else None,
        "heartbeat": state and state.at,
        "last_exit_code": _exit_code(state),
        "alerts": [e["text"] for e in ((state and state.told) or {}).values() if not is_over(e)],
    }


def describe_output(config: Config) -> dict[str, Any]:
    """{run, day, as_of, report, has_report, log} of the configured run's newest finished day."""
    home, run = config.home, config.run.name
    glance = glance_of(config)
    state = load_state(state_path(home, run))
    last = (state and state.last_run) or {}
    day, as_of = glance.done[0] if glance.done else (None, None)
    page = home / "reports" / run / str(day) / "report.html"
    return {
        "run": run,
        "day": day,
        "as_of": as_of and as_of.astimezone(UTC).isoformat(),
        "report": str(page) if day else None,
        "has_report": day is not None and page.exists(),
        "log": str(home / last["log"]) if last else None,
    }


def in_lines(facts: dict[str, Any]) -> str:
    """The same for people."""
    lines = [_run_line(row) for row in facts["runs"]] or [
        f"no run yet in {facts['home']}; begin with 'varro train-day'"
    ]
    schedule = facts["schedule"]
    following = schedule["next_due"]
    lines.append(
        f"schedule of {schedule['run']}: {schedule['at']} {schedule['zone']}, every "
        f"{schedule['cadence']}; "
        + what_is_due(schedule)
        + (f", next due {following[:16]}Z" if following else "")
        + (f", last looked {schedule['heartbeat'][:16]}Z" if schedule["heartbeat"] else "")
    )
    if schedule["paused"]:
        lines.append(f"{schedule['run']} is {schedule['paused']}: 'varro resume' lets it go on")
    return "\n".join([*lines, *(f"alert: {text}" for text in schedule["alerts"])])


def what_is_due(schedule: dict[str, Any]) -> str:
    """In words, of what `describe_schedule` gives."""
    if schedule["refused"]:
        return f"refused: {schedule['refused']}"
    return f"due now: {schedule['due']}" if schedule["due"] else "nothing is due"


def write_prometheus(path: Path, facts: dict[str, Any]) -> None:
    """A file for node_exporter's textfile collector, replaced as a whole."""
    lines: list[str] = []

    def add(name: str, kind: str, text: str, rows: Sequence[tuple[str, float | None]]) -> None:
        known = [(labels, value) for labels, value in rows if value is not None]
        if known:
            lines.extend([f"# HELP varro_{name} {text}", f"# TYPE varro_{name} {kind}"])
            lines.extend(f"varro_{name}{labels} {value:.0f}" for labels, value in known)

    runs = [(f'{{run="{row["run"]}"}}', row) for row in facts["runs"]]
    schedule = facts["schedule"]
    of_schedule = f'{{run="{schedule["run"]}"}}'
    for name, kind, text in (
        ("days_done", "counter", "Finished cycles."),
        ("n_missed", "counter", "Cycles that nobody ran."),
        ("n_degraded", "counter", "Cycles whose news was too thin to be trained on."),
        ("n_updates", "counter", "Updates of the policy."),
        ("policy_version", "gauge", "The live policy."),
        ("forecasts", "counter", "Forecasts made."),
        ("settlements", "counter", "Forecasts settled."),
    ):
        add(name, kind, text, [(labels, row[name]) for labels, row in runs])
    clocks = [(labels, _seconds(row["last_done_at"])) for labels, row in runs]
    add("last_cycle_timestamp_seconds", "gauge", "Clock of the newest finished cycle.", clocks)
    by_run = {row["run"]: row["last_exit_code"] for row in facts["runs"]}
    by_run.setdefault(schedule["run"], schedule["last_exit_code"])  # one that never got to a ledger
    codes = [(f'{{run="{run}"}}', code) for run, code in by_run.items()]
    add(
        "last_exit_code",
        "gauge",
        "Of the newest cycle that the service tried, or of a wake-up since then that was refused.",
        codes,
    )
    thin = [
        (labels, float(row["last_cycle"]["degraded"] is not None))
        for labels, row in runs
        if row["last_cycle"]
    ]
    add("last_cycle_degraded", "gauge", "1 while the newest cycle is not to be trained on.", thin)
    held = [(labels, float(row["held_by"] is not None)) for labels, row in runs]
    add("at_work", "gauge", "1 while a process holds the run.", held)
    is_paused = {row["run"]: row["paused"] is not None for row in (*facts["runs"], schedule)}
    paused = [(f'{{run="{run}"}}', float(is_so)) for run, is_so in is_paused.items()]
    add("paused", "gauge", "1 while the service is to begin nothing.", paused)
    for name, text in (("heartbeat", "The newest wake-up."), ("next_due", "The next cycle.")):
        add(f"{name}_timestamp_seconds", "gauge", text, [(of_schedule, _seconds(schedule[name]))])
    is_due = float(schedule["due"] is not None)
    add("is_due", "gauge", "1 while a cycle is due.", [(of_schedule, is_due)])
    add("alerts", "gauge", "Alerts that are the case.", [(of_schedule, len(schedule["alerts"]))])
    add("free_bytes", "gauge", "Free space at home.", [("", facts["free_gb"] * 1e9)])
    write_file(path, ("\n".join(lines) + "\n").encode())


def free_gb(home: Path) -> float:
    """Of the disk that holds `home`, or will."""
    while not home.exists():
        home = home.parent
    return shutil.disk_usage(home).free / 1e9


def _describe_run(config: Config, ledger: Ledger, info: RunInfo) -> dict[str, Any]:
    home, name = config.home, info.name
    done = ledger.days_done(name)
    missed = ledger.missed(name)
    unfinished = sorted(set(ledger.days_begun(name)) - set(done) - {m.day for m in missed})
    newest = ledger.newest_day(name)
    stages = ledger.stage_runs(name, newest) if newest else []
    degraded = degraded_days(ledger.stage_runs(name, stage=Stage.INGEST))
    glance = glance_at(ledger_place(config), name, home=home)
    checkpoint = ledger.checkpoint(name)
    state = load_state(state_path(home, name))
    lock = lock_path(home, name)
    holder = holder_of(lock) if is_held(lock) else None
    counts = ledger.counts(name)
    return {
        "run": name,
        "corpus": info.corpus,
        "seed": info.seed,
        "days_done": len(done),
        "last_day": done[-1] if done else None,
        "last_done_at": glance.done[0][1].astimezone(UTC).isoformat() if glance.done else None,
        "claim": claim_of(home, name, done[-1] if done else None),
        "unfinished": unfinished,
        "last_cycle": None if newest is None else _cycle(newest, stages),
        "last_stage": str(stages[-1].stage) if stages else None,
        "last_attempt": state and state.last_run,
        "last_exit_code": _exit_code(state),
        "last_error": (state and state.outcome != "empty" and state.error) or None,
        "n_missed": len(missed),
        "missed": [m.day for m in missed[-10:]],
        "n_degraded": len(degraded),
        "degraded": dict(sorted(degraded.items())[-10:]),
        "held_by": holder and str(holder),
        "paused": _paused(home, name),
        "policy_version": checkpoint.version if checkpoint else None,
        "n_updates": counts["updates"],
        **counts,
    }


def _paused(home: Path, run: str) -> str | None:
    found = load_pause(home, run)
    return None if found is None else str(found)


def _exit_code(state: State | None) -> int | None:
    """Of the newest cycle that was tried, or of the newest wake-up where that was refused; that
    another process is at work is no refusal. None if nothing was tried."""
    if state is None:
        return None
    if state.exit_code and state.outcome != "held":
        return state.exit_code
    return state.last_run["exit_code"] if state.last_run else None


def _run_line(row: dict[str, Any]) -> str:
    parts = [
        f"{row['run']}: {row['days_done']} days done, last {row['last_day'] or '—'}",
        f"policy v{row['policy_version']}",
        f"{row['forecasts']} forecasts",
        f"{row['settlements']} settled",
    ]
    if row["unfinished"]:
        parts.append(f"unfinished {', '.join(row['unfinished'][-3:])}")
    if row["n_missed"]:
        parts.append(f"{row['n_missed']} missed, the last {row['missed'][-1]}")
    if row["n_degraded"]:
        day, why = list(row["degraded"].items())[-1]
        parts.append(f"{row['n_degraded']} degraded and not trained on, the last {day} ({why})")
    if row["claim"]:
        parts.append(row["claim"])
    if row["held_by"]:
        parts.append(f"at work: {row['held_by']}")
    if row["paused"]:
        parts.append(row["paused"])
    if row["last_error"]:
        parts.append(f"last error: {row['last_error']}")
    return ", ".join(parts)


def _seconds(time: str | None) -> float | None:
    return None if time is None else datetime.fromisoformat(time).timestamp()


def _cycle(day: str, stages: list[Any]) -> dict[str, Any]:
    by_name = {s.stage: s for s in stages}
    update = by_name.get(Stage.UPDATE)
    degraded = degraded_days(stages).get(day)
    if Stage.REPORT in by_name:
        outcome = "degraded" if degraded else "done"
    else:
        outcome = f"stopped after {stages[-1].stage}"
    return {
        "day": day,
        "as_of": stages[0].as_of.astimezone(UTC).isoformat(),
        "outcome": outcome,
        "degraded": degraded,
        "updated": update.detail.get("updated") if update else None,
        "not_updated_because": update.detail.get("reason") if update else None,
    }
