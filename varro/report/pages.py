"""What a person reads over coffee: report.json, and report.md and report.html made from it.

    report.json ──► build_page ──► Page ──► render_markdown
                    (what is said)      └─► render_html

A `Page` is plain text; each renderer escapes all of it, because headlines, links and model output
are hostile. Only `write_report` touches disk.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from varro.domain import Stage
from varro.errors import VarroError
from varro.files import write_file
from varro.report.metrics import METRICS, Metric, find_metric, format_value

Part = Mapping[str, Any]
"""one object of report.json"""


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
class Example:
    headline: str
    headline_link: str | None
    source: str
    facts: str
    text: str
    outcome: str | None
    outcome_link: str | None


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    badge: Badge | None = None
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    made: str
    verdict: Badge
    sections: tuple[Section, ...]
    command: str
    """repeats the day"""
    metrics: tuple[Metric, ...] = METRICS


_VERDICT_MARKS = {
    "trained": ("✓", "good"),
    "no update": ("○", "calm"),
    "first day": ("◆", "calm"),
    "refused": ("✗", "bad"),
}
_LEARNED_MARKS = {
    "learned": ("▲", "good"),
    "not yet distinguishable": ("≈", "calm"),
    "worse": ("▼", "bad"),
    "not enough days": ("…", "calm"),
}
_UNKNOWN_MARK = ("•", "calm")
_BEATS = ("object", "direction", "magnitude", "timeframe", "drivers", "verification")
_DASH = "—"


def write_report(folder: Path, report: dict[str, Any]) -> Path:
    """The path of report.html, after report.json, report.md and report.html are in `folder`.

    Raises: VarroError, with the files of before untouched, if the report has a value that JSON
    cannot hold.
    """
    payload = _encode(report)
    write_file(folder / "report.json", payload.encode())
    written = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    markdown, html = render_markdown(written), render_html(written)
    write_file(folder / "report.md", markdown.encode())
    write_file(folder / "report.html", html.encode())
    return folder / "report.html"


def render_html(report: Part) -> str:
    """One page that needs nothing else: inline style, no script, nothing fetched."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: _show_controls(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["web_link"] = is_web_link
    return environment.get_template("report.html").render(page=build_page(report)) + "\n"


def render_markdown(report: Part) -> str:
    """The same page for a terminal or a repository."""
    page = build_page(report)
    lines = [f"# {_markdown(page.title)}", "", _markdown_badge(page.verdict), ""]
    for section in page.sections:
        lines += [f"## {_markdown(section.title)}", ""]
        if section.badge is not None:
            lines += [_markdown_badge(section.badge), ""]
        for note in section.notes:
            lines += [_markdown(note), ""]
        for table in section.tables:
            lines += [f"**{_markdown(table.caption)}**", ""]
            cells = [(row.label, *row.cells) for row in table.rows]
            lines += [*_markdown_table(table.headers, cells), ""]
        for example in section.examples:
            lines += [*_markdown_example(example), ""]
    definitions = [
        (m.label, m.name, m.definition, m.unit, m.healthy or _DASH) for m in page.metrics
    ]
    lines += ["## Definitions", ""]
    lines += [
        *_markdown_table(("Metric", "Name", "Definition", "Unit", "Healthy"), definitions),
        "",
    ]
    # Four spaces make literal text: a command can be copied as it is.
    lines += ["## Reproduce", "", f"    {_one_line(page.command)}", "", _markdown(page.made)]
    return "\n".join(lines) + "\n"


def render_days_markdown(rows: Iterable[Part], total: Part) -> str:
    """The cross-day table of a replay: one line a day, and the whole replay last."""
    before = ("n_headlines", "reward", "format", "semantic")
    after = ("kl_ref", "clip_frac", "entropy", "words")

    def cells(label: str, row: Part) -> tuple[str, ...]:
        left = [format_value(name, row[name]) for name in before]
        right = [format_value(name, row[name]) for name in after]
        return (label, *left, format_value("lift", row["lift"]), _interval(row), *right)

    headers = (
        "Day",
        *(find_metric(name).label for name in before),
        find_metric("lift").label,
        "Interval of lift",
        *(find_metric(name).label for name in after),
    )
    body = [cells(_text(row["day"]), row) for row in rows]
    body.append(cells(f"all, n = {_n(total, 'n_days')} days", total))
    return "\n".join(_markdown_table(headers, body)) + "\n"


