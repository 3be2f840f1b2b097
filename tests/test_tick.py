"""`varro tick`: cheap, safe at any time, and never without a word where something is wrong."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from conftest import POSTGRES, ROOT, SMALL_DAYS, ledger_at, ledger_settings, of_sqlite, small_config
from feed_world import LONGER, SMALLEST, FeedWorld, terminate_in_its_day

from varro.day import end_of_day, newest_begun
from varro.domain import RunInfo, Stage, StageRun
from varro.errors import ConfigError, DiskError, HeldError, LedgerError, StageError
from varro.ledger.glance import Glance, glance_at
from varro.ledger.place import ledger_path
from varro.ledger.store import open_ledger
from varro.lock import hold_lock, lock_path
from varro.news.archive import load_archive
from varro.run import open_run
from varro.service.slots import due_live, load_timetable
from varro.service.tick import day_process, due_cycle, in_words, load_state, state_path, tick

MORNING = datetime(2026, 3, 2, 6, 40, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


class Days:
    """A process of a day that only writes the rows, under the ledger's own word of what is due."""

    def __init__(self, config):
        self.config, self.now, self.code, self.said = config, MORNING, 0, ""
        self.started = []
        self.n_settled = 5
        self.broken = []
        self.degraded = None
        self.reason = None
        self.then = lambda: None

    def __call__(self, log):
        with log.open("a") as handle:
            handle.write(self.said)
        self.started.append(log.stem)
        if self.code == 0:
            with open_ledger(ledger_at(self.config.home)) as ledger:
                ledger.add_run(RunInfo("live", 0, "live", "h", {}, "0"))
                newest = newest_begun(ledger, "live")
                timetable = load_timetable(self.config.schedule)
                for due in due_live(timetable, self.now, newest):
                    for stage in Stage:
                        ledger.finish_stage(
                            StageRun("live", due.day, stage, due.as_of, 1.0, self.detail())
                        )
        self.then()
        return self.code

    def detail(self):
        return {
            "n_settled": self.n_settled,
            "canaries": {"broken": self.broken},
            "degraded": self.degraded,
            "reason": self.reason,
        }

    def done(self):
        with open_ledger(ledger_at(self.config.home)) as ledger:
            return ledger.days_done("live")


class Service:
    """A service with a clock that a test sets."""

    def __init__(self, tmp_path, *overrides):
        tmp_path.mkdir(exist_ok=True)
        (tmp_path / "feeds.opml").write_text(
            '<opml><body><outline xmlUrl="http://x"/></body></opml>'
        )
        self.config = small_config(
            tmp_path / "home", 'news.source="feeds"', f"news.feeds={tmp_path}/feeds.opml",
            "run.name=live", 'schedule.zone="UTC"', "alerts.min_free_gb=0", *overrides,
        )  # fmt: skip
        self.days = Days(self.config)
        self.complaints = []

    def tick(self, now):
        self.days.now = now
        return tick(self.config, self.days, clock=lambda: now, complain=self.complaints.append)

    def alerts(self):
        path = self.config.home / "alerts.log"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def service(tmp_path):
    return Service(tmp_path)


def test_a_cycle_is_run_once_however_often_it_is_called(service):
    """Catches a day that is run twice: for two wake-ups in one second, or a late one."""
    for second in (0, 0, 1, 3600, 7200):
        state = service.tick(MORNING + timedelta(seconds=second))
    assert service.days.started == ["2026-03-02"]
    assert (state.outcome, state.cycle) == ("nothing due", None)
    assert state.next_due == "2026-03-03T06:30:00+00:00"
    assert service.tick(MORNING + 3 * DAY).cycle == "2026-03-05"
    assert service.days.done() == ["2026-03-02", "2026-03-05"]


