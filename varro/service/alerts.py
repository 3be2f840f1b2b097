"""Telling: a file, a webhook, a notification on macOS. Each event once by each of them, and once
that it is over."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from varro.config import AlertsConfig
from varro.errors import FeedError, VarroError
from varro.service.watch import Alert

Channel = Callable[[Alert], None]
"""Raises: VarroError or OSError if the alert was not taken."""
_NOTIFY_S = 10.0


def channels(config: AlertsConfig, *, home: Path, run: str, now: datetime) -> dict[str, Channel]:
    """The ways that are switched on, by name."""
    found: dict[str, Channel] = {}
    if config.file:
        found["file"] = lambda alert: _add_line(home / "alerts.log", alert, run=run, now=now)
    if config.webhook_file is not None:
        file = config.webhook_file
        found["webhook"] = lambda alert: _post(file, alert, run=run, now=now)
    if config.notify:
        found["notification"] = lambda alert: _notify(alert, run=run)
    return found


def tell(
    alerts: Sequence[Alert],
    told: Mapping[str, Any],
    by: Mapping[str, Channel],
    *,
    now: datetime,
    complain: Callable[[str], None],
    undecided: Collection[str] = (),
) -> dict[str, Any]:
    """What has been told now: key → {text, since, by}. That an event is over is told once, by who
    told of it, and then it is forgotten, to be told again if it comes again; a channel that did not
    take one is asked again next time. Of kinds that are `undecided` it can not be said yet."""
    known: dict[str, Any] = {}
    for alert in alerts:
        entry = told.get(alert.key)
        if entry is None or "over" in entry:
            entry = {"text": alert.text, "since": now.isoformat(), "by": []}
        waiting = [name for name in by if name not in entry["by"]]
        reached = _reached(alert, waiting, by, complain)
        known[alert.key] = {**entry, "by": [*entry["by"], *reached]}
    going_on = {_kind(alert.key) for alert in alerts}
    for key, entry in told.items():
        if key in known or _kind(key) in going_on:  # told in other words, or by its newest case
            continue
        if _kind(key) in undecided:
            known[key] = entry
            continue
        over = Alert(key, f"recovered: {entry['text']}", recovered=True)
        waiting = [name for name in entry.get("over", entry["by"]) if name in by]
        reached = _reached(over, waiting, by, complain)
        if left := [name for name in waiting if name not in reached]:
            known[key] = {**entry, "over": left}
    return known


def is_over(entry: Mapping[str, Any]) -> bool:
    """Whether what was told is no more the case, and only some channel has yet to take that."""
    return "over" in entry


def _reached(
    alert: Alert,
    waiting: Sequence[str],
    by: Mapping[str, Channel],
    complain: Callable[[str], None],
) -> list[str]:
    """The channels that took it."""
    reached = []
    for name in waiting:
        try:
            by[name](alert)
        except (VarroError, OSError) as error:
            complain(f"alert {alert.key!r} was not told by {name}: {error}")
        else:
            reached.append(name)
    return reached


def _kind(key: str) -> str:
    return key.partition(" ")[0]


def _add_line(path: Path, alert: Alert, *, run: str, now: datetime) -> None:
    with path.open("a", encoding="utf-8") as handle:
        handle.write(f"{now:%Y-%m-%dT%H:%M:%SZ} {run}: {' '.join(alert.text.split())}\n")


def _post(file: Path, alert: Alert, *, run: str, now: datetime) -> None:
    from varro.news.post import post_message

    try:
        url = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FeedError(f"alerts.webhook_file can not be read: {error}") from error
    # `text` is what Slack, Mattermost and Discord's Slack door read.
    text = f"varro {run}: {alert.text}"
    facts = {"text": text, "run": run, "event": alert.key, "at": now.isoformat()}
    post_message(url, facts | {"recovered": alert.recovered})


def _notify(alert: Alert, *, run: str) -> None:
    if sys.platform != "darwin":
        raise FeedError("notifications are for macOS; set alerts.notify to false")
    try:
        done = subprocess.run(
            notification(alert, run=run), capture_output=True, check=False, timeout=_NOTIFY_S
        )
    except subprocess.TimeoutExpired:
        raise FeedError(f"osascript has not ended within {_NOTIFY_S:g} s") from None
    if done.returncode:
        raise FeedError(f"osascript ended with code {done.returncode}")


def notification(alert: Alert, *, run: str) -> list[str]:
    """The command that shows it. Its text is an argument and never a part of the script: there may
    be a headline in it."""
    script = ("on run argv", "display notification (item 1 of argv) with title (item 2 of argv)",
              "end run")  # fmt: skip
    flags = [part for line in script for part in ("-e", line)]
    return ["osascript", *flags, alert.text, f"Varro: {run}"]