def is_web_link(link: object) -> bool:
    """True for an http or https address with a host and no space, control or quote in it."""
    if not isinstance(link, str) or _CONTROLS.search(link):
        return False
    return re.fullmatch(r"(?i)https?://[^\s<>\"'`\\/?#][^\s<>\"`\\]*", link) is not None


def build_page(report: Part) -> Page:
    """What the page says, as plain text; every number with its n, a dash where there is none.

    Raises: KeyError if the report lacks a key of its schema.
    """
    return Page(
        title=f"Varro, run {_text(report['run'])}, {_text(report['day'])}",
        made=f"Made {_text(report['made_at'])} by Varro {_text(report['varro_version'])}.",
        verdict=_badge(report["verdict"]["word"], report["verdict"]["text"], _VERDICT_MARKS),
        sections=(
            _learning(report["learned"], report["evaluation"]),
            _safety(report["update"]),
            _reward(report["settled"]),
            _examples("Best forecasts", report["best"]),
            _examples("Worst forecasts", report["worst"]),
            _new_forecasts(report["forecast"], report["display"]),
            _news(report["news"]),
            _machine(report["machine"], report["checkpoint"], report["timings"]),
        ),
        command=_text(report["reproduce"]),
    )


def _learning(learned: Part, evaluation: Part | None) -> Section:
    claim = (
        f"lift over the frozen base {format_value('lift', learned['lift'])}, interval "
        f"{_interval(learned)}, n = {_n(learned, 'n_headlines')} held-out headlines over "
        f"{_n(learned, 'n_days')} days"
    )
    badge = _badge(learned["word"], claim, _LEARNED_MARKS)
    title = "Is it learning?"
    if evaluation is None:
        return Section(title, badge, notes=("No held-out headlines were evaluated this night.",))
    served, base = evaluation["served"], evaluation["base"]
    n = f"n = {_n(evaluation, 'n_headlines')} held-out headlines"
    differences = (
        ("contrast", "lift"),
        ("reward", "lift_reward"),
        ("format", "lift_format"),
        ("semantic", "lift_semantic"),
    )
    rows = tuple(
        _metric_row(
            name,
            format_value(name, served[name]),
            format_value(name, base[name]),
            format_value(difference, evaluation[difference]),
        )
        for name, difference in differences
    )
    note = (
        f"This night: lift {format_value('lift', evaluation['lift'])}, interval "
        f"{_interval(evaluation)}, {n}, {_n(evaluation, 'n_placebo_days')} placebo days."
    )
    caption = f"Served policy beside frozen base, {n}"
    headers = ("Mean", "Served", "Frozen base", "Difference")
    return Section(title, badge, notes=(note,), tables=(Table(caption, headers, rows),))


def _safety(update: Part | None) -> Section:
    title = "Is it safe?"
    if update is None:
        return Section(title, notes=("No update was made, so the weights are as they were.",))
    names = (
        "kl_ref",
        "clip_frac",
        "entropy",
        "grad_norm",
        "kl_coef",
        "kl_update",
        "kl_sampler",
        "ratio_mean",
        "loss",
        "lr",
        "tokens_per_s",
    )
    caption = (
        f"Update v{_text(update['from_version'])} to v{_text(update['to_version'])}, "
        f"n = {_n(update, 'n_forecasts')} forecasts in {_n(update, 'n_groups')} groups, "
        f"{_n(update, 'n_steps')} inner steps, "
        f"{_n(update, 'n_zero_variance')} groups without spread"
    )
    rows = tuple(
        _metric_row(
            name,
            format_value(name, update[name]),
            find_metric(name).unit,
            find_metric(name).healthy or _DASH,
        )
        for name in names
    )
    return Section(title, tables=(Table(caption, ("Measure", "Value", "Unit", "Healthy"), rows),))


