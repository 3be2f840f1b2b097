"""What charts share: the values they are made of, axes, grid and legend. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from varro.report.plot import (
    LETTER,
    WIDTH,
    Frame,
    Label,
    Path,
    box,
    diamonds,
    is_drawn,
    label_places,
    polyline,
    round_ticks,
    short,
    tick_texts,
    triangles,
    value_range,
)

Value = float | None
DASH = "—"
_PLOT_HEIGHT = 150.0


@dataclass(frozen=True, slots=True)
class Line:
    """One series along x. The first of a chart is drawn solid with round dots, the second dashed
    with square ones, the third dotted."""

    name: str
    values: Sequence[Value]
    low: Sequence[Value] = ()
    high: Sequence[Value] = ()
    """the band around it, as long as `values`; empty for none"""


@dataclass(frozen=True, slots=True)
class Limit:
    """A level that must not be passed, or that is aimed at."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Marks:
    """Places where something happened, marked below the plot: ▲ for the first such of a chart, ◆
    for the second."""

    name: str
    places: Sequence[int]


@dataclass(frozen=True, slots=True)
class Key:
    """A line of the legend."""

    swatch: Path
    label: Label


@dataclass(frozen=True, slots=True)
class Chart:
    name: str
    """unique on its page: letters, digits and hyphens"""
    title: str
    finding: str
    """what is seen, in a sentence"""
    n: int
    """places or rows"""
    width: str
    height: str
    paths: tuple[Path, ...]
    labels: tuple[Label, ...]
    keys: tuple[Key, ...]
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """the numbers as text, the place first"""


def three_digits(value: Value) -> str:
    """The value to three significant digits; a dash if there is none."""
    if value is None or not is_drawn(value):
        return DASH
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.2e}"
    text = f"{value:#.3g}"
    return f"{float(text):,.0f}" if "e" in text or text.endswith(".") else text


class Plot:
    """The frame of a chart with its grid and the labels of both axes, and room for a legend."""

    def __init__(
        self,
        places: Sequence[str],
        values: Sequence[Value],
        limits: Sequence[Limit] = (),
        *,
        zero: bool = False,
        percent: bool = False,
        marked: bool = False,
        high: float | None = None,
    ) -> None:
        self.n = len(places)
        self.is_empty = not any(is_drawn(v) for v in values)
        low, found = value_range([*values, *(limit.value for limit in limits)], zero=zero)
        high = found if high is None else high
        ticks = round_ticks(low, high)
        texts = tick_texts(ticks, percent=percent)
        left = max(map(len, texts)) * LETTER + 8
        self.frame = frame = Frame(left, 14, WIDTH - left - 6, _PLOT_HEIGHT, low, high, self.n)
        self.below = frame.bottom + (26 if marked else 14)
        self.paths: list[Path] = []
        self.labels: list[Label] = []
        if self.is_empty:
            middle = frame.top + frame.height / 2
            self.labels.append(Label(short(WIDTH / 2), short(middle), "no data yet", "middle"))
        else:
            self._axes(places, ticks, texts, zero)

    def _axes(
        self, places: Sequence[str], ticks: Sequence[float], texts: Sequence[str], zero: bool
    ) -> None:
        frame = self.frame
        for tick, text in zip(ticks, texts, strict=True):
            y = frame.y(tick)
            style = "zero" if zero and tick == 0 else "grid"
            self.paths.append(Path(style, polyline([(frame.left, y), (WIDTH - 6, y)])))
            self.labels.append(Label(short(frame.left - 5), short(y + 4), text, "end"))
        for place, x in label_places(places, frame):
            self.labels.append(Label(short(x), short(self.below + 4), places[place], "middle"))

    def chart(
        self,
        name: str,
        title: str,
        finding: str,
        paths: Sequence[Path],
        keys: Sequence[tuple[str, str]],
        headers: Sequence[str],
        rows: tuple[tuple[str, ...], ...],
    ) -> Chart:
        legend, height = _legend([] if self.is_empty else keys, self.below + 12)
        drawn = () if self.is_empty else (*self.paths, *paths)
        return Chart(checked_name(name), title, finding, self.n, short(WIDTH), short(height), drawn,
                     tuple(self.labels), legend, tuple(headers), rows)  # fmt: skip


def _legend(keys: Sequence[tuple[str, str]], top: float) -> tuple[tuple[Key, ...], float]:
    """The keys in as many rows as they need, and where the last of them ends."""
    placed, x, y = [], 4.0, top + 10
    for style, text in keys:
        width = 24 + len(text) * LETTER + 12
        if x > 4 and x + width > WIDTH:
            x, y = 4.0, y + 17
        placed.append(
            Key(
                Path(style, _swatch(style, x, y), hatch=_hatch(style)),
                Label(short(x + 24), short(y), text, "start"),
            )
        )
        x += width
    return tuple(placed), (y if placed else top - 8) + 8


def _hatch(style: str) -> int:
    return int(style.removeprefix("fill-")) if style.startswith("fill-") else 0


def _swatch(style: str, x: float, y: float) -> str:
    if style.startswith(("fill", "band")):
        return box(x, y - 9, 18, 10)
    if style == "mark-0":
        return triangles([(x + 9, y)])
    if style == "mark-1":
        return diamonds([(x + 9, y - 4)])
    return polyline([(x, y - 4), (x + 18, y - 4)])


def checked_name(name: str) -> str:
    check(re.fullmatch(r"[a-z][a-z0-9-]*", name) is not None, f"a name like 'reward', not {name!r}")
    return name


def check(holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"a chart needs {expected}")
