"""The verb that sets runs beside each other: compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from varro.cli_options import (
    ConfigOption,
    HomeOption,
    JsonOption,
    SetOption,
    print_result,
    resolve_config,
)
from varro.errors import ConfigError


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN…", help="Names of runs; HOME:RUN for one of another home."),
    ],
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for compare.html, compare.md, compare.csv.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="html, md or csv; default md, with --out all three."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Runs beside each other: the essay's figures, lift, best of k, paired differences, settings.

    Each run is compared with the first. Example:
    varro compare main main-placebo ../other/var:main --out var/compared
    """
    from varro.files import disk_errors, write_file
    from varro.report.compare import FORMATS, render_comparison
    from varro.service.compare import compare_runs

    if form is not None and form not in FORMATS:
        raise ConfigError(f"--format wants {', '.join(FORMATS)}, found {form!r}")
    found = compare_runs(resolve_config(config, overrides, home=home), runs)
    if out is None:
        print_result(as_json, found, render_comparison(found, form or "md").rstrip("\n"))
        return
    texts = {f: render_comparison(found, f) for f in ((form,) if form else FORMATS)}
    with disk_errors(f"cannot write to {out}"):
        for ending, text in texts.items():
            write_file(out / f"compare.{ending}", text.encode())
    lines = [f"{ending}: {out / f'compare.{ending}'}" for ending in texts]
    print_result(as_json, found, "\n".join(lines))
