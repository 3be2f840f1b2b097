"""Who may come in, and what a browser may do with what it is given.

A page on the web can send a browser to this machine's own ports, under a name of its own that it
has led there (DNS rebinding), or with a form. So a request must name a loopback host, and one that
does something must come from our own page and bring the token.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_PAGE = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
REPORT_POLICY = _PAGE + "form-action 'none'; frame-ancestors 'none'"
LIVE_POLICY = (
    _PAGE + "script-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not `no-referrer`: then a browser hides the origin of our own forms, too.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Doors:
    """Turns away who does not name a loopback host; puts our headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        is_report = scope["path"].startswith("/reports")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                policy = REPORT_POLICY if is_report else LIVE_POLICY
                headers["Content-Security-Policy"] = policy
            await send(message)

        app = self._app
        if not is_loopback(Headers(scope=scope).getlist("host")):
            app = PlainTextResponse("open it as http://127.0.0.1, or localhost\n", 421)
        await app(scope, receive, send_with_headers)


def is_loopback(hosts: list[str]) -> bool:
    """Whether the one Host header names this machine."""
    return len(hosts) == 1 and _LOOPBACK.fullmatch(hosts[0]) is not None


def is_from_our_page(headers: Mapping[str, str]) -> bool:
    """Whether a request that does something was sent by our own page, or by no page: a browser
    always says which. Schemes differ behind a tunnel, names and ports do not."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if site not in (None, "same-origin"):
        return False
    return origin is None or origin.partition("://")[2] == headers.get("host")


def is_token(given: str, token: str) -> bool:
    """In a time that says nothing of how much of it is right."""
    return secrets.compare_digest(given.encode(), token.encode())
