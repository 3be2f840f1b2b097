"""A pause: nothing is begun, nothing is silent, and it ends when someone says so."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta

import pytest
from conftest import ROOT
from test_tick import DAY, MORNING, Service

from varro.errors import StageError
from varro.run import open_run
from varro.service.pause import load_pause, pause, pause_path, resume
from varro.service.replay import run_due
from varro.service.status import describe, in_lines, write_prometheus
from varro.service.tick import in_words


@pytest.fixture
def service(tmp_path):
    return Service(tmp_path)


def test_a_pause_lets_nothing_begin_until_it_is_over(service):
    """Catches a pause that a wake-up overlooks, one that leaves no heartbeat, and one that does not
    end."""
    home = service.config.home
    assert resume(home, "live") is None
    pause(home, "live", now=MORNING, by="a test")
    for n in range(2):
        state = service.tick(MORNING + n * DAY)
        assert (state.outcome, state.exit_code) == ("paused", 0)
        assert datetime.fromisoformat(state.at) == MORNING + n * DAY
    assert service.days.started == []
    assert "2026-03-03 is due, but paused; 'varro resume'" in in_words(state)
    again = pause(home, "live", now=MORNING + DAY, by="another")
    assert again == load_pause(home, "live") and again.by == "a test"  # the first one stands
    assert str(resume(home, "live")) == "paused since 2026-03-02T06:40Z by a test"
    assert service.tick(MORNING + DAY).outcome == "done"
    assert service.days.started == ["2026-03-03"]


def test_a_paused_service_is_never_silent(service, tmp_path):
    """Catches a pause that is forgotten: no alert, and a status that looks well."""
    home = service.config.home
    service.tick(MORNING)
    pause(home, "live", now=MORNING, by="a test")
    for hours in (12, 30, 37, 50):
        service.tick(MORNING + timedelta(hours=hours))
    (line,) = service.alerts()
    assert "no cycle was completed for 37 hours; the last was 2026-03-02" in line
    assert line.endswith("paused since 2026-03-02T06:40Z by a test")
    facts = describe(service.config, MORNING + 2 * DAY)
    assert facts["schedule"]["paused"] == facts["runs"][0]["paused"]
    assert "live is paused since 2026-03-02T06:40Z by a test: 'varro resume'" in in_lines(facts)
    write_prometheus(tmp_path / "varro.prom", facts)
    assert 'varro_paused{run="live"} 1' in (tmp_path / "varro.prom").read_text()
    write_prometheus(tmp_path / "new.prom", facts | {"runs": []})  # one that has not begun
    assert 'varro_paused{run="live"} 1' in (tmp_path / "new.prom").read_text()
    resume(home, "live")
    service.tick(MORNING + 2 * DAY + timedelta(hours=3))
    assert "recovered" in service.alerts()[-1]


def test_a_pause_whose_file_is_damaged_is_a_pause(service):
    """Catches a day that is begun because the file that forbids it can not be read."""
    path = pause_path(service.config.home, "live")
    path.parent.mkdir(parents=True)
    for content in (b"", b"\xff\xfe", b"[]", b'{"since": 1}', b'{"since": 1, "by": 2}'):
        path.write_bytes(content)
        assert service.tick(MORNING + 2 * DAY).outcome == "paused"
    path.write_bytes(b"")
    told = f"paused by {path}, which can not be read"
    assert str(resume(service.config.home, "live")) == told
    assert service.tick(MORNING).outcome == "done"


def test_a_pause_that_the_disk_does_not_take_is_an_error(service):
    """Catches a pause that was promised and is not kept."""
    path = pause_path(service.config.home, "live")
    path.parent.parent.mkdir(parents=True)
    path.parent.write_text("no folder")
    with pytest.raises(StageError, match="cannot begin the pause: File exists"):
        pause(service.config.home, "live", now=MORNING, by="a test")


def test_a_catch_up_stops_after_the_day_at_work(configured, tmp_path):
    """Catches a pause that waits for the end of an archive; and one that holds up who calls a day
    by hand while it lasts."""
    archive = tmp_path / "three.jsonl"
    archive.write_text(
        "".join(
            f'{{"title": "Item {n} of day {day}", "source": "s", "link": "", '
            f'"first_seen": "2026-01-0{day}T07:0{n}:00Z"}}\n'
            for day in (5, 6, 7)
            for n in range(2)
        )
    )
    config = configured(
        f"news.archive={archive}", "news.n_headlines=1", "evaluate.n_headlines=1",
        "sampling.max_tokens=8", "run.name=live",
    )  # fmt: skip
    with open_run(config) as work:

        class Watcher(type(work.progress)):
            def finished(self, day, stage, **more):
                if stage == "report":
                    pause(config.home, "live", now=MORNING, by="a test")

        work.progress = Watcher()
        assert run_due(work, lambda: MORNING, catch_up=True) == (["2026-01-05"], 2)
        assert run_due(work, lambda: MORNING) == (["2026-01-06"], 1)


def test_the_verbs_pause_and_resume(tmp_path):
    """Catches a verb that pauses another run, or says nothing."""

    def varro(*words):
        return subprocess.run(
            [sys.executable, "-m", "varro.cli", *words, "--home", tmp_path, "--run", "two"],
            capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ},
        ).stdout  # fmt: skip

    assert "two in" in (said := varro("pause")) and "paused since" in said
    assert (tmp_path / "service/two.paused").exists()
    assert "two is paused since" in varro("status")
    assert "is due, but paused" in varro("tick")
    assert "goes on, was paused since" in varro("resume") and "was not paused" in varro("resume")
    assert not list((tmp_path / "service").glob("*.paused"))
