"""What arrived since yesterday, and which of it is forecast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from urllib.parse import urljoin, urlsplit

from varro.domain import FeedRead, Headline, headline_id, stable_hash
from varro.news.archive import Archive
from varro.news.clean import canonical_link, clean_label, clean_link
from varro.news.duplicates import first_of_each
from varro.news.fetch import Fetcher, Validators
from varro.news.gather import FeedReading, FeedState, Parser, read_feeds
from varro.news.opml import Feed
from varro.news.parse import Entry

LIVE_CORPUS = "live"
EARLIEST = timedelta(days=-7)
LATEST = timedelta(hours=1)
"""a publisher's date is kept within these of when the headline was fetched"""
_N_REASONS_SHOWN = 3
_NOWHERE = "http://feed.invalid/"
"""stands for a feed's own address (RFC 2606)"""


@dataclass(frozen=True, slots=True)
class FeedFailure:
    """A feed that gave nothing today."""

    feed: str
    reason: str


@dataclass(frozen=True, slots=True)
class ArrivedNews:
    """The headlines of a day and what went wrong on the way."""

    headlines: tuple[Headline, ...]
    """of an archive by (first_seen, id), of feeds in their order"""
    n_feeds: int
    """feeds on the list, the failed included; 1 for an archive"""
    n_alive: int
    """those that answered, or rest because a server that is well asked them to"""
    failures: tuple[FeedFailure, ...]
    n_malformed: int
    """lines of the whole archive, or items of today's feeds, that hold no headline"""
    n_duplicates: int
    """the same headline again, in the whole archive or in today's feeds"""
    n_unreached: int = 0
    """feeds that there was no time for: neither alive nor failed"""
    n_behind: int = 0
    """items behind the most that are read of one body"""
    readings: tuple[FeedReading, ...] = ()
    """what came of each feed, without its body; an archive has none"""


@dataclass(frozen=True, slots=True)
class Selection:
    """The headlines that are forecast today."""

    train: tuple[Headline, ...]
    heldout: tuple[Headline, ...]
    """never trained on, whatever the run or the day"""


def ingest_archive(archive: Archive, *, after: datetime | None, as_of: datetime) -> ArrivedNews:
    """The archive's headlines with after < first_seen ≤ as_of; no later one leaves here."""
    return ArrivedNews(
        headlines=archive.between(after, as_of),
        n_feeds=1,
        n_alive=1,
        failures=(),
        n_malformed=len(archive.malformed),
        n_duplicates=archive.n_duplicates,
    )


def ingest_feeds(
    feeds: tuple[Feed, ...],
    fetcher: Fetcher,
    parser: Parser,
    states: Mapping[str, FeedState],
    *,
    as_of: datetime,
    max_s: float,
    pause_s: float,
    asked_at: Mapping[str, datetime] = MappingProxyType({}),
    keep_body: Callable[[FeedReading], None] = lambda reading: None,
) -> ArrivedNews:
    """What the feeds hold now, first seen at `as_of`; a dead feed is counted with its reason, and
    one that has not changed since its state adds nothing. `states` by url, and when each was last
    asked. `keep_body` is given each reading that has a body, as it comes.
    """
    by_url: dict[str, FeedReading] = {}
    for reading in read_feeds(
        feeds, fetcher, parser, states, as_of=as_of, max_s=max_s, pause_s=pause_s, asked_at=asked_at
    ):
        if reading.body:
            keep_body(reading)
        # Without the body: those of all feeds together may be larger than the memory.
        by_url[reading.feed.url] = replace(reading, body=b"")
    readings = [by_url[feed.url] for feed in feeds]
    dead = [r for r in readings if not _is_alive(r)]
    failures = tuple(FeedFailure(r.feed.name, r.reason) for r in dead if r.status != "unreached")
    by_id: dict[str, Headline] = {}
    n_duplicates = 0
    for reading in readings:
        for entry in reading.entries:
            headline = _headline_of(entry, reading.feed, as_of)
            n_duplicates += headline.id in by_id
            by_id.setdefault(headline.id, headline)
    return ArrivedNews(
        headlines=tuple(by_id.values()),
        n_feeds=len(feeds),
        n_alive=len(feeds) - len(dead),
        failures=failures,
        n_unreached=len(dead) - len(failures),
        n_malformed=sum(r.n_untitled for r in readings),
        n_duplicates=n_duplicates,
        n_behind=sum(r.n_left_out for r in readings),
        readings=tuple(readings),
    )


def state_of(read: FeedRead) -> FeedState:
    """What a feed's newest row says of it."""
    return FeedState(
        validators=Validators(read.etag, read.last_modified),
        body_sha256=read.body_sha256,
        n_entries=read.n_entries,
        n_failures=read.n_failures,
        next_at=read.next_at,
    )


