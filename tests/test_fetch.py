"""What a feed's server may do to us: little, and not for long. Real sockets on loopback."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import NoReturn

import pytest

from varro import __version__
from varro.news.decode import decode_body
from varro.news.fetch import (
    MAX_REDIRECTS,
    MAX_VALIDATOR,
    NOTHING_KNOWN,
    FetchError,
    HttpFetcher,
    Validators,
)
from varro.news.gather import FeedState, read_feeds
from varro.news.opml import Feed

Start = Callable[[Callable[[BaseHTTPRequestHandler], None]], str]


def reply(
    handler: BaseHTTPRequestHandler, body: bytes = b"", status: int = 200, **headers: str
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class NoParser:
    """There is no body to parse."""

    def parse(self, body: bytes, headers: object, *, until: float = 0.0) -> NoReturn:
        raise AssertionError


def fetcher(*, timeout_s: float = 5.0, max_bytes: int = 1000) -> HttpFetcher:
    return HttpFetcher(
        timeout_s=timeout_s, max_bytes=max_bytes, allow_private=True, retry_wait_s=0.01
    )


def refusal(url: str, *, timeout_s: float = 5.0, max_bytes: int = 1000) -> str:
    live = fetcher(timeout_s=timeout_s, max_bytes=max_bytes)
    with pytest.raises(FetchError) as caught:
        live.fetch(url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_body_arrives_with_its_headers_and_we_say_who_asks(loopback: Start) -> None:
    """Header names in the server's case are not found later; a made-up browser as user agent."""
    asked: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers["User-Agent"])
        reply(handler, b"<rss/>", Content_Type="text/xml")

    url = loopback(answer) + "/feed"
    live = fetcher()
    fetched = live.fetch(url)
    assert (fetched.url, fetched.status, fetched.body) == (url, 200, b"<rss/>")
    assert fetched.headers["content-type"] == "text/xml"
    assert asked == [f"varro/{__version__}"]


def test_a_redirect_is_followed_to_where_the_body_is(loopback: Start) -> None:
    """Relative locations resolved against the wrong address; the final address forgotten."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/a/old":
            reply(handler, status=301, Location="../b/new")
        else:
            reply(handler, handler.path.encode())

    base = loopback(answer)
    live = fetcher()
    fetched = live.fetch(base + "/a/old")
    assert (fetched.url, fetched.body) == (base + "/b/new", b"/b/new")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_redirect_beyond_ascii_leads_to_what_its_server_means(
    loopback: Start, encoding: str
) -> None:
    """ "/straße" read as "/straÃe", which holds a control character and is no address."""
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        if handler.path == "/":
            reply(handler, status=302, Location="/straße".encode(encoding).decode("latin-1"))
        else:
            reply(handler, b"news")

    assert fetcher().fetch(loopback(answer) + "/").body == b"news"
    assert asked == ["/", "/stra%C3%9Fe"]


def test_redirects_end_after_the_fifth(loopback: Start) -> None:
    """A redirect loop that never ends, or one redirect too few."""
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        hop = int(handler.path[1:])
        if hop == 0:
            reply(handler, b"there")
        else:
            reply(handler, status=302, Location=f"/{hop - 1}")

    base = loopback(answer)
    live = fetcher()
    assert live.fetch(f"{base}/{MAX_REDIRECTS}").body == b"there"
    asked.clear()
    assert "more than 5 redirects" in refusal(f"{base}/{MAX_REDIRECTS + 1}")
    assert len(asked) == 6


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "gopher:"])
def test_a_redirect_off_the_web_is_refused(loopback: Start, target: str) -> None:
    """A feed that makes us read a local file."""
    url = loopback(lambda handler: reply(handler, status=302, Location=target))
    assert "is not an http or https address" in refusal(url)


def test_only_web_addresses_are_fetched() -> None:
    """A file:// address in a list of feeds."""
    assert "is not an http or https address" in refusal("file:///etc/hostname")


@pytest.mark.parametrize("status", [204, 304, 403, 404, 429, 500, 503])
def test_a_status_other_than_200_is_an_error_that_states_it(loopback: Start, status: int) -> None:
    """An error page parsed as if it were a feed."""
    url = loopback(lambda handler: reply(handler, status=status))
    assert f"HTTP status {status}" in refusal(url)