@pytest.mark.parametrize(
    "zone",
    [
        "America/Los_Angeles",
        pytest.param("Australia/Lord_Howe", marks=of_sqlite),
        pytest.param("Pacific/Apia", marks=of_sqlite),
    ],
)
def test_launchd_cron_and_a_scheduler_lead_to_the_same_ledger(tmp_path, zone):
    """Catches a ledger that depends on who wakes the service, and when: hourly, some hours lost in
    sleep, some wake-ups doubled."""
    start = datetime(2011, 12, 20, tzinfo=UTC)
    found = []
    for seed in range(3):
        service = Service(tmp_path / str(seed), f'schedule.zone="{zone}"')
        draw = random.Random(seed)
        for hour in range(0, 24 * 16, 2):
            for minute in draw.choice([(0,), (7,), (31,), (), (7, 7), (0, 31)]):
                service.tick(start + hour * HOUR + timedelta(minutes=minute))
        found.append(service.days.done())
    first = (start.astimezone(ZoneInfo(zone)) - timedelta(hours=6.5)).date()
    expected = [(first + n * DAY).isoformat() for n in range(19)]
    if zone == "Pacific/Apia":
        expected.remove("2011-12-30")
    assert found[0] == found[1] == found[2] == expected[: len(found[0])]
    assert len(found[0]) >= 15


def test_what_failed_is_said_once_and_tried_again(service):
    """Catches a failed day that nobody hears of, that is given up, or that is told every hour."""
    service.days.code, service.days.said = 4, "varro: all 5 feeds failed; down\n"
    for hour in range(3):
        state = service.tick(MORNING + hour * HOUR)
        assert (state.outcome, state.exit_code) == ("failed", 4)
        assert state.error == "all 5 feeds failed; down"
    assert service.days.started == ["2026-03-02"] * 3
    (line,) = service.alerts()
    assert line == (
        "2026-03-02T06:40:00Z live: cycle 2026-03-02 failed with exit code 4: all 5 feeds "
        "failed; down"
    )
    # One that is stopped has not failed again, and has not been done.
    service.days.code = 143
    assert list(service.tick(MORNING + 3 * HOUR).told) == ["failed 2026-03-02 4"]
    service.days.code = 0
    for hour in (4, 5):
        assert service.tick(MORNING + hour * HOUR).told == {}
    assert service.alerts()[1:] == [
        "2026-03-02T10:40:00Z live: recovered: cycle 2026-03-02 failed with exit code 4: all 5 "
        "feeds failed; down"
    ]
    service.days.code = 7
    service.tick(MORNING + DAY)
    assert len(service.alerts()) == 3  # another event


def test_what_failed_and_was_then_done_by_hand_is_over_for_good(service):
    """Catches a failure that is told again as soon as three days have been done by hand since, or
    for ever where the day itself was passed over: the service has run none of them."""
    service.days.code, service.days.said = 4, "varro: all 5 feeds failed; down\n"
    log = service.config.home / service.tick(MORNING).last_run["log"]
    service.days.code = 0
    for n in range(1, 5):
        service.days.now = MORNING + n * DAY
        service.days(log)
        assert service.tick(MORNING + n * DAY + HOUR).told == {}
    assert service.days.done() == ["2026-03-03", "2026-03-04", "2026-03-05", "2026-03-06"]
    assert [" recovered: " in line for line in service.alerts()] == [False, True]


def test_a_degraded_day_is_an_outcome_of_its_own(service):
    """Catches a day that was not trained on and that a tick calls done, or failed; and a word that
    stays when the next day is as it should be."""
    why = "4 new headlines, 30 are needed"
    service.days.degraded = why
    state = service.tick(MORNING)
    assert (state.outcome, state.exit_code, state.error) == ("degraded", 12, "")
    assert state.last_run["degraded"] == {"2026-03-02": why}
    assert in_words(state).startswith(
        f"2026-03-02 degraded; evaluated, not trained on: 2026-03-02, {why} (log: logs/live/"
    )
    assert service.alerts() == [] and service.days.started == ["2026-03-02"]
    assert in_words(service.tick(MORNING + HOUR)).startswith("nothing is due")
    assert load_state(state_path(service.config.home, "live")).last_run["outcome"] == "degraded"
    service.days.degraded = None
    state = service.tick(MORNING + DAY)
    assert (state.outcome, state.exit_code, state.last_run["degraded"]) == ("done", 0, {})
    assert "not trained on" not in in_words(state)


