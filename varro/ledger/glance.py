"""A run at a glance, without an ORM and without a lock: what `varro tick` asks every hour, and the
live view whenever it is looked at, in a few milliseconds."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from varro.errors import LedgerError
from varro.ledger.place import Place, ask_postgres

_IS_MADE = "SELECT 1 FROM sqlite_master WHERE name = 'stage_runs'"
_NEWEST = """
SELECT day, as_of, stage FROM stage_runs
WHERE run = :run AND day = (SELECT max(day) FROM stage_runs WHERE run = :run)
"""
_FIRST = "SELECT as_of FROM stage_runs WHERE run = :run ORDER BY day LIMIT 1"
_DONE = """
SELECT report.day, report.as_of, CAST(settle.detail AS TEXT), CAST(report.detail AS TEXT)
FROM stage_runs AS report
JOIN stage_runs AS settle ON settle.run = report.run AND settle.day = report.day
WHERE report.run = :run AND report.stage = 'report' AND settle.stage = 'settle'
ORDER BY report.day DESC LIMIT 3
"""
_UPDATES = """
SELECT CAST(detail AS TEXT) FROM stage_runs
WHERE run = :run AND stage = 'update' ORDER BY day DESC LIMIT 3
"""
_THIN = """
SELECT ingest.day, CAST(ingest.detail AS TEXT) FROM stage_runs AS ingest
JOIN stage_runs AS report ON report.run = ingest.run AND report.day = ingest.day
WHERE ingest.run = :run AND ingest.day >= :since
  AND ingest.stage = 'ingest' AND report.stage = 'report'
"""
_RUNS = "SELECT name FROM runs ORDER BY name"
_STAGES = """
SELECT day, stage, as_of, seconds FROM stage_runs
WHERE run = :run AND day IN (
    SELECT DISTINCT day FROM stage_runs WHERE run = :run ORDER BY day DESC LIMIT 7
)
ORDER BY day DESC
"""
_N_DONE = "SELECT count(*) FROM stage_runs WHERE run = :run AND stage = 'report'"
_VERSION = "SELECT max(version) FROM checkpoints WHERE run = :run"


@dataclass(frozen=True, slots=True)
class Glance:
    """What there is of a run."""

    newest: tuple[str, datetime, frozenset[str]] | None = None
    """the newest day: name, clock, and the names of its finished stages"""
    first_at: datetime | None = None
    """clock of the first day"""
    done: tuple[tuple[str, datetime], ...] = ()
    """up to three newest finished days with their clocks, newest first"""
    n_settled: tuple[int, ...] = ()
    """forecasts that each of them settled"""
    broken_canary: str | None = None
    """what the newest of them found above the exact outcome"""
    refused: tuple[str, ...] = ()
    """why the guard refused the newest updates, newest first, up to one that it did not; at most
    three"""
    sinks: tuple[tuple[str, str], ...] = ()
    """trackers that have not taken the newest finished day, and why"""


def glance_at(place: Place, run: str, *, home: Path | None = None) -> Glance:
    """What the ledger says of a run; nothing if there is no such ledger or run, or its first
    process was killed before it had made its tables: the next one makes them.

    Raises: LedgerError if it can not be read, or belongs to another home than `home`.
    """
    answers = _ask(place, (_NEWEST, _FIRST, _DONE, _UPDATES), home=home, run=run)
    if answers is None or not answers[0]:
        return Glance()
    newest, (first,), done, updates = answers
    settles = [json.loads(detail) for _, _, detail, _ in done]
    sinks = json.loads(done[0][3]).get("sinks", {}) if done else {}
    return Glance(
        newest=(newest[0][0], _time(newest[0][1]), frozenset(stage for _, _, stage in newest)),
        first_at=_time(first[0]),
        done=tuple((day, _time(as_of)) for day, as_of, _, _ in done),
        n_settled=tuple(settle["n_settled"] for settle in settles),
        broken_canary=((settles[0]["canaries"] or {}).get("broken") or None) if settles else None,
        sinks=tuple((sink, why) for sink, why in sinks.items() if why is not None),
        refused=tuple(takewhile(bool, (_refusal(json.loads(detail)) for (detail,) in updates))),
    )


def degraded_since(
    place: Place, run: str, since: str, *, home: Path | None = None
) -> dict[str, str]:
    """Finished days, from `since` on, whose news was too thin to be trained on → why.

    Raises: LedgerError, as `glance_at`.
    """
    answers = _ask(place, (_THIN,), home=home, run=run, since=since)
    details = {day: json.loads(detail) for day, detail in answers[0]} if answers else {}
    return {day: why for day, detail in details.items() if (why := detail.get("degraded"))}


@dataclass(frozen=True, slots=True)
class PastDay:
    """A day that was begun."""

    day: str
    as_of: datetime
    seconds: dict[str, float]
    """of each stage that is finished"""


@dataclass(frozen=True, slots=True)
class History:
    """What a run has done."""

    n_done: int
    version: int | None
    """of its newest checkpoint"""
    days: tuple[PastDay, ...]
    """the newest seven, newest first"""


def runs_at(place: Place) -> list[str]:
    """The names of all runs.  Raises: LedgerError if it can not be read."""
    answers = _ask(place, (_RUNS,))
    return [name for (name,) in answers[0]] if answers else []


def history_at(place: Place, run: str) -> History:
    """What the ledger says that a run has done.  Raises: LedgerError if it can not be read."""
    answers = _ask(place, (_STAGES, _N_DONE, _VERSION), run=run)
    if answers is None:
        return History(0, None, ())
    stages, ((n_done,),), ((version,),) = answers
    days: dict[str, PastDay] = {}
    for day, stage, as_of, seconds in stages:
        days.setdefault(day, PastDay(day, _time(as_of), {})).seconds[stage] = seconds
    return History(n_done, version, tuple(days.values()))


def _ask(
    place: Place, queries: tuple[str, ...], *, home: Path | None = None, **parameters: str
) -> list[list[tuple[Any, ...]]] | None:
    """The rows of each query, or None if there is no ledger."""
    if isinstance(place, str):
        asked = [re.sub(r":(\w+)", r"%(\1)s", query) for query in queries]
        return ask_postgres(place, asked, parameters, home=home)
    return _ask_sqlite(place, queries, parameters) if place.exists() else None


def _ask_sqlite(
    path: Path, queries: tuple[str, ...], parameters: dict[str, str]
) -> list[list[tuple[Any, ...]]] | None:
    try:
        with closing(sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA busy_timeout = 30000")
            if not connection.execute(_IS_MADE).fetchone():
                return None
            return [connection.execute(query, parameters).fetchall() for query in queries]
    except sqlite3.Error as error:
        raise LedgerError(f"ledger {path}: {error}") from error


def _refusal(update: dict[str, Any]) -> str:
    """Why the guard refused it, or nothing: that there was too little to train on is no refusal."""
    is_refused = str(update.get("reason") or "").startswith("refused: ")
    return str(update["reason"]).removeprefix("refused: ") if is_refused else ""


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
