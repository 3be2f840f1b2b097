"""The commands that a day's page gives: whole, so that they run from any folder and in any home, a
restored one too. Pure."""

from __future__ import annotations

import shlex

from varro.config import Config
from varro.domain import CheckpointInfo


def reproduce_command(config: Config, run: str, day: str, checkpoint: CheckpointInfo | None) -> str:
    """What makes the day again, in a run beside it; live news cannot be had again, only shown."""
    home = str(config.home)
    if config.news.source != "archive" or checkpoint is None:
        return shlex.join(["varro", "show", day, "--home", home, "--run", run])
    return shlex.join([
        "varro", "replay", *_of(config, checkpoint), "--archive", str(config.news.archive),
        "--to", day, "--run", f"{run}-again",
    ])  # fmt: skip


def rollback_command(
    config: Config, run: str, checkpoint: CheckpointInfo | None, *, to: int | None
) -> str | None:
    """What serves the weights of version `to` again; None if there is nothing before it."""
    if checkpoint is None or checkpoint.parent is None or to is None:
        return None
    options = _of(config, checkpoint)
    return shlex.join(["varro", "rollback", *options, "--to", str(to), "--run", run])


def _of(config: Config, checkpoint: CheckpointInfo) -> list[str]:
    """The configuration that lies beside a version, whose home may have been moved since."""
    file = config.home / checkpoint.path / "config.toml"
    return ["--config", str(file), "--home", str(config.home)]