def feed_reads(
    readings: Sequence[FeedReading],
    taken: Iterable[Headline],
    *,
    run: str,
    day: str,
    as_of: datetime,
) -> list[FeedRead]:
    """A row for each feed, of which `taken` are the headlines that were new."""
    n_new = Counter(headline.feed for headline in taken)
    return [
        FeedRead(
            run=run,
            day=day,
            url=r.feed.url,
            as_of=as_of,
            feed=r.feed.name,
            status=r.status,
            reason=r.reason,
            http_status=r.http_status,
            etag=r.state.validators.etag,
            last_modified=r.state.validators.last_modified,
            body_sha256=r.state.body_sha256,
            n_entries=r.state.n_entries,
            n_untitled=r.n_untitled,
            n_new=n_new[r.feed.name],
            n_failures=r.state.n_failures,
            next_at=r.state.next_at,
            moved_to=r.moved_to,
            seconds=r.seconds,
        )
        for r in readings
    ]


def is_anything_heard(readings: Iterable[FeedReading]) -> bool:
    """Whether a server has said anything of use. Where none has, the fault may be this machine's
    network, and is to be held against no feed."""
    return any(reading.http_status is not None for reading in readings)


def why_dead(news: ArrivedNews) -> str | None:
    """Why there can be no news, with the first reasons, if no feed is alive; or None."""
    if news.n_alive:
        return None
    if not news.n_feeds:
        return "news.feeds lists no feed"
    reasons = [f"{f.feed}: {f.reason}" for f in news.failures[:_N_REASONS_SHOWN]]
    if news.n_unreached:
        reasons.append(f"{news.n_unreached} not reached in time")
    return f"all {news.n_feeds} feeds failed; {'; '.join(reasons)}"


def why_degraded(
    news: ArrivedNews, n_new: int, *, min_feeds: int, min_headlines: int
) -> str | None:
    """Why a day's news is too thin to be trained on, or None. An archive can not be dead."""
    reasons = []
    if news.readings and news.n_alive < min_feeds:
        reasons.append(f"{news.n_alive} of {news.n_feeds} feeds are alive, {min_feeds} are needed")
    if n_new < min_headlines:
        reasons.append(f"{n_new} new headlines, {min_headlines} are needed")
    return "; ".join(reasons) or None


def select_headlines(
    headlines: Iterable[Headline],
    *,
    n_train: int,
    n_heldout: int,
    heldout_frac: float,
    seed_parts: tuple[object, ...],
) -> Selection:
    """At most n_train and n_heldout of the headlines, each story once, in a seeded order.

    Note: a headline's side follows from its link (or title) alone, so that what one run or day
    holds out no other trains on.
    """
    train: list[Headline] = []
    heldout: list[Headline] = []
    for headline in _without_repeats(headlines):
        (heldout if _is_heldout(headline, heldout_frac) else train).append(headline)

    def order(headline: Headline) -> str:
        return stable_hash("select", *seed_parts, headline.id)

    return Selection(
        train=tuple(sorted(train, key=order)[:n_train]),
        heldout=tuple(sorted(heldout, key=order)[:n_heldout]),
    )


def _is_alive(reading: FeedReading) -> bool:
    is_well = reading.status == "resting" and not reading.state.n_failures
    return is_well or reading.status in ("ok", "unchanged")


def _headline_of(entry: Entry, feed: Feed, as_of: datetime) -> Headline:
    link = canonical_link(entry.link)
    identity = entry.guid or _place(entry) or link or entry.title
    published = entry.published
    if published is not None:
        published = min(max(published, as_of + EARLIEST), as_of + LATEST)
    return Headline(
        id=headline_id(LIVE_CORPUS, feed.name, identity, entry.title),
        corpus=LIVE_CORPUS,
        feed=feed.name,
        source=clean_label(urlsplit(link or feed.url).hostname or ""),
        guid=entry.guid,
        title=entry.title,
        link=link,
        published=published,
        first_seen=as_of,
    )


def _place(entry: Entry) -> str:
    """A relative link's one spelling, the same wherever the feed lies; "" if the link is whole."""
    if not entry.relative_link:
        return ""
    try:
        return canonical_link(clean_link(urljoin(_NOWHERE, entry.relative_link)))
    except ValueError:
        return ""


def _without_repeats(headlines: Iterable[Headline]) -> list[Headline]:
    """One headline for each story, the earliest."""
    ordered = sorted(headlines, key=lambda h: (h.first_seen, h.id))
    return [ordered[i] for i in first_of_each([h.title for h in ordered])]


def _is_heldout(headline: Headline, heldout_frac: float) -> bool:
    return int(stable_hash("heldout", headline.link or headline.title), 16) / 2**128 < heldout_frac
