"""What a person reads over coffee: report.json, and report.md and report.html made from it.

    report.json ──► build_page ──► Page ──► render_markdown
                    (sections)          └─► render_html

A `Page` is plain text; each renderer escapes all of it, because headlines, links and model output
are hostile. Only `write_report` touches disk.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from varro.errors import VarroError
from varro.files import write_file
from varro.report.markdown import page_markdown, render_days_markdown
from varro.report.page import Part
from varro.report.sections import build_page
from varro.report.templating import page_environment

__all__ = ["render_days_markdown", "render_html", "render_markdown", "write_report"]


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
    template = page_environment().get_template("report.html")
    return template.render(page=build_page(report)) + "\n"


def render_markdown(report: Part) -> str:
    """The same page for a terminal or a repository."""
    return page_markdown(build_page(report))


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
