"""SIGTERM and Ctrl-C: the end comes within seconds, and everything before it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from conftest import SMALL_DAYS, ledger_settings, small_config

from varro.domain import Stage
from varro.lock import is_held
from varro.run import open_run

PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

NATIVE = """
import hashlib, sys
from varro.service.ending import end_on_signals
end_on_signals(grace_s=1.0)
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""

CLEANS_UP = """
import threading
from varro.service.ending import end_on_signals
end_on_signals()
try:
    print("ready", flush=True)
    threading.Event().wait()
finally:
    print("cleaned up", flush=True)
"""

DEAF = """
import os, signal, subprocess, sys, time
from varro.service.ending import deaf_children, end_on_signals
end_on_signals()
child = None
try:
    with deaf_children():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2)"])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
    time.sleep(30)
finally:
    for signum in (signal.SIGTERM, signal.SIGINT):
        os.kill(child.pid, signum)
    print("child ended with", child.wait(), flush=True)
"""


RUNS_A_DAY = """
import sys
from datetime import timedelta
from pathlib import Path
from varro.service.ending import end_on_signals
from varro.service.tick import day_process
end_on_signals()
day, log = sys.argv[1:]
program = [sys.executable, "-c", day]
day_process([log], limit=timedelta(hours=1), program=program)(Path(log))
"""

HOLDS_ITS_LOG = """
import fcntl, os, signal, sys, time
from varro.service.ending import end_on_signals
end_on_signals()
log = open(sys.argv[-1])
fcntl.flock(log, fcntl.LOCK_EX)
print(os.getpid(), flush=True)
time.sleep(120)
"""

STUBBORN_DAY = HOLDS_ITS_LOG.replace(
    "end_on_signals()\nlog", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nlog"
)


@contextmanager
def day_at_work(log, day):
    """A process that waits for its day, which holds a lock on its log; nothing is left behind."""
    with subprocess.Popen([sys.executable, "-c", RUNS_A_DAY, day, str(log)], **PIPES) as process:
        until = time.monotonic() + 30
        while not (log.exists() and log.read_text().endswith("\n")):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.05)
        try:
            yield process
        finally:
            process.kill()
            if is_held(log):
                os.kill(int(log.read_text()), signal.SIGKILL)


def test_a_day_that_does_not_end_when_it_is_told_to_is_killed(tmp_path):
    """Catches a stubborn day that outlives the service, in a session of its own, with the run's
    lock: the service itself was gone before it could kill it."""
    log = tmp_path / "day.log"
    with day_at_work(log, STUBBORN_DAY) as process:
        process.terminate()
        assert process.wait(20) == 143
        assert not is_held(log)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGHUP])
def test_a_day_ends_with_the_process_that_waits_for_it(tmp_path, signum):
    """Catches a day that works on, unseen and without a limit, when its service was killed or the
    terminal closed."""
    log = tmp_path / "day.log"
    with day_at_work(log, HOLDS_ITS_LOG) as process:
        process.send_signal(signum)
        assert process.wait(20) == (-signum if signum == signal.SIGKILL else 129)
        until = time.monotonic() + 10
        while is_held(log):
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_hangup_that_is_ignored_stays_so():
    """Catches a day that ends with the terminal in spite of nohup."""
    ignores = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)" + CLEANS_UP
    with subprocess.Popen([sys.executable, "-c", ignores], **PIPES) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.poll() is None
        process.terminate()
        assert process.wait(20) == 143


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_main_thread_in_native_code_does_not_hold_up_the_end(signum, code):
    """Catches a service that the system must kill, because a matrix product is not interrupted."""
    with subprocess.Popen([sys.executable, "-c", NATIVE], **PIPES) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        started = time.monotonic()
        process.send_signal(signum)
        assert process.wait(20) == code
        assert time.monotonic() - started < 5


def test_sigterm_cleans_up_and_says_so():
    """Catches a default SIGTERM, which leaves children and open files behind."""
    with subprocess.Popen([sys.executable, "-c", CLEANS_UP], **PIPES) as process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        out, error = process.communicate(timeout=20)
    assert (process.returncode, out) == (143, "cleaned up\n")
    assert error == "varro: terminated; what was finished stays\n"


def test_a_child_is_deaf_from_its_first_moment_and_its_parent_never():
    """Catches a stage that ends by itself, before its parent can say why, and a signal that is lost
    because it came while a stage was started: it would run for an hour."""
    done = subprocess.run(
        [sys.executable, "-c", DEAF], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (143, "child ended with 0\n")


@pytest.mark.parametrize("apart", [False, True])
def test_a_day_that_is_terminated_ends_in_time_and_is_taken_up_again(tmp_path, apart):
    """Catches a stage that works on after the end, in a process that nobody sees, and a run that
    can not be started again."""
    home = tmp_path / "home"
    flags = [part for key in (*SMALL_DAYS, *ledger_settings(home)) for part in ("--set", key)]
    command = [
        *(sys.executable, "-m", "varro.cli", "train-day", "--home", str(home), *flags),
        *("--set", f"memory.process_per_stage={str(apart).lower()}"),
    ]
    with subprocess.Popen(command, start_new_session=True, **PIPES) as process:
        assert " ingest " in process.stderr.readline()
        time.sleep(1.0)
        started = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        rest = process.stderr.read()  # ends when the last process that writes there has ended
        assert time.monotonic() - started < 10
    assert process.returncode == 143
    assert "Traceback" not in rest and "what was finished stays" in rest
    with open_run(small_config(home)) as work:  # the lock is free
        begun = work.ledger.stage_runs("main")
        assert begun[0].stage is Stage.INGEST and work.ledger.days_done("main") == []
