"""What a day's report is made of, all of it from the ledger."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any, TypeVar

from varro import __version__
from varro.domain import (
    CheckpointInfo,
    EvaluationInfo,
    Forecast,
    Group,
    Role,
    Stage,
    StageRun,
    UpdateInfo,
)
from varro.evaluation.claim import DayMean, claimed_means
from varro.evaluation.stats import medoid
from varro.ledger.store import Ledger
from varro.policy.pieces import token_pieces
from varro.report.build import ReportFacts
from varro.report.history import history_rows
from varro.report.machine import describe_machine
from varro.run import OpenRun, embedder_of

_OfADay = TypeVar("_OfADay", StageRun, UpdateInfo, EvaluationInfo)


@dataclass(frozen=True)
class RunHistory:
    """What the reports of a run share, read once however many days are written."""

    stages: Mapping[str, Sequence[StageRun]]
    """by day"""
    settles: Sequence[StageRun]
    reported: Sequence[str]
    """days that are finished"""
    updates: Sequence[UpdateInfo]
    evaluations: Sequence[EvaluationInfo]
    means: Mapping[str, Sequence[DayMean]]
    """`claimed_means` of the evaluations"""
    rollbacks: Sequence[CheckpointInfo]
    changes: Mapping[str, list[dict[str, Any]]]
    """day → what was configured otherwise than on the day before"""
    rows: Sequence[dict[str, Any]]
    """a day each, oldest first: see `report.history`"""


def read_history(work: OpenRun, *, until: str, n_rows: int | None = None) -> RunHistory:
    """The days of a run up to one, from the ledger, with a row for each of the newest or all."""
    ledger, name = work.ledger, work.name
    stages = [s for s in ledger.stage_runs(name) if s.day <= until]
    updates = [u for u in ledger.updates(name) if u.day <= until]
    evaluations = ledger.evaluations(name, until=until)
    changes = _config_changes(work, stages, until=until)
    days = sorted({s.day for s in stages})
    after = days[-n_rows - 1] if n_rows is not None and len(days) > n_rows else ""
    rewards = ledger.settled_rewards(name, after=after, until=until)
    rows = history_rows(stages, updates, evaluations, rewards, changes=changes, after=after)
    by_day: dict[str, list[StageRun]] = {}
    for stage in stages:
        by_day.setdefault(stage.day, []).append(stage)
    return RunHistory(
        stages=by_day,
        settles=[s for s in stages if s.stage is Stage.SETTLE],
        reported=[s.day for s in stages if s.stage is Stage.REPORT],
        updates=updates,
        evaluations=evaluations,
        means=claimed_means(evaluations),
        rollbacks=ledger.rollbacks(name),
        changes=changes,
        rows=rows,
    )


def changed_settings(work: OpenRun, day: str) -> dict[str, Any] | None:
    """What a day's report stage keeps if it is not what was kept last: later days can then say what
    was changed."""
    stages = work.ledger.stage_runs(work.name, stage=Stage.REPORT)
    kept = [s.detail["settings"] for s in stages if s.day < day and "settings" in s.detail]
    now = _settings(work)
    return None if kept and kept[-1] == now else now


def report_facts(work: OpenRun, day: str, history: RunHistory) -> ReportFacts:
    """The facts of a finished day: the same whenever it is asked."""
    ledger, name = work.ledger, work.name
    stages = history.stages[day]
    before = _before(history.reported, day)
    settled = ledger.settlements(name, day=day)
    evaluated = next((s for s in stages if s.stage is Stage.EVALUATE), None)
    outcome_ids = {s.outcome_id for s, _ in settled if s.outcome_id}
    made = ledger.groups(name, day=day, roles=[Role.TRAIN, Role.HELDOUT])
    display = _displayed(work, made)
    updates = _until(history.updates, day)
    return ReportFacts(
        config=work.config,
        run=name,
        day=day,
        stages=stages,
        settled=settled,
        outcomes=ledger.headlines(outcome_ids),
        made=made,
        base=ledger.groups(name, day=day, roles=[Role.BASE]),
        display=display,
        pieces=token_pieces(work.config.policy, display[0][1].token_ids) if display else None,
        settles=_until(history.settles, day),
        update=updates[-1] if updates and updates[-1].day == day else None,
        evaluations=_until(history.evaluations, day),
        means={
            part: days[: bisect_right(days, day, key=itemgetter(0))]
            for part, days in history.means.items()
        },
        advantages=ledger.advantages(name, day=day),
        first_update=updates[0] if updates else None,
        checkpoint=_served(ledger, name, day, stages),
        lineage=_lineage(history, day, before),
        machine=evaluated.detail["machine"] if evaluated else describe_machine(),
        history=history.rows[: bisect_right(history.rows, day, key=itemgetter("day"))],
        changes=history.changes.get(day),
        feeds=ledger.feed_reads(name, day),
        feed_news=ledger.newest_feed_news(name, until=day),
        previous=before,
    )


def _before(days: Sequence[str], day: str) -> str | None:
    """The newest of some days, in order, before one."""
    place = bisect_left(days, day)
    return days[place - 1] if place else None


def _until(found: Sequence[_OfADay], day: str) -> Sequence[_OfADay]:
    """What is of a day or earlier; `found` is in order."""
    return found[: bisect_right(found, day, key=attrgetter("day"))]


def _config_changes(
    work: OpenRun, stages: Sequence[StageRun], *, until: str
) -> dict[str, list[dict[str, Any]]]:
    """Day → [{key, before, after}], of each day after the first that kept its settings. `until` may
    be a day whose report is being written: it has today's."""
    reported = {s.day: s.detail for s in stages if s.stage is Stage.REPORT}
    kept = {day: detail["settings"] for day, detail in reported.items() if "settings" in detail}
    if until not in reported:
        kept[until] = _settings(work)
    changes: dict[str, list[dict[str, Any]]] = {}
    before: Mapping[str, Any] | None = None
    for day in sorted({s.day for s in stages} | kept.keys()):
        now = kept.get(day, before)
        if before is not None and now is not None:
            changes[day] = [
                {"key": key, "before": before.get(key), "after": now.get(key)}
                for key in sorted(before.keys() | now.keys())
                if before.get(key) != now.get(key)
            ]
        before = now
    return changes


