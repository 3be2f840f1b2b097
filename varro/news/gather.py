"""All feeds of a cycle, read politely: many hosts side by side, one request a host at a time, each
feed within its time and all within theirs."""

from __future__ import annotations

import hashlib
import heapq
import math
import random
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from types import MappingProxyType
from typing import Literal, Protocol
from urllib.parse import urljoin, urlsplit

from varro.errors import FeedError
from varro.news.clean import clean_label, clean_link, hide_query
from varro.news.fetch import (
    NOTHING_KNOWN,
    Fetched,
    Fetcher,
    FetchError,
    FetchTimeout,
    Validators,
)
from varro.news.opml import Feed
from varro.news.parse import Entry, ParsedFeed, ParseError

N_AT_ONCE = 48
"""hosts asked side by side: 500 that hang for 30 s each are through in 5 minutes, and bodies of
15 MB from all of them fit into 1 GB"""
PAUSE_S = 1.0
"""between two requests to one host, give or take half of it"""
RESTS_AFTER = 3
"""failures in a row, after which a feed is asked less often"""
FIRST_REST = timedelta(minutes=30)
"""doubled with each failure more"""
LONGEST_REST = timedelta(hours=20)
"""shorter than a day: a daily cycle asks every feed, however it has failed"""

_NEVER = datetime.min.replace(tzinfo=UTC)

Status = Literal["ok", "unchanged", "resting", "unreached", "failed"]


@dataclass(frozen=True, slots=True)
class FeedState:
    """What is known of a feed from earlier cycles."""

    validators: Validators = NOTHING_KNOWN
    """of the last body that was a feed"""
    body_sha256: str = ""
    n_entries: int = 0
    """of the last body that was a feed, the untitled included"""
    n_failures: int = 0
    """in a row, up to now"""
    next_at: datetime | None = None
    """not to be asked before"""


@dataclass(frozen=True, slots=True)
class FeedReading:
    """What came of one feed in one cycle."""

    feed: Feed
    status: Status
    """`unchanged` is a good answer, `resting` none that was asked for, `unreached` one that there
    was no time for; only `failed` is held against the feed"""
    state: FeedState
    """to be kept for the next cycle"""
    entries: tuple[Entry, ...] = ()
    n_untitled: int = 0
    reason: str = ""
    http_status: int | None = None
    body: bytes = b""
    """decoded; empty unless `ok`"""
    moved_to: str | None = None
    """the feed's new address, where it has moved for good"""
    seconds: float = 0.0
    n_left_out: int = 0
    """entries behind the most that one feed may have"""


class Parser(Protocol):
    """Where bodies become entries."""

    def parse(
        self, body: bytes, headers: Mapping[str, str], *, until: float = math.inf
    ) -> ParsedFeed:
        """The titled entries of a body, by `until` (monotonic clock).  Raises: ParseError."""
        ...


def read_feeds(
    feeds: Sequence[Feed],
    fetcher: Fetcher,
    parser: Parser,
    states: Mapping[str, FeedState],
    *,
    as_of: datetime,
    max_s: float,
    n_at_once: int = N_AT_ONCE,
    pause_s: float = PAUSE_S,
    asked_at: Mapping[str, datetime] = MappingProxyType({}),
) -> Iterator[FeedReading]:
    """A reading of each feed as it comes; `states` by url. A feed that fails stops no other one.

    All are through after `max_s` by the wall. Who was asked longest ago, by `asked_at`, comes
    first: where the time is too short for all, each has its turn.
    Note: readings hold bodies: take what is needed of one before the next. Their order is that of
    the answers, and no two times the same.
    """
    cycle = _Cycle(fetcher, parser, as_of, max_s, time.monotonic() + max_s)
    due: list[tuple[Feed, FeedState]] = []
    for feed in sorted(feeds, key=lambda f: asked_at.get(f.url, _NEVER)):
        state = states.get(feed.url, FeedState())
        if state.next_at is not None and as_of < state.next_at:
            reason = f"not to be asked before {state.next_at:%H:%M}Z on {state.next_at:%Y-%m-%d}"
            yield FeedReading(feed, "resting", state, reason=reason)
        else:
            due.append((feed, state))
    yield from _ask_hosts(due, cycle, n_at_once=n_at_once, pause_s=pause_s)


