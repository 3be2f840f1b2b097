"""Replay: an archive's days one after another under an as-of clock, and the table across them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np

from varro.config import Config
from varro.day import due_days, end_of_day, run_day
from varro.domain import EvaluationInfo, Stage, degraded_days
from varro.errors import FeedError
from varro.evaluation.claim import claim, pooled_accuracy
from varro.ledger.store import Ledger
from varro.report.metrics import CONTROLS
from varro.run import OpenRun
from varro.service.apart import run_day_apart
from varro.service.pause import load_pause
from varro.service.slots import DueDay

SETTLE_KEYS = ("format", "semantic", "placebo", "copy_frac", "repetition_frac", "words")
UPDATE_KEYS = ("kl_ref", "clip_frac", "entropy", "share_format", "share_semantic")


def replay_days(work: OpenRun, *, first: date | None, last: date | None) -> list[str]:
    """Run every archive day in [first, last] that is not done; returns the days without headlines.

    Raises: FeedError if the range holds no headline at all.
    """
    assert work.archive is not None
    days = [d for d in work.archive.days() if (not first or d >= first) and (not last or d <= last)]
    if not days:
        span = f"{first or 'its first day'} to {last or 'its last day'}"
        known = work.archive.days()
        raise FeedError(
            f"{work.archive.path}: no headline first seen from {span}; it spans {known[0]} to "
            f"{known[-1]}"
        )
    done = set(work.ledger.days_done(work.name))
    for day in days:
        if day.isoformat() not in done:
            _run_whole(work, DueDay(day.isoformat(), end_of_day(day)))
    start, end = first or days[0], last or days[-1]
    span_days = [date.fromordinal(n) for n in range(start.toordinal(), end.toordinal() + 1)]
    return [d.isoformat() for d in span_days if d not in set(days)]


def run_due(
    work: OpenRun, clock: Callable[[], datetime], *, catch_up: bool = False
) -> tuple[list[str], int]:
    """Run the next due day, or all that are due: (the days that were run, how many are left).

    Live, that is the day that was stopped halfway and then one that is new. What is due is asked
    again after each: the machine may have slept through the night in the middle of it, no cycle is
    begun under a clock that has passed, and one that fell due meanwhile is left to the next call.
    A pause that begins meanwhile leaves what has not been begun.
    """
    due = due_days(work, clock())
    days: list[str] = []
    may_stop = load_pause(work.home, work.name) is None  # who calls it in a pause means it

    def is_stopped() -> bool:
        return bool(days) and may_stop and load_pause(work.home, work.name) is not None

    if work.archive is not None:
        chosen = due if catch_up else next_days(work, due)
        for day in chosen:
            if is_stopped():
                break
            _run_whole(work, day)
            days.append(day.day)
        return days, len(due) - len(days)
    is_new = False
    while due and not is_new and not is_stopped():
        is_new = due[0].day not in work.ledger.days_begun(work.name)
        _run_whole(work, due[0])
        days.append(due[0].day)
        due = due_days(work, clock())
    return days, len(due)


def _run_whole(work: OpenRun, due: DueDay) -> None:
    if work.config.memory.process_per_stage and work.cluster is None:
        run_day_apart(work, due)
    else:
        run_day(work, due)


def next_days(work: OpenRun, due: Sequence[DueDay]) -> list[DueDay]:
    """An archive's next due day; in an empty run the first few, until one has a placebo day behind
    it and something is trained."""
    begun = bool(work.ledger.days_begun(work.name))
    return list(due[: 1 if begun else 1 + work.config.evaluate.placebo_lags[0]])


def summarize(ledger: Ledger, config: Config, *, last: str | None = None) -> dict[str, Any]:
    """A run across its days: {run, seed, corpus, days: [row], total: row}.

    `reward`, `format`, `semantic`, `copy_frac`, `repetition_frac` and `words` are means over the
    training forecasts settled that day; `kl_ref`, `clip_frac`, `entropy` and the shares of the
    advantage's variance come from that day's update; `lift` is the paired difference in contrast to
    the frozen base on all headlines settled that day. Absent is None.
    """
    run = config.run.name
    info = ledger.run(run)
    evaluations = {e.day: e for e in ledger.evaluations(run, until=last)}
    updates = {u.day: u for u in ledger.updates(run)}
    degraded = degraded_days(ledger.stage_runs(run, stage=Stage.INGEST))
    rows = []
    for stage in ledger.stage_runs(run, stage=Stage.SETTLE):
        if last and stage.day > last:
            continue
        settle = stage.detail
        update = updates.get(stage.day)
        evaluation = evaluations.get(stage.day)
        rows.append(
            {
                "day": stage.day,
                "reward": settle["reward"],
                **{key: settle["components"].get(key) for key in SETTLE_KEYS},
                **{key: (update.metrics if update else {}).get(key) for key in UPDATE_KEYS},
                "null_correlation": settle["null_correlation"]["semantic"],
                "raw_null_correlation": settle["null_correlation"]["raw"],
                "lift": evaluation.lift if evaluation else None,
                "lift_low": evaluation.lift_low if evaluation else None,
                "lift_high": evaluation.lift_high if evaluation else None,
                "n_headlines": settle["n_groups"],
                "n_unresolved": settle["n_unresolved_groups"],
                "n_compared": evaluation.n_headlines if evaluation else 0,
                "refused": settle["refused"],
                "canaries": (settle["canaries"] or {}).get("means"),
                "degraded": degraded.get(stage.day),
                "updated": update is not None,
            }
        )
    return {
        "run": run,
        "seed": config.run.seed,
        "corpus": info.corpus if info else None,
        "days": rows,
        "total": _total(rows, list(evaluations.values()), config),
    }


def _total(
    rows: Sequence[dict[str, Any]], evaluations: Sequence[EvaluationInfo], config: Config
) -> dict[str, Any]:
    """Means over days, the claim with its controls, and the newest kl_ref."""

    def present(key: str) -> list[float]:
        return [row[key] for row in rows if row[key] is not None]

    means = (
        "reward",
        *SETTLE_KEYS,
        *(key for key in UPDATE_KEYS if key != "kl_ref"),
        "null_correlation",
        "raw_null_correlation",
    )
    claimed = claim(evaluations, seed=config.run.seed, n_bootstrap=config.evaluate.n_bootstrap)
    lift = claimed["lift"]
    return {
        **{key: float(np.mean(values)) if (values := present(key)) else None for key in means},
        "kl_ref": next(reversed(present("kl_ref")), None),
        "lift": lift["mean"],
        "lift_low": lift["claim_low"],
        "lift_high": lift["claim_high"],
        "claim": claimed["word"],
        "blocked_by": claimed["blocked_by"],
        "since": lift["since"],
        "n_days_claimed": lift["n_days_above"],
        "controls": {
            key: claimed[key]
            for key in (
                *CONTROLS,
                "reward",
                "format",
                "vote",
                "copy_frac",
                "repetition_frac",
            )
        },
        "lift_bootstrap": [lift["low"], lift["high"]],
        "days_for_small_lift": claimed["days_for_small_lift"],
        "accuracy": {side: a["frac"] for side, a in pooled_accuracy(evaluations).items()},
        "n_days": len(rows),
        "n_lift_days": lift["n_days"],
        "n_updates": sum(row["updated"] for row in rows),
        "n_headlines": sum(row["n_headlines"] for row in rows),
        "n_compared": lift["n_headlines"],
    }
