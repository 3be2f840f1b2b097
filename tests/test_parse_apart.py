"""Feeds parsed by children: the same entries, and a child that can be lost."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from varro.errors import FeedError, VarroError
from varro.news.clean import MAX_TITLE
from varro.news.parse import MAX_ENTRIES, MAX_TEXT, ParseError, check_expat, parse_feed
from varro.news.parse_apart import ParserProcesses, read_reply

RSS = "<rss version='2.0'><channel><title>c</title>{}</channel></rss>"
ITEM = (
    "<title>Rates &amp;lt;b&amp;gt;rise&amp;lt;/b&amp;gt; \U0001f4c8</title><guid>g1</guid>"
    "<link>/1</link><pubDate>Fri, 18 Apr 2025 14:00:00 +0200</pubDate>"
)
NEWS = RSS.format(f"<item>{ITEM}</item><item></item>").encode()
SLOW = RSS.format("&nbsp <bad" + "<item><title>&amp &</title></item>" * 60_000).encode()
"""seconds of work: not well formed, and long"""


def children() -> set[int]:
    """Process ids of our parsers."""
    found = subprocess.run(["ps", "-axo", "pid=,ppid=,command="], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in found.stdout.splitlines()]
    return {
        int(pid)
        for pid, parent, command in rows
        if int(parent) == os.getpid() and "varro.news.parse_apart" in command
    }


def test_a_child_says_what_the_parser_does() -> None:
    """A field lost on the way, or a time without its zone."""
    headers = {"content-location": "https://a.org/feed", "content-type": "text/xml"}
    with ParserProcesses() as parser:
        parsed = parser.parse(NEWS, headers)
    assert parsed == parse_feed(NEWS, headers)
    (entry,) = parsed.entries
    assert (entry.title, entry.link) == ("Rates rise \U0001f4c8", "https://a.org/1")
    assert entry.published == datetime(2025, 4, 18, 12, 0, tzinfo=UTC)
    assert (parsed.version, parsed.n_untitled, parsed.n_left_out) == ("rss20", 1, 0)


def test_what_is_no_feed_fails_as_without_a_child() -> None:
    """A reason lost on the way; half a surrogate pair in it, which UTF-8 cannot say."""
    with ParserProcesses() as parser:
        for body, headers in [
            (b"<html>502</html>", {}),
            (b"", {}),
            (NEWS, {"content-type": "text/xml; charset=\0"}),
            (NEWS, {"content-type": "text/xml; charset=\udc80"}),
        ]:
            reasons = []
            for parse in (parser.parse, parse_feed):
                with pytest.raises(ParseError) as caught:
                    parse(body, headers)  # type: ignore[operator]
                reasons.append((str(caught.value), caught.value.kind))
            assert reasons[0] == reasons[1]


def test_a_child_is_kept_for_the_next_body_and_ended_with_its_parser() -> None:
    """A start of a third of a second for each feed; processes left behind."""
    before = children()
    with ParserProcesses(1) as parser:
        parser.parse(NEWS, {})
        first = children() - before
        parser.parse(NEWS, {})
        assert len(first) == 1 and children() - before == first
    assert children() == before


def test_a_body_that_takes_too_long_costs_its_child_and_nothing_else() -> None:
    """One feed that holds the day; a dead child asked again."""
    before = children()
    with ParserProcesses(1, max_s=0.5) as parser:
        parser.parse(NEWS, {})
        first = children() - before
        start = time.monotonic()
        with pytest.raises(ParseError, match=r"not parsed after 0\.5 s") as caught:
            parser.parse(SLOW, {})
        assert caught.value.kind == "timeout"
        assert time.monotonic() - start < 2
        assert parser.parse(NEWS, {}).entries
        assert children() - before != first
        with pytest.raises(ParseError, match=r"not parsed after 0\.[12]"):
            parser.parse(SLOW, {}, until=time.monotonic() + 0.2)


def test_a_child_that_dies_in_its_work_or_between_is_replaced() -> None:
    """The system takes a child for its memory: that is the feed's failure, or nobody's."""
    before = children()
    with ParserProcesses(1) as parser:
        parser.parse(NEWS, {})
        (idle,) = children() - before
        os.kill(idle, signal.SIGKILL)
        time.sleep(0.1)
        assert parser.parse(NEWS, {}).entries
        (busy,) = children() - before
        threading.Timer(0.3, os.kill, (busy, signal.SIGKILL)).start()
        with pytest.raises(ParseError, match=r"ended without a word \(exit code -9\)") as caught:
            parser.parse(SLOW, {})
        assert caught.value.kind == "exception"
        assert parser.parse(NEWS, {}).entries


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not keep a limit of memory")
def test_a_body_that_needs_too_much_memory_is_given_up() -> None:
    """A feed that takes the machine's memory."""
    body = RSS.format("<item><title>\U0001f4c8" + "x" * 14_000_000 + "</title></item>").encode()
    with ParserProcesses(1, max_s=60, max_mb=160) as parser:
        with pytest.raises(ParseError) as caught:
            parser.parse(body, {})
        assert caught.value.kind == "exception"
        assert "more than 160 MB" in str(caught.value) or "without a word" in str(caught.value)
        assert parser.parse(NEWS, {}).entries
    with ParserProcesses(1, max_s=60) as parser:
        assert len(parser.parse(body, {}).entries[0].title) == MAX_TITLE


