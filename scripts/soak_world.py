"""What a soak's service lives in: the time of day, strangers' feeds, and what is wrong with both.

A `Scene` is what the world is during one wake-up. It lies in a file that the service, the process
of a day and the server of the feeds all read.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from email.utils import format_datetime
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "embedded.toml"
RUN = "live"
EVENING = time_of_day(20)
"""when a cycle falls due (UTC); a day's last headline was captured before"""
TIMEOUT_S = 10.0
"""for a feed: room for the fetcher's second and third try"""
N_SHOWN = 300
"""newest items that a feed shows"""


@dataclass(frozen=True)
class Scene:
    """The world during one wake-up of the service."""

    now: str
    """what the machine's clock says (ISO 8601), right or wrong"""
    day: int
    """which day's news the feeds show"""
    faults: dict[str, tuple[str, int]] = field(default_factory=dict)
    """what is wrong with a feed, and for how many requests"""
    kill_after_s: float | None = None
    """the process of the day is killed so long after it has first looked at its clock"""
    then: Scene | None = None
    """the world from the moment on at which the process looks at its clock to see whether another
    day is due"""
    number: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.then, dict):
            object.__setattr__(self, "then", Scene(**self.then))

    @property
    def clock(self) -> datetime:
        return datetime.fromisoformat(self.now)


def write_scene(path: Path, scene: Scene) -> None:
    beside = path.with_suffix(".next")
    beside.write_text(json.dumps(asdict(scene)))
    beside.replace(path)


def read_scene(path: Path) -> Scene:
    return Scene(**json.loads(path.read_text()))


# -- the days


class News:
    """An archive's headlines as its feeds would show them in the evening of each day."""

    def __init__(self, archive: Path) -> None:
        with gzip.open(archive, "rt", encoding="utf-8") as lines:
            items = sorted((json.loads(line) for line in lines), key=lambda i: i["first_seen"])
        self.first = date.fromisoformat(items[0]["first_seen"][:10])
        self.n_days = (date.fromisoformat(items[-1]["first_seen"][:10]) - self.first).days + 1
        self.feeds = sorted({item["feed"] for item in items})
        self._items = items

    def body(self, day: int, feed: str) -> bytes:
        until = (self.first + timedelta(days=day + 1)).isoformat()
        shown: dict[str, dict[str, Any]] = {}
        for item in self._items:
            if item["feed"] == feed and item["first_seen"] < until:
                identity = item["guid"] or item["link"]
                shown.pop(identity, None)  # it has a new title
                shown[identity] = item
        return _rss(list(shown.values())[-N_SHOWN:], feed)

    def has_shown(self, day: int, feed: str) -> bool:
        """Whether there was anything in a feed before a day."""
        return day > 0 and b"<item>" in self.body(day - 1, feed)

    def is_silent(self, day: int, feed: str) -> bool:
        """Whether a feed shows what it showed on the day before."""
        return self.has_shown(day, feed) and self.body(day, feed) == self.body(day - 1, feed)


def _rss(items: list[dict[str, Any]], feed: str) -> bytes:
    lines = [f'<rss version="2.0"><channel><title>{escape(feed)}</title>']
    for item in reversed(items):
        parts = [("title", item["title"]), ("link", item["link"])]
        if item["published"]:
            parts.append(("pubDate", format_datetime(datetime.fromisoformat(item["published"]))))
        told = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in parts if text)
        guid = f'<guid isPermaLink="false">{escape(item["guid"])}</guid>' if item["guid"] else ""
        lines.append(f"<item>{told}{guid}</item>")
    return "\n".join([*lines, "</channel></rss>"]).encode()


def evenings(news: News, n_days: int, seed: int) -> list[datetime]:
    """When the service is first awake on each day, once its cycle has fallen due: the same in the
    quiet run and in the other one."""
    draw = random.Random(f"evenings {seed}")
    due = [datetime.combine(news.first + timedelta(days=n), EVENING, UTC) for n in range(n_days)]
    return [at + timedelta(seconds=draw.randrange(3 * 3600)) for at in due]


