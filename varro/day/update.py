"""Update: train on what was settled, if there is enough and nothing is wrong; then publish."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from varro.day.advantages import advantage_rows, day_advantages
from varro.day.back_to_base import go_back_to_base, worse_than_base
from varro.day.conduct import judge_trained
from varro.day.publish import publish_version
from varro.day.timing import begin_stage, timed_stage
from varro.domain import Role, SettledGroup, Stage, UpdateInfo
from varro.evaluation.claim import claim
from varro.lineage import refuse_full_disk
from varro.run import OpenRun, live_policy
from varro.service.slots import DueDay
from varro.training.advantage import Advantages
from varro.training.leash import RESET_AFTER, should_reset_reference


def update_day(work: OpenRun, due: DueDay) -> None:
    """Update and publish end in one transaction: an update without its checkpoint is no update."""
    from varro.training.update import (
        n_update_ticks,
        reset_reference,
        undo_update,
        update_policy,
    )

    config = work.config
    policy = live_policy(work)
    refuse_full_disk(work.home, policy.trained_bytes(), config.checkpoints)
    settled = work.ledger.settled_groups(work.name, day=due.day, role=Role.TRAIN)
    fresh = [s for s in settled if s.group.policy_version == policy.version]
    n_stale = len(settled) - len(fresh)
    if worse := worse_than_base(work, due):
        go_back_to_base(work, due, worse, n_stale=len(settled))
        return
    total = n_update_ticks(len(fresh))
    with timed_stage(work, due, Stage.UPDATE, total=total, unit="passes") as timing:
        detail: dict[str, Any] = {"updated": False, "n_stale": n_stale}
        result = None
        earned: Advantages | None = None
        if reason := _why_no_update(work, due, fresh, n_stale=n_stale):
            detail["reason"] = reason
        else:
            earned, facts = day_advantages(work, due, fresh)
            parent_arrays = policy.adapter()  # the optimiser makes new ones and leaves these be
            result = update_policy(
                policy,
                [item.group for item in fresh],
                earned.total,
                work.trainer,
                low_variance=earned.low_variance,
                config=config.update,
                leash=config.leash,
                guard=config.guard,
                temperature=config.sampling.temperature,
                seed_parts=(config.run.seed, due.day),
                on_group=lambda: work.progress.advanced(1),
            )
            result.metrics.update(facts)
            if not result.refused:
                verdict = judge_trained(work, due)
                result.metrics["guard"].append(str(verdict))
                if verdict.action != "accept":
                    result = undo_update(
                        policy, parent_arrays, work.trainer, result, verdict, config=config.update
                    )
            if result.refused:
                detail |= {
                    "reason": f"refused: {result.refused}",
                    "metrics": {k: v for k, v in result.metrics.items() if _is_finite(v)},
                    "policy_version": policy.version,
                    "trainer_next": result.state.numbers(),
                }
                work.trainer = result.state
        if result is None or result.refused:
            update_row = timing.row(detail)
            if work.ledger.checkpoint(work.name) is None:
                checkpoint, publish = publish_version(
                    work, due, work.trainer, version=0, parent=None
                )
            else:
                checkpoint, publish = None, begin_stage(work, due, Stage.PUBLISH).row({})
            work.ledger.finish_stage(update_row, checkpoint=checkpoint, also=[publish])
            timing.summary = f"no update: {detail['reason']}"
            return
        metrics = result.metrics
        newest = work.ledger.checkpoint(work.name)
        # Not the live version's successor if newer ones were damaged: a version has one meaning.
        parent, version = policy.version, 1 + (newest.version if newest else policy.version)
        metrics["reference_reset"] = _reset_is_due(work, due, metrics)
        if metrics["reference_reset"]:
            result = replace(result, state=reset_reference(policy, result.state))
            metrics["guard"].append(f"reset: v{version} is its own reference now")
        update_row = timing.row(detail | {"updated": True})
        checkpoint, publish = publish_version(
            work, due, result.state, version=version, parent=parent
        )
        work.ledger.finish_stage(
            update_row,
            update=UpdateInfo(work.name, due.day, parent, version, metrics),
            advantages=advantage_rows(work, due, fresh, earned),
            checkpoint=checkpoint,
            also=[publish],
        )
        policy.version, work.trainer, work.damaged = version, result.state, ()
        timing.summary = (
            f"v{parent} → v{version}: kl_ref {metrics['kl_ref']:.3f}, clip "
            f"{metrics['clip_frac']:.0%}, {metrics['tokens_per_s']:.0f} tokens/s"
        )


def _why_no_update(
    work: OpenRun, due: DueDay, fresh: Sequence[SettledGroup], *, n_stale: int
) -> str | None:
    """Why the settled groups of the live policy must not be trained on, or None."""
    settle = work.ledger.stage_run(work.name, due.day, Stage.SETTLE)
    ingest = work.ledger.stage_run(work.name, due.day, Stage.INGEST)
    notes = settle.detail if settle else {}
    needed = work.config.update.min_groups
    if broken := (notes.get("canaries") or {}).get("broken"):
        return f"the canaries are out of order: exact is not above {broken}"
    if degraded := ingest and ingest.detail.get("degraded"):
        return f"the day is degraded: {degraded}"
    if len(fresh) < needed:
        refused = "; ".join(f"{d} was refused: {why}" for d, why in notes["refused"].items())
        return refused or (
            f"{len(fresh)} settled groups of the live policy, {needed} are needed"
            + (f"; {n_stale} of another version" if n_stale else "")
        )
    if _n_scored(fresh) < needed:
        return (
            f"{_n_scored(fresh)} groups have a semantic reward, {needed} are needed: there are too "
            "few placebo days yet, or nothing was published about them"
        )
    return None


def _n_scored(settled: Sequence[SettledGroup]) -> int:
    """Groups with a semantic reward: training on form alone is not what the weights say."""
    return sum(all("semantic" in s.components for s in item.settlements) for item in settled)


def _reset_is_due(work: OpenRun, due: DueDay, metrics: dict[str, Any]) -> bool:
    """Whether the policy that has just been trained becomes the leash's reference."""
    config = work.config
    if not config.leash.reset or metrics["kl_ref"] <= config.leash.dead_band[1]:
        return False
    updated = [
        s.day
        for s in work.ledger.stage_runs(work.name, stage=Stage.UPDATE)
        if s.day < due.day and s.detail["updated"]
    ]
    past = [work.ledger.update(work.name, day) for day in updated[-(RESET_AFTER - 1) :]]
    claimed = claim(
        work.ledger.evaluations(work.name, until=due.day),
        seed=config.run.seed,
        n_bootstrap=config.evaluate.n_bootstrap,
    )
    state = work.trainer
    return should_reset_reference(
        [*(u.metrics["kl_ref"] for u in past if u), metrics["kl_ref"]],
        above=config.leash.dead_band[1],
        n_since_reset=None if state.last_reset is None else state.n_updates + 1 - state.last_reset,
        canaries_fine=True,  # else the day would not have trained
        lift_proven=claimed["word"] == "learned",
    )


def _is_finite(value: Any) -> bool:
    """JSON has no NaN; a metric that is not finite is left out, the reason names it."""
    return not isinstance(value, float) or math.isfinite(value)
