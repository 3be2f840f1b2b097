"""`varro feeds`: what the list says, what a feed would give, and how each has been."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from varro.config import Config, EmbedderConfig
from varro.day.topics import topics_of
from varro.domain import GOOD_READS, FeedRead
from varro.errors import ConfigError, FeedError
from varro.ledger.place import is_begun, ledger_place
from varro.ledger.store import Ledger, open_ledger_of
from varro.news.bodies import read_body
from varro.news.clean import shown_address
from varro.news.feed_list import new_feed
from varro.news.fetch import fetcher_of
from varro.news.gather import RESTS_AFTER, Parser
from varro.news.ingest import ingest_feeds, why_dead
from varro.news.opml import Feed, load_opml
from varro.news.parse import ParseError
from varro.news.parse_apart import ParserProcesses
from varro.news.times import format_time
from varro.news.wanted import (
    judge_languages,
    judge_number,
    judge_rules,
    judge_topics,
    sort_out,
)
from varro.reward.embed import Embedder, load_embedder

STANDINGS = ("healthy", "failing", "suspended", "unread")


def list_path(config: Config) -> Path:
    """The OPML file that the configuration names.  Raises: ConfigError."""
    if config.news.feeds is None:
        raise ConfigError(
            "news.feeds names no list of feeds; use a configuration that does, such as "
            "--config configs/live.toml"
        )
    return config.news.feeds


def try_feed(
    config: Config,
    url: str,
    *,
    as_of: datetime,
    load: Callable[[EmbedderConfig], Embedder] = load_embedder,
) -> dict[str, Any]:
    """Fetch and parse one feed as a day would, and say what of it would be taken in by a run that
    had never read it. The embedder is loaded only to tell topics.

    Raises: FeedError with the reason if it cannot be fetched, or is no feed.
    """
    feed = _known_feed(config, url)
    news = config.news
    fetcher = fetcher_of(news)
    with ParserProcesses(1) as parser:
        arrived = ingest_feeds(
            (feed,), fetcher, parser, {}, as_of=as_of, max_s=news.max_s, pause_s=news.pause_s
        )
    if dead := why_dead(arrived):
        raise FeedError(dead)
    judges = [judge_rules(news.rules)]
    if news.languages:
        judges.append(judge_languages(news.languages))
    if news.topics:
        judges.append(
            judge_topics(news.topics, lambda titles: topics_of(load(config.embedder), titles))
        )
    judges.append(judge_number(news.max_new_per_feed))
    taken, left_out = sort_out(arrived.headlines, judges)
    (reading,) = arrived.readings
    return {
        "feed": feed.name,
        "url": shown_address(feed.url),
        "http_status": reading.http_status,
        "moved_to": reading.moved_to and shown_address(reading.moved_to),
        "seconds": reading.seconds,
        "entries": len(reading.entries),
        "untitled": reading.n_untitled,
        "left_out": left_out,
        "titles": [h.title for h in taken],
    }


def try_folder(
    folder: Path, *, max_bytes: int, n_processes: int | None = None
) -> list[dict[str, Any]]:
    """What each file under a folder, plain or gzipped, holds as a feed: {path, status, reason,
    entries, titles}, by path. Each is parsed in a limited process: none can hang or hurt this one.

    `status` is `ok`, `empty` (a feed without a titled item), `failed` (not a feed), `timeout` or
    `exception` (the parser broke or was stopped); `entries` counts those without a title too.
    Raises: FeedError if there is no such folder.
    """
    if not folder.is_dir():
        raise FeedError(f"{folder} is no folder")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    n = n_processes or os.cpu_count() or 1
    with ParserProcesses(n) as parser, ThreadPoolExecutor(n) as pool:
        tried = list(pool.map(lambda path: _try_file(path, parser, max_bytes), paths))
    return [
        {"path": path.relative_to(folder).as_posix(), **found}
        for path, found in zip(paths, tried, strict=True)
    ]


def health_of(config: Config, *, now: datetime) -> list[dict[str, Any]]:
    """How each feed of the configured list has been, by the ledger at home, if there is one.

    Raises: ConfigError or FeedError for the list; LedgerError.
    """
    feeds = load_opml(list_path(config))
    if not is_begun(ledger_place(config)):
        return feeds_health(None, feeds, now=now)
    with open_ledger_of(config) as ledger:
        return feeds_health(ledger, feeds, now=now)


def how_many(health: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Feeds by their standing."""
    return {standing: sum(f["standing"] == standing for f in health) for standing in STANDINGS}


