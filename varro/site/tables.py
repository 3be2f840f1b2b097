"""forecasts.json and forecasts.csv: the newest days as data, written and read again. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from varro.report.page import is_web_link, table_text
from varro.site.build import SiteFacts
from varro.site.chain import Link
from varro.site.record import PARTS, SCHEMA, SCORED, UNSETTLED, Json, canonical, moment_text
from varro.site.tally import ListedDay, Tally, as_plain

COLUMNS = (
    "id", "day", "made_at", "due", "status", "in_time", "reward", *PARTS, "probability",
    "settled_on", "void_reason", "invalid_reason", "policy_version", "role", "group", "k", "page",
    "sha256", "source", "title", "link", "text", "outcome_title", "outcome_source", "outcome_link",
)  # fmt: skip
_FLAT = {"parts": PARTS, "outcome": ("outcome_title", "outcome_source", "outcome_link")}
SCORES = tuple(column for key in SCORED for column in _FLAT.get(key, (key,)))
"""columns that are empty until a forecast is settled, and stay from then on"""
WORDS = ("source", "title", "link", "text", *_FLAT["outcome"])
"""columns that a site of scores only leaves empty"""
_EMPTY = (None, "")
JSON_FILE, CSV_FILE = "forecasts.json", "forecasts.csv"
FORECASTS_A_PAGE = 8


def forecast_page(group: Json, k: int) -> str:
    """The permanent address of a forecast, from the site's root."""
    number = k // FORECASTS_A_PAGE + 1
    return f"f/{group['id']}{'' if number == 1 else f'-{number}'}.html#k{k}"


def rows(day: Json) -> Iterator[dict[str, Any]]:
    """A flat row for each forecast of a day, by the names of `COLUMNS`; None where there is
    nothing."""
    for group in day["groups"]:
        headline = group["headline"]
        for forecast in group["forecasts"]:
            outcome = day["outcomes"].get(forecast["outcome"], {})
            row = {
                **{key: forecast.get(key) for key in COLUMNS},
                **{part: forecast["parts"].get(part) for part in PARTS},
                **{key: group[key] for key in ("made_at", "due", "in_time", "policy_version",
                                               "role")},
                "day": day["day"],
                "group": group["id"],
                "page": forecast_page(group, forecast["k"]),
                **{key: headline.get(key) for key in ("source", "title", "link")},
                **{f"outcome_{key}": outcome.get(key) for key in ("source", "title", "link")},
            }  # fmt: skip
            for key in ("link", "outcome_link"):
                row[key] = row[key] if is_web_link(row[key]) else None
            yield row


