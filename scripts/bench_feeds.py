"""How long 10,000 feeds take, one in twenty of them hostile, and how much memory.

    python scripts/bench_feeds.py [--feeds 10000] [--hostile 0.05] [--at-once 48]

A server on loopback, in a process of its own, gives each feed a host of its own: 99 entries in
about 42 kB, or one of HOSTILE. They are fetched and parsed as in a day. Printed: seconds, peak
memory of this process, feeds by status, and what the hostile ones came to.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gzip
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from varro.news.fetch import HttpFetcher
from varro.news.gather import N_AT_ONCE, read_feeds
from varro.news.opml import Feed
from varro.news.parse_apart import ParserProcesses

MAX_S = 600.0
TIMEOUT_S = 30.0
MAX_BYTES = 15_000_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/rss+xml\r\n"
OPEN = b"<?xml version='1.0' encoding='utf-8'?><rss version='2.0'><channel><title>c</title>"
CLOSE = b"</channel></rss>"

Send = Callable[[asyncio.StreamWriter], Awaitable[None]]


def feed_body(n: int) -> bytes:
    """99 entries, about 42 kB, of feed n."""
    items = "".join(
        f"<item><title>Headline {k} of feed {n}: central bank holds rates, markets wait</title>"
        f"<link>https://feed{n}.test/news/2025/04/18/{k}</link><guid>feed{n}-{k}</guid>"
        f"<pubDate>Fri, 18 Apr 2025 {k % 24:02}:00:00 GMT</pubDate>"
        f"<description>What was said, by whom, and what it may mean for those who hold it; "
        f"entry {k}. {'Lorem ipsum dolor. ' * 6}</description></item>"
        for k in range(99)
    )
    return OPEN + items.encode() + CLOSE


async def send_all(writer: asyncio.StreamWriter, *parts: bytes) -> None:
    for part in parts:
        writer.write(part)
        await writer.drain()


async def drip(writer: asyncio.StreamWriter, start: bytes, drop: bytes) -> None:
    await send_all(writer, start)
    for _ in range(120):
        await asyncio.sleep(0.5)
        await send_all(writer, drop)


async def endless(writer: asyncio.StreamWriter) -> None:
    await send_all(writer, HEAD, b"\r\n")
    while True:
        await send_all(writer, b"x" * 65536)


async def reset(writer: asyncio.StreamWriter) -> None:
    await send_all(writer, HEAD, b"Content-Length: 1000\r\n\r\n<rss")
    writer.transport.abort()


@functools.cache
def bomb() -> bytes:
    """100 MB; made by the server alone, whose memory is not measured."""
    return gzip.compress(OPEN + b"x" * 100_000_000)


ATTRIBUTES = b"<x " + b" ".join(b'a%d="1"' % n for n in range(100_000)) + b"/>"
ILL_FORMED = b"&nbsp <bad" + b"<item><title>Head & line <b></title></item>" * 30_000
HOSTILE: dict[str, Send] = {
    "silent": lambda w: drip(w, b"", b""),
    "header drip": lambda w: drip(w, HEAD + b"X: ", b"x"),
    "body drip": lambda w: drip(w, HEAD + b"\r\n", b"<"),
    "endless": endless,
    "bomb": lambda w: send_all(w, HEAD, b"Content-Encoding: gzip\r\n\r\n", bomb()),
    "reset": reset,
    "error page": lambda w: send_all(w, HEAD, b"\r\n<html><title>502</title></html>"),
    "redirects": lambda w: send_all(w, b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"),
    "100,000 attributes": lambda w: send_all(w, HEAD, b"\r\n", OPEN, ATTRIBUTES, CLOSE),
    "30,000 ill-formed": lambda w: send_all(w, HEAD, b"\r\n", OPEN, ILL_FORMED, CLOSE),
}


async def serve() -> None:
    """Answers by host, `feed12.test` or `hostile3.test`, and says its port first."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            host = request.partition(b"Host: ")[2].partition(b".")[0].decode()
            if host.startswith("hostile"):
                kinds = list(HOSTILE.values())
                await kinds[int(host.removeprefix("hostile")) % len(kinds)](writer)
            else:
                body = feed_body(int(host.removeprefix("feed")))
                await send_all(writer, HEAD + b"Content-Length: %d\r\n\r\n" % len(body), body)
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def read_all(port: int, *, n_feeds: int, hostile_frac: float, n_at_once: int) -> None:
    n_hostile = round(n_feeds * hostile_frac)
    every = n_feeds // n_hostile if n_hostile else n_feeds + 1
    feeds: list[Feed] = []
    kinds = list(HOSTILE)
    for n in range(n_feeds):
        is_hostile = n % every == 0 and n // every < n_hostile
        host = f"hostile{n // every}" if is_hostile else f"feed{n}"
        name = kinds[n // every % len(kinds)] if is_hostile else "good"
        feeds.append(Feed(name, f"http://{host}.test:{port}/", ""))
    fetcher = HttpFetcher(
        timeout_s=TIMEOUT_S,
        max_bytes=MAX_BYTES,
        allow_private=True,
        resolve=lambda host, port: ["127.0.0.1"],
    )
    statuses: Counter[str] = Counter()
    of_kind: dict[str, Counter[str]] = {}
    slowest: dict[str, float] = {}
    n_entries = 0
    start = time.monotonic()
    as_of = datetime(2025, 4, 18, 12, 0, tzinfo=UTC)
    with ParserProcesses() as parser:
        for reading in read_feeds(
            feeds, fetcher, parser, {}, as_of=as_of, max_s=MAX_S, n_at_once=n_at_once
        ):
            name = reading.feed.name
            statuses[reading.status] += 1
            reason = reading.reason.rpartition("/: ")[2][:60] or reading.status
            of_kind.setdefault(name, Counter())[reason] += 1
            slowest[name] = max(slowest.get(name, 0.0), reading.seconds)
            n_entries += len(reading.entries)
    took_s = time.monotonic() - start
    print(f"{n_feeds:,} feeds, {n_hostile:,} of them hostile: {took_s:.0f} s")
    print(f"entries: {n_entries:,}; feeds by status: {dict(statuses)}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory: {peak / (1e6 if sys.platform == 'darwin' else 1e3):.0f} MB")
    for name, reasons in sorted(of_kind.items()):
        shown = "; ".join(f"{n} × {reason}" for reason, n in reasons.most_common(3))
        print(f"  {name:20} slowest {slowest[name]:5.1f} s: {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--feeds", type=int, default=10_000)
    parser.add_argument("--hostile", type=float, default=0.05, help="share of the feeds")
    parser.add_argument("--at-once", type=int, default=N_AT_ONCE)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve())
        return
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            read_all(port, n_feeds=given.feeds, hostile_frac=given.hostile, n_at_once=given.at_once)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
