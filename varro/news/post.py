"""A message to an address of the user's own."""

from __future__ import annotations

from typing import Any

from varro.errors import FeedError


def post_message(url: str, message: dict[str, Any], *, timeout_s: float = 10.0) -> None:
    """Post JSON. The address is a secret, and no word of it is in the error.

    Raises: FeedError if it was not taken.
    """
    import httpx2

    try:
        answer = httpx2.post(url, json=message, timeout=timeout_s, follow_redirects=False)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise FeedError(f"the webhook can not be reached ({type(error).__name__})") from None
    if not answer.is_success:
        raise FeedError(f"the webhook answered {answer.status_code}")
