"""forecasts.json and forecasts.csv: the newest days as data, written and read again. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from varro.report.page import is_web_link, table_text
from varro.site.build import SiteFacts
from varro.site.chain import Link
from varro.site.record import PARTS, SCHEMA, Json, canonical, moment_text
from varro.site.tally import ListedDay, Tally, as_plain

COLUMNS = (
    "id", "day", "made_at", "due", "status", "in_time", "reward", *PARTS, "probability",
    "settled_on", "void_reason", "invalid_reason", "policy_version", "role", "group", "k", "page",
    "sha256", "source", "title", "link", "text", "outcome_title", "outcome_source", "outcome_link",
)  # fmt: skip
SCORES = (
    "status", "reward", *PARTS, "probability", "settled_on", "void_reason", "invalid_reason",
    "outcome_title", "outcome_source", "outcome_link",
)  # fmt: skip
"""columns that are empty until a forecast is settled, and stay from then on; all others never
change"""
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
    head = links[-1] if links else None
    return canonical(
        {
            "schema": SCHEMA,
            "run": facts.run,
            "is_replay": facts.is_replay,
            "updated": moment_text(facts.updated),
            "counts": as_plain(tally.counts),
            "head": head and {"day": head.day, "place": head.place, "sha256": head.sha256()},
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


def read_rows(name: str, content: bytes) -> dict[str, list[dict[str, Any]]]:
    """The rows of either file by their day.

    Raises: ValueError, KeyError, TypeError or csv.Error if it is not as it was written.
    """
    if name == CSV_FILE:
        told: Iterable[dict[str, Any]] = csv.DictReader(
            io.StringIO(content.decode(), newline=""), strict=True
        )
    else:
        told = json.loads(content)["forecasts"]
    found: dict[str, list[dict[str, Any]]] = {}
    for row in told:
        found.setdefault(row["day"], []).append({column: row[column] for column in COLUMNS})
    return found


def differing(name: str, day: Json, told: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Where the rows of a day in either file are not what the day's data say.

    Of a forecast that is settled in one of them alone the score is not compared: the files are
    written after the data, and a publish may have been stopped in between.
    """
    expected = {row["id"]: row for row in rows(day)}
    if [row["id"] for row in told] != list(expected):
        yield f"{name} has other forecasts of {day['day']} than were published"
        return
    for row in told:
        mine = expected[row["id"]]
        if name == CSV_FILE:
            mine = {column: str(_cell(value)) for column, value in mine.items()}
        both_settled = row["settled_on"] and mine["settled_on"]
        for column in COLUMNS:
            if row[column] != mine[column] and (both_settled or column not in SCORES):
                yield f"{name} tells another {column} of forecast {row['id']} than the day's data"
                break


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return table_text(value)
    return "" if value is None else value
