"""What leaves the news room: nothing from the future, nothing twice, every failure counted."""

from __future__ import annotations

import math
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from varro.domain import Headline, headline_id, stable_hash
from varro.news.archive import Archive, load_archive
from varro.news.fetch import NOTHING_KNOWN, Fetched, FetchError, Validators
from varro.news.gather import FeedState
from varro.news.ingest import (
    ArrivedNews,
    feed_reads,
    ingest_archive,
    ingest_feeds,
    select_headlines,
    state_of,
    why_dead,
    why_degraded,
)
from varro.news.opml import Feed
from varro.news.parse import ParsedFeed, parse_feed

NOON = datetime(2025, 4, 18, 12, 0, tzinfo=UTC)


class CannedFetcher:
    """Answers from a table of url → body; what is not in it is a dead server. A body is its own
    ETag, so that one that has not changed is a 304."""

    def __init__(self, bodies: Mapping[str, bytes]) -> None:
        self.bodies = bodies
        self.asked: list[str] = []
        self.gives_etags = True

    def fetch(
        self, url: str, known: Validators = NOTHING_KNOWN, *, until: float = math.inf
    ) -> Fetched:
        self.asked.append(url)
        if url not in self.bodies:
            raise FetchError(f"{url}: no route")
        etag = stable_hash(self.bodies[url])
        headers = {"content-type": "application/xml"}
        if self.gives_etags:
            headers["etag"] = etag
        if known.etag == etag:
            return Fetched(url, 304, headers, b"")
        return Fetched(url, 200, headers, self.bodies[url])


class InProcess:
    """The parser without a process around it."""

    def parse(
        self, body: bytes, headers: Mapping[str, str], *, until: float = math.inf
    ) -> ParsedFeed:
        return parse_feed(body, headers)


def ingest(
    feeds: tuple[Feed, ...],
    fetcher: CannedFetcher,
    states: Mapping[str, FeedState] | None = None,
    *,
    as_of: datetime = NOON,
) -> ArrivedNews:
    return ingest_feeds(feeds, fetcher, InProcess(), states or {}, as_of=as_of, max_s=60, pause_s=0)


def headline(title: str, *, first_seen: datetime = NOON, link: str | None = None) -> Headline:
    where = f"https://a.org/{title.replace(' ', '-')}" if link is None else link
    return Headline(
        id=headline_id("c", "f", where or title, title),
        corpus="c",
        feed="f",
        source="a.org",
        guid="",
        title=title,
        link=where,
        published=None,
        first_seen=first_seen,
    )


def archive_of(*headlines: Headline) -> Archive:
    ordered = tuple(sorted(headlines, key=lambda h: (h.first_seen, h.id)))
    return Archive("c", Path("c.jsonl"), ordered, len(ordered), (), 0)


def rss(*titles: str, links: bool = True) -> bytes:
    items = "".join(
        f"<item><title>{t}</title>" + f"<link>http://www.b.org/{t}</link>" * links + "</item>"
        for t in titles
    )
    return f"<rss version='2.0'><channel><title>c</title>{items}</channel></rss>".encode()


def feed(name: str) -> Feed:
    return Feed(name, f"https://{name}.org/rss", "")


def test_a_headline_one_second_after_the_clock_never_leaves() -> None:
    """Tomorrow's news in today's prompt: every reward from then on is worthless."""
    second = timedelta(seconds=1)
    archive = archive_of(
        headline("yesterday", first_seen=NOON - timedelta(days=1)),
        headline("now"),
        headline("later", first_seen=NOON + second),
    )
    assert [h.title for h in ingest_archive(archive, after=None, as_of=NOON).headlines] == [
        "yesterday",
        "now",
    ]
    arrived = ingest_archive(archive, after=NOON - timedelta(days=1), as_of=NOON)
    assert [h.title for h in arrived.headlines] == ["now"]
    assert ingest_archive(archive, after=NOON, as_of=NOON).headlines == ()
    next_day = ingest_archive(archive, after=NOON, as_of=NOON + second)
    assert [h.title for h in next_day.headlines] == ["later"]


