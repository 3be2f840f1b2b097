"""Feeds parsed in processes of their own, limited in memory and time.

What a stranger's feed can do to a parser is done to a child: it is killed, the feed is marked, and
the next one is parsed by a new child. Bodies go in as bytes and entries come out as JSON: nothing
that a child says is run.

Note: macOS knows the limit of memory and does not keep it. There the clock alone ends a child, and
what it can take within MAX_PARSE_S is bounded by the size of the body and the caps of `parse`.
"""

from __future__ import annotations

import json
import math
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

from varro.errors import VarroError
from varro.news.clean import MAX_TITLE, is_visible
from varro.news.parse import Entry, ParsedFeed, ParseError, check_expat, parse_feed

N_PARSERS = 2
MAX_PARSE_S = 5.0
"""for one feed, by the wall and by the processor"""
MAX_START_S = 120.0
"""for a child to load: a second, or many on a disk that is busy"""
MAX_PARSE_MB = 512
"""of address space for a child"""
MAX_REPLY_BYTES = 16_000_000
"""more than MAX_TEXT characters can need; a child that says more is broken"""
MAX_BODIES = 1_000
"""parsed by one child, whose memory never shrinks"""
_WEB = ("http://", "https://")


class ParserProcesses:
    """A few child processes that parse feeds. Safe to share among threads; a context manager.

    Raises: FeedError if Python's XML parser is too old to be fed from outside.
    """

    def __init__(
        self,
        n: int = N_PARSERS,
        *,
        max_s: float = MAX_PARSE_S,
        max_mb: int = MAX_PARSE_MB,
        start_s: float = MAX_START_S,
    ) -> None:
        check_expat()
        self._start_s = start_s
        self._max_s = max_s
        self._max_mb = max_mb
        self._n = n
        self._idle: SimpleQueue[_Child | None] = SimpleQueue()
        for _ in range(n):
            self._idle.put(None)  # started when it is needed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the children, after what they are parsing now. They start again if need be."""
        for child in [self._idle.get() for _ in range(self._n)]:
            if child is not None:
                child.end()
            self._idle.put(None)

    def parse(
        self, body: bytes, headers: Mapping[str, str], *, until: float = math.inf
    ) -> ParsedFeed:
        """As `parse_feed`, by `until` (monotonic clock).

        Raises: ParseError, of kind `timeout` or `exception` if the child had to be given up;
            VarroError if none can be started, which is no feed's fault.
        """
        try:
            child = self._idle.get(timeout=_left(until))
        except Empty:
            raise ParseError("no parser was free in time", kind="timeout") from None
        try:
            if child is not None and not child.is_fit():
                child.end()
                child = None
            child = child or _Child(self._max_mb, self._start_s)
            return read_reply(child.ask(body, headers, max_s=min(self._max_s, _left(until))))
        except ParseError as error:
            if child is not None and error.kind == "exception":
                child.end()  # what is left of its memory may be in pieces
            raise
        finally:
            self._idle.put(child)


def _left(until: float) -> float:
    """Seconds, at most what a wait of this system takes."""
    return min(max(until - time.monotonic(), 0.0), threading.TIMEOUT_MAX)


class _Child:
    """A process that parses, and the line to it."""

    def __init__(self, max_mb: int, start_s: float) -> None:
        self._n_bodies = 0
        ours, theirs = socket.socketpair()
        with theirs:
            # A session of its own: a Ctrl-C is for the parent, which ends it.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(max_mb)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._connection = Connection(ours.detach())
        try:
            if not self._connection.poll(start_s):
                raise EOFError(f"not loaded after {start_s:g} s")
            self._connection.recv_bytes()  # it has loaded: that counts against no feed
        except (EOFError, OSError) as error:
            self.end()
            raise VarroError(
                f"the process that parses feeds did not start (exit code "
                f"{self._process.returncode}); see what it said above, and whether memory is short"
            ) from error

    def is_fit(self) -> bool:
        """Whether it lives and may be given another body."""
        return self._n_bodies < MAX_BODIES and self._process.poll() is None

    def ask(self, body: bytes, headers: Mapping[str, str], *, max_s: float) -> bytes:
        """Its reply. Raises: ParseError if it does not answer in time, or dies."""
        self._n_bodies += 1
        late = threading.Event()

        def kill() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(max_s, kill)
        timer.start()
        try:
            self._connection.send_bytes(json.dumps(dict(headers)).encode())
            self._connection.send_bytes(body)
            return self._connection.recv_bytes(MAX_REPLY_BYTES)
        except (EOFError, OSError) as error:
            self.end()
            if late.is_set():
                raise ParseError(
                    f"not parsed after {max_s:g} s; given up", kind="timeout"
                ) from error
            raise ParseError(
                f"the parser ended without a word (exit code {self._process.returncode})",
                kind="exception",
            ) from error
        except BaseException:
            self.end()  # or its answer would be taken for the next one's
            raise
        finally:
            timer.cancel()
            timer.join()
            if late.is_set():  # perhaps just after it had answered
                self.end()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._connection.close()


