"""The data of a day's pages, `d/DAY.json`, from what the ledger tells: pages are made of nothing
else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from varro.domain import EvaluationInfo, ToldGroup
from varro.report.examples import beats_in
from varro.site.chain import Entry, Link
from varro.site.record import (
    SCHEMA,
    Json,
    bound_facts,
    due_at,
    moment_text,
    public_forecast,
    public_headline,
    sha256_of,
)


@dataclass(frozen=True)
class SiteFacts:
    """All that a site is made of, besides its own chain."""

    run: str
    title: str
    base_url: str | None
    scores_only: bool
    is_replay: bool
    """an archive's days: their clock is not the world's"""
    n_days: int
    """newest days listed on the front page"""
    n_data_days: int
    """newest days in forecasts.json and forecasts.csv"""
    updated: datetime
    """the ledger's clock"""
    now: datetime
    """what statuses are told by; never written"""
    days: Sequence[str]
    """those that have made their forecasts, oldest first"""
    clocks: Mapping[str, datetime]
    """of each of them"""
    told: Callable[[str], list[ToldGroup]]
    medoid: Callable[[Sequence[str]], int]
    """index of the text nearest in meaning to the others"""
    window_h: float
    min_window_h: float
    seed: int
    evaluations: Sequence[EvaluationInfo] = ()
    probabilities: Sequence[tuple[float, bool]] = ()
    changes: Sequence[tuple[str, str]] = ()
    """(day, what became of the policy), oldest first"""
    feeds: Sequence[tuple[str, str]] = ()
    """(name, host) of the feeds that are read: the rest of an address may be a secret"""
    notes: Mapping[str, str] = field(default_factory=dict)
    """week, as 2026-W35 → a note written by hand"""


def entries_of(facts: SiteFacts, groups: Sequence[ToldGroup]) -> list[Entry]:
    """The chain's entries of a day, in its order: by group as the ledger tells them, and k."""
    found = []
    for group in groups:
        due = due_at(group.made_at, facts.min_window_h)
        for forecast in group.forecasts:
            hashed = sha256_of(bound_facts(facts.run, group, forecast, due))
            found.append((forecast.id, hashed))
    return found


def day_data(
    facts: SiteFacts, link: Link, groups: Sequence[ToldGroup], earlier: Json | None
) -> dict[str, Any]:
    """What `d/DAY.json` holds.

    `earlier` is what it held when it was last published, whose reading of the texts is taken over:
    where the beats stand in them, and which is the medoid, does not change.
    """
    read = _read_before(earlier)
    days, place = facts.days, link.place
    hashes = dict(link.entries)
    return {
        "schema": SCHEMA,
        "run": facts.run,
        "day": link.day,
        "clock": moment_text(facts.clocks[link.day]),
        "previous": days[place - 2] if place > 1 else None,
        "following": days[place] if place < len(days) else None,
        "is_replay": facts.is_replay,
        "place": place,
        "manifest_sha256": link.sha256(),
        "published_at": link.published_at,
        "groups": [_group_data(facts, link, group, read, hashes) for group in groups],
        "outcomes": {} if facts.scores_only else _outcomes(groups),
    }


def _outcomes(groups: Sequence[ToldGroup]) -> dict[str, Any]:
    """The headlines that forecasts of the day were matched with, by id."""
    outcomes = {f.outcome.id: f.outcome for g in groups for f in g.forecasts if f.outcome}
    return {found.id: public_headline(found) for found in outcomes.values()}


def _group_data(
    facts: SiteFacts,
    link: Link,
    group: ToldGroup,
    read: Mapping[str, Any],
    hashes: Mapping[str, str],
) -> dict[str, Any]:
    due = due_at(group.made_at, facts.min_window_h)
    title, forecasts = group.headline.title, []
    for forecast in group.forecasts:
        sha256 = hashes[forecast.id]
        spans = read.get(sha256)
        if spans is None:
            spans = beats_in(forecast.text, title, group.made_at, facts.window_h)["spans"]
        found = public_forecast(forecast, due=due, now=facts.now)
        forecasts.append({**found, "sha256": sha256, "spans": spans})
    medoid = read.get(group.id)
    if medoid is None:
        medoid = facts.medoid([f.text for f in group.forecasts])
    data = {
        "id": group.id,
        "role": str(group.role),
        "policy_version": group.policy_version,
        "made_at": moment_text(group.made_at),
        "due": moment_text(due),
        "in_time": link.published_at < moment_text(due),
        "headline": public_headline(group.headline),
        "medoid": medoid,
        "forecasts": forecasts,
    }
    return _without_texts(data) if facts.scores_only else data


def _read_before(earlier: Json | None) -> dict[str, Any]:
    """Spans by the forecast's hash, and the medoid by the group's id; nothing of data that are not
    as they were written, which are then read anew."""
    read: dict[str, Any] = {}
    try:
        for group in earlier["groups"] if earlier else ():
            medoid, n = group["medoid"], len(group["forecasts"])
            if type(medoid) is int and 0 <= medoid < n:
                read[group["id"]] = medoid
            for forecast in group["forecasts"]:
                if "spans" in forecast:
                    spans = [[str(beat), int(a), int(b)] for beat, a, b in forecast["spans"]]
                    read[forecast["sha256"]] = spans
    except (KeyError, TypeError, ValueError):
        return {}
    return read


def _without_texts(group: dict[str, Any]) -> dict[str, Any]:
    """The group without words of third parties, nor of forecasts, which may repeat them; the
    hashes stay."""
    headline = {key: group["headline"][key] for key in ("id", "sha256", "first_seen")}
    forecasts = []
    for forecast in group["forecasts"]:
        kept = {k: v for k, v in forecast.items() if k not in ("text", "spans")}
        forecasts.append(kept | {"outcome": None})
    return group | {"headline": headline, "forecasts": forecasts}
