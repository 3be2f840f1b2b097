"""For how long a server asks us to stay away, by the headers of its answer. Pure."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from datetime import UTC, datetime


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float:
    """Seconds of a Retry-After, given as a number or a date; 0 where nothing or nonsense is said.

    Source: RFC 9110, section 10.2.3.
    """
    text = headers.get("retry-after", "").strip()
    number = _whole(text)
    return _seconds_until(text, _sent(headers, now)) if number is None else number


def fresh_s(headers: Mapping[str, str], now: datetime) -> float:
    """Seconds for which an answer stays fresh: max-age, else Expires, less the time it has lain in
    a cache; 0 where nothing or nonsense is said.

    Source: RFC 9111, sections 4.2.1 and 5.2.2; s-maxage is for shared caches, which we are not.
    """
    directives = [d.strip().lower() for d in headers.get("cache-control", "").split(",")]
    if "no-cache" in directives or "no-store" in directives:
        return 0.0
    for directive in directives:
        name, _, value = directive.partition("=")
        max_age = _whole(value.strip('"'))
        if name == "max-age" and max_age is not None:
            return max(max_age - (_whole(headers.get("age", "").strip()) or 0.0), 0.0)
    return _seconds_until(headers.get("expires", ""), _sent(headers, now))


def _sent(headers: Mapping[str, str], now: datetime) -> datetime:
    """When the answer was sent by the server's own clock, which its other dates go by."""
    return _date(headers.get("date", "")) or now


def _seconds_until(text: str, now: datetime) -> float:
    then = _date(text)
    return 0.0 if then is None else max((then - now).total_seconds(), 0.0)


def _date(text: str) -> datetime | None:
    try:
        then = email.utils.parsedate_to_datetime(text)
        return then.astimezone(UTC) if then.tzinfo else then.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _whole(text: str) -> float | None:
    """A whole number of seconds; more than twelve digits are as good as twelve."""
    return float(text[:12]) if text.isascii() and text.isdigit() else None
