"""What stands beside the days: metrics.jsonl, the index of a run, the newest day, all runs.

    reports/index.html            the runs side by side
    reports/RUN/index.html        calendar of days, lift over time
    reports/RUN/metrics.jsonl     a line a day
    reports/RUN/latest.html       the newest day's page

All of it is made of the days' report.json, and made again after each day; a day that is written
again replaces its line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from varro.errors import VarroError
from varro.files import exclusive, write_file
from varro.report.calendar import index_pages, life_charts, months_of, state_of
from varro.report.line import metrics_line
from varro.report.page import Badge
from varro.report.pages import load_report, render_html
from varro.report.templating import page_environment
from varro.report.verdict import MARKS

_DAY = re.compile(r"\d{4}-\d\d-\d\d(?:T\d{4})?")


def write_across(reports: Path, run: str, written: Iterable[dict[str, Any]]) -> Path:
    """The path of the run's index.html, after it and all that stands beside it know the lines of
    the reports that have just been written."""
    folder = reports / run
    with exclusive(reports / ".lock"):
        known = {line["day"]: line for line in load_lines(folder)}
        known |= {line["day"]: line for line in written}
        lines, unread = [], []
        for day in _days(folder):
            try:
                lines.append(
                    known.get(day) or metrics_line(load_report(folder / day / "report.json"))
                )
            except (VarroError, KeyError, TypeError):
                unread.append(day)
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        write_file(folder / "metrics.jsonl", text.encode())
        _write_index(folder, run, lines, unread)
        if lines:
            _write_latest(folder, lines[-1]["day"])
        _write_runs(reports)
    return folder / "index.html"


def load_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, oldest first; those that cannot be read are left to be
    made again."""
    try:
        text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return []
    lines = []
    for row in text.splitlines():
        try:
            line = json.loads(row)
        except ValueError:
            continue
        if isinstance(line, dict) and line.keys() >= _REQUIRED and _DAY.fullmatch(str(line["day"])):
            lines.append(line)
    return sorted(lines, key=lambda line: line["day"])


_REQUIRED = {"run", "day", "word", "said", "version", "config_changed", "mean_lift", "claim_low",
             "claim_high", "lift", "kl_ref", "served_reward", "base_reward"}  # fmt: skip


def _days(folder: Path) -> list[str]:
    return sorted(
        found.name
        for found in folder.iterdir()
        if _DAY.fullmatch(found.name) and (found / "report.json").exists()
    )


def _write_index(
    folder: Path, run: str, lines: Sequence[dict[str, Any]], unread: Sequence[str]
) -> None:
    template = page_environment().get_template("index.html")
    pages = index_pages(lines)
    state = state_of(lines[-1]) if lines else Badge("no day yet", "", "○", "calm")
    for file, part in pages:
        html = template.render(
            title=f"Varro, run {run}",
            state=state,
            files=[name for name, _ in pages],
            here=file,
            charts=life_charts(lines) if file == "index.html" else (),
            months=months_of(part),
            marks=MARKS,
            n_days=len(lines),
            newest=lines[-1]["day"] if lines else None,
            unread=unread[-20:],
            n_unread=len(unread),
        )
        write_file(folder / file, f"{html}\n".encode())
    for found in folder.glob("index-*.html"):
        if found.name not in {name for name, _ in pages}:
            found.unlink()


def _write_runs(reports: Path) -> None:
    """Every run's newest day beside the others'."""
    rows = []
    for folder in sorted(f for f in reports.iterdir() if (f / "metrics.jsonl").exists()):
        lines = load_lines(folder)
        if lines:
            n_trained = sum(line["version"] is not None for line in lines)
            rows.append({"run": folder.name, "line": lines[-1], "state": state_of(lines[-1]),
                         "n_days": len(lines), "n_trained": n_trained})  # fmt: skip
    state = Badge(f"{len(rows)} runs", "", "◆", "calm")
    template = page_environment().get_template("runs.html")
    html = template.render(title="Varro, all runs", state=state, rows=rows)
    write_file(reports / "index.html", f"{html}\n".encode())


def _write_latest(folder: Path, day: str) -> None:
    """The newest day's page under a name that stays: a copy, since links do not survive every
    way of copying a home."""
    report = load_report(folder / day / "report.json")
    write_file(folder / "latest.html", render_html(report, beside=f"{day}/", above="").encode())
