"""Feed bodies, from real ones to bombs: entries or a FeedError, nothing else, and soon."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from varro.errors import FeedError
from varro.news.parse import MAX_ATTRIBUTES, Entry, parse_feed

Start = Callable[[Callable[[BaseHTTPRequestHandler], None]], str]

RSS = "<rss version='2.0'><channel><title>c</title>{}</channel></rss>"
MAX_BYTES = 15_000_000
MAX_S = 5.0 + 2.0
"""to parse, and to fetch"""
MAX_PARENT_MB = 50

READ_EACH = """
import json, resource, sys, time
from varro.errors import FeedError
from varro.news.fetch import HttpFetcher
from varro.news.parse_apart import ParserProcesses

def peak_mb():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)

fetcher = HttpFetcher(timeout_s=30, max_bytes=int(sys.argv[1]), allow_private=True)
with ParserProcesses(1) as parser:
    parser.parse(fetcher.fetch(sys.argv[2]).body, {})
    before_mb = peak_mb()
    for url in sys.argv[3:]:
        start = time.monotonic()
        try:
            answer = fetcher.fetch(url)
            entries = parser.parse(answer.body, answer.headers).entries
            outcome = [entry.title for entry in entries[:20]]
        except FeedError as error:
            outcome = str(error)
        print(json.dumps([url.rpartition("/")[2], outcome, time.monotonic() - start]), flush=True)
print(json.dumps(["parent", peak_mb() - before_mb, 0]))
"""


def rss(*items: str) -> bytes:
    return RSS.format("".join(f"<item>{item}</item>" for item in items)).encode()


def test_an_rss_item_becomes_an_entry() -> None:
    """Fields swapped, a date left in its zone, a title left with its markup."""
    body = rss(
        "<title>Rates &amp;lt;b&amp;gt;rise&amp;lt;/b&amp;gt; at AT&amp;amp;T</title>"
        "<link>https://a.org/1</link><guid>g1</guid>"
        "<pubDate>Fri, 18 Apr 2025 14:00:00 +0200</pubDate>"
    )
    (entry,) = parse_feed(body, {}).entries
    noon = datetime(2025, 4, 18, 12, 0, tzinfo=UTC)
    assert entry == Entry("g1", "Rates rise at AT&T", "https://a.org/1", noon)


def test_an_atom_entry_falls_back_to_its_updated_time() -> None:
    """Atom feeds without <published> show no date, or warn on every entry."""
    body = (
        b"<feed xmlns='http://www.w3.org/2005/Atom'><title>f</title><entry><id>urn:1</id>"
        b"<title type='html'>&lt;i&gt;Tea&lt;/i&gt; &amp;amp; toast</title>"
        b"<link href='https://a.org/1'/><updated>2025-04-18T12:00:00Z</updated></entry></feed>"
    )
    (entry,) = parse_feed(body, {}).entries
    noon = datetime(2025, 4, 18, 12, 0, tzinfo=UTC)
    assert entry == Entry("urn:1", "Tea & toast", "https://a.org/1", noon)


def test_entries_without_a_title_are_left_out_and_counted() -> None:
    """Untitled items become empty headlines, or vanish without a trace."""
    parsed = parse_feed(rss("<title>kept</title>", "<title> </title>", "<link>x</link>"), {})
    assert [entry.title for entry in parsed.entries] == ["kept"]
    assert parsed.n_untitled == 2


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Thu, 32 Foo 2024 25:61:61 GMT", "9999-12-31T23:59:59Z", "1969-01-01"]
)
def test_a_date_that_cannot_be_is_none(date: str) -> None:
    """One impossible date costs a whole feed."""
    (entry,) = parse_feed(rss(f"<title>t</title><pubDate>{date}</pubDate>"), {}).entries
    assert entry.published is None


def test_a_link_is_resolved_against_the_address_of_the_feed_and_must_be_on_the_web() -> None:
    """Relative links lost; a javascript: link in a report."""
    body = rss("<title>a</title><link>/1</link>", "<title>b</title><link>javascript:x()</link>")
    headers = {"Content-Location": "https://a.org/feeds/rss.xml"}
    assert [entry.link for entry in parse_feed(body, headers).entries] == ["https://a.org/1", ""]


@pytest.mark.parametrize(
    ("headers", "encoding"),
    [
        ({}, "utf-8"),
        ({"Content-Length": "9"}, "utf-8"),
        ({"Content-Type": "text/xml"}, "utf-8"),
        ({"Content-Type": "application/rss+xml; charset=iso-8859-1"}, "iso-8859-1"),
        ({"content-type": "application/xml"}, "utf-16"),
    ],
)
def test_letters_survive_the_encoding(headers: dict[str, str], encoding: str) -> None:
    """Other headers without a content-type make feedparser read UTF-8 as ISO 8859-1."""
    body = RSS.format("<item><title>Zürich&#8217;s Börse</title></item>").encode(encoding)
    assert [entry.title for entry in parse_feed(body, headers).entries] == ["Zürich\u2019s Börse"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b'{"error": "rate limited"}',
        b"<html><head><title>502 Bad Gateway</title></head></html>",
        b"/etc/hostname",
        b"https://127.0.0.1:1/feed.xml",
    ],
)
def test_what_is_not_a_feed_is_an_error(body: bytes) -> None:
    """An error page counted as a feed without news; bytes taken for a file name or an address."""
    with pytest.raises(FeedError) as caught:
        parse_feed(body, {})
    assert "\n" not in str(caught.value)


def test_what_the_parser_lets_through_is_a_feed_error_with_its_cause() -> None:
    """An encoding named NUL makes feedparser raise ValueError, which ends the day."""
    with pytest.raises(FeedError, match="feed cannot be parsed: ValueError") as caught:
        parse_feed(rss("<title>t</title>"), {"Content-Type": "text/xml; charset=\0"})
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_feed_without_items_is_a_feed() -> None:
    """A quiet day reported as a dead feed."""
    assert parse_feed(rss(), {}).entries == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_element_with_very_many_attributes_is_refused(encoding: str) -> None:
    """The parser's time grows with their square: 100,000 take ten minutes."""

    def body(n: int) -> bytes:
        attributes = " ".join(f"a{i}='>'" for i in range(n))
        feed = RSS.format(f"<item><title>t</title><x {attributes}/></item>")
        return f"<?xml version='1.0' encoding='{encoding}'?>{feed}".encode(encoding)

    assert len(parse_feed(body(MAX_ATTRIBUTES), {}).entries) == 1
    with pytest.raises(FeedError, match="more than 128 attributes"):
        parse_feed(body(MAX_ATTRIBUTES + 1), {})