def _reward(settled: Part) -> Section:
    n = f"n = {_n(settled, 'n_forecasts')} forecasts in {_n(settled, 'n_groups')} groups"
    components = tuple(
        _metric_row(name, format_value(name, settled[name]), find_metric(name).unit)
        for name in ("reward", "format", "semantic", "placebo", "words")
    )
    beats = settled["beats"]
    names = [name for name in _BEATS if name in beats] + sorted(set(beats) - set(_BEATS))
    beat_rows = tuple(Row(name, (format_value("beat", beats[name]),), "beat") for name in names)
    reasons = tuple(
        Row(reason, (format_value("n_void", count),), "n_void")
        for reason, count in settled["void_reasons"].items()
    )
    tables = (
        Table(f"Components, {n}", ("Mean", "Value", "Unit"), components),
        Table(f"Beats, {n}", ("Beat", "Value"), beat_rows),
        Table("Excluded and counted", ("Reason", "Forecasts"), reasons),
    )
    note = f"Settled {n}; {_n(settled, 'n_void')} void; reward {_text(settled['reward_version'])}."
    return Section(
        "The reward taken apart", notes=(note,), tables=tuple(t for t in tables if t.rows)
    )


def _examples(title: str, parts: Iterable[Part]) -> Section:
    examples = tuple(
        Example(
            headline=_text(part["headline"]),
            headline_link=part["headline_link"],
            source=_text(part["source"]),
            facts=", ".join(
                [
                    *(f"{k} {format_value(k, part[k])}" for k in ("reward", "format", "semantic")),
                    f"k = {_text(part['k'])}, forecast {_text(part['forecast_id'])}",
                ]
            ),
            text=_text(part["text"]),
            outcome=_text(part["outcome"]),
            outcome_link=part["outcome_link"],
        )
        for part in parts
    )
    notes = () if examples else ("No settled forecasts to show.",)
    return Section(f"{title}, n = {len(examples)}", notes=notes, examples=examples)


def _new_forecasts(forecast: Part, display: Iterable[Part]) -> Section:
    made = (
        f"Policy v{_text(forecast['policy_version'])} wrote n = {_n(forecast, 'n_forecasts')} "
        f"forecasts in {_n(forecast, 'n_groups')} groups: {_n(forecast, 'n_tokens')} tokens at "
        f"{format_value('tokens_per_s', forecast['tokens_per_s'])} tokens/s."
    )
    endings = tuple(
        Row(reason, (format_value("n_forecasts", count),), "n_forecasts")
        for reason, count in (forecast["finish_reasons"] or {}).items()
    )
    examples = tuple(
        Example(
            headline=_text(part["headline"]),
            headline_link=part["headline_link"],
            source=_text(part["source"]),
            facts="",
            text=_text(part["text"]),
            outcome=None,
            outcome_link=None,
        )
        for part in display
    )
    shown = (
        f"Display forecasts below, n = {len(examples)}, are sampled tightly for reading; "
        "they are neither settled nor trained on."
    )
    table = Table(
        f"How they ended, n = {_n(forecast, 'n_forecasts')}", ("Ending", "Forecasts"), endings
    )
    return Section(
        "Display forecasts",
        notes=(made, shown),
        tables=(table,) if endings else (),
        examples=examples,
    )


def _news(news: Part) -> Section:
    names = ("n_new", "n_train", "n_heldout", "n_malformed", "n_duplicates", "n_feeds")
    counts = tuple(_metric_row(name, _n(news, name)) for name in names)
    failures = tuple(Row(_text(f["feed"]), (_text(f["reason"]),)) for f in news["failures"])
    caption = f"Source {_text(news['source'])}, corpus {_text(news['corpus'])}"
    tables = [Table(caption, ("What arrived", "n"), counts)]
    if failures:
        failed = f"Feeds that failed, n = {len(failures)}"
        tables.append(Table(failed, ("Feed", "Reason"), failures))
    notes = () if failures else ("No feed failed.",)
    return Section("News and feeds", notes=notes, tables=tuple(tables))


def _machine(machine: Part, checkpoint: Part | None, timings: Part) -> Section:
    facts = [Row(name, (_text(machine[name]),)) for name in ("device", "blas", "platform")]
    facts.append(Row("python", (_text(machine["python"]),)))
    facts += [Row(name, (_text(version),)) for name, version in machine["versions"].items()]
    for name in ("n_parameters", "trainable_frac", "peak_rss_gb", "mlx_peak_gb"):
        facts.append(_metric_row(name, format_value(name, machine[name])))
    order = [stage.value for stage in Stage if stage.value in timings]
    order += sorted(set(timings) - set(order))
    times = tuple(Row(s, (format_value("seconds", timings[s]),), "seconds") for s in order)
    tables = [Table("Machine", ("What", "Value"), tuple(facts))]
    if times:
        tables.append(Table(f"Wall time, n = {len(times)} stages", ("Stage", "Seconds"), times))
    if checkpoint is None:
        return Section(
            "Machine and provenance",
            notes=("No checkpoint was published.",),
            tables=tuple(tables),
        )
    names = ("version", "parent", "path", "sha256")
    published = tuple(Row(name, (_text(checkpoint[name]),)) for name in names)
    return Section(
        "Machine and provenance",
        tables=(Table("Checkpoint published", ("What", "Value"), published), *tables),
    )


