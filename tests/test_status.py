"""`varro status`: what was done, what was missed, who is at work, and what is due."""

from __future__ import annotations

import json
import os
import re
import resource
import sqlite3
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import pytest
from conftest import ROOT, ledger_at, of_sqlite
from test_tick import MORNING, Service

from varro.domain import MissedInfo, RunInfo, Stage, StageRun
from varro.errors import HeldError, StageError
from varro.ledger.store import open_ledger
from varro.lock import hold_lock, lock_path
from varro.service.status import describe, in_lines, write_prometheus

DAY = timedelta(days=1)


@pytest.fixture
def service(tmp_path):
    return Service(tmp_path)


def test_status_says_what_was_done_missed_failed_and_who_is_at_work(service):
    """Catches a status that shows a healthy run where a cycle failed, or days are missing."""
    assert "no run yet" in in_lines(describe(service.config, MORNING))
    for n in (0, 1, 4):
        service.tick(MORNING + n * DAY)
    with open_ledger(ledger_at(service.config.home)) as ledger:
        missed = [MissedInfo("live", f"2026-03-0{d}", MORNING, "2026-03-06") for d in (4, 5)]
        begun = StageRun("live", "2026-03-07", Stage.INGEST, MORNING + 5 * DAY, 1.0, {})
        ledger.finish_stage(begun, missed=missed)
    service.days.code, service.days.said = 7, "varro: stage settle of 2026-03-07 failed\n"
    service.tick(MORNING + 5 * DAY)
    lock = hold_lock(lock_path(service.config.home, "live"), now=MORNING)
    facts = describe(service.config, MORNING + 5.5 * DAY)
    text = in_lines(facts)
    lock.close()
    (row,) = facts["runs"]
    assert (row["days_done"], row["last_day"], row["unfinished"]) == (
        3,
        "2026-03-06",
        ["2026-03-07"],
    )
    assert row["last_cycle"]["day"] == "2026-03-07"
    assert row["last_cycle"]["outcome"] == "stopped after ingest"
    assert row["last_attempt"]["outcome"] == "failed" and row["last_attempt"]["exit_code"] == 7
    assert row["last_error"] == "stage settle of 2026-03-07 failed"
    assert (row["n_missed"], row["missed"]) == (2, ["2026-03-04", "2026-03-05"])
    assert f"process {os.getpid()} on " in row["held_by"]
    schedule = facts["schedule"]
    assert (schedule["at"], schedule["zone"], schedule["cadence"]) == ("06:30", "UTC", "1d")
    assert schedule["due"] == "2026-03-07"
    assert schedule["next_due"] == "2026-03-08T06:30:00+00:00"
    assert schedule["heartbeat"] == (MORNING + 5 * DAY).isoformat()
    assert "failed with exit code 7" in schedule["alerts"][0]
    for words in (
        "3 days done, last 2026-03-06", "unfinished 2026-03-07", "2 missed, the last 2026-03-05",
        f"at work: process {os.getpid()}", "last error: stage settle", "due now: 2026-03-07",
        "next due 2026-03-08T06:30Z", "alert: cycle 2026-03-07 failed",
    ):  # fmt: skip
        assert words in text
    json.dumps(facts, allow_nan=False)
    back = describe(service.config, MORNING)
    assert back["schedule"]["due"] is None
    assert back["schedule"]["refused"].startswith("the clock says")
    assert "every 1d; refused: the clock says" in in_lines(back)


def test_status_says_which_days_were_not_trained_on(service, tmp_path):
    """Catches a run that learns nothing for weeks, its feeds half dead, beside a status without a
    word of it."""
    for n, why in enumerate(["2 of 9 feeds are alive, 5 are needed", None, "3 new, 30 needed"]):
        service.days.degraded = why
        service.tick(MORNING + n * DAY)
    facts = describe(service.config, MORNING + 2 * DAY)
    (row,) = facts["runs"]
    assert (row["days_done"], row["n_degraded"]) == (3, 2)
    assert row["degraded"] == {
        "2026-03-02": "2 of 9 feeds are alive, 5 are needed",
        "2026-03-04": "3 new, 30 needed",
    }
    assert (row["last_cycle"]["outcome"], row["last_cycle"]["degraded"]) == (
        "degraded",
        "3 new, 30 needed",
    )
    assert row["last_attempt"]["outcome"] == "degraded" and row["last_error"] is None
    assert row["last_attempt"]["exit_code"] == row["last_exit_code"] == 12
    assert facts["schedule"]["last_exit_code"] == 12
    told = "2 degraded and not trained on, the last 2026-03-04 (3 new, 30 needed)"
    assert told in in_lines(facts)
    write_prometheus(tmp_path / "varro.prom", facts)
    text = (tmp_path / "varro.prom").read_text()
    assert 'varro_n_degraded{run="live"} 2\n' in text
    assert 'varro_last_cycle_degraded{run="live"} 1\n' in text
    service.days.degraded = None
    service.tick(MORNING + 3 * DAY)
    facts = describe(service.config, MORNING + 3 * DAY)
    assert facts["runs"][0]["last_cycle"]["outcome"] == "done"
    write_prometheus(tmp_path / "varro.prom", facts)
    assert 'varro_last_cycle_degraded{run="live"} 0\n' in (tmp_path / "varro.prom").read_text()


