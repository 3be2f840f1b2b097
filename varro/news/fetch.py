"""Feed bodies from the network: bounded in bytes, time and redirects, public addresses only."""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urljoin

from varro import __version__
from varro.config import NewsConfig
from varro.errors import FeedError
from varro.news.addresses import Judge, Resolve, any_address, look_up, why_not_public
from varro.news.clean import clean_link, hide_query, shown_address
from varro.news.decode import decode_body
from varro.news.freshness import fresh_s, retry_after_s

MAX_REDIRECTS = 5
MAX_TRIES = 3
"""of one feed, where another try may help"""
RETRY_WAIT_S = 1.0
"""before a second try, and as much again at random; twice that before a third"""
MAX_RETRY_AFTER_S = 7 * 86_400.0
MAX_FRESH_S = 20 * 3600.0
"""a server may ask us to stay away for a week after an error, and to keep a body for less than a
day: a daily cycle asks every feed that is well"""
MAX_VALIDATOR = 1024
"""characters of an ETag or a date; a longer one is not kept"""

_PERMANENT = frozenset((HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.PERMANENT_REDIRECT))
_REDIRECTS = _PERMANENT | {HTTPStatus.FOUND, HTTPStatus.SEE_OTHER, HTTPStatus.TEMPORARY_REDIRECT}
_PASSING = frozenset((408, 500, 502, 503, 504))
"""statuses that another try may change; 429 says when to come again"""
_ACCEPT = "application/atom+xml, application/rss+xml, application/xml;q=0.9, */*;q=0.5"


@dataclass(frozen=True, slots=True)
class Validators:
    """What a server gave with a body, to be asked next time whether it has changed."""

    etag: str = ""
    last_modified: str = ""


NOTHING_KNOWN = Validators()


@dataclass(frozen=True, slots=True)
class Fetched:
    """One answer, decoded."""

    url: str
    """where the body came from, after redirects"""
    status: int
    """200, or 304: not changed since the validators were given"""
    headers: Mapping[str, str]
    """names in lower case"""
    body: bytes
    moved_to: str | None = None
    """the feed's new address, where it has moved for good"""

    def validators(self) -> Validators:
        """To be sent next time."""
        return Validators(
            _validator(self.headers, "etag"), _validator(self.headers, "last-modified")
        )

    def fresh_s(self, now: datetime) -> float:
        """For how long the server asks us not to come again (seconds, at most MAX_FRESH_S)."""
        return min(fresh_s(self.headers, now), MAX_FRESH_S)


