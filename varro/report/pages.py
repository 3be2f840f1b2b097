"""What a person reads over coffee: report.json, and report.md and report.html made from it.

    report.json ──► build_page ──► Page ──► render_markdown
                    (sections)          └─► render_html

A `Page` is plain text; each renderer escapes all of it, because headlines, links and model output
are hostile. Only `write_report` touches disk.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from varro.errors import VarroError
from varro.files import write_files
from varro.report.markdown import page_markdown, render_days_markdown
from varro.report.page import Badge, Page, Part
from varro.report.schema import upgraded
from varro.report.sections import build_page
from varro.report.templating import page_environment

__all__ = ["load_report", "render_days_markdown", "render_html", "render_markdown", "write_report"]

_ABOUT = {
    "settled": "Every forecast of the served policy that was settled this day, and what it earned.",
    "made": "Every forecast that the served policy made this day; tomorrow's news settles them.",
}


def write_report(
    folder: Path, report: dict[str, Any], groups: Mapping[str, Sequence[Part]] | None = None
) -> Path:
    """The path of report.html, after report.json, report.md, report.html and the pages of groups
    (kind → pages of `report.groups`) are in `folder`; older pages of groups that are no more go.

    Raises: VarroError, with the files of before untouched, if the report has a value that JSON
    cannot hold.
    """
    payload = _encode(report)
    report = json.loads(payload)  # what is on the disk, and in its order
    page = build_page(report)
    pages = _group_pages(report, page.state, groups or {})
    markdown, html = page_markdown(page), _page_html(page)
    files = {**pages, "report.json": payload, "report.md": markdown, "report.html": html}
    write_files(folder, {name: text.encode() for name, text in files.items()})
    for file in folder.iterdir():
        if re.fullmatch(r"(?:settled|made)(?:-\d+)?\.html", file.name) and file.name not in pages:
            file.unlink()
    return folder / "report.html"


def load_report(file: Path) -> dict[str, Any]:
    """A report.json in the present form.

    Raises: VarroError, in one line, if it is gone, is not JSON, or is of a form that can not be
    read.
    """
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, PermissionError, ValueError) as error:
        raise VarroError(f"{file} cannot be read ({error}); 'varro report --all' writes it again")
    return upgraded(report)


def render_html(report: Part, *, beside: str = "", above: str = "../") -> str:
    """One page that needs nothing else: inline style, no script, nothing fetched.

    `beside` and `above` are where the day's other pages and the run's index are, from this one.
    """
    return _page_html(build_page(upgraded(report)), beside=beside, above=above)


def render_markdown(report: Part) -> str:
    """The same page for a terminal or a repository."""
    return page_markdown(build_page(upgraded(report)))


def _page_html(page: Page, *, beside: str = "", above: str = "../") -> str:
    template = page_environment().get_template("report.html")
    values = {"title": page.title, "state": page.state, "beside": beside, "above": above}
    return template.render(page=page, **values) + "\n"


def _group_pages(
    report: Part, state: Badge, groups: Mapping[str, Sequence[Part]]
) -> dict[str, str]:
    template = page_environment().get_template("groups.html")
    return {
        page["file"]: template.render(
            title=f"Varro, run {report['run']}, {report['day']}: {kind} forecasts",
            state=state,
            about=_ABOUT[kind],
            files=[other["file"] for other in pages],
            here=page["file"],
            groups=page["groups"],
            run=report["run"],
            day=report["day"],
        )
        + "\n"
        for kind, pages in groups.items()
        for page in pages
    }


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
