"""The soak's troubles are what they are called, and its comparison sees what it should; `make soak`
is the whole."""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from soak import TOKEN, Soaked, forgive, growth, n_left  # noqa: E402
from soak_world import (  # noqa: E402
    FAULTS,
    MENDED,
    QUICK,
    SLOW,
    FeedServer,
    News,
    Scene,
    evenings,
    read_scene,
    write_scene,
)

from varro.domain import Stage  # noqa: E402
from varro.news.fetch import Fetched, FetchError, HttpFetcher, Validators  # noqa: E402
from varro.news.gather import FeedState, read_feeds  # noqa: E402
from varro.news.opml import load_opml  # noqa: E402
from varro.news.parse import parse_feed  # noqa: E402

SAMPLE = ROOT / "data" / "sample" / "world.jsonl.gz"
SCRIPT = ROOT / "scripts" / "soak.py"


@pytest.fixture(scope="module")
def news():
    return News(SAMPLE)


@pytest.fixture
def feeds(news, tmp_path):
    """(a function that sets the scene, the feeds on the server)."""
    path = tmp_path / "scene.json"
    server = FeedServer(news, {"reader": path})
    server.write_list(tmp_path / "feeds.opml", "reader")

    def show(day, *, number=1, **faults):
        write_scene(path, Scene("2026-01-05T20:00:00+00:00", day, faults, number=number))

    yield show, load_opml(tmp_path / "feeds.opml")
    server.close()


def fetcher(**settings):
    return HttpFetcher(
        max_bytes=1_000_000, allow_private=True,
        **{"timeout_s": 5.0, "retry_wait_s": 0.01, **settings},
    )  # fmt: skip


def titles(answer: Fetched):
    return [entry.title for entry in parse_feed(answer.body, answer.headers).entries]


def test_feeds_show_a_day_after_another_and_say_when_nothing_has_changed(feeds, news):
    """Catches a soak whose days have no news, or those of another day."""
    show, (feed, *_) = feeds
    show(0)
    first = fetcher().fetch(feed.url)
    told = titles(first)
    assert told and first.headers["content-type"] == "application/rss+xml"
    unchanged = fetcher().fetch(feed.url, Validators(etag=first.headers["etag"]))
    assert (unchanged.status, unchanged.body) == (304, b"")
    show(1)
    later = titles(fetcher().fetch(feed.url, Validators(etag=first.headers["etag"])))
    assert len(later) > len(told) and later[-len(told) :] == told
    assert not news.is_silent(1, feed.name) and not news.is_silent(0, feed.name)


@pytest.mark.parametrize("kind", MENDED)
def test_a_fault_that_is_mended_costs_a_try_and_no_news(feeds, news, kind):
    """Catches a fault that never happens, and one that is not over with the next answer."""
    show, (feed, *_) = feeds
    show(0, **{feed.name: (kind, 2)})
    assert titles(fetcher().fetch(feed.url)) == titles(
        Fetched("", 200, {}, news.body(0, feed.name))
    )
    show(0, number=2, **{feed.name: (kind, 99)})
    with pytest.raises(FetchError):
        fetcher().fetch(feed.url)


class InThisProcess:
    def parse(self, body, headers, *, until=math.inf):
        return parse_feed(body, headers)


@pytest.mark.parametrize("kind", sorted({*QUICK, *SLOW}))
def test_a_fault_that_lasts_is_a_failure(feeds, kind):
    """Catches garbage that is taken for a quiet day: an outage in which a feed is alive."""
    show, (feed, *_) = feeds
    show(0, **{feed.name: (kind, 99)})
    quick = fetcher(timeout_s=0.5 if kind in SLOW else 5.0)
    known = {feed.url: FeedState(n_entries=5)}
    now = datetime(2026, 1, 5, 20, tzinfo=UTC)
    (reading,) = read_feeds(
        [feed], quick, InThisProcess(), known, as_of=now, max_s=20.0, pause_s=0.0
    )
    assert reading.status == "failed" and reading.entries == ()


def test_a_feed_without_news_is_told_from_one_that_has_never_had_any(tmp_path):
    """Catches an outage of which a part is no failure: a new feed that is empty is well."""
    days = [("old", "05"), ("old", "06"), ("new", "07"), ("old", "08")]
    lines = [
        json.dumps({"feed": feed, "title": day, "guid": day, "link": "", "published": ""}
                   | {"first_seen": f"2026-01-{day}T12:00:00Z"})
        for feed, day in days
    ]  # fmt: skip
    with gzip.open(tmp_path / "few.jsonl.gz", "wt") as archive:
        archive.write("\n".join(lines))
    news = News(tmp_path / "few.jsonl.gz")
    assert (news.n_days, news.feeds) == (4, ["new", "old"])
    assert [news.has_shown(n, "new") for n in range(4)] == [False, False, False, True]
    assert [news.is_silent(n, "new") for n in range(4)] == [False, False, False, True]
    assert [news.is_silent(n, "old") for n in range(4)] == [False, False, True, False]


def test_every_fault_has_its_place():
    """Catches a kind of fault that is never drawn."""
    assert set(FAULTS) == {*MENDED, *QUICK, *SLOW} and len(FAULTS) == 13


