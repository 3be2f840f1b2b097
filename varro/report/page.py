"""What a page is made of: plain text in frozen values, which each renderer escapes as it must."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from varro.report.axes import Chart
from varro.report.metrics import METRICS, Metric, find_metric, format_value

Part = Mapping[str, Any]
"""one object of report.json"""
DASH = "—"


@dataclass(frozen=True, slots=True)
class Badge:
    """A word that is read first, with a mark so that colour is never alone."""

    word: str
    text: str
    icon: str
    tone: str
    """`good`, `bad` or `calm`: a CSS class, never taken from the report"""


@dataclass(frozen=True, slots=True)
class Row:
    label: str
    cells: tuple[str, ...]
    metric: str | None = None
    """the definition that the label points to"""


@dataclass(frozen=True, slots=True)
class Table:
    caption: str
    """says what is counted, with n"""
    headers: tuple[str, ...]
    """the first is above the labels"""
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a forecast, of one beat or of none."""

    text: str
    beat: str | None = None
    """one of `sections.BEATS`: a CSS class, never taken from the report"""


@dataclass(frozen=True, slots=True)
class Card:
    """One of the numbers at the top of the page."""

    label: str
    value: str
    unit: str
    change: str
    """against the days before, in words; no arrow where the interval of the change includes 0"""
    target: str


@dataclass(frozen=True, slots=True)
class Task:
    """A thing to do, and how."""

    text: str
    command: str


@dataclass(frozen=True, slots=True)
class Example:
    headline: str
    headline_link: str | None
    source: str
    facts: tuple[tuple[str, str], ...]
    """(what, value) in the order they are read"""
    pieces: tuple[Piece, ...]
    """the forecast's text"""
    outcome: str | None
    outcome_link: str | None
    page: str | None = None
    """where all forecasts of its group are: a file of Varro's own making"""


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    badge: Badge | None = None
    notes: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    legend: tuple[Piece, ...] = ()
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    made: str
    state: Badge
    """what the night came to"""
    alarm: Badge | None
    sentence: str
    """the four numbers, and whether anything is to be done"""
    cards: tuple[Card, ...]
    sections: tuple[Section, ...]
    tasks: tuple[Task, ...]
    commands: tuple[tuple[str, str], ...]
    """(what for, command)"""
    metrics: tuple[Metric, ...]
    """the definitions of what the page shows"""
    links: tuple[tuple[str, str], ...] = ()
    """(text, file) of the pages beside this one; of Varro's own making"""
    previous: str | None = None
    """the day before it"""
    tasks_note: str = (
        "Where a command has no --config, give it the --config and --home that the run was begun "
        "with."
    )


def used_metrics(sections: Iterable[Section]) -> tuple[Metric, ...]:
    """The definitions that rows of the sections lead to, in the order of METRICS."""
    used = {row.metric for s in sections for table in s.tables for row in table.rows}
    return tuple(metric for metric in METRICS if metric.name in used)


def metric_row(name: str, *cells: str) -> Row:
    """A row whose label is the metric's and leads to its definition."""
    return Row(find_metric(name).label, cells, name)


def between(name: str, low: float | None, high: float | None) -> str:
    """An interval of the metric called `name`."""
    if low is None and high is None:
        return DASH
    return f"{format_value(name, low)} to {format_value(name, high)}"


def shown(value: object) -> str:
    return DASH if value is None else str(value)


def mark_badge(word: object, text: object, marks: Mapping[str, tuple[str, str]]) -> Badge:
    """A badge with the (icon, tone) of its word; a word that has none is calm."""
    icon, tone = marks.get(str(word), ("•", "calm"))
    return Badge(shown(word), shown(text), icon, tone)


def number(part: Part, key: str, metric: str | None = None) -> str:
    """The number under a key, written as the metric of that name or of another."""
    return format_value(metric or key, part[key])


def count(value: object) -> str:
    """A whole number as it is read; a dash if there is none."""
    return f"{value:,}" if isinstance(value, int | float) else DASH


def one_line(text: str) -> str:
    return show_controls(" ".join(text.split()))


# Controls, direction overrides and lone surrogates: unreadable, able to reorder a line, or
# impossible to encode.
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def show_controls(text: str) -> str:
    """The text with each character that cannot be shown, or reorders others, made visible."""
    return _CONTROLS.sub("\ufffd", text)


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""what a spreadsheet takes for the beginning of a formula"""


def table_text(text: str) -> str:
    """A cell of a CSV file: with an apostrophe before what a spreadsheet would run."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def is_web_link(link: object) -> bool:
    """True for an http or https address with a host and no space, control or quote in it."""
    if not isinstance(link, str) or _CONTROLS.search(link):
        return False
    return re.fullmatch(r"(?i)https?://[^\s<>\"'`\\/?#][^\s<>\"`\\]*", link) is not None
