"""forecasts.json and forecasts.csv: the newest days as data. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
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


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return table_text(value)
    return "" if value is None else value
