"""A site against the ledger that it was made from: its days, its chain, and its scores, which come
after the chain and are bound by nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from varro.domain import ToldGroup
from varro.site.build import SiteFacts, entries_of
from varro.site.chain import Link, differences
from varro.site.heads import completed_place, told_heads
from varro.site.record import DAMAGED, SCORED, Json, due_at, public_forecast, public_headline


def ledger_problems(folder: Path, facts: SiteFacts, links: Sequence[Link]) -> list[str]:
    """Where the ledger differs from what the chain says of it, and from the scores in the data."""
    problems = day_problems(facts, links)
    place = completed_place(told_heads(folder))
    until = links[min(place, len(links)) - 1].day if place and links else ""
    for link in links:
        if link.day in facts.days:
            groups = facts.told(link.day)
            problems += [
                f"day {link.day} is not in the ledger as it was published: {what}"
                for what in differences(link.entries, entries_of(facts, groups))
            ]
            problems += _score_problems(folder, facts, link.day, groups, until)
    return problems


def day_problems(facts: SiteFacts, links: Sequence[Link]) -> list[str]:
    """Where the chain's days are not the first of the ledger's."""
    days, chained = set(facts.days), {link.day for link in links}
    newest = max(chained, default="")
    problems = [f"chain/{x.day}.json is of run {x.run!r}" for x in links if x.run != facts.run]
    problems += [f"day {day} was published, and the ledger has no such day"
                 for day in sorted(chained - days)]  # fmt: skip
    problems += [f"day {day} is in the ledger and not in the chain, which went on to {newest}"
                 for day in facts.days if day < newest and day not in chained]  # fmt: skip
    return problems


def _score_problems(
    folder: Path, facts: SiteFacts, day: str, groups: Sequence[ToldGroup], until: str
) -> Iterator[str]:
    """Forecasts whose score in a day's data is not the ledger's, which keeps each for good. What
    was settled after `until`, the day of the newest head that is told, need not be there yet."""
    told, headlines = _told(folder / "d" / f"{day}.json")
    for group in groups:
        due = due_at(group.made_at, facts.min_window_h)
        for forecast in group.forecasts:
            said, mine = told.get(forecast.id), public_forecast(forecast, due=due, now=facts.now)
            if said is None or (said.get("settled_on") is None and
                                (mine["settled_on"] or "") > until):  # fmt: skip
                continue
            outcome = forecast.outcome if "text" in said else None  # none, if of scores only
            mine["outcome"] = outcome and outcome.id
            is_same = all(said.get(key) == mine[key] for key in SCORED)
            if outcome is not None:
                is_same &= headlines.get(outcome.id) == public_headline(outcome)["sha256"]
            if not is_same:
                yield f"d/{day}.json: forecast {forecast.id} has another score than the ledger"


def _told(file: Path) -> tuple[dict[str, Json], dict[str, str]]:
    """The forecasts of a day's data by id, and the hash of each matched headline by its id, as far
    as they can be read: `verify_site` tells of the rest."""
    told: dict[str, Json] = {}
    headlines: dict[str, str] = {}
    try:
        data = json.loads(file.read_bytes())
        for group in data["groups"]:
            told |= {forecast["id"]: forecast for forecast in group["forecasts"]}
        for name, headline in data["outcomes"].items():
            headlines[name] = headline["sha256"]
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, *DAMAGED):
        pass
    return told, headlines