@pytest.mark.parametrize(
    ("trouble", "start_s"), [("raise MemoryError", 60), ("import time; time.sleep(60)", 2)]
)
def test_a_parser_that_cannot_start_is_no_feeds_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str, start_s: float
) -> None:
    """Every feed of the day marked as dead, because the machine has no memory left; a day that
    waits for ever for a child that hangs before it has loaded."""
    # By a module of that name: what a limit of 1 MB leaves room for depends on the free heap.
    (tmp_path / "feedparser.py").write_text(trouble)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    with ParserProcesses(start_s=start_s) as parser, pytest.raises(VarroError) as caught:
        parser.parse(NEWS, {})
    assert "did not start" in str(caught.value) and not isinstance(caught.value, FeedError)


class Interrupted(Mapping[str, str]):
    """Headers at which a Ctrl-C comes."""

    def __getitem__(self, name: str) -> str:
        raise KeyboardInterrupt

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


def test_an_interrupted_parse_leaves_no_answer_for_the_next() -> None:
    """The entries of one feed taken for those of the feed after it."""
    before = children()
    with ParserProcesses(1) as parser:
        parser.parse(NEWS, {})
        first = children() - before
        with pytest.raises(KeyboardInterrupt):
            parser.parse(NEWS, Interrupted())
        assert parser.parse(NEWS, {}).entries
        assert children() - before != first


def test_a_child_whose_parser_broke_is_not_used_again() -> None:
    """What is left of a parser, or of its memory, after an error that nobody foresaw."""
    before = children()
    with ParserProcesses(1) as parser:
        parser.parse(NEWS, {})
        first = children() - before
        with pytest.raises(ParseError, match="ValueError") as caught:
            parser.parse(NEWS, {"content-type": "text/xml; charset=\0"})
        assert caught.value.kind == "exception"
        assert children() == before
        assert parser.parse(NEWS, {}).entries
        assert children() - before != first


def test_many_threads_share_a_few_children() -> None:
    """Replies handed to the wrong caller."""
    bodies = [RSS.format(f"<item><title>news {n}</title></item>").encode() for n in range(100)]
    before = children()
    with ParserProcesses(2) as parser, ThreadPoolExecutor(8) as pool:
        parsed = list(pool.map(lambda body: parser.parse(body, {}), bodies))
        assert len(children() - before) == 2
    assert [feed.entries[0].title for feed in parsed] == [f"news {n}" for n in range(100)]


