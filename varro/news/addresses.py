"""Which addresses a feed may lead to: those of the public internet."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Resolve = Callable[[str, int], list[str]]
"""addresses of a host's name for a port. Raises: OSError"""
Judge = Callable[[str], str | None]
"""what kind of address it is if nothing may be fetched from it, or None"""

_WITH_V4_INSIDE = (
    (IPv6Network("::/96"), 0),  # v4-compatible, long out of use
    (IPv6Network("::ffff:0:0/96"), 0),  # v4-mapped
    (IPv6Network("::ffff:0:0:0/96"), 0),  # v4-translated
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (IPv6Network("2002::/16"), 80),  # 6to4
)
"""networks whose addresses lead on to a v4 address, and how far it is from their end (bits)"""
_NOT_PUBLIC = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments: a cloud's metadata service among them
    IPv4Network("192.88.99.0/24"),  # relays of 6to4, deprecated
    IPv6Network("fec0::/10"),  # site-local, deprecated
    IPv6Network("64:ff9b:1::/48"),  # NAT64 within a site
    IPv6Network("2001::/23"),  # Teredo and other tunnels
    IPv6Network("3fff::/20"),  # documentation
    IPv6Network("5f00::/16"),  # segment routing
)
"""what some versions of Python take for public"""


def look_up(host: str, port: int) -> list[str]:
    """All addresses of a host, in the order the system prefers. Raises: OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def why_not_public(address: str) -> str | None:
    """What kind of address it is if feeds may not lead there, or None if it is a public one.

    Raises: ValueError if it is no IP address.
    """
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return _kind(ip)
    if int(ip) > 1:  # not "::" and "::1"
        for network, shift in _WITH_V4_INSIDE:
            if ip in network:
                return _kind(IPv4Address((int(ip) >> shift) & 0xFFFFFFFF))
    return _kind(ip)


def any_address(address: str) -> None:
    """The judge that refuses none: for feeds on one's own machine or network, and for tests."""


def _kind(ip: IPv4Address | IPv6Address) -> str | None:
    kinds = (
        ("loopback", ip.is_loopback),
        ("unspecified", ip.is_unspecified),
        ("link-local", ip.is_link_local),
        ("multicast", ip.is_multicast),
        ("private", ip.is_private),
        ("reserved", ip.is_reserved),
        # Shared address space (CGNAT), and what the registry says of the rest.
        ("not global", not ip.is_global or any(ip in network for network in _NOT_PUBLIC)),
    )
    return next((name for name, is_so in kinds if is_so), None)
