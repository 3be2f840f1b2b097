"""`varro doctor`: what it says of feeds, schedule and output is what the ledger says."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import timedelta

import pytest
from conftest import ledger_at
from test_tick import MORNING, Service

from varro.domain import FeedRead, Stage, StageRun
from varro.ledger.store import open_ledger
from varro.service.doctor import examine

DAY = timedelta(days=1)
NOW = MORNING + 2 * DAY


@pytest.fixture
def service(tmp_path):
    """Two days lived, with five feeds on the list."""
    lived = Service(tmp_path)
    outlines = "".join(f'<outline text="F{n}" xmlUrl="https://f{n}.org/"/>' for n in range(5))
    (tmp_path / "feeds.opml").write_text(f"<opml><body>{outlines}</body></opml>")
    for n in range(2):
        lived.tick(MORNING + n * DAY)
    return lived


def read(n, **changes):
    good = FeedRead(
        run="live", day="2026-03-04", url=f"https://f{n}.org/", as_of=NOW, feed=f"F{n}",
        status="ok", reason="", http_status=200, etag="", last_modified="", body_sha256="",
        n_entries=9, n_untitled=0, n_new=4, n_failures=0, next_at=None, moved_to=None, seconds=0.5,
    )  # fmt: skip
    return replace(good, **changes)


def checks_of(service, now):
    found = examine(service.config, now)
    json.dumps([asdict(check) for check in found], allow_nan=False)
    return {check.name: check for check in found}


def test_the_doctor_tells_of_feeds_schedule_and_output(service):
    """Catches a doctor that counts the lines of the list while half of the feeds are dead, that
    does not see that nothing wakes the run, and a page that is gone."""
    failed = {"status": "failed", "reason": "HTTP status 404"}
    reads = [
        read(0),
        read(1, status="resting", next_at=NOW + DAY),  # well, and asked to be left alone
        read(2, n_failures=1, **failed),
        read(3, n_failures=4, next_at=NOW - timedelta(minutes=1), **failed),
    ]
    with open_ledger(ledger_at(service.config.home)) as ledger:
        stage = StageRun("live", "2026-03-04", Stage.INGEST, NOW, 1.0, {})
        ledger.finish_stage(stage, feed_reads=reads)
    page = service.config.home / "reports" / "live" / "2026-03-03" / "report.html"
    page.parent.mkdir(parents=True)
    page.write_text("read me")
    checks = checks_of(service, MORNING + DAY + timedelta(hours=1))
    feeds = checks["feeds"]
    assert feeds.facts == {"healthy": 2, "failing": 1, "suspended": 1, "unread": 1}
    assert feeds.status == "warning"
    assert "2 healthy, 1 failing, 1 suspended, 1 unread (F2: HTTP status 404; F3" in feeds.text
    assert checks["policy"].facts["trainable"] > 0
    assert checks["embedder"].facts["sha256"] == service.config.embedder.sha256
    assert service.config.embedder.sha256[:12] in checks["embedder"].text
    assert checks["disk"].facts["free_gb"] > 0 and checks["blas"].facts["gflops"] > 0
    schedule = checks["schedule"]
    assert schedule.facts["heartbeat"] == (MORNING + DAY).isoformat()
    assert schedule.facts["next_due"] == "2026-03-04T06:30:00+00:00"
    assert "next due 2026-03-04T06:30Z" in schedule.text
    assert {"kind", "installed"} <= schedule.facts.keys()
    assert "nothing wakes it" not in schedule.text
    output = checks["output"]
    assert output.status == "ok"
    assert (output.facts["day"], output.facts["report"]) == ("2026-03-03", str(page))
    assert output.facts["log"].endswith("logs/live/2026-03-03.log")

    page.unlink()
    later = checks_of(service, MORNING + 3 * DAY)
    assert later["schedule"].status == "warning"
    assert "nothing wakes it" in later["schedule"].text
    assert later["output"].status == "warning"
    assert "'varro report --day 2026-03-03' writes it again" in later["output"].text
    assert "no cycle was completed for 48 hours" in later["output"].text


def test_the_doctor_tells_of_feeds_that_there_was_no_time_for(service):
    """Catches a list that is too long for its time, told as healthy and never read."""
    out_of_time = {"status": "unreached", "reason": "not reached: out of time"}
    with open_ledger(ledger_at(service.config.home)) as ledger:
        ledger.add_feed_tries([read(0), read(1, **out_of_time)])
        day_before = replace(read(2), as_of=NOW - DAY)
        ledger.add_feed_tries([day_before, read(2, **out_of_time)])
    feeds = checks_of(service, MORNING + DAY)["feeds"]
    assert feeds.facts == {"healthy": 2, "failing": 0, "suspended": 0, "unread": 3}
    assert feeds.text.startswith(
        "2 healthy, 0 failing, 0 suspended, 3 unread; 2 not reached in time (news.max_s)"
    )


def test_the_doctor_warns_of_the_disk_that_alerts_warn_of_and_of_a_clock_that_went_back(service):
    """Catches a doctor with a limit of its own, and one that finds a refused schedule well."""
    alerts = service.config.alerts.model_copy(update={"min_free_gb": 1e6})
    service.config = service.config.model_copy(update={"alerts": alerts})
    checks = checks_of(service, MORNING - DAY)
    assert checks["disk"].status == "warning"
    assert checks["disk"].text.endswith(", less than 1e+06")
    assert checks["schedule"].status == "warning"
    assert "every 1d; refused: the clock says 2026-03-01" in checks["schedule"].text
