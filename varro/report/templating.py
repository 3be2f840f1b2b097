"""The one way a page of Varro is made: an environment that escapes everything.

    page_environment().get_template("report.html").render(page=page)

Headlines, links and model output are hostile: whatever a template prints is escaped, a name that it
does not know is an error, and an address becomes a link only if it `is web_link`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from varro.report.axes import three_digits
from varro.report.page import Badge, is_web_link, show_controls

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
_TONES = {"good": "#1a6b33", "bad": "#b3261e", "calm": "#6b5300"}


@cache
def page_environment(*folders: Path) -> jinja2.Environment:
    """Templates of `folders` first, then those shared by all pages: base.html, charts.html and
    their CSS."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: show_controls(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["web_link"] = is_web_link
    environment.globals["favicon"] = favicon
    environment.filters["digits"] = three_digits
    environment.filters["in_words"] = _in_words
    return environment


def _in_words(parts: Mapping[str, float | None]) -> str:
    """ ", name value" of each: one text to escape, where a page has a thousand of them."""
    return "".join([f", {name} {three_digits(value)}" for name, value in parts.items()])


def favicon(state: Badge) -> str:
    """The state's icon on its colour, as an address that holds the picture itself."""
    colour = _TONES.get(state.tone, _TONES["calm"])
    icon = state.icon if state.icon not in "<&" else "?"
    picture = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        f'<circle cx="16" cy="16" r="16" fill="{colour}"/>'
        f'<text x="16" y="23" font-size="20" text-anchor="middle" fill="#fff">{icon}</text></svg>'
    )
    return f"data:image/svg+xml,{quote(picture)}"
