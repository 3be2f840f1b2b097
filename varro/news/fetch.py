"""Feed bodies from the network: bounded in bytes, time and redirects."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urljoin

from varro import __version__
from varro.errors import FeedError
from varro.news.clean import clean_link

MAX_REDIRECTS = 5
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_ACCEPT = "application/atom+xml, application/rss+xml, application/xml;q=0.9, */*;q=0.5"
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Fetched:
    """One answer, decoded."""

    url: str
    """where the body came from, after redirects"""
    status: int
    headers: Mapping[str, str]
    """names in lower case"""
    body: bytes


class Fetcher(Protocol):
    """Where feed bodies come from."""

    def fetch(self, url: str) -> Fetched:
        """The body at a url. Raises: FeedError with the reason if there is none."""
        ...


class HttpFetcher:
    """Fetches over http and https; a context manager, closed at its end.

    Note: the deadline is checked at each piece of the body that arrives; a server that then falls
    silent is given up after `timeout_s` more, and headers sent a byte at a time are bounded by
    `timeout_s` for each byte.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        max_bytes: int,
        user_agent: str = f"varro/{__version__}",
    ) -> None:
        import httpx2

        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        # gzip only: it is the one encoding whose output can be bounded while it is decoded.
        headers = {"User-Agent": user_agent, "Accept": _ACCEPT, "Accept-Encoding": "gzip"}
        self._client = httpx2.Client(headers=headers, follow_redirects=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def fetch(self, url: str) -> Fetched:
        """The body at a url, after at most MAX_REDIRECTS redirects.

        Raises: FeedError with the reason: refused address, no connection, status other than 200,
            too large, too slow, too many redirects.
        """
        deadline = time.monotonic() + self._timeout_s
        target = url
        for _ in range(MAX_REDIRECTS + 1):
            if not clean_link(target):
                raise FeedError(f"{target[:200]!r} is not an http or https address")
            answer = self._get(target, deadline)
            if isinstance(answer, Fetched):
                return answer
            target = answer
        raise FeedError(f"{url}: more than {MAX_REDIRECTS} redirects, the last to {target[:200]!r}")

    def _get(self, url: str, deadline: float) -> Fetched | str:
        """The answer, or the address it redirects to."""
        import httpx2

        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise self._too_slow(url)
        try:
            with self._client.stream("GET", url, timeout=remaining) as response:
                status = response.status_code
                location = response.headers.get("location")
                if status in _REDIRECTS and location:
                    return urljoin(url, location)
                if status != 200:
                    raise FeedError(f"{url}: HTTP status {status}, expected 200")
                encoding = response.headers.get("content-encoding", "")
                raw = self._in_time(response.iter_raw(), deadline, url)
                body = _decode(raw, encoding, max_bytes=self._max_bytes)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Fetched(url=url, status=status, headers=headers, body=body)
        except httpx2.TimeoutException as error:
            raise self._too_slow(url) from error
        except (
            httpx2.HTTPError,
            httpx2.InvalidURL,
            httpx2.StreamError,
            httpx2.CookieConflict,
            OSError,
            ValueError,
        ) as error:
            reason = str(error) or type(error).__name__
            raise FeedError(f"{url}: {reason}"[:500]) from error

    def _in_time(self, chunks: Iterable[bytes], deadline: float, url: str) -> Iterator[bytes]:
        for chunk in chunks:
            if time.monotonic() > deadline:
                raise self._too_slow(url)
            yield chunk

    def _too_slow(self, url: str) -> FeedError:
        return FeedError(f"{url}: not complete after {self._timeout_s:g} s")


def _decode(chunks: Iterable[bytes], encoding: str, *, max_bytes: int) -> bytes:
    """The whole body, decoded; one byte past the cap is the most that is ever held.

    Raises: ValueError with the reason if it is larger, damaged or in an unknown encoding.
    """
    encoding = encoding.strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise ValueError(f"content-encoding {encoding[:40]!r} was not asked for")
    is_plain = encoding in ("", "identity")
    inflater = zlib.decompressobj(_ZLIB_OR_GZIP)
    body = bytearray()
    for raw in chunks:
        chunk = raw
        while chunk:
            room = max_bytes + 1 - len(body)
            body += chunk[:room] if is_plain else _inflate(inflater, chunk, room)
            if len(body) > max_bytes:
                raise ValueError(f"body exceeds {max_bytes:,} bytes (decoded)")
            chunk = b"" if is_plain else inflater.unused_data
            if chunk:
                inflater = zlib.decompressobj(_ZLIB_OR_GZIP)
    if not is_plain and not inflater.eof:
        raise ValueError(f"{encoding} body ends early")
    return bytes(body)


def _inflate(inflater: zlib._Decompress, chunk: bytes, room: int) -> bytes:
    try:
        return inflater.decompress(chunk, room)
    except zlib.error as error:
        raise ValueError(f"compressed body is damaged: {error}") from error
