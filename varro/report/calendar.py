"""The days of a run as a calendar, and its life as charts: lines of metrics.jsonl in. Pure."""

from __future__ import annotations

from calendar import Calendar
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from varro.report.axes import Chart, Line, Marks, three_digits
from varro.report.charts import line_chart
from varro.report.page import Badge, Part
from varro.report.verdict import MARKS

N_ON_A_PAGE = 366
"""days of one page of the index"""
_MAX_POINTS = 120
"""of a chart; longer lives are drawn as means of so many days"""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cycle in the calendar."""

    file: str
    text: str
    """the day of the month, and the time where a day has several cycles"""
    icon: str
    tone: str
    said: str
    """its state in words"""


@dataclass(frozen=True, slots=True)
class Month:
    name: str
    weeks: tuple[tuple[tuple[int | None, tuple[Cell, ...]], ...], ...]
    """seven (day of the month or None, its cycles) a week, from Monday"""


def state_of(line: Part) -> Badge:
    icon, tone = MARKS.get(line["word"], ("•", "calm"))
    return Badge(str(line["said"]), str(line["day"]), icon, tone)


def index_pages(lines: Sequence[Part]) -> list[tuple[str, list[Part]]]:
    """(file, its lines) of the index: the newest days on index.html, earlier ones after it."""
    pages = []
    for n, start in enumerate(range(len(lines), 0, -N_ON_A_PAGE)):
        part = list(lines[max(0, start - N_ON_A_PAGE) : start])
        pages.append(("index.html" if n == 0 else f"index-{n + 1}.html", part))
    return pages or [("index.html", [])]


def months_of(lines: Sequence[Part]) -> list[Month]:
    """The months that have a day, the newest first."""
    by_day: dict[date, list[Cell]] = {}
    for line in lines:
        cycle = str(line["day"])
        badge = state_of(line)
        text = str(int(cycle[8:10])) + (f" {cycle[11:13]}:{cycle[13:15]}" if "T" in cycle else "")
        cell = Cell(f"{cycle}/report.html", text, badge.icon, badge.tone, badge.word)
        by_day.setdefault(date.fromisoformat(cycle[:10]), []).append(cell)
    months = sorted({(day.year, day.month) for day in by_day}, reverse=True)
    return [
        Month(
            f"{date(year, month, 1):%B %Y}",
            tuple(
                tuple(
                    (day.day, tuple(by_day.get(day, ()))) if day.month == month else (None, ())
                    for day in week
                )
                for week in Calendar().monthdatescalendar(year, month)
            ),
        )
        for year, month in months
    ]


def life_charts(lines: Sequence[Part]) -> tuple[Chart, ...]:
    """Lift, the claim, reward and KL over all days, promotions and config changes marked."""
    if not lines:
        return ()
    step = -(-len(lines) // _MAX_POINTS)
    spans = [lines[n : n + step] for n in range(0, len(lines), step)]
    places = [str(span[0]["day"]) for span in spans]
    marks = [
        Marks("promotion", [n for n, s in enumerate(spans) if any(_made(x) for x in s)]),
        Marks("config change", [n for n, s in enumerate(spans) if any(_changed(x) for x in s)]),
    ]
    each = "a day each" if step == 1 else f"means of {step} days"
    last = next((x for x in reversed(lines) if x["mean_lift"] is not None), None)
    n_compared = sum(line["lift"] is not None for line in lines)
    claimed = (
        "No day has been compared yet."
        if last is None
        else f"Mean lift {three_digits(last['mean_lift'])}, n = {n_compared} days up to "
        f"{last['day']}"
        + (
            "; no interval before 7 compared days."
            if last["claim_low"] is None
            else f", confidence sequence {three_digits(last['claim_low'])} to "
            f"{three_digits(last['claim_high'])}."
        )
    )
    n_made = sum(_made(line) for line in lines)

    def of(name: str) -> list[float | None]:
        return [_mean([x.get(name) for x in span]) for span in spans]

    return (
        line_chart("claim", "Lift over time: the claim", claimed, places,
                   [Line("mean lift so far", of("mean_lift"), of("claim_low"), of("claim_high"))],
                   marks=marks, zero=True),
        line_chart("lift", "Lift over time: the days",
                   f"{_found(lines, 'lift')}, {each}.", places,
                   [Line("served minus base", of("lift"))], zero=True),
        line_chart("reward", "Reward", f"{_found(lines, 'served_reward')}, {each}.", places,
                   [Line("served policy", of("served_reward")),
                    Line("frozen base", of("base_reward"))],
                   marks=marks),
        line_chart("kl-ref", "KL to the reference",
                   f"{_found(lines, 'kl_ref_after')}, {each}; {n_made} updates in n = "
                   f"{len(lines)} days.",
                   places, [Line("nats a sequence", of("kl_ref_after"))], zero=True),
    )  # fmt: skip


def _made(line: Mapping[str, Any]) -> bool:
    return line["version"] is not None


def _changed(line: Mapping[str, Any]) -> bool:
    return bool(line["config_changed"])


def _found(lines: Sequence[Part], name: str) -> str:
    measured = [x for x in lines if x.get(name) is not None]
    if not measured:
        return "Never measured"
    first, last = measured[0], measured[-1]
    if first is last:
        return f"{three_digits(first[name])} on {first['day']}, the only day measured"
    return (
        f"{three_digits(first[name])} on {first['day']}, {three_digits(last[name])} on "
        f"{last['day']}, n = {len(measured)} days"
    )


def _mean(values: Sequence[float | None]) -> float | None:
    found = [v for v in values if v is not None]
    return sum(found) / len(found) if found else None
