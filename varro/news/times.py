"""Times as text: ISO 8601 with a zone in, `YYYY-MM-DDTHH:MM:SSZ` out."""

from __future__ import annotations

from datetime import UTC, datetime

FIRST_YEAR = 1990
LAST_YEAR = 2100


def parse_time(text: str) -> datetime:
    """Aware UTC time of an ISO 8601 text with a zone (Z or an offset).

    Raises: ValueError with a plain reason if the zone is missing, the time is impossible, or it
        lies before 1990 or after 2100.
    """
    shown = repr(text[:40])
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(f"{shown} is not a time like 2025-04-18T12:27:22Z") from error
    if time.tzinfo is None:
        raise ValueError(f"{shown} has no time zone; write {time.isoformat()}Z")
    try:
        time = time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{shown} is out of range") from error
    if not is_plausible(time):
        raise ValueError(f"{shown} is before {FIRST_YEAR} or after {LAST_YEAR}")
    return time


def is_plausible(time: datetime) -> bool:
    """Whether the time lies in the years 1990 to 2100: outside, a clock or a parser is wrong."""
    return FIRST_YEAR <= time.year <= LAST_YEAR


def format_time(time: datetime) -> str:
    """`YYYY-MM-DDTHH:MM:SSZ` in UTC, fractions of a second cut off.

    Raises: ValueError if the time has no zone.
    """
    if time.tzinfo is None:
        raise ValueError(f"{time!r} has no time zone")
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
