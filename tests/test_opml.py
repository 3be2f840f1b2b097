"""The list of feeds is a file people edit: what is wrong with it is said with its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from varro.errors import FeedError
from varro.news.opml import Feed, load_opml


def opml(folder: Path, body: str, *, before: str = "") -> Path:
    path = folder / "feeds.opml"
    path.write_text(f"{before}<opml version='2.0'><body>{body}</body></opml>", encoding="utf-8")
    return path


def test_nested_outlines_are_categories(tmp_path: Path) -> None:
    """A feed filed under its neighbour's category, or the order of the file lost."""
    path = opml(
        tmp_path,
        "<outline text='top' xmlUrl='https://a.org/0'/>"
        "<outline text='world'><outline text='asia'>"
        "<outline text='one' xmlUrl='https://a.org/1'/></outline>"
        "<outline title='two' text='ignored' xmlUrl='https://a.org/2'/></outline>"
        "<outline text='last' XMLURL='http://a.org/3'/>",
    )
    assert load_opml(path) == (
        Feed("top", "https://a.org/0", ""),
        Feed("one", "https://a.org/1", "world/asia"),
        Feed("two", "https://a.org/2", "world"),
        Feed("last", "http://a.org/3", ""),
    )


def test_an_address_twice_is_one_feed_and_names_are_unique(tmp_path: Path) -> None:
    """A feed fetched twice a day; two feeds that share a name share headline identities."""
    path = opml(
        tmp_path,
        "<outline text='News' xmlUrl='https://a.org/1'/>"
        "<outline text='Again' xmlUrl='https://a.org/1'/>"
        "<outline text='News' xmlUrl='https://a.org/2'/>"
        "<outline text='News (2)' xmlUrl='https://a.org/3'/>"
        "<outline xmlUrl='https://a.org/4'/>",
    )
    assert [(feed.name, feed.url[-1]) for feed in load_opml(path)] == [
        ("News", "1"),
        ("News (2)", "2"),
        ("News (2) (2)", "3"),
        ("a.org", "4"),
    ]


@pytest.mark.parametrize(
    "doctype",
    [
        "<!DOCTYPE opml [<!ENTITY a 'x'>]>",
        "<!DOCTYPE opml SYSTEM 'http://127.0.0.1:9/evil.dtd'>",
        "<?xml version='1.0'?><!DOCTYPE opml [<!ENTITY x SYSTEM 'file:///etc/hostname'>]>",
    ],
)
def test_a_doctype_is_refused_before_any_entity(tmp_path: Path, doctype: str) -> None:
    """An entity bomb, or a local file read into a feed's name."""
    path = opml(tmp_path, "<outline text='a' xmlUrl='https://a.org/1'/>", before=doctype)
    with pytest.raises(FeedError, match="DOCTYPE is refused"):
        load_opml(path)


@pytest.mark.parametrize("url", ["ftp://a.org/x", "file:///etc/hostname", "a.org/rss", "http://"])
def test_a_feed_that_is_not_on_the_web_is_an_error_naming_its_outline(
    tmp_path: Path, url: str
) -> None:
    """A file:// feed read from the disk, or a typo that drops a feed in silence."""
    path = opml(tmp_path, f"<outline text='Odd one' xmlUrl='{url}'/>")
    with pytest.raises(FeedError) as caught:
        load_opml(path)
    assert str(path) in str(caught.value)
    assert "'Odd one'" in str(caught.value)
    assert repr(url) in str(caught.value)


@pytest.mark.parametrize("login", ["me:hunter2", "me", "hunter2%40x:", ""])
def test_a_password_in_an_address_is_refused_and_not_repeated(tmp_path: Path, login: str) -> None:
    """A password that is never sent, and stands in the ledger, the logs and each day's report."""
    path = opml(tmp_path, f"<outline text='Mine' xmlUrl='https://{login}@a.org/x'/>")
    with pytest.raises(FeedError, match="'Mine': an address with a user name or pass") as caught:
        load_opml(path)
    assert "hunter2" not in str(caught.value)
    # Further on it is nobody's name.
    at = opml(tmp_path, "<outline text='Mine' xmlUrl='https://a.org/@me/feed?x=a@b'/>")
    assert load_opml(at)[0].url == "https://a.org/@me/feed?x=a@b"


def test_an_rss_outline_without_an_address_is_an_error(tmp_path: Path) -> None:
    """A feed whose attribute is misspelt is taken for an empty category."""
    with pytest.raises(FeedError, match="'News' needs an http or https xmlUrl"):
        load_opml(opml(tmp_path, "<outline type='rss' text='News' url='https://a.org/1'/>"))


def test_a_file_that_is_not_opml_is_an_error_naming_it(tmp_path: Path) -> None:
    """A traceback from the XML parser instead of one line with the path."""
    cases = {
        "": "no element found",
        "<opml><body>": "no element found",
        "<rss/>": "expected <opml>, found <rss>",
        "<opml><body><outline text='empty'/></body></opml>": "lists no feed",
        "<?xml version='1.0' encoding='nonesuch'?><opml/>": "not OPML",
    }
    path = tmp_path / "x.opml"
    for text, reason in cases.items():
        path.write_text(text, encoding="utf-8")
        with pytest.raises(FeedError, match=reason) as caught:
            load_opml(path)
        assert str(path) in str(caught.value)
    for missing in (tmp_path / "absent.opml", tmp_path):
        with pytest.raises(FeedError, match=r"set news\.feeds"):
            load_opml(missing)


def test_deep_nesting_is_read_without_recursion(tmp_path: Path) -> None:
    """RecursionError on a file that nests more outlines than Python nests calls."""
    depth = 3000
    inner = "<outline text='deep' xmlUrl='https://a.org/1'/>"
    path = opml(tmp_path, "<outline>" * depth + inner + "</outline>" * depth)
    assert load_opml(path) == (Feed("deep", "https://a.org/1", ""),)


def test_the_feeds_that_ship_load_and_cover_the_world() -> None:
    """A typo in the shipped list; a feed that stands in it twice is kept once, and not missed."""
    path = Path(__file__).resolve().parents[1] / "configs" / "feeds.opml"
    feeds = load_opml(path)
    assert len(feeds) >= 25
    assert len(feeds) == path.read_text(encoding="utf-8").count("xmlUrl=")
    assert len({feed.name for feed in feeds}) == len(feeds)
    assert not any(feed.name.endswith(")") for feed in feeds), "two feeds of one name"
    by_category: dict[str, list[Feed]] = {}
    for feed in feeds:
        by_category.setdefault(feed.category.split("/")[0], []).append(feed)
    assert by_category.keys() >= {"economics", "politics", "science", "technology", "world"}
    assert all(len(listed) >= 3 for listed in by_category.values())
    regions = {feed.category for feed in feeds if feed.category.startswith("world/")}
    assert len(regions) >= 5
    assert all(feed.url.startswith("https://") for feed in feeds)
