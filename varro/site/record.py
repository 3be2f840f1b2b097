"""What is public of a forecast, and the hash that binds it before its outcome. Pure.

    hash  =  sha256 of {run, day, group, id, k, made_at, due, policy_version, headline_sha256,
             text_sha256} as canonical JSON

Headline and text stand in it by their own hashes, so that a site which shows neither is bound to
both, and may show them later.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from varro.domain import Headline, Settlement, ToldForecast, ToldGroup

SCHEMA = 1
OVERDUE = timedelta(days=2)
PARTS = ("format", "semantic", "contrast", "similarity", "placebo", "vote", "margin", "gate")
"""components of a reward that are shown"""
SCORED: dict[str, Any] = {
    "settled_on": None, "reward": None, "parts": {}, "probability": None, "invalid_reason": None,
    "void_reason": None, "outcome": None,
}  # fmt: skip
"""what settling gives a forecast, and nothing changes afterwards; and how it stands until then"""
UNSETTLED = ("open", "due", "overdue")
DAMAGED = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, csv.Error,
)  # fmt: skip
"""what reading a file raises that is not as it was written"""
Json = Mapping[str, Any]


def canonical(value: object) -> bytes:
    """The one way a value is written as JSON, in UTF-8 with a final newline."""
    text = json.dumps(
        value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    )
    return text.encode() + b"\n"


def sha256_of(value: object) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def headline_sha256(title: str, link: str, source: str) -> str:
    return sha256_of({"link": link, "source": source, "title": title})


def moment_text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def due_at(made_at: datetime, min_window_h: float) -> datetime:
    """The first moment at which a forecast can be settled."""
    return made_at + timedelta(hours=min_window_h)


def bound_facts(run: str, group: ToldGroup, forecast: ToldForecast, due: datetime) -> Json:
    """What the chain's hash of a forecast is taken of."""
    headline = group.headline
    return {
        "run": run,
        "day": group.day,
        "group": group.id,
        "id": forecast.id,
        "k": forecast.k,
        "made_at": moment_text(group.made_at),
        "due": moment_text(due),
        "policy_version": group.policy_version,
        "headline_sha256": headline_sha256(headline.title, headline.link, headline.source),
        "text_sha256": text_sha256(forecast.text),
    }


def status_of(forecast: ToldForecast, due: datetime, now: datetime) -> str:
    """`open`, `due`, `overdue` (by more than two days), `settled` or `void`."""
    if forecast.settlement is not None:
        return "void" if _finite(forecast.settlement.reward) is None else "settled"
    if now < due:
        return "open"
    return "due" if now - due <= OVERDUE else "overdue"


def public_forecast(forecast: ToldForecast, *, due: datetime, now: datetime) -> dict[str, Any]:
    """One forecast as the site tells it."""
    settlement = forecast.settlement
    return {
        "id": forecast.id,
        "k": forecast.k,
        "text": forecast.text,
        "text_sha256": text_sha256(forecast.text),
        "status": status_of(forecast, due, now),
        "settled_on": settlement and settlement.day,
        "reward": settlement and _finite(settlement.reward),
        "parts": _parts(settlement) if settlement else {},
        "probability": settlement and _finite(settlement.components.get("probability")),
        "invalid_reason": settlement and settlement.invalid_reason,
        "void_reason": settlement and settlement.void_reason,
        "outcome": forecast.outcome and forecast.outcome.id,
    }


def contradicts_itself(forecast: Json) -> bool:
    """Whether a forecast is told with a score that its status has not, or with another status.

    Raises: KeyError if it lacks one of the facts of a score.
    """
    score = {key: forecast[key] for key in SCORED}
    if score["settled_on"] is None:
        return score != SCORED or forecast["status"] not in UNSETTLED
    return bool(forecast["status"] != ("void" if score["reward"] is None else "settled"))


def public_headline(headline: Headline) -> dict[str, Any]:
    """A third party's headline: title, source, link and times, and nothing of the article."""
    return {
        "id": headline.id,
        "sha256": headline_sha256(headline.title, headline.link, headline.source),
        "title": headline.title,
        "source": headline.source,
        "link": headline.link,
        "first_seen": moment_text(headline.first_seen),
        "published": headline.published and moment_text(headline.published),
    }


def _parts(settlement: Settlement) -> dict[str, float]:
    values = {part: _finite(settlement.components.get(part)) for part in PARTS}
    return {part: round(value, 6) for part, value in values.items() if value is not None}


def _finite(value: float | None) -> float | None:
    """The value if it is a number: JSON has no other."""
    return value if value is not None and math.isfinite(value) else None


def recomputed(day: Json, group: Json, forecast: Json) -> tuple[str, list[str]]:
    """The hash of a forecast as the site's own data tell it, and what in them contradicts it."""
    headline, problems = group["headline"], []
    if "title" in headline:
        found = headline_sha256(headline["title"], headline["link"], headline["source"])
        if found != headline["sha256"]:
            problems.append("its headline is not the one that was published")
    if "text" in forecast and text_sha256(forecast["text"]) != forecast["text_sha256"]:
        problems.append("its text is not the one that was published")
    facts = {
        "run": day["run"],
        "day": day["day"],
        "group": group["id"],
        "id": forecast["id"],
        "k": forecast["k"],
        "made_at": group["made_at"],
        "due": group["due"],
        "policy_version": group["policy_version"],
        "headline_sha256": headline["sha256"],
        "text_sha256": forecast["text_sha256"],
    }
    return sha256_of(facts), problems
