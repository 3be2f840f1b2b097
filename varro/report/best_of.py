"""The section "Best of k": does training find something new, or only say the best more often?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from varro.domain import EvaluationInfo, Group, Settlement, stable_seed
from varro.evaluation.best_of import pool_best, sharpening
from varro.evaluation.evaluate import day_curve
from varro.report.charts import Chart, Line, line_chart
from varro.report.metrics import format_value
from varro.report.page import Part, Row, Section, Table, between, number, shown

SAID = {
    "both": "one forecast earns more than the base's, and so does the best of many",
    "sharper": "one forecast earns more than the base's, the best of many no more: training says "
    "more often what the base could say already",
    "wider": "the best of many earns more than the base's, one forecast does not",
    "narrower": "the best of many earns less than the base's: forecasts differ less",
    "worse": "one forecast earns less than the base's, and so does the best of many",
    "open": "neither one forecast nor the best of many can be told to earn more than the base's",
}
"""what `sharpening` found, in words"""
_ALONE = "No day so far kept its curve: this is the night alone."
_HEADERS = ("k", "Served", "Frozen base", "Difference", "Interval", "Headlines")


def best_of_part(
    settled: Sequence[tuple[Settlement, Group]],
    evaluations: Sequence[EvaluationInfo],
    *,
    seed: int,
    day: str,
    n_bootstrap: int,
) -> dict[str, Any]:
    """{night: the day's curve, pooled: that of all days whose evaluation has one, word: what the
    pooled one shows}."""
    days = [e.detail.get("best_of") or [] for e in evaluations]
    pooled = pool_best(days, seed=stable_seed("pooled", seed), n_bootstrap=n_bootstrap)
    return {
        "night": day_curve(settled, seed=seed, day=day, n_bootstrap=n_bootstrap),
        "pooled": pooled,
        "word": sharpening(pooled),
    }


def best_of_section(part: Part) -> Section:
    """The curve over all days, what it shows, and this night's."""
    pooled, night = part["pooled"], part["night"]
    if not pooled and not night:
        return Section("Best of k", notes=("No headline has a contrast on both sides yet.",))
    said = SAID.get(part["word"], shown(part["word"]))
    found = _ALONE
    if pooled:
        n = number(pooled[0], "n", "n_headlines")
        found = f"Over all days, n = {n} headlines, by bootstrap (no claim): {said}."
    tables = (
        _table("Over all days, bootstrap over days", pooled, with_days=True),
        _table("This night, bootstrap over headlines", night),
    )
    return Section(
        "Best of k",
        notes=(
            "The best of k of the forecasts on a headline. Where the base made fewer than k there "
            "is nothing to compare.",
        ),
        tables=tuple(table for table in tables if table.rows),
        charts=(best_of_chart("best-of", found, pooled or night),),
    )


def best_of_chart(name: str, finding: str, rows: Sequence[Part]) -> Chart:
    """Both curves over k."""
    return line_chart(
        name,
        "Best of k, contrast on even terms",
        finding,
        [number(row, "k", "best_of_k") for row in rows],
        [Line(label, [row[side] for row in rows]) for side, label in _SIDES.items()],
        show=lambda value: format_value("best_of", value),
        heading="k",
    )


_SIDES = {"served": "Served", "base": "Frozen base"}


def _table(caption: str, rows: Sequence[Part], *, with_days: bool = False) -> Table:
    headers = (*_HEADERS, "Days") if with_days else _HEADERS
    return Table(caption, headers, tuple(_row(row, with_days=with_days) for row in rows))


def _row(row: Mapping[str, Any], *, with_days: bool) -> Row:
    cells = (
        number(row, "served", "best_of"),
        number(row, "base", "best_of"),
        number(row, "difference", "lift_best_of"),
        between("lift_best_of", row["low"], row["high"]),
        number(row, "n", "n_headlines"),
        *((number(row, "n_days"),) if with_days else ()),
    )
    return Row(number(row, "k", "best_of_k"), cells, "best_of")