def cycle_name(news: News, day: int) -> str:
    return (news.first + timedelta(days=day)).isoformat()


# -- the feeds

Fault = Callable[[BaseHTTPRequestHandler, bytes], None]


def _answer(
    handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: object
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(body)


def _hang(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.connection.recv(1)  # until the other side has had enough


def _drip(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    _answer(handler, 200, Content_Length=len(body))
    for place in range(len(body)):
        handler.wfile.write(body[place : place + 1])
        time.sleep(0.2)


MENDED = ("500", "503", "hang up", "truncated")
"""faults after which a fetch tries again: they are over with the feed's next answer"""
SLOW = ("hang", "drip")
"""those that take all the time that a feed has"""
FAULTS: dict[str, Fault] = {
    "500": lambda handler, body: _answer(handler, 500, body),
    "503": lambda handler, body: _answer(handler, 503),
    "hang up": lambda handler, body: None,
    "truncated": lambda handler, body: _answer(
        handler, 200, body[: len(body) // 2], Content_Length=len(body)
    ),
    "hang": _hang,
    "drip": _drip,
    "garbage": lambda handler, body: _answer(
        handler, 200, random.Random(len(body)).randbytes(5000), Content_Type="application/rss+xml"
    ),
    "broken gzip": lambda handler, body: _answer(
        handler, 200, gzip.compress(body)[:-20], Content_Encoding="gzip"
    ),
    "error page": lambda handler, body: _answer(
        handler, 200, b"<!DOCTYPE html><html><title>Just a moment...</title></html>"
    ),
    "suddenly empty": lambda handler, body: _answer(
        handler, 200, b'<rss version="2.0"><channel><title>x</title></channel></rss>'
    ),
    "not found": lambda handler, body: _answer(handler, 404),
    "too many requests": lambda handler, body: _answer(handler, 429, Retry_After=600),
    "in circles": lambda handler, body: _answer(handler, 302, Location=handler.path),
}
ALWAYS = 99
"""requests, which is more than are made in a day"""
WITH_STATUS = ("500", "503", "not found", "too many requests")
"""those that a server says itself: they are held against a feed whether the day is run or not"""
QUICK = tuple(sorted(FAULTS.keys() - set(MENDED) - set(SLOW)))


class FeedServer:
    """All feeds of the news on one server of this machine; each reader has its own scene."""

    def __init__(self, news: News, scenes: Mapping[str, Path]) -> None:
        self._news, self._scenes = news, scenes
        self._asked: Counter[tuple[str, int]] = Counter()
        self._counting = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:
                with suppress(OSError):  # who asked was killed, or has lost patience
                    self._do(handler)

            def log_message(handler, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def write_list(self, opml: Path, reader: str) -> None:
        base = f"http://127.0.0.1:{self._server.server_address[1]}/{reader}"
        outlines = "".join(f'<outline text="{f}" xmlUrl="{base}/{f}"/>' for f in self._news.feeds)
        opml.write_text(f'<opml version="2.0"><body>{outlines}</body></opml>')

    def _do(self, handler: BaseHTTPRequestHandler) -> None:
        _, reader, feed = handler.path.split("/")
        scene = read_scene(self._scenes[reader])
        body = self._news.body(scene.day, feed)
        with self._counting:
            self._asked[handler.path, scene.number] += 1
            n = self._asked[handler.path, scene.number]
        kind, n_faults = scene.faults.get(feed, ("", 0))
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if n <= n_faults:
            FAULTS[kind](handler, body)
        elif handler.headers["If-None-Match"] == etag:
            _answer(handler, 304, ETag=etag)
        else:
            _answer(handler, 200, body, ETag=etag, Content_Type="application/rss+xml")
