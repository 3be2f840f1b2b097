"""Charts: what is drawn where, what is never drawn, and that it can be read without seeing it."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from itertools import product
from urllib.parse import unquote

import pytest

from varro.report.charts import (
    Chart,
    Limit,
    Line,
    Marks,
    bar_chart,
    line_chart,
    row_chart,
    sequence_chart,
    share_chart,
    three_digits,
)
from varro.report.page import Badge
from varro.report.plot import LETTER, WIDTH, round_ticks, tick_texts
from varro.report.templating import favicon, page_environment

NAN = float("nan")


def drawn(chart: Chart) -> ET.Element:
    template = '{% from "charts.html" import figure %}{{ figure(chart) }}'
    text = page_environment().from_string(template).render(chart=chart)
    return ET.fromstring(re.sub(r"&nbsp;", " ", text))


def paths(chart: Chart, style: str) -> list[str]:
    return [path.d for path in chart.paths if path.style == style]


def points(d: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", d)]


def days(n: int) -> list[str]:
    return [f"2026-09-{i + 1:02d}" for i in range(n)]


def test_equal_steps_of_value_are_equal_steps_of_height() -> None:
    """Catches a scale turned upside down, or one that is not linear."""
    (d,) = paths(line_chart("a", "A", "a.", days(3), [Line("x", [1.0, 2.0, 3.0])]), "line-0")
    (x1, y1), (x2, y2), (x3, y3) = points(d)
    assert x1 < x2 < x3 and y1 > y2 > y3
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.11)
    assert y1 - y2 == pytest.approx(y2 - y3, abs=0.11)


@pytest.mark.parametrize("missing", [None, NAN, math.inf])
def test_a_missing_value_is_a_gap_and_never_a_zero(missing: float | None) -> None:
    """Catches a night without settlement that is drawn as a fall to 0, or bridged by a line."""
    chart = line_chart("a", "A", "a.", days(5), [Line("x", [5.0, 6.0, missing, 6.0, 5.0])])
    lines = paths(chart, "line-0")
    assert [len(points(d)) for d in lines] == [2, 2]
    assert chart.rows[2] == ("2026-09-03", "—")
    heights = [y for d in lines for _, y in points(d)]
    assert max(heights) - min(heights) > 100  # 5 to 6 fills the plot: 0 is not part of its range


def test_a_value_between_gaps_is_a_dot() -> None:
    """Catches a single day that is invisible, since a line needs two."""
    chart = line_chart("a", "A", "a.", days(3), [Line("x", [None, 1.0, None])])
    assert paths(chart, "line-0") == []
    assert len(points(paths(chart, "dot-0")[0])) == 1


@pytest.mark.parametrize("values", [[], [None, None], [0.0], [0.3], [-2.0] * 4, [1e300, -1e300],
                                    [1e-12, 2e-12], [0.0, 1e9], [NAN]])  # fmt: skip
def test_any_values_are_drawn_inside_the_chart(values: list[float | None]) -> None:
    """Catches a range of no height, an empty series, or a value that leaves the picture."""
    places = days(len(values))
    band = Line("x", values, low=values, high=values)
    charts = [
        line_chart("a", "A", "a.", places, [band], zero=zero, limits=[Limit("limit", 0.1)])
        for zero in (False, True)
    ]
    charts += [
        bar_chart("b", "B", "b.", places, Line("x", values), outline=Line("y", values)),
        row_chart("c", "C", "c.", list(zip(places, values, strict=True))),
        sequence_chart("d", "D", "d.", places, values, series="s", limit=Limit("high", 0.2)),
    ]
    for chart in charts:
        drawn(chart)
        assert len(chart.rows) == len(values)
        found = [p for path in chart.paths for p in points(path.d)]
        assert all(0 <= x <= WIDTH and 0 <= y <= float(chart.height) for x, y in found)
        assert "nan" not in str(chart.paths) and "inf" not in str(chart.paths)
        for label in chart.labels:
            assert 0 <= float(label.x) <= WIDTH


def test_no_data_says_so() -> None:
    """Catches an empty frame that looks like a broken page."""
    for values in ([], [None, None]):
        chart = line_chart("a", "A", "Nothing yet.", days(len(values)), [Line("x", values)],
                           limits=[Limit("limit", 0.1)], zero=True)  # fmt: skip
        assert [label.text for label in chart.labels] == ["no data yet"]
        assert not chart.paths and not chart.keys


def test_a_chart_is_titled_described_and_has_its_numbers() -> None:
    """Catches a picture that a screen reader passes over."""
    line = Line("policy", [0.1, 0.25], low=[0.0, 0.2], high=[0.2, 0.3])
    chart = line_chart("lift", "Lift", "Rose from 0.1 to 0.25.", days(2), [line])
    figure = drawn(chart)
    svg = figure.find("svg")
    assert svg is not None and svg.get("role") == "img"
    ids = (svg.get("aria-labelledby") or "").split()
    assert [svg.find(tag).get("id") for tag in ("title", "desc")] == ids  # type: ignore[union-attr]
    assert svg.findtext("desc") == "Rose from 0.1 to 0.25."
    cells = [["".join(cell.itertext()) for cell in row] for row in figure.iter("tr")]
    assert cells == [["Day", "policy", "from", "to"], ["2026-09-01", "0.100", "0", "0.200"],
                     ["2026-09-02", "0.250", "0.200", "0.300"]]  # fmt: skip


def test_series_differ_in_more_than_colour() -> None:
    """Catches two lines that only colour tells apart: each has its own class, whose dash and
    marker charts.css gives, and its own word in the legend."""
    lines = [Line("served", [1.0, 2.0]), Line("frozen base", [1.0, 1.0])]
    chart = line_chart("a", "A", "a.", days(2), lines, marks=[Marks("promotion", [1])])
    assert [key.label.text for key in chart.keys] == ["served", "frozen base", "promotion"]
    assert len({key.swatch.style for key in chart.keys}) == 3
    css = (page_environment().loader.get_source(page_environment(), "charts.css"))[0]  # type: ignore[union-attr]
    for number in (1, 2):
        assert re.search(rf"^\.line-{number} {{ stroke-dasharray", css, re.M)


def test_marks_stand_below_their_day_and_in_the_table() -> None:
    """Catches a promotion drawn at another day, or told by shape alone."""
    marks = [Marks("promotion", [1]), Marks("config change", [1, 2])]
    chart = line_chart("a", "A", "a.", days(3), [Line("x", [1.0, 2.0, 3.0])], marks=marks)
    xs = [x for x, _ in points(paths(chart, "line-0")[0])]
    (triangle,), diamonds = (points(d) for style in ("mark-0", "mark-1")
                             for d in paths(chart, style))  # fmt: skip
    assert triangle[0] + 4 == pytest.approx(xs[1])
    assert [row[-1] for row in chart.rows] == ["—", "promotion, config change", "config change"]
    assert len(diamonds) == 2


def test_bars_start_at_zero_whatever_their_sign() -> None:
    """Catches a bar chart whose axis hides most of a bar, or a negative bar drawn upwards."""
    chart = bar_chart("a", "A", "a.", days(2), Line("x", [2.0, -1.0]))
    (zero,) = {y for _, y in points(paths(chart, "zero")[0])}
    up, down = re.findall(r"M\S+ (\S+)h\S+?v([\d.]+)h", paths(chart, "fill-0")[0])
    assert float(up[0]) + float(up[1]) == pytest.approx(zero, abs=0.11)
    assert float(down[0]) == pytest.approx(zero, abs=0.11)
    assert float(up[1]) == pytest.approx(2 * float(down[1]), abs=0.2)


def test_shares_stack_to_the_whole_and_a_day_without_one_is_a_gap() -> None:
    """Catches a stack that counts an unknown share as 0."""
    shares = [Line("valid", [0.5, None]), Line("cut", [0.25, 0.5]), Line("other", [0.25, 0.5])]
    chart = share_chart("a", "A", "a.", days(2), shares)
    heights = [[float(h) for h in re.findall(r"v([\d.]+)h", d)] for n in range(3)
               for d in paths(chart, f"fill-{n}")]  # fmt: skip
    assert [len(h) for h in heights] == [1, 1, 1]
    assert heights[0][0] == pytest.approx(2 * heights[1][0], abs=0.2)
    assert sum(h[0] for h in heights) == pytest.approx(150, abs=0.3)
    hatches = [path.hatch for path in chart.paths if path.style.startswith("fill")]
    assert hatches == [0, 1, 2]
    svg = drawn(chart).find("svg")
    assert svg is not None
    patterns = {p.get("id") for p in svg.iter("pattern")}
    used = {p.get("fill") for p in svg.iter("path")} - {None}
    assert used == {f"url(#{name})" for name in patterns}
    with pytest.raises(ValueError, match=r"shares in \[0, 1\]"):
        share_chart("a", "A", "a.", days(1), [Line("x", [1.2])])


def test_words_of_a_sequence_are_named_at_their_peaks_and_never_overlap() -> None:
    """Catches a chart of surprisal whose highest word cannot be told."""
    words = ["the", "cabinet", "falls", "on", "Friday"] * 20
    values = [float((i * 37) % 101) for i in range(100)]
    chart = sequence_chart("a", "A", "a.", words, values, series="surprisal")
    peak = words[values.index(max(values))]
    named = [label for label in chart.labels if label.anchor == "middle" and label.text in words]
    assert peak in {label.text for label in named} and 1 < len(named) <= 5
    assert len(chart.rows) == 100


@pytest.mark.parametrize("n", [1, 2, 9, 14, 60, 365])
def test_labels_along_x_never_touch(n: int) -> None:
    """Catches two dates that run into each other, or one that is cut at the edge."""
    places = [f"2026-01-{i:02d}" for i in range(n)]
    chart = line_chart("a", "A", "a.", places, [Line("x", [float(i) for i in range(n)])])
    written = [label for label in chart.labels if label.text in places]
    edges = [float(x.x) + side * len(x.text) * LETTER / 2 for x in written for side in (-1, 1)]
    assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= WIDTH + 0.1
    assert written[-1].text == places[-1]


def test_series_of_another_length_are_refused() -> None:
    """Catches values drawn at the wrong day."""
    with pytest.raises(ValueError, match="a value for each place"):
        line_chart("a", "A", "a.", days(2), [Line("x", [1.0])])
    with pytest.raises(ValueError, match="band edge"):
        line_chart("a", "A", "a.", days(2), [Line("x", [1.0, 2.0], low=[1.0], high=[1.0, 2.0])])
    with pytest.raises(ValueError, match="a name like"):
        line_chart('a"b', "A", "a.", days(1), [Line("x", [1.0])])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.123456, "0.123"), (1.0, "1.00"), (12.345, "12.3"), (999.9, "1,000"),
     (123456.0, "123,000"), (-0.5, "-0.500"), (-7.25e-4, "-0.000725"), (4.2e-5, "4.20e-05"),
     (3e9, "3.00e+09"), (None, "—"), (NAN, "—")],
)  # fmt: skip
def test_three_digits(value: float | None, text: str) -> None:
    """Catches figures with more digits than they mean."""
    assert three_digits(value) == text


@pytest.mark.parametrize(
    ("low", "high"), list(product((-3.7, 0.0, 0.05, 0.31), (0.33, 5.0, 9.4, 7e7)))
)
def test_ticks_are_round_and_tell_each_other_apart(low: float, high: float) -> None:
    """Catches an axis whose labels repeat."""
    ticks = round_ticks(low, high)
    texts = tick_texts(ticks, percent=False)
    assert 3 <= len(ticks) <= 6 and len(set(texts)) == len(texts)
    assert [float(t.replace(",", "")) for t in texts] == pytest.approx(ticks)
    assert all(low - 1e-9 <= t <= high * (1 + 1e-9) for t in ticks)


def test_the_same_values_give_the_same_bytes() -> None:
    """Catches a picture that changes on a re-render."""
    made = [line_chart("a", "A", "a.", days(9), [Line("x", [i / 7 for i in range(9)])])
            for _ in range(2)]  # fmt: skip
    assert made[0] == made[1]
    assert not re.search(r"\d\.\d\d", "".join(path.d for path in made[0].paths))


def test_a_favicon_is_a_picture_in_itself() -> None:
    """Catches a page that asks a server for its icon, or an icon that breaks out of the address."""
    for icon in ("✓", "<", '"'):
        address = favicon(Badge("trained", "", icon, "good"))
        head, picture = address.split(",", 1)
        assert head == "data:image/svg+xml"
        assert ET.fromstring(unquote(picture)).tag.endswith("svg")
        assert not set(picture) & set("<>\"' ")
