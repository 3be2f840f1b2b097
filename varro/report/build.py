"""The content of report.json, from a day's facts: a pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from varro import __version__
from varro.config import Config
from varro.domain import (
    CheckpointInfo,
    EvaluationInfo,
    Group,
    Headline,
    Role,
    Settlement,
    Stage,
    StageRun,
    UpdateInfo,
)
from varro.evaluation.evaluate import claim_word, pooled_lift

SCHEMA = 1
BEATS = ("object", "direction", "magnitude", "timeframe", "drivers", "verification")


@dataclass(frozen=True)
class ReportFacts:
    config: Config
    run: str
    day: str
    stages: Sequence[StageRun]
    settled: Sequence[tuple[Settlement, Group]]
    outcomes: Mapping[str, Headline]
    display: Sequence[Group]
    update: UpdateInfo | None
    evaluations: Sequence[EvaluationInfo]
    """of all days up to this one"""
    checkpoint: CheckpointInfo | None
    machine: dict[str, Any]


def build_report(facts: ReportFacts) -> dict[str, Any]:
    """The report of one day as plain JSON values ; `pages` renders it and nothing else."""
    stage = {s.stage: s for s in facts.stages}
    ingest, settle = stage[Stage.INGEST].detail, stage[Stage.SETTLE].detail
    forecast = stage[Stage.FORECAST].detail if Stage.FORECAST in stage else {}
    today = next((e for e in facts.evaluations if e.day == facts.day), None)
    pooled = pooled_lift(
        facts.evaluations,
        seed=facts.config.run.seed,
        n_bootstrap=facts.config.evaluate.n_bootstrap,
    )
    examples = _examples(facts)
    n = facts.config.report.n_examples
    return {
        "schema": SCHEMA,
        "varro_version": __version__,
        "run": facts.run,
        "day": facts.day,
        "made_at": f"{stage[Stage.INGEST].as_of:%Y-%m-%dT%H:%M:%SZ}",
        "verdict": _verdict(facts, stage, settle),
        "learned": {"word": claim_word(pooled), **pooled},
        "settled": _settled(settle),
        "evaluation": None if today is None else _evaluation(today, settle["n_placebo_days"]),
        "update": None if facts.update is None else _update(facts.update),
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
        "best": examples[:n],
        "worst": examples[::-1][: min(n, max(0, len(examples) - n))],
        "display": [
            {
                "headline": group.headline.title,
                "headline_link": group.headline.link,
                "source": group.headline.source,
                "text": forecast_.text,
            }
            for group in facts.display
            for forecast_ in group.forecasts
        ],
        "news": {
            "source": facts.config.news.source,
            "corpus": ingest["corpus"],
            "n_new": ingest["n_new"],
            "n_train": forecast.get("n_train"),
            "n_heldout": forecast.get("n_heldout"),
            "n_malformed": ingest["n_malformed"],
            "n_duplicates": ingest["n_duplicates"],
            "n_feeds": ingest["n_feeds"],
            "failures": ingest["failures"],
        },
        "checkpoint": None
        if facts.checkpoint is None
        else {
            "version": facts.checkpoint.version,
            "parent": facts.checkpoint.parent,
            "path": facts.checkpoint.path,
            "sha256": facts.checkpoint.sha256,
        },
        "machine": facts.machine,
        "timings": {str(s.stage): s.seconds for s in facts.stages},
        "reproduce": _reproduce(facts),
    }


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
    update = facts.update
    if update is not None:
        return {
            "word": "trained",
            "text": (
                f"Policy v{update.from_version} became v{update.to_version} after learning from "
                f"{update.metrics['n_forecasts']} settled forecasts."
            ),
        }
    reason = stage[Stage.UPDATE].detail.get("reason", "") if Stage.UPDATE in stage else ""
    if reason.startswith("refused"):
        return {"word": "refused", "text": f"The update was {reason}; the parent policy serves on."}
    if not settle["n_settled"] and not settle["n_void"]:
        return {
            "word": "first day",
            "text": "Nothing was due to be settled; the first forecasts were made today.",
        }
    return {"word": "no update", "text": f"The policy stays as it was: {reason}."}


def _settled(detail: Mapping[str, Any]) -> dict[str, Any]:
    components = detail["components"]
    return {
        "n_forecasts": detail["n_forecasts"],
        "n_groups": detail["n_groups"],
        "n_void": detail["n_void"],
        "void_reasons": detail["void_reasons"],
        "reward": detail["reward"],
        "format": components.get("format"),
        "semantic": components.get("semantic"),
        "placebo": components.get("placebo"),
        "beats": {beat: components.get(beat) for beat in BEATS},
        "words": detail["words"],
        "reward_version": detail["reward_version"],
    }


def _evaluation(info: EvaluationInfo, n_placebo_days: int) -> dict[str, Any]:
    return {
        "n_headlines": info.n_headlines,
        "n_placebo_days": n_placebo_days,
        "lift": info.lift,
        "lift_low": info.lift_low,
        "lift_high": info.lift_high,
        **{
            key: info.detail[key]
            for key in ("served", "base", "lift_reward", "lift_format", "lift_semantic")
        },
    }


def _update(info: UpdateInfo) -> dict[str, Any]:
    return {"from_version": info.from_version, "to_version": info.to_version, **info.metrics}


def _examples(facts: ReportFacts) -> list[dict[str, Any]]:
    """The served policy's settled forecasts, best first."""
    examples = []
    for settlement, group in facts.settled:
        if settlement.reward is None or group.role not in (Role.TRAIN, Role.HELDOUT):
            continue
        forecast = next(f for f in group.forecasts if f.id == settlement.forecast_id)
        outcome = facts.outcomes.get(settlement.outcome_id or "")
        examples.append(
            {
                "forecast_id": forecast.id,
                "k": forecast.k,
                "headline": group.headline.title,
                "headline_link": group.headline.link,
                "source": group.headline.source,
                "text": forecast.text,
                "reward": settlement.reward,
                "format": settlement.components["format"],
                "semantic": settlement.components["semantic"],
                "outcome": outcome.title if outcome else None,
                "outcome_link": outcome.link if outcome else None,
            }
        )
    return sorted(examples, key=lambda e: (-e["reward"], e["forecast_id"]))