def test_a_body_at_the_cap_passes_and_one_byte_more_does_not(loopback: Start) -> None:
    """An off-by-one at the cap."""
    url = loopback(lambda handler: reply(handler, b"x" * int(handler.path[1:])))
    live = fetcher(max_bytes=1000)
    assert len(live.fetch(f"{url}/1000").body) == 1000
    assert "body exceeds 1,000 bytes" in refusal(f"{url}/1001", max_bytes=1000)


def test_a_body_without_end_is_cut_off(loopback: Start) -> None:
    """A stream without Content-Length read into memory until there is none."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)

    assert "body exceeds" in refusal(loopback(answer), max_bytes=1_000_000)


def test_gzip_is_decoded_and_counted_decoded(loopback: Start) -> None:
    """A bomb: 30 kB on the wire, 30 MB in memory."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = {
            "/small": gzip.compress(b"small"),
            "/members": gzip.compress(b"two ") + gzip.compress(b"members"),
            "/zlib": zlib.compress(b"small"),
            "/bomb": gzip.compress(b"\0" * 30_000_000),
        }[handler.path]
        reply(handler, body, Content_Encoding="deflate" if handler.path == "/zlib" else "gzip")

    base = loopback(answer)
    live = fetcher()
    assert live.fetch(base + "/small").body == b"small"
    assert live.fetch(base + "/members").body == b"two members"
    assert live.fetch(base + "/zlib").body == b"small"
    assert "body exceeds 1,000,000 bytes" in refusal(base + "/bomb", max_bytes=1_000_000)


@pytest.mark.parametrize("behind", [b"\n", b"\r\n", b"\0" * 512, b"\x1f", b"<!-- 0.1 s -->"])
@pytest.mark.parametrize("piece", [1, 2, 1000])
def test_what_a_server_adds_behind_a_whole_gzip_body_is_passed_over(
    behind: bytes, piece: int
) -> None:
    """A line end behind the body, which browsers and gzip itself pass over, and the feed is dead;
    a second member that is lost where the first one ends with a packet."""
    packed = gzip.compress(b"two ") + gzip.compress(b"members")
    for sent in (packed, packed + behind):
        pieces = [sent[n : n + piece] for n in range(0, len(sent), piece)]
        assert decode_body(pieces, "gzip", max_bytes=1000) == b"two members"
    with pytest.raises(ValueError, match="body exceeds 50 bytes"):
        decode_body([packed, b"\0" * 100], "gzip", max_bytes=50)


def test_a_damaged_or_doubly_packed_body_is_an_error(loopback: Start) -> None:
    """Half a feed parsed as the whole; each layer of gzip multiplies a bomb by a thousand."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        packed = gzip.compress(b"news" * 100)
        if handler.path == "/cut":
            reply(handler, packed[:-10], Content_Encoding="gzip")
        elif handler.path == "/damaged":
            reply(handler, b"not gzip", Content_Encoding="gzip")
        else:
            reply(handler, gzip.compress(packed), Content_Encoding="gzip, gzip")

    base = loopback(answer)
    assert "gzip body ends early" in refusal(base + "/cut")
    assert "body is damaged" in refusal(base + "/damaged")
    assert "content-encoding 'gzip, gzip' was not asked for" in refusal(base + "/double")


def test_a_slow_drip_ends_at_the_deadline(loopback: Start) -> None:
    """A timeout for each read only: a byte every 50 ms would hold the day for 50 s."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b"x")
            time.sleep(0.05)

    start = time.monotonic()
    assert "not complete after 0.5 s" in refusal(loopback(answer), timeout_s=0.5)
    assert 0.5 <= time.monotonic() - start < 2


def test_a_drip_that_decodes_to_nothing_ends_at_the_deadline(loopback: Start) -> None:
    """The clock looked at only where decoded bytes come out: empty gzip members give none."""
    member = gzip.compress(b"")

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(member)
            time.sleep(0.05)

    start = time.monotonic()
    assert "not complete after 0.5 s" in refusal(loopback(answer), timeout_s=0.5)
    assert time.monotonic() - start < 2


def test_a_server_that_never_answers_ends_at_the_deadline(loopback: Start) -> None:
    """No read timeout at all."""
    url = loopback(lambda handler: time.sleep(1.5))
    start = time.monotonic()
    assert "not complete after 0.3 s" in refusal(url, timeout_s=0.3)
    assert time.monotonic() - start < 1.2


