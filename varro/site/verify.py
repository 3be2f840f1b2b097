"""Is a site what it was when it was published? Told from the site alone.

Recomputed are each forecast's hash from the day's data, what its page and the tables of the newest
days show of it, each manifest's hash and place, and the head that front page and feed tell. What
this can not see is a site that was written anew as a whole, with another chain and another head:
for that somebody else must have kept an earlier head.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from varro.errors import ConfigError
from varro.files import disk_errors
from varro.report.metrics import format_value
from varro.report.page import show_controls
from varro.site.chain import Link, differences, load_chain
from varro.site.pages import LIMITS, SHRINKS
from varro.site.record import Json, recomputed
from varro.site.tables import CSV_FILE, JSON_FILE, differing, forecast_page, read_rows
from varro.site.write import head_problems, load_identity

_ID = re.compile(r"[0-9A-Za-z_.-]{1,64}")
"""of a group, which names a file"""
Table = dict[str, list[dict[str, Any]]]
"""the rows of a table by their day"""
MIN_SHOWN = LIMITS["max_text"] // max(SHRINKS)
"""characters of a forecast that its page shows whatever its length"""


@dataclass
class Verified:
    run: str
    n_days: int = 0
    n_forecasts: int = 0
    head: str = ""
    place: int = 0
    n_late: int = 0
    """forecasts that were published after they were due"""
    late_days: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def verify_site(folder: Path) -> Verified:
    """What is wrong with a site, in words; nothing if it is sound.

    Raises: ConfigError if there is no site; DiskError.
    """
    with disk_errors(f"cannot read the site in {folder}"):
        identity = load_identity(folder)
        if identity is None:
            raise ConfigError(f"no site at {folder}; 'varro publish --out {folder}' makes one")
        links, problems = load_chain(folder)
        found = Verified(str(identity["run"]), n_days=len(links), problems=problems)
        found.problems += head_problems(folder, links, missing=True)
        chained = {link.day for link in links}
        for file in sorted((folder / "d").glob("*.json")):
            if file.stem not in chained:
                found.problems.append(f"d/{file.name} is of a day that is not in the chain")
        tables = {name: _table(folder, name, found.problems) for name in (JSON_FILE, CSV_FILE)}
        for link in links:
            found.problems += _day_problems(folder, link, found, tables)
        for name, told in tables.items():
            found.problems += [f"{name} has forecasts of {day}, which is not in the chain"
                               for day in sorted(told.keys() - chained)]  # fmt: skip
        if links:
            found.head, found.place = links[-1].sha256(), links[-1].place
        return found


def _table(folder: Path, name: str, problems: list[str]) -> Table:
    try:
        return read_rows(name, (folder / name).read_bytes())
    except FileNotFoundError:
        problems.append(f"{name} is gone")
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        problems.append(f"{name} is not a table as it was written ({error})")
    return {}


def _day_problems(
    folder: Path, link: Link, found: Verified, tables: Mapping[str, Table]
) -> list[str]:
    try:
        day = json.loads((folder / "d" / f"{link.day}.json").read_bytes())
        problems = list(_of_day(folder, link, day, found))
        for name, told in tables.items():
            if link.day in told:
                problems += differing(name, day, told[link.day])
        return problems
    except FileNotFoundError:
        return [f"d/{link.day}.json is gone"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"d/{link.day}.json is not a day's data as it was written ({error})"]


def _of_day(folder: Path, link: Link, day: Json, found: Verified) -> Iterator[str]:
    name = f"d/{link.day}.json"
    if (day["run"], day["day"], day["place"]) != (link.run, link.day, link.place):
        yield f"{name} is of another day than its manifest"
    if day["manifest_sha256"] != link.sha256() or day["published_at"] != link.published_at:
        yield f"{name} names another manifest than the chain has"
    entries = []
    late = 0
    for group in day["groups"]:
        if not _ID.fullmatch(group["id"]):
            yield f"{name} has a group with the id {group['id']!r}"
            continue
        in_time = link.published_at < group["due"]
        if group["in_time"] != in_time:
            yield f"{name}: forecasts of group {group['id']} say wrongly whether they were in time"
        late += 0 if in_time else len(group["forecasts"])
        for forecast in group["forecasts"]:
            sha256, contradictions = recomputed(day, group, forecast)
            entries.append((forecast["id"], sha256))
            yield from (f"{name}: forecast {forecast['id']}: {what}" for what in contradictions)
            if forecast["sha256"] != sha256:
                yield f"{name}: forecast {forecast['id']} has another hash than it says"
        yield from _page_problems(folder, group)
    yield from (f"{name}: {what}" for what in differences(link.entries, entries))
    found.n_forecasts += len(entries)
    found.n_late += late
    if late:
        found.late_days.append(link.day)


def _page_problems(folder: Path, group: Json) -> Iterator[str]:
    """Whether each forecast's page shows it as the data do."""
    shown: dict[str, dict[str, str]] = {}
    for forecast in group["forecasts"]:
        path, _, anchor = forecast_page(group, forecast["k"]).partition("#")
        if path not in shown:
            file = folder / path
            shown[path] = _told(file) if file.exists() else {}
            if not shown[path]:
                yield f"{path} is gone, or tells nothing"
                continue
            title = group["headline"].get("title")
            if title is not None and shown[path].get("headline") != show_controls(title):
                yield f"{path} shows another headline than the one that was published"
        if not shown[path]:
            continue
        told = shown[path]
        if told.get(f"{anchor}-id") != forecast["id"]:
            yield f"{path} does not show forecast {forecast['id']} at #{anchor}"
            continue
        if forecast["reward"] is not None:
            score = format_value("reward", forecast["reward"])
            if told.get(f"{anchor}-score") != score:
                yield f"{path}#{anchor} shows another score than the day's data"
        if "text" in forecast:
            text, found = show_controls(forecast["text"]), told.get(f"{anchor}-text", "")
            is_cut = len(found) >= MIN_SHOWN and text.startswith(found)
            if found != text and not is_cut:
                yield f"{path}#{anchor} shows another text than the one that was published"


def _told(file: Path) -> dict[str, str]:
    """The text of each element with a `data-told`, by that name."""
    parser = _Told()
    parser.feed(file.read_bytes().decode(errors="replace"))
    parser.close()
    return {name: "".join(parts) for name, parts in parser.told.items()}


class _Told(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.told: dict[str, list[str]] = {}
        self._open: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        if tag not in ("meta", "link", "br", "img"):
            name = dict(attrs).get("data-told")
            self._open.append((tag, name))
            if name:
                self.told.setdefault(name, [])

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for name in {name for _, name in self._open if name}:
            self.told[name].append(data)
