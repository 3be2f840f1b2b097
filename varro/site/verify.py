"""Is a site what it was when it was published? Told from the site alone.

Recomputed are the hashes of each forecast and matched headline from the day's data, what its page
and the tables of the newest days show of it, each manifest's hash and place, and the head that
front page, feed and forecasts.json tell. What this can not see is a site that was written anew as a
whole, with another chain and another head: for that somebody else must have kept an earlier head.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from varro.errors import ConfigError
from varro.files import disk_errors
from varro.report.page import show_controls
from varro.site.chain import Link, differences, load_chain
from varro.site.heads import completed_place, head_problems, told_heads
from varro.site.pages import LIMITS, SHRINKS
from varro.site.record import DAMAGED, Json, contradicts_itself, headline_sha256, recomputed
from varro.site.tables import (
    CSV_FILE,
    JSON_FILE,
    Table,
    differing,
    forecast_page,
    left_out,
    read_table,
)
from varro.site.write import IDENTITY, load_identity

_ID = re.compile(r"[0-9A-Za-z_.-]{1,64}")
"""of a group, which names a file"""
_NUMBER = re.compile(r"-?\d{1,9}(\.\d{1,17})?(e-?\d{1,3})?")
MIN_SHOWN = LIMITS["max_text"] // max(SHRINKS)
"""characters of a forecast that its page shows whatever its length"""
ROUNDED = Decimal("0.005")
"""how much a score may be rounded where it is shown"""
COMPLETES = "'varro publish' completes a publish that was stopped there"


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
        heads = told_heads(folder)
        completed = completed_place(heads)
        found.problems += head_problems(heads, links, missing=True)
        if any(link.run != found.run for link in links):
            found.problems.append(f"{IDENTITY} is of run {found.run!r}, and the chain of another")
        chained = {link.day for link in links}
        for file in sorted((folder / "d").glob("*.json")):
            if file.stem not in chained:
                found.problems.append(f"d/{file.name} is of a day that is not in the chain")
        tables = _tables(folder, found.problems)
        for link in links:
            file = folder / "d" / f"{link.day}.json"
            if file.is_file():
                _add(found.problems, f"d/{file.name} is not a day's data as it was written",
                     _of_day(folder, link, file.read_bytes(), found, tables))  # fmt: skip
            else:
                is_new = link.place > completed
                found.problems.append(
                    f"d/{file.name} is {'not there yet: ' + COMPLETES if is_new else 'gone'}"
                )
        found.problems += left_out(tables, links, completed)
        for name, table in tables.items():
            found.problems += [f"{name} has forecasts of {day}, which is not in the chain"
                               for day in sorted(table.rows.keys() - chained)]  # fmt: skip
        if links:
            found.head, found.place = links[-1].sha256(), links[-1].place
        return found


def _add(problems: list[str], damaged: str, found: Iterator[str]) -> None:
    """What is found, and if a file is so damaged that the search ends, that it is."""
    try:
        for problem in found:  # one by one: what was found before the damage stays
            problems.append(problem)
    except DAMAGED as error:
        problems.append(f"{damaged} ({type(error).__name__}: {error})")


def _tables(folder: Path, problems: list[str]) -> dict[str, Table]:
    """Those that can be read."""
    tables = {}
    for name in (JSON_FILE, CSV_FILE):
        try:
            tables[name] = read_table(name, (folder / name).read_bytes())
        except (FileNotFoundError, IsADirectoryError):
            problems.append(f"{name} is gone")
        except DAMAGED as error:
            problems.append(f"{name} is not a table as it was written ({error})")
    return tables


def _of_day(
    folder: Path, link: Link, content: bytes, found: Verified, tables: Mapping[str, Table]
) -> Iterator[str]:
    name, day = f"d/{link.day}.json", json.loads(content)
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
            if contradicts_itself(forecast):
                yield f"{name}: forecast {forecast['id']} has a score that its status has not"
            if forecast["outcome"] is not None and forecast["outcome"] not in day["outcomes"]:
                yield f"{name}: forecast {forecast['id']} was matched with a headline that is gone"
        yield from _page_problems(folder, group)
    yield from (f"{name}: {what}" for what in differences(link.entries, entries))
    for key, headline in day["outcomes"].items():
        sha256 = headline_sha256(headline["title"], headline["link"], headline["source"])
        if (headline["id"], headline["sha256"]) != (key, sha256):
            yield f"{name}: matched headline {key!r} is not the one that was published"
    found.n_forecasts += len(entries)
    found.n_late += late
    if late:
        found.late_days.append(link.day)
    for table, told in tables.items():
        yield from differing(table, day, told)


def _page_problems(folder: Path, group: Json) -> Iterator[str]:
    """Whether each forecast's page shows it as the data do."""
    shown: dict[str, dict[str, str]] = {}
    for forecast in group["forecasts"]:
        path, _, anchor = forecast_page(group, forecast["k"]).partition("#")
        if path not in shown:
            file = folder / path
            shown[path] = _told(file) if file.is_file() else {}
            if not shown[path]:
                yield f"{path} is gone, or tells nothing"
                continue
            title = group["headline"].get("title")
            headline = shown[path].get("headline")
            if title is not None and headline is None:
                yield f"{path} does not show the headline; {COMPLETES}"
            elif title is not None and headline != show_controls(title):
                yield f"{path} shows another headline than the one that was published"
        if not shown[path]:
            continue
        told = shown[path]
        if told.get(f"{anchor}-id") != forecast["id"]:
            yield f"{path} does not show forecast {forecast['id']} at #{anchor}"
            continue
        if not _is_shown(forecast["reward"], told.get(f"{anchor}-score")):
            is_ahead = forecast["settled_on"] is None
            more = f", which is not settled; {COMPLETES}" if is_ahead else ""
            yield f"{path}#{anchor} shows another score than the day's data{more}"
        if "text" in forecast and "headline" in told:
            text, found = show_controls(forecast["text"]), told.get(f"{anchor}-text", "")
            is_cut = len(found) >= MIN_SHOWN and text.startswith(found)
            if found != text and not is_cut:
                yield f"{path}#{anchor} shows another text than the one that was published"


def _is_shown(score: float | None, shown: str | None) -> bool:
    """Whether this is the score as some version of Varro may have rounded it."""
    if score is None or shown is None:
        return score is None and shown is None
    if not _NUMBER.fullmatch(shown):
        return False
    number = Decimal(shown)
    last_digit = Decimal(1).scaleb(int(number.as_tuple().exponent))
    return bool(abs(number - Decimal(score)) <= min(last_digit / 2, ROUNDED) + Decimal("1e-9"))


def _told(file: Path) -> dict[str, str]:
    """The text of each element with a `data-told`, by that name, and of the first number in a
    forecast's article, which is its score."""
    parser = _Told()
    with suppress(AssertionError):  # markup that no page has; what is told before it stays
        parser.feed(file.read_bytes().decode(errors="replace"))
        parser.close()
    return {name: "".join(parts) for name, parts in parser.told.items()}


class _Told(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.told: dict[str, list[str]] = {}
        self._open: list[tuple[str, str | None]] = []
        self._score: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        if tag not in ("meta", "link", "br", "img"):
            name = dict(attrs).get("data-told")
            if tag == "article":
                self._score = f"{dict(attrs).get('id')}-score"
            elif tag == "dd" and self._score is not None:
                name, self._score = self._score, None
            self._open.append((tag, name))
            if name:
                self.told.setdefault(name, [])

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self._score = None
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for name in {name for _, name in self._open if name}:
            self.told[name].append(data)
