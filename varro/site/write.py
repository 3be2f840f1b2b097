"""A site is written: chain first, pages as they have changed, the front page last.

What is refused is refused before anything is written. Every file is written whole or not at all; a
publish that was stopped anywhere is completed by the next one, because a day's data are written
after its pages, and the site's look after all of them.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from varro import __version__
from varro.domain import ToldGroup
from varro.errors import ConfigError, SiteError
from varro.files import disk_errors, write_file
from varro.forecast.beats import BEATS_VERSION
from varro.site import tables
from varro.site.against import day_problems
from varro.site.build import SiteFacts, day_data, entries_of
from varro.site.chain import FOLDER, Link, differences, load_chain, next_link
from varro.site.feed import atom_feed
from varro.site.heads import head_problems, told_heads
from varro.site.pages import Pages, look_of
from varro.site.record import DAMAGED, SCHEMA, Json, canonical
from varro.site.tally import ListedDay, Tally, as_plain

IDENTITY = "site.json"


@dataclass
class Published:
    """What came of it."""

    folder: Path
    tag: str
    """what the feed's ids begin with"""
    head: str = ""
    place: int = 0
    n_days: int = 0
    n_forecasts: int = 0
    n_new_days: int = 0
    n_late: int = 0
    n_written: int = 0
    n_unchanged: int = 0
    """files that were as they should be"""
    counts: dict[str, int] = field(default_factory=dict)


def publish_site(folder: Path, facts: SiteFacts, *, anew: bool = False) -> Published:
    """Bring a site up to date with the ledger; `anew` renders every page again.

    Raises: ConfigError for a folder that is something else; SiteError, with nothing written, if
    what was published is not what the ledger says now; DiskError.
    """
    with disk_errors(f"the site in {folder} is not complete"):
        identity = _identity(folder, facts)
        known = _sound_chain(folder, facts)
        pages = Pages(facts)
        look = look_of(facts, __version__)
        is_same_look = identity["look"] == look and not anew
        reads_the_same = identity["beats"] == BEATS_VERSION and not anew
        looked_at = _Days(folder, facts, known, pages, reads_the_same, is_same_look)
        looked_at.read()
        made = Published(folder, identity["tag"], n_new_days=len(looked_at.links) - len(known))
        if not is_same_look:
            identity |= {"look": None, "beats": BEATS_VERSION if reads_the_same else None}
            _put(made, IDENTITY, canonical(identity))
        _write(made, facts, pages, looked_at)
        _put(made, IDENTITY, canonical(identity | {"look": look, "beats": BEATS_VERSION}))
        _put(made, "index.html", pages.front(looked_at.tally, looked_at.listed,
                                             looked_at.newest[-1], looked_at.links))  # fmt: skip
        return made


@dataclass
class _Days:
    """The ledger's days, held against what was published of them; nothing is written here."""

    folder: Path
    facts: SiteFacts
    known: list[Link]
    pages: Pages
    reads_the_same: bool
    is_same_look: bool
    links: list[Link] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    listed: list[ListedDay] = field(default_factory=list)
    newest: deque[Json] = field(default_factory=deque)
    changed: dict[str, bytes] = field(default_factory=dict)
    """new data of days whose pages are to be rendered, packed"""
    n_unchanged: int = 0

    def read(self) -> None:
        """Raises: SiteError if a day is not in the ledger as it was published."""
        facts = self.facts
        when = facts.updated if facts.is_replay else max(facts.updated, facts.now)
        for place, day in enumerate(facts.days):
            groups = facts.told(day)
            entries = entries_of(facts, groups)
            if place < len(self.known):
                link = self.known[place]
                if wrong := differences(link.entries, entries):
                    _refuse([f"day {day} is not in the ledger as it was published: {w}"
                             for w in wrong], self.folder)  # fmt: skip
            else:
                before = self.links[-1] if self.links else None
                link = next_link(before, facts.run, day, entries, when)
            self.links.append(link)
            self._take(link, groups)

    def _take(self, link: Link, groups: list[ToldGroup]) -> None:
        file = self.folder / "d" / f"{link.day}.json"
        before = file.read_bytes() if file.exists() else None
        data = day_data(self.facts, link, groups, _loaded(before) if self.reads_the_same else None)
        payload = canonical(data)
        paths = self.pages.paths_of(data)
        is_whole = all((self.folder / path).exists() for path in paths)
        if self.is_same_look and before == payload and is_whole:
            self.n_unchanged += len(paths) + 1
        else:
            self.changed[link.day] = zlib.compress(payload, 1)
        self.listed.append(self.tally.add(data))
        self.newest.append(data)
        if len(self.newest) > self.facts.n_data_days:
            self.newest.popleft()


