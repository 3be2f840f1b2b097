"""The door: verbs, exit codes, the wall clock; nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from varro import __version__
from varro.cli_compare import compare
from varro.cli_export import export_app
from varro.cli_feeds import feeds_app
from varro.cli_look import config_app, doctor, score, show, status
from varro.cli_options import (
    ConfigOption,
    HomeOption,
    JsonOption,
    RunOption,
    SeedOption,
    SetOption,
    print_result,
    resolve_config,
)
from varro.cli_service import pause, resume, schedule_app, serve, tick
from varro.cli_site import publish
from varro.cli_state import backup, restore, rollback
from varro.errors import DEGRADED, ConfigError, StageError, VarroError
from varro.service.ending import end_on_signals

if TYPE_CHECKING:
    from varro.config import Config
    from varro.policy.cluster import Cluster
    from varro.run import OpenRun

app = typer.Typer(
    name="varro",
    help="One small language model that learns from tomorrow's news, every day.",
    epilog="Exit codes: 0 done · 1 unforeseen · 2 usage · 3 configuration · 4 news · 5 ledger · "
    "6 policy or checkpoint · 7 stage · 8 cluster · 9 disk · 10 held by another process · 11 taken "
    "over · 12 done, but degraded · 13 nothing new yet · 14 site · 129 hung up · 130 interrupted "
    "· 143 terminated.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.add_typer(config_app, name="config")
app.add_typer(feeds_app, name="feeds")
app.add_typer(export_app, name="export")
app.add_typer(schedule_app, name="schedule")


def main() -> None:
    """Console entry point."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    end_on_signals()
    try:
        app()
    except VarroError as error:
        if debug:
            raise
        print(f"varro: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        print(
            f"varro: unforeseen {type(error).__name__}: {error} (run again with --debug)",
            file=sys.stderr,
        )
        sys.exit(1)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"varro {__version__}")
        raise typer.Exit


