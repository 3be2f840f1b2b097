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
_ENDING = (signal.SIGINT, signal.SIGTERM)


def end_on_signals(grace_s: float = GRACE_S) -> None:
    """SIGTERM ends this process with code 143, as Ctrl-C does with 130: with what cleans up behind
    it, or after `grace_s` without."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, _terminate)
    threading.Thread(target=_insist, args=(reader, grace_s), daemon=True).start()


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started inside hear neither Ctrl-C nor SIGTERM: this one hears them, and
    ends its children itself."""
    resource_tracker.ensure_running()  # to start one later would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _terminate(signum: int, frame: object) -> None:
    os.write(2, b"varro: terminated; what was finished stays\n")
    raise SystemExit(128 + signum)


def _insist(reader: int, grace_s: float) -> None:
    while (signum := os.read(reader, 1)[0]) not in _ENDING:
        pass
    time.sleep(grace_s)
    os._exit(128 + signum)
