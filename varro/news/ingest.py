"""What arrived since yesterday, and which of it is forecast."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urljoin, urlsplit

from varro.domain import Headline, headline_id, stable_hash
from varro.errors import FeedError
from varro.news.archive import Archive
from varro.news.clean import clean_label
from varro.news.duplicates import first_of_each
from varro.news.fetch import Fetcher
from varro.news.opml import Feed
from varro.news.parse import Entry, ParsedFeed, parse_feed

LIVE_CORPUS = "live"
_N_REASONS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class FeedFailure:
    """A feed that gave nothing today."""

    feed: str
    reason: str


@dataclass(frozen=True, slots=True)
class ArrivedNews:
    """The headlines of a day and what went wrong on the way."""

    headlines: tuple[Headline, ...]
    """sorted by (first_seen, id)"""
    n_feeds: int
    """feeds asked, the failed included; 1 for an archive"""
    failures: tuple[FeedFailure, ...]
    n_malformed: int
    """lines of the whole archive, or items of today's feeds, that hold no headline"""
    n_duplicates: int
    """the same headline again, in the whole archive or in today's feeds"""


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
        failures=(),
        n_malformed=len(archive.malformed),
        n_duplicates=archive.n_duplicates,
    )


def ingest_feeds(feeds: tuple[Feed, ...], fetcher: Fetcher, *, as_of: datetime) -> ArrivedNews:
    """What the feeds hold now, first seen at `as_of`; a dead feed is counted with its reason.

    Raises: FeedError if there is no feed or every feed failed.
    """
    by_id: dict[str, Headline] = {}
    failures: list[FeedFailure] = []
    n_malformed = n_duplicates = 0
    for feed in feeds:
        try:
            parsed = _read_feed(feed, fetcher)
        except FeedError as error:
            failures.append(FeedFailure(feed.name, str(error)))
            continue
        n_malformed += parsed.n_untitled
        for entry in parsed.entries:
            headline = _headline_of(entry, feed, as_of)
            n_duplicates += headline.id in by_id
            by_id.setdefault(headline.id, headline)
    if len(failures) == len(feeds):
        shown = "; ".join(f"{f.feed}: {f.reason}" for f in failures[:_N_REASONS_SHOWN])
        raise FeedError(f"all {len(feeds)} feeds failed; {shown or 'news.feeds lists none'}")
    return ArrivedNews(
        headlines=tuple(sorted(by_id.values(), key=lambda h: (h.first_seen, h.id))),
        n_feeds=len(feeds),
        failures=tuple(failures),
        n_malformed=n_malformed,
        n_duplicates=n_duplicates,
    )


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


def _read_feed(feed: Feed, fetcher: Fetcher) -> ParsedFeed:
    answer = fetcher.fetch(feed.url)
    base = urljoin(answer.url, answer.headers.get("content-location", ""))
    return parse_feed(answer.body, {**answer.headers, "content-location": base})


def _headline_of(entry: Entry, feed: Feed, as_of: datetime) -> Headline:
    identity = entry.guid or entry.link or entry.title
    return Headline(
        id=headline_id(LIVE_CORPUS, feed.name, identity, entry.title),
        corpus=LIVE_CORPUS,
        feed=feed.name,
        source=clean_label(urlsplit(entry.link or feed.url).hostname or ""),
        guid=entry.guid,
        title=entry.title,
        link=entry.link,
        published=entry.published,
        first_seen=as_of,
    )


def _without_repeats(headlines: Iterable[Headline]) -> list[Headline]:
    """One headline for each story, the earliest."""
    ordered = sorted(headlines, key=lambda h: (h.first_seen, h.id))
    return [ordered[i] for i in first_of_each([h.title for h in ordered])]


def _is_heldout(headline: Headline, heldout_frac: float) -> bool:
    return int(stable_hash("heldout", headline.link or headline.title), 16) / 2**128 < heldout_frac
