"""Live days that nobody watches: holes, clocks, and cycles shorter than a day."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from conftest import lend_embedder
from feed_world import FeedWorld

from varro.day import DueDay, due_days, report_folder, run_day
from varro.domain import MissedInfo, Role, Stage
from varro.errors import StageError
from varro.run import open_run
from varro.service.replay import run_due

MORNING = datetime(2026, 3, 2, 6, 40, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def world(tmp_path, loopback):
    return FeedWorld(tmp_path, loopback)


def test_a_missed_day_is_recorded_and_its_forecasts_are_void_and_not_zero(world, embedder):
    """Catches a hole that is filled with today's news, that nobody hears of, or whose forecasts
    earn 0; and a run that does not learn again after it."""
    settled = {}
    with open_run(world.config("reward.window_h=30")) as work:
        lend_embedder(work, embedder)
        for n in (0, 1, 3, 4):
            now = MORNING + n * DAY
            world.show(n, now)
            days, n_left = run_due(work, lambda now=now: now, catch_up=True)
            assert (days, n_left) == ([f"2026-03-0{2 + n}"], 0)
            settled[n] = [s for s, _ in work.ledger.settlements("live", day=days[0])]
            assert run_due(work, lambda now=now: now + timedelta(hours=3)) == ([], 0)
        missed = datetime(2026, 3, 4, 6, 30, tzinfo=UTC)
        assert work.ledger.missed("live") == [
            MissedInfo("live", "2026-03-04", missed, "2026-03-05")
        ]
        assert work.ledger.days_begun("live") == work.ledger.days_done("live")
        assert "2026-03-04" not in work.ledger.days_done("live")
        after = work.ledger.stage_run("live", "2026-03-05", Stage.SETTLE).detail
    assert not settled[0] and len(settled[1]) == len(settled[3]) == len(settled[4]) > 0
    assert {(s.reward, s.void_reason) for s in settled[3]} == {(None, "no evidence")}
    assert after["n_void"] == len(settled[3]) and after["reward"] is None
    assert all(s.reward is not None for n in (1, 4) for s in settled[n])
    report = json.loads(
        (report_folder(world.home, "live", "2026-03-05") / "report.json").read_text()
    )
    assert report["news"]["n_missed"] == 1


def test_a_half_day_is_finished_under_its_own_clock_and_the_next_begun_under_the_time_it_is(
    world, embedder
):
    """Catches a cycle begun under the time at which the process was started, hours of sleep ago:
    headlines would be stamped with a time at which nobody had read them. And a process that goes
    on with what fell due meanwhile, past any limit on its time."""
    with open_run(world.config()) as work:
        lend_embedder(work, embedder)
        world.show(0, MORNING)
        for stage in (Stage.INGEST, Stage.SETTLE):
            run_day(work, due_days(work, MORNING)[0], only=stage)
        clock = iter([MORNING + DAY, MORNING + DAY + timedelta(hours=6), MORNING + 2 * DAY])
        world.show(1, MORNING + DAY)
        assert run_due(work, lambda: next(clock)) == (["2026-03-02", "2026-03-03"], 1)
        clocks = [
            work.ledger.stage_run("live", d, Stage.INGEST).as_of
            for d in ("2026-03-02", "2026-03-03")
        ]
    assert clocks == [MORNING, MORNING + DAY + timedelta(hours=6)]


def test_a_clock_that_was_set_back_stops_the_run_before_anything_is_asked(world):
    """Catches a second cycle under an earlier time, and feeds that are read for nothing."""
    world.show(0, MORNING)
    with open_run(world.config()) as work:
        run_day(work, DueDay("2026-03-02", MORNING), only=Stage.INGEST)
        asked = world.n_asked
        for now in (MORNING - timedelta(hours=3), datetime(1970, 1, 1, tzinfo=UTC)):
            with pytest.raises(StageError, match="set the clock right"):
                run_due(work, lambda now=now: now)
        assert world.n_asked == asked > 0


def test_cycles_of_two_hours_settle_train_and_report_each_other(world, embedder):
    """Catches a day that is taken for a date: names that do not sort, folders that some systems can
    not make, forecasts settled by a later policy, and placebo windows of a whole day."""
    start = datetime(2026, 3, 1, 6, 30, tzinfo=UTC)
    two = timedelta(hours=2)
    # Room for whole forecasts: which titles are drawn hangs on the server's port.
    roomy = ("sampling.max_tokens=112", "sampling.n_forecasts=4", "news.n_headlines=5")
    with open_run(world.config("schedule.cadence=2h", *roomy)) as work:
        lend_embedder(work, embedder)
        # The same hours of the day before: what the placebo is made of.
        for n in (1, 2):
            world.show(n, start + n * two)
            (due,) = due_days(work, start + n * two)
            run_day(work, due, only=Stage.INGEST)
        names = []
        for n in range(3):
            now = start + DAY + n * two + timedelta(minutes=5)
            world.show(3 + n, now)
            names += run_due(work, lambda now=now: now)[0]
        assert names == ["2026-03-02T0630", "2026-03-02T0830", "2026-03-02T1030"]
        missed = [m.day for m in work.ledger.missed("live")]
        # With the two that only took in their news.
        assert missed == [f"2026-03-01T{h:02d}30" for h in range(8, 24, 2)] + [
            f"2026-03-02T{h:02d}30" for h in range(0, 6, 2)
        ]
        second = work.ledger.settlements("live", day=names[1])
        assert {g.day for _, g in second} == {names[0]}
        assert any("semantic" in s.components for s, g in second if g.role is Role.TRAIN)
        assert [bool(work.ledger.update("live", name)) for name in names] == [False, True, True]
        assert work.ledger.checkpoint("live").version == 2
    for name in names:
        folder = report_folder(world.home, "live", name)
        assert (folder / "report.html").exists() and ":" not in folder.name
