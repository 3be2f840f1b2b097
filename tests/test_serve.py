"""`varro serve`: APScheduler wakes, and nothing more."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.events import (
    EVENT_JOB_MISSED,
    EVENT_SCHEDULER_SHUTDOWN,
    JobExecutionEvent,
    SchedulerEvent,
)
from conftest import lend_embedder
from feed_world import LONGER, SMALLEST, FeedWorld, terminate_in_its_day
from test_live import RecordedFeeds
from test_tick import MORNING, Service, live_command, small_files

from varro.domain import Stage
from varro.errors import VarroError
from varro.run import open_run
from varro.service.replay import run_due
from varro.service.serve import _complaint, _next_wakeup, serve
from varro.service.tick import load_state, state_path

SHORTLY = timedelta(seconds=0.02)


class Enough(BaseException):
    """The test has seen what it wanted to."""


class Clock:
    """Time that goes by in steps, one for each wake-up; then it ends."""

    def __init__(self, start, step, n):
        self.now, self.step, self.left = start, step, n
        self.threads = set()

    def __call__(self):
        self.threads.add(threading.current_thread())
        return self.now

    def woken(self):
        self.now += self.step
        self.left -= 1
        if self.left < 0:
            raise Enough


def asked_at_each_wakeup(clock, run_day):
    """(what `tick` asks, which lets the clock go on but where a day has just ended; `run_day`)."""
    ended = []

    def run(log):
        ended.append(log)
        return run_day(log)

    def ask():
        if ended:
            ended.clear()
        else:
            clock.woken()
        return clock()

    return ask, run


def run_service(service, clock):
    """What was said while the clock ran."""
    said = []
    ask, run_day = asked_at_each_wakeup(clock, service.days)

    def ask_for_the_days():
        service.days.now = ask()
        return service.days.now

    with pytest.raises(Enough):
        serve(service.config, run_day, clock=ask_for_the_days, say=said.append, every=SHORTLY)
    # Wake-ups this close together are lost or late on a busy machine; that it is said is tested
    # below.
    return [line for line in said if not line.endswith("; looking now")]


def test_two_weeks_of_wakeups_run_every_day_once_and_say_so_once(tmp_path):
    """Catches a scheduler that decides: a day lost or doubled, and a line for each idle hour."""
    service = Service(tmp_path, 'schedule.zone="America/New_York"')
    # The second Sunday of March has 23 hours.
    clock = Clock(datetime(2025, 3, 2, 12, tzinfo=UTC), timedelta(hours=5), 14 * 24 // 5)
    said = run_service(service, clock)
    days = [f"2025-03-{d:02d}" for d in range(2, 17)]
    assert service.days.done() == service.days.started == days
    assert [line.split()[0] for line in said if " done" in line] == days
    assert len(said) <= 2 * len(days)
    # Signals reach the thread that works.
    assert clock.threads == {threading.main_thread()}
    assert not [t for t in threading.enumerate() if "APScheduler" in t.name]


def test_a_failure_is_said_and_tried_again_and_the_service_goes_on(tmp_path):
    """Catches a service that ends, or sleeps until the next start, for one bad day or clock."""
    service = Service(tmp_path)
    service.days.code, service.days.said = 4, "varro: all feeds failed\n"
    said = run_service(service, Clock(MORNING, timedelta(hours=1), 3))
    assert service.days.started == ["2026-03-02"] * 3
    assert len(said) == 1 and "2026-03-02 failed: all feeds failed" in said[0]
    service.days.code = 0
    run_service(service, Clock(MORNING, timedelta(hours=1), 3))
    assert service.days.done() == ["2026-03-02"]
    back = run_service(service, Clock(MORNING - timedelta(days=3), timedelta(hours=1), 3))
    assert len(back) == 3 and all("set the clock right" in line for line in back)


def test_a_service_outlives_a_full_disk(tmp_path):
    """Catches a service that ends for a disk, and is not there when there is room again."""
    service = Service(tmp_path)
    service.days.code = 4
    with small_files(450):
        said = run_service(service, Clock(MORNING, timedelta(hours=1), 3))
    assert len(said) == 1 and "failed: service state: File too large" in said[0]
    run_service(service, Clock(MORNING, timedelta(hours=1), 1))
    state = load_state(state_path(service.config.home, "live"))
    assert state.error == "no word; see 2026-03-02.log"


def test_cycles_that_last_longer_than_their_cadence_follow_one_another(tmp_path):
    """Catches a service that sleeps on while a cycle is due, one that never comes back from its
    days, and a heartbeat that is not seen for as long."""
    service = Service(tmp_path, "schedule.cadence=2h")
    clock = Clock(MORNING, timedelta(hours=1), 1)
    seen = []

    def slow(log):
        code = service.days(log)
        clock.now += timedelta(hours=2.5)
        seen.append(load_state(state_path(service.config.home, "live")).at)
        if len(seen) == 4:
            raise Enough
        return code

    service.days.now = MORNING
    ask, run_day = asked_at_each_wakeup(clock, slow)
    said = []

    def ask_for_the_days():
        service.days.now = clock() if seen else ask()
        return service.days.now

    with pytest.raises(Enough):
        serve(service.config, run_day, clock=ask_for_the_days, say=said.append)
    cycles = ["2026-03-02T0630", "2026-03-02T0830", "2026-03-02T1230", "2026-03-02T1430"]
    assert service.days.started == cycles
    assert [line.split()[:2] for line in said] == [[cycle, "done"] for cycle in cycles[:3]]
    start = MORNING + timedelta(hours=1)
    assert seen == [(start + n * timedelta(hours=2.5)).isoformat() for n in range(4)]


def test_what_runs_beside_it_can_wake_it_at_once(tmp_path):
    """Catches a run-now that waits for the next hour, and a neighbour that is left behind when the
    service ends."""
    service = Service(tmp_path)
    service.days.code, service.days.said = 4, "varro: all feeds failed\n"
    is_open = []

    @contextmanager
    def beside(wake):
        is_open.append(True)
        timers = [threading.Timer(seconds, wake) for seconds in (0.3, 0.6)]
        for timer in timers:
            timer.start()
        try:
            yield
        finally:
            is_open.clear()
            for timer in timers:
                timer.join()

    def clock():
        if len(service.days.started) == 3:
            raise Enough
        return MORNING

    with pytest.raises(Enough):
        serve(
            service.config,
            service.days,
            clock=clock,
            say=lambda words: None,
            every=timedelta(hours=1),
            beside=beside,
        )
    assert len(service.days.started) == 3 and not is_open


def test_what_the_scheduler_says_is_heard():
    """Catches a wake-up that APScheduler drops without a word, and a service that waits for ever
    for a scheduler that is gone."""
    missed = JobExecutionEvent(EVENT_JOB_MISSED, "wake", "default", None)
    woken = queue.SimpleQueue()
    for event in (None, missed, None):
        woken.put(event)
    events = _next_wakeup(woken, timeout_s=1)
    assert events == [None, missed, None] and woken.empty()
    assert _complaint(events) == f"the scheduler missed or lost a wake-up (event [{missed.code}])"
    assert _complaint([None]) == ""
    assert "not woken anyone" in _complaint(_next_wakeup(woken, timeout_s=0.01))
    with pytest.raises(VarroError, match="start 'varro serve' again"):
        _complaint([None, SchedulerEvent(EVENT_SCHEDULER_SHUTDOWN)])


@pytest.fixture
def world(tmp_path, loopback):
    return FeedWorld(tmp_path, loopback)


def test_a_service_ends_on_sigterm_while_it_waits_and_while_it_works(world):
    """Catches a service that must be killed, and a day that goes on without it."""
    world.show(0, datetime.now(UTC))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(live_command(world, "serve", size=LONGER), **pipes) as process:
        terminate_in_its_day(process, world.home)
    with open_run(world.config(*LONGER)) as work:  # the lock is free
        assert work.ledger.days_done("live") == []
        cycle = work.ledger.newest_day("live")
    with subprocess.Popen(live_command(world, "serve", size=LONGER), **pipes) as process:
        assert f"{cycle} done" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_month_of_real_feeds_through_the_service(shared_data, loopback, tmp_path, embedder):
    """Catches what only a month shows: days that are lost, doubled or out of order, forecasts that
    are never settled, and a service that grows. Wake-ups come every five hours, but not while the
    laptop sleeps: two days are missed."""
    feeds = RecordedFeeds(shared_data("replay/finance-rss-xml-2025-04-18--2025-05-18.tar.xz"))
    opml = feeds.write_opml(tmp_path / "real.opml", loopback(feeds.answer))
    service = Service(tmp_path, *SMALLEST, f"news.feeds={opml}", 'schedule.zone="America/New_York"')
    start = datetime(2025, 4, 18, 11, tzinfo=UTC)
    asleep = (datetime(2025, 5, 1, 5, tzinfo=UTC), datetime(2025, 5, 3, 12, tzinfo=UTC))
    clock = Clock(start, timedelta(hours=5), 134)  # to the evening of the last day

    def run_day(log):
        feeds.today = clock.now.date().isoformat()
        with open_run(service.config) as work:
            lend_embedder(work, embedder)
            run_due(work, clock)
        return 0

    ask, run_noted = asked_at_each_wakeup(clock, run_day)

    def ask_awake():
        now = ask()
        clock.now = asleep[1] if asleep[0] <= now < asleep[1] else now
        return clock.now

    said = []
    with pytest.raises(Enough):
        serve(service.config, run_noted, clock=ask_awake, say=said.append, every=SHORTLY)
    with open_run(service.config) as work:
        done, missed = work.ledger.days_done("live"), [m.day for m in work.ledger.missed("live")]
        stages = [s for s in work.ledger.stage_runs("live") if s.stage is Stage.SETTLE]
        updates = work.ledger.counts("live")["updates"]
    assert missed == ["2025-05-01", "2025-05-02"]
    days = [(start.date() + timedelta(n)).isoformat() for n in range(31)]
    assert done == [day for day in days if day not in missed]
    assert sum(s.detail["n_settled"] > 0 for s in stages) > 20 and updates > 5
    assert not [line for line in said if "failed" in line]