def test_who_waits_for_a_parser_waits_no_longer_than_it_may() -> None:
    """All children at hostile bodies, and the day waits for its turn."""
    with ParserProcesses(1, max_s=1) as parser, ThreadPoolExecutor(1) as pool:
        parser.parse(NEWS, {})
        busy = pool.submit(parser.parse, SLOW, {})
        time.sleep(0.1)
        with pytest.raises(ParseError, match="no parser was free in time"):
            parser.parse(NEWS, {}, until=time.monotonic() + 0.2)
        assert isinstance(busy.exception(), ParseError)


def a_reply(*entry: object, **changes: object) -> bytes:
    facts = {"entries": [entry], "n_untitled": 0, "n_left_out": 0, "version": "rss20"}
    return json.dumps(facts | changes).encode()


TIME = "2026-01-05T07:00:00+00:00"
WHOLE = ("g", "t", "https://a.org/7", TIME, "/7")


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 100_000,
        a_reply("g", "t"),
        a_reply("g", "t", "", "now", ""),
        a_reply("g", "t", "", TIME.removesuffix("+00:00"), ""),
        a_reply("g", "half \ud800", "", TIME, ""),
        a_reply("\0", "t", "", TIME, ""),
        a_reply("g", "t", "javascript:x()", TIME, ""),
        a_reply("g", "t" * (MAX_TITLE + 1), "", TIME, ""),
        a_reply(*WHOLE, entries=7),
        a_reply(*WHOLE, n_untitled=math.inf),
        a_reply(*WHOLE, n_left_out=2**70),
        a_reply(*WHOLE, n_untitled=-1),
    ],
)
def test_a_reply_that_no_child_of_ours_would_give_is_the_feeds_failure(reply: bytes) -> None:
    """A parser taken over by its feed that ends the day by what it says: a time that cannot be
    compared, a count or a letter that no row can hold."""
    assert read_reply(a_reply(*WHOLE)).entries[0].link == "https://a.org/7"
    with pytest.raises(ParseError, match="reply cannot be read") as caught:
        read_reply(reply)
    assert caught.value.kind == "exception"


def test_a_child_calls_nobody_and_writes_nothing(tmp_path: Path) -> None:
    """A parser that can be made to fetch, or to run something."""
    script = """
import os, socket, subprocess, sys
from varro.news.parse_apart import confine
confine(500)
for attempt in (
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: socket.getaddrinfo("localhost", 80),
    lambda: subprocess.run(["true"]),
    lambda: os.system("true"),
    lambda: open(sys.argv[1], "w").write("x" * 100_000),
):
    try:
        attempt()
    except OSError as error:
        print(type(error).__name__, error.errno)
"""
    target = tmp_path / "written"
    done = subprocess.run(
        [sys.executable, "-c", script, str(target)], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["PermissionError None"] * 4 + ["OSError 27"], done.stderr
    assert target.stat().st_size == 0


def test_a_feed_has_its_most_entries_and_its_most_text() -> None:
    """A million entries, or two of a megabyte each, held in memory and kept in the ledger."""
    many = RSS.format("<item><title>t</title></item>" * (MAX_ENTRIES + 3)).encode()
    parsed = parse_feed(many, {})
    assert (len(parsed.entries), parsed.n_left_out) == (MAX_ENTRIES, 3)
    guid = "g" * 2000
    n_fit = MAX_TEXT // 2001
    long = RSS.format(f"<item><title>t</title><guid>{guid}</guid></item>" * (n_fit + 2)).encode()
    parsed = parse_feed(long, {})
    assert (len(parsed.entries), parsed.n_left_out) == (n_fit, 2)


def test_an_old_expat_is_refused_before_it_reads_anything() -> None:
    """Billion laughs: a kilobyte that becomes gigabytes in an expat before 2.4.0."""
    check_expat((2, 4, 0))
    check_expat((2, 10, 1))
    with pytest.raises(FeedError, match=r"expat 2\.3\.0.*2\.4\.0 or newer"):
        check_expat((2, 3, 0))
    check_expat()
