"""Five years of days: what is done every morning does not grow with them."""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import pytest
from conftest import lend_embedder, small_config
from test_recovery import KEEP_ALL, day_of, run_days

from varro.day import due_days, end_of_day, report_folder, write_day_report
from varro.ledger.place import ledger_path
from varro.run import open_run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from crash_test import WordVectors

N_DAYS = 1825
LIMIT_S = 5.0
"""of processor time: machines are shared"""


def live_for_years(home):
    """The last of three lived days again until there are N_DAYS, each with as many values as a day
    of 45 headlines has."""
    raw = sqlite3.connect(ledger_path(home))
    day = day_of(2).day
    rows = {}
    for table in ("stage_runs", "evaluations", "updates", "checkpoints", "groups"):
        raw.row_factory = sqlite3.Row
        rows[table] = [dict(r) for r in raw.execute(f"SELECT * FROM {table} WHERE day = ?", (day,))]
    of_groups = "SELECT {0}.* FROM {0} JOIN groups ON groups.id = {0}.group_id WHERE groups.day = ?"
    for table in ("forecasts", "settlements"):
        found = raw.execute(of_groups.format(table), ((day_of(1).day,) * 1))
        rows[table] = [dict(r) for r in found]
    rows["groups"] = [
        dict(r) for r in raw.execute("SELECT * FROM groups WHERE day = ?", (day_of(1).day,))
    ]
    for row in rows["evaluations"]:
        detail = json.loads(row["detail"])
        detail["differences"] = {k: v * 5 for k, v in detail["differences"].items()}
        row["detail"] = json.dumps(detail)
    for n in range(3, N_DAYS):
        now = date(2026, 1, 5) + timedelta(days=n)
        for table, kept in rows.items():
            made = []
            for row in kept:
                new = dict(row)
                for key in ("id", "group_id", "forecast_id"):
                    if key in new:
                        new[key] = f"{n}-{new[key]}"
                if table == "groups":
                    new["day"] = (now - timedelta(days=1)).isoformat()
                elif "day" in new:
                    new["day"] = now.isoformat()
                if "as_of" in new:
                    new["as_of"] = end_of_day(now).isoformat(timespec="microseconds")
                for key in ("version", "to_version"):
                    if key in new:
                        new[key] = n
                for key in ("parent", "from_version"):
                    if key in new:
                        new[key] = n - 1
                made.append(new)
            keys = list(made[0])
            raw.executemany(
                f"INSERT INTO {table} ({', '.join(keys)}) VALUES ({', '.join('?' * len(keys))})",
                [[row[key] for key in keys] for row in made],
            )
    raw.commit()
    raw.close()


@pytest.mark.slow
def test_five_years_of_days_are_as_quick_as_one(tmp_path, capsys):
    """Catches a status or a report whose time grows with the square of the days."""
    home = tmp_path / "home"
    run_days(home, 0, 1, 2)
    live_for_years(home)
    config = small_config(home, *KEEP_ALL, "evaluate.n_bootstrap=200")
    last = (date(2026, 1, 5) + timedelta(days=N_DAYS - 1)).isoformat()
    took = {}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "varro.cli", "status", "--home", str(home), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took["status"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (run,) = json.loads(done.stdout)["runs"]
    assert (run["days_done"], run["last_day"], run["n_updates"]) == (N_DAYS, last, N_DAYS - 1)
    assert run["forecasts"] > 90_000
    with open_run(config) as work:
        lend_embedder(work, WordVectors())
        started = time.process_time()
        assert due_days(work, day_of(0).as_of) == []
        took["due"] = time.process_time() - started
        # As a real run asks: ten thousand resamples.
        work.config = config.model_copy(
            update={"evaluate": config.evaluate.model_copy(update={"n_bootstrap": 10_000})}
        )
        started = time.process_time()
        write_day_report(work, last)
        took["report"] = time.process_time() - started
    report = json.loads((report_folder(home, "main", last) / "report.json").read_text())
    assert report["learned"]["lift"]["n_days"] == N_DAYS - 1
    size = ledger_path(home).stat().st_size
    with capsys.disabled():
        print(
            f"\n{N_DAYS} days, a ledger of {size / 1e6:.0f} MB: "
            + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items())
        )
    assert max(took.values()) < LIMIT_S
