"""The sections on what was measured: the reward taken apart, hygiene, canaries, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from varro.evaluation.calibration import MIN_FORECASTS
from varro.report.axes import three_digits
from varro.report.days import baselines_chart, histogram_chart
from varro.report.metrics import find_metric, format_value, is_metric, unit_beside
from varro.report.page import (
    DASH,
    Badge,
    Part,
    Row,
    Section,
    Table,
    count,
    metric_row,
    number,
    shown,
)
from varro.reward.summary import BEATS

_CANARIES = {
    "exact": "what was then published",
    "opposite": "its opposite",
    "shuffled": "its words in disorder",
    "nonsense": "a sentence about nothing",
    "empty": "no text",
    "copy": "the headline itself",
    "stuffing": "a heap of keywords",
    "stranger": "a forecast from another day",
}


def reward_section(
    settled: Part,
    apart: Sequence[Part] = (),
    histogram: Part | None = None,
    evaluation: Part | None = None,
) -> Section:
    """Each part of the reward, what it weighed, and what was left out and why."""
    n_groups = number(settled, "n_groups")
    n = f"n = {number(settled, 'n_forecasts')} training forecasts in {n_groups} groups"
    note = (
        f"Of the forecasts of all roles {number(settled, 'n_settled')} were settled and "
        f"{number(settled, 'n_void')} are void. The means are over {n}, "
        f"{number(settled, 'n_unresolved_groups')} of them unresolved, and that of the reward over "
        f"the {count(settled.get('n_rewarded'))} that have a semantic part. "
        f"Reward {shown(settled['reward_version'])}."
    )
    means = {**settled["components"], "reward": settled["reward"]}
    names = ("reward", "format", "semantic", "contrast", "similarity", "placebo", "vote", "margin",
             "gate", "topic")  # fmt: skip
    components = tuple(
        metric_row(name, format_value(name, means.get(name)), find_metric(name).unit)
        for name in names
    )
    beats = tuple(Row(beat, (format_value("beat", means.get(beat)),), "beat") for beat in BEATS)
    refused = tuple(Row(shown(day), (shown(why),)) for day, why in settled["refused"].items())
    scored = (
        Table(f"Components, {n}", ("Mean", "Value", "Unit"), components),
        _apart(apart),
        _influence(settled["influence"], settled["kind"]),
        _null_correlation(settled["null_correlation"], n),
        Table(f"Beats, {n}", ("Beat", "Value"), beats),
    )
    counted = (
        Table("Days refused by the guard", ("Day", "Reason"), refused),
        _reasons("n_void", settled["void_reasons"]),
        _reasons("n_invalid", settled["invalid_reasons"]),
        _outcomes(settled),
    )
    tables = (*(scored if settled["n_forecasts"] != 0 else ()), *counted)
    return Section(
        "The reward taken apart",
        notes=(note,),
        charts=(*histogram_chart(histogram), *baselines_chart(evaluation)),
        tables=tuple(t for t in tables if t.rows),
    )


def _apart(apart: Sequence[Part]) -> Table:
    rows = tuple(
        _known_row(
            part["name"],
            *(three_digits(part[key]) for key in ("mean", "sd", "within_sd", "correlation")),
            format_value("missing_frac", part["missing_frac"]),
            number(part, "n", "n_forecasts"),
        )
        for part in apart
    )
    caption = (
        "How far each moves: sd over forecasts, sd within groups (what a group can learn from), "
        "correlation with the reward; missing is left out, never 0"
    )
    headers = ("Component", "Mean", "sd", "Within groups", "Correlation", "Missing", "n")
    return Table(caption, headers, rows)


def _known_row(name: object, *cells: str) -> Row:
    """A metric's row, or a plain one if the report names what is none."""
    return metric_row(str(name), *cells) if is_metric(name) else Row(shown(name), cells)


def _influence(influence: Part, kind: object) -> Table:
    rows = tuple(
        Row(
            find_metric(name).label,
            (
                number(influence[name], "weight"),
                number(influence[name], "share"),
                number(influence[name], "spread"),
            ),
            "share",
        )
        for name in ("format", "semantic")
    )
    caption = (
        f"Influence on the update, reward kind {shown(kind)}: the share should be within 5 points "
        "of the weight"
    )
    return Table(caption, ("Component", "Weight", "Share of variance", "Running spread"), rows)


def _null_correlation(found: Part, n: str) -> Table:
    rows = tuple(
        metric_row(name, format_value(name, value), find_metric(name).healthy or DASH)
        for name, value in (
            ("null_correlation", found["semantic"]),
            ("raw_null_correlation", found["raw"]),
        )
    )
    caption = f"What would be earned on any day, within groups, {n}"
    return Table(caption, ("Measure", "Correlation", "Healthy"), rows)


def _reasons(name: str, reasons: Mapping[str, Any]) -> Table:
    metric = find_metric(name)
    rows = tuple(Row(why, (format_value(name, count),), name) for why, count in reasons.items())
    return Table(f"{metric.label}: {metric.definition}", ("Reason", "Forecasts"), rows)


def _outcomes(settled: Part) -> Table:
    names = (
        "n_outcomes",
        "n_repeats",
        "n_doubles",
        "n_instructions",
        "n_placebo_days",
        "n_pending_groups",
    )
    rows = tuple(metric_row(name, number(settled, name)) for name in names)
    return Table("What it was settled against", ("What", "n"), rows)