def read_reply(reply: bytes) -> ParsedFeed:
    """Raises: ParseError, also if the reply is not what a child of ours would say."""
    try:
        facts = json.loads(reply)
        if "error" in facts:
            raise ParseError(str(facts["error"]), kind=str(facts["kind"]))
        return ParsedFeed(
            entries=tuple(_entry(*entry) for entry in facts["entries"]),
            n_untitled=_count(facts["n_untitled"]),
            n_left_out=_count(facts["n_left_out"]),
            version=str(facts["version"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        reason = f"the parser's reply cannot be read: {type(error).__name__}"
        raise ParseError(reason, kind="exception") from error


def _entry(guid: str, title: str, link: str, published: str | None, relative_link: str) -> Entry:
    """What no row of a ledger could hold, or no clock be held against, is refused."""
    time_of = None if published is None else datetime.fromisoformat(published)
    entry = Entry(str(guid), str(title), str(link), time_of, str(relative_link))
    if time_of is not None and time_of.tzinfo is None:
        raise ValueError("a time without its zone")
    if not is_visible("".join((entry.guid, entry.title, entry.link, entry.relative_link))):
        raise ValueError("not clean")
    if len(entry.title) > MAX_TITLE or (entry.link and not entry.link.lower().startswith(_WEB)):
        raise ValueError("not clean")
    return entry


def _count(value: Any) -> int:
    count = int(value)
    if not 0 <= count < 2**31:
        raise ValueError("not a count")
    return count


# -- the child


def _serve(connection: Connection, max_mb: int) -> None:
    confine(max_mb)
    import feedparser  # noqa: F401

    connection.send_bytes(b"ready")
    while True:
        try:
            headers = json.loads(connection.recv_bytes())
            body = connection.recv_bytes()
        except (EOFError, ConnectionError):  # the parent is done, or gone
            return
        _limit_processor()
        try:
            reply = _reply(parse_feed(body, headers))
        except ParseError as error:
            reply = {"error": str(error), "kind": error.kind}
        except MemoryError:
            reply = {"error": f"needs more than {max_mb} MB to parse", "kind": "exception"}
        connection.send_bytes(_packed(reply))


def _reply(parsed: ParsedFeed) -> dict[str, Any]:
    return {
        "entries": [
            (e.guid, e.title, e.link, e.published and e.published.isoformat(), e.relative_link)
            for e in parsed.entries
        ],
        "n_untitled": parsed.n_untitled,
        "n_left_out": parsed.n_left_out,
        "version": parsed.version,
    }


def _packed(reply: dict[str, Any]) -> bytes:
    # A half of a surrogate pair, in an error's message, becomes its escape.
    return json.dumps(reply, ensure_ascii=False).encode("utf-8", "backslashreplace")


def confine(max_mb: int) -> None:
    """From now on this process has little memory, writes no file, calls nobody, starts nothing."""
    with suppress(ValueError, OSError):  # see the note on macOS
        resource.setrlimit(resource.RLIMIT_AS, (max_mb * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_refuse)


def _limit_processor() -> None:
    """From now on MAX_PARSE_S more, then the system ends this process: also where the parent that
    would is gone."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(usage.ru_utime + usage.ru_stime + MAX_PARSE_S) + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event.startswith(
        ("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.system")
    ):
        raise PermissionError(f"{event} in the process that parses feeds")


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