def feeds_health(
    ledger: Ledger | None, feeds: Sequence[Feed], *, now: datetime
) -> list[dict[str, Any]]:
    """How each feed of the list has been, by the ledger; one never read has the status `unread`.

    `standing` is `healthy` after a good answer, `failing` after one that was none, `suspended`
    after so many that it is asked less often, or where its server wants to be left alone for now;
    `unread` if it was never asked.
    """
    urls = [feed.url for feed in feeds]
    newest = ledger.newest_feed_reads(urls) if ledger else {}
    good = ledger.newest_feed_reads(urls, statuses=GOOD_READS) if ledger else {}
    return [_health(feed, newest.get(feed.url), good.get(feed.url), now) for feed in feeds]


def _known_feed(config: Config, url: str) -> Feed:
    """The feed of the list with that url or name, or one that is not on it."""
    path = config.news.feeds
    known = load_opml(path) if path is not None and path.exists() else ()
    return next((f for f in known if url in (f.url, f.name)), None) or new_feed(url)


def _try_file(path: Path, parser: Parser, max_bytes: int) -> dict[str, Any]:
    try:
        parsed = parser.parse(read_body(path, max_bytes=max_bytes), {})
    except ParseError as error:
        return {"status": error.kind, "reason": str(error), "entries": 0, "titles": []}
    except OSError as error:
        return {"status": "failed", "reason": str(error), "entries": 0, "titles": []}
    titles = [entry.title for entry in parsed.entries]
    return {
        "status": "ok" if titles else "empty",
        "reason": "" if titles else "a feed without a titled item",
        "entries": len(titles) + parsed.n_untitled + parsed.n_left_out,
        "titles": titles,
    }


def _health(
    feed: Feed, newest: FeedRead | None, good: FeedRead | None, now: datetime
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "feed": feed.name,
        "url": shown_address(feed.url),
        "category": feed.category,
        "standing": "unread",
        "status": "unread",
        "reason": "",
        "read_at": None,
        "http_status": None,
        "n_failures": 0,
        "last_good": None,
        "days_since_good": None,
        "n_entries": None,
        "n_new": None,
        "next_at": None,
        "moved_to": None,
        "seconds": None,
    }
    if newest is not None:
        facts |= {
            "standing": _standing(newest, good, now),
            "status": newest.status,
            "reason": newest.reason,
            "read_at": format_time(newest.as_of),
            "http_status": newest.http_status,
            "n_failures": newest.n_failures,
            "n_entries": newest.n_entries,
            "n_new": newest.n_new,
            "next_at": newest.next_at and format_time(newest.next_at),
            "moved_to": newest.moved_to and shown_address(newest.moved_to),
            "seconds": newest.seconds,
        }
    if good is not None:
        facts["last_good"] = format_time(good.as_of)
        facts["days_since_good"] = max((now - good.as_of).total_seconds(), 0) / 86_400
    return facts


def _standing(newest: FeedRead, good: FeedRead | None, now: datetime) -> str:
    if not newest.n_failures:
        return "unread" if good is None and newest.status == "unreached" else "healthy"
    is_resting = newest.next_at is not None and newest.next_at > now
    return "suspended" if is_resting or newest.n_failures >= RESTS_AFTER else "failing"
