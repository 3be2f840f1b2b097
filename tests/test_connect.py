"""Where a feed may lead: to public addresses, judged when a connection is made. Real sockets."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpcore2
import pytest

from varro.news.addresses import any_address, why_not_public
from varro.news.connect import GuardedBackend
from varro.news.fetch import FetchError, HttpFetcher

Start = Callable[[Callable[[BaseHTTPRequestHandler], None]], str]

REFUSED = {
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "::1": "loopback",
    "0.0.0.0": "unspecified",
    "0.1.2.3": None,
    "::": "unspecified",
    "169.254.169.254": "link-local",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "febf::1": "link-local",
    "10.0.0.1": "private",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.168.1.1": "private",
    "fc00::1": "private",
    "fd12:3456::1": "private",
    "198.18.0.1": "private",
    "192.0.2.1": "private",
    "203.0.113.1": "private",
    "192.0.0.8": None,
    "192.0.0.192": None,
    "::ffff:192.0.0.192": None,
    "192.88.99.1": None,
    "2001:db8::1": "private",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "ff02::1": "multicast",
    "100.64.0.1": "not global",
    "100.127.255.255": "not global",
    "fec0::1": "not global",
    "64:ff9b:1::1": None,
    "240.0.0.1": None,
    "255.255.255.255": None,
    "2001:0:7f00:1::": None,
    "3fff::1": None,
    "5f00::1": None,
    "100::1": None,
    "::ffff:127.0.0.1": "loopback",
    "::ffff:7f00:1": "loopback",
    "::ffff:10.1.2.3": "private",
    "::ffff:169.254.169.254": "link-local",
    "::ffff:100.64.0.1": "not global",
    "::ffff:0.0.0.0": "unspecified",
    "::ffff:0:127.0.0.1": "loopback",
    "::127.0.0.1": "loopback",
    "64:ff9b::7f00:1": "loopback",
    "64:ff9b::a00:1": "private",
    "2002:7f00:1::": "loopback",
    "2002:c0a8:101::1": "private",
}
"""and what is said of it; None where that differs between versions of Python"""


@pytest.mark.parametrize(("address", "kind"), REFUSED.items())
def test_addresses_that_are_not_public_are_known(address: str, kind: str | None) -> None:
    """A feed that reads the metadata service of a cloud, or a printer's page, in any spelling."""
    found = why_not_public(address)
    assert found is not None
    assert kind is None or found == kind


