"""A message to an address of the user's own."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import Any

from varro.errors import FeedError


def post_message(url: str, message: dict[str, Any], *, timeout_s: float = 10.0) -> None:
    """Post JSON, and have an answer within `timeout_s` whatever the server does; only the status of
    it is read. The address is a secret, and no word of it is in the error.

    Raises: FeedError if it was not taken.
    """
    answer: SimpleQueue[int | Exception] = SimpleQueue()

    def run() -> None:
        try:
            answer.put(_status(url, message, timeout_s))
        except Exception as error:  # judged below, in the thread that waits
            answer.put(error)

    # httpx2 limits each read and not their sum, and a name's look-up not at all: what comes too
    # late is left behind in its thread.
    threading.Thread(target=run, daemon=True, name="varro-webhook").start()
    try:
        found = answer.get(timeout=timeout_s)
    except Empty:
        raise FeedError(f"the webhook has not answered within {timeout_s:g} s") from None
    if isinstance(found, Exception):
        raise FeedError(f"the webhook can not be reached ({type(found).__name__})") from None
    if not 200 <= found < 300:
        raise FeedError(f"the webhook answered {found}")


def _status(url: str, message: dict[str, Any], timeout_s: float) -> int:
    import httpx2

    asked = httpx2.stream("POST", url, json=message, timeout=timeout_s, follow_redirects=False)
    with asked as answer:
        return answer.status_code
