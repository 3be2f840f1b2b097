"""`varro serve`: a process that stays, and looks at its timetable whenever it is woken.

APScheduler only wakes: it hands a token to the main thread, which does what `varro tick` does. So
signals reach the one thread that works, nothing runs twice at a time, and whatever the scheduler
believes about a missed or doubled wake-up is of no account.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

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

Wakeup: TypeAlias = SchedulerEvent | None
"""None is a plain one"""
_GRACE_S = 12 * 3600
"""a wake-up that was slept through is made up for so long after"""


def serve(
    config: Config,
    run_day: RunDay,
    *,
    clock: Callable[[], datetime],
    say: Callable[[str], None],
    every: timedelta | None = None,
    beside: Callable[[Callable[[], None]], AbstractContextManager[object]] = nullcontext,
) -> None:
    """Wake up and tick until this process is told to end; what fails is said, and tried again.

    `every`: instead of schedule.wake_every_min; `beside`: what runs as long, and is given what
    wakes this one at once.
    """
    woken: queue.SimpleQueue[Wakeup] = queue.SimpleQueue()
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
    told = ""
    woken.put(None)
    with beside(lambda: woken.put(None)):
        scheduler.start()
        try:
            while True:
                told = _tick(config, run_day, clock=clock, say=say, told=told)
                complaint = _complaint(_next_wakeup(woken, timeout_s=3 * every.total_seconds()))
                if complaint:
                    say(f"{complaint}; looking now")
        finally:
            scheduler.shutdown(wait=False)


def _next_wakeup(woken: queue.SimpleQueue[Wakeup], *, timeout_s: float) -> list[Wakeup]:
    """All that has come since the last look; waits for the first. Nothing if none comes."""
    try:
        events = [woken.get(timeout=timeout_s)]
    except queue.Empty:
        return []
    while not woken.empty():
        events.append(woken.get())
    return events


def _complaint(events: Sequence[Wakeup]) -> str:
    """What the scheduler did wrong, if anything.

    Raises: VarroError if it has ended.
    """
    if not events:
        return "the scheduler has not woken anyone for three times its pace"
    if any(event is not None and not isinstance(event, JobEvent) for event in events):
        raise VarroError("the scheduler has ended; start 'varro serve' again")
    codes = sorted({event.code for event in events if event is not None})
    return f"the scheduler missed or lost a wake-up (event {codes})" if codes else ""


def _tick(
    config: Config,
    run_day: RunDay,
    *,
    clock: Callable[[], datetime],
    say: Callable[[str], None],
    told: str,
) -> str:
    """Tick until nothing is left. What was said last: the same thing is not said every hour."""
    is_left = True
    while is_left:
        is_left = False
        try:
            state = tick(config, run_day, clock=clock, complain=say)
            words, is_left = in_words(state), state.left is not None
        except HeldError as error:
            words = str(error)
        except VarroError as error:
            words = f"failed: {error}"
        if words != told:
            say(words)
        told = words
    return told


def _in_step(config: Config, now: datetime, every: timedelta) -> datetime:
    """A wake-up in the past from which one of the following meets the next cycle."""
    following = load_timetable(config.schedule).following(now).at
    return following - ((following - now) // every + 1) * every
