"""Verbs that keep a home's state safe: backup, restore, rollback."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from varro.cli_options import (
    ConfigOption,
    HomeOption,
    JsonOption,
    RunOption,
    SetOption,
    print_result,
    resolve_config,
)


def backup(
    target: Annotated[Path, typer.Argument(help="A new folder.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    without_bodies: Annotated[
        bool, typer.Option("--no-bodies", help="Leave out the feed bodies that are kept.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy ledger, checkpoints and feed bodies to a new folder, verified, while a day goes on.

    Example: varro backup /media/disk/varro-2026-11-27
    """
    from varro.service.backup import back_up

    resolved = resolve_config(config, overrides, home=home)
    made = back_up(
        resolved.home,
        target.resolve(),
        made_at=datetime.now(UTC),
        with_bodies=not without_bodies,
        url=resolved.ledger.url,
    )
    n, n_bodies = len(made.checkpoints), len(made.bodies)
    bodies = f" and {n_bodies} feed bod{'ies' if n_bodies > 1 else 'y'}" if n_bodies else ""
    left = "".join(f"\nleft out {path}: {why}" for path, why in made.left_out.items())
    print_result(
        as_json,
        {"backup": str(target.resolve()), **asdict(made)},
        f"backup: {target}, the ledger, {n} checkpoint{'s' * (n != 1)}{bodies}, verified{left}",
    )


def restore(
    source: Annotated[Path, typer.Argument(help="A folder that 'varro backup' has made.")],
    home: Annotated[Path, typer.Option("--home", help="A new folder, to be the home.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new home of a backup, verified; going on there is going on from the backup. Where
    `ledger.url` is set, its ledger goes into that database.

    Example: varro restore /media/disk/varro-2026-11-27 --home var/restored
    """
    from varro.service.backup import restore as restore_backup

    resolved = resolve_config(config, overrides, home=home)
    made = restore_backup(source.resolve(), home.resolve(), url=resolved.ledger.url)
    print_result(
        as_json,
        {"home": str(home.resolve()), **asdict(made)},
        f"home: {home}, as of {made.made_at}; go on with 'varro train-day --home {home}' "
        "and the --config and --run of the run",
    )


def rollback(
    to: Annotated[
        int | None, typer.Option("--to", min=0, help="Version; default the newest one's parent.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the weights of an earlier version again, as a new version.

    Example: varro rollback --to 12
    """
    from varro.run import open_run
    from varro.service.rollback import roll_back

    resolved = resolve_config(config, overrides, home=home, run=run)
    with open_run(resolved, now=datetime.now(UTC)) as work:
        made = roll_back(work, to)
    print_result(
        as_json,
        asdict(made),
        f"v{made.version} of run {made.run!r} has the weights of v{made.parent}",
    )