def test_a_publisher_date_in_the_past_lets_nothing_out_early() -> None:
    """The as-of rule read off `published`, which the publisher may set to anything."""
    early = replace(
        headline("later", first_seen=NOON + timedelta(seconds=1)),
        published=NOON - timedelta(days=9),
    )
    assert ingest_archive(archive_of(early), after=None, as_of=NOON).headlines == ()


def test_the_days_of_a_real_archive_hold_each_headline_once(
    shared_data: Callable[[str], Path],
) -> None:
    """Days that overlap or leave a gap at midnight."""
    archive = load_archive(shared_data("replay/finance-2025-04-18--2025-06-30.jsonl.gz"))
    after: datetime | None = None
    arrived: list[Headline] = []
    for day in archive.days():
        as_of = datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=UTC)
        today = ingest_archive(archive, after=after, as_of=as_of).headlines
        assert all(h.first_seen <= as_of for h in today)
        arrived += today
        after = as_of
    assert tuple(arrived) == archive.headlines


def test_live_headlines_are_first_seen_when_they_were_asked_for() -> None:
    """Live news dated by its publisher, or its source lost where an item has no link."""
    bodies = {"https://a.org/rss": rss("one"), "https://b.org/rss": rss("two", links=False)}
    arrived = ingest((feed("a"), feed("b")), CannedFetcher(bodies))
    by_title = {h.title: h for h in arrived.headlines}
    one, two = by_title["one"], by_title["two"]
    assert {h.first_seen for h in arrived.headlines} == {NOON}
    assert {h.corpus for h in arrived.headlines} == {"live"}
    assert (one.feed, one.source, one.link) == ("a", "www.b.org", "http://www.b.org/one")
    assert (two.feed, two.source, two.link) == ("b", "b.org", "")
    assert one.id == headline_id("live", "a", "http://www.b.org/one", "one")
    assert two.id == headline_id("live", "b", "two", "two")


def test_a_dead_feed_is_counted_with_its_reason_and_the_rest_arrive() -> None:
    """One dead server costs the day its news, or goes unnoticed for months."""
    bodies = {"https://a.org/rss": rss("one"), "https://c.org/rss": b"<html>502</html>"}
    feeds = (feed("a"), feed("b"), feed("c"))
    arrived = ingest(feeds, CannedFetcher(bodies), as_of=NOON)
    assert [h.title for h in arrived.headlines] == ["one"]
    assert arrived.n_feeds == 3
    assert [failure.feed for failure in arrived.failures] == ["b", "c"]
    assert "no route" in arrived.failures[0].reason
    assert "not a feed" in arrived.failures[1].reason


def test_items_without_a_title_and_repeated_items_are_counted() -> None:
    """What was left out of a day vanishes without a number."""
    bodies = {"https://a.org/rss": rss("one", " ", "two", "one", "one")}
    arrived = ingest((feed("a"),), CannedFetcher(bodies), as_of=NOON)
    assert sorted(h.title for h in arrived.headlines) == ["one", "two"]
    assert (arrived.n_malformed, arrived.n_duplicates) == (1, 2)


def test_no_feed_alive_is_an_error_with_the_first_reasons() -> None:
    """A machine without network records an empty day as a quiet one."""
    feeds = tuple(feed(name) for name in "abcde")
    message = why_dead(ingest(feeds, CannedFetcher({})))
    assert message is not None
    assert message.startswith("all 5 feeds failed; a: https://a.org/rss: no route; b: ")
    assert "c: " in message
    assert "d: " not in message
    assert "lists no feed" in (why_dead(ingest((), CannedFetcher({}))) or "")
    bodies = {"https://a.org/rss": rss("one")}
    assert why_dead(ingest(feeds, CannedFetcher(bodies))) is None


def states_after(arrived: ArrivedNews, *, as_of: datetime = NOON) -> dict[str, FeedState]:
    """What the next day knows, through the rows that the ledger keeps."""
    rows = feed_reads(
        arrived.readings, arrived.headlines, run="main", day=f"{as_of:%Y-%m-%d}", as_of=as_of
    )
    return {row.url: state_of(row) for row in rows}


