"""Feed bodies to entries: RSS, RDF and Atom, well formed or not."""

from __future__ import annotations

import calendar
import io
import pyexpat
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urljoin

from varro.errors import FeedError
from varro.news.clean import clean_label, clean_link, clean_title
from varro.news.times import is_plausible

MAX_ATTRIBUTES = 128
"""of one element: the parser's time grows with their square, and real feeds have under 30"""
MAX_ENTRIES = 5_000
"""of one feed, in its order; real ones have a few hundred"""
MAX_TEXT = 2_000_000
"""characters of the titles, links and guids of one feed; an entry of a real one has about 300"""
MIN_EXPAT = (2, 4, 0)
"""the first expat that stops an entity which grows to billions of characters"""

_MANY_ATTRIBUTES = re.compile(
    rb"<[^\s<>/!?\"'=]+(?:\s+[^\s=<>\"'/]+\s*+=\s*+(?:\"[^\"<]*\"|'[^'<]*')){%d}+"
    % (MAX_ATTRIBUTES + 1)
)
_REFERENCE = re.compile(rb"&#(?:[xX]([0-9a-fA-F]++)|([0-9]++));?+")
_NO_CHARACTER = b"&#65533;"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of a feed that has a title."""

    guid: str
    """as it stands in the feed (an xml:base there counts), wherever that was fetched from; may be
    empty"""
    title: str
    """clean"""
    link: str
    """http or https, or empty"""
    published: datetime | None
    relative_link: str = ""
    """the link as it stands in the feed, where that is no whole one; else empty"""


@dataclass(frozen=True, slots=True)
class ParsedFeed:
    """What a feed body holds."""

    entries: tuple[Entry, ...]
    n_untitled: int
    """items left out because no clean title remains"""
    n_left_out: int = 0
    """items behind the first MAX_ENTRIES, or behind MAX_TEXT characters"""
    version: str = ""
    """what feedparser takes it for, such as rss20 or atom10; "" if it cannot say"""


class ParseError(FeedError):
    """A body that is no feed, or cannot be read."""

    def __init__(self, message: str, *, kind: str = "failed") -> None:
        super().__init__(message)
        self.kind = kind
        """`failed`: not a feed; `exception`: the parser broke; `timeout`: it did not end"""


def check_expat(version: tuple[int, ...] = pyexpat.version_info) -> None:
    """Raises: FeedError if Python's XML parser would expand an entity without end."""
    if version < MIN_EXPAT:
        raise FeedError(
            f"Python was built with expat {'.'.join(map(str, version))}, which a feed can make "
            f"use up all memory; use a Python with expat {'.'.join(map(str, MIN_EXPAT))} or newer"
        )


def parse_feed(body: bytes, headers: Mapping[str, str]) -> ParsedFeed:
    """The titled entries of a feed body, in its order.

    `headers` are those of the response: content-type decides the encoding together with the XML
    declaration, content-location resolves relative links.

    Raises: ParseError if the body is not a feed or cannot be read; MemoryError.
    """
    import feedparser

    # NULs out, so that UTF-16 and UTF-32 read the same.
    if _MANY_ATTRIBUTES.search(body.replace(b"\0", b"")):
        raise ParseError(f"an element has more than {MAX_ATTRIBUTES} attributes; refused")
    known = {name.lower(): value for name, value in headers.items()}
    # Without it feedparser assumes ISO 8859-1, and most feeds without a declaration are UTF-8.
    known.setdefault("content-type", "application/xml")
    # Not for feedparser, which takes a guid that is no address for a relative one: its id would be
    # another when the feed moves.
    base = known.pop("content-location", "")
    try:
        # BytesIO, because feedparser takes bare bytes or text for a file name or an address first.
        parsed = feedparser.parse(
            io.BytesIO(_REFERENCE.sub(_real_character, body)),
            response_headers=known,
            resolve_relative_uris=False,
            sanitize_html=False,
        )
        items = parsed["entries"]
        entries = _first_entries(items, base)
        version = str(parsed.get("version", ""))
    except MemoryError:
        raise
    # feedparser promises no exception and keeps no list of those it lets through.
    except Exception as error:
        reason = f"feed cannot be parsed: {type(error).__name__}: {error}"[:300]
        raise ParseError(reason, kind="exception") from error
    if not version and not entries:
        raise ParseError(f"not a feed: {_glimpse(body)}")
    titled = tuple(entry for entry in entries if entry.title)
    return ParsedFeed(
        entries=titled,
        n_untitled=len(entries) - len(titled),
        n_left_out=len(items) - len(entries),
        version=version,
    )


def _real_character(reference: re.Match[bytes]) -> bytes:
    """The reference, or that to U+FFFD if it names no character: feedparser breaks at those."""
    digits, base = (reference[1], 16) if reference[1] else (reference[2], 10)
    digits = digits.lstrip(b"0") or b"0"
    code = int(digits, base) if len(digits) <= 7 else -1
    is_character = 0 < code < 0xD800 or 0xDFFF < code <= 0x10FFFF
    return reference[0] if is_character else _NO_CHARACTER


def _first_entries(items: Sequence[Mapping[str, Any]], base: str) -> list[Entry]:
    """Those of the items that stay within MAX_ENTRIES and MAX_TEXT."""
    entries: list[Entry] = []
    n_characters = 0
    for item in items[:MAX_ENTRIES]:
        entry = _entry_of(item, base)
        texts = entry.guid, entry.title, entry.link, entry.relative_link
        n_characters += sum(map(len, texts))
        if n_characters > MAX_TEXT:
            break
        entries.append(entry)
    return entries


def _entry_of(item: Mapping[str, Any], base: str) -> Entry:
    # Membership first: asking feedparser for an `updated` it lacks warns and answers `published`.
    date = "published_parsed" if "published_parsed" in item else "updated_parsed"
    written = str(item.get("link") or "")
    link = clean_link(_absolute(base, written))
    return Entry(
        guid=clean_label(str(item.get("id") or "")),
        title=clean_title(str(item.get("title") or "")),
        link=link,
        published=_time_of(item.get(date)),
        relative_link=clean_label(written) if link and not clean_link(written) else "",
    )


def _absolute(base: str, link: str) -> str:
    """The link, taken from the feed's own address if it is relative; "" if it can not be read."""
    try:
        return urljoin(base, link) if link else ""
    except ValueError:
        return ""


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
