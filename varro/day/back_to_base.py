"""Back to the frozen base, where the run has been shown to be worse (`guard.back_to_base`)."""

from __future__ import annotations

from dataclasses import replace

from varro.day.publish import publish_version
from varro.day.timing import timed_stage
from varro.domain import Stage
from varro.evaluation.claim import claim
from varro.run import OpenRun
from varro.service.slots import DueDay
from varro.training.steering import bounded_lr_scale


def worse_than_base(work: OpenRun, due: DueDay) -> str | None:
    """Why the run must go back to the frozen base, or None.

    The confidence sequence over the days since it last went back lies below 0, and the controls
    hold: the same evidence by which a policy is said to have learned.
    """
    if not work.config.guard.back_to_base:
        return None
    since = max((c.day for c in work.ledger.rollbacks(work.name)), default="")
    claimed = claim(
        [e for e in work.ledger.evaluations(work.name, until=due.day) if e.day > since],
        seed=work.config.run.seed,
        n_bootstrap=work.config.evaluate.n_bootstrap,
    )
    if claimed["word"] != "worse":
        return None
    lift = claimed["lift"]
    return (
        f"worse than the frozen base over {lift['n_days']} days, lift {lift['mean']:+.4f} "
        f"[{lift['claim_low']:+.4f}, {lift['claim_high']:+.4f}]"
    )


def go_back_to_base(work: OpenRun, due: DueDay, worse: str, *, n_stale: int) -> None:
    """Publish version 0's weights as the newest version; the day trains nothing.

    Raises: CheckpointError if version 0 is missing or damaged.
    """
    from varro.policy.checkpoint import load_checkpoint

    base, newest = work.ledger.checkpoint(work.name, 0), work.ledger.checkpoint(work.name)
    assert base is not None and newest is not None  # something was compared, so both were published
    with timed_stage(work, due, Stage.UPDATE) as timing:
        state = load_checkpoint(work.home, work.policy, path=base.path, sha256=base.sha256)
        state = replace(state, lr_scale=bounded_lr_scale(work.trainer.lr_scale / 2))
        version = newest.version + 1
        detail = {"updated": False, "n_stale": n_stale, "reason": f"rolled back: {worse}"}
        update_row = timing.row(detail)
        checkpoint, publish = publish_version(work, due, state, version=version, parent=0)
        work.ledger.finish_stage(update_row, checkpoint=checkpoint, also=[publish])
        work.policy.version, work.trainer, work.damaged = version, state, ()
        timing.summary = f"v{version} has the frozen base's weights again: {worse}"
