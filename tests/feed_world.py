"""The sample world as live feeds: each of its days is shown when a test says so."""

from __future__ import annotations

import signal
import subprocess
import time
from datetime import datetime, timedelta
from email.utils import format_datetime
from html import escape
from pathlib import Path

from conftest import ROOT, small_config

from varro.news.archive import load_archive

FEEDS = ("north", "south", "east")
SMALLEST = (
    "news.allow_private=true",
    "news.pause_s=0",
    "news.min_headlines=1",
    "news.n_headlines=3",
    "evaluate.n_headlines=2",
    "sampling.n_forecasts=3",
    "sampling.max_tokens=32",
)
LONGER = (*SMALLEST, "news.n_headlines=12", "sampling.n_forecasts=8", "sampling.max_tokens=64")
"""for a day that is to be ended while it works: the smallest one may be done before it is"""


class FeedWorld:
    """Feeds on a server of a test, which show the n-th day of the sample world."""

    def __init__(self, folder: Path, loopback, *, n_titles: int = 16) -> None:
        archive = load_archive(ROOT / "data/sample/world.jsonl.gz", max_malformed_frac=0.0)
        self.days = [
            [h.title for h in archive.headlines if h.first_seen.date() == day][:n_titles]
            for day in archive.days()
        ]
        self.titles: list[str] = []
        self.now = datetime.min
        self.n_asked = 0
        address = loopback(self._answer)
        outlines = "".join(f'<outline text="{f}" xmlUrl="{address}/{f}"/>' for f in FEEDS)
        self.opml = folder / "feeds.opml"
        self.opml.write_text(f'<opml version="2.0"><body>{outlines}</body></opml>')
        self.home = folder / "live"

    def show(self, n: int, now: datetime) -> None:
        self.titles, self.now = self.days[n], now

    def config(self, *overrides: str):
        return small_config(
            self.home,
            'news.source="feeds"',
            f"news.feeds={self.opml}",
            "run.name=live",
            'schedule.zone="UTC"',
            *SMALLEST,
            *overrides,
        )

    def _answer(self, handler) -> None:
        self.n_asked += 1
        place = FEEDS.index(handler.path.strip("/"))
        told = format_datetime(self.now - timedelta(minutes=20))
        items = "".join(
            f"<item><title>{escape(t)}</title><guid>{escape(t)}</guid>"
            f"<link>https://example.org/{n}</link><pubDate>{told}</pubDate></item>"
            for n, t in enumerate(self.titles)
            if n % len(FEEDS) == place
        )
        handler.send_response(200)
        handler.send_header("Content-Type", "application/rss+xml")
        handler.end_headers()
        body = f'<rss version="2.0"><channel><title>{handler.path}</title>{items}</channel></rss>'
        handler.wfile.write(body.encode())


def terminate_in_its_day(process: subprocess.Popen[str], home: Path) -> None:
    """SIGTERM once its day has taken in its news: it must end within ten seconds, as terminated."""
    logs = home / "logs" / "live"
    waited = time.monotonic() + 60
    while not any(" ingest " in log.read_text() for log in logs.glob("*.log")):
        assert time.monotonic() < waited
        time.sleep(0.1)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert process.returncode == 143
