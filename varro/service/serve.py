"""`varro serve`: a process that stays, and looks at its timetable whenever it is woken.

APScheduler only wakes: it hands a token to the main thread, which does what `varro tick` does. So
signals reach the one thread that works, nothing runs twice at a time, and whatever the scheduler
believes about a missed or doubled wake-up is of no account.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_SCHEDULER_SHUTDOWN,
    JobEvent,
    SchedulerEvent,
)
from apscheduler.schedulers.background import BackgroundScheduler

from varro.config import Config
from varro.errors import HeldError, VarroError
from varro.service.slots import load_timetable
from varro.service.tick import RunDay, in_words, tick

_GRACE_S = 12 * 3600
"""a wake-up that was slept through is made up for so long after"""


def serve(
    config: Config,
    run_day: RunDay,
    *,
    clock: Callable[[], datetime],
    say: Callable[[str], None],
    every: timedelta | None = None,
) -> None:
    """Wake up and tick until this process is told to end; what fails is said, and tried again.

    `every`: instead of schedule.wake_every_min.
    """
    woken: queue.SimpleQueue[SchedulerEvent | None] = queue.SimpleQueue()
    every = every or timedelta(minutes=config.schedule.wake_every_min)
    scheduler = BackgroundScheduler(timezone=UTC)
    scheduler.add_listener(
        woken.put,
        EVENT_JOB_MISSED | EVENT_JOB_ERROR | EVENT_JOB_MAX_INSTANCES | EVENT_SCHEDULER_SHUTDOWN,
    )
    scheduler.add_job(
        woken.put,
        "interval",
        args=[None],
        seconds=every.total_seconds(),
        start_date=_in_step(config, datetime.now(UTC), every),
        coalesce=True,
        misfire_grace_time=_GRACE_S,
        max_instances=1,
    )
    scheduler.start()
    told = ""
    woken.put(None)
    try:
        while True:
            told = _tick(config, run_day, clock=clock, say=say, told=told)
            event = woken.get()
            while not woken.empty():
                event = event or woken.get()
            if isinstance(event, JobEvent):
                say(f"the scheduler missed or lost a wake-up ({event.code}); looking now")
            elif event is not None:
                raise VarroError("the scheduler has ended; start 'varro serve' again")
    finally:
        scheduler.shutdown(wait=False)


def _tick(
    config: Config,
    run_day: RunDay,
    *,
    clock: Callable[[], datetime],
    say: Callable[[str], None],
    told: str,
) -> str:
    """What was said last: the same thing is not said every hour."""
    try:
        words = in_words(tick(config, run_day, clock=clock, complain=say))
    except HeldError as error:
        words = str(error)
    except VarroError as error:
        words = f"failed: {error}"
    if words != told:
        say(words)
    return words


def _in_step(config: Config, now: datetime, every: timedelta) -> datetime:
    """A wake-up in the past from which one of the following meets the next cycle."""
    following = load_timetable(config.schedule).following(now).at
    return following - ((following - now) // every + 1) * every
