"""The verbs of the service: what wakes it, and what it does when it is woken."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from functools import partial
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
    from varro.service.schedule import Kind
    from varro.service.tick import RunDay

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

    Safe to be called at any time and any number of times. Exit code 12: done, but a day's news was
    too thin to be trained on. Example: varro tick --config configs/live.toml
    """
    from varro.errors import DEGRADED
    from varro.service.tick import in_words
    from varro.service.tick import tick as do_tick

    resolved, run_day = _day_service(config, overrides, home=home, run=run, seed=seed)
    is_left, code = True, 0
    while is_left:
        state = do_tick(resolved, run_day, clock=lambda: datetime.now(UTC), complain=_say)
        if state.cycle is not None or not quiet:
            print(in_words(state), flush=True)
        code = state.exit_code or code
        is_left = state.left is not None and code in (0, DEGRADED)
    if code:
        raise typer.Exit(code)


def serve(
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    web: Annotated[
        bool, typer.Option("--web", help="Show reports and what is going on to a browser here.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Of --web, on 127.0.0.1; default 8321, 0: any."),
    ] = None,
) -> None:
    """Stay, and run each cycle when it falls due; ends on SIGTERM or Ctrl-C.

    With --web the address of the live view is said once; the token in it is for its buttons.
    Example: varro serve --config configs/live.toml --web
    """
    from varro.errors import ConfigError
    from varro.service.serve import serve as do_serve

    if port is not None and not web:
        raise ConfigError("--port is of --web: give both, or neither")
    resolved, run_day = _day_service(config, overrides, home=home, run=run, seed=seed)
    if not web:
        do_serve(resolved, run_day, clock=_now, say=_say)
        return
    from varro.web.server import live_view

    port = 8321 if port is None else port
    beside = partial(live_view, resolved, port=port, say=_say)
    do_serve(resolved, run_day, clock=_now, say=_say, beside=beside)


def pause(
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
) -> None:
    """Have `tick` and `serve` begin nothing until `varro resume`; a day at work is finished.

    Wake-ups and alerts go on, and status and doctor tell of it. Example: varro pause --run main
    """
    from varro.service.pause import pause as do_pause

    resolved = resolve_config(config, overrides, home=home, run=run)
    found = do_pause(resolved.home, resolved.run.name, now=datetime.now(UTC), by="'varro pause'")
    print(f"{resolved.run.name} in {resolved.home} is {found}")


def resume(
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
) -> None:
    """End a pause: what is due is run at the next wake-up, or by `varro tick` now.

    Example: varro resume --run main
    """
    from varro.service.pause import resume as do_resume

    resolved = resolve_config(config, overrides, home=home, run=run)
    found = do_resume(resolved.home, resolved.run.name)
    told = f"goes on, was {found}" if found else "was not paused"
    print(f"{resolved.run.name} in {resolved.home} {told}")


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
    """Have this system call `varro tick` from now on; says what is to be done for it to go on after
    a logout and a restart.

    Example: varro schedule install --config configs/live.toml --print
    """
    from varro.service.schedule import install, job_of, remark, render

    resolved = resolve_config(config, overrides, home=home, run=run, seed=seed)
    arguments = as_arguments(config, overrides, home=home, run=run, seed=seed)
    job = job_of(resolved, arguments, now=datetime.now(UTC))
    chosen = _kind(kind)
    if only_print:
        for path, content in render(chosen, job, home=Path.home()).items():
            print(f"# {path}\n{content.decode()}")
        return
    print(f"installed for {chosen}: {', '.join(install(chosen, job, home=Path.home()))}")
    told = remark(chosen)
    if told:
        print(told)


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
    from varro.service.schedule import job_of, uninstall

    resolved = resolve_config(config, overrides, home=home, run=run)
    job = job_of(resolved, [], now=datetime.now(UTC))
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
    from varro.service.schedule import installed_here
    from varro.service.status import describe_schedule

    resolved = resolve_config(config, overrides, home=home, run=run, seed=seed)
    arguments = as_arguments(config, overrides, home=home, run=run, seed=seed)
    now = datetime.now(UTC)
    facts = {
        **installed_here(resolved, arguments, now=now, kind=_kind(kind)),
        **describe_schedule(resolved, now),
    }
    print_result(as_json, facts, "\n".join(f"{key:>14}  {value}" for key, value in facts.items()))


schedule_app.command("run", help="Run now what is due: the same as `varro tick`.\n\nExample: "
                     "varro schedule run --config configs/live.toml")(tick)  # fmt: skip


def _day_service(
    path: Path | None,
    overrides: list[str] | None,
    *,
    home: Path | None,
    run: str | None,
    seed: int | None,
) -> tuple[Config, RunDay]:
    """The configuration, and what runs a day of it in a process of its own.

    Raises: ConfigError under a launcher of clusters.
    """
    from varro.errors import ConfigError
    from varro.launch import launched_backend
    from varro.service.tick import day_process

    if launched_backend() is not None:
        raise ConfigError(
            "tick and serve are one process; for several, have a scheduler call the launcher with "
            "'varro train-day --catch-up', see docs/cluster.md"
        )
    config = resolve_config(path, overrides, home=home, run=run, seed=seed)
    arguments = as_arguments(path, overrides, home=home, run=run, seed=seed)
    return config, day_process(arguments, limit=timedelta(hours=config.schedule.max_run_h))


def _kind(wanted: str | None) -> Kind:
    from varro.errors import ConfigError
    from varro.service.schedule import kind_of_this_system

    if wanted is None:
        return kind_of_this_system()
    if wanted not in ("launchd", "systemd", "cron"):
        raise ConfigError(f"--kind is launchd, systemd or cron, found {wanted!r}")
    return wanted  # type: ignore[return-value]


def _now() -> datetime:
    return datetime.now(UTC)


def _say(words: str) -> None:
    print(f"varro: {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {words}", file=sys.stderr, flush=True)
