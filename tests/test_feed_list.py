"""The list of feeds is a file people edit: what a command changes in it is one outline."""

from __future__ import annotations

from pathlib import Path

import pytest

from varro.errors import FeedError
from varro.news.feed_list import add_feeds, new_feed, remove_feed, render_opml
from varro.news.opml import Feed, load_opml

LIST = """<opml version="2.0">
  <head><title>mine</title><!-- kept by hand --></head>
  <body>
    <outline text="world" isOpen="true">
      <!-- the best of them -->
      <outline type="rss" text="One" xmlUrl="https://a.org/1" htmlUrl="https://a.org/"/>
    </outline>
    <outline text="Two" xmlUrl="https://a.org/2"/>
  </body>
</opml>
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "feeds.opml"
    path.write_text(LIST, encoding="utf-8")
    return path


def test_a_feed_is_added_under_its_category_and_all_else_stays(path: Path) -> None:
    """A list written anew without its comments, its order or what other readers keep in it."""
    three = new_feed(" https://b.org/rss ", name="Thr<b>ee</b> & more", category="world/asia/")
    four = new_feed("https://c.org/rss", category="sport")
    assert add_feeds(path, [three]) == [Feed("Three & more", "https://b.org/rss", "world/asia")]
    assert add_feeds(path, [four]) == [Feed("c.org", "https://c.org/rss", "sport")]
    assert load_opml(path) == (
        Feed("One", "https://a.org/1", "world"),
        Feed("Three & more", "https://b.org/rss", "world/asia"),
        Feed("Two", "https://a.org/2", ""),
        Feed("c.org", "https://c.org/rss", "sport"),
    )
    text = path.read_text(encoding="utf-8")
    for kept in ("<!-- kept by hand -->", "<!-- the best of them -->", 'htmlUrl="https://a.org/"',
                 'isOpen="true"', "<title>mine</title>"):  # fmt: skip
        assert kept in text, kept
    assert text.count("<outline") == 7


def test_a_feed_that_is_on_the_list_is_not_added_again(path: Path) -> None:
    """A feed read twice a day under two names; a file rewritten for nothing."""
    before = path.read_bytes()
    assert add_feeds(path, [new_feed("https://a.org/1", name="Uno")]) == []
    assert path.read_bytes() == before


def test_two_feeds_of_one_name_are_refused(path: Path) -> None:
    """Two feeds whose headlines have one identity, or a name that changes when the other goes."""
    before = path.read_bytes()
    with pytest.raises(FeedError, match="another feed called 'One'"):
        add_feeds(path, [new_feed("https://d.org/", name="One")])
    assert path.read_bytes() == before


@pytest.mark.parametrize("which", ["One", "https://a.org/1"])
def test_a_feed_is_removed_by_name_or_address(path: Path, which: str) -> None:
    """The wrong feed removed, or its neighbours with it."""
    assert remove_feed(path, which) == Feed("One", "https://a.org/1", "world")
    assert load_opml(path) == (Feed("Two", "https://a.org/2", ""),)
    assert "<!-- kept by hand -->" in path.read_text(encoding="utf-8")
    with pytest.raises(FeedError, match="'Two' is the last feed"):
        remove_feed(path, "Two")
    with pytest.raises(FeedError, match="has no feed 'Nine'"):
        remove_feed(path, "Nine")


def test_a_list_that_is_not_there_is_made(tmp_path: Path) -> None:
    """The first feed cannot be added."""
    path = tmp_path / "new" / "feeds.opml"
    feeds = [new_feed("https://a.org/1", category="x"), new_feed("https://b.org/1", category="x")]
    add_feeds(path, feeds)
    assert load_opml(path) == tuple(feeds)
    assert path.read_text(encoding="utf-8").count('text="x"') == 1


def test_the_first_feed_is_added_to_a_list_without_one(tmp_path: Path) -> None:
    """A list that another reader has emptied can be filled by an editor only."""
    path = tmp_path / "feeds.opml"
    path.write_text("<opml><head><title>Mine</title></head><body></body></opml>", encoding="utf-8")
    with pytest.raises(FeedError, match="lists no feed"):
        load_opml(path)
    feed = new_feed("https://a.org/1")
    assert add_feeds(path, [feed]) == [feed]
    assert load_opml(path) == (feed,)
    assert "<title>Mine</title>" in path.read_text(encoding="utf-8")


def test_what_is_exported_is_what_is_imported(path: Path, tmp_path: Path) -> None:
    """A category or a special character lost between two readers."""
    feeds = (*load_opml(path), Feed('a "quote" & <é>', "https://e.org/?a=1&b=2", "x/y & z"))
    other = tmp_path / "other.opml"
    other.write_bytes(render_opml(feeds))
    assert set(load_opml(other)) == set(feeds)
    assert add_feeds(path, load_opml(other)) == [feeds[-1]]
    assert set(load_opml(path)) == set(feeds)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "a.org/rss", "", "ftp://a.org/"])
def test_only_feeds_of_the_web_are_added(url: str) -> None:
    """A local file on the list."""
    with pytest.raises(FeedError, match="is not an http or https address"):
        new_feed(url)


def test_no_password_is_put_on_the_list() -> None:
    """A feed that is called after its password."""
    with pytest.raises(FeedError, match="a user name or password") as caught:
        new_feed("https://me:hunter2@a.org/")
    assert "hunter2" not in str(caught.value)


def test_a_damaged_list_is_left_as_it_is(path: Path) -> None:
    """A list with one typing error replaced by a new one with one feed."""
    path.write_text(LIST.replace("</body>", ""), encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(FeedError, match="not OPML"):
        add_feeds(path, [new_feed("https://d.org/")])
    assert path.read_bytes() == before