def test_a_cycle_without_news_is_no_failure_and_is_tried_again(service):
    """Catches an alert for each quiet morning, one that is taken back before the cycle is done, a
    service that runs an empty cycle without a pause, and weeks of silence that nobody hears of."""
    service.days.code, service.days.said = 13, "varro: no new headline on 2026-03-02 (…)\n"
    for hour in range(3):
        state = service.tick(MORNING + hour * HOUR)
        assert (state.outcome, state.exit_code, state.left) == ("empty", 13, None)
        assert in_words(state).startswith("2026-03-02 empty so far: no new headline; tried again")
    assert service.days.started == ["2026-03-02"] * 3
    assert service.alerts() == []
    service.days.code = 4
    service.tick(MORNING + 3 * HOUR)
    (line,) = service.alerts()
    assert "failed with exit code 4" in line
    service.days.code = 13
    service.tick(MORNING + 4 * HOUR)
    assert service.alerts() == [line]  # it has not been done
    service.tick(MORNING + 37 * HOUR)
    assert "no cycle was completed for 37 hours" in service.alerts()[-1]
    service.days.code = 0
    service.tick(MORNING + 38 * HOUR)
    assert [text.split(": ")[1] for text in service.alerts()[2:]] == ["recovered"] * 2


def test_what_falls_due_during_a_degraded_day_is_left_to_be_run(tmp_path):
    """Catches a degraded day that is taken for a failure: the cycle after it would wait an hour."""
    service = Service(tmp_path, "schedule.cadence=2h")
    service.days.degraded = "thin"
    times = iter([MORNING, MORNING + 3 * HOUR])
    state = tick(service.config, service.days, clock=lambda: next(times), complain=print)
    assert (state.outcome, state.exit_code) == ("degraded", 12)
    assert (state.cycle, state.left) == ("2026-03-02T0630", "2026-03-02T0830")


@pytest.mark.parametrize("cadence", ["1d", "2h"])
def test_silence_is_noticed_after_one_and_a_half_cycles(tmp_path, cadence):
    """Catches a service that wakes up every hour and completes nothing, and says so never, or every
    hour, or at the pace of a day where a cycle has two hours."""
    service = Service(tmp_path, f"schedule.cadence={cadence}")
    cycle = service.config.schedule.period()
    service.tick(MORNING)
    service.days.code = 143  # interrupted, each time: no failure, but no cycle either
    service.tick(MORNING + 1.45 * cycle)
    assert service.alerts() == []
    for n in range(3):
        service.tick(MORNING + (1.55 + n / 10) * cycle)
    (line,) = service.alerts()
    assert "no cycle was completed for" in line and "the last was 2026-03-02" in line


def test_a_first_cycle_that_never_comes_is_noticed_too(service):
    """Catches an alarm that only knows runs that have once worked."""
    service.days.code = 143
    service.tick(MORNING)
    service.tick(MORNING + 37 * HOUR)
    (line,) = service.alerts()
    assert "no cycle was completed for 37 hours; there has been none" in line


