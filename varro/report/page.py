"""What a page is made of: plain text in frozen values, which each renderer escapes as it must."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    badge: Badge | None = None
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    legend: tuple[Piece, ...] = ()
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    made: str
    badges: tuple[Badge, ...]
    """how the night went, and what has to be looked at"""
    sections: tuple[Section, ...]
    command: str
    """repeats the day"""
    metrics: tuple[Metric, ...] = METRICS


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


def is_web_link(link: object) -> bool:
    """True for an http or https address with a host and no space, control or quote in it."""
    if not isinstance(link, str) or _CONTROLS.search(link):
        return False
    return re.fullmatch(r"(?i)https?://[^\s<>\"'`\\/?#][^\s<>\"`\\]*", link) is not None
