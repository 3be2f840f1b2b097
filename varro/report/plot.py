"""The plane that charts are drawn on: ranges, round ticks, and numbers to paths. Pure.

Coordinates are in units of a view box that is `WIDTH` wide; they are rounded to a tenth, so that
the same values always give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH = 360.0
"""a chart fills a phone's column at about one pixel a unit, and half a laptop's at 1.3"""
LETTER = 6.6
"""width of a letter, generous: what is measured is never drawn over the edge"""
_LARGEST = 1e300
"""beyond it a range has no finite width"""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Path:
    """One stroke or area; `style` is a CSS class of charts.css, never taken from data."""

    style: str
    d: str
    hatch: int = 0
    """which hatching fills it, from 1; 0 for a plain fill"""


@dataclass(frozen=True, slots=True)
class Label:
    x: str
    y: str
    text: str
    anchor: str
    """`start`, `middle` or `end`"""


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle of the view box and the values at its edges."""

    left: float
    top: float
    width: float
    height: float
    low: float
    high: float
    n: int
    """places along x"""

    def y(self, value: float) -> float:
        return self.top + self.height * (1 - (value - self.low) / (self.high - self.low))

    def x(self, index: float) -> float:
        """The middle of a place; places share the width evenly."""
        return self.left + self.width * (index + 0.5) / max(self.n, 1)

    @property
    def bottom(self) -> float:
        return self.top + self.height


def is_drawn(value: float | None) -> bool:
    """True for a value that has a place in a chart: a number, finite, and not past 1e300."""
    return value is not None and math.isfinite(value) and abs(value) < _LARGEST


def value_range(values: Iterable[float | None], *, zero: bool = False) -> tuple[float, float]:
    """(low, high), low < high, around all values that can be drawn, and 0 if it is asked for."""
    found = [float(v) for v in values if v is not None and is_drawn(v)]
    if zero or not found:
        found.append(0.0)
    low, high = min(found), max(found)
    if low == high:
        room = abs(low) / 2 or 1.0
        return low - (0.0 if zero and low >= 0 else room), high + room
    room = high / 20 - low / 20
    return (low if zero and low == 0 else low - room), (high if zero and high == 0 else high + room)


def round_ticks(low: float, high: float) -> list[float]:
    """The fewest multiples of 1, 2 or 5 times a power of ten in [low, high] that are three."""
    power = 10.0 ** math.floor(math.log10(high - low))
    steps = (step * power for step in (5.0, 2.0, 1.0, 0.5, 0.2))
    return next(ticks for step in steps if len(ticks := _multiples(low, high, step)) >= 3)


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def tick_texts(ticks: Sequence[float], *, percent: bool) -> list[str]:
    """The ticks with as many decimals as tell them apart; as powers of ten if they are far off."""
    shown = [t * 100 if percent else t for t in ticks]
    largest = max(abs(t) for t in shown)
    step = min((abs(b - a) for a, b in pairwise(shown)), default=1.0)
    suffix = " %" if percent else ""
    if largest >= 1e6 or step < 1e-4:
        return [("0" if t == 0 else f"{t:.1e}") + suffix for t in shown]
    decimals = next(d for d in range(9) if all(abs(round(t, d) - t) < step / 1e3 for t in shown))
    return [f"{t + 0.0:,.{decimals}f}{suffix}" for t in shown]


def label_places(texts: Sequence[str], frame: Frame) -> list[tuple[int, float]]:
    """Which of the labels along x are written, and their middles: evenly spaced, the last among
    them, none touching another or the edge."""
    if not texts:
        return []
    widest = max(map(len, texts)) * LETTER + 14
    step = math.ceil(len(texts) / max(1, min(len(texts), int(frame.width // widest))))
    written: list[tuple[int, float]] = []
    left = math.inf
    for place in range(len(texts) - 1, -1, -step):
        half = len(texts[place]) * LETTER / 2
        x = min(max(frame.x(place), frame.left + half), WIDTH - half)
        if x + half < left - 6:
            written.append((place, x))
            left = x - half
    return written[::-1]


def polyline(points: Points) -> str:
    return "M" + "L".join(f"{short(x)} {short(y)}" for x, y in points)


def polygon(points: Points) -> str:
    return polyline(points) + "Z"


def box(x: float, y: float, width: float, height: float) -> str:
    return f"M{short(x)} {short(y)}h{short(width)}v{short(height)}h{short(-width)}Z"


def dots(points: Points) -> str:
    """Lines of no length: what is seen is their round or square end, as the style has it."""
    return "".join(f"M{short(x)} {short(y)}h0" for x, y in points)


def triangles(points: Points) -> str:
    return "".join(f"M{short(x - 4)} {short(y)}h8l-4 -7Z" for x, y in points)


def diamonds(points: Points) -> str:
    return "".join(f"M{short(x)} {short(y - 5)}l5 5l-5 5l-5 -5Z" for x, y in points)


def short(value: float) -> str:
    """A coordinate to a tenth, without a zero too many."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def stretches(values: Sequence[float | None]) -> list[list[int]]:
    """The unbroken runs of places that have a value: a gap is left where there is none."""
    runs: list[list[int]] = []
    for index, value in enumerate(values):
        if not is_drawn(value):
            continue
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs
