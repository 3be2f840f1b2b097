"""The content of report.json, from a day's facts: a pure function."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np

from varro import __version__
from varro.config import Config
from varro.domain import (
    AdvantageInfo,
    CheckpointInfo,
    EvaluationInfo,
    FeedRead,
    Forecast,
    Group,
    Headline,
    Role,
    Settlement,
    Stage,
    StageRun,
    UpdateInfo,
    stable_seed,
)
from varro.evaluation.claim import DayMean, claim_from, pooled_accuracy
from varro.evaluation.stats import mean_interval
from varro.report.alarms import WEEK, alarms
from varro.report.apart import components_apart
from varro.report.best_of import best_of_part
from varro.report.cadence import cadence_part
from varro.report.commands import reproduce_command, rollback_command
from varro.report.examples import described, settled_examples
from varro.report.groups import (
    links_of,
    made_groups_of_day,
    paginate,
    settled_groups_of_day,
)
from varro.report.history import CHANGES, CHARTED, change_of, histogram
from varro.report.metrics import MEMORY, REPEATING
from varro.report.schema import EMPTY, SCHEMA
from varro.report.todo import to_do
from varro.report.verdict import failed_verdict, verdict_of, with_warnings
from varro.reward.summary import calibrated

HISTORY_DAYS = 30
"""days of a page's charts; the index of the run has all of them"""


@dataclass(frozen=True)
class ReportFacts:
    config: Config
    run: str
    day: str
    stages: Sequence[StageRun]
    settled: Sequence[tuple[Settlement, Group]]
    outcomes: Mapping[str, Headline]
    made: Sequence[Group]
    """what the served policy forecast that day"""
    base: Sequence[Group]
    """what the frozen base forecast that day"""
    display: Sequence[tuple[Group, Forecast]]
    """some of the day's groups, each with its medoid"""
    pieces: Sequence[str] | None
    """the text of each token of the first medoid; None where the tokenizer is not at hand"""
    settles: Sequence[StageRun]
    """the settle stages of all days up to this one"""
    update: UpdateInfo | None
    evaluations: Sequence[EvaluationInfo]
    """of all days up to this one"""
    means: Mapping[str, Sequence[DayMean]]
    """`claimed_means` of them"""
    advantages: Mapping[str, AdvantageInfo]
    """what the day's update made of rewards, by forecast"""
    first_update: UpdateInfo | None
    """the run's first: its entropy is what later ones are measured by"""
    checkpoint: CheckpointInfo | None
    """the one that served"""
    lineage: Sequence[str]
    """what happened to the run's versions besides training"""
    machine: dict[str, Any]
    history: Sequence[dict[str, Any]]
    """of this day and those before it, `HISTORY_DAYS` at least: see `report.history`"""
    changes: Sequence[Mapping[str, Any]] | None
    """what is configured otherwise than the day before; None if that is not known"""
    feeds: Sequence[FeedRead]
    feed_news: Mapping[str, str]
    """feed's address → the newest day on which it brought a headline"""
    previous: str | None
    """the day before it in the run"""

    @cached_property
    def pages(self) -> dict[str, list[dict[str, Any]]]:
        """All that was settled that day, and all that was forecast, on pages of their own."""
        settled = settled_groups_of_day(self.settled, self.outcomes)
        return {
            "settled": paginate("settled", settled),
            "made": paginate("made", made_groups_of_day(self.made)),
        }


def build_report(facts: ReportFacts) -> dict[str, Any]:
    """The report of one day as plain JSON values; `pages` renders it and nothing else. A number
    that is not finite is null, and named under `not_finite`."""
    stage = {s.stage: s for s in facts.stages}
    ingest, settle = stage[Stage.INGEST].detail, stage[Stage.SETTLE].detail
    forecast = stage[Stage.FORECAST].detail if Stage.FORECAST in stage else {}
    today = next((e for e in facts.evaluations if e.day == facts.day), None)
    window_h = facts.config.reward.window_h
    links = {**links_of(facts.pages["made"]), **links_of(facts.pages["settled"])}
    examples = settled_examples(
        facts.settled,
        facts.outcomes,
        facts.advantages,
        n=facts.config.report.n_examples,
        window_h=window_h,
        seed=stable_seed("random forecasts", facts.run, facts.day),
        links=links,
    )
    drawn: Any = {
        "seed": facts.config.run.seed,
        "day": facts.day,
        "n_bootstrap": facts.config.evaluate.n_bootstrap,
    }
    probabilities = [pair for s in facts.settles for pair in s.detail.get("probabilities", [])]
    rows = facts.history[-HISTORY_DAYS:]
    parent = None if facts.checkpoint is None else facts.checkpoint.parent
    report = {
        "schema": SCHEMA,
        "varro_version": __version__,
        "run": facts.run,
        "day": facts.day,
        "previous": facts.previous,
        "made_at": f"{stage[Stage.INGEST].as_of:%Y-%m-%dT%H:%M:%SZ}",
        "verdict": verdict_of(facts.update, stage, settle, is_first=facts.previous is None),
        "learned": _learned(facts),
        "best_of": best_of_part(facts.settled, facts.evaluations, **drawn),
        "is_placebo": facts.config.update.placebo,
        "week": _week(facts.evaluations),
        "history": [{key: row[key] for key in CHARTED} for row in rows],
        "changes": {name: change_of(rows, name) for name in CHANGES},
        "limits": {"kl_limit": facts.config.leash.kl_limit},
        "evaluation": None if today is None else _evaluation(today, facts),
        "settled": _settled(facts, settle),
        "apart": components_apart(facts.settled),
        "histogram": histogram(rows),
        "canaries": settle["canaries"],
        "calibration": calibrated(probabilities),
        "n_probabilities": len(probabilities),
        "update": None if facts.update is None else _update(facts.update),
        "guard": _guard(facts.update, stage.get(Stage.UPDATE)),
        "entropy_first": facts.first_update.metrics["entropy"] if facts.first_update else None,
        "forecast": {
            key: forecast.get(key)
            for key in (
                "n_groups",
                "n_forecasts",
                "n_tokens",
                "tokens_per_s",
                "finish_reasons",
                "policy_version",
            )
        },
        **examples,
        "display": [
            described(group, forecast_, window_h=window_h, links=links)
            for group, forecast_ in facts.display
        ],
        "n_in_group": facts.config.sampling.n_forecasts,
        "cadence": cadence_part(
            [*facts.made, *facts.base],
            facts.display[0][1] if facts.display else None,
            facts.pieces,
            **drawn,
        ),
        "pages": {kind: [page["file"] for page in found] for kind, found in facts.pages.items()},
        "news": {
            "source": facts.config.news.source,
            "corpus": ingest["corpus"],
            "n_new": ingest["n_new"],
            "n_train": forecast.get("n_train"),
            "n_heldout": forecast.get("n_heldout"),
            "n_malformed": ingest["n_malformed"],
            "n_duplicates": ingest["n_duplicates"],
            "n_feeds": ingest["n_feeds"],
            "n_alive": ingest.get("n_alive"),
            "failures": ingest["failures"],
            "left_out": ingest.get("left_out", {}),
            "degraded": ingest.get("degraded"),
            "n_missed": ingest.get("n_missed", 0),
            "n_unreached": ingest.get("n_unreached", 0),
        },
        "feeds": [_feed(read, facts.feed_news) for read in facts.feeds],
        "checkpoint": None
        if facts.checkpoint is None
        else {
            "version": facts.checkpoint.version,
            "parent": facts.checkpoint.parent,
            "path": facts.checkpoint.path,
            "sha256": facts.checkpoint.sha256,
        },
        "lineage": list(facts.lineage),
        "machine": facts.machine,
        "memory": _memory(facts.stages),
        "timings": {str(s.stage): s.seconds for s in facts.stages if s.stage is not Stage.REPORT},
        "config_changes": None if facts.changes is None else list(facts.changes),
        "reproduce": reproduce_command(facts.config, facts.run, facts.day, facts.checkpoint),
        "rollback": rollback_command(facts.config, facts.run, facts.checkpoint, to=parent),
        "rollback_to_base": rollback_command(facts.config, facts.run, facts.checkpoint, to=0),
    }
    report, report["not_finite"] = _finite(report)
    return _judged(report)


def failed_report(
    config: Config,
    *,
    run: str,
    day: str,
    as_of: datetime,
    stage: str,
    error: str,
    stages: Sequence[StageRun],
    machine: dict[str, Any],
) -> dict[str, Any]:
    """The report of a day that a stage ended: what it was, and what was finished before it. It is
    replaced once the day has been run."""
    failed = {
        "schema": SCHEMA,
        "varro_version": __version__,
        "run": run,
        "day": day,
        "made_at": f"{as_of:%Y-%m-%dT%H:%M:%SZ}",
        "verdict": failed_verdict(stage, error),
        "news": None,
        "machine": machine,
        "memory": _memory(stages),
        "timings": {str(s.stage): s.seconds for s in stages},
        "reproduce": f"varro train-day --run {shlex.quote(run)}",
    }
    return _judged(EMPTY | failed)


def _judged(report: dict[str, Any]) -> dict[str, Any]:
    """With what follows from the rest: alarms, the verdict in their light, what is to be done."""
    report = {**report, "alarms": alarms(report) if report["settled"] else []}
    report["verdict"] = with_warnings(report["verdict"], len(report["alarms"]))
    return {**report, "to_do": to_do(report)}