def test_a_feed_that_has_not_changed_is_alive_and_adds_nothing() -> None:
    """A quiet feed counted among the dead; or its whole body read again each day."""
    bodies = {"https://a.org/rss": rss("one"), "https://b.org/rss": rss("two")}
    feeds, fetcher = (feed("a"), feed("b")), CannedFetcher(bodies)
    today = ingest(feeds, fetcher)
    bodies["https://b.org/rss"] = rss("two", "three")
    tomorrow = ingest(feeds, fetcher, states_after(today), as_of=NOON + timedelta(days=1))
    assert [h.title for h in tomorrow.headlines] == ["two", "three"]
    assert [r.status for r in tomorrow.readings] == ["unchanged", "ok"]
    assert (tomorrow.n_feeds, tomorrow.n_alive, tomorrow.failures) == (2, 2, ())
    # Asked again without what was kept, it gives all it has: nothing hangs on the first answer.
    assert len(ingest(feeds, fetcher).headlines) == 3


def test_a_body_that_comes_again_is_known_without_an_etag() -> None:
    """Most servers' feeds parsed and matched anew each day, and a dead one that repeats itself
    taken for one with news."""
    fetcher = CannedFetcher({"https://a.org/rss": rss("one")})
    fetcher.gives_etags = False
    today = ingest((feed("a"),), fetcher)
    again = ingest((feed("a"),), fetcher, states_after(today), as_of=NOON + timedelta(days=1))
    assert ([r.status for r in again.readings], again.headlines) == (["unchanged"], ())


def test_a_feed_that_fails_keeps_what_was_known_of_its_last_good_body() -> None:
    """One error page, and a feed that had items yesterday may be empty from then on."""
    bodies = {"https://a.org/rss": rss("one"), "https://b.org/rss": rss("two")}
    feeds, fetcher = (feed("a"), feed("b")), CannedFetcher(bodies)
    first = states_after(ingest(feeds, fetcher))
    for bad in (b"", b"<html>Just a moment...</html>", rss()):
        bodies["https://a.org/rss"] = bad
        failed = ingest(feeds, fetcher, first)
        assert [(f.feed, bool(f.reason)) for f in failed.failures] == [("a", True)]
        (kept, _) = states_after(failed).values()
        before = first["https://a.org/rss"]
        assert (kept.validators, kept.body_sha256, kept.n_entries) == (
            before.validators,
            before.body_sha256,
            1,
        )
        assert kept.n_failures == 1


def test_a_feed_that_rests_is_alive_only_if_it_was_well() -> None:
    """A server that asks to be left alone for some hours read as dead; or a dead one that is
    no longer asked read as alive."""
    later = NOON + timedelta(hours=2)
    states = {
        "https://a.org/rss": FeedState(next_at=later),
        "https://b.org/rss": FeedState(next_at=later, n_failures=4),
    }
    fetcher = CannedFetcher({"https://c.org/rss": rss("one")})
    arrived = ingest((feed("a"), feed("b"), feed("c")), fetcher, states)
    assert fetcher.asked == ["https://c.org/rss"]
    assert arrived.n_alive == 2
    assert [f.feed for f in arrived.failures] == ["b"]


def test_a_body_is_handed_on_as_it_comes_and_not_held() -> None:
    """The bodies of ten thousand feeds, 15 MB each, held until the last one is read."""
    bodies = {"https://a.org/rss": rss("one"), "https://b.org/rss": b"no feed"}
    kept: list[tuple[str, bytes]] = []
    arrived = ingest_feeds(
        (feed("a"), feed("b"), feed("c")),
        CannedFetcher(bodies),
        InProcess(),
        {},
        as_of=NOON,
        max_s=60,
        pause_s=0,
        keep_body=lambda reading: kept.append((reading.feed.name, reading.body)),
    )
    assert kept == [("a", bodies["https://a.org/rss"])]
    assert {r.body for r in arrived.readings} == {b""}


