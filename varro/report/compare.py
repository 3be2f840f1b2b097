"""Several runs beside each other, as HTML, Markdown and CSV: `compare_runs`'s values in, text out.

The table is the essay's (quality, zeros, leak, words, reward, distance to the reference), with what
it lacked: the lift over the frozen base with its confidence sequence, and the shuffled day.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from varro.report.axes import Chart
from varro.report.best_of import SAID
from varro.report.charts import Line, line_chart, row_chart
from varro.report.markdown import sections_markdown
from varro.report.metrics import Metric, find_metric, format_value
from varro.report.page import (
    Badge,
    Part,
    Row,
    Section,
    Table,
    between,
    number,
    shown,
    table_text,
)
from varro.report.templating import page_environment

FORMATS = ("html", "md", "csv")
TITLE = "Varro, runs compared"
MAX_LINES = 3
_ESSAY = ("quality_original", "quality", "zeros_frac", "leak_frac", "words", "reward", "kl_ref")
_CSV = ("label", "run", "seed", "corpus", "is_placebo", "first_day", "last_day", "n_days",
        "n_updates", "n_forecasts", *_ESSAY, "lift", "lift_low", "lift_high", "claim", "n_compared",
        "n_lift_days")  # fmt: skip
_DEFINED = (*_ESSAY, "lift", "shuffled", "best_of", "lift_best_of", "even_contrast", "n_headlines")


def render_comparison(found: Part, form: str) -> str:
    """The comparison as `html`, `md` or `csv`."""
    if form == "csv":
        return _csv(found["runs"])
    sections = _sections(found)
    made = f"Made by Varro {shown(found['varro_version'])} from {len(found['runs'])} runs."
    if form == "md":
        return sections_markdown(TITLE, sections, _definitions(), made)
    template = page_environment().get_template("compare.html")
    state = Badge(f"{len(found['runs'])} runs", "beside each other", "≡", "calm")
    return template.render(
        state=state, title=TITLE, sections=sections, metrics=_definitions(), made=made
    ) + "\n"  # fmt: skip


def _sections(found: Part) -> tuple[Section, ...]:
    runs = found["runs"]
    return (
        Section(
            "Runs",
            notes=(
                "Means over each run's own days, reward over training forecasts that have all its "
                "parts; KL is that before the newest update. Lift is served minus frozen base, "
                "with its confidence sequence. Runs of other days or another corpus are not to be "
                "compared by these rows, but by the pairs below.",
            ),
            charts=(_lift_chart(runs),),
            tables=(_essay_table(runs), _lift_table(runs)),
        ),
        _pairs(found["pairs"]),
        _best_of(runs),
        _settings(found["settings"], [run["label"] for run in runs]),
    )


def _essay_table(runs: Sequence[Part]) -> Table:
    headers = ("Run", "Seed", "From", "To", "Days", "Updates",
               *(find_metric(name).label for name in _ESSAY))  # fmt: skip
    rows = tuple(
        Row(
            _label(run),
            (
                shown(run["seed"]),
                shown(run["first_day"]),
                shown(run["last_day"]),
                format_value("n_days", run["n_days"] or None),
                shown(run["n_updates"]),
                *(number(run, name) for name in _ESSAY),
            ),
        )
        for run in runs
    )
    return Table(f"The essay's figures, n = {len(runs)} runs", headers, rows)


def _lift_table(runs: Sequence[Part]) -> Table:
    headers = ("Run", find_metric("lift").label, "Confidence sequence", "Says", "Headlines", "Days",
               find_metric("shuffled").label, "Confidence sequence")  # fmt: skip
    rows = tuple(
        Row(
            _label(run),
            (
                number(run, "lift"),
                between("lift", run["lift_low"], run["lift_high"]),
                _says(run),
                format_value("n_headlines", run["n_compared"] or None),
                format_value("n_days", run["n_lift_days"] or None),
                number(run["shuffled"], "mean", "shuffled"),
                between("shuffled", run["shuffled"]["claim_low"], run["shuffled"]["claim_high"]),
            ),
        )
        for run in runs
    )
    return Table(f"Against the frozen base, n = {len(runs)} runs", headers, rows)


def _label(run: Part) -> str:
    return shown(run["label"]) + (" (placebo)" if run["is_placebo"] else "")


def _says(run: Part) -> str:
    blocked = ", ".join(find_metric(name).label.lower() for name in run["blocked_by"])
    return shown(run["claim"]) + (f" by {blocked}" if blocked else "")


def _lift_chart(runs: Sequence[Part]) -> Chart:
    known = [(run["lift"], shown(run["label"])) for run in runs if run["lift"] is not None]
    finding = "No run has a lift yet."
    if known:
        (low, lowest), (high, highest) = min(known), max(known)
        finding = (
            f"Runs said to have learned: {sum(run['claim'] == 'learned' for run in runs)} of "
            f"{len(runs)}; means from {format_value('lift', low)} ({lowest}) to "
            f"{format_value('lift', high)} ({highest})."
        )
    rows = [(shown(run["label"]), run["lift"]) for run in runs]
    return row_chart("lift", "Lift over frozen base", finding, rows, headers=("Run", "Lift"),
                     show=lambda value: format_value("lift", value))  # fmt: skip


def _pairs(pairs: Sequence[Part]) -> Section:
    rows = tuple(
        Row(
            f"{shown(pair['run'])}, {find_metric(part).label.lower()}",
            (
                number(pair[part], "mean", name),
                between(name, pair[part]["low"], pair[part]["high"]),
                between(name, pair[part]["claim_low"], pair[part]["claim_high"]),
                shown(pair[part]["word"]),
                number(pair[part], "n_headlines"),
                number(pair[part], "n_days"),
            ),
        )
        for pair in pairs
        for part, name in (("even_contrast", "lift"), ("reward", "lift_reward"))
    )
    if not rows:
        return Section("Against each other", notes=("There is no other run to compare with.",))
    against = shown(pairs[0]["against"])
    headers = ("Run", f"Minus {against}", "Bootstrap over days", "Confidence sequence", "Says",
               "Headlines", "Days")  # fmt: skip
    return Section(
        "Against each other",
        notes=(
            "Paired by day and headline: what the served policies of both runs forecast. A reward "
            "may count style, and between runs of different rewards it means nothing. Intervals "
            "are over days: how far two seeds of one setting differ is not in them.",
        ),
        tables=(Table(f"Each run minus {against}", headers, rows),),
    )


def _best_of(runs: Sequence[Part]) -> Section:
    rows = []
    for run in runs:
        told = [row for row in run["best_of"]["pooled"] if row["difference"] is not None]
        rows += [
            Row(
                f"{shown(run['label'])}, k = {number(row, 'k', 'best_of_k')}",
                (
                    number(row, "served", "best_of"),
                    number(row, "base", "best_of"),
                    number(row, "difference", "lift_best_of"),
                    between("lift_best_of", row["low"], row["high"]),
                    number(row, "n", "n_headlines"),
                    number(row, "n_days"),
                ),
            )
            for row in told
        ]
    headers = ("Run", "Served", "Frozen base", "Difference", "Bootstrap over days",
               "Headlines", "Days")  # fmt: skip
    notes = tuple(
        f"{shown(run['label'])}: {SAID[run['best_of']['word']]}."
        for run in runs
        if run["best_of"]["pooled"]
    )
    return Section(
        "Best of k",
        notes=notes or ("No run has a headline with a contrast on both sides yet.",),
        charts=_best_chart(runs),
        tables=(Table("Best of k, contrast on even terms", headers, tuple(rows)),) if rows else (),
    )


def _best_chart(runs: Sequence[Part]) -> tuple[Chart, ...]:
    """What each run's best of k earns more than its base's, for as many runs as lines can be told
    apart."""
    curves = [{row["k"]: row["difference"] for row in run["best_of"]["pooled"]} for run in runs]
    places = sorted({k for of in curves for k, d in of.items() if d is not None})
    if not places or len(curves) > MAX_LINES:
        return ()
    lines = [
        Line(shown(run["label"]), [of.get(k) for k in places])
        for run, of in zip(runs, curves, strict=True)
    ]
    ends = ", ".join(
        f"{line.name} {format_value('lift_best_of', line.values[0])} at k = {places[0]} and "
        f"{format_value('lift_best_of', line.values[-1])} at k = {places[-1]}"
        for line in lines
    )
    return (
        line_chart(
            "best-of",
            "Best of k, served minus frozen base",
            f"{ends}.",
            [format_value("best_of_k", k) for k in places],
            lines,
            zero=True,
            show=lambda value: format_value("lift_best_of", value),
            heading="k",
        ),
    )


def _settings(settings: Sequence[Part], labels: Sequence[str]) -> Section:
    rows = tuple(
        Row(shown(of["key"]), tuple(shown(value) for value in of["values"])) for of in settings
    )
    if not rows:
        return Section("What is configured otherwise", notes=("Nothing: the runs are alike.",))
    headers = ("Key", *(shown(label) for label in labels))
    caption = f"Settings in which the runs differ, n = {len(rows)}"
    return Section("What is configured otherwise", tables=(Table(caption, headers, rows),))


def _definitions() -> tuple[Metric, ...]:
    return tuple(find_metric(name) for name in _DEFINED)


def _csv(runs: Sequence[Part]) -> str:
    """A row a run, the numbers as they are; what is not available is empty, and text is nothing
    that a spreadsheet would run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_CSV, "shuffled", "best_of_word"])
    for run in runs:
        row = [*(run[name] for name in _CSV), run["shuffled"]["mean"], run["best_of"]["word"]]
        writer.writerow([table_text(cell) if isinstance(cell, str) else cell for cell in row])
    return text.getvalue()
