"""The verb that makes the public site, and verifies it: publish."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from varro.errors import ConfigError, SiteError

if TYPE_CHECKING:
    from varro.config import Config


def publish(
    site: Annotated[
        Path | None, typer.Argument(help="The same as --out, to be given after --verify.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the site; default `site` in home.")
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Only recompute a site's chain and pages, and write nothing."
        ),
    ] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Render every page again, also of days as they were.")
    ] = False,
    workflow: Annotated[
        Path | None,
        typer.Option("--workflow", help="Only write a GitHub Pages workflow for the site there."),
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the public site of a run, forecasts bound by a chain of hashes before their outcome.

    Exit 14 if what was published is not what the ledger or the chain says.

    Example: varro publish --out site
    """
    if site is not None and out is not None:
        raise ConfigError(f"the site's folder is given twice, {site} and {out}")
    if verify and (anew or workflow is not None):
        raise ConfigError("--verify writes nothing: give it without --anew and --workflow")
    if workflow is not None:
        _write_workflow(workflow, site or out or Path("site"), as_json)
        return
    resolved = resolve_config(config, overrides, home=home, run=run)
    folder = (site or out or resolved.home / "site").resolve()
    if verify:
        _verify(resolved, folder, as_json)
        return
    from varro.service.site import publish as publish_run

    made = publish_run(resolved, folder, datetime.now(UTC), anew=anew)
    counts = ", ".join(f"{status} {n:,}" for status, n in made.counts.items())
    late = f"\n{made.n_late:,} forecasts were published after they were due" if made.n_late else ""
    print_result(
        as_json,
        asdict(made) | {"folder": str(folder)},
        f"site: {folder / 'index.html'}\n"
        f"{made.n_forecasts:,} forecasts of {made.n_days} days, {made.n_new_days} new: {counts}\n"
        f"{made.n_written:,} files written, {made.n_unchanged:,} as they were\n"
        f"head of the chain: place {made.place}, {made.head}{late}",
    )


def _verify(resolved: Config, folder: Path, as_json: bool) -> None:
    from varro.service.site import verify as verify_run

    found, ledger = verify_run(resolved, folder, datetime.now(UTC))
    lines = [f"not as it was published: {problem}" for problem in found.problems]
    if found.n_late:
        days = found.late_days
        span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        lines.append(
            f"not before outcome: {found.n_late:,} forecasts of {len(days)} days ({span}) were "
            "published after they were due"
        )
    lines.append(
        f"{found.n_forecasts:,} forecasts of {found.n_days} days, head at place {found.place}: "
        f"{found.head}"
    )
    lines.append(
        f"compared with {ledger}" if ledger else "compared with no ledger: there is none of its run"
    )
    print_result(
        as_json,
        asdict(found) | {"folder": str(folder), "ledger": ledger, "ok": not found.problems},
        "\n".join(lines),
    )
    if found.problems:
        raise SiteError(
            f"{folder}: {len(found.problems)} things are not as they were published, the first: "
            f"{found.problems[0]}"
        )


def _write_workflow(file: Path, folder: Path, as_json: bool) -> None:
    from varro.files import disk_errors, write_file
    from varro.site.workflow import pages_workflow

    text = pages_workflow(folder)
    if file.exists() and file.read_bytes() != text.encode():
        raise ConfigError(f"{file} is there already and says something else; name another file")
    with disk_errors(f"cannot write {file}"):
        write_file(file, text.encode())
    print_result(as_json, {"workflow": str(file)}, f"workflow: {file}; it deploys {folder}")
