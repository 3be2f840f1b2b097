"""The append-only chain: each day's manifest names its forecasts by hash, and the manifest before.

    chain/DAY.json  =  {schema, run, day, place, previous, published_at, forecasts: [[id, sha256]]}
    head            =  sha256 of the newest manifest's bytes

A manifest is written once. `previous` is the sha256 of the one before, so that whoever knows the
head knows all that was published before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from varro.site.record import DAMAGED, SCHEMA, canonical, moment_text

FOLDER = "chain"
Entry = tuple[str, str]
"""(id, sha256) of a forecast"""


@dataclass(frozen=True, slots=True)
class Link:
    """One day's manifest."""

    run: str
    day: str
    place: int
    """1 for the first"""
    previous: str | None
    published_at: str
    """when it was written; before the forecasts' outcomes, or it says so itself"""
    entries: tuple[Entry, ...]

    def payload(self) -> bytes:
        return canonical(
            {
                "schema": SCHEMA,
                "run": self.run,
                "day": self.day,
                "place": self.place,
                "previous": self.previous,
                "published_at": self.published_at,
                "forecasts": self.entries,
            }
        )

    def sha256(self) -> str:
        return hashlib.sha256(self.payload()).hexdigest()


def next_link(
    newest: Link | None, run: str, day: str, entries: Sequence[Entry], published_at: datetime
) -> Link:
    """The manifest that follows."""
    return Link(
        run,
        day,
        1 if newest is None else newest.place + 1,
        None if newest is None else newest.sha256(),
        moment_text(published_at),
        tuple(entries),
    )


def load_chain(site: Path) -> tuple[list[Link], list[str]]:
    """The manifests of a site in their order, and what is wrong with them.

    A manifest that can not be read is left out, so the one after it is told to be out of order.
    """
    links: list[Link] = []
    problems: list[str] = []
    for file in sorted((site / FOLDER).glob("*.json")):
        name = f"{FOLDER}/{file.name}"
        content = file.read_bytes() if file.is_file() else b""
        link = _parsed(content)
        if link is None or link.day != file.stem:
            problems.append(f"{name} is not a manifest as it was written")
            continue
        before = links[-1] if links else None
        if link.place != len(links) + 1 or link.previous != (before and before.sha256()):
            problems.append(
                f"{name} does not follow {before.day if before else 'nothing'}: it names another "
                "manifest as the one before it"
            )
        links.append(link)
    return links, problems


def differences(told: Sequence[Entry], now: Sequence[Entry]) -> list[str]:
    """How the forecasts of a day differ from what its manifest says of them."""
    before, after = dict(told), dict(now)
    found = [f"forecast {i} was changed" for i in before if i in after and before[i] != after[i]]
    found += [f"forecast {i} was removed" for i in before if i not in after]
    found += [f"forecast {i} was put in afterwards" for i in after if i not in before]
    if not found and list(told) != list(now):
        found.append("its forecasts are in another order")
    return found


def _parsed(content: bytes) -> Link | None:
    """The manifest, if these are its bytes."""
    try:
        found = json.loads(content)
        if found["schema"] != SCHEMA:
            return None
        link = Link(
            str(found["run"]),
            str(found["day"]),
            int(found["place"]),
            None if found["previous"] is None else str(found["previous"]),
            str(found["published_at"]),
            tuple((str(i), str(sha)) for i, sha in found["forecasts"]),
        )
        return link if link.payload() == content else None
    except DAMAGED:
        return None
