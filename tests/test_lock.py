"""One at a time: a lock that names its holder, and a number without which nothing is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from conftest import SMALL_DAYS, ledger_at, ledger_settings, small_config

from varro.domain import RunInfo, Stage, StageRun
from varro.errors import HeldError, LedgerError, StaleLeaseError
from varro.ledger.place import is_begun
from varro.ledger.store import open_ledger
from varro.lock import BEAT_S, hold_lock, holder_of, is_held, lock_path
from varro.run import open_run

NOW = datetime(2026, 1, 5, 6, 30, tzinfo=UTC)
RUN = RunInfo("main", 0, "world", "hash", {}, "0")

HOLD = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from varro.errors import VarroError
from varro.lock import hold_lock
started = time.monotonic()
try:
    lock = hold_lock(Path(sys.argv[1]), now=datetime.now(UTC), lease_s=float(sys.argv[2]))
except VarroError as error:
    print(f"{time.monotonic() - started:.1f} {error}", flush=True)
    sys.exit(error.exit_code)
print("held", flush=True)
sys.stdin.read()
"""


def holder(path, lease_s=3600.0):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(lease_s)], **pipes)


def told(process):
    line = process.stdout.readline()
    process.communicate()
    return line


def test_of_twenty_processes_at_once_one_works_and_the_others_name_it(tmp_path):
    """Catches two at work on one run, none at work, one that waits, and a nameless refusal."""
    path = tmp_path / "home" / ".main.lock"
    began = datetime.now(UTC)
    processes = [holder(path) for _ in range(20)]
    lines = [p.stdout.readline() for p in processes]
    (winner,) = [p for p, line in zip(processes, lines, strict=True) if line == "held\n"]
    for process in processes:
        process.communicate()  # its standard input ends, and so does the winner
    assert sorted(p.returncode for p in processes) == [0] + [10] * 19
    for line in lines:
        if line != "held\n":
            waited, _, text = line.partition(" ")
            assert float(waited) < 2
            assert f"process {winner.pid} on " in text and f"since {began:%Y-%m-%dT%H:}" in text
    assert not is_held(path)


def test_a_killed_holder_leaves_the_run_free(tmp_path):
    """Catches a run that can not be started after a crash until somebody removes a file."""
    path = tmp_path / ".main.lock"
    process = holder(path)
    assert process.stdout.readline() == "held\n"
    assert is_held(path) and holder_of(path).pid == process.pid
    process.kill()
    process.communicate()
    assert not is_held(path)
    hold_lock(path, now=NOW).close()


def test_a_lock_is_taken_over_only_from_one_that_shows_no_life(tmp_path):
    """Catches a stopped process that holds the run for good, and one that is robbed while it works
    because the machine has slept: its clock jumps, but it goes on."""
    path = tmp_path / ".main.lock"
    process = holder(path)
    assert process.stdout.readline() == "held\n"
    later = datetime.now(UTC) + timedelta(hours=8)
    with pytest.raises(HeldError):
        hold_lock(path, now=later, lease_s=3600)  # a sign of life came while it looked
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(HeldError):  # silent, but not for long enough
        hold_lock(path, now=datetime.now(UTC), lease_s=3600)
    mine = hold_lock(path, now=later, lease_s=3600)
    assert holder_of(path).pid == os.getpid() and is_held(path)
    with pytest.raises(HeldError):  # its own lease is fresh
        hold_lock(path, now=datetime.now(UTC), lease_s=3600)
    os.kill(process.pid, signal.SIGCONT)
    process.communicate()
    assert holder_of(path).pid == os.getpid() and is_held(path)
    mine.close()
    assert not is_held(path)


def test_a_holder_shows_signs_of_life(tmp_path):
    """Catches a day that takes longer than its lease, and is robbed of it."""
    path = tmp_path / ".main.lock"
    lock = hold_lock(path, now=NOW)
    os.utime(path, (0, 0))
    time.sleep(BEAT_S + 1)
    assert path.stat().st_mtime > 0
    lock.close()


def stage(day="2026-01-05"):
    return StageRun("main", day, Stage.INGEST, NOW, 0.5, {})


def test_a_holder_that_was_passed_over_can_not_write(tmp_path):
    """Catches a process that wakes up after hours and commits over the one that took its place."""
    place = ledger_at(tmp_path)
    with open_ledger(place) as stale, open_ledger(place) as fresh, open_ledger(place) as reader:
        assert stale.take_lease("main", "process 1", NOW) == 1
        stale.add_run(RUN)
        assert fresh.take_lease("main", "process 2 on mini since noon", NOW) == 2
        for write in (
            lambda: stale.finish_stage(stage()),
            lambda: stale.keep_embeddings({"k": [1.0]}),
            lambda: stale.add_run(RUN),
            stale.check_lease,
        ):
            with pytest.raises(StaleLeaseError, match="taken over by process 2 on mini") as refused:
                write()
            assert refused.value.exit_code == 11 and isinstance(refused.value, LedgerError)
        assert reader.stage_runs("main") == [] and reader.embeddings(["k"]) == {}
        fresh.finish_stage(stage())
        # A child of the holder writes under its number, one of the other's does not.
        reader.continue_lease("main", 1)
        with pytest.raises(StaleLeaseError):
            reader.finish_stage(stage("2026-01-06"))
        reader.continue_lease("main", 2)
        reader.finish_stage(stage("2026-01-06"))
        # Another run's holder is none of ours.
        assert stale.take_lease("other", "process 1", None) == 1
        assert fresh.newest_day("main") == "2026-01-06"


def train_day(home, *settings):
    keys = (*SMALL_DAYS, *ledger_settings(home), *settings)
    flags = [part for key in keys for part in ("--set", key)]
    return subprocess.Popen(
        [sys.executable, "-m", "varro.cli", "train-day", "--home", str(home), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_day_beside_another_ends_at_once_with_a_code_of_its_own(tmp_path):
    """Catches a scheduler that can not tell a run at work from one that failed."""
    lock = hold_lock(lock_path(tmp_path / "home", "main"), now=NOW)
    second = train_day(tmp_path / "home")
    _, error = second.communicate(timeout=120)
    lock.close()
    assert second.returncode == 10
    assert error.startswith("varro: another varro is at work on this run: process ")
    assert f"process {os.getpid()} on " in error and "since 2026-01-05T06:30:00Z" in error
    assert not is_begun(ledger_at(tmp_path / "home"))


@pytest.mark.slow
def test_a_day_that_was_stopped_for_too_long_is_passed_over_and_writes_nothing_more(tmp_path):
    """Catches a day that is done twice, and a checkpoint that is replaced under the one who
    published it: the first process stops after its ingest, a second one takes over, and then the
    first goes on."""
    home = tmp_path / "home"
    first = train_day(home, "schedule.lease_s=1")
    assert " ingest " in first.stderr.readline()
    os.kill(first.pid, signal.SIGSTOP)
    time.sleep(1.5)
    second = train_day(home, "schedule.lease_s=1")
    _, error = second.communicate(timeout=280)
    assert second.returncode == 0, error
    with open_run(small_config(home)) as work:
        before = work.ledger.stage_runs("main")
    os.kill(first.pid, signal.SIGCONT)
    _, error = first.communicate(timeout=280)
    assert first.returncode == 11, error
    assert "run 'main' was taken over by process" in error
    with open_run(small_config(home)) as work:
        assert work.ledger.stage_runs("main") == before
        assert work.ledger.days_done("main") == ["2026-01-05"]
    third = train_day(home)  # its checkpoint is whole: the hash is checked
    _, error = third.communicate(timeout=280)
    assert third.returncode == 0, error