def _badge(word: str, text: str, marks: Mapping[str, tuple[str, str]]) -> Badge:
    icon, tone = marks.get(word, _UNKNOWN_MARK)
    return Badge(_text(word), _text(text), icon, tone)


def _metric_row(name: str, *cells: str) -> Row:
    return Row(find_metric(name).label, cells, name)


def _interval(part: Part) -> str:
    low, high = part["lift_low"], part["lift_high"]
    if low is None and high is None:
        return _DASH
    return f"{format_value('lift', low)} to {format_value('lift', high)}"


def _n(part: Part, name: str) -> str:
    return format_value(name, part[name])


def _text(value: object) -> str:
    return _DASH if value is None else str(value)


def _markdown_badge(badge: Badge) -> str:
    return f"**{badge.icon} {_markdown(badge.word)}**: {_markdown(badge.text)}"


def _markdown_table(headers: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = [_markdown(header) for header in headers]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return lines + [f"| {' | '.join(_markdown(cell) for cell in row)} |" for row in rows]


def _markdown_example(example: Example) -> list[str]:
    headline = _markdown_link(example.headline, example.headline_link)
    lines = [f"### {headline}", "", f"- Source: {_markdown(example.source)}"]
    if example.facts:
        lines.append(f"- Earned: {_markdown(example.facts)}")
    lines.append(f"- Forecast: {_markdown(example.text)}")
    if example.outcome is not None:
        lines.append(f"- Outcome: {_markdown_link(example.outcome, example.outcome_link)}")
    return lines


def _markdown_link(text: str, link: str | None) -> str:
    if link is None or not is_web_link(link):
        return _markdown(text)
    # Brackets, pipes and parentheses would end the address; an ampersand could start an entity.
    address = quote(link, safe="%:/?#@!$&+,;=~-._").replace("&", "&amp;")
    return f"[{_markdown(text)}]({address})"


_MARKDOWN_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def _markdown(text: str) -> str:
    """`text` on one line, so that Markdown shows it as it is: no HTML, link, heading or cell."""
    escaped = re.sub(r"[\\`*_\[\]#|~$]", r"\\\g<0>", _one_line(text))
    escaped = re.sub(r"[&<>]", lambda found: _MARKDOWN_ENTITIES[found[0]], escaped)
    # Bare addresses become links where GitHub's extensions are on.
    return escaped.replace("://", "\\://").replace("www.", "www\\.")


def _one_line(text: str) -> str:
    return _show_controls(" ".join(text.split()))


# Controls, direction overrides and lone surrogates: unreadable, able to reorder a line, or
# impossible to encode.
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def _show_controls(text: str) -> str:
    return _CONTROLS.sub("\ufffd", text)


def _encode(report: dict[str, Any]) -> str:
    try:
        return json.dumps(report, allow_nan=False, sort_keys=True, indent=2) + "\n"
    except (TypeError, ValueError) as error:
        raise VarroError(
            "report.json holds text, finite numbers, true, false and null; found "
            f"{_find_unwritable(report, '') or repr(error)}; give null for what is not available"
        ) from error


def _find_unwritable(value: object, path: str) -> str | None:
    """The first value that JSON cannot hold, as `path = value`."""
    if isinstance(value, Mapping):
        children = [(f"{path}.{key}".lstrip("."), child) for key, child in value.items()]
    elif isinstance(value, list | tuple):
        children = [(f"{path}[{index}]", child) for index, child in enumerate(value)]
    elif isinstance(value, str | int | None) or (isinstance(value, float) and math.isfinite(value)):
        return None
    else:
        return f"{path} = {value!r}"
    return next((found for p, c in children if (found := _find_unwritable(c, p))), None)