def as_csv(days: Iterable[Json]) -> bytes:
    """A table that a spreadsheet opens and does not run: text that would be a formula begins with
    an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for day in days:
        for row in rows(day):
            writer.writerow([_cell(row[name]) for name in COLUMNS])
    return out.getvalue().encode()


def as_json(
    facts: SiteFacts,
    days: Iterable[Json],
    listed: Sequence[ListedDay],
    tally: Tally,
    links: Sequence[Link],
) -> bytes:
    """The newest days whole, and where the others are: {schema, run, updated, counts, head, days:
    [{day, url, …}], forecasts: [row]}."""
    return canonical(
        {
            "schema": SCHEMA,
            "run": facts.run,
            "is_replay": facts.is_replay,
            "updated": moment_text(facts.updated),
            "counts": as_plain(tally.counts),
            "head": head_of(links[-1]) if links else None,
            "days": [
                {
                    "day": one.day,
                    "url": f"d/{one.day}.json",
                    "n_headlines": one.n_headlines,
                    **as_plain(one.counts),
                }
                for one in listed
            ],
            "forecasts": [row for day in days for row in rows(day)],
        }
    )


@dataclass
class Table:
    """Either file as it was read."""

    rows: dict[str, list[Json]]
    """by day"""
    head: Json | None = None
    days: Sequence[str] = ()
    """all that are listed; like the head in forecasts.json alone"""


def read_table(name: str, content: bytes) -> Table:
    """Raises: one of `DAMAGED` if it is not as it was written."""
    told: Iterable[Json]
    if name == CSV_FILE:
        table, told = Table({}), _csv_rows(content.decode())
    else:
        data = json.loads(content)
        table, told = (
            Table({}, data["head"], [one["day"] for one in data["days"]]),
            data["forecasts"],
        )
    for row in told:
        if not isinstance(row["day"], str) or not row["day"].isprintable():
            raise ValueError(f"a forecast of the day {row['day']!r}")
        table.rows.setdefault(row["day"], []).append({column: row[column] for column in COLUMNS})
    return table


def _csv_rows(text: str) -> Iterator[Json]:
    limit = csv.field_size_limit(max(len(text), csv.field_size_limit()))
    try:
        told = csv.reader(io.StringIO(text, newline=""), strict=True)
        if tuple(next(told, ())) != COLUMNS:
            raise ValueError("its columns are others")
        for cells in told:
            if len(cells) != len(COLUMNS):
                raise ValueError(f"a line of {len(cells)} values, not {len(COLUMNS)}")
            yield dict(zip(COLUMNS, cells, strict=True))
    finally:
        csv.field_size_limit(limit)


def differing(name: str, day: Json, table: Table) -> Iterator[str]:
    """Where the rows of a day in either file are not what the day's data say.

    The files are written after the data, and a publish may have been stopped in between: words may
    be shown in only one of both, and what was settled after the newest day in a file may not be
    settled in it.
    """
    told, newest = table.rows.get(day["day"], ()), max(table.rows, default="")
    if not told:
        return
    expected = {row["id"]: row for row in rows(day)}
    if [row["id"] for row in told] != list(expected):
        yield f"{name} has other forecasts of {day['day']} than were published"
        return
    for row in told:
        mine = expected[row["id"]]
        if name == CSV_FILE:
            mine = {column: str(_cell(value)) for column, value in mine.items()}
        is_open = row["status"] in UNSETTLED and all(row[c] in _EMPTY for c in SCORES)
        is_before = is_open and (not mine["settled_on"] or mine["settled_on"] > newest)
        for column in COLUMNS:
            if row[column] == mine[column] or (is_before and column in ("status", *SCORES)):
                continue
            if column not in WORDS or (row[column] not in _EMPTY and mine[column] not in _EMPTY):
                yield f"{name} tells another {column} of forecast {row['id']} than the day's data"
                break


def left_out(tables: Mapping[str, Table], links: Sequence[Link], completed: int) -> Iterator[str]:
    """Where the days in either file are not the newest ones: forecasts.json tells its own head, and
    forecasts.csv has the same days, or if a publish was stopped in between, ends at an earlier one,
    from that on which front page or feed tell (`completed`)."""
    if JSON_FILE not in tables:
        return
    table = tables[JSON_FILE]
    days = list(table.rows)
    place = next((link.place for link in links if head_of(link) == table.head), 0)
    if not place or table.days != [link.day for link in links[:place]]:
        yield f"{JSON_FILE} tells another head, or lists other days, than the chain has"
    elif not _ends_at(links[:place], days):
        yield f"{JSON_FILE} leaves out forecasts of days up to {links[place - 1].day}"
    elif CSV_FILE in tables:
        told = list(tables[CSV_FILE].rows)
        stops = range(max(completed, 1), place)
        if told != days and not any(_ends_at(links[:stop], told) for stop in stops):
            yield f"{CSV_FILE} has forecasts of other days than {JSON_FILE}"


def head_of(link: Link) -> dict[str, Any]:
    """A head as forecasts.json tells it."""
    return {"day": link.day, "place": link.place, "sha256": link.sha256()}


def _ends_at(links: Sequence[Link], days: Sequence[str]) -> bool:
    """Whether these are the newest of the days, without one left out but those that have none."""
    full = [link.day for link in links if link.entries]
    return list(days) == full[len(full) - len(days) :] if days else not links[-1].entries


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return table_text(value)
    return "" if value is None else value
