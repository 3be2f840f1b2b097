"""Going back: a new version with the weights of an earlier one. Versions only ever go up."""

from __future__ import annotations

from varro.config import render_toml
from varro.domain import CheckpointInfo
from varro.errors import CheckpointError, DamagedCheckpointError, StageError
from varro.run import OpenRun, load_bare_policy


def roll_back(work: OpenRun, to: int | None) -> CheckpointInfo:
    """Publish the weights, optimiser and reference of version `to` (None: of the version before the
    newest one's weights, so that going back twice goes back two) as the newest version, with `to`
    for its parent.

    What the version that is left behind has forecast will be settled and not trained on.
    Raises: StageError if the run has no such version, or a day is half done; CheckpointError if the
    folder of `to` was removed or is damaged.
    """
    from varro.policy.checkpoint import load_checkpoint, publish_checkpoint

    newest, wanted = _versions(work, to)
    policy = load_bare_policy(work.config)
    try:
        trainer = load_checkpoint(work.home, policy, path=wanted.path, sha256=wanted.sha256)
    except DamagedCheckpointError as error:
        kept = [c.version for c in work.ledger.checkpoints(work.name) if _is_there(work, c)]
        raise CheckpointError(
            f"v{wanted.version} cannot be gone back to: {error}; "
            f"kept are {', '.join(f'v{v}' for v in kept) or 'none'}"
        ) from error
    day = work.ledger.days_done(work.name)[-1]
    path, sha256 = publish_checkpoint(
        work.home,
        policy,
        trainer,
        run=work.name,
        version=newest.version + 1,
        parent=wanted.version,
        day=day,
        seed=work.config.run.seed,
        config_toml=render_toml(work.config),
    )
    made = CheckpointInfo(work.name, newest.version + 1, wanted.version, day, path, sha256)
    work.ledger.add_checkpoint(made)
    return made


def _versions(work: OpenRun, to: int | None) -> tuple[CheckpointInfo, CheckpointInfo]:
    """(newest version, the one to go back to)"""
    newest = work.ledger.checkpoint(work.name)
    if newest is None:
        raise StageError(f"run {work.name!r} has no version to go back to yet")
    begun = work.ledger.days_begun(work.name)[-1]
    if begun not in work.ledger.days_done(work.name):
        raise StageError(
            f"day {begun} of run {work.name!r} is half done; finish it with 'varro train-day', "
            "then roll back"
        )
    version = _before(work, newest) if to is None else to
    if version is None:
        raise StageError(f"v{newest.version} has the first weights; there are none before it")
    if version == newest.version:
        raise StageError(f"v{version} is the newest version already")
    wanted = work.ledger.checkpoint(work.name, version)
    if wanted is None:
        raise StageError(
            f"run {work.name!r} has no version {version}; the newest is {newest.version}"
        )
    return newest, wanted


def _before(work: OpenRun, newest: CheckpointInfo) -> int | None:
    """The parent of the version whose weights the newest one has."""
    of_old = {c.version: c.parent for c in work.ledger.rollbacks(work.name)}
    version: int | None = newest.version
    while version in of_old:
        version = of_old[version]
    return next(
        (c.parent for c in work.ledger.checkpoints(work.name) if c.version == version), None
    )


def _is_there(work: OpenRun, checkpoint: CheckpointInfo) -> bool:
    return (work.home / checkpoint.path / "manifest.json").exists()
