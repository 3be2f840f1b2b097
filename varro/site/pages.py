"""The pages of a site, rendered from its data. Every page is below 60 KB whatever it is given.

Addresses that stay: `f/GROUP.html#k3` for a forecast, `d/DAY.html` for a day, and for a week
`postmortems/WEEK.html`. All are relative, so that the site works from a disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from varro.report.page import Badge
from varro.report.templating import TEMPLATES as SHARED
from varro.report.templating import page_environment
from varro.site import views
from varro.site.build import SiteFacts
from varro.site.chain import FOLDER, Link
from varro.site.record import Json, moment_text
from varro.site.tables import FORECASTS_A_PAGE, forecast_page
from varro.site.tally import ListedDay, Tally, in_words, source_of, title_of, week_of

TEMPLATES = Path(__file__).parent / "templates"
MAX_PAGE = 60_000
"""bytes"""
LIMITS = {"max_text": 1000, "max_excerpt": 280, "max_title": 160, "max_name": 60, "max_link": 2000}
"""characters that are shown of a forecast on its page, of one in a list, of a title there, and of
the name of a source; and of an address, of which longer ones are not links. The day's data have all
of them whole"""
SHRINKS = (1, 2, 4)
"""by which they are divided, one after the other, where a page would be too long"""
N_ON_FRONT = 12
GROUPS_A_PAGE = 16
DAYS_A_PAGE = 150
WEEKS_A_PAGE = 60
MAX_SOURCES = 150
MAX_FEEDS = 100
MAX_NOTE = 6000
"""characters of a note written by hand"""


class Pages:
    """Renders what `publish_site` writes."""

    def __init__(self, facts: SiteFacts) -> None:
        self._facts = facts
        self._rows: list[views.WeekRow] | None = None
        self._environment = page_environment(TEMPLATES)
        self._environment.filters["cut"] = views.cut
        self._environment.globals |= {
            "facts": facts,
            "updated": moment_text(facts.updated),
            "page_of": forecast_page,
            "pieces": views.pieces,
            "group_status": views.group_status,
            "title_of": title_of,
            "source_of": source_of,
        }

    def style(self) -> bytes:
        return self._environment.get_template("site.css").render().encode()

    def paths_of(self, day: Json) -> list[str]:
        """The pages of one day."""
        paths = [
            self._day_path(day["day"], n) for n in range(_n_pages(day["groups"], GROUPS_A_PAGE))
        ]
        for group in day["groups"]:
            ks = range(0, len(group["forecasts"]), FORECASTS_A_PAGE)
            paths += [
                forecast_page(group, group["forecasts"][k]["k"]).partition("#")[0] for k in ks
            ]
        return paths

    def of_day(self, day: Json) -> Iterator[tuple[str, bytes]]:
        for group in day["groups"]:
            for first in range(0, len(group["forecasts"]), FORECASTS_A_PAGE):
                shown = group["forecasts"][first : first + FORECASTS_A_PAGE]
                path = forecast_page(group, shown[0]["k"]).partition("#")[0]
                yield path, self._forecasts(day, group, shown)
        for number, groups in enumerate(_in_pages(day["groups"], GROUPS_A_PAGE)):
            others = _others(self._day_path, day["day"], number, day["groups"], GROUPS_A_PAGE)
            state = _state("Forecasts", "◆")
            yield (
                self._day_path(day["day"], number),
                self._render(
                    "day.html", "../", state, day=day, groups=groups, others=others, number=number
                ),
            )

    def of_all(
        self,
        tally: Tally,
        listed: Sequence[ListedDay],
        links: Sequence[Link],
    ) -> Iterator[tuple[str, bytes]]:
        """The pages across days, but the front page."""
        rows = self._week_rows(tally)
        newest_first = list(reversed(listed))
        for number, days in enumerate(_in_pages(newest_first, DAYS_A_PAGE)):
            others = _others(_path, "days", number, newest_first, DAYS_A_PAGE)
            page = self._render("days.html", "", _state("Days", "◆"), days=days, others=others)
            yield _path("days", number), page
        for number, weeks in enumerate(_in_pages(rows, WEEKS_A_PAGE)):
            others = _others(_path, "scorecard", number, rows, WEEKS_A_PAGE)
            yield (
                _path("scorecard", number),
                self._render(
                    "scorecard.html",
                    "",
                    _state("Scorecard", "▤"),
                    weeks=weeks,
                    settled=set(tally.weeks),
                    chart=views.lift_chart(weeks),
                    calibration=views.calibration_view(self._facts),
                    n_probabilities=len(self._facts.probabilities),
                    min_in_bin=views.MIN_IN_BIN,
                    others=others,
                ),
            )
        names = sorted(tally.weeks)
        for place, name in enumerate(names):
            yield f"postmortems/{name}.html", self._postmortem(tally, names, place)
        head = links[-1]
        yield (
            "about.html",
            self._render(
                "about.html", "", _state("About", "◆"), head=head, definitions=views.definitions()
            ),
        )
        yield (
            "feeds.html",
            self._render(
                "feeds.html",
                "",
                _state("Sources", "◆"),
                sources=_sources(tally),
                n=len(tally.sources),
                max_feeds=MAX_FEEDS,
            ),
        )

    def front(
        self, tally: Tally, listed: Sequence[ListedDay], newest: Json, links: Sequence[Link]
    ) -> bytes:
        badges = views.site_badges(self._facts, tally)
        rows = self._week_rows(tally)
        return self._render(
            "index.html",
            "",
            badges[0],
            badges=badges,
            counts=in_words(tally.counts),
            tally=tally,
            today=newest,
            groups=newest["groups"][:N_ON_FRONT],
            weeks=rows[:4],
            chart=views.lift_chart(rows[:26]),
            settled=set(tally.weeks),
            days=list(reversed(listed))[: self._facts.n_days],
            head=links[-1],
        )

    def _week_rows(self, tally: Tally) -> list[views.WeekRow]:
        if self._rows is None:
            self._rows = views.week_rows(self._facts, tally)
        return self._rows

    def _forecasts(self, day: Json, group: Json, shown: Sequence[Json]) -> bytes:
        badge = views.group_status(group)
        return self._render(
            "forecasts.html",
            "../",
            Badge(badge.word, "", badge.icon, badge.tone),
            day=day,
            group=group,
            forecasts=[(f, views.status_badge(f), views.parts_of(f)) for f in shown],
            manifest=f"../{FOLDER}/{day['day']}.json",
        )

    def _postmortem(self, tally: Tally, names: Sequence[str], place: int) -> bytes:
        name = names[place]
        week, before = tally.weeks[name], tally.weeks[names[place - 1]] if place else None
        changes = [(d, text) for d, text in self._facts.changes if week_of(d) == name]
        note = self._facts.notes.get(name)
        return self._render(
            "postmortem.html",
            "../",
            _state("Post-mortem", "◆"),
            week=week,
            parts=views.week_parts(week, before),
            sources=views.low_sources(week),
            changes=changes,
            note=None if note is None else _paragraphs(note),
            calls=[(w, c) for w, c in (("Best call", week.best), ("Worst miss", week.worst)) if c],
            earlier=names[place - 1] if place else None,
            later=names[place + 1] if place + 1 < len(names) else None,
        )

    def _render(self, template: str, root: str, state: Badge, **values: Any) -> bytes:
        found = b""
        for shrink in SHRINKS:
            limits = {name: limit // shrink for name, limit in LIMITS.items()}
            page = self._environment.get_template(template)
            found = (page.render(root=root, state=state, **limits, **values) + "\n").encode()
            if len(found) <= MAX_PAGE:
                break
        return found

    def _day_path(self, day: str, number: int) -> str:
        return f"d/{_path(day, number)}"


def look_of(facts: SiteFacts, version: str) -> str:
    """Names how pages are made: with another look, all of them are rendered again."""
    digest = hashlib.sha256(repr((version, facts.title, facts.base_url)).encode())
    for folder in (TEMPLATES, SHARED):
        for file in sorted(folder.iterdir()):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _state(word: str, icon: str) -> Badge:
    return Badge(word, "", icon, "calm")


def _path(name: str, number: int) -> str:
    return f"{name}.html" if number == 0 else f"{name}-{number + 1}.html"


def _n_pages(items: Sequence[Any], size: int) -> int:
    return max(1, -(-len(items) // size))


def _in_pages(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[n * size : (n + 1) * size] for n in range(_n_pages(items, size))]


def _others(
    path: Any, name: str, number: int, items: Sequence[Any], size: int
) -> list[tuple[int, str | None]]:
    """(number from 1, file beside this one) of each page there is; no file for this one."""
    n = _n_pages(items, size)
    return [
        (other + 1, None if other == number else path(name, other).rpartition("/")[2])
        for other in range(n)
        if n > 1
    ]


def _sources(tally: Tally) -> list[tuple[str, int, int, int, float | None]]:
    """(source, forecasts, settled, scored, mean score), the most forecast first."""
    found = [(name, counts.total(), counts["settled"], reward.n, reward.value)
             for name, (counts, reward) in tally.sources.items()]  # fmt: skip
    return sorted(found, key=lambda row: (-row[1], row[0]))[:MAX_SOURCES]


def _paragraphs(note: str) -> list[str]:
    """A note as plain paragraphs: blank lines part them, nothing in it is markup."""
    return [" ".join(part.split()) for part in note.split("\n\n") if part.strip()]
