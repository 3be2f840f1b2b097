"""What a night came to, in one of five words and a sentence. Pure.

TRAINED · TRAINED WITH WARNINGS · NO UPDATE (reason) · HELD BACK (by what) · FAILED (stage)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from varro.domain import Stage, StageRun, UpdateInfo

TRAINED = "TRAINED"
WARNINGS = "TRAINED WITH WARNINGS"
NO_UPDATE = "NO UPDATE"
HELD_BACK = "HELD BACK"
FAILED = "FAILED"

MARKS = {
    TRAINED: ("✓", "good"),
    WARNINGS: ("⚠", "calm"),
    NO_UPDATE: ("○", "calm"),
    HELD_BACK: ("⏸", "bad"),
    FAILED: ("✗", "bad"),
}
"""(icon, tone) of each word"""

Verdict = dict[str, str | None]


def verdict_of(
    update: UpdateInfo | None,
    stage: Mapping[Stage, StageRun],
    settle: Mapping[str, Any],
    *,
    is_first: bool,
) -> Verdict:
    """{word, reason, text}: the reason is short, for the page's title; the text is a sentence. A
    part of the day that was refused is named whatever the word."""
    refused = "".join(
        f" The forecasts of {day} were refused: {why}." for day, why in settle["refused"].items()
    )
    if update is not None:
        text = (
            f"Policy v{update.from_version} became v{update.to_version} after learning from "
            f"{update.metrics['n_trained']} of {update.metrics['n_forecasts']} settled forecasts."
        )
        return _said(TRAINED, None, text + refused)
    reason = stage[Stage.UPDATE].detail.get("reason", "") if Stage.UPDATE in stage else ""
    broken = (settle["canaries"] or {}).get("broken")
    if broken:
        text = f"Nothing was trained: the exact outcome does not score above {broken}."
        return _said(HELD_BACK, "canaries out of order", text + refused)
    if reason.startswith("rolled back"):
        text = f"The policy was {reason}. It has the frozen base's weights again."
        return _said(HELD_BACK, "rolled back", text + refused)
    degraded = stage[Stage.INGEST].detail.get("degraded")
    if degraded:
        text = f"Nothing was trained, for the day's news is thin: {degraded}."
        return _said(HELD_BACK, "thin news", text + refused)
    if reason.startswith("refused"):
        text = f"The update was {reason}; the parent policy serves on."
        return _said(HELD_BACK, "training guard", text + refused)
    if refused:
        return _said(HELD_BACK, "day guard", f"Nothing was trained.{refused}")
    if not settle["n_settled"] and not settle["n_void"]:
        if is_first:
            text = "Nothing was due to be settled; the first forecasts were made today."
            return _said(NO_UPDATE, "first day", text)
        n = settle["n_pending_groups"]
        waits = f"{n:,} groups wait until their time has passed, or for more outcomes" if n else (
            "no forecast of the days before waits"
        )  # fmt: skip
        return _said(NO_UPDATE, "nothing due", f"Nothing was due to be settled: {waits}.")
    return _said(NO_UPDATE, "too little to learn from", f"The policy stays as it was: {reason}.")


def failed_verdict(stage: str, error: str) -> Verdict:
    """Of a day that a stage ended: what was finished before it stays."""
    return _said(FAILED, stage, f"The day ended at stage {stage}: {error}")


def with_warnings(verdict: Verdict, n_alarms: int) -> Verdict:
    """The verdict once the alarms are known: they do not undo an update, but they go with it."""
    if verdict["word"] != TRAINED or not n_alarms:
        return verdict
    return {**verdict, "word": WARNINGS, "reason": f"{n_alarms} alarm{'s' * (n_alarms > 1)}"}


def in_words(verdict: Mapping[str, Any]) -> str:
    """The word with its reason, as it stands in the title and the index."""
    word, reason = str(verdict["word"]), verdict["reason"]
    return f"{word} ({reason})" if reason else word


def _said(word: str, reason: str | None, text: str) -> Verdict:
    return {"word": word, "reason": reason, "text": text}
