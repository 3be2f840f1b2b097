"""Replay: an archive's days one after another under an as-of clock, and the table across them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np

from varro.config import Config
from varro.day import DueDay, OpenRun, end_of_day, run_day
from varro.domain import Stage
from varro.errors import FeedError
from varro.evaluation.evaluate import claim_word, pooled_lift
from varro.ledger.store import Ledger

ROW_KEYS = (
    "reward",
    "format",
    "semantic",
    "lift",
    "lift_low",
    "lift_high",
    "kl_ref",
    "clip_frac",
    "entropy",
    "words",
    "n_headlines",
)


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
            run_day(work, DueDay(day.isoformat(), end_of_day(day)))
    start, end = first or days[0], last or days[-1]
    span_days = [date.fromordinal(n) for n in range(start.toordinal(), end.toordinal() + 1)]
    return [d.isoformat() for d in span_days if d not in set(days)]


def run_due(work: OpenRun, due: Sequence[DueDay]) -> None:
    for day in due:
        run_day(work, day)


def next_days(work: OpenRun, due: Sequence[DueDay]) -> list[DueDay]:
    """The next due day; on an empty archive run the first two, so that something is settled.
    Live, also a day before today that was begun and not finished."""
    if work.archive is None:
        return list(due)
    begun = bool(work.ledger.stage_runs(work.name))
    return list(due[: 1 if begun else 2])


def summarize(ledger: Ledger, config: Config, *, last: str | None = None) -> dict[str, Any]:
    """A run across its days: {run, seed, corpus, days: [row], total: row}.

    `reward`, `format`, `semantic` and `words` are means over the training forecasts settled that
    day, `kl_ref`, `clip_frac` and `entropy` come from that day's update, `lift` is the paired
    difference to the frozen base on the held-out headlines settled that day. Absent is None.
    """
    run = config.run.name
    info = ledger.run(run)
    evaluations = {e.day: e for e in ledger.evaluations(run, until=last)}
    rows = []
    for stage in ledger.stage_runs(run):
        if stage.stage is not Stage.SETTLE or (last and stage.day > last):
            continue
        settle = stage.detail
        update = ledger.update(run, stage.day)
        metrics = update.metrics if update else {}
        evaluation = evaluations.get(stage.day)
        rows.append(
            {
                "day": stage.day,
                "reward": settle["reward"],
                "format": settle["components"].get("format"),
                "semantic": settle["components"].get("semantic"),
                "placebo": settle["components"].get("placebo"),
                "lift": evaluation.lift if evaluation else None,
                "lift_low": evaluation.lift_low if evaluation else None,
                "lift_high": evaluation.lift_high if evaluation else None,
                "lift_reward": evaluation.detail["lift_reward"] if evaluation else None,
                "kl_ref": metrics.get("kl_ref"),
                "clip_frac": metrics.get("clip_frac"),
                "entropy": metrics.get("entropy"),
                "words": settle["words"],
                "n_headlines": settle["n_groups"],
                "n_heldout": evaluation.n_headlines if evaluation else 0,
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
    rows: Sequence[dict[str, Any]], evaluations: Sequence[Any], config: Config
) -> dict[str, Any]:
    """Means over days, the pooled lift with its day-block interval, and the newest kl_ref."""

    def present(key: str) -> list[float]:
        return [row[key] for row in rows if row[key] is not None]

    def mean(key: str) -> float | None:
        values = present(key)
        return float(np.mean(values)) if values else None

    seed, n_bootstrap = config.run.seed, config.evaluate.n_bootstrap
    pooled = pooled_lift(evaluations, seed=seed, n_bootstrap=n_bootstrap)
    reward = pooled_lift(evaluations, seed=seed, n_bootstrap=n_bootstrap, key="reward_differences")
    return {
        **{key: mean(key) for key in ("reward", "format", "semantic", "clip_frac", "entropy")},
        "words": mean("words"),
        "kl_ref": next(reversed(present("kl_ref")), None),
        "lift": pooled["lift"],
        "lift_low": pooled["lift_low"],
        "lift_high": pooled["lift_high"],
        "lift_reward": reward["lift"],
        "lift_reward_low": reward["lift_low"],
        "lift_reward_high": reward["lift_high"],
        "claim": claim_word(pooled),
        "n_days": len(rows),
        "n_lift_days": pooled["n_days"],
        "n_updates": sum(row["updated"] for row in rows),
        "n_headlines": sum(row["n_headlines"] for row in rows),
        "n_heldout": pooled["n_headlines"],
    }