def _settings(work: OpenRun) -> dict[str, Any]:
    return work.config.settings() | {"varro": __version__}


def _served(
    ledger: Ledger, run: str, day: str, stages: Sequence[StageRun]
) -> CheckpointInfo | None:
    """The version that forecast that day, whatever was published or went bad since."""
    forecast = _stage(stages, Stage.FORECAST)
    if forecast is None:
        return ledger.checkpoint(run, until=day)
    return ledger.checkpoint(run, forecast.detail["policy_version"])


def _lineage(history: RunHistory, day: str, before: str | None) -> list[str]:
    """What happened to the run's versions besides training, in words."""
    lost = {
        item["version"]: item
        for stage in history.stages[day]
        for item in stage.detail.get("damaged", ())
    }
    lines = [
        f"v{item['version']} could not be used ({item['reason']}): what {item['day']} trained is "
        "lost, and what that version forecast does not train"
        for _, item in sorted(lost.items())
    ]
    # By hand, after the day before was done; or by the guard, in the day itself.
    own, earlier = _published(history, day), _published(history, before)
    return lines + [
        f"rolled back to the weights of v{c.parent}, as v{c.version}"
        for c in history.rollbacks
        if c.version == own or (c.day == (before or "") and c.version != earlier)
    ]


def _published(history: RunHistory, day: str | None) -> int | None:
    """The version that a day published itself."""
    stage = _stage(history.stages[day], Stage.PUBLISH) if day else None
    return stage.detail.get("version") if stage else None


def _stage(stages: Sequence[StageRun], stage: Stage) -> StageRun | None:
    return next((s for s in stages if s.stage is stage), None)


def _displayed(work: OpenRun, made: Sequence[Group]) -> list[tuple[Group, Forecast]]:
    """Some of the day's groups, each with the forecast nearest to all its others: the medoid."""
    groups = [group for group in made if group.role is Role.TRAIN]
    shown = []
    for group in groups[: work.config.display.n_headlines]:
        vectors = embedder_of(work).encode([f.text for f in group.forecasts])
        shown.append((group, group.forecasts[medoid(vectors)]))
    return shown
