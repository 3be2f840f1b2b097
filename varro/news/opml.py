"""The list of feeds: an OPML file, nested outlines being categories."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from varro.errors import FeedError
from varro.news.clean import clean_link, clean_title, shown_address

NO_LOGIN = (
    "an address with a user name or password in it is refused: neither would be sent, and both "
    "would stand in logs and reports"
)


@dataclass(frozen=True, slots=True)
class Feed:
    """One feed to read each day."""

    name: str
    """unique within the list"""
    url: str
    category: str
    """names of the outlines around it, joined by `/`; "" at the top"""


class _NoDoctype(ET.TreeBuilder):
    """Stops at a DOCTYPE, before any entity can be declared: no bombs, no outside files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("a DOCTYPE is refused: it could declare entities; remove it")


def load_opml(path: Path) -> tuple[Feed, ...]:
    """The feeds of an OPML file in its order; a url that stands twice is kept once.

    Raises: FeedError naming the file and the reason, and the outline if one is wrong.
    """
    feeds = feeds_in(parse_opml(path), path)
    if not feeds:
        raise FeedError(f"{path}: lists no feed; add one with 'varro feeds add https://…'")
    return feeds


def foreign_feeds(path: Path) -> tuple[tuple[Feed, ...], list[str]]:
    """The feeds of another reader's OPML file that this one can read, and what is wrong with each
    of the others.

    Raises: FeedError naming the file and the reason if there is no feed to be read in it.
    """
    wrong: list[str] = []
    feeds = feeds_in(parse_opml(path), path, wrong=wrong)
    if not feeds:
        raise FeedError(wrong[0] if wrong else f"{path}: lists no feed")
    return feeds, wrong


def feeds_in(root: ET.Element, path: Path, *, wrong: list[str] | None = None) -> tuple[Feed, ...]:
    """The feeds of a file's tree, which may list none. What is wrong with an outline is added to
    `wrong`.

    Raises: FeedError for the first wrong outline, unless `wrong` is given.
    """
    feeds: dict[str, Feed] = {}
    names: set[str] = set()
    for outline, category in _outlines(root):
        url = attribute(outline, "xmlUrl")
        label = clean_title(attribute(outline, "title") or attribute(outline, "text"))
        link = clean_link(url)
        if fault := _fault(url, link):
            fault = f"{path}: outline {label or '(no name)'!r}{fault}"
            if wrong is None:
                raise FeedError(fault)
            wrong.append(fault)
        elif link not in feeds:
            name = unique_name(label or urlsplit(link).hostname or link, names)
            names.add(name)
            feeds[link] = Feed(name=name, url=link, category=category)
    return tuple(feeds.values())


def _fault(url: str, link: str) -> str:
    if not link:
        return f" needs an http or https xmlUrl, found {shown_address(url)!r}"
    return f": {NO_LOGIN}" if holds_login(link) else ""


def holds_login(link: str) -> bool:
    """Whether a clean link names a user before its host, as in https://user:password@host/."""
    return "@" in urlsplit(link).netloc


def parse_opml(path: Path) -> ET.Element:
    """The tree of an OPML file, its comments included.

    Raises: FeedError naming the file and the reason.
    """
    try:
        body = path.read_bytes()
    except FileNotFoundError as error:
        raise FeedError(f"no feed list at {path}; set news.feeds to an OPML file") from error
    except OSError as error:
        raise FeedError(
            f"cannot read feed list {path}: {error.strerror}; set news.feeds to an OPML file"
        ) from error
    builder = _NoDoctype(insert_comments=True)
    try:
        root: ET.Element = ET.fromstring(body, parser=ET.XMLParser(target=builder))
    except (ET.ParseError, ValueError, LookupError) as error:
        raise FeedError(f"{path}: not OPML that can be read: {error}") from error
    if root.tag.lower() != "opml":
        raise FeedError(f"{path}: expected <opml>, found <{root.tag}>")
    return root


def _outlines(root: ET.Element) -> Iterator[tuple[ET.Element, str]]:
    """The outlines that are feeds, in order, each with its category."""
    # A stack, not recursion: a file may nest deeper than Python calls.
    stack = [(child, "") for child in reversed(root)]
    while stack:
        element, category = stack.pop()
        is_outline = element.tag == "outline"
        is_feed = attribute(element, "type").lower() in ("rss", "atom")
        if is_outline and (is_feed or attribute(element, "xmlUrl")):
            yield element, category
        elif is_outline:
            name = clean_title(attribute(element, "title") or attribute(element, "text"))
            category = "/".join(part for part in (category, name) if part)
        stack += [(child, category) for child in reversed(element)]


def attribute(element: ET.Element, name: str) -> str:
    """An attribute's value, whatever the case of its name; "" if there is none."""
    for key, value in element.attrib.items():
        if key.lower() == name.lower():
            return value.strip()
    return ""


def unique_name(name: str, taken: set[str]) -> str:
    """The name, numbered if another feed has it."""
    candidate, n = name, 1
    while candidate in taken:
        n += 1
        candidate = f"{name} ({n})"
    return candidate