def test_real_bodies_parse_and_every_item_has_its_title(
    shared_data: Callable[[str], Path],
) -> None:
    """A real feed that raises, or loses its entries."""
    path = shared_data("replay/finance-rss-xml-2025-04-18--2025-05-18.tar.xz")
    n_bodies = 0
    with tarfile.open(path) as bundle:
        for member in bundle:
            stream = bundle.extractfile(member)
            if stream is None:
                continue
            body = stream.read()
            parsed = parse_feed(body, {})
            n_bodies += 1
            n_items = body.count(b"<item>") + body.count(b"<item ")
            assert len(parsed.entries) == n_items > 0, member.name
    assert n_bodies == 154


def test_hostile_bodies_end_as_entries_or_as_an_error_and_soon(
    shared_data: Callable[[str], Path], tmp_path: Path, loopback: Start
) -> None:
    """A bomb, a deep nest or a bad date that hangs the day or raises something else.

    Served, fetched and parsed as feeds are; what the process that asks for it all needs is
    measured.
    """
    script = shared_data("feeds/make_hostile.py")
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, timeout=60)
    names = sorted(path.name for path in tmp_path.iterdir())

    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = (tmp_path / handler.path[1:]).read_bytes()
        handler.send_response(200)
        if handler.path.endswith(".gz"):
            handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    base = loopback(answer)

    def read(part: list[str]) -> list[tuple[str, list[str] | str, float]]:
        command = [sys.executable, "-W", "error", "-c", READ_EACH, str(MAX_BYTES)]
        command += [f"{base}/{name}" for name in ["chat_tokens.xml", *part]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        return [tuple(json.loads(line)) for line in done.stdout.splitlines()]

    with ThreadPoolExecutor(2) as pool:
        results = [result for part in pool.map(read, (names[::2], names[1::2])) for result in part]
    grown_mb = [mb for name, mb, _ in results if name == "parent"]
    results = [result for result in results if result[0] != "parent"]
    assert sorted(name for name, _, _ in results) == names
    assert [(name, s) for name, _, s in results if s > MAX_S] == []
    assert len(grown_mb) == 2 and max(grown_mb) < MAX_PARENT_MB
    outcomes = {name: outcome for name, outcome, _ in results}
    errors = {name for name, outcome in outcomes.items() if isinstance(outcome, str)}
    not_feeds = {"cloudflare.xml", "empty.xml", "html_error_page.xml", "json_error.xml"}
    too_large = {"bomb_200mb.gz", "bomb_double.gz.gz", "items_100k.xml"}
    assert not_feeds | {"many_attrs_100k.xml"} <= errors
    assert all("exceeds" in outcomes[n] for n in too_large - {"bomb_double.gz.gz"})
    assert too_large <= errors
    assert outcomes["xxe_file.xml"] == []
    assert outcomes["xxe_http_dtd.xml"] == ["t"]
    assert outcomes["rtl_zero_width.xml"] == ["evil zero width tag chars"]
    assert outcomes["control_chars.xml"] == ["bad chars"]
    assert outcomes["bad_dates.xml"] == [f"d{i}" for i in range(12)]
    assert outcomes["latin1_as_utf8.xml"] == ["Café “quoted”"]
    assert outcomes["utf16_nobom.xml"] == outcomes["chat_tokens.xml"]


@pytest.mark.parametrize(
    "reference",
    ["&#0;", "&#x0000;", "&#0055296;", "&#xDFFF;", "&#x110000;", "&#xFFFFFFFF;", "&#99999999999;"],
)
def test_a_reference_to_no_character_costs_that_character(reference: str) -> None:
    """feedparser raises OverflowError or UnicodeEncodeError, and the whole feed is lost."""
    body = rss(f"<title>a{reference}b &#x1F4C8; &#8217;</title>")
    assert [entry.title for entry in parse_feed(body, {}).entries] == ["a\ufffdb \U0001f4c8 ’"]
