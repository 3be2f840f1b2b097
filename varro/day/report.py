"""Report: the day's page, and the folders of versions that need not be kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from varro.config import Config
from varro.day.facts import RunHistory, changed_settings, read_history, report_facts
from varro.day.timing import timed_stage
from varro.domain import CheckpointInfo, Stage
from varro.errors import StageError, VarroError
from varro.export.sinks import feed_all, report_numbers, sinks_on
from varro.files import disk_errors
from varro.ledger.place import is_begun, ledger_place
from varro.ledger.store import open_ledger_of
from varro.lineage import kept_versions, remove_versions
from varro.report.across import load_lines, write_across
from varro.report.build import HISTORY_DAYS, build_report, failed_report
from varro.report.line import metrics_line
from varro.report.machine import describe_machine
from varro.report.pages import write_report
from varro.run import OpenRun
from varro.service.slots import DueDay

MAX_PROCESSES, DAYS_A_PROCESS = 4, 20
"""that write many reports at once; fewer days are not worth a process"""
MAX_ERROR = 2000
"""characters of an error that a page shows"""


def report_day(work: OpenRun, due: DueDay) -> None:
    """Write the day's page, give its numbers to trackers, then remove what the ledger says need not
    be kept."""
    with timed_stage(work, due, Stage.REPORT) as timing:
        work.ledger.check_lease()
        page = write_day_report(work, due.day)
        removed = _removable(work, due)
        remove_versions(work.home, removed)
        detail: dict[str, Any] = {
            "path": str(page.relative_to(work.home)),
            "removed_versions": _newly(work, [c.version for c in removed]),
        }
        if (settings := changed_settings(work, due.day)) is not None:
            detail["settings"] = settings
        if sinks_on(work.config.sinks):
            detail["sinks"] = _fed_sinks(work, due.day, page.parent)
        work.ledger.finish_stage(timing.row(detail))
        timing.summary = str(page)
    if work.embedder is not None:
        work.embedder.forget()


def report_folder(home: Path, run: str, day: str) -> Path:
    """Where a day's report lies, once it is written."""
    return home / "reports" / run / day


def newest_report(config: Config, *, as_json: bool) -> str:
    """What the newest report says, of a finished day or of one that failed since, read without the
    run's lock: a day may be at work.
    Raises: StageError if there is none, or its file is gone."""
    name = config.run.name
    days: list[str] = []
    if is_begun(ledger_place(config)):
        with open_ledger_of(config) as ledger:
            days = ledger.days_done(name)
    days += [line["day"] for line in load_lines(config.home / "reports" / name)[-1:]]
    if not days:
        raise StageError(f"no finished day in run {name!r}; see 'varro status'")
    day = max(days)
    file = report_folder(config.home, name, day)
    file /= "report.json" if as_json else "report.md"
    if not file.exists():
        raise StageError(f"{file} is gone; 'varro report --day {day}' writes it again")
    return file.read_text(encoding="utf-8")


def write_day_report(work: OpenRun, day: str) -> Path:
    """(Re)write a day's report from the ledger, and what stands beside it; returns its page.

    Raises: DiskError.
    """
    history = read_history(work, until=day, n_rows=HISTORY_DAYS)
    with disk_errors(f"the report of {day} is not complete"):
        line, page = _write_day(work, day, history)
        write_across(work.home / "reports", work.name, [line])
    return page


def write_all_reports(work: OpenRun) -> tuple[int, Path]:
    """(Re)write the report of every finished day from the ledger; returns how many, and the page of
    the run.

    Raises: StageError if there is none; DiskError.
    """
    days = work.ledger.days_done(work.name)
    if not days:
        raise StageError(f"no finished day in run {work.name!r}; see 'varro status'")
    history = read_history(work, until=days[-1])
    with disk_errors(f"the reports of {work.name!r} are not complete"):
        lines = _write_days(work, days, history)
        return len(days), write_across(work.home / "reports", work.name, lines)


def write_failed_report(work: OpenRun, due: DueDay, stage: str, error: Exception) -> None:
    """The page of a day that a stage ended, until the day has been run. The ledger knows nothing of
    it: what a day is goes on from what it has finished.

    Never raises: what ended the day is told, whatever becomes of its page.
    """
    try:
        report = failed_report(
            work.config,
            run=work.name,
            day=due.day,
            as_of=due.as_of,
            stage=stage,
            error=" ".join(str(error).split())[:MAX_ERROR] or type(error).__name__,
            stages=work.ledger.stage_runs(work.name, due.day),
            machine=describe_machine(),
        )
        write_report(report_folder(work.home, work.name, due.day), report)
        write_across(work.home / "reports", work.name, [metrics_line(report)])
    except (VarroError, OSError) as other:
        work.progress.warned(f"the page of {due.day} could not be written: {other}")


def _write_days(work: OpenRun, days: Sequence[str], history: RunHistory) -> list[dict[str, Any]]:
    """The lines of many days' reports, which are written by several processes if it pays."""
    n = min(os.cpu_count() or 1, MAX_PROCESSES, len(days) // DAYS_A_PROCESS)
    if n < 2:
        return [_write_day(work, day, history)[0] for day in days]
    shares = [days[k::n] for k in range(n)]
    with ProcessPoolExecutor(n, mp_context=get_context("spawn")) as pool:
        found = pool.map(_write_share, repeat(work.config), shares, repeat(history))
        return [line for share in found for line in share]


def _write_share(config: Config, days: Sequence[str], history: RunHistory) -> list[dict[str, Any]]:
    """Some of the days, in a process of its own beside the one that holds the run. It reads the
    ledger; a text's vector is all that it may add."""
    with open_ledger_of(config) as ledger:
        info = ledger.run(config.run.name)
        assert info is not None  # it has finished days
        work = OpenRun(config, ledger, info, archive=None, feeds=())
        return [_write_day(work, day, history)[0] for day in days]


def _write_day(work: OpenRun, day: str, history: RunHistory) -> tuple[dict[str, Any], Path]:
    facts = report_facts(work, day, history)
    report = build_report(facts)
    folder = report_folder(work.home, work.name, day)
    return metrics_line(report), write_report(folder, report, facts.pages)


def _fed_sinks(work: OpenRun, day: str, folder: Path) -> dict[str, str | None]:
    """Trackers that are on → why one has not taken the day, or None."""
    step = work.ledger.days_begun(work.name).index(day)
    fed = feed_all(
        report_numbers(folder, step=step),
        run=work.info,
        home=work.home,
        config=work.config.sinks,
    )
    for sink, why in fed.items():
        if why is not None:
            work.progress.warned(f"{why}; 'varro export {sink}' gives it what it lacks")
    return fed


def _removable(work: OpenRun, due: DueDay) -> list[CheckpointInfo]:
    """Versions that need not be kept, by the ledger alone: the same whenever it is asked."""
    checkpoints = work.ledger.checkpoints(work.name)
    forecast = work.ledger.stage_run(work.name, due.day, Stage.FORECAST)
    if forecast is None:
        return []
    kept = kept_versions(
        checkpoints,
        work.config.checkpoints,
        live=forecast.detail["policy_version"],
        reference=work.ledger.reference_version(work.name),
    )
    return [c for c in checkpoints if c.version not in kept]


def _newly(work: OpenRun, versions: Sequence[int]) -> list[int]:
    """Those that no earlier day has named as removed."""
    named = {
        version
        for s in work.ledger.stage_runs(work.name, stage=Stage.REPORT)
        for version in s.detail.get("removed_versions", ())
    }
    return [version for version in versions if version not in named]
