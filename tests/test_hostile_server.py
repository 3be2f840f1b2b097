"""Servers that hang, drip, break off or never end: each costs its own time and nothing else."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from varro.news.fetch import HttpFetcher
from varro.news.gather import FeedReading, read_feeds
from varro.news.opml import Feed
from varro.news.parse_apart import ParserProcesses

AS_OF = datetime(2025, 4, 18, 12, 0, tzinfo=UTC)
TIMEOUT_S = 1.5
MAX_BYTES = 1_000_000
RSS = b"<rss version='2.0'><channel><item><title>news</title></item></channel></rss>"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n"

Serve = Callable[[socket.socket, threading.Event], None]


def drip(connection: socket.socket, over: threading.Event, start: bytes, drop: bytes) -> None:
    connection.sendall(start)
    while not over.wait(0.05):
        connection.sendall(drop)


def pour(connection: socket.socket, over: threading.Event, start: bytes, wave: bytes) -> None:
    connection.sendall(start)
    while not over.is_set():
        connection.sendall(wave)


def reset(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(OK + b"Content-Length: 1000\r\n\r\n<rss")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
KINDS: dict[str, tuple[Serve, str]] = {
    "silent": (lambda c, over: drip(c, over, b"", b""), "not complete after"),
    "header-drip": (lambda c, over: drip(c, over, OK + b"X: ", b"x"), "not complete after"),
    "body-drip": (lambda c, over: drip(c, over, OK + b"\r\n", b"<"), "not complete after"),
    "chunk-drip": (lambda c, over: drip(c, over, CHUNKED, b"1\r\n<\r\n"), "not complete after"),
    "gzip-drip": (
        lambda c, over: drip(
            c,
            over,
            OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\xff",
            b"\0\0\0\xff\xff",
        ),
        "not complete after",
    ),
    "continue-for-ever": (
        lambda c, over: drip(c, over, b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "not complete after",
    ),
    "no-close": (lambda c, over: drip(c, over, OK + b"\r\n" + RSS, b""), "not complete after"),
    "one-byte-short": (
        lambda c, over: drip(
            c, over, OK + b"Content-Length: %d\r\n\r\n" % (len(RSS) + 1) + RSS, b""
        ),
        "not complete after",
    ),
    "endless-body": (lambda c, over: pour(c, over, OK + b"\r\n", b"x" * 65536), "exceeds"),
    "endless-chunks": (
        lambda c, over: pour(c, over, CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        "exceeds",
    ),
    "endless-header": (
        lambda c, over: pour(c, over, OK + b"X: ", b"x" * 65536),
        "Receive buffer too long",
    ),
    "endless-headers": (
        lambda c, over: pour(c, over, OK, b"X: x\r\n" * 1000),
        "Receive buffer too long",
    ),
    "reset": (reset, ""),
    "closed-at-once": (lambda c, over: None, "disconnected"),
    "half-a-status": (lambda c, over: c.sendall(b"HTTP/1.1 20"), "disconnected"),
    "half-a-body": (
        lambda c, over: c.sendall(OK + b"Content-Length: 1000\r\n\r\n<rss"),
        "without sending complete message body",
    ),
    "noise": (lambda c, over: c.sendall(b"\0\1\2\xff" * 100 + b"\r\n\r\n"), "illegal"),
    "status-600": (lambda c, over: c.sendall(b"HTTP/1.1 600 Odd\r\n\r\n"), ""),
    "status-204": (lambda c, over: c.sendall(b"HTTP/1.1 204 None\r\n\r\n"), "HTTP status 204"),
    "status-404": (lambda c, over: c.sendall(b"HTTP/1.1 404 No\r\n\r\n"), "HTTP status 404"),
    "status-304": (lambda c, over: c.sendall(b"HTTP/1.1 304 Same\r\n\r\n"), "HTTP status 304"),
    "status-206": (lambda c, over: c.sendall(b"HTTP/1.1 206 Part\r\n\r\n<rss"), "HTTP status 206"),
    "challenge": (
        lambda c, over: c.sendall(OK + b"\r\n<html><title>Just a moment...</title></html>"),
        "not a feed",
    ),
    "loop": (lambda c, over: c.sendall(b"HTTP/1.1 302 F\r\nLocation: /\r\n\r\n"), "redirects"),
} | {
    f"to-{target.partition(':')[0]}-{place}": (
        lambda c, over, target=target: c.sendall(
            f"HTTP/1.1 301 M\r\nLocation: {target}\r\n\r\n".encode()
        ),
        "is not an http or https address",
    )
    for place, target in enumerate(
        (
            "file:///etc/hostname",
            "ftp://127.0.0.1/",
            "data:text/xml,<rss/>",
            "gopher://a.org/",
            "javascript:alert(1)",
        )
    )
}


class HostileServer:
    """One listening socket for each kind, and a thread for each connection."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.threads: list[threading.Thread] = []
        self.sockets: list[socket.socket] = []
        self.urls: dict[str, str] = {}

    def start(self, kind: str, serve: Serve) -> None:
        server = socket.create_server(("127.0.0.1", 0))
        server.settimeout(0.1)
        self.sockets.append(server)
        self.urls[kind] = f"http://{kind}.test:{server.getsockname()[1]}/"
        self._run(lambda: self._accept(server, serve))

    def start_that_never_accepts(self) -> None:
        """A full backlog: a connection is never established."""
        server = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.sockets.append(server)
        for _ in range(4):
            waiting = socket.socket()
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(server.getsockname())
            self.sockets.append(waiting)
        self.urls["never-accepted"] = f"http://never-accepted.test:{server.getsockname()[1]}/"

    def _accept(self, server: socket.socket, serve: Serve) -> None:
        while not self.over.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            self._run(lambda c=connection: self._answer(c, serve))

    def _answer(self, connection: socket.socket, serve: Serve) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            connection.recv(65536)
            serve(connection, self.over)

    def _run(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target)
        self.threads.append(thread)
        thread.start()

    def close(self) -> None:
        self.over.set()
        for thread in list(self.threads):
            thread.join()
        for each in self.sockets:
            each.close()


