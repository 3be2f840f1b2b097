"""Feeds through the day and the ledger: their state is committed with what they brought."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from conftest import lend_embedder

from varro.day import DueDay, run_day
from varro.domain import Stage
from varro.errors import EmptyCycleError, FeedError, LedgerError
from varro.news.bodies import body_path, read_body
from varro.run import open_run

FIRST = datetime(2026, 1, 5, 7, tzinfo=UTC)
NAMES = ("a", "b", "c", "d", "e")


class World:
    """Five feeds on one server: titles by feed, a way of being down by feed."""

    def __init__(self) -> None:
        self.titles = {name: [f"{name} news {i}" for i in range(3)] for name in NAMES}
        self.down: dict[str, str] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.guids = "guid"

    def body(self, name: str) -> bytes:
        return self.body_of(name, self.titles[name])

    def body_of(self, name: str, titles: list[str]) -> bytes:
        items = "".join(
            f"<item><title>{t}</title><guid>{self.guids}-{t}</guid></item>" for t in titles
        )
        return f"<rss version='2.0'><channel>{items}</channel></rss>".encode()

    def answer(self, handler) -> None:
        name = handler.path.strip("/")
        known = handler.headers["If-None-Match"]
        self.asked.append((name, known))
        body, status, headers = self.body(name), 200, {}
        etag = f'"{hash(body)}"'
        match self.down.get(name):
            case None if known == etag:
                status, body = 304, b""
            case None:
                headers = {"ETag": etag}
            case "page":
                body = b"<html><body>Please log in</body></html>"
            case "challenge":
                body = b"<!DOCTYPE html><title>Just a moment...</title>"
            case "empty":
                body = b"<rss version='2.0'><channel><title>none</title></channel></rss>"
            case "nothing":
                body = b""
            case "busy":
                status, headers = 429, {"Retry-After": "7200"}
            case code:
                status = int(code)
        handler.send_response(status)
        for header, value in headers.items():
            handler.send_header(header, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


class Stopped:
    """A ledger whose process dies before the commit of a stage."""

    def __init__(self, ledger) -> None:
        self.ledger = ledger

    def __getattr__(self, name):
        return getattr(self.ledger, name)

    def finish_stage(self, *args, **kwargs):
        raise LedgerError("killed before the commit")

    def add_feed_tries(self, *args, **kwargs):
        raise LedgerError("killed before the commit")


@pytest.fixture
def world(loopback, tmp_path, configured):
    """The world, and what makes a configuration of a live run over it."""
    world = World()
    address = loopback(world.answer)
    opml = tmp_path / "feeds.opml"
    outlines = "".join(f'<outline text="{n}" xmlUrl="{address}/{n}"/>' for n in NAMES)
    opml.write_text(f'<opml version="2.0"><body>{outlines}</body></opml>')

    def config(*overrides: str):
        return configured(
            'news.source="feeds"',
            f"news.feeds={opml}",
            "news.allow_private=true",
            "news.pause_s=0",
            *overrides,
        )

    world.config = config
    return world


def day_of(n: int) -> DueDay:
    as_of = FIRST + timedelta(days=n)
    return DueDay(f"{as_of:%Y-%m-%d}", as_of)


def ingest(work, n: int):
    run_day(work, day_of(n), only=Stage.INGEST)
    return work.ledger.stage_run(work.name, day_of(n).day, Stage.INGEST).detail


def titles(work, n: int) -> set[str]:
    """Titles first seen on the day."""
    as_of = day_of(n).as_of
    found = work.ledger.headlines_between("live", after=None, until=as_of)
    return {h.title for h in found if h.first_seen == as_of}


def titles_of(work) -> set[str]:
    """All there are."""
    until = FIRST + timedelta(days=9)
    return {h.title for h in work.ledger.headlines_between("live", after=None, until=until)}


def states(work) -> dict[str, tuple[str, int]]:
    """Feed → (status, failures in a row) of its newest row."""
    reads = work.ledger.newest_feed_reads([f.url for f in work.feeds]).values()
    return {read.feed: (read.status, read.n_failures) for read in reads}


def test_a_day_stopped_before_its_commit_is_fetched_again_and_loses_nothing(world) -> None:
    """The worst of conditional fetching: a body whose ETag was kept and whose headlines were not is
    "unchanged" for ever."""
    with open_run(world.config()) as work:
        ingest(work, 0)
        world.titles["a"].append("a news 3")
        work.ledger = Stopped(work.ledger)
        with pytest.raises(LedgerError, match="killed"):
            ingest(work, 1)
        work.ledger = work.ledger.ledger
        assert titles(work, 1) == set()
        detail = ingest(work, 1)
        assert titles(work, 1) == {"a news 3"}
        assert detail["n_new"] == 1
        # Finished, it is not fetched once more.
        n_asked = len(world.asked)
        ingest(work, 1)
        assert len(world.asked) == n_asked


def test_what_was_kept_of_a_feed_is_sent_back_and_a_304_is_alive(world) -> None:
    """Feeds asked for their whole body each day; an unchanged one counted as dead, or its headlines
    as new."""
    with open_run(world.config("news.min_feeds=5", "news.min_headlines=1")) as work:
        ingest(work, 0)
        assert {known for _, known in world.asked} == {None}
        world.titles["e"] = ["e news 2", "e news 3"]
        detail = ingest(work, 1)
        assert all(known for _, known in world.asked[5:])
        assert (detail["n_feeds"], detail["n_alive"], detail["failures"]) == (5, 5, [])
        assert detail["degraded"] is None
        assert titles(work, 1) == {"e news 3"}
        assert states(work) == {**dict.fromkeys("abcd", ("unchanged", 0)), "e": ("ok", 0)}
        rows = work.ledger.newest_feed_reads([f.url for f in work.feeds]).values()
        assert {r.feed: (r.n_entries, r.n_new, r.http_status) for r in rows} == {
            **dict.fromkeys("abcd", (3, 0, 304)),
            "e": (2, 1, 200),
        }


def test_a_feed_that_moves_to_another_address_brings_no_news_by_it(world, loopback) -> None:
    """Each headline of a feed is new, and forecast once more, on the day that its address in the
    list is another one: after a week not even its title is known again."""
    with open_run(world.config()) as work:
        assert ingest(work, 0)["n_new"] == 15
        moved = loopback(world.answer)
        work.feeds = tuple(
            replace(feed, url=f"{moved}/{feed.name}") if feed.name == "b" else feed
            for feed in work.feeds
        )
        world.titles["a"].append("a news 3")
        detail = ingest(work, 8)
        assert ("b", None) in world.asked[5:]  # nothing is known of the new address
        assert (detail["n_new"], detail["left_out"]) == (1, {})
        assert titles(work, 8) == {"a news 3"}


KINDS = ("404", "page", "empty", "410", "nothing", "busy", "challenge", "403")


@pytest.mark.parametrize("n_down", range(6))
def test_any_feeds_may_be_down_and_the_day_says_so(world, tmp_path, n_down: int) -> None:
    """One dead server costs the day; the rest of a handful passes for the world; a feed that shows
    an error page for one that has no news. All subsets, each feed down in its own way."""
    for i, down in enumerate(combinations(NAMES, n_down)):
        # All are up on the first day, so that an empty feed is one that had items.
        world.down = {}
        world.titles = {name: [f"{name} news {k}" for k in range(3)] for name in NAMES}
        config = world.config(f"home={tmp_path}/{n_down}-{i}", "news.min_feeds=3",
                              "news.min_headlines=4")  # fmt: skip
        with open_run(config) as work:
            ingest(work, 0)
            world.titles = {name: [f"{name} later {k}" for k in range(3)] for name in NAMES}
            world.down = {name: KINDS[(i + k) % len(KINDS)] for k, name in enumerate(down)}
            before = work.ledger.newest_feed_reads([f.url for f in work.feeds])
            if n_down == 5:
                with pytest.raises(FeedError, match="all 5 feeds failed") as caught:
                    ingest(work, 1)
                assert caught.value.exit_code == 4
                assert titles(work, 1) == set()
                assert work.ledger.stage_run("main", day_of(1).day, Stage.INGEST) is None
                assert states(work) == dict.fromkeys(NAMES, ("failed", 1))
                continue
            detail = ingest(work, 1)
            up = set(NAMES) - set(down)
            assert titles(work, 1) == {f"{name} later {k}" for name in up for k in range(3)}
            assert {f["feed"] for f in detail["failures"]} == set(down)
            assert all(f["reason"] for f in detail["failures"])
            assert detail["n_alive"] == len(up)
            wanted = {4: "1 of 5 feeds are alive, 3 are needed; 3 new headlines, 4 are needed",
                      3: "2 of 5 feeds are alive, 3 are needed"}  # fmt: skip
            assert detail["degraded"] == wanted.get(n_down)
            assert {n: states(work)[n] for n in down} == dict.fromkeys(down, ("failed", 1))
            # The last good body is still what the next one is compared with.
            after = work.ledger.newest_feed_reads([f.url for f in work.feeds])
            for read in after.values():
                if read.feed in down:
                    assert read.body_sha256 == before[read.url].body_sha256
                    assert read.etag == before[read.url].etag


def test_a_feed_comes_back_with_all_it_had_meanwhile(world) -> None:
    """A feed that failed is "unchanged" when it is well again: its days of news are lost."""
    with open_run(world.config("news.min_headlines=1")) as work:
        ingest(work, 0)
        world.titles = {name: [f"{name} later"] for name in NAMES}
        world.down = {"a": "404"}
        ingest(work, 1)
        world.down = {}
        world.titles["b"].append("b last")
        ingest(work, 2)
        assert titles(work, 2) == {"a later", "b last"}
        assert states(work)["a"] == ("ok", 0)


def test_a_server_that_asks_for_rest_gets_it(world) -> None:
    """Retry-After forgotten with the process that heard it."""
    with open_run(world.config("news.min_headlines=1")) as work:
        world.down = {"a": "busy"}
        ingest(work, 0)
        world.down, world.asked = {}, []
        soon = DueDay("2026-01-06", FIRST + timedelta(hours=1))
        world.titles["b"].append("b later")
        run_day(work, soon, only=Stage.INGEST)
        assert "a" not in {name for name, _ in world.asked}
        detail = work.ledger.stage_run("main", "2026-01-06", Stage.INGEST).detail
        assert [f["feed"] for f in detail["failures"]] == ["a"]
        reason = detail["failures"][0]["reason"]
        assert "not to be asked before" in reason and "09:00Z" in reason
        ingest(work, 2)
        assert states(work)["a"] == ("ok", 0)


def at(day: str, hour: int) -> DueDay:
    """A try of a cycle, so many hours after the first."""
    return DueDay(day, FIRST + timedelta(hours=hour))


def test_what_servers_say_in_a_cycle_without_news_is_kept_for_its_next_try(world) -> None:
    """An empty cycle is tried again each hour: the server that asked for two hours of rest is asked
    at the next, and all others for their whole body, as if they had never been heard."""
    with open_run(world.config("news.min_headlines=1")) as work:
        ingest(work, 0)
        world.asked, world.down = [], {"a": "busy"}
        with pytest.raises(EmptyCycleError, match="no new headline on 2026-01-06") as caught:
            run_day(work, at("2026-01-06", 24), only=Stage.INGEST)
        assert caught.value.exit_code == 13
        assert len(world.asked) == 5
        assert states(work) == {"a": ("failed", 1), **dict.fromkeys("bcde", ("unchanged", 0))}
        assert work.ledger.days_begun(work.name) == ["2026-01-05"]
        # A body that has changed, all of whose headlines are known: its ETag may be kept.
        world.titles["b"].pop()
        world.asked, world.down = [], {}
        with pytest.raises(EmptyCycleError):
            run_day(work, at("2026-01-06", 25), only=Stage.INGEST)
        assert {name for name, _ in world.asked} == set("bcde")
        assert states(work)["a"] == ("resting", 1)
        world.asked = []
        world.titles["b"].append("b later")
        run_day(work, at("2026-01-06", 26), only=Stage.INGEST)
        shown = world.titles["b"][:2]
        assert dict(world.asked)["b"] == f'"{hash(world.body_of("b", shown))}"'
        assert states(work) == {**dict.fromkeys("acde", ("unchanged", 0)), "b": ("ok", 0)}
        assert work.ledger.stage_run("main", "2026-01-06", Stage.INGEST).detail["n_new"] == 1


def test_a_first_cycle_of_which_nothing_comes_begins_no_run(world) -> None:
    """A run that is bound to settings under which nothing was ever taken in."""
    world.down = dict.fromkeys(NAMES, "busy")
    with open_run(world.config()) as work:
        with pytest.raises(FeedError, match="all 5 feeds failed"):
            ingest(work, 0)
        assert work.ledger.runs() == [] and len(world.asked) == 5
        with pytest.raises(FeedError, match="not to be asked before 09:00Z"):
            run_day(work, at("2026-01-05", 1), only=Stage.INGEST)
        assert len(world.asked) == 5
    world.down = {}
    with open_run(world.config("news.min_headlines=2")) as work:
        run_day(work, at("2026-01-05", 2), only=Stage.INGEST)
        assert len(titles_of(work)) == 15


def test_where_no_server_answers_nothing_is_held_against_any(world, loopback) -> None:
    """A laptop that was offline in the morning: all feeds rest for hours when it is back."""
    with open_run(world.config("news.timeout_s=0.2")) as work:
        ingest(work, 0)
        listed = work.feeds
        nowhere = loopback(lambda handler: None)
        work.feeds = tuple(replace(f, url=f"{nowhere}/{f.name}") for f in work.feeds)
        for hour in range(24, 28):
            with pytest.raises(FeedError, match="all 5 feeds failed"):
                run_day(work, at("2026-01-06", hour), only=Stage.INGEST)
            assert states(work) == {}
        work.feeds = listed
        assert states(work) == dict.fromkeys(NAMES, ("ok", 0))


def test_a_try_that_is_killed_before_its_commit_leaves_nothing(world) -> None:
    """Half of what was heard."""
    with open_run(world.config()) as work:
        ingest(work, 0)
        before = work.ledger.newest_feed_reads([f.url for f in work.feeds])
        work.ledger = Stopped(work.ledger)
        with pytest.raises(LedgerError, match="killed"):
            ingest(work, 1)
        assert work.ledger.ledger.newest_feed_reads([f.url for f in work.feeds]) == before


def test_what_was_heard_under_a_clock_that_ran_ahead_is_not_waited_for(world) -> None:
    """A machine that starts in the wrong year, tries a cycle that brings nothing, and is put right:
    its feeds rest until that year."""
    with open_run(world.config("news.min_headlines=1")) as work:
        ingest(work, 0)
        world.down = {"a": "busy"}
        with pytest.raises(EmptyCycleError):
            ingest(work, 400)
        world.down, world.asked = {}, []
        world.titles["a"].append("a later")
        assert ingest(work, 1)["n_new"] == 1
        assert len(world.asked) == 5


def test_a_day_says_whom_it_had_no_time_for_and_asks_them_first_the_next_time(world) -> None:
    """Feeds at the end of a long list that are never read, and of which no page says so."""
    with open_run(world.config("news.max_s=0.001", "news.min_headlines=1")) as work:
        with pytest.raises(FeedError, match="all 5 feeds failed; 5 not reached in time"):
            ingest(work, 0)
        assert states(work) == {} and world.asked == []
    with open_run(world.config("news.min_headlines=1")) as work:
        work.feeds = work.feeds[:3]
        ingest(work, 0)
    world.titles = {name: [f"{name} later"] for name in NAMES}
    with open_run(world.config("news.min_headlines=1", "news.pause_s=3", "news.max_s=1")) as work:
        world.asked = []
        detail = ingest(work, 1)
        # The first of those that were never asked; then the time of all is over.
        assert [name for name, _ in world.asked] == ["d"]
        assert (detail["n_alive"], detail["n_unreached"], detail["failures"]) == (1, 4, [])
        assert titles(work, 1) == {"d later"}
        assert states(work) == {**dict.fromkeys("abce", ("unreached", 0)), "d": ("ok", 0)}
    with open_run(world.config("news.min_headlines=1")) as work:
        ingest(work, 2)
        assert [name for name, _ in world.asked][1:] == ["e", "a", "b", "c", "d"]


def test_a_feed_that_renames_its_items_each_day_has_no_news_each_day(world) -> None:
    """Growth without end: the same thirty titles are new headlines every morning."""
    with open_run(world.config("news.min_headlines=1")) as work:
        ingest(work, 0)
        for n in (1, 2):
            world.guids = f"other-{n}"
            world.titles["a"].append(f"a later {n}")
            detail = ingest(work, n)
            assert titles(work, n) == {f"a later {n}"}
            assert detail["left_out"] == {"told before": 15 + n - 1}


def test_a_flooding_feed_is_cut_and_counted(world) -> None:
    """Ten thousand items of one feed: a day of its making."""
    world.titles["a"] = [f"a flood {i}" for i in range(40)]
    with open_run(world.config("news.max_new_per_feed=7")) as work:
        detail = ingest(work, 0)
        assert detail["left_out"] == {"too many of a feed": 33}
        assert {t for t in titles(work, 0) if t.startswith("a")} == {
            f"a flood {i}" for i in range(7)
        }
        rows = work.ledger.newest_feed_reads([f.url for f in work.feeds]).values()
        assert {r.feed: r.n_new for r in rows} == {"a": 7, **dict.fromkeys("bcde", 3)}


def test_rules_and_topics_leave_headlines_out_of_a_day(world, embedder) -> None:
    """Filters that are configured and not asked."""
    world.titles = {name: [] for name in NAMES} | {
        "a": ["Striker scores twice as the team wins the cup final", "Central bank cuts rates"],
        "b": ["Quarterly inflation falls and the central bank waits", "Live: inflation, all day"],
    }
    rules = "news.rules=[{feed='b', exclude=['^live:']}]"
    with open_run(world.config(rules, "news.topics=['economy']", "news.min_headlines=1")) as work:
        lend_embedder(work, embedder)
        detail = ingest(work, 0)
        assert titles(work, 0) == {
            "Central bank cuts rates",
            "Quarterly inflation falls and the central bank waits",
        }
        assert detail["left_out"] == {"excluded": 1, "topic sport": 1}


def test_a_day_of_which_nothing_is_wanted_is_not_run_and_says_why(world) -> None:
    """A rule that leaves everything out reads as a day without news."""
    with open_run(world.config("news.rules=[{exclude=['news']}]")) as work:
        with pytest.raises(FeedError, match="15 left out: excluded"):
            ingest(work, 0)
        assert work.ledger.runs() == []


def test_bodies_are_kept_beside_the_ledger_that_names_them_and_go_in_time(world) -> None:
    """A body that no row leads to, one kept for ever, or one removed before the day is safe."""
    config = world.config("news.keep_bodies_days=2", "news.min_headlines=1")
    folder = config.home / "bodies"
    with open_run(config) as work:
        for n in range(3):
            world.titles["a"].append(f"a later {n}")
            ingest(work, n)
            for read in work.ledger.newest_feed_reads([f.url for f in work.feeds]).values():
                if read.status == "ok":
                    kept = body_path(work.home, as_of=read.as_of, sha256=read.body_sha256)
                    assert read_body(kept, max_bytes=10_000) == world.body(read.feed)
        assert sorted(f.name for f in folder.glob("2*")) == ["2026-01-06", "2026-01-07"]
        world.titles["a"].append("a later still")
        work.ledger = Stopped(work.ledger)
        with pytest.raises(LedgerError):
            ingest(work, 3)
        assert "2026-01-06" in {f.name for f in folder.iterdir()}
        work.ledger = work.ledger.ledger
        ingest(work, 3)
        assert sorted(f.name for f in folder.glob("2*")) == ["2026-01-07", "2026-01-08"]


def test_a_replay_beside_live_days_removes_none_of_their_bodies(world, configured) -> None:
    """An archive of a later year, replayed in the same home, ages every body by that year."""
    with open_run(world.config("run.name=live")) as work:
        run_day(work, DueDay("2020-01-01", datetime(2020, 1, 1, 7, tzinfo=UTC)), only=Stage.INGEST)
        kept = sorted((work.home / "bodies").rglob("*.gz"))
    with open_run(configured()) as work:
        ingest(work, 0)
        assert sorted((work.home / "bodies").rglob("*.gz")) == kept != []


def test_no_body_is_kept_where_none_is_wanted(world) -> None:
    """A setting of 0 read as "for ever"."""
    with open_run(world.config("news.keep_bodies_days=0")) as work:
        ingest(work, 0)
        assert not (work.home / "bodies").exists()


def test_two_runs_of_one_home_share_what_was_read(world) -> None:
    """The second run asks for what has changed since the first read it, and misses what the first
    has: but headlines belong to both."""
    with open_run(world.config()) as work:
        ingest(work, 0)
    world.titles["a"].append("a later")
    with open_run(world.config("run.name=other")) as work:
        later = DueDay("2026-01-05", FIRST + timedelta(hours=2))
        run_day(work, later, only=Stage.INGEST)
        detail = work.ledger.stage_run("other", "2026-01-05", Stage.INGEST).detail
        assert detail["n_new"] == 16
        assert detail["n_alive"] == 5
    assert json.dumps(detail, allow_nan=False)
