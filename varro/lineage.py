"""A run's checkpoints over time: which one is live, which are kept, and going back to one.

The ledger's rows stand for ever; folders do not. The live version is the newest whose files are
what was written. If they are not, its parent serves instead, and every stage that uses it says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from varro.config import CheckpointsConfig
from varro.domain import CheckpointInfo
from varro.errors import CheckpointError, DamagedCheckpointError, DiskError
from varro.files import remove_folder
from varro.ledger.store import Ledger

if TYPE_CHECKING:
    from varro.policy.checkpoint import TrainerState
    from varro.policy.load import Policy

_SHARES = 4
"""a checkpoint holds what trains, its two moments, and a reference at most"""


@dataclass(frozen=True)
class Damaged:
    """A published version that can not be used any more."""

    version: int
    day: str
    """whose update made it: what was learned that day is lost"""
    reason: str


@dataclass(frozen=True)
class Live:
    """The version that was put into the policy."""

    checkpoint: CheckpointInfo
    trainer: TrainerState
    damaged: tuple[Damaged, ...]
    """newer versions that could not be used, newest first"""


def load_live(home: Path, ledger: Ledger, policy: Policy, newest: CheckpointInfo) -> Live:
    """Put the newest version whose files are whole into the policy, going from parent to parent.

    Raises: CheckpointError if no ancestor is whole, or one is of another kind than the policy.
    """
    from varro.policy.checkpoint import load_checkpoint

    checkpoint = newest
    damaged: list[Damaged] = []
    while True:
        try:
            trainer = load_checkpoint(home, policy, path=checkpoint.path, sha256=checkpoint.sha256)
            return Live(checkpoint, trainer, tuple(damaged))
        except DamagedCheckpointError as error:
            damaged.append(Damaged(checkpoint.version, checkpoint.day, str(error)))
            parent = checkpoint.parent
            found = None if parent is None else ledger.checkpoint(newest.run, parent)
            if found is None:
                raise CheckpointError(
                    f"{error}; no version of run {newest.run!r} is whole, so there is none to go "
                    "back to: restore the folder from a backup"
                ) from error
            checkpoint = found


def kept_versions(
    checkpoints: Sequence[CheckpointInfo],
    config: CheckpointsConfig,
    *,
    live: int,
    reference: int | None,
) -> set[int]:
    """The versions whose folders stay: 0, `live` and its parent, the one that is the leash's
    `reference` (None: the frozen base), the newest, and the last of each month."""
    parents = {c.version: c.parent for c in checkpoints}
    by_age = sorted(parents)
    kept = {0, live, parents.get(live), reference, *by_age[-config.keep_newest :]}
    if config.keep_monthly:
        last_of_month = {c.day[:7]: c.version for c in sorted(checkpoints, key=lambda c: c.version)}
        kept |= set(last_of_month.values())
    return {version for version in kept if version in parents}


def remove_versions(home: Path, checkpoints: Sequence[CheckpointInfo]) -> None:
    """Remove the folders of some versions; of one that is gone there is nothing to remove."""
    for checkpoint in checkpoints:
        remove_folder(home / checkpoint.path)


def refuse_full_disk(home: Path, trained: int, config: CheckpointsConfig) -> None:
    """Stop before anything is trained that could not be written; `trained` bytes do train.

    Raises: DiskError if there is no room for a checkpoint and `min_free_gb` beside it.
    """
    needed = _SHARES * trained + config.min_free_gb * 1e9
    free = shutil.disk_usage(home).free
    if free < needed:
        raise DiskError(
            f"{free / 1e9:.2f} GB are free in {home}, {needed / 1e9:.2f} GB are needed for a "
            "checkpoint and a day's rows; make room and run it again, or set "
            "checkpoints.min_free_gb"
        )
