"""A page in Markdown, for a terminal or a repository, and the table of a replay's days."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from varro.report.metrics import CONTROLS, Metric, find_metric, format_value
from varro.report.page import (
    DASH,
    Badge,
    Example,
    Page,
    Part,
    Section,
    Task,
    between,
    is_web_link,
    one_line,
    shown,
)

DAY_COLUMNS = ("n_headlines", "reward", "format", "semantic", "lift", "interval", "kl_ref",
               "clip_frac", "entropy", "words", "copy_frac", "repetition_frac")  # fmt: skip


def page_markdown(page: Page) -> str:
    """The whole page; all of its text stands there as it is, never as markup."""
    lines = [f"# {_escaped(page.title)}", "", _badge(page.state), "", _escaped(page.sentence), ""]
    if page.alarm is not None:
        lines += [_badge(page.alarm), ""]
    if page.cards:
        cards = [(c.label, f"{c.value} {c.unit}".strip(), c.change, c.target) for c in page.cards]
        lines += [*_table(("Number", "Value", "Against the week", "Aim"), cards), ""]
    lines += _sections(page.sections)
    lines += ["## To do", "", *(_task(task) for task in page.tasks)]
    lines += ["", _escaped(page.tasks_note) if page.tasks else "Nothing to do.", ""]
    lines += ["## Commands", ""]
    for what, command in page.commands:
        # Four spaces make literal text: a command can be copied as it is.
        lines += [f"{_escaped(what)}:", "", f"    {one_line(command)}", ""]
    lines += [*_definitions(page.metrics), _escaped(page.made)]
    return "\n".join(lines) + "\n"


def sections_markdown(
    title: str, sections: Iterable[Section], metrics: Iterable[Metric], made: str
) -> str:
    """A page that is sections and the definitions of what they show."""
    lines = [f"# {_escaped(title)}", "", *_sections(sections), *_definitions(metrics)]
    return "\n".join([*lines, _escaped(made)]) + "\n"


def _sections(sections: Iterable[Section]) -> list[str]:
    lines: list[str] = []
    for section in sections:
        lines += [f"## {_escaped(section.title)}", ""]
        if section.badge is not None:
            lines += [_badge(section.badge), ""]
        for note in section.notes:
            lines += [_escaped(note), ""]
        for chart in section.charts:
            lines += [f"**{_escaped(chart.title)}.** {_escaped(chart.finding)}", ""]
        for table in section.tables:
            lines += [f"**{_escaped(table.caption)}**", ""]
            cells = [(row.label, *row.cells) for row in table.rows]
            lines += [*_table(table.headers, cells), ""]
        for example in section.examples:
            lines += [*_example(example), ""]
    return lines


def _definitions(metrics: Iterable[Metric]) -> list[str]:
    rows = [(m.label, m.name, m.definition, m.unit, m.healthy or DASH) for m in metrics]
    headers = ("Metric", "Name", "Definition", "Unit", "Healthy")
    return ["## Definitions", "", *_table(headers, rows), ""]


def render_days_markdown(rows: Iterable[Part], total: Part) -> str:
    """The cross-day table of a replay, one line a day and the claim last, and its controls.

    A day's interval is a bootstrap over its headlines; the last line's is the confidence sequence.
    """

    def cells(label: str, row: Part) -> list[str]:
        return [label] + [
            _lift_interval(row) if name == "interval" else format_value(name, row[name])
            for name in DAY_COLUMNS
        ]

    headers = [
        "Interval of lift" if name == "interval" else find_metric(name).label
        for name in DAY_COLUMNS
    ]
    body = [cells(shown(row["day"]), row) for row in rows]
    n_days = format_value("n_days", total["n_days"])
    body.append(cells(f"all {n_days} days: {shown(total['claim'])}", total))
    since = f", first said on {total['since']}" if total["since"] else ""
    said = (
        f"{shown(total['claim'])}{since}: lift {format_value('lift', total['lift'])}, confidence "
        f"sequence {_lift_interval(total)}, bootstrap over days "
        f"{between('lift', *total['lift_bootstrap'])}, "
        f"n = {format_value('n_headlines', total['n_compared'])} headlines on "
        f"{format_value('n_days', total['n_lift_days'])} days"
    )
    lines = [*_table(("Day", *headers), body), "", _escaped(said), "", *_control_table(total)]
    return "\n".join(lines) + "\n"


def _control_table(total: Part) -> list[str]:
    """What the claim stands beside, a measure a line."""
    controls = {name: total["controls"][name] for name in CONTROLS}
    rows = [
        _control(name, part["mean"], interval=between(name, part["claim_low"], part["claim_high"]))
        for name, part in controls.items()
    ]
    rows += [
        _control("accuracy", total["accuracy"]["served"], of="served"),
        _control("accuracy", total["accuracy"]["base"], of="frozen base"),
        _control("null_correlation", total["null_correlation"]),
        _control("raw_null_correlation", total["raw_null_correlation"]),
        _control("share", total["share_format"], of="format"),
        _control("share", total["share_semantic"], of="semantic"),
    ]
    return _table(("Control", "Mean", "Confidence sequence", "Should be"), rows)


def _control(
    name: str, value: float | None, *, interval: str = DASH, of: str | None = None
) -> tuple[str, ...]:
    metric = find_metric(name)
    label = metric.label if of is None else f"{metric.label}, {of}"
    return (label, format_value(name, value), interval, metric.healthy or DASH)


def _lift_interval(row: Part) -> str:
    return between("lift", row["lift_low"], row["lift_high"])


def _task(task: Task) -> str:
    return f"- {_escaped(task.text)}\n\n      {one_line(task.command)}\n"


def _badge(badge: Badge) -> str:
    return f"**{badge.icon} {_escaped(badge.word)}**: {_escaped(badge.text)}"


def _table(headers: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = [_escaped(header) for header in headers]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return lines + [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]


def _example(example: Example) -> list[str]:
    headline = _link(example.headline, example.headline_link)
    text = "".join(piece.text for piece in example.pieces)
    lines = [f"### {headline}", "", f"- Source: {_escaped(example.source)}"]
    lines.append(f"- Forecast: {_escaped(text)}")
    lines += [f"- {_escaped(what)}: {_escaped(value)}" for what, value in example.facts]
    if example.outcome is not None:
        lines.append(f"- Outcome: {_link(example.outcome, example.outcome_link)}")
    return lines


def _link(text: str, link: str | None) -> str:
    if link is None or not is_web_link(link):
        return _escaped(text)
    # Brackets, pipes and parentheses would end the address; an ampersand could start an entity.
    address = quote(link, safe="%:/?#@!$&+,;=~-._").replace("&", "&amp;")
    return f"[{_escaped(text)}]({address})"


_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def _escaped(text: str) -> str:
    """`text` on one line, so that Markdown shows it as it is: no HTML, link, heading or cell."""
    escaped = re.sub(r"[\\`*_\[\]#|~$]", r"\\\g<0>", one_line(text))
    escaped = re.sub(r"[&<>]", lambda found: _ENTITIES[found[0]], escaped)
    # Bare addresses become links where GitHub's extensions are on.
    return escaped.replace("://", "\\://").replace("www.", "www\\.")