def test_evenings_are_the_same_in_both_runs_and_after_their_cycles_fell_due(news):
    """Catches two runs that cannot be compared, and a day that is begun under its predecessor."""
    at = evenings(news, 5, seed=3)
    assert at == evenings(news, 5, seed=3) != evenings(news, 5, seed=4)
    due = [datetime(2026, 1, 5, 20, tzinfo=UTC) + timedelta(days=n) for n in range(5)]
    assert all(timedelta(0) <= a - d <= timedelta(hours=3) for a, d in zip(at, due, strict=True))


def test_a_scene_survives_its_file(tmp_path):
    """Catches a process that reads another world than the service wrote."""
    scene = Scene("2026-01-05T20:00:00+00:00", 3, {"a": ("hang", 1)}, 0.5,
                  then=Scene("2026-01-06T20:00:00+00:00", 4), number=7)  # fmt: skip
    write_scene(tmp_path / "scene.json", scene)
    found = read_scene(tmp_path / "scene.json")
    assert found.then == scene.then and found.clock == scene.clock
    assert (found.day, found.kill_after_s, found.number) == (3, 0.5, 7)
    assert tuple(found.faults["a"]) == ("hang", 1)


def a_state():
    """What `state_of` says of a home of one day and two feeds."""
    reads = [{"day": "2026-01-06", "feed": feed, "status": "ok"} for feed in ("north", "south")]
    ingest = {"day": "2026-01-06", "stage": "ingest",
              "detail": {"n_new": 3, "n_alive": 2, "failures": []}}  # fmt: skip
    return {
        "rows of feed_reads": [repr(read) for read in reads],
        "rows of stage_runs": [repr(ingest)],
        "file reports/live/2026-01-06/report.json": {
            "news": {"n_new": 3, "n_alive": 2, "failures": []},
            "feeds": reads,
            "to_do": [
                {"command": "varro feeds health", "text": f"Feed {feed} has failed 3 times"}
                for feed in ("north", "south")
            ],
        },
    }


def test_only_what_a_feed_without_news_may_change_is_forgiven():
    """Catches a comparison from which more is taken out than was said, or less."""
    state = a_state()
    assert forgive(state, [["2026-01-06", "south"]]) == 1
    assert state == {
        "rows of feed_reads": [a_state()["rows of feed_reads"][0]],
        "rows of stage_runs": [
            repr({"day": "2026-01-06", "stage": "ingest", "detail": {"n_new": 3}})
        ],
        "file reports/live/2026-01-06/report.json": {
            "news": {"n_new": 3},
            "feeds": [{"day": "2026-01-06", "feed": "north", "status": "ok"}],
            "to_do": [{"command": "varro feeds health", "text": "Feed north has failed 3 times"}],
        },
    }
    untouched = a_state()
    assert forgive(untouched, []) == 0 and untouched == a_state()


def grown(*, rss=(), fds=None, n_processes_left=0):
    samples = [
        {"rss_mb": mb, "n_descriptors": (fds or [9] * len(rss))[n], "n_threads": 3}
        for n, mb in enumerate(rss)
    ]
    return growth(Soaked(Path(), {"samples": samples}, n_processes_left))["is_flat"]


def test_growth_is_told_from_warming_up():
    """Catches a service that leaks a descriptor a day or some memory a night, and an alarm for what
    it loads on its first day."""
    draw = random.Random(0)
    noise = [50 + draw.random() for _ in range(40)]
    assert grown(rss=[30, 31, *noise])
    assert not grown(rss=[50 + 0.2 * n for n in range(40)])
    assert not grown(rss=noise, fds=[9 + n // 10 for n in range(40)])
    assert not grown(rss=noise, n_processes_left=1)


@pytest.mark.skipif(not Path("/proc").exists(), reason="NOT TESTED: no /proc to look through")
def test_a_process_that_is_left_behind_is_found():
    """Catches a count that is 0 whatever there is."""
    environment = os.environ | {TOKEN: "of a test"}
    with subprocess.Popen(["sleep", "60"], env=environment) as process:
        assert n_left("of a test", wait_s=0) == 1
        process.kill()
    assert n_left("of a test", wait_s=0) == 0


def soaked(*arguments, timeout):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--json", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["differences"] == [], json.dumps(found, indent=1)
    assert done.returncode == 0, json.dumps(found["services"], indent=1)
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_real_days_end_alike_in_quiet_and_in_trouble(shared_data, capsys):
    """Catches what only months show: a kill, a dead feed or a clock that leaves a trace in the
    ledger, and a service that grows."""
    archive = shared_data("replay/finance-2025-04-18--2025-06-30.jsonl.gz")
    found = soaked("--archive", archive, timeout=3500)
    assert found["n_days"] == 74 and found["n_updates"] > 25
    assert found["troubles"]["kills"] > 20 and found["feed_days_down"] > 40
    # When a process is killed hangs on the machine: most stages are hit, whichever.
    assert len(found["killed_in"].keys() & {*Stage}) >= 3
    with capsys.disabled():
        print({key: found[key] for key in ("n_rows", "troubles", "killed_in", "services")})
