"""Charts from frozen values: geometry here, SVG by `templates/charts.html`, colours by charts.css.

A chart says its finding in words, which the caller gives, and carries its numbers as a table. Each
series differs in dash and marker as well as in colour. A value that is missing or not finite is a
gap, never a 0.

    chart = line_chart("reward", "Reward", "Reward rose from 0.33 to 0.40.", days, [Line(...)])
    {% from "charts.html" import figure %}{{ figure(chart) }}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from varro.report.axes import (
    DASH,
    Chart,
    Limit,
    Line,
    Marks,
    Plot,
    Value,
    check,
    checked_name,
    three_digits,
)
from varro.report.plot import (
    LETTER,
    WIDTH,
    Frame,
    Label,
    Path,
    box,
    diamonds,
    dots,
    is_drawn,
    polygon,
    polyline,
    short,
    stretches,
    triangles,
    value_range,
)

__all__ = [
    "Chart",
    "Limit",
    "Line",
    "Marks",
    "bar_chart",
    "line_chart",
    "row_chart",
    "sequence_chart",
    "share_chart",
    "three_digits",
]

_ROW = 22.0
_ALL_DOTS = 40
"""more places than these, and only those without neighbours are dotted"""
_MAX_SHARES = 6
"""hatchings in charts.html"""


def line_chart(
    name: str,
    title: str,
    finding: str,
    places: Sequence[str],
    lines: Sequence[Line],
    *,
    limits: Sequence[Limit] = (),
    marks: Sequence[Marks] = (),
    zero: bool = False,
    percent: bool = False,
    show: Callable[[Value], str] = three_digits,
    heading: str = "Day",
) -> Chart:
    """Series over days, or over any places in order.

    `zero` draws a line at 0 and keeps it in view; `percent` is for shares, stored in [0, 1];
    `show` writes a value of the table; `heading` names the places there.
    Raises: ValueError if a series is not as long as `places`, or there are more series or marks
    than styles.
    """
    for line in lines:
        check(len(line.values) == len(places), f"{line.name}: a value for each place")
        for edge in (line.low, line.high):
            check(len(edge) in (0, len(places)), f"{line.name}: a band edge for each place")
    check(len(lines) <= 3 and len(marks) <= 2, "at most 3 lines and 2 kinds of marks")
    values = [v for line in lines for v in (*line.values, *line.low, *line.high)]
    plot = Plot(places, values, limits, zero=zero, percent=percent, marked=bool(marks))
    paths = [path for line in lines for path in _band(plot.frame, line)]
    for number, line in enumerate(lines):
        paths += _line(plot.frame, line.values, number)
    paths += _levels(plot.frame, limits)
    for draw, style, mark in zip((triangles, diamonds), ("mark-0", "mark-1"), marks, strict=False):
        at = [(plot.frame.x(place), plot.frame.bottom + 9) for place in mark.places]
        paths += [Path(style, draw(at))] if at else []
    keys = [(f"line-{number}", line.name) for number, line in enumerate(lines)]
    keys += [("band", f"{line.name}, 95 %") for line in lines if line.low]
    keys += [("limit", limit.name) for limit in limits]
    keys += [(f"mark-{number}", mark.name) for number, mark in enumerate(marks) if mark.places]
    headers, columns = [heading], []
    for line in lines:
        headers.append(line.name)
        columns.append([show(v) for v in line.values])
        if line.low:
            headers += ["from", "to"]
            columns += [[show(v) for v in line.low], [show(v) for v in line.high]]
    if any(mark.places for mark in marks):
        headers.append("Marked")
        columns.append([_marked(marks, place) for place in range(len(places))])
    rows = tuple(zip(places, *columns, strict=True))
    return plot.chart(name, title, finding, paths, keys, headers, rows)


def bar_chart(
    name: str,
    title: str,
    finding: str,
    places: Sequence[str],
    bars: Line,
    *,
    outline: Line | None = None,
    limits: Sequence[Limit] = (),
    percent: bool = False,
    show: Callable[[Value], str] = three_digits,
    heading: str = "Day",
) -> Chart:
    """Bars from 0, and over them the steps of a series to compare with: a histogram of today
    against that of a week, say.

    Raises: ValueError if a series is not as long as `places`.
    """
    series = [bars] if outline is None else [bars, outline]
    for one in series:
        check(len(one.values) == len(places), f"{one.name}: a value for each place")
    values = [v for one in series for v in one.values]
    plot = Plot(places, values, limits, zero=True, percent=percent)
    frame, half = plot.frame, plot.frame.width / max(len(places), 1) * 0.38
    drawn = [(frame.x(i), frame.y(v)) for i, v in enumerate(bars.values) if v is not None
             and is_drawn(v)]  # fmt: skip
    zero = frame.y(0)
    d = "".join(box(x - half, min(y, zero), 2 * half, abs(zero - y)) for x, y in drawn)
    paths = [Path("fill-0", d)] if d else []
    keys = [("fill-0", bars.name)]
    if outline is not None:
        edge = frame.width / max(len(places), 1) / 2
        for run in stretches(outline.values):
            steps = [(frame.x(i) + side, frame.y(float(outline.values[i] or 0.0)))
                     for i in run for side in (-edge, edge)]  # fmt: skip
            paths.append(Path("line-1", polyline(steps)))
        keys.append(("line-1", outline.name))
    paths += _levels(frame, limits)
    keys += [("limit", limit.name) for limit in limits]
    headers = [heading, *(one.name for one in series)]
    rows = tuple(zip(places, *([show(v) for v in one.values] for one in series), strict=True))
    return plot.chart(name, title, finding, paths, keys, headers, rows)


def share_chart(
    name: str,
    title: str,
    finding: str,
    places: Sequence[str],
    shares: Sequence[Line],
    *,
    heading: str = "Day",
) -> Chart:
    """Shares of a whole, stacked in their order from below, each with its own hatching.

    A place where any share is missing is a gap.
    Raises: ValueError on a share outside [0, 1], a series of another length, or over six series.
    """
    check(len(shares) <= _MAX_SHARES, f"at most {_MAX_SHARES} shares")
    for share in shares:
        check(len(share.values) == len(places), f"{share.name}: a value for each place")
        check(all(v is None or not is_drawn(v) or 0 <= v <= 1 for v in share.values),
               f"{share.name}: shares in [0, 1]")  # fmt: skip
    plot = Plot(places, [v for s in shares for v in s.values], zero=True, percent=True, high=1.0)
    frame, half = plot.frame, plot.frame.width / max(len(places), 1) * 0.46
    whole = [i for i in range(len(places)) if all(is_drawn(s.values[i]) for s in shares)]
    below, paths = dict.fromkeys(whole, 0.0), []
    for number, share in enumerate(shares):
        d = ""
        for i in whole:
            value = float(share.values[i] or 0.0)
            top, bottom = frame.y(below[i] + value), frame.y(below[i])
            if bottom - top >= 0.05:
                d += box(frame.x(i) - half, top, 2 * half, bottom - top)
            below[i] += value
        if d:
            paths.append(Path(f"fill-{number}", d, hatch=number))
    keys = [(f"fill-{number}", share.name) for number, share in enumerate(shares)]
    headers = [heading, *(share.name for share in shares)]
    percents = [
        [DASH if v is None or not is_drawn(v) else f"{v * 100:.1f} %" for v in share.values]
        for share in shares
    ]
    rows = tuple(zip(places, *percents, strict=True))
    return plot.chart(name, title, finding, paths, keys, headers, rows)


def row_chart(
    name: str,
    title: str,
    finding: str,
    rows: Sequence[tuple[str, Value]],
    *,
    show: Callable[[Value], str] = three_digits,
    headers: tuple[str, str] = ("What", "Value"),
) -> Chart:
    """A bar a row, its name before and its value behind it; for few things with long names."""
    texts = [show(value) for _, value in rows]
    left = min(max((len(label) for label, _ in rows), default=0), 22) * LETTER + 8
    right = max((len(text) for text in texts), default=0) * LETTER + 8
    low, high = value_range([v for _, v in rows], zero=True)
    low = min(low, 0.0)
    scale = (WIDTH - left - right) / (high - low)
    paths, labels = [], []
    for index, ((label, value), text) in enumerate(zip(rows, texts, strict=True)):
        y = 4 + index * _ROW
        labels.append(Label(short(left - 6), short(y + 13), label[:22], "end"))
        if value is not None and is_drawn(value):
            start = left + (min(value, 0.0) - low) * scale
            paths.append(Path("fill-0", box(start, y + 2, abs(value) * scale, _ROW - 7)))
        end = left + (max(value if value is not None and is_drawn(value) else 0.0, 0) - low) * scale
        labels.append(Label(short(end + 5), short(y + 13), text, "start"))
    x, height = left - low * scale, max(len(rows), 1) * _ROW + 8
    if rows:
        paths.append(Path("zero", polyline([(x, 2), (x, height - 4)])))
    else:
        labels.append(Label(short(WIDTH / 2), short(height / 2 + 4), "no data yet", "middle"))
    table = tuple((label, text) for (label, _), text in zip(rows, texts, strict=True))
    return Chart(checked_name(name), title, finding, len(rows), short(WIDTH), short(height),
                 tuple(paths), tuple(labels), (), headers, table)  # fmt: skip


def sequence_chart(
    name: str,
    title: str,
    finding: str,
    words: Sequence[str],
    values: Sequence[Value],
    *,
    series: str,
    limit: Limit | None = None,
    n_named: int = 5,
    show: Callable[[Value], str] = three_digits,
) -> Chart:
    """A series over the words of a text; the words of its highest values stand beside them."""
    chart = line_chart(name, title, finding, words, [Line(series, values)], heading="Word",
                       limits=() if limit is None else (limit,), show=show)  # fmt: skip
    numbers = [str(i + 1) for i in range(len(words))]
    plot = Plot(numbers, values, () if limit is None else (limit,))
    found = [(float(v), i) for i, v in enumerate(values) if v is not None and is_drawn(v)]
    named: list[Label] = []
    taken: list[tuple[float, float]] = []
    for value, place in sorted(found, key=lambda pair: (-pair[0], pair[1])):
        text, x = words[place].strip()[:14], plot.frame.x(place)
        half = len(text) * LETTER / 2 + 2
        x = min(max(x, plot.frame.left + half), WIDTH - half)
        if not text or any(x - half < b and x + half > a for a, b in taken):
            continue
        taken.append((x - half, x + half))
        y = max(plot.frame.y(value) - 6, 11)
        named.append(Label(short(x), short(y), text, "middle"))
        if len(named) == n_named:
            break
    return Chart(chart.name, title, finding, len(words), chart.width, chart.height, chart.paths,
                 (*plot.labels, *named), chart.keys, chart.headers, chart.rows)  # fmt: skip


def _band(frame: Frame, line: Line) -> list[Path]:
    paths = []
    both = [a if is_drawn(a) and is_drawn(b) else None
            for a, b in zip(line.low, line.high, strict=True)]  # fmt: skip
    for run in stretches(both):
        upper = [(frame.x(i), frame.y(float(line.high[i] or 0.0))) for i in run]
        lower = [(frame.x(i), frame.y(float(line.low[i] or 0.0))) for i in run]
        if len(run) == 1:
            paths.append(Path("whisker", polyline([upper[0], lower[0]])))
        else:
            paths.append(Path("band", polygon([*upper, *lower[::-1]])))
    return paths


def _line(frame: Frame, values: Sequence[Value], number: int) -> list[Path]:
    paths, dotted = [], []
    for run in stretches(values):
        points = [(frame.x(i), frame.y(float(values[i] or 0.0))) for i in run]
        if len(run) > 1:
            paths.append(Path(f"line-{number}", polyline(points)))
        if len(run) == 1 or len(values) <= _ALL_DOTS:
            dotted += points
    return [*paths, Path(f"dot-{number}", dots(dotted))] if dotted else paths


def _levels(frame: Frame, limits: Sequence[Limit]) -> list[Path]:
    return [
        Path("limit", polyline([(frame.left, y), (frame.left + frame.width, y)]))
        for limit in limits
        if is_drawn(limit.value)
        for y in (frame.y(limit.value),)
    ]


def _marked(marks: Sequence[Marks], place: int) -> str:
    return ", ".join(mark.name for mark in marks if place in mark.places) or DASH