def test_items_that_were_not_read_are_counted() -> None:
    """A body of a million items, of which some thousands are read and no one is told."""

    class First(InProcess):
        def parse(
            self, body: bytes, headers: Mapping[str, str], *, until: float = math.inf
        ) -> ParsedFeed:
            whole = super().parse(body, headers)
            return replace(whole, entries=whole.entries[:1], n_left_out=len(whole.entries) - 1)

    bodies = {"https://a.org/rss": rss("one", "two", "three")}
    arrived = ingest_feeds(
        (feed("a"),), CannedFetcher(bodies), First(), {}, as_of=NOON, max_s=60, pause_s=0
    )
    assert [h.title for h in arrived.headlines] == ["one"]
    assert arrived.n_behind == 2


def test_a_row_says_what_a_feed_brought_that_was_new() -> None:
    """Health counted in items shown, where a feed shows the same thirty for a month."""
    bodies = {"https://a.org/rss": rss("one", "two", " "), "https://b.org/rss": rss("three")}
    arrived = ingest((feed("a"), feed("b")), CannedFetcher(bodies))
    rows = feed_reads(
        arrived.readings, arrived.headlines[1:], run="main", day="2025-04-18", as_of=NOON
    )
    assert [(r.feed, r.n_entries, r.n_untitled, r.n_new) for r in rows] == [
        ("a", 3, 1, 1),
        ("b", 1, 0, 1),
    ]
    assert {(r.run, r.day, r.as_of, r.http_status) for r in rows} == {
        ("main", "2025-04-18", NOON, 200)
    }


def test_a_day_is_degraded_below_either_of_its_floors() -> None:
    """Trained on what two of forty feeds had to say."""
    bodies = {"https://a.org/rss": rss(*"abcdefghijkl")}
    thin = ingest((feed("a"), feed("b"), feed("c")), CannedFetcher(bodies))
    assert why_degraded(thin, 12, min_feeds=1, min_headlines=12) is None
    assert why_degraded(thin, 12, min_feeds=2, min_headlines=13) == (
        "1 of 3 feeds are alive, 2 are needed; 12 new headlines, 13 are needed"
    )
    replayed = ingest_archive(archive_of(headline("one")), after=None, as_of=NOON)
    assert why_degraded(replayed, 1, min_feeds=30, min_headlines=1) is None
    assert why_degraded(replayed, 1, min_feeds=30, min_headlines=2) is not None


def test_publisher_dates_are_kept_within_a_week_and_an_hour_of_the_fetch() -> None:
    """A date of 1999 or 2099 that throws a mean or a chart; one that was right moved."""
    dates = {
        "old": ("Fri, 01 Jan 1999 00:00:00 GMT", NOON - timedelta(days=7)),
        "future": ("Fri, 01 Jan 2038 00:00:00 GMT", NOON + timedelta(hours=1)),
        "right": ("Fri, 18 Apr 2025 09:30:00 GMT", NOON - timedelta(hours=2.5)),
    }
    items = "".join(
        f"<item><title>{t}</title><pubDate>{text}</pubDate></item>"
        for t, (text, _) in dates.items()
    )
    body = f"<rss version='2.0'><channel>{items}<item><title>none</title></item></channel></rss>"
    arrived = ingest((feed("a"),), CannedFetcher({"https://a.org/rss": body.encode()}))
    assert {h.title: h.published for h in arrived.headlines} == {
        **{t: kept for t, (_, kept) in dates.items()},
        "none": None,
    }
    assert {h.first_seen for h in arrived.headlines} == {NOON}


def test_a_link_that_says_where_the_reader_came_from_is_the_same_link() -> None:
    """An item without a guid that is new whenever its campaign is renamed."""

    def item(query: str) -> bytes:
        link = f"https://News.B.org/story?id=7{query}"
        return (
            f"<rss version='2.0'><channel><item><title>t</title><link>{link}</link></item>"
            "</channel></rss>"
        ).encode()

    ids = set()
    for query in ("", "&amp;utm_source=rss", "&amp;at_medium=RSS&amp;at_campaign=x#0"):
        arrived = ingest((feed("a"),), CannedFetcher({"https://a.org/rss": item(query)}))
        ids |= {h.id for h in arrived.headlines}
        assert {h.link for h in arrived.headlines} == {"https://news.b.org/story?id=7"}
    assert len(ids) == 1


