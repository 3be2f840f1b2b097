"""Publish: the policy's weights as a version, its files durable before the ledger names them."""

from __future__ import annotations

from typing import Any

from varro.config import render_toml
from varro.day.timing import begin_stage
from varro.domain import CheckpointInfo, Stage, StageRun
from varro.run import OpenRun
from varro.service.slots import DueDay


def publish_version(
    work: OpenRun, due: DueDay, state: Any, *, version: int, parent: int | None
) -> tuple[CheckpointInfo, StageRun]:
    """Write a version's files; its rows are the caller's to commit, with what made it."""
    from varro.policy.checkpoint import publish_checkpoint

    timing = begin_stage(work, due, Stage.PUBLISH)
    work.ledger.check_lease()  # files are replaced before the ledger is asked
    path, sha256 = publish_checkpoint(
        work.home,
        work.policy,
        state,
        run=work.name,
        version=version,
        parent=parent,
        day=due.day,
        seed=work.config.run.seed,
        config_toml=render_toml(work.config),
    )
    return (
        CheckpointInfo(work.name, version, parent, due.day, path, sha256),
        timing.row({"version": version}),
    )