def test_the_prometheus_file_is_whole_and_well_formed(service, tmp_path):
    """Catches a file that a collector reads half, and lines that it refuses."""
    for n in range(2):
        service.tick(MORNING + n * DAY)
    target = tmp_path / "metrics" / "varro.prom"
    write_prometheus(target, describe(service.config, MORNING + DAY))
    text = target.read_text()
    assert [p.name for p in target.parent.iterdir()] == ["varro.prom"]
    sample = re.compile(r'varro_[a-z_]+(\{run="live"\})? -?\d+')
    described = []
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(
                r"# (HELP varro_[a-z_]+ .+\.|TYPE varro_[a-z_]+ (gauge|counter))", line
            )
            described += re.findall(r"# TYPE (\S+)", line)
        else:
            assert sample.fullmatch(line), line
            assert re.split(r"[{ ]", line)[0] == described[-1]
    assert len(described) == len(set(described)) > 10
    assert 'varro_days_done{run="live"} 2\n' in text
    # 2026-03-03T06:40Z
    assert 'varro_last_cycle_timestamp_seconds{run="live"} 1772520000\n' in text
    assert 'varro_is_due{run="live"} 0\n' in text


def test_a_service_that_is_refused_does_not_look_well_to_a_collector(service, tmp_path):
    """Catches a service whose wake-ups are all refused, for its clock or its ledger, with a last
    exit code of 0 and a cycle that is said to be due."""
    target = tmp_path / "varro.prom"

    def told(now):
        write_prometheus(target, describe(service.config, now))
        lines = target.read_text().splitlines()
        found = [line.rpartition(" ") for line in lines if line[0] != "#"]
        return {name.partition("{")[0].removeprefix("varro_"): float(v) for name, _, v in found}

    assert "last_exit_code" not in told(MORNING)
    service.tick(MORNING + 3 * DAY)
    assert (told(MORNING + 3 * DAY)["last_exit_code"], told(MORNING + 4 * DAY)["is_due"]) == (0, 1)
    for _ in range(2):
        with pytest.raises(StageError, match="set the clock right"):
            service.tick(MORNING)
        metrics = told(MORNING)
        assert (metrics["last_exit_code"], metrics["is_due"]) == (StageError.exit_code, 0)
    service.tick(MORNING + 3 * DAY)  # nothing is due
    assert told(MORNING + 3 * DAY)["last_exit_code"] == 0
    service.days.code = 4
    service.tick(MORNING + 4 * DAY)
    lock = hold_lock(lock_path(service.config.home, "live"), now=MORNING)
    with pytest.raises(HeldError):
        service.tick(MORNING + 4 * DAY)
    lock.close()
    assert told(MORNING + 4 * DAY)["last_exit_code"] == 4


def test_a_run_that_never_got_to_its_ledger_has_an_exit_code(service, tmp_path):
    """Catches a first day that fails every hour, and no line of it for a collector."""
    service.days.code = 6
    service.tick(MORNING)
    write_prometheus(tmp_path / "varro.prom", describe(service.config, MORNING))
    assert 'varro_last_exit_code{run="live"} 6\n' in (tmp_path / "varro.prom").read_text()


def five_years(path):
    """Rows of 1,825 days: 44 groups with 8 forecasts, settled, and details of a usual size."""
    with open_ledger(path) as ledger:
        ledger.add_run(RunInfo("live", 0, "live", "h", {}, "0"))
    days = [(date(2021, 1, 1) + n * DAY).isoformat() for n in range(1825)]
    note = {"n_settled": 300, "canaries": None, "updated": True, "note": "x" * 12_000}
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA foreign_keys = OFF")

    def add(table, rows):
        rows = list(rows)
        raw.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(rows[0]))})", rows)

    add("stage_runs", (
        ("live", d, str(s), f"{d}T06:30:00.000000+00:00", 1.0, json.dumps(note))
        for d in days for s in Stage
    ))  # fmt: skip
    add("updates", (("live", d, n, n + 1, json.dumps(note)) for n, d in enumerate(days)))
    add("checkpoints", (("live", n, n - 1, d, "p", "s") for n, d in enumerate(days)))
    add("groups", (
        (f"g{d}{n}", "live", d, "train", "h", 1, f"{d}T06:30:00.000000+00:00", "p", b"")
        for d in days for n in range(44)
    ))  # fmt: skip
    add("forecasts", (
        (f"f{d}{n}{k}", f"g{d}{n}", k, b"", b"", "t", "stop", 1, None)
        for d in days for n in range(44) for k in range(8)
    ))  # fmt: skip
    add("settlements", (
        (f"f{d}{n}{k}", "v", f"g{d}{n}", d, 0.5, "{}", None, None, None)
        for d in days for n in range(44) for k in range(8)
    ))  # fmt: skip
    raw.commit()
    raw.close()


def processor_seconds(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@of_sqlite
@pytest.mark.slow
def test_five_years_of_days_are_told_within_five_seconds(service):
    """Catches a status, or an hourly look, that reads all that a run has ever done. Processor time,
    not wall time: machines are shared."""
    five_years(ledger_at(service.config.home))
    command = [sys.executable, "-m", "varro.cli"]
    settings = ('news.source="feeds"', f"news.feeds={service.config.news.feeds}")
    flags = ["--home", str(service.config.home), "--run", "live"]
    flags += [part for setting in settings for part in ("--set", setting)]
    done, seconds = processor_seconds([*command, "status", *flags, "--json"])
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["runs"]
    assert (row["days_done"], row["forecasts"]) == (1825, 1825 * 44 * 8)
    print(f"status of five years: {seconds:.2f} s of processor time")
    assert seconds < 5
    # A cycle is due, but the run is held: only the looking is timed.
    lock = hold_lock(lock_path(service.config.home, "live"), now=datetime.now(UTC))
    held, seconds = processor_seconds([*command, "tick", *flags])
    lock.close()
    assert held.returncode == 10, held.stderr
    print(f"tick on five years: {seconds:.2f} s of processor time")
    assert seconds < 1
