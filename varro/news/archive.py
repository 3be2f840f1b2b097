"""Dated headlines from a JSONL file, optionally gzip: the past, replayed under its own clock."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from varro.domain import Headline, headline_id
from varro.errors import FeedError
from varro.news.clean import clean_label, clean_link, clean_title
from varro.news.times import parse_time

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class MalformedLine:
    """A line that holds no headline."""

    line: int
    """1-based"""
    reason: str


@dataclass(frozen=True, slots=True)
class Archive:
    """The headlines of one file, and what was wrong with the rest."""

    corpus: str
    path: Path
    headlines: tuple[Headline, ...]
    """sorted by (first_seen, id)"""
    n_lines: int
    """lines that are not blank"""
    malformed: tuple[MalformedLine, ...]
    n_duplicates: int
    """lines whose headline stands elsewhere in the file; the earliest first_seen is kept"""

    def between(self, after: datetime | None, until: datetime) -> tuple[Headline, ...]:
        """Headlines with after < first_seen ≤ until; `after` None means from the beginning."""
        start = 0 if after is None else self._n_until(after)
        return self.headlines[start : self._n_until(until)]

    def days(self) -> tuple[date, ...]:
        """UTC dates that have headlines, sorted."""
        return tuple(sorted({headline.first_seen.date() for headline in self.headlines}))

    def _n_until(self, time: datetime) -> int:
        return bisect_right(self.headlines, time, key=lambda headline: headline.first_seen)


def load_archive(
    path: Path, *, corpus: str | None = None, max_malformed_frac: float = 0.05
) -> Archive:
    """The archive in a JSONL file of title, source, link, first_seen[, published, feed, guid].

    The corpus is named after the file unless given. A malformed line is counted with its number
    and reason; a larger share of them than `max_malformed_frac` refuses the file.

    Raises: FeedError naming the file, the line if there is one, and the way out.
    """
    corpus = corpus or _corpus_name(path)
    by_id: dict[str, Headline] = {}
    malformed: list[MalformedLine] = []
    n_lines = n_duplicates = 0
    for number, line in _read_lines(path):
        n_lines += 1
        try:
            headline = _headline_of(line, corpus)
        except ValueError as error:
            malformed.append(MalformedLine(number, str(error)))
            continue
        known = by_id.get(headline.id)
        n_duplicates += known is not None
        if known is None or headline.first_seen < known.first_seen:
            by_id[headline.id] = headline
    if len(malformed) > max_malformed_frac * n_lines:
        first = malformed[0]
        raise FeedError(
            f"{path}:{first.line}: {first.reason} (first of {len(malformed)} malformed lines "
            f"in {n_lines}, more than {100 * max_malformed_frac:g}%); mend or remove them"
        )
    if not by_id:
        raise FeedError(f"{path}: holds no headline; expected one JSON object a line")
    return Archive(
        corpus=corpus,
        path=path,
        headlines=tuple(sorted(by_id.values(), key=lambda h: (h.first_seen, h.id))),
        n_lines=n_lines,
        malformed=tuple(malformed),
        n_duplicates=n_duplicates,
    )


def _corpus_name(path: Path) -> str:
    return clean_label(path.name.removesuffix(".gz").removesuffix(".jsonl")) or "archive"


def _read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that are not blank, split at LF only: U+2028 may stand inside a string."""
    number = 0
    try:
        with path.open("rb") as raw:
            is_gzip = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            file: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if is_gzip else raw
            for line in file:
                number += 1
                text = line.removeprefix(codecs.BOM_UTF8).strip() if number == 1 else line.strip()
                if text:
                    yield number, text
    except FileNotFoundError as error:
        raise FeedError(
            f"no archive at {path}; set news.archive to a JSONL file, plain or gzip"
        ) from error
    except IsADirectoryError as error:
        raise FeedError(f"{path} is a folder; set news.archive to a JSONL file") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FeedError(
            f"{path}: gzip damaged after line {number} ({error}); fetch or compress it again"
        ) from error
    except OSError as error:
        raise FeedError(
            f"cannot read archive {path}: {error.strerror or error}; mend that or name another file"
        ) from error


def _headline_of(line: bytes, corpus: str) -> Headline:
    """The headline of one line. Raises: ValueError with the reason if there is none."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 ({error.reason})") from error
    except RecursionError as error:
        raise ValueError("not JSON that can be read: nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, found {_json_kind(row)}")
    title = clean_title(_text(row, "title"))
    if not title:
        raise ValueError("title is missing or empty")
    first_seen_text = _text(row, "first_seen")
    if not first_seen_text.strip():
        raise ValueError("first_seen is missing or empty")
    try:
        first_seen = parse_time(first_seen_text)
    except ValueError as error:
        raise ValueError(f"first_seen {error}") from error
    link = clean_link(_text(row, "link"))
    source = clean_label(_text(row, "source")) or (urlsplit(link).hostname or "")
    feed = clean_label(_text(row, "feed")) or source
    guid = clean_label(_guid(row))
    return Headline(
        id=headline_id(corpus, feed, guid or link or title, title),
        corpus=corpus,
        feed=feed,
        source=source,
        guid=guid,
        title=title,
        link=link,
        published=_published(row.get("published")),
        first_seen=first_seen,
    )


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{key} must be text, found {_json_kind(value)}")
    return value


def _guid(row: dict[str, Any]) -> str:
    """The guid as text; whole numbers are common as identities."""
    value = row.get("guid")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(row, "guid")


def _published(value: object) -> datetime | None:
    try:
        return parse_time(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _json_kind(value: object) -> str:
    if value is None:
        return "null"
    kinds = {bool: "a boolean", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")
