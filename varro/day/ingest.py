"""Ingest: what has arrived since the day before, and what of it is taken in."""

from __future__ import annotations

from functools import partial

from varro.day.headlines import begins_after, earlier_clocks
from varro.day.timing import timed_stage
from varro.day.topics import topics_of
from varro.domain import ASKED_READS, MissedInfo, Stage
from varro.errors import EmptyCycleError, FeedError
from varro.news.bodies import keep_body, remove_old_bodies
from varro.news.fetch import fetcher_of
from varro.news.gather import FeedReading
from varro.news.ingest import (
    EARLIEST,
    ArrivedNews,
    feed_reads,
    ingest_archive,
    ingest_feeds,
    is_anything_heard,
    state_of,
    why_dead,
    why_degraded,
)
from varro.news.parse_apart import ParserProcesses
from varro.news.wanted import (
    Judge,
    judge_languages,
    judge_number,
    judge_retold,
    judge_rules,
    judge_topics,
    sort_out,
)
from varro.run import OpenRun, embedder_of
from varro.service.slots import DueDay


def ingest_day(work: OpenRun, due: DueDay) -> None:
    """Take in what is new, with a row for each feed that was asked. Where there is nothing to take
    in, those rows alone are kept: what a server said stands, whatever comes of the cycle.

    Raises: FeedError if no feed is alive, or an archive has nothing new; EmptyCycleError if feeds
        have not.
    """
    config = work.config.news
    with timed_stage(work, due, Stage.INGEST) as timing:
        since = begins_after(work, due)
        news = _arrived(work, due)
        if dead := why_dead(news):
            _keep_tries(work, due, news)
            raise FeedError(dead)
        known = work.ledger.known_headline_ids(h.id for h in news.headlines)
        again = [h for h in news.headlines if h.id in known]
        new, left_out = sort_out(
            [h for h in news.headlines if h.id not in known], _judges(work, due)
        )
        if news.n_behind:
            left_out["too many in a body"] = news.n_behind
        todays = {h.id for h in new if h.first_seen > since}
        todays |= {
            h.id
            for h in work.ledger.headlines_between(work.info.corpus, after=since, until=due.as_of)
        }
        if not todays:
            _keep_tries(work, due, news)
            told = (
                f"no new headline on {due.day} in {work.info.corpus!r} (first seen after "
                f"{since:%Y-%m-%dT%H:%M:%SZ}, until {due.as_of:%Y-%m-%dT%H:%M:%SZ}"
                + "".join(f"; {n} left out: {reason}" for reason, n in left_out.items())
                + "); an empty day is not run: "
            )
            if work.archive is not None:
                raise FeedError(told + "name another day, or look at the archive")
            raise EmptyCycleError(told + "it is tried again when it is asked for again")
        degraded = why_degraded(
            news, len(todays), min_feeds=config.min_feeds, min_headlines=config.min_headlines
        )
        detail = {
            "corpus": work.info.corpus,
            "n_new": len(todays),
            "n_malformed": news.n_malformed,
            "n_duplicates": news.n_duplicates,
            "n_feeds": news.n_feeds,
            "n_alive": news.n_alive,
            "n_unreached": news.n_unreached,
            "failures": [{"feed": f.feed, "reason": f.reason} for f in news.failures],
            "left_out": left_out,
            "degraded": degraded,
            "n_missed": len(due.missed),
        }
        work.ledger.add_run(work.info)
        work.ledger.finish_stage(
            timing.row(detail),
            headlines=[*again, *new],
            missed=[MissedInfo(work.name, m.cycle, m.at, due.day) for m in due.missed],
            feed_reads=feed_reads(news.readings, new, run=work.name, day=due.day, as_of=due.as_of),
        )
        if work.archive is None:  # an archive's clock says nothing of how old a body is
            remove_old_bodies(work.home, as_of=due.as_of, keep_days=config.keep_bodies_days)
        timing.summary = (
            f"{len(todays)} new headlines"
            + (f", {len(news.failures)} of {news.n_feeds} feeds failed" if news.failures else "")
            + (f", {news.n_unreached} not reached in time" if news.n_unreached else "")
            + (f", {_told_missed(due)}" if due.missed else "")
            + (f", degraded: {degraded}" if degraded else "")
        )


def _keep_tries(work: OpenRun, due: DueDay, news: ArrivedNews) -> None:
    """What was heard in a cycle that is not run. No headline is left to be taken in, so that no
    body can be known and its headlines lost."""
    if is_anything_heard(news.readings):
        work.ledger.add_feed_tries(
            feed_reads(news.readings, (), run=work.name, day=due.day, as_of=due.as_of)
        )


def _arrived(work: OpenRun, due: DueDay) -> ArrivedNews:
    """What there is to take in, as of the day's clock."""
    if work.archive is not None:
        # A run's first day takes the archive's past with it: placebo days are past days.
        # Later days take all since the last one that ran: skipped days are outcomes too.
        after = max(earlier_clocks(work, due), default=None)
        return ingest_archive(work.archive, after=after, as_of=due.as_of)
    config = work.config.news
    fetcher = fetcher_of(config)
    # A read of the future was made under a clock that was wrong: so was its word on when to rest.
    urls = [feed.url for feed in work.feeds]
    reads = work.ledger.newest_feed_reads(urls, until=due.as_of)
    asked = work.ledger.newest_feed_reads(urls, until=due.as_of, statuses=ASKED_READS)

    def keep(reading: FeedReading) -> None:
        if config.keep_bodies_days:
            keep_body(work.home, reading, as_of=due.as_of)

    with ParserProcesses() as parser:
        return ingest_feeds(
            work.feeds,
            fetcher,
            parser,
            {url: state_of(read) for url, read in reads.items()},
            as_of=due.as_of,
            max_s=config.max_s,
            pause_s=config.pause_s,
            asked_at={url: read.as_of for url, read in asked.items()},
            keep_body=keep,
        )


def _judges(work: OpenRun, due: DueDay) -> list[Judge]:
    """What new headlines must pass, the cheapest first."""
    config = work.config.news
    is_live = work.archive is None
    judges: list[Judge] = []
    if is_live:
        told = work.ledger.titles_between(
            work.info.corpus, after=due.as_of + EARLIEST, until=due.as_of
        )
        judges.append(judge_retold(told))
    if config.rules:
        judges.append(judge_rules(config.rules))
    if config.languages:
        judges.append(judge_languages(config.languages))
    if config.topics:
        judges.append(judge_topics(config.topics, partial(topics_of, embedder_of(work))))
    if is_live:
        judges.append(judge_number(config.max_new_per_feed))
    return judges


def _told_missed(due: DueDay) -> str:
    first, last = due.missed[0].cycle, due.missed[-1].cycle
    return f"{len(due.missed)} missed before it: {first}" + (f" to {last}" if last > first else "")