def test_redirects_share_one_deadline(loopback: Start) -> None:
    """Each hop starting the clock anew: five slow hops take five timeouts."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.25)
        reply(handler, status=302, Location="/again")

    start = time.monotonic()
    assert "not complete after 0.6 s" in refusal(loopback(answer), timeout_s=0.6)
    assert time.monotonic() - start < 1.2


def test_no_connection_and_broken_answers_are_errors_with_their_cause(loopback: Start) -> None:
    """An httpx2 error reaching the day, which takes it for a bug and not for a dead feed."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/short":
            handler.send_response(200)
            handler.send_header("Content-Length", "100")
            handler.end_headers()
            handler.wfile.write(b"short")
        elif handler.path == "/noise":
            handler.wfile.write(b"\0\1\2 not http\r\n\r\n")

    base = loopback(answer)
    addresses = ["/short", "/noise", "/nothing"]
    urls = [base + path for path in addresses] + ["http://127.0.0.1:1/", "http://a..b/"]
    live = fetcher()
    for url in urls:
        with pytest.raises(FetchError) as caught:
            live.fetch(url)
        assert str(caught.value).startswith(url)
        assert caught.value.__cause__ is not None


def test_a_server_is_asked_only_for_what_has_changed(loopback: Start) -> None:
    """Every feed whole every time: the reason why servers turn readers away."""
    asked: list[tuple[str | None, str | None]] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        known = handler.headers["If-None-Match"], handler.headers["If-Modified-Since"]
        asked.append(known)
        if known == ('W/"v1"', "yesterday"):
            reply(handler, status=304)
        else:
            reply(handler, b"news", ETag='W/"v1"', Last_Modified="yesterday")

    url = loopback(answer)
    first = fetcher().fetch(url)
    assert first.validators() == Validators('W/"v1"', "yesterday")
    again = fetcher().fetch(url, first.validators())
    assert (again.status, again.body) == (304, b"")
    assert asked == [(None, None), ('W/"v1"', "yesterday")]


def test_a_validator_goes_back_as_the_bytes_it_came_as(loopback: Start) -> None:
    """An ETag beyond ASCII, which HTTP allows: no request can be made with it, on any later day."""
    asked: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers["If-None-Match"])
        reply(handler, b"news", ETag='"caf\xe9\x80"')

    url = loopback(answer)
    fetcher().fetch(url, fetcher().fetch(url).validators())
    assert asked == [None, '"caf\xe9\x80"']


def test_a_validator_that_is_too_long_is_not_kept(loopback: Start) -> None:
    """Half an ETag is another ETag; a megabyte of one is kept and sent for ever."""
    url = loopback(lambda handler: reply(handler, b"", ETag="x" * (MAX_VALIDATOR + 1)))
    assert fetcher().fetch(url).validators() == NOTHING_KNOWN


def test_what_may_pass_is_tried_again_and_the_rest_is_not(loopback: Start) -> None:
    """A day without a feed for one lost packet; three requests for a page that is not there."""
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        kind = handler.path[1:]
        if asked.count(handler.path) == 3:
            reply(handler, b"news")
        elif kind == "cut":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Le")
        elif kind == "busy":
            reply(handler, status=503, Retry_After="60")
        else:
            reply(handler, status=int(kind))

    base = loopback(answer)
    for path in ("/cut", "/500", "/502", "/503", "/504", "/408"):
        assert fetcher().fetch(base + path).body == b"news"
        assert asked.count(path) == 3
    for path in ("/404", "/403", "/410", "/429", "/busy"):
        refusal(base + path)
        assert asked.count(path) == 1


def test_no_reason_tells_the_query_of_an_address(loopback: Start) -> None:
    """A feed's key in reports, alerts and logs: by each of the ways in which a fetch may fail."""
    kinds = ("404", "circles", "mail", "hangs", "raw", "damaged", "login")

    def answer(handler: BaseHTTPRequestHandler) -> None:
        kind = handler.path[1:].partition("?")[0]
        match kind:
            case "404":
                reply(handler, status=404)
            case "circles":
                reply(handler, status=302, Location=handler.path)
            case "mail":
                reply(handler, status=302, Location="mailto:x?key=SECRET")
            case "login":
                reply(handler, status=302, Location="http://u:SECRET@127.0.0.1:1/?next=SECRET")
            case "hangs":
                handler.connection.recv(1)
            case "raw":
                handler.wfile.write(b"no http " + handler.path.encode() + b"\r\n\r\n")
            case _:
                reply(handler, b"no gzip", Content_Encoding="gzip")

    base = loopback(answer)
    for kind in kinds:
        limit = 0.3 if kind == "hangs" else 5.0
        state, feed = FeedState(), Feed(kind, f"{base}/{kind}?key=SECRET", "")
        (reading,) = read_feeds(
            [feed], fetcher(timeout_s=limit), NoParser(), {feed.url: state},
            as_of=datetime.now(UTC), max_s=60, pause_s=0,
        )  # fmt: skip
        assert reading.status == "failed"
        assert "SECRET" not in reading.reason, kind
        assert f"/{kind}?…" in reading.reason or kind in ("mail", "login")
    assert "SECRET" not in refusal("http://localhost:1/rss?key=SECRET", timeout_s=0.3)
    assert "SECRET" not in refusal("ftp://u:SECRET@a.org/?key=SECRET")
    assert "SECRET" not in refusal("http://[::1/?key=SECRET")