def test_two_cycles_that_settle_nothing_and_broken_canaries_are_told(service):
    """Catches a run that forecasts for weeks and never learns, and canaries that die unseen."""
    service.days.n_settled = 0
    service.tick(MORNING)
    service.tick(MORNING + DAY)
    assert service.alerts() == []  # a run's first cycle has nothing to settle
    service.tick(MORNING + 2 * DAY)
    assert len(service.alerts()) == 1 and "nothing was settled in the last 2" in service.alerts()[0]
    service.days.n_settled, service.days.broken = 9, ["opposite"]
    for n in range(3, 6):
        service.tick(MORNING + n * DAY)
    assert len(service.alerts()) == 3
    assert "canaries are out of order" in service.alerts()[1]
    assert "recovered: nothing was settled" in service.alerts()[2]
    service.days.broken = []
    assert service.tick(MORNING + 6 * DAY).told == {}
    assert "recovered: the canaries are out of order" in service.alerts()[3]


def test_a_full_disk_is_told(tmp_path):
    """Catches a disk that fills up for weeks before a checkpoint can not be written."""
    service = Service(tmp_path, "alerts.min_free_gb=1e9")
    service.tick(MORNING)
    service.tick(MORNING + HOUR)
    (line,) = service.alerts()
    assert "GB free at home, less than 1e+09" in line


