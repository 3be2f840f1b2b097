"""Report: the day's page, and the folders of versions that need not be kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from varro.config import Config
from varro.day.facts import report_facts
from varro.day.timing import timed_stage
from varro.domain import CheckpointInfo, Stage
from varro.errors import StageError
from varro.export.sinks import feed_all, report_numbers, sinks_on
from varro.ledger.place import is_begun, ledger_place
from varro.ledger.store import open_ledger
from varro.lineage import kept_versions, remove_versions
from varro.report.build import build_report
from varro.report.pages import write_report
from varro.run import OpenRun
from varro.service.slots import DueDay


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
    """What the newest finished day's report says, read without the run's lock: a day may be at
    work.  Raises: StageError if there is none, or its file is gone."""
    place, name = ledger_place(config), config.run.name
    days: list[str] = []
    if is_begun(place):
        with open_ledger(place) as ledger:
            days = ledger.days_done(name)
    if not days:
        raise StageError(f"no finished day in run {name!r}; see 'varro status'")
    file = report_folder(config.home, name, days[-1])
    file /= "report.json" if as_json else "report.md"
    if not file.exists():
        raise StageError(f"{file} is gone; 'varro report --day {days[-1]}' writes it again")
    return file.read_text(encoding="utf-8")


def write_day_report(work: OpenRun, day: str) -> Path:
    """(Re)write a day's report from the ledger; returns the page's path."""
    report = build_report(report_facts(work, day))
    return write_report(report_folder(work.home, work.name, day), report)


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
