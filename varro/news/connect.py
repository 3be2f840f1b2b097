"""Connections of a fetch: to addresses that were judged, and over by a deadline.

A name is looked up once, each address it gives is judged, and the connection goes to the address
that was judged: a name that changes its mind in between changes nothing, and a redirect is judged
like a first address. Time is checked at every read and write, so that a server that sends a byte
now and then ends like one that sends none.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Any, NoReturn

import httpcore2

from varro.news.addresses import Judge, Resolve


class AddressRefused(Exception):
    """A host that leads to no public address. Not retried: it would lead there again."""


class GuardedBackend(httpcore2.NetworkBackend):
    """Sockets for one fetch, up to its deadline (on the monotonic clock)."""

    def __init__(
        self,
        deadline: float,
        *,
        resolve: Resolve,
        judge: Judge,
        sockets: httpcore2.NetworkBackend | None = None,
    ) -> None:
        self._deadline = deadline
        self._resolve = resolve
        self._judge = judge
        self._sockets = sockets or httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """A connection to the first of the host's addresses that answers.

        Each has an equal part of the time that is left: an address where nobody answers leaves
        some for the next.
        """
        addresses = self._addresses(host, port)
        for place, address in enumerate(addresses):
            share_s = _left(self._deadline, "connect") / (len(addresses) - place)
            try:
                stream = self._sockets.connect_tcp(
                    address, port, share_s, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if place == len(addresses) - 1:
                    raise
            else:
                return _UntilDeadline(stream, self._deadline)
        raise httpcore2.ConnectError(f"{host} has no address")

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> NoReturn:
        raise AddressRefused(f"{path} is a socket of this machine")

    def _addresses(self, host: str, port: int) -> list[str]:
        """The host's addresses that may be connected to. Raises: AddressRefused if it has others
        only."""
        found = _in_time(lambda: self._resolve(host, port), self._deadline)
        judged = {address: self._judge(address) for address in found}
        allowed = [address for address, kind in judged.items() if kind is None]
        if found and not allowed:
            shown = ", ".join(f"{address} ({kind})" for address, kind in judged.items())
            raise AddressRefused(
                f"{host} leads to {shown}; feeds are fetched from public addresses only, unless "
                "news.allow_private is set"
            )
        return allowed


def _in_time(look: Callable[[], list[str]], deadline: float) -> list[str]:
    """What `look` returns, if it does before the deadline: the system's look-up has no limit that
    could be set, and is left behind in its thread."""
    answer: SimpleQueue[list[str] | Exception] = SimpleQueue()

    def run() -> None:
        try:
            answer.put(look())
        except Exception as error:  # raised again below, in the thread that waits
            answer.put(error)

    threading.Thread(target=run, daemon=True, name="varro-look-up").start()
    try:
        found = answer.get(timeout=_left(deadline, "connect"))
    except Empty:
        raise httpcore2.ConnectTimeout("the host's name was not found in time") from None
    if isinstance(found, UnicodeError):  # a label that is too long or empty
        raise AddressRefused(f"not a host's name: {found}") from found
    if isinstance(found, OSError):
        raise httpcore2.ConnectError(str(found)) from found
    if isinstance(found, Exception):
        raise found
    return found


class _UntilDeadline(httpcore2.NetworkStream):
    """A stream none of whose operations lasts beyond a deadline."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, "read"))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, "write"))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        secured = self._stream.start_tls(
            ssl_context, server_hostname, _left(self._deadline, "connect")
        )
        return _UntilDeadline(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


_TOO_LATE = {
    "connect": httpcore2.ConnectTimeout,
    "read": httpcore2.ReadTimeout,
    "write": httpcore2.WriteTimeout,
}


def _left(deadline: float, what: str) -> float:
    """Seconds until the deadline. Raises: the timeout of `what` once it is past."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise _TOO_LATE[what]("out of time")
    return left
