"""A day in one flat line of numbers, for metrics.jsonl and what is made of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from varro.report.metrics import METRICS
from varro.report.page import Part
from varro.report.verdict import in_words

_NAMES = {metric.name for metric in METRICS}

_OF_THE_DAY = ("lift", "lift_low", "lift_high", "mean_lift", "claim_low", "claim_high",
               "base_reward", "kl_ref", "kl_ref_after", "kl_update", "entropy", "clip_frac",
               "grad_norm", "valid", "n_headlines")  # fmt: skip


def metrics_line(report: Part) -> dict[str, Any]:
    """The day's state and every number of the metrics table that its report has, null where there
    is none: flat, so that any tool reads it.

    Of the two policies that are compared, `served_NAME` and `base_NAME`; of stages,
    `seconds_STAGE`.
    """
    evaluation, learned = report["evaluation"] or {}, report["learned"] or {}
    settled, rows = report["settled"] or {}, report["history"]
    today = rows[-1] if rows and rows[-1]["day"] == report["day"] else {}
    numbers: dict[str, Any] = {}
    for part in (
        report["news"],
        report["forecast"],
        settled.get("components"),
        settled.get("essay"),
        settled,
        report["update"],
        report["calibration"],
        report["machine"],
    ):
        numbers |= _defined(part or {})
    for side in ("served", "base"):
        numbers |= {f"{side}_{k}": v for k, v in _defined(evaluation.get(side, {})).items()}
    numbers |= {f"seconds_{stage}": seconds for stage, seconds in report["timings"].items()}
    numbers |= {k: evaluation.get(k) for k in ("lift", "lift_low", "lift_high")}
    numbers |= {name: today.get(name, numbers.get(name)) for name in _OF_THE_DAY}
    changes = report["changes"] or {}
    numbers["no_signal_frac"] = changes.get("no_signal_frac", {}).get("today")
    for name in ("reward", "reward_low", "reward_high"):
        numbers[f"served_{name}"] = today.get(name, numbers.get(f"served_{name}"))
    return {
        "run": report["run"],
        "day": report["day"],
        "schema": report["schema"],
        "word": report["verdict"]["word"],
        "reason": report["verdict"]["reason"],
        "said": in_words(report["verdict"]),
        "learned": learned.get("word"),
        "version": today.get("version"),
        "config_changed": bool(report["config_changes"]),
        "n_alarms": len(report["alarms"]),
        "n_to_do": len(report["to_do"]),
        "peak_rss_gb": _largest(m["peak_rss_gb"] for m in report["memory"].values()),
        **dict(sorted(numbers.items())),
    }  # fmt: skip


def _defined(part: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in part.items()
        if key in _NAMES and (value is None or isinstance(value, int | float))
    }


def _largest(values: Iterable[float | None]) -> float | None:
    return max((v for v in values if v is not None), default=None)