def _finite(value: Any, path: str = "") -> tuple[Any, list[str]]:
    """The value with null for each number that JSON cannot hold, and where those were."""
    if isinstance(value, float) and not math.isfinite(value):
        return None, [path]
    if isinstance(value, Mapping):
        items = {key: _finite(child, f"{path}.{key}".lstrip(".")) for key, child in value.items()}
        return {k: v for k, (v, _) in items.items()}, [p for _, ps in items.values() for p in ps]
    if isinstance(value, list | tuple):
        found = [_finite(child, f"{path}[{n}]") for n, child in enumerate(value)]
        return [v for v, _ in found], [p for _, paths in found for p in paths]
    return value, []


def _feed(read: FeedRead, news: Mapping[str, str]) -> dict[str, Any]:
    return {
        "feed": read.feed,
        "status": read.status,
        "reason": read.reason,
        "http_status": read.http_status,
        "n_entries": read.n_entries,
        "n_new": read.n_new,
        "n_failures": read.n_failures,
        "newest": news.get(read.url),
        "next_at": f"{read.next_at:%Y-%m-%dT%H:%M:%SZ}" if read.next_at else None,
        "moved_to": read.moved_to,
        "seconds": read.seconds,
    }


def _learned(facts: ReportFacts) -> dict[str, Any]:
    """The claim of all days so far, and how often directions were right in them."""
    claimed = claim_from(
        facts.means,
        seed=facts.config.run.seed,
        n_bootstrap=facts.config.evaluate.n_bootstrap,
    )
    return {**claimed, "accuracy": pooled_accuracy(facts.evaluations)}


def _week(evaluations: Sequence[EvaluationInfo]) -> list[dict[str, Any]]:
    """Served minus base in reward and placebo, on the newest days that have both."""
    parts = ("reward", "placebo")
    days = [(e.day, e.detail["differences"]) for e in evaluations]
    both = [(day, found) for day, found in days if found.get(parts[0]) and found.get(parts[1])]
    return [
        {"day": day, **{part: float(np.mean(found[part])) for part in parts}}
        for day, found in both[-WEEK:]
    ]


def _settled(facts: ReportFacts, detail: Mapping[str, Any]) -> dict[str, Any]:
    """The settle stage's summary, with the weights beside what became of them."""
    left_out = ("moments", "buckets", "rivals", "probabilities", "canaries", "memory")
    metrics = facts.update.metrics if facts.update else {}
    reward = facts.config.reward
    repetition = [
        s.components["repetition_frac"]
        for s, group in facts.settled
        if group.role is Role.TRAIN and "repetition_frac" in s.components
    ]
    return {
        **{key: value for key, value in detail.items() if key not in left_out},
        "kind": reward.kind,
        "influence": {
            name: {
                "weight": weight,
                "share": metrics.get(f"share_{name}"),
                "spread": metrics.get(f"spread_{name}"),
            }
            for name, weight in (
                ("format", reward.format_weight),
                ("semantic", reward.semantic_weight),
            )
        },
        "unresolved_frac": detail["n_unresolved_groups"] / detail["n_groups"]
        if detail["n_groups"]
        else None,
        "repeating_frac": float(np.mean([r > REPEATING for r in repetition]))
        if repetition
        else None,
    }


def _evaluation(info: EvaluationInfo, facts: ReportFacts) -> dict[str, Any]:
    differences = info.detail["differences"].get("reward") or []
    interval = mean_interval(
        differences,
        n_bootstrap=facts.config.evaluate.n_bootstrap,
        seed=stable_seed("reward difference", facts.config.run.seed, info.day),
    )
    return {
        "n_headlines": info.n_headlines,
        "lift": info.lift,
        "lift_low": info.lift_low,
        "lift_high": info.lift_high,
        "reward_difference": float(np.mean(differences)) if differences else None,
        "reward_low": interval[0] if interval else None,
        "reward_high": interval[1] if interval else None,
        "n_reward": len(differences),
        **{key: info.detail[key] for key in ("n_shared", "served", "base", "rivals", "accuracy")},
    }


def _update(info: UpdateInfo) -> dict[str, Any]:
    metrics = {key: value for key, value in info.metrics.items() if key != "guard"}
    return {"from_version": info.from_version, "to_version": info.to_version, **metrics}


def _memory(stages: Sequence[StageRun]) -> dict[str, dict[str, float | None]]:
    """What each stage took; the report's own is known only when it has been written."""
    return {
        str(s.stage): {name: s.detail.get("memory", {}).get(name) for name in MEMORY}
        for s in stages
        if s.stage is not Stage.REPORT
    }


def _guard(info: UpdateInfo | None, stage: StageRun | None) -> list[str]:
    """What the training guard said, of an update or of its refusal; nothing if none was tried."""
    if info is not None:
        return list(info.metrics["guard"])
    return list(stage.detail.get("metrics", {}).get("guard", [])) if stage else []
