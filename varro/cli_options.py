"""What the verbs share: options, the configuration they name, and how a result is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from varro.config import Config

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file; default configs/embedded.toml.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key, e.g. --set update.lr=1e-5.")
]
HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Folder of ledger, checkpoints and reports.")
]
RunOption = Annotated[str | None, typer.Option("--run", help="Name of the run.")]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the run.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def resolve_config(
    path: Path | None,
    overrides: list[str] | None,
    *,
    home: Path | None = None,
    run: str | None = None,
    seed: int | None = None,
) -> Config:
    """The configuration of a file, or of the default one, with a command line's options on top."""
    from varro.config import default_config_path, load_config

    layers = list(overrides or [])
    if home is not None:
        layers.append(f"home={json.dumps(str(home.resolve()), ensure_ascii=False)}")
    if run is not None:
        layers.append(f"run.name={json.dumps(run)}")
    if seed is not None:
        layers.append(f"run.seed={seed}")
    if path is None:
        path = default_config_path()
        installed = path.parent.parent == Path(__file__).resolve().parent
        if installed and home is None:
            layers.append(f"home={json.dumps(str(Path.cwd() / 'var'), ensure_ascii=False)}")
    return load_config(path, tuple(layers))


def as_arguments(
    path: Path | None,
    overrides: list[str] | None,
    *,
    home: Path | None,
    run: str | None,
    seed: int | None,
) -> list[str]:
    """The same options for another process in the same folder."""
    named = {"--config": path and path.resolve(), "--home": home and home.resolve(), "--run": run}
    named["--seed"] = None if seed is None else str(seed)
    given = [part for key, value in named.items() if value for part in (key, str(value))]
    return given + [part for text in overrides or [] for part in ("--set", text)]


def print_result(as_json: bool, value: Any, text: str) -> None:
    print(json.dumps(value, indent=2, allow_nan=False) if as_json else text)
