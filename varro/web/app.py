"""The live view as an application: a page, its events, the reports, and three buttons."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from varro.errors import VarroError
from varro.lock import holder_of, is_held, lock_path
from varro.report.templating import page_environment
from varro.service.doing import PACE_S
from varro.service.pause import load_pause, pause, resume
from varro.web.doors import Doors, is_from_our_page, is_token
from varro.web.facts import Looker
from varro.web.now import in_figures

TEMPLATES = Path(__file__).parent / "templates"
_MAX_FORM = 1000
"""bytes"""
_STILL_THERE_S = 15.0
"""between two signs of life on a stream on which nothing is said"""


class Refused(Exception):
    """What a button can not do, with a status and words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


def live_app(
    looker: Looker,
    *,
    token: str,
    wake: Callable[[], None],
    clock: Callable[[], datetime],
    is_ending: Callable[[], bool],
) -> ASGIApp:
    """What answers. `wake` has the service look now; streams end when `is_ending`."""
    page = page_environment(TEMPLATES).get_template("live.html")
    config = looker.config

    def shown(**more: Any) -> str:
        return page.render(**looker.page_facts(clock()), **more)

    async def live(request: Request) -> Response:
        given = request.query_params.get("token")
        if given is not None and not is_token(given, token):
            return PlainTextResponse("wrong token: it is another at each start\n", 403)
        return HTMLResponse(await run_in_threadpool(shown, token=given))

    async def script(request: Request) -> Response:
        return FileResponse(TEMPLATES / "live.js", media_type="text/javascript")

    async def events(request: Request) -> Response:
        return StreamingResponse(told(), media_type="text/event-stream")

    async def told() -> AsyncIterator[str]:
        last, quiet = "", 0.0
        while not is_ending():
            figures = in_figures(await run_in_threadpool(looker.runs), clock(), looker.last)
            text = json.dumps(figures)
            if text != last:
                last, quiet = text, 0.0
                yield f"data: {text}\n\n"
            elif quiet >= _STILL_THERE_S:
                quiet = 0.0
                yield ": still there\n\n"
            await asyncio.sleep(PACE_S)
            quiet += PACE_S

    def button(do: Callable[[], None]) -> Callable[[Request], Awaitable[Response]]:
        async def press(request: Request) -> Response:
            try:
                if not is_from_our_page(request.headers):
                    raise Refused(403, "this was sent by another page")
                form = await _form(request)
                if not is_token(form.get("token", ""), token):
                    raise Refused(403, "wrong token: open the address that this service printed")
                await run_in_threadpool(do)
            except Refused as refusal:
                return PlainTextResponse(f"{refusal}\n", refusal.status)
            except VarroError as error:
                return PlainTextResponse(f"{error}\n", 500)
            return RedirectResponse(f"/?token={quote(token)}", 303)

        return press

    def begin_pause() -> None:
        pause(config.home, looker.run, now=clock(), by="the live view")

    def end_pause() -> None:
        resume(config.home, looker.run)
        wake()

    def run_now() -> None:
        paused, lock = load_pause(config.home, looker.run), lock_path(config.home, looker.run)
        if paused is not None:
            raise Refused(409, f"{looker.run} is {paused}: resume it first")
        if is_held(lock):
            who = holder_of(lock) or "it has just begun"
            raise Refused(409, f"another varro is at work on {looker.run}: {who}")
        wake()

    buttons = {"/pause": begin_pause, "/resume": end_pause, "/run-now": run_now}
    app = Starlette(
        routes=[
            Route("/", live),
            Route("/live.js", script),
            Route("/events", events),
            *(Route(path, button(do), methods=["POST"]) for path, do in buttons.items()),
            Mount("/reports", Reports(directory=config.home / "reports", html=True)),
        ]
    )
    return Doors(app)  # around what answers for an error, too


class Reports(StaticFiles):
    """The files of the reports as they are, none outside of their folder; what is hidden is being
    written."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        if any(part.startswith(".") and part != "." for part in Path(path).parts):
            return "", None
        return super().lookup_path(path)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form.  Raises: Refused."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refused(415, "a form is wanted")
    content = b""
    try:
        async for part in request.stream():
            content += part
            if len(content) > _MAX_FORM:
                raise Refused(413, "the form is too long")
        fields = parse_qs(content.decode("ascii"), max_num_fields=5)
    except (ValueError, ClientDisconnect):
        raise Refused(400, "the form can not be read") from None
    return {key: values[-1] for key, values in fields.items()}