@contextmanager
def small_files(n_bytes):
    """A disk that takes a line, but no more than so many bytes in a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@of_sqlite
def test_what_can_not_be_remembered_is_not_told_at_each_wake_up(service):
    """Catches a disk on which each alert is told again every hour, and one of which nobody hears
    because the state can not be written."""
    service.tick(MORNING)
    ledger_path(service.config.home).write_bytes(b"no ledger " * 500)
    with small_files(450):
        for hour in (1, 2):
            with pytest.raises(DiskError, match=r"service state: .* run it again"):
                service.tick(MORNING + hour * HOUR)
    assert len(service.alerts()) == 2
    assert all("live: service state: File too large" in line for line in service.alerts())
    with pytest.raises(LedgerError):
        service.tick(MORNING + 3 * HOUR)
    assert "not a database" in service.alerts()[2]


def test_a_full_disk_is_told_once_from_the_first_warning_to_the_end(tmp_path):
    """Catches a message every hour for a disk whose filling up was told before it was full."""
    service = Service(tmp_path, "alerts.min_free_gb=1e9")
    service.tick(MORNING)
    with small_files(450), pytest.raises(DiskError):
        service.tick(MORNING + HOUR)
    assert len(service.alerts()) == 1


def no_room(log):
    raise OSError(errno.ENOSPC, "No space left on device", str(log))


def no_process(log):
    return day_process([], limit=HOUR, program=["/nowhere"])(log)


@pytest.mark.parametrize(
    ("run_day", "error", "words"),
    [
        (no_room, DiskError, "wake-up: No space left on device .*2026-03-02.log.*make room"),
        (no_process, StageError, "the day's process can not be started: .*/nowhere"),
    ],
)
def test_a_day_that_can_not_be_begun_is_a_failure_like_others(service, run_day, error, words):
    """Catches a wake-up that ends as unforeseen, without heartbeat or alert, for its day's log or
    for a process that the system refuses."""
    with pytest.raises(error, match=words):
        tick(service.config, run_day, clock=lambda: MORNING, complain=print)
    state = load_state(state_path(service.config.home, "live"))
    assert (state.outcome, state.exit_code) == ("failed", error.exit_code)
    assert len(service.alerts()) == 1


@pytest.mark.parametrize(
    ("signum", "code", "words"),
    [
        ("SIGKILL", 137, "killed, as the system does when memory runs out"),
        ("SIGSEGV", 139, "ended by signal 11 (Segmentation fault"),
    ],
)
def test_a_day_that_a_signal_ended_is_told_as_such(service, signum, code, words):
    """Catches "failed with exit code -9: no word", which sends nobody to look at the memory, and a
    code that the shell shows as another."""
    dies = f"import os, signal; print('varro: a warning'); os.kill(os.getpid(), signal.{signum})"
    run_day = day_process([], limit=HOUR, program=[sys.executable, "-c", dies])
    state = tick(service.config, run_day, clock=lambda: MORNING, complain=print)
    assert (state.outcome, state.exit_code) == ("failed", code) and state.error.startswith(words)
    assert f"cycle 2026-03-02 failed with exit code {code}: {words}" in service.alerts()[0]


def test_a_long_day_leaves_a_sign_of_life_before_and_after(service):
    """Catches a heartbeat that stops for the hours of a day, and one at the time of its start."""
    path = state_path(service.config.home, "live")
    seen, times = [], iter([MORNING, MORNING + 20 * HOUR])
    service.days.then = lambda: seen.append(load_state(path))
    state = tick(service.config, service.days, clock=lambda: next(times), complain=print)
    (during,) = seen
    assert (during.outcome, during.cycle, during.at) == (
        "at work", "2026-03-02", MORNING.isoformat(),
    )  # fmt: skip
    assert state == load_state(path)
    assert (state.outcome, state.at) == ("done", (MORNING + 20 * HOUR).isoformat())


def test_a_module_in_the_working_folder_does_not_stop_a_day(service, tmp_path, monkeypatch):
    """Catches a day that reads a `tomllib.py` of the folder in which the service was started."""
    (tmp_path / "tomllib.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    log = tmp_path / "day.log"
    assert day_process(["--config", "none.toml"], limit=HOUR)(log) == 3
    assert "none.toml" in log.read_text() and "the wrong one" not in log.read_text()


def test_a_day_that_was_taken_over_has_not_failed(service):
    """Catches an alarm for a day that another process goes on with."""
    service.days.code = 11
    state = service.tick(MORNING)
    assert (state.outcome, state.exit_code) == ("taken over", 11) and service.alerts() == []


def test_a_clock_that_was_set_back_is_told_and_runs_nothing(service):
    """Catches a service that does nothing from then on, without a word."""
    service.tick(MORNING)
    for n in range(2):
        with pytest.raises(StageError, match="set the clock right"):
            service.tick(MORNING - 3 * HOUR + n * timedelta(seconds=1))
    state = load_state(state_path(service.config.home, "live"))
    assert (state.outcome, state.exit_code) == ("failed", 7)
    assert len(service.alerts()) == 1 and "set the clock right" in service.alerts()[0]
    assert service.days.started == ["2026-03-02"]


@of_sqlite
def test_a_ledger_that_can_not_be_read_is_told_once_and_leaves_a_heartbeat(service):
    """Catches a damaged ledger of which nobody hears, a heartbeat that stops with it, and a cycle
    that is called late because nobody can tell."""
    service.tick(MORNING)
    path = ledger_path(service.config.home)
    whole = path.read_bytes()
    path.write_bytes(b"no ledger " * 500)
    for n in range(1, 4):
        with pytest.raises(LedgerError, match="not a database"):
            service.tick(MORNING + n * DAY)
        state = load_state(state_path(service.config.home, "live"))
        assert (state.outcome, state.exit_code) == ("failed", 5)
        assert state.at == (MORNING + n * DAY).isoformat()
        assert state.next_due == f"2026-03-0{3 + n}T06:30:00+00:00"
    (line,) = service.alerts()
    assert "nothing can be run: it failed with exit code 5" in line and "not a database" in line
    path.write_bytes(whole)
    assert service.tick(MORNING + 3 * DAY).cycle == "2026-03-05"


@of_sqlite
def test_a_day_that_breaks_its_ledger_is_told(service):
    """Catches a wake-up without an end because what it had read before the day is no more."""
    path = ledger_path(service.config.home)
    service.days.then = lambda: path.write_bytes(b"no ledger " * 500)
    with pytest.raises(LedgerError, match="not a database"):
        service.tick(MORNING)
    assert service.days.started == ["2026-03-02"] and len(service.alerts()) == 1


@of_sqlite
def test_why_a_day_failed_is_kept_where_its_ledger_can_not_be_opened_either(service):
    """Catches a disk's error, met on looking after the day, in the place of the day's own."""
    service.tick(MORNING)
    path = ledger_path(service.config.home)

    def lose_the_ledger():
        path.unlink()
        path.mkdir()

    service.days.then = lose_the_ledger
    service.days.code, service.days.said = 9, "varro: stage update: No space left\n"
    with pytest.raises(LedgerError):
        service.tick(MORNING + DAY)
    last = load_state(state_path(service.config.home, "live")).last_run
    assert (last["cycle"], last["exit_code"], last["error"]) == (
        "2026-03-03", 9, "stage update: No space left",
    )  # fmt: skip


@pytest.fixture
def move(service, monkeypatch):
    """Takes the machine of a service without a zone of its own to another place."""
    schedule = service.config.schedule.model_copy(update={"zone": None})
    service.config = service.config.model_copy(update={"schedule": schedule})
    yield lambda zone: monkeypatch.setenv("TZ", zone)
    monkeypatch.undo()
    time.tzset()


def test_a_service_that_stays_sees_that_its_machine_has_moved(service, move):
    """Catches a service that keeps the first place it was at, and its days another."""
    move("Asia/Tokyo")
    assert service.tick(MORNING).next_due == "2026-03-02T21:30:00+00:00"
    move("America/New_York")
    assert service.tick(MORNING).next_due == "2026-03-02T11:30:00+00:00"


def test_a_day_is_done_only_if_the_ledger_says_so(service):
    """Catches a day whose process found nothing due, ended well and is taken for a day that was
    run."""
    state = tick(service.config, lambda log: 0, clock=lambda: MORNING, complain=print)
    assert (state.outcome, state.exit_code, state.last_run["exit_code"]) == ("failed", 7, 7)
    assert "no finished cycle 2026-03-02" in state.error and len(service.alerts()) == 1
    assert service.tick(MORNING).outcome == "done"


def test_a_cycle_that_falls_due_while_a_day_is_started_takes_its_place(service):
    """Catches a false failure at the very minute in which the next cycle falls due."""
    service.days.now = MORNING + DAY
    times = iter([MORNING, MORNING + DAY])
    state = tick(service.config, service.days, clock=lambda: next(times), complain=print)
    assert (state.cycle, state.outcome) == ("2026-03-02", "done")
    assert service.days.done() == ["2026-03-03"]


def test_a_system_whose_zone_can_not_be_told_is_told(service, move):
    """Catches a service that ends without a heartbeat or a word to anyone."""
    move("Nowhere/AtAll")
    for hour in range(2):
        with pytest.raises(ConfigError, match=r"set schedule\.zone"):
            service.tick(MORNING + hour * HOUR)
    state = load_state(state_path(service.config.home, "live"))
    assert (state.at, state.exit_code) == ((MORNING + HOUR).isoformat(), 3)
    assert len(service.alerts()) == 1 and "set schedule.zone" in service.alerts()[0]


def test_an_archive_that_is_read_to_its_end_is_no_silence(tmp_path):
    """Catches an alarm for thousands of hours without a cycle: the clock of an archive's days is
    its own."""
    config = small_config(tmp_path, "alerts.min_free_gb=0")
    days = load_archive(config.news.archive, max_malformed_frac=0.0).days()
    with open_ledger(ledger_at(tmp_path)) as ledger:
        ledger.add_run(RunInfo("main", 0, "sample", "h", {}, "0"))
        for day in days:
            for stage in Stage:
                detail = {"n_settled": 1, "canaries": None}
                ledger.finish_stage(
                    StageRun("main", day.isoformat(), stage, end_of_day(day), 1.0, detail)
                )
    state = tick(config, no_room, clock=lambda: MORNING, complain=print)
    assert (state.outcome, state.told) == ("nothing due", {})


def test_a_run_that_is_held_is_left_alone(service):
    """Catches a second day beside one that is at work, and an alarm for one that takes its time."""
    lock = hold_lock(lock_path(service.config.home, "live"), now=MORNING)
    with pytest.raises(HeldError, match=rf"process {os.getpid()} on .* since 2026-03-02T06:40"):
        service.tick(datetime.now(UTC))
    lock.close()
    assert service.days.started == [] and service.alerts() == []
    state = load_state(state_path(service.config.home, "live"))
    assert (state.outcome, state.exit_code) == ("held", 10)


def test_the_glance_agrees_with_the_ledger(service):
    """Catches a shortcut past the ledger that says something else than it."""
    place = ledger_at(service.config.home)
    assert glance_at(place, "live") == Glance()
    for n in range(4):
        service.tick(MORNING + n * DAY)
    with open_ledger(place) as ledger:
        ledger.finish_stage(
            StageRun("live", "2026-03-06", Stage.INGEST, MORNING + 4 * DAY, 1.0, {})
        )
        glance = glance_at(place, "live")
        assert glance.newest == ("2026-03-06", MORNING + 4 * DAY, frozenset({"ingest"}))
        assert glance.first_at == MORNING
        assert [day for day, _ in glance.done] == ledger.days_done("live")[:0:-1]
        assert glance.n_settled == (5, 5, 5)
    assert glance_at(place, "other") == Glance()
    assert due_cycle(service.config, glance, MORNING + 4 * DAY + HOUR) == "2026-03-06"


def test_updates_refused_one_after_another_are_told_once_and_when_it_is_over(service):
    """Catches a run whose guard refuses every day and halves its rate in silence; and one that
    calls for a person because there was too little to train on."""
    reasons = ["2 settled groups, 8 are needed"] * 4 + ["refused: KL of the update 2 nats"] * 4
    for n, reason in enumerate([*reasons, None]):
        service.days.reason = reason
        service.tick(MORNING + n * DAY)
        assert len(service.alerts()) == (n > 5) + (n > 7), n
    told, over = service.alerts()
    assert told.endswith(
        "the guard refused 3 updates one after another, the last since KL of the update 2 nats"
    )
    assert "recovered: the guard refused" in over


@of_sqlite
def test_a_first_day_that_was_killed_before_it_had_made_its_tables_is_run_again(service):
    """Catches a service that refuses for ever what the next day would mend."""
    path = ledger_path(service.config.home)
    path.parent.mkdir()
    path.touch()
    assert service.tick(MORNING).outcome == "done"
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    assert service.tick(MORNING + DAY).outcome == "done"
    assert service.days.started == ["2026-03-02", "2026-03-03"]


def command(home, *arguments):
    keys = (*SMALL_DAYS, *ledger_settings(home))
    flags = [part for key in keys for part in ("--set", key)]
    return [sys.executable, "-m", "varro.cli", *arguments, "--home", str(home), *flags]


def live_command(world, verb, *arguments, size=SMALLEST):
    flags = (*size, 'news.source="feeds"', f"news.feeds={world.opml}", 'schedule.zone="UTC"')
    return command(world.home, verb, "--run", "live", *arguments) + [
        part for flag in flags for part in ("--set", flag)
    ]


@pytest.fixture
def world(tmp_path, loopback):
    return FeedWorld(tmp_path, loopback)


def test_nothing_due_costs_next_to_nothing(world):
    """Catches numpy, SQLAlchemy, torch or MLX in what is called every hour for years. Processor
    time of the best of five, not wall time: machines are shared."""
    now = datetime.now(UTC)
    with open_ledger(ledger_at(world.home)) as ledger:
        ledger.add_run(RunInfo("live", 0, "live", "h", {}, "0"))
        cycle = load_timetable(world.config().schedule).latest(now).cycle
        for stage in Stage:
            detail = {"n_settled": 1, "canaries": None}
            ledger.finish_stage(StageRun("live", cycle, stage, now, 1.0, detail))
    python, *arguments = live_command(world, "tick")
    looked = subprocess.run(
        [python, "-X", "importtime", *arguments], capture_output=True, text=True, check=True
    )
    loaded = {line.rpartition("|")[2].strip() for line in looked.stderr.splitlines()}
    assert "varro.service.tick" in loaded
    assert not loaded & {"numpy", "sqlalchemy", "torch", "mlx.core", "httpx2", "jinja2", "scipy"}
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([python, *arguments], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0 and done.stdout.startswith("nothing is due; next due 20")
    # Alone 0.4 s, and half as much again where the other half of the core is at work.
    assert min(times) < (0.75 if POSTGRES is None else 1.1)  # psycopg is a library to load
    quiet = subprocess.run(
        live_command(world, "tick", "--quiet"), capture_output=True, text=True, check=True
    )
    assert quiet.stdout + quiet.stderr == ""


def test_a_tick_runs_a_whole_day_in_a_process_of_its_own(world):
    """Catches a tick that starts something else than the day of its own configuration, or two days
    for two ticks at once."""
    now = datetime.now(UTC)
    world.show(0, now)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(live_command(world, "tick"), **pipes) for _ in range(2)]
    ended = [(*p.communicate(timeout=280), p.returncode) for p in both]
    assert sorted(code for *_, code in ended) in ([0, 0], [0, 10]), ended
    cycle = load_timetable(world.config().schedule).latest(now).cycle
    with open_run(world.config()) as work:
        assert work.ledger.days_done("live") == [cycle]
    log = (world.home / "logs" / "live" / f"{cycle}.log").read_text()
    assert f"{cycle} report" in log and "report: " in log


def test_a_degraded_day_has_an_exit_code_of_its_own(world):
    """Catches a scheduler's log in which a day that was not trained on looks like any other, and a
    service that keeps the whole ledger's libraries in memory, for years, to look that up."""
    world.show(0, datetime.now(UTC))
    thin = ("--set", "news.min_feeds=9")
    python, *arguments = live_command(world, "tick", *thin)
    done = subprocess.run([python, "-X", "importtime", *arguments], capture_output=True, text=True)
    assert done.returncode == 12 and " degraded; evaluated, not trained on: " in done.stdout, done
    said = done.stderr.splitlines()
    loaded = {line.rpartition("|")[2].strip() for line in said}
    assert all(line.startswith("import time:") for line in said)
    assert not loaded & {"numpy", "sqlalchemy", "torch", "mlx.core"}
    again = subprocess.run(live_command(world, "tick", *thin), capture_output=True, text=True)
    assert (again.returncode, again.stdout[:14]) == (0, "nothing is due")


def test_a_tick_that_is_terminated_ends_its_day(world):
    """Catches a day that works on, unseen, after its service was stopped."""
    world.show(0, datetime.now(UTC))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(live_command(world, "tick", size=LONGER), **pipes) as process:
        terminate_in_its_day(process, world.home)
    with open_run(world.config(*LONGER)) as work:  # the lock is free
        assert work.ledger.days_done("live") == []


def test_a_state_of_another_version_is_no_obstacle(service):
    """Catches a service that can not start after an upgrade, for a file that holds nothing."""
    path = state_path(service.config.home, "live")
    path.parent.mkdir(parents=True)
    since = '"watched_since": "2026-01-01T00:00:00+00:00"'
    texts = ["", "{}", '{"watched_since": 1, "unknown": 2}', "\x00"]
    texts += ['{"watched_since": 1}', '{"watched_since": "2026-01-01"}']
    texts += [f"{{{since}, {more}}}" for more in ('"told": [1]', '"last_run": 7')]
    texts += [f'{{{since}, "last_run": {{"at": 1}}}}']
    for text in texts:
        path.write_text(text)
        service.tick(MORNING)
        assert json.loads(path.read_text())["next_due"]
    assert service.days.started == ["2026-03-02"]