class FetchError(FeedError):
    """A feed that could not be fetched."""

    def __init__(
        self, message: str, *, status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        """of HTTP, where there was an answer"""
        self.headers = headers or {}

    def retry_after_s(self, now: datetime) -> float:
        """For how long the server asks us not to come again (seconds, at most
        MAX_RETRY_AFTER_S)."""
        return min(retry_after_s(self.headers, now), MAX_RETRY_AFTER_S)


class FetchTimeout(FetchError):
    """A fetch that was not complete by its deadline."""


class _Passing(FetchError):
    """One that another try may mend."""


class Fetcher(Protocol):
    """Where feed bodies come from."""

    def fetch(
        self, url: str, known: Validators = NOTHING_KNOWN, *, until: float = math.inf
    ) -> Fetched:
        """The body at a url, or that it is as `known`, by `until` (monotonic clock).

        Raises: FetchError with the reason if there is none.
        """
        ...


class HttpFetcher:
    """Fetches over http and https. Safe to share among threads.

    A fetch ends by `timeout_s`, whatever the server does, its redirects and second tries included.
    No proxy is used, for what it connects to could not be judged, and no cookie is kept.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        max_bytes: int,
        user_agent: str = f"varro/{__version__}",
        allow_private: bool = False,
        retry_wait_s: float = RETRY_WAIT_S,
        resolve: Resolve = look_up,
        judge: Judge = why_not_public,
    ) -> None:
        import httpx2
        import stamina

        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._headers = {
            "User-Agent": user_agent,
            "Accept": _ACCEPT,
            # gzip only: it is the one encoding whose output can be bounded while it is decoded.
            "Accept-Encoding": "gzip",
            "Connection": "close",
        }
        self._retry_wait_s = retry_wait_s
        self._resolve = resolve
        self._judge = any_address if allow_private else judge
        self._tls = httpx2.create_ssl_context()
        # Else each second try is a warning on stderr; what failed in the end is in its reason.
        stamina.instrumentation.set_on_retry_hooks(())

    def fetch(
        self, url: str, known: Validators = NOTHING_KNOWN, *, until: float = math.inf
    ) -> Fetched:
        """The body at a url, after at most MAX_REDIRECTS redirects and MAX_TRIES tries.

        Raises: FetchError with the reason: refused address, no connection, status other than 200
            and 304, too large, too slow, too many redirects.
        """
        import httpcore2
        import stamina

        start = time.monotonic()
        deadline = min(start + self._timeout_s, until)
        longest_wait_s = 3 * self._retry_wait_s
        for attempt in stamina.retry_context(
            on=_Passing,
            attempts=MAX_TRIES,
            # No wait may pass the deadline. To stamina, 0 would be a mistake.
            timeout=max(deadline - start - longest_wait_s, 1e-9),
            wait_initial=self._retry_wait_s,
            wait_jitter=self._retry_wait_s,
            wait_max=longest_wait_s,
        ):
            with attempt:
                try:
                    return self._follow(url, known, deadline)
                except httpcore2.TimeoutException as error:
                    raise FetchTimeout(
                        f"{shown_address(url)}: not complete after "
                        f"{max(deadline - start, 0.0):.2g} s"
                    ) from error
        raise AssertionError("the last try returns or raises")

    def _follow(self, url: str, known: Validators, deadline: float) -> Fetched:
        target = url
        for_good = True
        for _ in range(MAX_REDIRECTS + 1):
            if not clean_link(target):
                raise FetchError(f"{shown_address(target)!r} is not an http or https address")
            answer = self._get(target, known, deadline)
            if isinstance(answer, Fetched):
                moved = for_good and answer.url != url
                return replace(answer, moved_to=answer.url if moved else None)
            target, status = answer
            for_good = for_good and status in _PERMANENT
        raise FetchError(
            f"{shown_address(url)}: more than {MAX_REDIRECTS} redirects, the last to "
            f"{shown_address(target)!r}"
        )

    def _get(self, url: str, known: Validators, deadline: float) -> Fetched | tuple[str, int]:
        """The answer, or the address it redirects to with its status.

        Raises: FetchError; httpcore2.TimeoutException at the deadline.
        """
        import httpcore2
        import httpx2

        from varro.news.connect import AddressRefused, GuardedBackend

        try:
            parsed = httpx2.URL(url)
            target = httpcore2.URL(
                scheme=parsed.raw_scheme,
                host=parsed.raw_host,
                port=parsed.port,
                target=parsed.raw_path,
            )
            asked = {"Host": parsed.netloc.decode("ascii"), **self._headers, **_conditions(known)}
            backend = GuardedBackend(deadline, resolve=self._resolve, judge=self._judge)
            with (
                httpcore2.ConnectionPool(
                    ssl_context=self._tls, network_backend=backend, max_connections=1
                ) as pool,
                pool.stream("GET", target, headers=_as_sent(asked)) as response,
            ):
                headers = _headers(response.headers)
                status = response.status
                if status in _REDIRECTS and "location" in headers:
                    return urljoin(url, _location(headers)), status
                if status == HTTPStatus.NOT_MODIFIED and known != NOTHING_KNOWN:
                    return Fetched(url, status, headers, b"")
                if status != HTTPStatus.OK:
                    raise _status_error(url, status, headers)
                body = decode_body(
                    response.iter_stream(),
                    headers.get("content-encoding", ""),
                    max_bytes=self._max_bytes,
                )
                return Fetched(url, status, headers, body)
        except (AddressRefused, httpx2.InvalidURL, ValueError) as error:
            raise FetchError(_said(url, error)) from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            # The pool raises it anew, without its cause.
            passing = not isinstance(error.__context__, ssl.SSLCertVerificationError)
            raise (_Passing if passing else FetchError)(_said(url, error)) from error


def fetcher_of(config: NewsConfig) -> HttpFetcher:
    """As a configuration wants it."""
    return HttpFetcher(
        timeout_s=config.timeout_s,
        max_bytes=int(config.max_feed_mb * 1e6),
        allow_private=config.allow_private,
    )


def _conditions(known: Validators) -> dict[str, str]:
    conditions = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified}
    return {name: value for name, value in conditions.items() if value}


def _location(headers: Mapping[str, str]) -> str:
    """Beyond ASCII it should be percent-coded; where it is not, it is UTF-8 more often than not."""
    value = headers["location"]
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def _validator(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    return value if len(value) <= MAX_VALIDATOR else ""


def _as_sent(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """In the encoding that answers are read in: a validator goes back as the bytes it came as."""
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Names in lower case; those given more than once joined by commas."""
    found: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _said(url: str, error: Exception) -> str:
    """A server's own words may be what it was asked for."""
    told = hide_query(str(error), url) or type(error).__name__
    return f"{shown_address(url)}: {told}"[:500]


def _status_error(url: str, status: int, headers: Mapping[str, str]) -> FetchError:
    gone = "; the feed is gone, take it off the list" if status == HTTPStatus.GONE else ""
    passing = status in _PASSING and "retry-after" not in headers
    return (_Passing if passing else FetchError)(
        f"{shown_address(url)}: HTTP status {status}, expected 200{gone}",
        status=status,
        headers=headers,
    )
