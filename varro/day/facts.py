"""What a day's report is made of, all of it from the ledger."""

from __future__ import annotations

from varro.domain import CheckpointInfo, Forecast, Group, Role, Stage
from varro.evaluation.stats import medoid
from varro.ledger.store import Ledger
from varro.report.build import ReportFacts
from varro.report.machine import describe_machine
from varro.run import OpenRun, embedder_of


def report_facts(work: OpenRun, day: str) -> ReportFacts:
    """The facts of a finished day: the same whenever it is asked."""
    ledger, name = work.ledger, work.name
    settled = ledger.settlements(name, day=day)
    evaluated = ledger.stage_run(name, day, Stage.EVALUATE)
    outcome_ids = {s.outcome_id for s, _ in settled if s.outcome_id}
    updated = [
        s.day
        for s in ledger.stage_runs(name, stage=Stage.UPDATE)
        if s.day <= day and s.detail["updated"]
    ]
    return ReportFacts(
        config=work.config,
        run=name,
        day=day,
        stages=ledger.stage_runs(name, day),
        settled=settled,
        outcomes={i: h for i in outcome_ids if (h := ledger.headline(i)) is not None},
        display=_displayed(work, day),
        settles=[s for s in ledger.stage_runs(name, stage=Stage.SETTLE) if s.day <= day],
        update=ledger.update(name, day),
        evaluations=ledger.evaluations(name, until=day),
        advantages=ledger.advantages(name, day=day),
        first_update=ledger.update(name, updated[0]) if updated else None,
        checkpoint=_served(ledger, name, day),
        lineage=_lineage(ledger, name, day),
        machine=evaluated.detail["machine"] if evaluated else describe_machine(),
    )


def _served(ledger: Ledger, run: str, day: str) -> CheckpointInfo | None:
    """The version that forecast that day, whatever was published or went bad since."""
    forecast = ledger.stage_run(run, day, Stage.FORECAST)
    if forecast is None:
        return ledger.checkpoint(run, until=day)
    return ledger.checkpoint(run, forecast.detail["policy_version"])


def _lineage(ledger: Ledger, run: str, day: str) -> list[str]:
    """What happened to the run's versions besides training, in words."""
    lost = {
        item["version"]: item
        for stage in ledger.stage_runs(run, day)
        for item in stage.detail.get("damaged", ())
    }
    lines = [
        f"v{item['version']} could not be used ({item['reason']}): what {item['day']} trained is "
        "lost, and what that version forecast does not train"
        for _, item in sorted(lost.items())
    ]
    # By hand, after the day before was done; or by the guard, in the day itself.
    before = max((d for d in ledger.days_done(run) if d < day), default="")
    own, earlier = _published(ledger, run, day), _published(ledger, run, before)
    return lines + [
        f"rolled back to the weights of v{c.parent}, as v{c.version}"
        for c in ledger.rollbacks(run)
        if c.version == own or (c.day == before and c.version != earlier)
    ]


def _published(ledger: Ledger, run: str, day: str) -> int | None:
    """The version that a day published itself."""
    stage = ledger.stage_run(run, day, Stage.PUBLISH) if day else None
    return stage.detail.get("version") if stage else None


def _displayed(work: OpenRun, day: str) -> list[tuple[Group, Forecast]]:
    """Some of the day's groups, each with the forecast nearest to all its others: the medoid."""
    groups = work.ledger.groups(work.name, day=day, roles=[Role.TRAIN])
    shown = []
    for group in groups[: work.config.display.n_headlines]:
        vectors = embedder_of(work).encode([f.text for f in group.forecasts])
        shown.append((group, group.forecasts[medoid(vectors)]))
    return shown