def hygiene_section(
    settled: Part, evaluation: Part | None, alarms: Sequence[Part], week: Sequence[Part]
) -> Section:
    """The alarms that fire, the essay's five figures, and everything an alarm watches."""
    n = f"n = {number(settled, 'n_forecasts')} training forecasts"
    tables: list[Table] = []
    if alarms:
        fired = tuple(Row(shown(a["name"]), (shown(a["found"]),)) for a in alarms)
        tables.append(Table(f"Alarms, n = {len(alarms)}", ("Alarm", "Found"), fired))
    if settled["essay"] is not None:
        tables.append(_essay(settled["essay"], n))
    if evaluation is not None:
        tables.append(_against_base(evaluation))
    if settled["n_forecasts"] != 0:
        tables.append(_of_forecasts(settled, n))
    if week:
        tables.append(_week(week))
    notes = () if tables else ("Nothing was settled.",)
    return Section("Hygiene", notes=notes, tables=tuple(tables))


def _essay(essay: Part, n: str) -> Table:
    names = ("quality", "quality_original", "zeros_frac", "very_low_frac", "leak_frac", "words")
    rows = tuple(metric_row(name, number(essay, name), unit_beside(name)) for name in names)
    return Table(f"The essay's five figures, {n}", ("Figure", "Value", "Unit"), rows)


def _against_base(evaluation: Part) -> Table:
    rows = tuple(
        metric_row(
            name,
            number(evaluation["served"], name),
            number(evaluation["base"], name),
            find_metric(name).healthy or DASH,
        )
        for name in ("copy_frac", "repetition_frac", "words")
    )
    n = number(evaluation, "n_shared", "n_headlines")
    caption = f"Against the frozen base, n = {n} headlines that both forecast"
    return Table(caption, ("Mean", "Served", "Frozen base", "Healthy"), rows)


def _of_forecasts(settled: Part, n: str) -> Table:
    names = ("repeating_frac", "truncated", "hedged", "leak", "script_frac",
             "unresolved_frac", "hub_frac", "openings_frac")  # fmt: skip
    values = {**settled["components"], **settled}
    rows = tuple(
        metric_row(name, format_value(name, values.get(name)), find_metric(name).healthy or DASH)
        for name in names
    )
    return Table(f"Of {n}", ("Measure", "Value", "Healthy"), rows)


def _week(week: Sequence[Part]) -> Table:
    rows = tuple(
        Row(
            shown(day["day"]),
            (number(day, "reward", "lift_reward"), number(day, "placebo", "lift_placebo")),
        )
        for day in week
    )
    caption = f"Style or skill: served minus frozen base, n = {len(week)} days"
    return Table(caption, ("Day", "Reward", "Placebo"), rows)


def canary_section(canaries: Part | None) -> Section:
    """Texts whose order is known, best first."""
    title = "Canaries"
    if canaries is None:
        note = "Not judged: there is no placebo day yet, and nothing trains without one."
        return Section(title, notes=(note,))
    broken = canaries["broken"]
    n = f"n = {number(canaries, 'n_headlines')} headlines"
    if canaries["frozen"]:
        n += " that are kept for days with too few of their own"
    badge = Badge("in order", f"what was then published earns most, {n}", "✓", "good")
    if broken is not None:
        badge = Badge("out of order", f"what was published is not above {broken}, {n}", "✗", "bad")
    ranked = sorted(canaries["means"].items(), key=lambda kind: (-(kind[1] or 0.0), kind[0]))
    rows = tuple(
        Row(f"{kind}: {_CANARIES.get(kind, DASH)}", (format_value("canary", mean),), "canary")
        for kind, mean in ranked
    )
    caption = f"Texts whose order is known, mean semantic reward, {n}"
    return Section(title, badge, tables=(Table(caption, ("Canary", "Mean"), rows),))


def calibration_section(calibration: Part | None, n_probabilities: int | None) -> Section:
    """Whether stated probabilities came true as often as stated."""
    title = "Calibration"
    n = f"n = {format_value('n_probabilities', n_probabilities)} over all days"
    if calibration is None:
        note = (
            f"Not judged before {MIN_FORECASTS} forecasts with a stated probability and a known "
            f"direction have settled; {n}."
        )
        return Section(title, notes=(note,))
    names = ("brier", "base_rate_brier")
    scores = tuple(
        metric_row(name, number(calibration, name), find_metric(name).healthy or DASH)
        for name in names
    )
    bins = tuple(
        Row(
            f"{number(b, 'low', 'probability')} to {number(b, 'high', 'probability')}",
            (
                number(b, "mean_probability", "probability"),
                number(b, "happened_frac"),
                number(b, "n", "n_probabilities"),
            ),
            "probability",
        )
        for b in calibration["bins"]
    )
    headers = ("Stated between", "Mean stated", "Happened", "n")
    return Section(
        title,
        notes=("Forecasts of one headline share their outcome: n is not of independent trials.",),
        tables=(
            Table(f"Stated probabilities, {n}", ("Measure", "Value", "Healthy"), scores),
            Table(f"Reliability, n = {number(calibration, 'n', 'n_probabilities')}", headers, bins),
        ),
    )