@app.command("train-day")
def train_day(
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    catch_up: Annotated[bool, typer.Option("--catch-up", help="Run all due days.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the next due day: ingest, settle, update, publish, forecast, evaluate, report.

    After sleep or power-off, --catch-up finishes what was stopped halfway and runs what is due:
    all days of an archive, of live feeds only the newest cycle. Exit code 12: done, but a day's
    news was too thin to be trained on. Example: varro train-day --config configs/live.toml
    """
    from varro.day import report_folder
    from varro.domain import degraded_days
    from varro.service.replay import run_due

    with _opened(resolve_config(config, overrides, home=home, run=run, seed=seed)) as work:
        days, n_left = run_due(work, lambda: datetime.now(UTC), catch_up=catch_up)
        last = days[-1] if days else max(work.ledger.days_done(work.name), default=None)
        page = report_folder(work.home, work.name, last) / "report.html" if last else None
        degraded = {
            day: why
            for day, why in degraded_days(work.ledger.stage_runs(work.name)).items()
            if day in days
        }
        facts = {
            "run": work.name,
            "days": days,
            "degraded": degraded,
            "n_left": n_left,
            "report": str(page),
        }
        lines = [f"degraded, not trained on: {day}, {why}" for day, why in degraded.items()]
        lines.append(f"report: {page}" if days else f"nothing is due; last day {last or 'none'}")
        print_result(as_json, facts, "\n".join(lines))
    if degraded:
        raise typer.Exit(DEGRADED)


def _stage_command(name: str, help_text: str) -> None:
    def command(
        config: ConfigOption = None,
        overrides: SetOption = None,
        home: HomeOption = None,
        run: RunOption = None,
        seed: SeedOption = None,
        day: Annotated[
            str | None, typer.Option(help="Day (YYYY-MM-DD); default the next due one.")
        ] = None,
    ) -> None:
        from varro.day import run_day
        from varro.domain import Stage

        with _opened(resolve_config(config, overrides, home=home, run=run, seed=seed)) as work:
            run_day(work, _due_day(work, day), only=Stage(name))

    command.__doc__ = f"{help_text}\n\nExample: varro {name} --run main"
    app.command(name)(command)


_stage_command("ingest", "Take in what arrived, as of the day's clock.")
_stage_command("settle", "Score the forecasts whose outcomes are out.")
_stage_command("update", "Train the policy on what was settled, and publish its checkpoint.")
_stage_command("forecast", "Sample eight forecasts for each of the day's headlines.")
_stage_command("evaluate", "Compare the served policy with the frozen base on held-out headlines.")


@app.command()
def report(
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    day: Annotated[str | None, typer.Option(help="Day to render again (YYYY-MM-DD).")] = None,
    last: Annotated[bool, typer.Option("--last", help="Print the newest report.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Render every finished day again, and the run's index.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Finish the due day with its report, or show one that is there.

    Example: varro report --last
    """
    from varro.day import (
        due_days,
        newest_report,
        report_folder,
        run_day,
        write_all_reports,
        write_day_report,
    )
    from varro.domain import Stage

    resolved = resolve_config(config, overrides, home=home, run=run, seed=seed)
    if last + everything + (day is not None) > 1:
        raise ConfigError("--last is the newest day's report, --day another's and --all every "
                          "day's: give one of them")  # fmt: skip
    if last:
        print(newest_report(resolved, as_json=as_json))
        return
    with _opened(resolved) as work:
        if everything:
            n_days, index = write_all_reports(work)
            facts = {"n_days": n_days, "index": str(index)}
            print_result(as_json, facts, f"{n_days} reports, index: {index}")
            return
        done = work.ledger.days_done(work.name)
        if day is None:
            due = due_days(work, datetime.now(UTC))
            begun = set(work.ledger.days_begun(work.name)) - set(done)
            unfinished = [d for d in due if d.day in begun]
            if unfinished:
                run_day(work, unfinished[0], only=Stage.REPORT)
                day = unfinished[0].day
        day = day or max(done, default=None)
        if day is None or day not in work.ledger.days_done(work.name):
            raise StageError(
                f"no finished day {day or ''} in run {work.name!r}; see 'varro status'"
            )
        folder = report_folder(work.home, work.name, day)
        if day in done:
            write_day_report(work, day)
        text = (folder / ("report.json" if as_json else "report.md")).read_text(encoding="utf-8")
        print(text if as_json else f"report: {folder / 'report.html'}")


@app.command()
def replay(
    archive: Annotated[Path, typer.Option("--archive", help="JSONL archive, optionally gzip.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    first: Annotated[str | None, typer.Option("--from", help="First day (YYYY-MM-DD).")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day (YYYY-MM-DD).")] = None,
    placebo: Annotated[
        bool,
        typer.Option(
            "--placebo",
            help="A control: rewards are permuted within each group before training, so there is "
            "nothing to learn and any lift is the apparatus's. The run is named …-placebo.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run an archive's days under an as-of clock and print the table across them.

    A replay that was stopped goes on where it was. Example:
    varro replay --archive data/sample/world.jsonl.gz --to 2026-01-18 --run sample
    """
    from varro.service.replay import replay_days, summarize

    begin, end = _day(first, "--from"), _day(last, "--to")
    if begin and end and begin > end:
        raise ConfigError(f"--from {begin} is after --to {end}")
    layers = [
        f"news.archive={json.dumps(str(archive.resolve()), ensure_ascii=False)}",
        'news.source="archive"',
        *(["update.placebo=true"] if placebo else []),
    ]
    name = run or _run_name(archive, suffix="-placebo" if placebo else "")
    resolved = resolve_config(config, [*(overrides or []), *layers], home=home, run=name, seed=seed)
    with _opened(resolved) as work:
        empty = replay_days(work, first=begin, last=end)
        summary = summarize(work.ledger, resolved, last=end.isoformat() if end else None) | {
            "empty_days": empty
        }
        assert work.archive is not None
        summary["n_malformed"] = len(work.archive.malformed)
    print_result(as_json, summary, _days_text(summary))


for verb in (
    score, status, show, compare, publish, doctor, tick, serve, pause, resume, backup, restore,
    rollback,
):  # fmt: skip
    app.command()(verb)


# -- behind the verbs


@contextmanager
def _opened(config: Config) -> Iterator[OpenRun]:
    from rich.console import Console

    from varro.run import open_run
    from varro.service.doing import DoingFile
    from varro.service.progress import StageProgress

    cluster = _joined(config)
    with open_run(config, now=datetime.now(UTC)) as work:
        work.cluster = cluster
        progress = StageProgress(Console(stderr=True), DoingFile(work.home, work.name))
        work.progress = progress
        if work.archive is not None and work.archive.malformed:
            first = work.archive.malformed[0]
            print(
                f"varro: {len(work.archive.malformed)} malformed lines left out of "
                f"{work.archive.path}, the first at line {first.line}: {first.reason}",
                file=sys.stderr,
            )
        try:
            yield work
        finally:
            progress.stop()
    if cluster is not None:
        cluster.leave()


def _joined(config: Config) -> Cluster | None:
    """The cluster that `mlx.launch` started, on its rank 0. The other ranks work, and end here."""
    from varro.launch import launched_backend

    if launched_backend() is None:
        return None
    from varro.policy.cluster import join_cluster
    from varro.worker import serve

    cluster = join_cluster(timeout_s=config.cluster.timeout_s)
    print(f"varro: rank {cluster.rank} of {cluster.size}", file=sys.stderr)
    if cluster.rank == 0:
        return cluster
    serve(config, cluster)
    raise typer.Exit


def _due_day(work: OpenRun, wanted: str | None) -> Any:
    from varro.day import due_days
    from varro.service.slots import is_cycle

    due = due_days(work, datetime.now(UTC))
    if wanted is not None and not is_cycle(wanted):
        raise ConfigError(f"--day wants a day as YYYY-MM-DD, found {wanted!r}")
    if not due:
        raise StageError(f"nothing is due in run {work.name!r}; see 'varro status'")
    if wanted is not None and wanted != due[0].day:
        raise StageError(f"day {wanted} is not due; the next due day is {due[0].day}")
    return due[0]


def _run_name(archive: Path, *, suffix: str) -> str:
    name = archive.name.removesuffix(".gz").removesuffix(".jsonl")
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)
    return (plain[: 64 - len(suffix)].lstrip("._-") or "replay") + suffix


def _day(text: str | None, option: str) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option} wants a day as YYYY-MM-DD, found {text!r}") from None


def _days_text(summary: dict[str, Any]) -> str:
    from varro.report.pages import render_days_markdown

    text = render_days_markdown(summary["days"], summary["total"])
    empty = summary["empty_days"]
    degraded = [row["day"] for row in summary["days"] if row["degraded"]]
    return (
        text
        + (f"\ndegraded, not trained on: {', '.join(degraded)}" if degraded else "")
        + (f"\nno headlines, not run: {', '.join(empty)}" if empty else "")
    )


if __name__ == "__main__":
    main()
