"""The list of feeds changed in place: an OPML file, whose other content stays as it is."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from varro.errors import FeedError
from varro.files import write_file
from varro.news.clean import clean_link, clean_title, shown_address
from varro.news.opml import (
    NO_LOGIN,
    Feed,
    attribute,
    feeds_in,
    holds_login,
    load_opml,
    parse_opml,
    unique_name,
)

_TITLE = "Varro: the feeds it reads each day"


def add_feeds(path: Path, feeds: Iterable[Feed], *, rename: bool = False) -> list[Feed]:
    """Add the feeds whose url is not on the list yet, each under its category; the list is made if
    there is none. Returns those added.

    Raises: FeedError if the file is no list, or a name stands for another feed and `rename`, which
    numbers it, is off.
    """
    root = parse_opml(path) if path.exists() else _empty()
    known = feeds_in(root, path)
    urls, names = {feed.url for feed in known}, {feed.name for feed in known}
    added = []
    for feed in feeds:
        if feed.url in urls:
            continue
        if rename:
            feed = replace(feed, name=unique_name(feed.name, names))
        if feed.name in names:
            raise FeedError(
                f"{path} has another feed called {feed.name!r}; a feed's name is part of what its "
                "headlines are known by, so give another one"
            )
        ET.SubElement(_folder(root, feed.category), "outline", _outline_of(feed))
        urls.add(feed.url)
        names.add(feed.name)
        added.append(feed)
    if added:
        _write(path, root)
    return added


def new_feed(url: str, *, name: str = "", category: str = "") -> Feed:
    """A feed as a person names it; called after its host if it has no name.

    Raises: FeedError if the url is not one of the web, or holds a password.
    """
    link = clean_link(url)
    if not link:
        raise FeedError(f"{shown_address(url)!r} is not an http or https address")
    if holds_login(link):
        raise FeedError(NO_LOGIN)
    parts = [clean_title(part) for part in category.split("/")]
    return Feed(
        name=clean_title(name) or urlsplit(link).netloc,
        url=link,
        category="/".join(part for part in parts if part),
    )


def remove_feed(path: Path, which: str) -> Feed:
    """Take the feed of that name or url off the list.

    Raises: FeedError if there is none, or no other one.
    """
    known = load_opml(path)
    found = next((f for f in known if which.strip() in (f.name, f.url)), None)
    if found is None:
        shown = shown_address(which) if "://" in which else which[:200]
        raise FeedError(f"{path} has no feed {shown!r}; see 'varro feeds list'")
    if len(known) == 1:
        raise FeedError(f"{found.name!r} is the last feed of {path}; add another one first")
    root = parse_opml(path)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == "outline" and clean_link(attribute(child, "xmlUrl")) == found.url:
                parent.remove(child)
    _write(path, root)
    return found


def render_opml(feeds: Sequence[Feed]) -> bytes:
    """The feeds as an OPML file of their own."""
    root = _empty()
    for feed in feeds:
        ET.SubElement(_folder(root, feed.category), "outline", _outline_of(feed))
    return _serialized(root)


def _empty() -> ET.Element:
    root = ET.Element("opml", version="2.0")
    ET.SubElement(ET.SubElement(root, "head"), "title").text = _TITLE
    ET.SubElement(root, "body")
    return root


def _outline_of(feed: Feed) -> dict[str, str]:
    return {"type": "rss", "text": feed.name, "xmlUrl": feed.url}


def _folder(root: ET.Element, category: str) -> ET.Element:
    """The outline of a category, made with those around it where it is missing."""
    body = root.find("body")
    folder = ET.SubElement(root, "body") if body is None else body
    for name in filter(None, category.split("/")):
        known = (
            child
            for child in folder
            if child.tag == "outline"
            and not attribute(child, "xmlUrl")
            and clean_title(attribute(child, "title") or attribute(child, "text")) == name
        )
        inner = next(known, None)
        folder = ET.SubElement(folder, "outline", text=name) if inner is None else inner
    return folder


def _write(path: Path, root: ET.Element) -> None:
    try:
        write_file(path, _serialized(root))
    except OSError as error:
        raise FeedError(f"cannot write the feed list {path}: {error.strerror}") from error


def _serialized(root: ET.Element) -> bytes:
    ET.indent(root)
    body: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return body + b"\n"