@pytest.mark.parametrize(
    "address",
    [
        "93.184.216.34",
        "8.8.8.8",
        "172.32.0.1",
        "100.128.0.1",
        "2606:2800:220:1::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_public_addresses_pass(address: str) -> None:
    """A rule that refuses the world, or a network whose way to it is NAT64."""
    assert why_not_public(address) is None


class Listener:
    """A port on loopback where nobody is let in, but whoever knocks is seen."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.setblocking(False)
        self.port = self.server.getsockname()[1]

    def has_seen_someone(self) -> bool:
        try:
            self.server.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def listener() -> Iterator[Listener]:
    running = Listener()
    yield running
    running.server.close()


def test_a_listener_sees_who_knocks(listener: Listener) -> None:
    """A listener that sees nobody proves nothing."""
    assert not listener.has_seen_someone()
    socket.create_connection(("127.0.0.1", listener.port)).close()
    assert listener.has_seen_someone()


def refusal(url: str, **settings: Any) -> str:
    given = {"timeout_s": 5.0, "max_bytes": 1000, "retry_wait_s": 0.01, **settings}
    with pytest.raises(FetchError) as caught:
        HttpFetcher(**given).fetch(url)
    return str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.2",
        "localhost",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "127.1",
    ],
)
def test_nothing_is_sent_to_an_address_that_is_refused(listener: Listener, host: str) -> None:
    """An address judged after the connection was made, or only as it was spelt."""
    said = refusal(f"http://{host}:{listener.port}/feed")
    assert "public addresses only" in said
    assert not listener.has_seen_someone()


@pytest.mark.parametrize("host", ["0177.0.0.1", "①②⑦.0.0.1", "017700000001", "[fe80::1%25lo]"])
def test_a_host_that_is_oddly_spelt_is_refused(listener: Listener, host: str) -> None:
    """Octal and full-width forms, which one reader takes for a name and the next for an address."""
    refusal(f"http://{host}:{listener.port}/feed")
    assert not listener.has_seen_someone()


@pytest.mark.parametrize("target", ["http://inside.test:{}/x", "http://127.0.0.2:{}/x"])
def test_a_redirect_to_a_private_address_sends_nothing_there(
    loopback: Start, listener: Listener, target: str
) -> None:
    """The first hop judged and the second followed: how feed readers were made to read inside."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target.format(listener.port))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def look_up(host: str, port: int) -> list[str]:
        return ["127.0.0.1"] if host == "news.test" else ["127.0.0.2"]

    def judge(address: str) -> str | None:
        """127.0.0.1 stands in for a public server."""
        return None if address == "127.0.0.1" else why_not_public(address)

    port = loopback(answer).rpartition(":")[2]
    said = refusal(f"http://news.test:{port}/feed", resolve=look_up, judge=judge)
    assert "leads to 127.0.0.2 (loopback)" in said
    assert not listener.has_seen_someone()


def test_a_name_that_changes_its_mind_is_asked_once(loopback: Start) -> None:
    """A second look-up between judging and connecting: the answer may then be another."""
    asked: list[str] = []

    def look_up(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"news")

    port = loopback(answer).rpartition(":")[2]
    live = HttpFetcher(timeout_s=5, max_bytes=1000, resolve=look_up, judge=any_address)
    assert live.fetch(f"http://rebinding.test:{port}/").body == b"news"
    assert asked == ["rebinding.test"]


def test_of_several_addresses_only_public_ones_are_tried() -> None:
    """A name with one public and one private address: the private one is never connected to."""
    tried: list[tuple[str, float]] = []

    class Sockets(httpcore2.NetworkBackend):
        def connect_tcp(self, host: str, port: int, timeout: float, *rest: object) -> Any:
            tried.append((host, timeout))
            raise httpcore2.ConnectTimeout("nobody there")

    backend = GuardedBackend(
        time.monotonic() + 6,
        resolve=lambda host, port: ["10.0.0.1", "8.8.8.8", "::1", "8.8.4.4"],
        judge=why_not_public,
        sockets=Sockets(),
    )
    with pytest.raises(httpcore2.ConnectTimeout, match="nobody there"):
        backend.connect_tcp("mixed.test", 80)
    assert [address for address, _ in tried] == ["8.8.8.8", "8.8.4.4"]
    # Each has its share of what is left: half of six seconds, then, as none were used, all six.
    assert [round(share) for _, share in tried] == [3, 6]


def test_a_name_server_that_is_silent_ends_at_the_deadline() -> None:
    """The system's look-up has a limit of its own, which may be half a minute a server."""
    answered = threading.Event()

    def look_up(host: str, port: int) -> list[str]:
        answered.wait(10)
        return []

    start = time.monotonic()
    said = refusal("http://slow.test/", timeout_s=0.4, resolve=look_up)
    assert "not complete after 0.4 s" in said
    assert time.monotonic() - start < 1.5
    answered.set()


def test_a_name_that_leads_nowhere_is_an_error_of_that_feed() -> None:
    """A look-up without a result, or one that breaks in an unforeseen way, lost in its thread."""

    def broken(host: str, port: int) -> list[str]:
        raise KeyError("broken")

    assert "nowhere.test has no address" in refusal(
        "http://nowhere.test/", resolve=lambda host, port: []
    )
    with pytest.raises(KeyError, match="broken"):
        HttpFetcher(timeout_s=1, max_bytes=1, resolve=broken).fetch("http://a.test/")


def test_a_handshake_that_never_ends_is_given_up() -> None:
    """TLS begun and left: the socket is connected, so no connect timeout applies."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.monotonic()
        url = f"https://127.0.0.1:{server.getsockname()[1]}/"
        assert "not complete after 0.5 s" in refusal(url, timeout_s=0.5, allow_private=True)
        assert time.monotonic() - start < 1.5


def test_a_server_whose_certificate_nobody_vouches_for_is_refused_at_once(tmp_path: Path) -> None:
    """News from whoever sits on the line; three tries at what will not change."""
    if shutil.which("openssl") is None:
        pytest.skip("NOT TESTED: a certificate of our own needs the openssl command")
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 "
        "-subj /CN=localhost".split(),
        cwd=tmp_path,
        check=True,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "RANDFILE": str(tmp_path / "rnd")},
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    n_tries = 0

    def serve() -> None:
        nonlocal n_tries
        with contextlib.suppress(TimeoutError):  # nobody has come for half a second
            while True:
                connection, _ = server.accept()
                n_tries += 1
                with connection, pytest.raises(ssl.SSLError):
                    context.wrap_socket(connection, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://127.0.0.1:{server.getsockname()[1]}/"
        assert "certificate verify failed" in refusal(url, allow_private=True)
        thread.join()
    assert n_tries == 1