def test_tries_end_before_the_deadline_and_the_last_reason_is_told(loopback: Start) -> None:
    """A wait for another try that the time does not allow."""
    url = loopback(lambda handler: reply(handler, status=500))
    live = HttpFetcher(timeout_s=2.4, max_bytes=10, allow_private=True, retry_wait_s=0.75)
    start = time.monotonic()
    with pytest.raises(FetchError, match="HTTP status 500"):
        live.fetch(url)
    assert time.monotonic() - start < 2.4


def test_until_ends_a_fetch_before_its_own_time(loopback: Start) -> None:
    """The time of all feeds overrun by the time of one."""
    url = loopback(lambda handler: time.sleep(1))
    live = fetcher(timeout_s=5)
    start = time.monotonic()
    with pytest.raises(FetchError, match=r"not complete after 0\.\d+ s"):
        live.fetch(url, until=start + 0.3)
    assert time.monotonic() - start < 0.9
    with pytest.raises(FetchError, match="not complete after 0 s"):
        live.fetch(url, until=start)


def test_an_error_says_when_to_come_again(loopback: Start) -> None:
    """Retry-After thrown away with the answer."""
    url = loopback(lambda handler: reply(handler, status=429, Retry_After="90"))
    with pytest.raises(FetchError) as caught:
        fetcher().fetch(url)
    assert caught.value.status == 429
    assert caught.value.retry_after_s(datetime(2025, 4, 18, tzinfo=UTC)) == 90


@pytest.mark.parametrize(
    ("hops", "moved"),
    [((301,), True), ((308, 301), True), ((302,), False), ((301, 307), False), ((302, 301), False)],
)
def test_a_move_for_good_is_told_only_if_every_hop_was(
    loopback: Start, hops: tuple[int, ...], moved: bool
) -> None:
    """A feed's address replaced by that of a maintenance page."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        place = int(handler.path[1:])
        if place == len(hops):
            reply(handler, b"news")
        else:
            reply(handler, status=hops[place], Location=f"/{place + 1}")

    base = loopback(answer)
    assert fetcher().fetch(f"{base}/0").moved_to == (f"{base}/{len(hops)}" if moved else None)
    assert fetcher().fetch(f"{base}/{len(hops)}").moved_to is None


def test_no_cookie_and_no_proxy_is_used(loopback: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy, which connects to what we could not judge; a cookie that tells readers apart."""
    cookies: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        cookies.append(handler.headers["Cookie"])
        if handler.path == "/0":
            reply(handler, status=302, Location="/1", Set_Cookie="id=7")
        else:
            reply(handler, b"news", Set_Cookie="id=7")

    url = loopback(answer)
    monkeypatch.delenv("NO_PROXY")
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    live = fetcher()
    assert live.fetch(url + "/0").body == live.fetch(url + "/1").body == b"news"
    assert cookies == [None, None, None]


def test_what_is_sent_is_bounded_like_what_it_decodes_to(loopback: Start) -> None:
    """A stream of empty gzip members: it decodes to nothing, for as long as one listens."""
    member = gzip.compress(b"")

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        while True:
            handler.wfile.write(member if handler.path == "/slow" else member * 1000)

    base = loopback(answer)
    assert "more than 1000 gzip members" in refusal(base, max_bytes=10_000_000)
    assert "body exceeds 10,000 bytes" in refusal(base + "/slow", max_bytes=10_000)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "compress", "x" * 5000])
def test_an_encoding_that_was_not_asked_for_is_refused(loopback: Start, encoding: str) -> None:
    """Brotli and zstd make gigabytes of kilobytes, and their decoders have no bound."""
    url = loopback(lambda handler: reply(handler, b"x", Content_Encoding=encoding))
    assert "was not asked for" in refusal(url)
