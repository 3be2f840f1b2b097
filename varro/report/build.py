"""The content of report.json, from a day's facts: a pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from varro import __version__
from varro.config import Config
from varro.domain import (
    AdvantageInfo,
    CheckpointInfo,
    EvaluationInfo,
    Forecast,
    Group,
    Headline,
    Role,
    Settlement,
    Stage,
    StageRun,
    UpdateInfo,
)
from varro.evaluation.evaluate import claim, pooled_accuracy
from varro.report.alarms import WEEK, alarms
from varro.report.examples import described, settled_examples
from varro.report.metrics import MEMORY, REPEATING
from varro.reward.summary import calibrated

SCHEMA = 5


@dataclass(frozen=True)
class ReportFacts:
    config: Config
    run: str
    day: str
    stages: Sequence[StageRun]
    settled: Sequence[tuple[Settlement, Group]]
    outcomes: Mapping[str, Headline]
    display: Sequence[tuple[Group, Forecast]]
    """some of the day's groups, each with its medoid"""
    settles: Sequence[StageRun]
    """the settle stages of all days up to this one"""
    update: UpdateInfo | None
    evaluations: Sequence[EvaluationInfo]
    """of all days up to this one"""
    advantages: Mapping[str, AdvantageInfo]
    """what the day's update made of rewards, by forecast"""
    first_update: UpdateInfo | None
    """the run's first: its entropy is what later ones are measured by"""
    checkpoint: CheckpointInfo | None
    """the one that served"""
    lineage: Sequence[str]
    """what happened to the run's versions besides training"""
    machine: dict[str, Any]


def build_report(facts: ReportFacts) -> dict[str, Any]:
    """The report of one day as plain JSON values ; `pages` renders it and nothing else."""
    stage = {s.stage: s for s in facts.stages}
    ingest, settle = stage[Stage.INGEST].detail, stage[Stage.SETTLE].detail
    forecast = stage[Stage.FORECAST].detail if Stage.FORECAST in stage else {}
    today = next((e for e in facts.evaluations if e.day == facts.day), None)
    window_h = facts.config.reward.window_h
    best, worst = settled_examples(
        facts.settled,
        facts.outcomes,
        facts.advantages,
        n=facts.config.report.n_examples,
        window_h=window_h,
    )
    probabilities = [pair for s in facts.settles for pair in s.detail.get("probabilities", [])]
    report = {
        "schema": SCHEMA,
        "varro_version": __version__,
        "run": facts.run,
        "day": facts.day,
        "made_at": f"{stage[Stage.INGEST].as_of:%Y-%m-%dT%H:%M:%SZ}",
        "verdict": _verdict(facts, stage, settle),
        "learned": _learned(facts),
        "is_placebo": facts.config.update.placebo,
        "week": _week(facts.evaluations),
        "evaluation": None if today is None else _evaluation(today),
        "settled": _settled(facts, settle),
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
        "best": best,
        "worst": worst,
        "display": [
            described(group, forecast_, window_h=window_h) for group, forecast_ in facts.display
        ],
        "n_in_group": facts.config.sampling.n_forecasts,
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
        "timings": {str(s.stage): s.seconds for s in facts.stages},
        "reproduce": _reproduce(facts),
    }
    return {**report, "alarms": alarms(report)}


def _reproduce(facts: ReportFacts) -> str:
    if facts.config.news.source != "archive" or facts.checkpoint is None:
        return f"varro show {facts.day} --run {facts.run}"
    config = facts.config.home / facts.checkpoint.path / "config.toml"
    return (
        f"varro replay --config {config} --archive {facts.config.news.archive} --to {facts.day} "
        f"--run {facts.run}-again"
    )


def _verdict(
    facts: ReportFacts, stage: Mapping[Stage, StageRun], settle: Mapping[str, Any]
) -> dict[str, str]:
    """What the night came to; a part of it that was refused is named whatever the word."""
    refused = "".join(
        f" The forecasts of {day} were refused: {why}." for day, why in settle["refused"].items()
    )
    update = facts.update
    if update is not None:
        text = (
            f"Policy v{update.from_version} became v{update.to_version} after learning from "
            f"{update.metrics['n_forecasts']} settled forecasts."
        )
        return {"word": "trained", "text": text + refused}
    reason = stage[Stage.UPDATE].detail.get("reason", "") if Stage.UPDATE in stage else ""
    broken = (settle["canaries"] or {}).get("broken")
    if broken:
        text = f"Nothing was trained: the exact outcome does not score above {broken}."
        return {"word": "canaries out of order", "text": text + refused}
    if reason.startswith("rolled back"):
        text = f"The policy was {reason}. It has the frozen base's weights again."
        return {"word": "rolled back", "text": text + refused}
    degraded = stage[Stage.INGEST].detail.get("degraded")
    if degraded:
        text = f"Nothing was trained, for the day's news is thin: {degraded}."
        return {"word": "degraded", "text": text + refused}
    if reason.startswith("refused"):
        text = f"The update was {reason}; the parent policy serves on."
        return {"word": "refused", "text": text + refused}
    if refused:
        return {"word": "day refused", "text": f"Nothing was trained.{refused}"}
    if not settle["n_settled"] and not settle["n_void"]:
        text = "Nothing was due to be settled; the first forecasts were made today."
        return {"word": "first day", "text": text}
    return {"word": "no update", "text": f"The policy stays as it was: {reason}."}


def _learned(facts: ReportFacts) -> dict[str, Any]:
    """The claim of all days so far, and how often directions were right in them."""
    claimed = claim(
        facts.evaluations,
        seed=facts.config.run.seed,
        n_bootstrap=facts.config.evaluate.n_bootstrap,
    )
    return {**claimed, "accuracy": pooled_accuracy(facts.evaluations)}


def _week(evaluations: Sequence[EvaluationInfo]) -> list[dict[str, Any]]:
    """Served minus base in reward and placebo, on the newest days that have both."""
    parts = ("reward", "placebo")
    days = [(e.day, e.detail["differences"]) for e in evaluations]
    return [
        {"day": day, **{part: float(np.mean(found[part])) for part in parts}}
        for day, found in days
        if all(found.get(part) for part in parts)
    ][-WEEK:]


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


def _evaluation(info: EvaluationInfo) -> dict[str, Any]:
    return {
        "n_headlines": info.n_headlines,
        "lift": info.lift,
        "lift_low": info.lift_low,
        "lift_high": info.lift_high,
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
