"""`varro feeds`: the list changed, a feed tried out, a folder parsed, health told."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import ledger_at, ledger_settings
from typer.testing import CliRunner

from varro.cli import app
from varro.domain import FeedRead, RunInfo, Stage, StageRun
from varro.errors import ConfigError, FeedError
from varro.ledger.store import open_ledger
from varro.news.opml import load_opml
from varro.service.feeds import try_feed, try_folder

RSS = (
    "<rss version='2.0'><channel><item><title>Rates rise</title></item><item><title>Sport: a final"
    "</title></item><item><description>x</description></item></channel></rss>"
)


@pytest.fixture
def feeds(tmp_path: Path, configured):
    """Runs `varro feeds …` over a list of two feeds; gives what it printed."""
    path = tmp_path / "feeds.opml"
    path.write_text(
        "<opml><body><outline text='world'><outline text='One' xmlUrl='https://a.org/1'/></outline>"
        "<outline text='Two' xmlUrl='https://a.org/2'/></body></opml>"
    )
    settings = (
        f"news.feeds={json.dumps(str(path))}",
        "news.allow_private=true",
        *ledger_settings(tmp_path / "home"),
    )
    options = [word for setting in settings for word in ("--set", setting)]

    def run(verb: str, *arguments: str) -> str:
        done = CliRunner().invoke(app, ["feeds", verb, *options, *arguments])
        if done.exception is not None:
            raise done.exception
        run.errors = done.stderr
        return done.stdout

    run.path = path
    run.home = tmp_path / "home"
    return run


def test_the_list_is_shown_and_changed(feeds, tmp_path: Path) -> None:
    """A verb that edits another file than the one that the day reads."""
    assert json.loads(feeds("list", "--json"))["feeds"] == [
        {"name": "One", "url": "https://a.org/1", "category": "world"},
        {"name": "Two", "url": "https://a.org/2", "category": ""},
    ]
    assert "added: Three" in feeds("add", "https://b.org/", "--name", "Three", "--category", "x")
    assert "already" in feeds("add", "https://b.org/")
    assert "removed: One" in feeds("remove", "One")
    assert [f.name for f in load_opml(feeds.path)] == ["Two", "Three"]
    out = tmp_path / "out.opml"
    assert "2 feeds written" in feeds("export", str(out))
    assert load_opml(out) == load_opml(feeds.path)
    assert feeds("export").encode() == out.read_bytes()
    feeds("remove", "Three")
    assert "1 of 2 feeds added" in feeds("import", str(out))
    assert [f.name for f in load_opml(feeds.path)] == ["Two", "Three"]
    assert feeds("list").split() == ["Two", "https://a.org/2", "x", "Three", "https://b.org/"]


def test_another_readers_list_is_taken_as_far_as_it_can_be_read(feeds, tmp_path) -> None:
    """Catches an import that ends at the first outline it can not read, or at a name that is
    taken, with nothing added; and one that leaves feeds out in silence."""
    other = tmp_path / "other.opml"
    other.write_text(
        """<opml><body>
        <outline type="rss" text="Local" xmlUrl="feed://c.org/rss"/>
        <outline type="rss" text="One" xmlUrl="https://d.org/rss"/>
        <outline type="rss" text="Two again" xmlUrl="https://a.org/2"/>
        </body></opml>"""
    )
    assert f"1 of 3 feeds added to {feeds.path}, 1 on it already" in feeds("import", str(other))
    assert "left out: " in feeds.errors and "'Local' needs an http or https" in feeds.errors
    assert [f.name for f in load_opml(feeds.path)] == ["One", "Two", "One (2)"]
    other.write_text('<opml><body><outline type="rss" xmlUrl="file:///etc/x"/></body></opml>')
    with pytest.raises(FeedError, match="needs an http or https xmlUrl"):
        feeds("import", str(other))


def test_no_verb_shows_the_query_of_an_address_and_the_list_keeps_it(feeds, tmp_path) -> None:
    """A feed's key on a screen that is shared, in a log, or as the name of its feed: and a list
    from which it is gone."""
    url = "http://127.0.0.1:1?key=SECRET"
    said = [feeds("add", url), feeds("list"), feeds("list", "--json")]
    assert "added: 127.0.0.1:1, http://127.0.0.1:1?…" in said[0]
    assert load_opml(feeds.path)[-1].url == url
    assert url in feeds("export")
    said += [feeds("health", *home) for home in [("--home", str(feeds.home), "--json")]]
    for verb, what in (("test", url), ("add", "a.org?key=SECRET"), ("remove", f"{url}2")):
        with pytest.raises(FeedError) as caught:
            feeds(verb, what)
        said.append(str(caught.value))
    said.append(feeds("remove", url))
    broken = tmp_path / "broken.opml"
    broken.write_text("<opml><body><outline xmlUrl='a.org/?key=SECRET'/></body></opml>")
    with pytest.raises(
        FeedError, match=r"needs an http or https xmlUrl, found 'a\.org/\?…"
    ) as caught:
        load_opml(broken)
    said.append(str(caught.value))
    assert not [text for text in said if "SECRET" in text]


def test_without_a_list_the_way_out_is_named() -> None:
    """A list edited that no day reads."""
    done = CliRunner().invoke(app, ["feeds", "list"])
    assert isinstance(done.exception, ConfigError)
    assert "news.feeds names no list" in str(done.exception)


def test_a_feed_is_tried_as_a_day_would_read_it(feeds, loopback) -> None:
    """A trial by other rules than the day's: a feed that works here and fails at night."""

    def answer(handler) -> None:
        found = handler.path == "/rss"
        handler.send_response(200 if found else 404)
        handler.end_headers()
        handler.wfile.write(RSS.encode() if found else b"")

    address = loopback(answer)
    rules = 'news.rules=[{exclude=["^sport"]}]'
    facts = json.loads(feeds("test", f"{address}/rss", "--json", "--set", rules))
    assert facts["titles"] == ["Rates rise"]
    assert (facts["entries"], facts["untitled"], facts["http_status"]) == (2, 1, 200)
    assert facts["left_out"] == {"excluded": 1}
    assert "Sport: a final" in feeds("test", f"{address}/rss")
    facts = json.loads(
        feeds("test", f"{address}/rss", "--json", "--set", "news.max_new_per_feed=1")
    )
    assert (facts["titles"], facts["left_out"]) == (["Rates rise"], {"too many of a feed": 1})
    with pytest.raises(FeedError, match="HTTP status 404") as caught:
        feeds("test", f"{address}/gone")
    assert caught.value.exit_code == 4
    with pytest.raises(FeedError, match="loopback"):
        feeds("test", f"{address}/rss", "--set", "news.allow_private=false")
    with pytest.raises(ConfigError, match="either the address"):
        feeds("test")


