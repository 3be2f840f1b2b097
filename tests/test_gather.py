"""All feeds of a cycle: who is asked, when, and what is remembered of the answer."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from itertools import pairwise

import pytest

from varro.news.fetch import (
    NOTHING_KNOWN,
    Fetched,
    FetchError,
    FetchTimeout,
    HttpFetcher,
    Validators,
)
from varro.news.gather import (
    FIRST_REST,
    LONGEST_REST,
    RESTS_AFTER,
    FeedReading,
    FeedState,
    read_feeds,
)
from varro.news.opml import Feed
from varro.news.parse import ParsedFeed, parse_feed

Start = Callable[[Callable[[BaseHTTPRequestHandler], None]], str]

NOON = datetime(2025, 4, 18, 12, 0, tzinfo=UTC)
URL = "https://a.org/feed"
UNREAD = FeedState()
KNOWN = Validators('"v1"', "yesterday")


def rss(*titles: str) -> bytes:
    items = "".join(f"<item><title>{title}</title></item>" for title in titles)
    return f"<rss version='2.0'><channel><title>c</title>{items}</channel></rss>".encode()


class HereParser:
    """Parses without a child."""

    def parse(
        self, body: bytes, headers: Mapping[str, str], *, until: float = math.inf
    ) -> ParsedFeed:
        return parse_feed(body, headers)


class CannedFetcher:
    """Gives one answer after another to each url, and keeps what it was asked."""

    def __init__(self, *answers: bytes | int | FetchError, headers: Mapping[str, str] = {}) -> None:
        self.answers = list(answers)
        self.headers = headers
        self.asked: list[Validators] = []

    def fetch(
        self, url: str, known: Validators = NOTHING_KNOWN, *, until: float = math.inf
    ) -> Fetched:
        self.asked.append(known)
        answer = self.answers.pop(0)
        if isinstance(answer, FetchError):
            raise answer
        if isinstance(answer, int):
            return Fetched(url, answer, self.headers, b"")
        return Fetched(url, 200, self.headers, answer)


def read(
    fetcher: CannedFetcher, state: FeedState = UNREAD, *, as_of: datetime = NOON
) -> FeedReading:
    feed = Feed("a", URL, "")
    (reading,) = read_feeds(
        [feed], fetcher, HereParser(), {URL: state}, as_of=as_of, max_s=60, pause_s=0
    )
    return reading


def read_in_turn(fetcher: CannedFetcher, *, n: int) -> list[FeedReading]:
    """n cycles, each as soon as the feed may be asked again."""
    readings = [read(fetcher)]
    while len(readings) < n:
        state = readings[-1].state
        readings.append(read(fetcher, state, as_of=state.next_at or NOON))
    return readings


def test_a_feed_that_is_read_gives_its_entries_and_what_to_remember() -> None:
    """An entry lost on the way to the day; a body that cannot be kept for replay."""
    body = rss("one", " ", "two")
    headers = {"etag": '"v1"', "last-modified": "yesterday"}
    reading = read(CannedFetcher(body, headers=headers), FeedState(n_failures=2))
    assert [entry.title for entry in reading.entries] == ["one", "two"]
    assert (reading.status, reading.n_untitled, reading.body) == ("ok", 1, body)
    assert (reading.state.validators, reading.state.n_entries) == (KNOWN, 3)
    assert (reading.state.n_failures, reading.state.next_at) == (0, None)
    assert (reading.http_status, reading.reason) == (200, "")


def test_a_feed_that_has_not_changed_is_well_and_gives_nothing_new() -> None:
    """304 counted as a failure; validators lost by an answer that does not repeat them."""
    state = FeedState(KNOWN, body_sha256="x", n_entries=9, n_failures=2)
    fetcher = CannedFetcher(304)
    reading = read(fetcher, state)
    assert fetcher.asked == [KNOWN]
    assert (reading.status, reading.entries, reading.http_status) == ("unchanged", (), 304)
    assert reading.state == replace(state, n_failures=0)
    renewed = read(CannedFetcher(304, headers={"etag": '"v2"'}), state)
    assert renewed.state.validators == Validators('"v2"', "yesterday")


def test_a_body_that_is_the_same_is_not_news_and_its_new_validators_are_kept() -> None:
    """Servers without conditional GET: the same feed parsed each hour; an ETag of the same body
    thrown away, so that the feed is sent whole for ever."""
    first = read(CannedFetcher(rss("one")))
    again = read(CannedFetcher(rss("one"), headers={"etag": '"v9"'}), first.state)
    assert (first.status, again.status, again.entries) == ("ok", "unchanged", ())
    assert again.state == replace(first.state, validators=Validators('"v9"'))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"<html><title>502 Bad Gateway</title></html>", "not a feed"),
        (b"<html><title>Just a moment...</title></html>", "not a feed"),
        (b"", "not a feed"),
        (rss(), "holds no entry, and held 9 when it last changed"),
        (FetchError("no route"), "no route"),
    ],
)
def test_what_is_no_feed_or_suddenly_empty_has_failed(
    answer: bytes | FetchError, reason: str
) -> None:
    """An error page that counts as a day without news, and whose ETag then hides the feed."""
    state = FeedState(KNOWN, body_sha256="x", n_entries=9)
    reading = read(CannedFetcher(answer, headers={"etag": '"page"'}), state)
    assert reading.status == "failed" and reason in reading.reason
    assert (reading.entries, reading.body) == ((), b"")
    assert reading.state == replace(state, n_failures=1)


def test_a_reason_holds_nothing_that_no_ledger_can() -> None:
    """A parser whose words quote the body: half a surrogate pair or a NUL of it, and the row of the
    day cannot be written."""
    reading = read(CannedFetcher(FetchError("broke at \ud800\0\x1b[2J\u202e here")))
    assert reading.reason == "broke at [2J here"


def test_a_feed_that_never_held_anything_may_be_empty() -> None:
    """A new feed without an entry yet, marked as broken."""
    reading = read(CannedFetcher(rss()))
    assert (reading.status, reading.state.n_entries) == ("ok", 0)


def test_a_feed_that_fails_rests_longer_each_time_and_no_day_is_left_out() -> None:
    """A dead feed asked each hour for years; a feed that came back and is not asked for a week."""
    down = FetchError("down")
    readings = read_in_turn(CannedFetcher(*[down] * 12, rss("back")), n=13)
    times = [NOON, *(reading.state.next_at or NOON for reading in readings)]
    rests = [later - sooner for sooner, later in pairwise(times)]
    assert rests[: RESTS_AFTER - 1] == [timedelta(0)] * (RESTS_AFTER - 1)
    assert rests[RESTS_AFTER - 1 : RESTS_AFTER + 2] == [FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST]
    assert max(rests) == rests[11] == LONGEST_REST < timedelta(days=1)
    assert [reading.state.n_failures for reading in readings] == [*range(1, 13), 0]
    assert readings[12].status == "ok" and readings[12].state.next_at is None


def test_a_feed_that_rests_is_not_asked_and_keeps_its_state() -> None:
    """A rest that is broken, or that counts as one more failure and so never ends."""
    state = FeedState(n_failures=3, next_at=NOON + timedelta(minutes=1))
    fetcher = CannedFetcher(rss("one"))
    reading = read(fetcher, state)
    assert (reading.status, reading.state, fetcher.asked) == ("resting", state, [])
    assert "not to be asked before 12:01Z on 2025-04-18" in reading.reason
    assert read(fetcher, state, as_of=NOON + timedelta(minutes=1)).status == "ok"


def test_a_server_says_when_to_come_again() -> None:
    """Retry-After and max-age read and not kept."""
    busy = FetchError("busy", status=429, headers={"retry-after": "7200"})
    reading = read(CannedFetcher(busy))
    assert (reading.status, reading.http_status) == ("failed", 429)
    assert reading.state.next_at == NOON + timedelta(hours=2)
    fresh = {"cache-control": "max-age=600"}
    for answer in (rss("one"), 304):
        state = read(CannedFetcher(answer, headers=fresh), FeedState(KNOWN)).state
        assert state.next_at == NOON + timedelta(minutes=10)


@pytest.mark.parametrize(
    ("location", "link"),
    [
        ("", "https://a.org/x"),
        ("/news/", "https://a.org/news/x"),
        ("http://[", "https://a.org/x"),
        ("urn:x:y", "https://a.org/x"),
    ],
)
def test_a_content_location_that_is_no_address_is_passed_over(location: str, link: str) -> None:
    """A header of one server that ends the day of all feeds."""
    body = (
        b"<rss version='2.0'><channel><item><title>t</title><link>x</link></item></channel></rss>"
    )
    reading = read(CannedFetcher(body, headers={"content-location": location}))
    assert [entry.link for entry in reading.entries] == [link]


def test_a_move_for_good_is_passed_on() -> None:
    """A feed that is found at its old address until that is gone."""

    class Moved(CannedFetcher):
        def fetch(self, url: str, *rest: object, until: float = math.inf) -> Fetched:
            return Fetched("https://b.org/", 200, {}, rss("one"), moved_to="https://b.org/")

    assert read(Moved()).moved_to == "https://b.org/"


def test_one_request_a_host_at_a_time_with_pauses_and_many_hosts_side_by_side(
    loopback: Start,
) -> None:
    """Twenty requests at once to one publisher, who then turns us away."""
    lock = threading.Lock()
    open_now: dict[str, int] = {}
    spans: dict[str, list[tuple[float, float]]] = {}
    most_of_one_host = most = 0

    def answer(handler: BaseHTTPRequestHandler) -> None:
        nonlocal most_of_one_host, most
        host = handler.headers["Host"].partition(":")[0]
        start = time.monotonic()
        with lock:
            open_now[host] = open_now.get(host, 0) + 1
            most_of_one_host = max(most_of_one_host, open_now[host])
            most = max(most, sum(open_now.values()))
        time.sleep(0.05)
        with lock:
            open_now[host] -= 1
            spans.setdefault(host, []).append((start, time.monotonic()))
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(rss(handler.path))

    port = loopback(answer).rpartition(":")[2]
    feeds = [
        Feed(f"{host} {n}", f"http://{host}.test:{port}/{n}", "")
        for host in "abcdef"
        for n in range(4)
    ]
    fetcher = HttpFetcher(
        timeout_s=5, max_bytes=1000, allow_private=True, resolve=lambda host, port: ["127.0.0.1"]
    )
    given = {"as_of": NOON, "max_s": 60, "n_at_once": 4, "pause_s": 0.3}
    readings = list(read_feeds(feeds, fetcher, HereParser(), {}, **given))
    assert {reading.feed.name for reading in readings} == {feed.name for feed in feeds}
    assert all(reading.status == "ok" for reading in readings)
    assert most_of_one_host == 1
    assert 2 <= most <= 4
    pauses = [later[0] - sooner[1] for times in spans.values() for sooner, later in pairwise(times)]
    assert len(pauses) == 18
    # 0.15 to 0.45 s; that none of 18 is below 0.28 has a chance of 0.57^18, 4 in 100,000.
    assert 0.14 < min(pauses) < 0.28


class SlowFetcher(CannedFetcher):
    """Takes its time for each url, and keeps which it was asked for."""

    def __init__(self, seconds: float, error: FetchError | None = None) -> None:
        super().__init__()
        self.seconds, self.error = seconds, error
        self.urls: list[str] = []

    def fetch(self, url: str, *rest: object, until: float = math.inf) -> Fetched:
        self.urls.append(url)
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return Fetched(url, 200, {}, rss("one"))


def test_feeds_that_there_was_no_time_for_have_their_turn_and_are_not_blamed() -> None:
    """Hundreds of feeds on one host: the same ones are asked each day, the others never, and they
    are told as dead, asked less often, and found out of the day for good."""
    feeds = [Feed(f"{n}", f"https://h.org/{n}", "") for n in range(7)]
    fetcher, asked_at = SlowFetcher(0.1), dict[str, datetime]()
    n_cycles = 0
    while len(fetcher.urls) < 21:
        as_of = NOON + n_cycles * timedelta(days=1)
        n_before, n_cycles = len(fetcher.urls), n_cycles + 1
        readings = list(
            read_feeds(feeds, fetcher, HereParser(), {f.url: FeedState(n_failures=2)
                       for f in feeds}, as_of=as_of, max_s=0.25, pause_s=0, asked_at=asked_at)
        )  # fmt: skip
        reached = {r.feed.url for r in readings if r.status == "ok"}
        assert reached == set(fetcher.urls[n_before:]) and 1 <= len(reached) < 7
        asked_at |= dict.fromkeys(reached, as_of)
        for reading in readings:
            if reading.status != "ok":
                assert (reading.status, reading.state) == ("unreached", FeedState(n_failures=2))
                assert reading.reason == "not reached: out of time, 0.25 s for all feeds"
    urls = [feed.url for feed in feeds]
    assert fetcher.urls[:7] == urls
    # Among those of one cycle the first of the list come first: nobody waits for three rounds.
    assert all(set(fetcher.urls[n : n + 14]) == set(urls) for n in range(8))


def test_no_pause_is_longer_than_the_time_of_all_feeds() -> None:
    """A pause of minutes between two requests to one host, slept through with the day waiting."""
    feeds = [Feed(f"{n}", f"https://h.org/{n}", "") for n in range(3)]
    start = time.monotonic()
    readings = list(
        read_feeds(feeds, SlowFetcher(0), HereParser(), {}, as_of=NOON, max_s=0.5, pause_s=60)
    )
    assert time.monotonic() - start < 10
    assert [r.status for r in readings] == ["ok", "unreached", "unreached"]


@pytest.mark.parametrize(
    ("error", "max_s", "status"),
    [
        (FetchTimeout("not complete"), 0.05, "unreached"),
        (FetchTimeout("not complete"), 60.0, "failed"),
        (FetchError("HTTP status 404", status=404), 0.05, "failed"),
    ],
)
def test_a_feed_is_blamed_for_its_own_time_only(
    error: FetchError, max_s: float, status: str
) -> None:
    """A feed that was asked in the last second of all and is called slow; one that is excused for
    an answer that it gave."""
    (reading,) = read_feeds(
        [Feed("a", URL, "")], SlowFetcher(0.1, error), HereParser(), {}, as_of=NOON, max_s=max_s
    )
    assert (reading.status, reading.state.n_failures) == (status, int(status == "failed"))
    assert reading.reason.endswith(str(error))


def test_a_reader_that_goes_away_leaves_nothing_behind() -> None:
    """Threads that go on asking for a day that has been stopped."""
    before = threading.active_count()
    fetcher = CannedFetcher(*[rss("one")] * 100)
    feeds = [Feed(f"{n}", f"https://h{n}.org/", "") for n in range(100)]
    reading = read_feeds(
        feeds, fetcher, HereParser(), {}, as_of=NOON, max_s=60, n_at_once=2, pause_s=0
    )
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert len(fetcher.asked) < 10


def test_no_feed_is_no_reading() -> None:
    """A list that waits for the first of none."""
    assert list(read_feeds([], CannedFetcher(), HereParser(), {}, as_of=NOON, max_s=1)) == []


def test_an_error_that_is_no_feeds_fault_ends_the_reading() -> None:
    """A bug of ours that hides among thousands of failed feeds."""

    class Broken(CannedFetcher):
        def fetch(self, url: str, *rest: object, until: float = math.inf) -> Fetched:
            raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        read(Broken())
