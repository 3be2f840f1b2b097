"""For how long a server asks us to stay away."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from varro.news.fetch import MAX_FRESH_S, MAX_RETRY_AFTER_S, Fetched, FetchError
from varro.news.freshness import fresh_s, retry_after_s

NOON = datetime(2025, 4, 18, 12, 0, tzinfo=UTC)
AT_NOON = "Fri, 18 Apr 2025 12:00:00 GMT"
AT_ONE = "Fri, 18 Apr 2025 13:00:00 GMT"
AT_TEN = "Fri, 18 Apr 2025 10:00:00 GMT"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("9" * 400, 999_999_999_999),
        (AT_ONE, 3600),
        ("Friday, 18-Apr-25 13:00:00 GMT", 3600),
        ("Fri Apr 18 13:00:00 2025", 3600),
        ("Fri, 18 Apr 2025 15:00:00 +0200", 3600),
        (AT_TEN, 0),
        ("", 0),
        ("soon", 0),
        ("-5", 0),
        ("1e9", 0),
        ("Fri, 32 Foo 2025 99:00:00 GMT", 0),
        ("²", 0),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float) -> None:
    """A server that asks for an hour and is asked again at once; a day that ends at nonsense."""
    assert retry_after_s({"retry-after": text}, NOON) == seconds


def test_dates_are_those_of_the_servers_own_clock() -> None:
    """A laptop whose clock is two hours fast, which never stays away."""
    assert retry_after_s({"retry-after": AT_NOON, "date": AT_TEN}, NOON) == 7200
    assert fresh_s({"expires": AT_NOON, "date": AT_TEN}, NOON) == 7200


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"cache-control": "max-age=600"}, 600),
        ({"cache-control": 'public, MAX-AGE="600"'}, 600),
        ({"cache-control": "max-age=600", "age": "200"}, 400),
        ({"cache-control": "max-age=600", "age": "900"}, 0),
        ({"cache-control": "max-age=600", "expires": AT_TEN}, 600),
        ({"cache-control": "max-age=0", "expires": AT_ONE}, 0),
        ({"cache-control": "no-cache, max-age=600"}, 0),
        ({"cache-control": "no-store"}, 0),
        ({"cache-control": "s-maxage=900"}, 0),
        ({"cache-control": "max-age=soon", "expires": AT_ONE}, 3600),
        ({"expires": AT_ONE}, 3600),
        ({"expires": "0"}, 0),
        ({"expires": "-1"}, 0),
    ],
)
def test_freshness_is_that_of_the_http_cache(headers: dict[str, str], seconds: float) -> None:
    """A feed fetched again while it cannot have changed, or not fetched when it has."""
    assert fresh_s(headers, NOON) == seconds


def test_no_server_can_send_us_away_for_good() -> None:
    """max-age of a year, or Retry-After of a century: the feed would never be read again."""
    answer = Fetched("u", 200, {"cache-control": "max-age=31536000"}, b"")
    assert answer.fresh_s(NOON) == MAX_FRESH_S < 86_400
    error = FetchError("busy", status=429, headers={"retry-after": "9999999999"})
    assert error.retry_after_s(NOON) == MAX_RETRY_AFTER_S
    assert FetchError("no connection").retry_after_s(NOON) == 0