def test_a_trial_leaves_out_the_topics_that_a_day_would(configured, loopback, embedder) -> None:
    """A feed that looks full when it is tried, and of which no day takes anything."""
    address = loopback(
        lambda handler: handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + RSS.encode())
    )
    config = configured("news.allow_private=true", 'news.topics=["sport"]')
    facts = try_feed(config, address, as_of=datetime.now(UTC), load=lambda _: embedder)
    assert facts["titles"] == ["Sport: a final"]
    assert facts["left_out"] == {"topic economy": 1}


def test_every_file_of_a_folder_is_told_and_none_can_hang(feeds, tmp_path: Path) -> None:
    """A corpus run that stops at its worst file, or leaves some out in silence."""
    folder = tmp_path / "bodies"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "good.xml").write_text(RSS)
    (folder / "empty.xml").write_text(
        "<rss version='2.0'><channel><title>t</title></channel></rss>"
    )
    (folder / "page.html").write_text("<html><body>no</body></html>")
    (folder / "attributes.xml").write_text(
        "<rss><item><x " + " ".join(f"a{i}" for i in range(100_000)) + "/></item></rss>"
    )
    (folder / "large.xml").write_bytes(b"x" * 1_000_001)
    (folder / "nothing").write_bytes(b"")
    started = time.monotonic()
    told = json.loads(feeds("test", "--dir", str(folder), "--json", "--set", "news.max_feed_mb=1"))[
        "feeds"
    ]
    assert time.monotonic() - started < 30
    assert [set(one) for one in told] == [{"path", "status", "reason", "entries", "titles"}] * 6
    found = {one["path"]: one for one in told}
    assert list(found) == sorted(found)
    assert found["b/good.xml"]["titles"] == ["Rates rise", "Sport: a final"]
    assert found["b/good.xml"]["entries"] == 3
    statuses = {path: one["status"] for path, one in found.items()}
    del statuses["attributes.xml"]  # a fast machine may get through it in time
    assert statuses == {
        "b/good.xml": "ok",
        "empty.xml": "empty",
        "page.html": "failed",
        "large.xml": "failed",
        "nothing": "failed",
    }
    assert all(bool(one["reason"]) == (one["status"] != "ok") for one in told)
    with pytest.raises(FeedError, match="is no folder"):
        try_folder(folder / "page.html", max_bytes=1)


def test_health_tells_of_each_feed_what_the_ledger_knows(feeds, tmp_path: Path) -> None:
    """A feed that has been dead for a month and looks like one that is quiet; one that was never
    read left out."""
    home = ("--home", str(feeds.home))
    assert {f["status"] for f in json.loads(feeds("health", "--json", *home))["feeds"]} == {
        "unread"
    }
    now = datetime.now(UTC)
    with open_ledger(ledger_at(feeds.home)) as ledger:
        ledger.add_run(RunInfo("main", 0, "live", "h", {}, "0"))
        for age, status in ((3, "ok"), (2, "failed"), (1, "failed")):
            as_of = now - timedelta(days=age)
            day = f"{as_of:%Y-%m-%d}"
            read = FeedRead(
                run="main", day=day, url="https://a.org/1", as_of=as_of, feed="One", status=status,
                reason="" if status == "ok" else "HTTP status 404", http_status=200, etag="",
                last_modified="", body_sha256="", n_entries=9, n_untitled=0,
                n_new=4 if status == "ok" else 0, n_failures=3 - age, next_at=None,
                moved_to="https://new.org/?key=x" if age == 1 else None, seconds=0.5,
            )  # fmt: skip
            stage = StageRun("main", day, Stage.INGEST, as_of, 1.0, {})
            ledger.finish_stage(stage, feed_reads=[read])
    told = json.loads(feeds("health", "--json", *home))
    assert told["counts"] == {"healthy": 0, "failing": 1, "suspended": 0, "unread": 1}
    one, two = told["feeds"]
    assert (one["standing"], two["standing"]) == ("failing", "unread")
    assert (one["status"], one["n_failures"], one["n_entries"]) == ("failed", 2, 9)
    assert one["reason"] == "HTTP status 404"
    assert one["moved_to"] == "https://new.org/?…"
    assert one["days_since_good"] == pytest.approx(3, abs=0.01)
    assert two["status"] == "unread"
    lines = feeds("health", *home).splitlines()
    assert "HTTP status 404; moved to https://new.org/" in lines[1]
    assert lines[2].startswith("unread")
    assert lines[3] == "0 healthy, 1 failing, 0 suspended, 1 unread"
