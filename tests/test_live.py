"""The live path: a month of real feed bodies, served from loopback, ingested as if live."""

from __future__ import annotations

import json
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import lend_embedder

from varro.day import DueDay, due_days, report_folder, run_day
from varro.domain import Role, Stage
from varro.errors import FeedError
from varro.run import open_run


class RecordedFeeds:
    """Feed bodies by (feed, day), one day at a time on a server, like the world's feeds."""

    def __init__(self, archive: Path) -> None:
        self.bodies: dict[tuple[str, str], bytes] = {}
        self.captured: dict[str, float] = {}
        with tarfile.open(archive) as tar:
            for member in tar.getmembers():
                if member.isfile():
                    feed, day = Path(member.name).parts[-2], Path(member.name).stem
                    self.bodies[feed, day] = tar.extractfile(member).read()
                    self.captured[day] = max(self.captured.get(day, 0.0), member.mtime)
        self.days = sorted(self.captured)
        self.feeds = sorted({feed for feed, _ in self.bodies})
        self.today = self.days[0]

    def answer(self, handler) -> None:
        body = self.bodies.get((handler.path.strip("/"), self.today))
        handler.send_response(200 if body else 404)
        handler.send_header("Content-Type", "application/rss+xml")
        handler.end_headers()
        handler.wfile.write(body or b"down")

    def due(self, day: str) -> DueDay:
        """The day, as of the moment its last body was captured."""
        self.today = day
        return DueDay(day, datetime.fromtimestamp(self.captured[day], UTC))

    def write_opml(self, path: Path, address: str) -> Path:
        outlines = "".join(f'<outline text="{f}" xmlUrl="{address}/{f}"/>' for f in self.feeds)
        path.write_text(f'<opml version="2.0"><body>{outlines}</body></opml>')
        return path


@pytest.fixture
def live(shared_data, loopback, tmp_path, configured):
    """(world, configuration of a live run over it)."""
    world = RecordedFeeds(shared_data("replay/finance-rss-xml-2025-04-18--2025-05-18.tar.xz"))
    opml = world.write_opml(tmp_path / "feeds.opml", loopback(world.answer))
    return world, configured(
        f"home={tmp_path}/live",
        'news.source="feeds"',
        f"news.feeds={opml}",
        "news.allow_private=true",
        "news.pause_s=0",
        "run.name=live",
    )


def test_a_month_of_real_feeds_is_ingested_as_if_live(live):
    """Catches a clock taken from the publisher, an item counted anew each day it is shown, and a
    dead feed that stops the day."""
    world, config = live
    assert len(world.days) == 31 and len(world.bodies) == 154
    with open_run(config) as work:
        first_seen, failures = {}, 0
        for day in world.days:
            due = world.due(day)
            run_day(work, due, only=Stage.INGEST)
            detail = work.ledger.stage_run("live", day, Stage.INGEST).detail
            assert detail["n_new"] > 0
            failures += len(detail["failures"])
            known = work.ledger.headlines_between("live", after=None, until=due.as_of)
            new = [h for h in known if h.id not in first_seen]
            assert len(new) == detail["n_new"]
            first_seen |= {h.id: h.first_seen for h in new}
            assert {h.first_seen for h in new} == {due.as_of}
            # What was seen before keeps its clock, though the feed shows it again.
            assert {h.id: h.first_seen for h in known} == first_seen
    # 5 feeds × 31 days, 154 bodies: one feed was down on one day.
    assert failures == len(world.feeds) * 31 - 154
    assert len(first_seen) > 1000
    assert len({h for h in first_seen}) == len(first_seen)


def test_live_days_settle_and_train_once_the_backlog_is_read(live, embedder):
    """Catches a live path that ingests but never learns, and one that takes what a feed had lying
    about when it was first read, weeks of it, for the news of that day."""
    world, config = live
    with open_run(config) as work:
        lend_embedder(work, embedder)
        for day in world.days[:4]:
            run_day(work, world.due(day))
        refused = [
            work.ledger.stage_run("live", day, Stage.SETTLE).detail["refused"]
            for day in world.days[:4]
        ]
        # Feeds were first read on the 18th, and others on the 19th.
        assert [list(r) for r in refused] == [[], ["2025-04-18"], ["2025-04-19"], []]
        assert "collected on another day" in refused[1]["2025-04-18"]
        updates = [work.ledger.update("live", day) for day in world.days[:4]]
        assert [u is not None for u in updates] == [False, False, False, True]
        last = world.days[3]
        for group in work.ledger.groups("live", day=last, roles=list(Role)):
            assert group.headline.first_seen == group.made_at
        report = json.loads((report_folder(config.home, "live", last) / "report.json").read_text())
    assert report["news"]["source"] == "feeds"
    assert report["verdict"]["word"].startswith("TRAINED")


def test_when_every_feed_is_down_the_day_is_refused(live):
    """Catches an empty day that passes for a quiet one."""
    world, config = live
    world.today = "1999-01-01"
    with open_run(config) as work, pytest.raises(FeedError, match="all 6 feeds failed"):
        run_day(
            work, DueDay("2025-04-18", datetime(2025, 4, 18, 12, tzinfo=UTC)), only=Stage.INGEST
        )


def test_feeds_on_this_machine_are_refused_unless_they_are_allowed(live):
    """Catches a list of feeds from elsewhere that reads what only this machine can reach."""
    world, config = live
    news = config.news.model_copy(update={"allow_private": False})
    with (
        open_run(config.model_copy(update={"news": news})) as work,
        pytest.raises(FeedError, match=r"127\.0\.0\.1 \(loopback\).*public addresses only"),
    ):
        run_day(work, world.due(world.days[0]), only=Stage.INGEST)


def test_only_today_can_be_due(live):
    """Catches live feeds collected under another date: the original's false days."""
    world, config = live
    now = datetime(2025, 4, 20, 7, tzinfo=UTC)
    with open_run(config) as work:
        assert due_days(work, now) == [DueDay("2025-04-20", now)]
        run_day(work, DueDay("2025-04-20", world.due(world.days[0]).as_of), only=Stage.INGEST)
        # A day begun keeps its clock when it is taken up again, and is finished before the next.
        begun = world.due(world.days[0]).as_of
        later = due_days(work, now + timedelta(hours=5))
        assert later == [DueDay("2025-04-20", begun)]
        run_day(work, later[0], only=Stage.SETTLE)
        tomorrow = now + timedelta(days=1)
        assert due_days(work, tomorrow) == [*later, DueDay("2025-04-21", tomorrow)]
