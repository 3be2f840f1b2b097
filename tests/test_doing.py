"""What a day at work tells other processes: enough, at no cost, and never a lie of a dead one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from varro.domain import Stage
from varro.lock import hold_lock, lock_path
from varro.service.doing import PACE_S, DoingFile, doing_path, load_doing

NOW = datetime(2026, 3, 2, 6, 40, tzinfo=UTC)


class Day:
    """A day that is watched, under a clock that stands until it is moved."""

    def __init__(self, home):
        self.home, self.n_seconds, self.n_written = home, 0.0, 0
        self.lock = hold_lock(lock_path(home, "main"), now=NOW)
        self.file = DoingFile(home, "main", clock=self.now, ticks=lambda: self.n_seconds)

    def now(self):
        self.n_written += 1  # it is asked what time it is for each writing, once
        return NOW + timedelta(seconds=self.n_seconds)

    def after(self, seconds, n, spared=0):
        self.n_seconds += seconds
        self.file.advanced(n, spared)

    def doing(self):
        return load_doing(self.home, "main")


@pytest.fixture
def day(tmp_path):
    day = Day(tmp_path)
    yield day
    day.lock.close()


def test_another_process_sees_the_stage_its_rate_and_the_time_left(day):
    """Catches a time left that counts what was spared as work done, or stands still. Of 1,000
    tokens 300 are past after 20 s: 700 are left at 15 a second, of which 10 are sampled."""
    assert day.doing() is None
    day.file.started("2026-03-02", Stage.FORECAST, total=1000, unit="tokens")
    assert day.doing().seconds_left(NOW) is None and day.doing().rate() is None
    day.after(10, 100)
    day.after(10, 100, spared=100)
    doing = day.doing()
    assert (doing.day, doing.stage, doing.unit, doing.total) == (
        "2026-03-02", "forecast", "tokens", 1000,
    )  # fmt: skip
    assert doing.rate() == pytest.approx(10)
    assert doing.seconds_left(NOW + timedelta(seconds=20)) == pytest.approx(700 / 15)
    assert doing.seconds_left(NOW + timedelta(seconds=25)) == pytest.approx(700 / 15 - 5)
    assert doing.seconds(NOW + timedelta(seconds=25)) == 25
    day.file.finished()
    assert day.doing().is_finished and day.doing().seconds_left(NOW) is None
    day.file.started("2026-03-02", Stage.INGEST, total=None, unit="")
    assert day.doing().total is None and day.doing().done == 0
    day.file.stop()
    assert day.doing() is None


def test_it_is_written_once_a_second_however_often_something_is_done(day):
    """Catches a write for every token: 10,000 of them in ten seconds are ten writes."""
    day.file.started("2026-03-02", Stage.FORECAST, total=10_000, unit="tokens")
    before = day.n_written
    for _ in range(10_000):
        day.after(0.001, 1)
    assert day.n_written - before <= 10 / PACE_S
    assert day.doing().done > 8_500


def test_what_a_killed_process_left_is_not_believed(day, tmp_path):
    """Catches a stage that is shown as running for ever: its process was killed, and later another
    holds the run, which has not said anything yet."""
    day.file.started("2026-03-02", Stage.UPDATE, total=10, unit="groups")
    day.lock.close()
    assert doing_path(tmp_path, "main").exists() and day.doing() is None
    with_another = hold_lock(lock_path(tmp_path, "main"), now=NOW + timedelta(hours=1))
    assert day.doing() is None
    with_another.close()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"day": 1}', "\ufffd" * 9])
def test_a_damaged_file_is_no_obstacle(day, content):
    """Catches a page that fails for a file of another version."""
    day.file.started("2026-03-02", Stage.UPDATE, total=10, unit="groups")
    doing_path(day.home, "main").write_text(content)
    assert day.doing() is None


def test_a_disk_that_does_not_take_it_fails_no_day(tmp_path):
    """Catches a day that ends for what nobody needs."""
    (tmp_path / "service").write_text("no folder")
    day = Day(tmp_path)
    day.file.started("2026-03-02", Stage.UPDATE, total=10, unit="groups")
    day.after(5, 1)
    day.file.finished()
    day.file.stop()
    assert day.doing() is None
    day.lock.close()


def test_nothing_half_written_is_ever_seen(day):
    """Catches a file that is written in place: who reads it while it is, reads a part."""
    day.file.started("2026-03-02", Stage.UPDATE, total=10, unit="groups")
    with doing_path(day.home, "main").open() as before:
        day.after(2, 5)
        assert json.loads(before.read())["done"] == 0
    assert day.doing().done == 5