def _ask_hosts(
    due: Sequence[tuple[Feed, FeedState]], cycle: _Cycle, *, n_at_once: int, pause_s: float
) -> Iterator[FeedReading]:
    """Readings of the feeds, no two of one host at a time or without a pause between them."""
    waiting: dict[str, deque[tuple[Feed, FeedState]]] = {}
    for feed, state in due:
        waiting.setdefault(urlsplit(feed.url).hostname or "", deque()).append((feed, state))
    ready = [(0.0, place, host) for place, host in enumerate(waiting)]
    # When a host may be asked (monotonic clock), its place among equals, the host: a heap.
    asked: dict[Future[FeedReading], tuple[int, str]] = {}
    with ThreadPoolExecutor(n_at_once, thread_name_prefix="varro-feed") as pool:
        while ready or asked:
            while ready and len(asked) < n_at_once and ready[0][0] <= time.monotonic():
                _, place, host = heapq.heappop(ready)
                asked[pool.submit(cycle.read, *waiting[host].popleft())] = place, host
            is_full = len(asked) == n_at_once
            may_begin_in_s = (
                max(ready[0][0] - time.monotonic(), 0.0) if ready and not is_full else None
            )
            if not asked:
                time.sleep(may_begin_in_s or 0.0)
                continue
            done, _ = wait(asked, may_begin_in_s, FIRST_COMPLETED)
            for future in done:
                place, host = asked.pop(future)
                if waiting[host]:
                    at = time.monotonic() + pause_s * random.uniform(0.5, 1.5)
                    # None that ends after the deadline is waited for: who is left is not reached.
                    heapq.heappush(ready, (min(at, cycle.deadline), place, host))
                yield future.result()


@dataclass(frozen=True, slots=True)
class _Cycle:
    """What the readings of one cycle have in common."""

    fetcher: Fetcher
    parser: Parser
    as_of: datetime
    max_s: float
    deadline: float
    """on the monotonic clock"""

    def is_over(self) -> bool:
        return time.monotonic() >= self.deadline

    def read(self, feed: Feed, state: FeedState) -> FeedReading:
        """One feed, fetched and parsed. A FeedError is not raised: it is the reading."""
        start = time.monotonic()
        try:
            reading = self._unreached(feed, state) if self.is_over() else self._read(feed, state)
        except FeedError as error:
            if self.is_over() and _is_late(error):  # with more time it might have come
                reading = self._unreached(feed, state, error)
            else:
                reading = _failed(feed, state, self.as_of, error)
        return replace(reading, seconds=time.monotonic() - start)

    def _unreached(
        self, feed: Feed, state: FeedState, error: FeedError | None = None
    ) -> FeedReading:
        told = f"not reached: out of time, {self.max_s:g} s for all feeds"
        reason = _told(feed, f"{told}; {error}" if error else told)
        return FeedReading(feed, "unreached", state, reason=reason)

    def _read(self, feed: Feed, state: FeedState) -> FeedReading:
        answer = self.fetcher.fetch(feed.url, state.validators, until=self.deadline)
        good = FeedReading(
            feed,
            "unchanged",
            _after_good(state, answer, self.as_of),
            http_status=answer.status,
            moved_to=answer.moved_to,
        )
        sha256 = hashlib.sha256(answer.body).hexdigest()
        # Some servers know no conditional GET.
        if answer.status == HTTPStatus.NOT_MODIFIED or sha256 == state.body_sha256:
            return good
        headers = {**answer.headers, "content-location": _base_of(answer)}
        parsed = self.parser.parse(answer.body, headers, until=self.deadline)
        n_entries = len(parsed.entries) + parsed.n_untitled
        if not n_entries and state.n_entries:
            raise ParseError(f"holds no entry, and held {state.n_entries} when it last changed")
        return replace(
            good,
            status="ok",
            state=replace(good.state, body_sha256=sha256, n_entries=n_entries),
            entries=parsed.entries,
            n_untitled=parsed.n_untitled,
            n_left_out=parsed.n_left_out,
            body=answer.body,
        )


def _is_late(error: FeedError) -> bool:
    return isinstance(error, FetchTimeout) or (
        isinstance(error, ParseError) and error.kind == "timeout"
    )


def _told(feed: Feed, reason: str) -> str:
    """An error page may say what was asked for."""
    return clean_label(hide_query(reason, feed.url))


def _base_of(answer: Fetched) -> str:
    """What the links of a body are relative to."""
    try:
        location = urljoin(answer.url, answer.headers.get("content-location", ""))
    except ValueError:
        location = ""
    return clean_link(location) or answer.url


def _after_good(state: FeedState, answer: Fetched, as_of: datetime) -> FeedState:
    """A 304 need not repeat the validators it confirms; a new body's replace the old ones."""
    new, old = answer.validators(), state.validators
    if answer.status == HTTPStatus.NOT_MODIFIED:
        new = Validators(new.etag or old.etag, new.last_modified or old.last_modified)
    fresh_s = answer.fresh_s(as_of)
    return replace(
        state,
        validators=new,
        n_failures=0,
        next_at=as_of + timedelta(seconds=fresh_s) if fresh_s else None,
    )


def _failed(feed: Feed, state: FeedState, as_of: datetime, error: FeedError) -> FeedReading:
    """The validators stay: what they stand for is the last good body."""
    n_failures = state.n_failures + 1
    rest = timedelta(0)
    if isinstance(error, FetchError):
        rest = timedelta(seconds=error.retry_after_s(as_of))
    if n_failures >= RESTS_AFTER:
        doublings = min(n_failures - RESTS_AFTER, 10)
        rest = max(rest, min(FIRST_REST * 2**doublings, LONGEST_REST))
    return FeedReading(
        feed,
        "failed",
        replace(state, n_failures=n_failures, next_at=as_of + rest if rest else None),
        reason=_told(feed, str(error)),
        http_status=error.status if isinstance(error, FetchError) else None,
    )
