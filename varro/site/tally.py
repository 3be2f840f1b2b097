"""What the days add up to: counts by status, and by week and source what was earned. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from varro.site.record import PARTS, Json

N_MISSES = 5
STATUSES = ("open", "due", "overdue", "settled", "void")


@dataclass(slots=True)
class Mean:
    """A mean that is fed one value at a time."""

    n: int = 0
    total: float = 0.0

    def add(self, value: float) -> None:
        self.n += 1
        self.total += value

    @property
    def value(self) -> float | None:
        return self.total / self.n if self.n else None


@dataclass(frozen=True, slots=True)
class Call:
    """One forecast that is spoken of."""

    day: str
    group: Json
    forecast: Json
    outcome: Json | None


@dataclass(frozen=True, slots=True)
class Miss:
    """A group whose forecasts earned little."""

    day: str
    group: Json
    reward: float


@dataclass(frozen=True, slots=True)
class ListedDay:
    """A day in a list."""

    day: str
    n_headlines: int
    counts: Counter[str]
    """forecasts by status"""
    in_time: bool
    """all were published before they were due"""
    settled_on: str | None
    """the newest day that settled one of them"""


@dataclass(slots=True)
class Week:
    """What was settled in one ISO week."""

    name: str
    last: str = ""
    """its newest day that settled anything"""
    n_settled: int = 0
    n_form_only: int = 0
    """of them, those that nothing could be held against: in no mean, and neither best nor worst"""
    reward: Mean = field(default_factory=Mean)
    parts: dict[str, Mean] = field(default_factory=lambda: {part: Mean() for part in PARTS})
    """both of those that are scored"""
    sources: dict[str, Mean] = field(default_factory=dict)
    n_void: int = 0
    n_invalid: int = 0
    void_reasons: Counter[str] = field(default_factory=Counter)
    best: Call | None = None
    worst: Call | None = None
    """of the valid ones"""
    misses: list[Miss] = field(default_factory=list)
    """groups, the least mean reward first"""


@dataclass(slots=True)
class Tally:
    counts: Counter[str] = field(default_factory=Counter)
    weeks: dict[str, Week] = field(default_factory=dict)
    """by name, of the weeks in which something was settled"""
    sources: dict[str, tuple[Counter[str], Mean]] = field(default_factory=dict)
    """counts of forecasts by status, and the reward"""
    next_due: str | None = None
    """earliest time at which an open forecast can be settled"""
    n_late: int = 0
    """forecasts that were not published before they were due"""

    def add(self, day: Json) -> ListedDay:
        """Take a day in; returns what a list says of it."""
        found: Counter[str] = Counter()
        for group in day["groups"]:
            statuses = Counter(f["status"] for f in group["forecasts"])
            found.update(statuses)
            counts, reward = self.sources.setdefault(source_of(group), (Counter(), Mean()))
            counts.update(statuses)
            for forecast in group["forecasts"]:
                if is_scored(forecast):
                    reward.add(forecast["reward"])
            if statuses["open"] and (self.next_due is None or group["due"] < self.next_due):
                self.next_due = group["due"]
            if not group["in_time"]:
                self.n_late += len(group["forecasts"])
            self._add_settled(day, group)
        self.counts.update(found)
        groups = day["groups"]
        settled_on = [f["settled_on"] for g in groups for f in g["forecasts"] if f["settled_on"]]
        return ListedDay(
            day["day"],
            len(groups),
            found,
            all(group["in_time"] for group in groups),
            max(settled_on, default=None),
        )

    def _add_settled(self, day: Json, group: Json) -> None:
        reward, week = Mean(), None
        for forecast in group["forecasts"]:
            if forecast["settled_on"] is None:
                continue
            name = week_of(forecast["settled_on"])
            week = self.weeks.setdefault(name, Week(name))
            week.last = max(week.last, forecast["settled_on"])
            if forecast["reward"] is None:
                week.n_void += 1
                week.void_reasons[str(forecast["void_reason"])] += 1
                continue
            if is_scored(forecast):
                reward.add(forecast["reward"])
            outcome = day["outcomes"].get(forecast["outcome"])
            _count(week, Call(day["day"], group, forecast, outcome))
        if week is not None and reward.value is not None:
            week.misses.append(Miss(day["day"], group, reward.value))
            week.misses.sort(key=lambda miss: (miss.reward, miss.group["id"]))
            del week.misses[N_MISSES:]


def _count(week: Week, call: Call) -> None:
    forecast = call.forecast
    week.n_settled += 1
    week.n_invalid += bool(forecast["invalid_reason"])
    if not is_scored(forecast):
        week.n_form_only += 1
        return
    for part, value in forecast["parts"].items():
        week.parts[part].add(value)
    week.reward.add(forecast["reward"])
    week.sources.setdefault(source_of(call.group), Mean()).add(forecast["reward"])
    if forecast["invalid_reason"]:
        return
    rank = _rank(forecast)
    if week.best is None or rank > _rank(week.best.forecast):
        week.best = call
    if week.worst is None or rank < _rank(week.worst.forecast):
        week.worst = call


def _rank(forecast: Json) -> tuple[float, str]:
    return forecast["reward"], forecast["id"]


def is_scored(forecast: Json) -> bool:
    """Whether the score has its semantic part: without it there is only form, which is no low
    score."""
    return forecast["reward"] is not None and "semantic" in forecast["parts"]


def source_of(group: Json) -> str:
    """Who published the headline; the site may be one that does not tell."""
    return str(group["headline"].get("source", "source not shown"))


def title_of(headline: Json) -> str:
    """What a headline says, or what it is called on a site that does not tell."""
    return str(headline.get("title", f"Headline {headline['id'][:8]}"))


def week_of(cycle: str) -> str:
    """The ISO week of a cycle, as 2026-W35."""
    year, week, _ = date.fromisoformat(cycle[:10]).isocalendar()
    return f"{year}-W{week:02}"


def in_words(counts: Counter[str]) -> str:
    """`open N, due N, overdue M, settled K, void V`."""
    return ", ".join(f"{status} {counts[status]:,}" for status in STATUSES)


def as_plain(counts: Counter[str]) -> dict[str, Any]:
    return {status: counts[status] for status in STATUSES}
