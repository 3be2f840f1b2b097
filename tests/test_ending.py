"""SIGTERM and Ctrl-C: the end comes within seconds, and everything before it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import SMALL_DAYS, ledger_settings, small_config

from varro.domain import Stage
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
print("ready", flush=True)
try:
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


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
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