@pytest.mark.parametrize(
    "body",
    [
        "<rss version='2.0'><channel><item><title>t</title><link>/story/7</link><guid>{}</guid>"
        "</item></channel></rss>",
        "<rss version='2.0'><channel><item><title>t</title><guid>{}</guid></item></channel></rss>",
        "<feed xmlns='http://www.w3.org/2005/Atom'><entry><title>t</title><id>{}</id>"
        "<link href='story/7'/></entry></feed>",
    ],
    ids=["rss", "rss without a link", "atom"],
)
@pytest.mark.parametrize(
    "guid", ["7", "story-7", "/story/7", "?p=7", "tag:a.org,2026:7", "https://a.org/?p=7"]
)
def test_a_feed_that_moves_brings_the_same_headlines(body: str, guid: str) -> None:
    """A guid that is no address, resolved against the address of the feed: all of it is new, and
    forecast once more, on the day that the feed moves. Its relative links do move with it."""
    content = body.format(guid).encode()
    found = []
    for url in ("https://a.org/rss", "https://feeds.b.org/a/v2.xml"):
        (moved,) = ingest((Feed("a", url, ""),), CannedFetcher({url: content})).headlines
        assert moved.guid == guid
        found.append(moved)
    assert found[0].id == found[1].id
    if "story/7'" in body:
        links = [h.link for h in found]
        assert links == ["https://a.org/story/7", "https://feeds.b.org/a/story/7"]


@pytest.mark.parametrize(
    "written",
    ["story/7", "/story/7", "/story/7?utm_source=rss#top", "//a.org/story/7", "?p=7", "../7"],
)
def test_an_item_that_has_only_a_relative_link_is_the_same_where_its_feed_moves(
    written: str,
) -> None:
    """The same, for items without a guid: their link is made whole from where the feed lies."""

    def moved(*written: str, title: str = "t") -> list[Headline]:
        items = "".join(f"<item><title>{title}</title><link>{w}</link></item>" for w in written)
        content = f"<rss version='2.0'><channel>{items}</channel></rss>".encode()
        urls = ("https://a.org/rss", "http://feeds.b.org/a/v2.xml")
        return [
            h
            for url in urls
            for h in ingest((Feed("a", url, ""),), CannedFetcher({url: content})).headlines
        ]

    old, new = moved(written)
    assert old.id == new.id
    assert old.link.startswith("https://a.org/")
    assert len({h.id for h in moved(written, f"{written}&amp;q=8".replace("#top", ""))}) == 2
    # One whose link can be read nowhere is known by its title, and a whole one as ever.
    for link, identity in (("mailto:x", "t"), ("https://c.org/7", "https://c.org/7")):
        assert {h.id for h in moved(link)} == {headline_id("live", "a", identity, "t")}


def test_a_retitled_item_is_another_headline_and_items_that_share_a_guid_are_all_kept() -> None:
    """Versions of a story that write over each other, and a hundred items read as one."""
    items = "".join(
        f"<item><title>{t}</title><guid isPermaLink='false'>g</guid></item>"
        for t in ("a", "b", "c")
    )
    body = f"<rss version='2.0'><channel>{items}</channel></rss>".encode()
    arrived = ingest((feed("a"),), CannedFetcher({"https://a.org/rss": body}))
    assert [(h.guid, h.title) for h in arrived.headlines] == [("g", "a"), ("g", "b"), ("g", "c")]
    assert len({h.id for h in arrived.headlines}) == 3


def test_a_feed_read_twice_gives_the_same_identities(shared_data: Callable[[str], Path]) -> None:
    """Yesterday's headlines arrive as new ones because something in the id depends on the day."""
    path = shared_data("replay/finance-rss-xml-2025-04-18--2025-05-18.tar.xz")
    with tarfile.open(path) as bundle:
        stream = next(s for m in bundle if (s := bundle.extractfile(m)) is not None)
        fetcher = CannedFetcher({"https://a.org/rss": stream.read()})

    def ids(arrived: ArrivedNews) -> set[str]:
        return {h.id for h in arrived.headlines}

    today = ingest((feed("a"),), fetcher, as_of=NOON)
    tomorrow = ingest((feed("a"),), fetcher, as_of=NOON + timedelta(days=1))
    assert ids(today) == ids(tomorrow)
    assert len(ids(today)) > 0


