"""What a person must do: only lines that can be acted on, each with its command. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from varro.report.verdict import FAILED, HELD_BACK

Part = Mapping[str, Any]
_DEAD_AFTER = 3
"""failed reads in a row after which a feed is worth a look"""
_MAX_NAMED = 10
"""feeds, or numbers that are none, that are named; the others are counted"""


def to_do(report: Part) -> list[dict[str, str]]:
    """[{text, command}], the most urgent first; empty if there is nothing to do."""
    verdict, run = report["verdict"], shlex.quote(str(report["run"]))
    look = f"varro show {report['day']} --run {run} --json"
    lines: list[dict[str, str]] = []
    if verdict["word"] == FAILED:
        lines.append(_line(
            f"Stage {verdict['reason']} ended the day. What was finished before it stays; look for "
            "the cause, then run the day again.",
            f"varro doctor && varro train-day --run {run}",
        ))  # fmt: skip
    if verdict["word"] == HELD_BACK and verdict["reason"] == "canaries out of order":
        lines.append(_line("The scorer cannot be trusted today: check the embedder.",
                           "varro doctor"))  # fmt: skip
    learned = report["learned"]
    if learned is not None and learned["word"] == "worse":
        lines.append(_line("The policy is told worse than the frozen base: serve the base again.",
                           report["rollback_to_base"] or look))  # fmt: skip
    if learned is not None and learned["word"] == "blocked":
        lines.append(_line("A control that must be 0 is not, so no lift may be claimed: check the "
                           "scorer.", "varro doctor"))  # fmt: skip
    if report["alarms"]:
        names = "; ".join(a["name"] for a in report["alarms"])
        parent = report["update"] and report["rollback"]
        lines.append(_line(
            f"Alarms: {names}. Look at the forecasts below"
            + (", and if they are worse than before, serve the parent again." if parent else "."),
            parent or look,
        ))  # fmt: skip
    lines += _of_feeds(report["feeds"])
    if report["news"] is not None and report["news"]["n_missed"]:
        lines.append(_line(
            f"{report['news']['n_missed']} cycles before this one were not run: is the timer "
            "installed, and was the machine on?",
            "varro schedule status",
        ))  # fmt: skip
    if report["not_finite"]:
        names = report["not_finite"]
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        lines.append(_line(
            f"Not a finite number, and so left out: {', '.join(names[:_MAX_NAMED])}{more}.", look
        ))  # fmt: skip
    return lines


def _of_feeds(feeds: Sequence[Part]) -> list[dict[str, str]]:
    lines = []
    for feed in feeds:
        if feed["n_failures"] >= _DEAD_AFTER:
            lines.append(_line(
                f"Feed {feed['feed']} has failed {feed['n_failures']} times in a row "
                f"({feed['reason']}).",
                "varro feeds health",
            ))  # fmt: skip
        elif feed["moved_to"]:
            lines.append(_line(
                f"Feed {feed['feed']} has moved for good.",
                f"varro feeds remove {shlex.quote(feed['feed'])} && varro feeds add "
                f"{shlex.quote(feed['moved_to'])}",
            ))  # fmt: skip
    more = len(lines) - _MAX_NAMED
    if more > 0:
        lines[_MAX_NAMED:] = [_line(f"{more} more feeds are dead or have moved.",
                                    "varro feeds health")]  # fmt: skip
    return lines


def _line(text: str, command: str) -> dict[str, str]:
    return {"text": text, "command": command}