def _write(made: Published, facts: SiteFacts, pages: Pages, days: _Days) -> None:
    """Everything but the front page: the chain first, and each day's data after its pages."""
    for link in days.links:
        _put(made, f"{FOLDER}/{link.day}.json", link.payload())
    _put(made, ".nojekyll", b"")
    _put(made, "style.css", pages.style())
    for day, packed in days.changed.items():
        payload = zlib.decompress(packed)
        for path, page in pages.of_day(json.loads(payload)):
            _put(made, path, page)
        _put(made, f"d/{day}.json", payload)
    tally, listed, links = days.tally, days.listed, days.links
    for path, page in pages.of_all(tally, listed, links):
        _put(made, path, page)
    _put(made, tables.JSON_FILE, tables.as_json(facts, days.newest, listed, tally, links))
    _put(made, tables.CSV_FILE, tables.as_csv(days.newest))
    _put(made, "feed.xml", atom_feed(facts, made.tag, listed, tally, links))
    made.n_unchanged += days.n_unchanged
    made.n_days, made.n_forecasts = len(links), sum(len(link.entries) for link in links)
    made.head, made.place = links[-1].sha256(), links[-1].place
    made.n_late, made.counts = tally.n_late, as_plain(tally.counts)


def _put(made: Published, path: str, content: bytes) -> None:
    file = made.folder / path
    if file.exists() and file.read_bytes() == content:
        made.n_unchanged += 1
        return
    write_file(file, content)
    made.n_written += 1


def _identity(folder: Path, facts: SiteFacts) -> dict[str, Any]:
    """What `site.json` holds: whose site it is, and how its pages were last made."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder for the site")
    known = load_identity(folder)
    if known is None:
        if folder.exists() and any(not f.name.startswith(".") for f in folder.iterdir()):
            raise ConfigError(
                f"{folder} is not empty and holds no site; name a new folder, and a site that lost "
                f"its {IDENTITY} is to be mended from its history"
            )
        host = re.sub(r"^https?://([^/:]+).*", r"\1", facts.base_url or "varro.invalid").lower()
        tag = f"tag:{host},{facts.days[0][:10]}:{facts.run}"
        return {"schema": SCHEMA, "run": facts.run, "tag": tag, "look": None, "beats": None}
    if known["run"] != facts.run:
        raise ConfigError(
            f"{folder} is the site of run {known['run']!r}, and this is run {facts.run!r}; name "
            "another folder"
        )
    return known


def load_identity(folder: Path) -> dict[str, Any] | None:
    """What `site.json` holds; None if there is no such file.

    Raises: SiteError if it can not be read.
    """
    file = folder / IDENTITY
    if not file.exists():
        return None
    found = _loaded(file.read_bytes() if file.is_file() else None)
    keys = ("run", "tag", "look", "beats")
    if (
        found is None
        or found.get("schema") != SCHEMA
        or any(key not in found for key in keys)
        or not str(found["run"]).isprintable()
    ):
        raise SiteError(f"{file} is not of a site that this Varro knows; mend it from its history")
    return dict(found)


def _sound_chain(folder: Path, facts: SiteFacts) -> list[Link]:
    """The site's chain, whose days are the first of the ledger's.

    Raises: SiteError if it is not as it was written, or of other days.
    """
    links, problems = load_chain(folder)
    problems += head_problems(told_heads(folder), links) + day_problems(facts, links)
    if problems:
        _refuse(problems, folder)
    return links


def _refuse(problems: list[str], folder: Path) -> NoReturn:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise SiteError(
        f"{problems[0]}{more}; nothing was written, what was published stays as it was: mend it "
        f"from its history, see 'varro publish --verify {folder}'"
    )


def _loaded(content: bytes | None) -> Mapping[str, Any] | None:
    try:
        found = json.loads(content or b"null")
    except DAMAGED:
        return None
    return found if isinstance(found, dict) else None