def test_repeated_titles_are_forecast_once_from_the_earliest() -> None:
    """The same story from two feeds fills the batch; the later one is kept."""
    hour = timedelta(hours=1)
    late = headline("U.S. rates rise!", link="https://a.org/2", first_seen=NOON + hour)
    early = headline("US Rates: Rise", link="https://a.org/1")
    up, down = headline("Oil +5"), headline("Oil $5")
    chosen = select_headlines(
        [late, early, up, down], n_train=9, n_heldout=9, heldout_frac=0.5, seed_parts=(0,)
    )
    assert set(chosen.train + chosen.heldout) == {early, up, down}


def test_a_story_told_twice_is_forecast_once_and_another_story_is_not_lost() -> None:
    """The same news under a wire prefix fills two places; or one bank's news hides the other's."""
    hour = timedelta(hours=1)
    first = headline("Fed holds rates, signals two cuts")
    again = headline("UPDATE 1-Fed holds rates; signals two cuts - Reuters", first_seen=NOON + hour)
    other = headline("ECB holds rates, signals two cuts")
    chosen = select_headlines(
        [again, other, first], n_train=9, n_heldout=9, heldout_frac=0.5, seed_parts=(0,)
    )
    assert set(chosen.train + chosen.heldout) == {first, other}


def test_a_headline_is_held_out_whatever_the_run_the_day_or_the_company_it_keeps() -> None:
    """A control headline of one run that another run trains on."""
    pool = [headline(f"title {i}") for i in range(400)]

    def heldout(headlines: list[Headline], *seed_parts: object) -> set[Headline]:
        chosen = select_headlines(
            headlines, n_train=400, n_heldout=400, heldout_frac=0.2, seed_parts=seed_parts
        )
        assert not set(chosen.train) & set(chosen.heldout)
        assert set(chosen.train) | set(chosen.heldout) == set(headlines)
        return set(chosen.heldout)

    everything = heldout(pool, "run", 0, "2025-04-18")
    assert everything == heldout(pool, "other", 7, "2025-05-01")
    assert heldout(pool[:100], "run") == everything & set(pool[:100])
    # Binomial(400, 0.2): mean 80, standard deviation 8; four of them either side.
    assert 48 <= len(everything) <= 112
    retitled = [replace(h, title=h.title + " again", id=h.id[::-1]) for h in pool]
    assert {h.link for h in heldout(retitled, "run")} == {h.link for h in everything}


def test_the_held_out_share_is_all_or_nothing_at_its_ends() -> None:
    """The share turned round: 0.2 held out read as 0.2 trained."""
    pool = [headline(f"title {i}") for i in range(50)]
    none = select_headlines(pool, n_train=99, n_heldout=99, heldout_frac=0.0, seed_parts=())
    every = select_headlines(pool, n_train=99, n_heldout=99, heldout_frac=1.0, seed_parts=())
    assert (len(none.train), len(none.heldout)) == (50, 0)
    assert (len(every.train), len(every.heldout)) == (0, 50)


def test_each_side_is_cut_in_a_seeded_order_that_the_input_order_cannot_move() -> None:
    """The first n of a feed chosen every day, or a re-run that chooses others."""
    pool = [headline(f"title {i}") for i in range(200)]

    def chosen(headlines: list[Headline], seed: int, n: int = 10) -> tuple[str, ...]:
        parts = ("run", seed)
        picked = select_headlines(
            headlines, n_train=n, n_heldout=3, heldout_frac=0.2, seed_parts=parts
        )
        assert (len(picked.train), len(picked.heldout)) == (n, 3)
        return tuple(h.id for h in picked.train + picked.heldout)

    assert chosen(pool, 0) == chosen(pool[::-1], 0)
    assert chosen(pool, 0) != chosen(pool, 1)
    assert chosen(pool, 0)[:10] == chosen(pool, 0, n=20)[:10]
    # The first 10 of 200 by chance: 1 in more than 10^16.
    assert set(chosen(pool, 0)[:10]) != {h.id for h in pool[:10]}
