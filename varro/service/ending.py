"""How Varro ends when it is told to: at once where it can, and within seconds in any case.

What is not committed never was, so there is nothing to be saved on the way out.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

GRACE_S = 7.0
"""for a main thread that is deep in native code to come back; then the process ends without it"""
ENDS_WITH_STDIN = "VARRO_ENDS_WITH_STDIN"
"""set in the environment of a process whose standard input is a pipe that nobody writes to: it ends
when the other end is closed, by whatever ended the process that held it"""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_on_signals(grace_s: float = GRACE_S) -> None:
    """SIGTERM ends this process with code 143 and SIGHUP with 129, as Ctrl-C does with 130: with
    what cleans up behind it, or after `grace_s` without. A SIGHUP that is ignored (nohup) stays
    so."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _terminate)
    threading.Thread(target=_insist, args=(reader, grace_s), daemon=True).start()
    if os.environ.pop(ENDS_WITH_STDIN, None):
        threading.Thread(target=_end_with_stdin, daemon=True).start()


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started inside hear none of Ctrl-C, SIGTERM and SIGHUP: this one hears
    them, and ends its children itself."""
    resource_tracker.ensure_running()  # to start one later would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ending_of(exit_code: int | None) -> str:
    """How a child ended, in words; a negative code is the signal that ended it."""
    if exit_code == -signal.SIGKILL:
        return "killed, as the system does when memory runs out"
    if exit_code is not None and exit_code < 0:
        return f"ended by signal {-exit_code} ({signal.strsignal(-exit_code)})"
    return f"exit code {exit_code}"


def _terminate(signum: int, frame: object) -> None:
    os.write(2, b"varro: terminated; what was finished stays\n")
    raise SystemExit(128 + signum)


def _end_with_stdin() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _insist(reader: int, grace_s: float) -> None:
    while (signum := os.read(reader, 1)[0]) not in _ENDING:
        pass
    time.sleep(grace_s)
    os._exit(128 + signum)
