"""The process of a day in a soak: `varro train-day`, by the soak's clock, with texts embedded by
their words, and killed where the scene says so.

Usage: soak_day.py SCENE train-day --catch-up …
"""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from soak_world import Scene, read_scene, write_scene

N_READINGS = 2
"""of the clock before the day is over: when the run is taken, and to see which day is due"""


def main() -> None:
    scene_path = Path(sys.argv[1])
    scene = read_scene(scene_path)

    from crash_test import WordVectors

    from varro import cli, run
    from varro.policy.load import leave_out_torch

    leave_out_torch()
    cli.datetime = clock_of(scene_path, scene)
    run.load_embedder = lambda config: WordVectors()
    sys.argv = ["varro", *sys.argv[2:]]
    cli.main()


def kill_after(seconds: float) -> None:
    """Another process kills this one: also where no thread of its own would get a turn."""
    day = os.getpid()
    if os.fork() == 0:
        time.sleep(seconds)
        if os.getppid() == day:
            os.kill(day, signal.SIGKILL)
        os._exit(0)


def clock_of(scene_path: Path, scene: Scene) -> Any:
    """A `datetime` whose `now` is the scene's; its first reading begins the time that is left until
    the kill, and the world turns into `scene.then` when the day is over."""
    readings = count(1)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            n, now = next(readings), scene.clock
            if n == 1 and scene.kill_after_s is not None:
                kill_after(scene.kill_after_s)
            if n > N_READINGS and scene.then is not None:
                write_scene(scene_path, scene.then)
                now = scene.then.clock
            return now.astimezone(tz or UTC)

    return Clock


if __name__ == "__main__":
    main()
