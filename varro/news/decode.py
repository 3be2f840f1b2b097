"""Bodies as they come over the line, decoded and bounded."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable

MAX_MEMBERS = 1000
"""of a gzip body: each costs time, and an empty one gives nothing for it"""
_MAGIC = b"\x1f\x8b"
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS


def decode_body(chunks: Iterable[bytes], encoding: str, *, max_bytes: int) -> bytes:
    """The whole body, decoded; one byte past the cap is the most that is ever held.

    Raises: ValueError with the reason if it is larger, as sent or decoded, or damaged, or in an
        encoding that was not asked for.
    """
    encoding = encoding.strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise ValueError(f"content-encoding {encoding[:40]!r} was not asked for")
    is_plain = encoding in ("", "identity")
    inflater = zlib.decompressobj(_ZLIB_OR_GZIP)
    n_sent = 0
    n_members = 1
    behind = b""  # a whole member: another one, or what does not belong to the body
    body = io.BytesIO()  # its value is taken without a copy
    for raw in chunks:
        n_sent += len(raw)
        if n_sent > max_bytes:
            raise ValueError(f"body exceeds {max_bytes:,} bytes")
        chunk = raw
        if inflater.eof:
            behind, chunk = _next_member(behind + raw)
            if chunk:
                inflater, n_members = _another(n_members)
        while chunk:
            room = max_bytes + 1 - body.tell()
            body.write(chunk[:room] if is_plain else _inflate(inflater, chunk, room))
            if body.tell() > max_bytes:
                raise ValueError(f"body exceeds {max_bytes:,} bytes (decoded)")
            behind, chunk = _next_member(b"" if is_plain else inflater.unused_data)
            if chunk:
                inflater, n_members = _another(n_members)
    if not is_plain and not inflater.eof:
        raise ValueError(f"{encoding} body ends early")
    return body.getvalue()


def _next_member(rest: bytes) -> tuple[bytes, bytes]:
    """What is behind a member: (bytes that are none yet, bytes of the next one). A line end, zeros
    or the like are passed over, as by browsers and gzip itself."""
    return (b"", rest) if rest.startswith(_MAGIC) else (rest[:2], b"")


def _another(n_members: int) -> tuple[zlib._Decompress, int]:
    if n_members >= MAX_MEMBERS:
        raise ValueError(f"body has more than {MAX_MEMBERS} gzip members")
    return zlib.decompressobj(_ZLIB_OR_GZIP), n_members + 1


def _inflate(inflater: zlib._Decompress, chunk: bytes, room: int) -> bytes:
    try:
        return inflater.decompress(chunk, room)
    except zlib.error as error:
        raise ValueError(f"compressed body is damaged: {error}") from error
