"""Feed bodies to entries: RSS, RDF and Atom, well formed or not."""

from __future__ import annotations

import calendar
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from varro.errors import FeedError
from varro.news.clean import clean_label, clean_link, clean_title
from varro.news.times import is_plausible

MAX_ATTRIBUTES = 128
"""of one element: the parser's time grows with their square, and real feeds have under 30"""

_MANY_ATTRIBUTES = re.compile(
    rb"<[^\s<>/!?\"'=]+(?:\s+[^\s=<>\"'/]+\s*+=\s*+(?:\"[^\"<]*\"|'[^'<]*')){%d}+"
    % (MAX_ATTRIBUTES + 1)
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of a feed that has a title."""

    guid: str
    """what the feed says, may be empty"""
    title: str
    """clean"""
    link: str
    """http or https, or empty"""
    published: datetime | None


@dataclass(frozen=True, slots=True)
class ParsedFeed:
    """What a feed body holds."""

    entries: tuple[Entry, ...]
    n_untitled: int
    """items left out because no clean title remains"""


def parse_feed(body: bytes, headers: Mapping[str, str]) -> ParsedFeed:
    """The titled entries of a feed body, in its order.

    `headers` are those of the response: content-type decides the encoding together with the XML
    declaration, content-location resolves relative links.

    Raises: FeedError if the body is not a feed or cannot be read.
    """
    import feedparser

    # NULs out, so that UTF-16 and UTF-32 read the same.
    if _MANY_ATTRIBUTES.search(body.replace(b"\0", b"")):
        raise FeedError(f"an element has more than {MAX_ATTRIBUTES} attributes; refused")
    known = {name.lower(): value for name, value in headers.items()}
    # Without it feedparser assumes ISO 8859-1, and most feeds without a declaration are UTF-8.
    known.setdefault("content-type", "application/xml")
    try:
        # BytesIO, because feedparser takes bare bytes or text for a file name or an address first.
        parsed = feedparser.parse(
            io.BytesIO(body),
            response_headers=known,
            resolve_relative_uris=False,
            sanitize_html=False,
        )
        entries = [_entry_of(item) for item in parsed["entries"]]
        version = parsed.get("version", "")
    # feedparser promises no exception and keeps no list of those it lets through.
    except Exception as error:
        raise FeedError(f"feed cannot be parsed: {type(error).__name__}: {error}"[:300]) from error
    if not version and not entries:
        raise FeedError(f"not a feed: {_glimpse(body)}")
    titled = tuple(entry for entry in entries if entry.title)
    return ParsedFeed(entries=titled, n_untitled=len(entries) - len(titled))


def _entry_of(item: Mapping[str, Any]) -> Entry:
    # Membership first: asking feedparser for an `updated` it lacks warns and answers `published`.
    date = "published_parsed" if "published_parsed" in item else "updated_parsed"
    return Entry(
        guid=clean_label(str(item.get("id") or "")),
        title=clean_title(str(item.get("title") or "")),
        link=clean_link(str(item.get("link") or "")),
        published=_time_of(item.get(date)),
    )


def _time_of(parts: Any) -> datetime | None:
    """UTC time of a struct_time; None if there is none or it is impossible."""
    if not parts:
        return None
    try:
        time = _EPOCH + timedelta(seconds=calendar.timegm(parts))
    except (ValueError, OverflowError, TypeError):
        return None
    return time if is_plausible(time) else None


def _glimpse(body: bytes) -> str:
    start = clean_label(body[:400].decode("utf-8", "replace"))[:80]
    return f"it starts with {start!r}" if start else "the body is empty"
