"""The version that is exported: its ledger row, its verified folder, the base it belongs to."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from varro.config import Config
from varro.domain import CheckpointInfo, RunInfo
from varro.errors import CheckpointError, ConfigError, DamagedCheckpointError, StageError
from varro.files import sha256_file
from varro.ledger.place import in_words, is_begun, ledger_place
from varro.ledger.store import Ledger, open_ledger
from varro.policy.manifest import verify_checkpoint

WEIGHTS = "adapters.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Chosen:
    """One published version, verified."""

    run: RunInfo
    checkpoint: CheckpointInfo
    folder: Path
    base: str
    """hub id of the base, or the name of its folder: never a path of this machine"""
    base_sha256: str
    adapter: dict[str, Any]
    """what `adapter_config.json` holds"""

    @property
    def is_full(self) -> bool:
        """Every weight was trained: there is no adapter."""
        return bool(self.adapter["fine_tune_type"] == "full")

    @property
    def rank(self) -> int:
        return int(self.adapter["lora_parameters"]["rank"])

    @property
    def scale(self) -> float:
        """MLX's: alpha / rank"""
        return float(self.adapter["lora_parameters"]["scale"])


@contextmanager
def opened_ledger(config: Config) -> Iterator[tuple[Ledger, RunInfo]]:
    """The ledger and the run that a configuration names, to be read: a day may go on meanwhile.

    Raises: StageError if there is no such ledger or run.
    """
    place = ledger_place(config)
    if not is_begun(place):
        raise StageError(f"no ledger at {in_words(place)}; begin with 'varro train-day'")
    with open_ledger(place) as ledger:
        run = ledger.run(config.run.name)
        if run is None:
            known = ", ".join(repr(r.name) for r in ledger.runs()) or "none"
            raise StageError(
                f"no run {config.run.name!r} in {in_words(place)}; it has {known}: name one with "
                "--run"
            )
        yield ledger, run


def choose(config: Config, ledger: Ledger, run: RunInfo, version: int | None) -> Chosen:
    """One version of a run, or its newest, after every file of it was held against its sha256.

    Raises: CheckpointError if there is none, or it is not what was published; ConfigError if the
    configuration names another base than the run's.
    """
    checkpoint = ledger.checkpoint(run.name, version)
    if checkpoint is None:
        newest = ledger.checkpoint(run.name)
        raise CheckpointError(
            f"run {run.name!r} has no checkpoint yet; the first is published with the first update"
            if newest is None
            else f"run {run.name!r} has no version {version}; its newest is {newest.version}"
        )
    folder = config.home / checkpoint.path
    try:
        verify_checkpoint(folder, checkpoint.sha256)
    except DamagedCheckpointError as error:
        kept = ", ".join(
            str(c.version) for c in ledger.checkpoints(run.name) if (config.home / c.path).exists()
        )
        raise DamagedCheckpointError(
            f"v{checkpoint.version} is not exported: {error}; versions with a folder: "
            f"{kept or 'none'}, see --version"
        ) from error
    adapter, state = (_read(folder / name) for name in (ADAPTER_CONFIG, "state.json"))
    _refuse_another_base(config, run)
    return Chosen(
        run=run,
        checkpoint=checkpoint,
        folder=folder,
        base=hub_id(config.policy.model) or Path(config.policy.model).name,
        base_sha256=state["base_sha256"],
        adapter=adapter,
    )


def copy_verified(chosen: Chosen, name: str, target: Path) -> None:
    """Copy one of the version's files, and hold the copy against the manifest."""
    manifest = _read(chosen.folder / "manifest.json")
    shutil.copyfile(chosen.folder / name, target)
    if sha256_file(target) != manifest["sha256"][name]:
        raise CheckpointError(
            f"the copy of {chosen.folder / name} is not what was published; look after the disk"
        )


def mlx_adapter_config(chosen: Chosen) -> dict[str, Any]:
    """What mlx_lm reads beside an adapter, without this machine's path of the base."""
    return {**chosen.adapter, "model": chosen.base}


def hub_id(model: str) -> str | None:
    """The model's id on the hub, if that is what names it."""
    is_id = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", model)
    return model if is_id and not Path(model).exists() else None


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _refuse_another_base(config: Config, run: RunInfo) -> None:
    wanted, found = run.config.get("policy.model"), Path(config.policy.model).name
    if wanted not in (None, found):
        raise ConfigError(
            f"run {run.name!r} was trained over {wanted!r}, the configuration names {found!r}; "
            "give the run's with --config"
        )


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
