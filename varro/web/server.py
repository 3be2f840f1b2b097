"""The live view's server: a thread of `varro serve`, on this machine's own address alone.

The day is a process of its own, so the thread has an interpreter that waits, and an update at work
does not hold up a page.
"""

from __future__ import annotations

import logging
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from varro.config import Config
from varro.errors import ConfigError, VarroError
from varro.files import make_folder
from varro.web.facts import Looker

HOST = "127.0.0.1"
_END_S = 2
"""for answers under way when the service ends"""
_MAX_CONNECTIONS = 64


@contextmanager
def live_view(
    config: Config, wake: Callable[[], None], *, port: int, say: Callable[[str], None]
) -> Iterator[str]:
    """Answers while the block runs; its address with the token is given, and said once.

    Who asks before the thread has begun waits for it. Raises: ConfigError if nothing can listen on
    that port; VarroError if the reports' folder can not be made.
    """
    import uvicorn

    from varro.web.app import live_app

    listener = _listen(port)
    with listener:
        try:
            make_folder(config.home / "reports")
        except OSError as error:
            raise VarroError(f"cannot make the reports' folder: {error}") from error
        token = secrets.token_urlsafe(24)
        looker = Looker(config)
        app = live_app(
            looker,
            token=token,
            wake=wake,
            clock=lambda: datetime.now(UTC),
            is_ending=lambda: server.should_exit,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                access_log=False,  # it would have the token in it
                http="h11",
                interface="asgi3",
                lifespan="off",
                limit_concurrency=_MAX_CONNECTIONS,
                log_config=None,
                loop="asyncio",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_END_S,
                ws="none",
            )
        )

        def answer() -> None:
            try:
                server.run(sockets=[listener])
            finally:
                if not server.should_exit:
                    say("the live view has ended; the service goes on without it")

        thread = threading.Thread(target=answer, name="live view", daemon=True)
        thread.start()
        try:
            address = f"http://{HOST}:{listener.getsockname()[1]}/?token={token}"
            say(f"live view: {address}")
            yield address
        finally:
            server.should_exit = True
            thread.join(_END_S + 1)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(_MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"the live view cannot listen on {HOST}:{port}: {error.strerror}; name another --port"
        ) from error
    return listener
