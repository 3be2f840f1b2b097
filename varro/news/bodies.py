"""Feed bodies as they came, kept for some days: what a feed said can be looked at and parsed again
(`varro feeds test --dir var/bodies/DAY`)."""

from __future__ import annotations

import gzip
import shutil
import zlib
from datetime import date, datetime, timedelta
from pathlib import Path

from varro.files import exclusive, write_file
from varro.news.gather import FeedReading
from varro.news.parse import ParseError

FOLDER = "bodies"
_LOCK = ".lock"
"""runs of one home wake at the same minute and are sent the same bodies"""
_GZIP_MAGIC = b"\x1f\x8b"


def keep_body(home: Path, reading: FeedReading, *, as_of: datetime) -> None:
    """Write a new body, gzipped, under its hash in the folder of its UTC day. The ledger's
    `feed_reads` say which feed it came from."""
    path = body_path(home, as_of=as_of, sha256=reading.state.body_sha256)
    # Without a time in it the file of a day that is run again is the same.
    packed = gzip.compress(reading.body, mtime=0)
    with exclusive(home / FOLDER / _LOCK):
        write_file(path, packed)


def body_path(home: Path, *, as_of: datetime, sha256: str) -> Path:
    """Where a body is kept, if it is."""
    return home / FOLDER / f"{as_of:%Y-%m-%d}" / f"{sha256}.gz"


def read_body(path: Path, *, max_bytes: int) -> bytes:
    """The body in a file, gzipped as it is kept or plain.

    Raises: OSError if it cannot be read; ParseError if it is larger (decoded) or damaged.
    """
    try:
        with path.open("rb") as raw:
            is_gzip = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            body = (gzip.GzipFile(fileobj=raw) if is_gzip else raw).read(max_bytes + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ParseError(f"gzip damaged: {error}") from error
    if len(body) > max_bytes:
        raise ParseError(f"larger than {max_bytes:,} bytes (decoded)")
    return body


def remove_old_bodies(home: Path, *, as_of: datetime, keep_days: int) -> list[str]:
    """Remove the folders of days that are `keep_days` or more before today; returns those days.
    What is not named after a day is let alone."""
    first_kept = as_of.date() - timedelta(days=keep_days - 1) if keep_days else as_of.date()
    if not (home / FOLDER).is_dir():
        return []
    removed = []
    with exclusive(home / FOLDER / _LOCK):
        for folder in sorted((home / FOLDER).glob("????-??-??")):
            day = _day_of(folder.name)
            if day is not None and day < first_kept:
                shutil.rmtree(folder)
                removed.append(folder.name)
    return removed


def _day_of(name: str) -> date | None:
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None