@contextlib.contextmanager
def hostile_server() -> Iterator[HostileServer]:
    server = HostileServer()
    for kind, (serve, _) in KINDS.items():
        server.start(kind, serve)
    server.start_that_never_accepts()
    for place in range(10):
        server.start(f"good-{place}", lambda c, over: c.sendall(OK + b"\r\n" + RSS))
    try:
        yield server
    finally:
        server.close()


def n_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def test_each_hostile_server_fails_in_its_time_and_the_good_ones_are_read() -> None:
    """One server that holds the day: a limit for each read, none for the whole."""
    fetcher = HttpFetcher(
        timeout_s=TIMEOUT_S,
        max_bytes=MAX_BYTES,
        allow_private=True,
        retry_wait_s=0.05,
        resolve=lambda host, port: ["127.0.0.1"],
    )
    readings: dict[str, FeedReading] = {}
    with ParserProcesses() as parser:
        parser.parse(RSS, {})  # its start counts against no feed
        before = threading.active_count(), n_descriptors()
        with hostile_server() as hostile:
            feeds = [Feed(kind, url, "") for kind, url in hostile.urls.items()]
            start = time.monotonic()
            for reading in read_feeds(feeds, fetcher, parser, {}, as_of=AS_OF, max_s=60):
                readings[reading.feed.name] = reading
            took_s = time.monotonic() - start
        # Up to one more child of the parser, which has one line to it.
        assert threading.active_count() == before[0]
        assert before[1] <= n_descriptors() <= before[1] + 1
    assert took_s < TIMEOUT_S + 2
    assert readings.keys() == hostile.urls.keys()
    wrong = {
        kind: (reading.status, reading.reason, reading.seconds)
        for kind, reading in readings.items()
        if reading.seconds > TIMEOUT_S + 1
        or (reading.status == "ok") != kind.startswith("good-")
        or (kind in KINDS and KINDS[kind][1] not in reading.reason)
    }
    assert wrong == {}
    assert "not complete after 1.5 s" in readings["never-accepted"].reason
    assert all(readings[f"good-{place}"].entries[0].title == "news" for place in range(10))


def test_all_feeds_together_end_in_their_time() -> None:
    """Each feed within its limit, and the day a day late: what is not reached is not waited for,
    and what was cut short is not told as the fault of its server."""
    fetcher = HttpFetcher(
        timeout_s=4, max_bytes=1, allow_private=True, resolve=lambda host, port: ["127.0.0.1"]
    )
    with hostile_server() as hostile, ParserProcesses() as parser:
        url = hostile.urls["silent"]
        feeds = [Feed(f"{n}", f"{url}{n}", "") for n in range(6)]
        feeds += [Feed(f"h{n}", url.replace("silent", f"s{n}"), "") for n in range(6)]
        limits = {"max_s": 1.6, "n_at_once": 4, "pause_s": 0.01}
        start = time.monotonic()
        readings = list(read_feeds(feeds, fetcher, parser, {}, as_of=AS_OF, **limits))
        assert 1.5 < time.monotonic() - start < 3
    assert len(readings) == len(feeds)
    assert {reading.status for reading in readings} == {"unreached"}
    assert {reading.state.n_failures for reading in readings} == {0}
    told = "not reached: out of time, 1.6 s for all feeds"
    assert all(reading.reason.startswith(told) for reading in readings)
    cut_short = [r for r in readings if "not complete after 1.6 s" in r.reason]
    assert len(cut_short) == 4  # four at once were waiting for an answer
