"""What the live view's page says of runs, and of what is due."""

from __future__ import annotations

import gzip
import os
import shutil
from datetime import timedelta

import pytest
from conftest import ROOT, ledger_at, of_sqlite, small_config
from test_tick import DAY, MORNING, Service

from varro.domain import RunInfo, Stage, StageRun
from varro.ledger.place import ledger_path
from varro.ledger.store import open_ledger
from varro.lock import hold_lock, lock_path
from varro.service.doing import DoingFile
from varro.web.facts import Looker
from varro.web.now import duration, in_figures


@pytest.fixture
def service(tmp_path):
    return Service(tmp_path)


def test_several_runs_of_a_home_stand_side_by_side(service):
    """Catches a page of one run only, one that mixes two, and one whose key is never that of the
    events, so that it is asked for every second: a run may be in the ledger and never have been
    opened here, as in a restored home."""
    home = service.config.home
    for n in range(9):
        service.tick(MORNING + n * DAY)
    with open_ledger(ledger_at(home)) as ledger:
        ledger.add_run(RunInfo("seed-2", 2, "live", "h", {}, "0"))
        for stage, seconds in ((Stage.INGEST, 2.5), (Stage.SETTLE, 245.4)):
            ledger.finish_stage(StageRun("seed-2", "2026-03-02", stage, MORNING, seconds, {}))
    looker = Looker(service.config)
    facts = looker.page_facts(MORNING + 9 * DAY)
    live, other = facts["runs"]
    assert (live["run"], live["n_done"], live["version"]) == ("live", 9, None)
    assert [day["day"] for day in live["days"]] == [f"2026-03-{d:02d}" for d in range(10, 3, -1)]
    assert all(day["is_done"] and day["total"] == "7.0 s" for day in live["days"])
    assert (other["run"], other["n_done"]) == ("seed-2", 0)
    (day,) = other["days"]
    assert day["seconds"] == {"ingest": "2.5 s", "settle": "4:05 min"} and not day["is_done"]
    assert in_figures(looker.runs(), MORNING, looker.last)["key"] == facts["key"]


def test_what_is_due_and_what_comes_is_in_order(service):
    """Catches a queue that knows today only, and one that shows as due what is done."""
    looker = Looker(service.config)
    queue = looker.page_facts(MORNING)["queue"]
    assert queue["due"] == "2026-03-02"
    assert queue["following"][0] == ("2026-03-03", "due 2026-03-03 06:30Z, in 23:50 h")
    assert [cycle for cycle, _ in queue["following"]] == [f"2026-03-0{d}" for d in range(3, 7)]
    service.tick(MORNING)
    after = looker.page_facts(MORNING)
    assert after["queue"]["due"] is None and after["state"].word == "IDLE"


def test_an_archive_is_read_again_only_when_it_is_another(tmp_path):
    """Catches a page that reads years of news each time it is looked at, and one that never sees
    new days."""
    archive = tmp_path / "world.jsonl.gz"
    shutil.copy(ROOT / "data/sample/world.jsonl.gz", archive)
    looker = Looker(small_config(tmp_path / "home", f"news.archive={archive}"))
    queue = looker.page_facts(MORNING)["queue"]
    first = queue["due"]
    assert len(queue["following"]) == 5 and queue["n_more"] > 5
    os.utime(archive, ns=(1, 1))
    key = archive.stat().st_mtime_ns, archive.stat().st_size
    looker._archive = key, ["2027-01-01"]
    assert looker.page_facts(MORNING)["queue"]["due"] == "2027-01-01"
    with gzip.open(archive, "at") as lines:
        lines.write("\n")
    assert looker.page_facts(MORNING)["queue"]["due"] == first
    archive.unlink()
    refused = looker.page_facts(MORNING)
    assert "No such file" in refused["queue"]["refused"] and refused["state"].word == "REFUSED"


@of_sqlite
def test_a_ledger_that_can_not_be_read_leaves_a_page(service):
    """Catches an error where a person looks for the reason."""
    service.tick(MORNING)
    ledger_path(service.config.home).write_bytes(b"no ledger" * 999)
    facts = Looker(service.config).page_facts(MORNING)
    assert "not a database" in facts["refused"] and facts["state"].word == "REFUSED"
    assert [row["run"] for row in facts["runs"]] == ["live"]


def test_a_stage_whose_end_is_not_known_says_how_long_it_took_the_last_time(service):
    """Catches a settlement of minutes that says nothing of its end."""
    service.tick(MORNING)
    lock = hold_lock(lock_path(service.config.home, "live"), now=MORNING)
    now = MORNING + DAY
    DoingFile(service.config.home, "live", clock=lambda: now).started(
        "2026-03-03", Stage.SETTLE, total=None, unit=""
    )
    looker = Looker(service.config)
    now += timedelta(seconds=65)
    facts = looker.page_facts(now)
    (row,) = facts["runs"]
    assert row["words"] == "2026-03-03 settle, for 1:05 min, took 1.0 s the last time"
    assert row["share"] is None and facts["state"].word == "AT WORK"
    lock.close()
    assert looker.page_facts(now)["runs"][0]["words"] == "nobody is at work"


@pytest.mark.parametrize(
    "seconds, words",
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.6, "1:00 min"), (3599.6, "1:00 h"), (90_000, "25:00 h")],
)
def test_durations_are_read_at_a_glance(seconds, words):
    """Catches `60 s`, `10.0 s` and `59:60 min`."""
    assert duration(seconds) == words
