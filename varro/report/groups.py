"""All forecasts of a day, group by group, on as many pages as keep each of them light. Pure.

`settled.html` holds what the day settled, `made.html` what it made; further pages are numbered.
A group keeps its anchor, `g-ID`, so that a link to all eight of its forecasts stays good.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from varro.domain import Group, Headline, Role, Settlement
from varro.report.examples import PARTS

MAX_BYTES = 150_000
"""of a page's groups: with base and style it stays under 200 kB"""
_OF_GROUP, _OF_FORECAST = 600, 500
"""bytes of markup around a group and a forecast, generous"""
SERVED = (Role.TRAIN, Role.HELDOUT)

Page = dict[str, Any]


def settled_groups_of_day(
    settled: Sequence[tuple[Settlement, Group]], outcomes: Mapping[str, Headline]
) -> list[dict[str, Any]]:
    """The served policy's groups that a day settled, each forecast with what it earned."""
    by_group: dict[str, dict[str, Settlement]] = {}
    groups: dict[str, Group] = {}
    for settlement, group in settled:
        if group.role in SERVED:
            groups[group.id] = group
            by_group.setdefault(group.id, {})[settlement.forecast_id] = settlement
    return [_group(group, by_group[key], outcomes) for key, group in groups.items()]


def made_groups_of_day(groups: Iterable[Group]) -> list[dict[str, Any]]:
    """The groups that a day made, not settled yet."""
    return [_group(group, {}, {}) for group in groups]


def paginate(kind: str, groups: Sequence[dict[str, Any]]) -> list[Page]:
    """[{file, groups}], each page at most `MAX_BYTES`, or of one group; one page at least."""
    pages: list[list[dict[str, Any]]] = [[]]
    size = 0
    for group in groups:
        weight = _weight(group)
        if pages[-1] and size + weight > MAX_BYTES:
            pages.append([])
            size = 0
        pages[-1].append(group)
        size += weight
    return [
        {"file": f"{kind}.html" if n == 0 else f"{kind}-{n + 1}.html", "groups": found}
        for n, found in enumerate(pages)
    ]


def links_of(pages: Iterable[Page]) -> dict[str, str]:
    """Group id → where all of its forecasts are."""
    return {
        group["id"]: f"{page['file']}#g-{group['id']}" for page in pages for group in page["groups"]
    }


def _group(
    group: Group, settlements: Mapping[str, Settlement], outcomes: Mapping[str, Headline]
) -> dict[str, Any]:
    forecasts = []
    for forecast in group.forecasts:
        settlement = settlements.get(forecast.id)
        outcome = outcomes.get((settlement and settlement.outcome_id) or "")
        forecasts.append({
            "id": forecast.id,
            "k": forecast.k,
            "text": forecast.text,
            "reward": settlement.reward if settlement else None,
            "parts": {p: settlement.components.get(p) for p in PARTS} if settlement else None,
            "unpaid": settlement and (settlement.void_reason or settlement.invalid_reason),
            "outcome": outcome.title if outcome else None,
            "outcome_link": outcome.link if outcome else None,
        })  # fmt: skip
    return {
        "id": group.id,
        "role": str(group.role),
        "headline": group.headline.title,
        "headline_link": group.headline.link,
        "source": group.headline.source,
        "made_at": f"{group.made_at:%Y-%m-%dT%H:%M:%SZ}",
        "policy_version": group.policy_version,
        "forecasts": forecasts,
    }


def _weight(group: Mapping[str, Any]) -> int:
    """Bytes of a group's markup."""
    forecasts = group["forecasts"]
    texts = [group["headline"], group["headline_link"], group["source"], group["id"]]
    for f in forecasts:
        texts += (f["text"], f["outcome"], f["outcome_link"], f["unpaid"])
    written = escape("".join([text for text in texts if text])).encode("utf-8", "replace")
    return _OF_GROUP + _OF_FORECAST * len(forecasts) + len(written)
