"""How long a year of reports takes: a run of so many days is made by repeating those of a home.

    python scripts/bench_report.py HOME RUN [--days 365] [--work DIR]

Copies the ledger, repeats the run's finished days under new dates (groups, forecasts, settlements
and all), then writes every report, and one again. Prints seconds on the wall and of processor, all
processes together, and the size of the largest page.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

from varro.config import load_config
from varro.day import write_all_reports, write_day_report
from varro.run import open_run

ROOT = Path(__file__).resolve().parent.parent
_DAY_TABLES = ("stage_runs", "updates", "evaluations", "feed_reads")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("run")
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "embedded.toml")
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    work = given.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    copy_ledger(given.home / "ledger.sqlite", work / "ledger.sqlite")
    n_days = repeat_days(work / "ledger.sqlite", given.run, given.days)
    config = load_config(given.config, (f"home={work}", f"run.name={given.run}"))
    with open_run(config) as opened:
        begun, worked = time.perf_counter(), processor_s()
        write_all_reports(opened)
        every, every_s = time.perf_counter() - begun, processor_s() - worked
        begun, worked = time.perf_counter(), processor_s()
        write_day_report(opened, opened.ledger.days_done(given.run)[-1])
        last, last_s = time.perf_counter() - begun, processor_s() - worked
    pages = [p.stat().st_size for p in (work / "reports").rglob("*.html") if not p.is_symlink()]
    print(
        f"{n_days} days: all reports {every:.1f} s (processor {every_s:.1f} s, "
        f"{every_s / n_days * 1000:.0f} ms a day); the last again {last:.2f} s (processor "
        f"{last_s:.2f} s); {len(pages)} pages, the largest {max(pages) / 1000:.0f} kB"
    )
    if given.work is None:
        shutil.rmtree(work)


def processor_s() -> float:
    """Of this process and those that it has waited for."""
    now = os.times()
    return now.user + now.system + now.children_user + now.children_system


def copy_ledger(source: Path, target: Path) -> None:
    with sqlite3.connect(source) as old, sqlite3.connect(target) as new:
        old.backup(new)


def repeat_days(file: Path, run: str, n_days: int) -> int:
    """How many finished days the run has now: its own, over and over, under the dates that follow
    them."""
    with sqlite3.connect(file) as ledger:
        done = [
            day
            for (day,) in ledger.execute(
                "SELECT day FROM stage_runs WHERE run = ? AND stage = 'report' ORDER BY day", (run,)
            )
        ]
        first, span = date.fromisoformat(done[0]), len(done)
        unfinished = ledger.execute(
            "SELECT DISTINCT day FROM stage_runs WHERE run = ? AND day > ?", (run, done[-1])
        ).fetchall()
        for (day,) in unfinished:
            for table in (*_DAY_TABLES, "groups"):
                ledger.execute(f"DELETE FROM {table} WHERE run = ? AND day = ?", (run, day))
        for copy in range(1, -(-n_days // span)):
            for n, day in enumerate(done):
                if copy * span + n >= n_days:
                    break
                new = (first + timedelta(days=copy * span + n)).isoformat()
                _repeat_day(ledger, run, day, new, f"-{copy}")
        return len(
            ledger.execute(
                "SELECT day FROM stage_runs WHERE run = ? AND stage = 'report'", (run,)
            ).fetchall()
        )


def _repeat_day(ledger: sqlite3.Connection, run: str, day: str, new: str, suffix: str) -> None:
    for table in _DAY_TABLES:
        _copy(ledger, table, {"day": new}, "run = :run AND day = :day", run=run, day=day)
    made = "run = :run AND day = :day"
    _copy(ledger, "groups", {"day": new}, made, {"id": suffix}, run=run, day=day)
    of_made = f"group_id IN (SELECT id FROM groups WHERE {made})"
    _copy(ledger, "forecasts", {}, of_made, {"id": suffix, "group_id": suffix}, run=run, day=day)
    keys = {"forecast_id": suffix, "group_id": suffix}
    settled = "day = :day AND group_id IN (SELECT id FROM groups WHERE run = :run)"
    _copy(ledger, "settlements", {"day": new}, settled, keys, run=run, day=day)
    _copy(ledger, "advantages", {"day": new}, made, {"forecast_id": suffix}, run=run, day=day)


def _copy(
    ledger: sqlite3.Connection,
    table: str,
    replaced: dict[str, str],
    where: str,
    suffixed: dict[str, str] | None = None,
    **values: str,
) -> None:
    """Rows again, with some columns replaced and some with a suffix."""
    columns = [row[1] for row in ledger.execute(f"PRAGMA table_info({table})")]
    suffixes = suffixed or {}
    shown = [
        f":new_{c}" if c in replaced else f"{c} || '{suffixes[c]}'" if c in suffixes else c
        for c in columns
    ]
    new = {f"new_{name}": value for name, value in replaced.items()}
    ledger.execute(
        f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) "
        f"SELECT {', '.join(shown)} FROM {table} WHERE {where}",
        {**values, **new},
    )


if __name__ == "__main__":
    main()
