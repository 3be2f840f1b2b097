"""The verbs of the service: what wakes it, and what it does when it is woken."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from varro.cli_options import (
    ConfigOption,
    HomeOption,
    JsonOption,
    RunOption,
    SeedOption,
    SetOption,
    as_arguments,
    print_result,
    resolve_config,
)

if TYPE_CHECKING:
    from varro.config import Config
    from varro.service.schedule import Job, Kind

schedule_app = typer.Typer(help="What wakes Varro: launchd, systemd or cron.", no_args_is_help=True)
QuietOption = Annotated[
    bool, typer.Option("--quiet", help="Say nothing where nothing is due: for schedulers.")
]
KindOption = Annotated[
    str | None, typer.Option("--kind", help="launchd, systemd or cron; default this system's.")
]


def tick(
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    quiet: QuietOption = False,
) -> None:
    """Run what is due, tell what is wrong, and leave a heartbeat; ends at once if nothing is due.

    Safe to be called at any time and any number of times. Example:
    varro tick --config configs/live.toml
    """
    from varro.service.tick import day_process, in_words
    from varro.service.tick import tick as do_tick

    _refuse_cluster()
    resolved = resolve_config(config, overrides, home=home, run=run, seed=seed)
    run_day = day_process(
        as_arguments(config, overrides, home=home, run=run, seed=seed),
        limit=timedelta(hours=resolved.schedule.max_run_h),
    )
    is_left = True
    while is_left:
        state = do_tick(resolved, run_day, clock=lambda: datetime.now(UTC), complain=_say)
        if state.cycle is not None or not quiet:
            print(in_words(state), flush=True)
        if state.exit_code:
            raise typer.Exit(state.exit_code)
        is_left = state.left is not None


def serve(
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
) -> None:
    """Stay, and run each cycle when it falls due; ends on SIGTERM or Ctrl-C.

    Example: varro serve --config configs/live.toml
    """
    from varro.service.serve import serve as do_serve
    from varro.service.tick import day_process

    _refuse_cluster()
    resolved = resolve_config(config, overrides, home=home, run=run, seed=seed)
    do_serve(
        resolved,
        day_process(
            as_arguments(config, overrides, home=home, run=run, seed=seed),
            limit=timedelta(hours=resolved.schedule.max_run_h),
        ),
        clock=lambda: datetime.now(UTC),
        say=_say,
    )


@schedule_app.command("install")
def schedule_install(
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    kind: KindOption = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Show what would be written, and write nothing.")
    ] = False,
) -> None:
    """Have this system call `varro tick`, from now on and after each start.

    Example: varro schedule install --config configs/live.toml --print
    """
    from varro.service.schedule import install, render

    resolved = resolve_config(config, overrides, home=home, run=run, seed=seed)
    job = _job(resolved, as_arguments(config, overrides, home=home, run=run, seed=seed))
    chosen = _kind(kind)
    if only_print:
        for path, content in render(chosen, job, home=Path.home()).items():
            print(f"# {path}\n{content.decode()}")
        return
    print(f"installed for {chosen}: {', '.join(install(chosen, job, home=Path.home()))}")


@schedule_app.command("uninstall")
def schedule_uninstall(
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    kind: KindOption = None,
) -> None:
    """Remove what `install` wrote, and nothing else.

    Example: varro schedule uninstall --config configs/live.toml
    """
    from varro.service.schedule import uninstall

    job = _job(resolve_config(config, overrides, home=home, run=run), [])
    found = uninstall(_kind(kind), job, home=Path.home())
    print(f"removed: {', '.join(found)}" if found else "nothing was installed")


@schedule_app.command("status")
def schedule_status(
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    kind: KindOption = None,
    as_json: JsonOption = False,
) -> None:
    """Whether it is installed, and when the next cycle is due.

    Example: varro schedule status --json
    """
    from varro.service.schedule import installed
    from varro.service.status import describe_schedule

    resolved = resolve_config(config, overrides, home=home, run=run, seed=seed)
    job = _job(resolved, as_arguments(config, overrides, home=home, run=run, seed=seed))
    chosen = _kind(kind)
    facts = {
        "kind": chosen,
        "installed": installed(chosen, job, home=Path.home()),
        **describe_schedule(resolved, datetime.now(UTC)),
    }
    print_result(as_json, facts, "\n".join(f"{key:>14}  {value}" for key, value in facts.items()))


schedule_app.command("run", help="Run now what is due: the same as `varro tick`.\n\nExample: "
                     "varro schedule run --config configs/live.toml")(tick)  # fmt: skip


def _refuse_cluster() -> None:
    from varro.errors import ConfigError
    from varro.launch import launched_backend

    if launched_backend() is not None:
        raise ConfigError(
            "tick and serve are one process; for several, have a scheduler call the launcher with "
            "'varro train-day --catch-up', see docs/cluster.md"
        )


def _job(config: Config, arguments: list[str]) -> Job:
    from varro.service.schedule import Job
    from varro.service.slots import load_timetable

    due = load_timetable(config.schedule).following(datetime.now(UTC)).at
    return Job(
        name=config.run.name,
        command=(sys.executable, "-m", "varro.cli", "tick", "--quiet", *arguments),
        folder=Path.cwd(),
        log=config.home / "logs" / f"{config.run.name}.tick.log",
        every_min=config.schedule.wake_every_min,
        at=due.astimezone().time(),
    )


def _kind(wanted: str | None) -> Kind:
    from varro.errors import ConfigError
    from varro.service.schedule import kind_of_this_system

    if wanted is None:
        return kind_of_this_system()
    if wanted not in ("launchd", "systemd", "cron"):
        raise ConfigError(f"--kind is launchd, systemd or cron, found {wanted!r}")
    return wanted  # type: ignore[return-value]


def _say(words: str) -> None:
    print(f"varro: {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {words}", file=sys.stderr, flush=True)
