"""Every page in a real browser: quiet, alone, narrow, and to be read by everyone.

`make test-pages` brings what is needed; screenshots and prints lie in build/pages afterwards.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import ROOT, of_sqlite
from pages_world import make_pages, service_at_work

sys.path.insert(0, str(ROOT / "scripts"))

from fetch_axe import AXE
from picture_report import find_chromium

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200), of_sqlite]

SHOTS = ROOT / "build" / "pages"
THEMES, WIDTHS = ("light", "dark"), (320, 1280)
LIMIT, SITE_LIMIT = 200_000, 60_000
"""bytes of a page"""
WAY_OUT = "NOT TESTED in a browser: {}; 'make test-pages' and README.md say what is needed"
PAGES = (
    "report", "report-first-day", "report-no-update", "report-failed", "report-placebo", "settled",
    "made", "latest", "index-of-days", "index-of-runs", "compare", "site", "site-day",
    "site-forecasts", "site-long", "site-long-day", "site-days", "site-scorecard",
    "site-postmortem", "site-sources", "site-about", "live", "live-with-buttons", "live-runs",
    "live-report",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason=WAY_OUT.format("no playwright"))
    program = find_chromium()
    if program is None:
        pytest.skip(WAY_OUT.format("no Chromium on the path or in VARRO_CHROMIUM"))
    with (
        playwright.sync_playwright() as started,
        closing(started.chromium.launch(executable_path=program)) as browser,
    ):
        yield browser


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.exists():
        pytest.skip(WAY_OUT.format(f"no {AXE}"))
    return AXE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def addresses(
    browser: Any, axe: str, embedder: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Name → address of each page; made after browser and axe are found, and not in vain."""
    folder = tmp_path_factory.mktemp("pages")
    files = {name: file.as_uri() for name, file in make_pages(folder, embedder).items()}
    SHOTS.mkdir(parents=True, exist_ok=True)
    with service_at_work(folder / "home", folder) as live:
        yield files | live
    print(f"\nscreenshots and prints of {len(PAGES)} pages: {SHOTS}")


class Watched:
    """A page with all that it asked for and all that its console said."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.asked: list[str] = []
        self.said: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda m: m.type in ("error", "warning") and self.said.append(m.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        self.size = len(page.goto(address).body())
        """bytes"""

    def strangers(self) -> list[str]:
        """What it asked for outside of the folder, or the origin, that it lies in."""
        parts = urlsplit(self.address)
        home = f"{parts.scheme}://{parts.netloc}/"
        if parts.scheme == "file":
            home = re.sub(r"/(?:reports|site|long-site)/.*|/[^/]*$", "/", self.address)
        return [url for url in self.asked if not url.startswith((home, "data:"))]


@contextmanager
def opened(browser: Any, address: str, **settings: Any) -> Iterator[Watched]:
    with closing(browser.new_context(**settings)) as context:
        yield Watched(context.new_page(), address)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_quiet_alone_narrow_and_for_everyone(
    browser: Any, axe: str, addresses: dict[str, str], name: str
) -> None:
    """Catches an error that only a browser sees, a request to anyone, a page to be pushed sideways
    on a phone, and what a reader without sight, or in the dark, cannot read."""
    with opened(browser, addresses[name]) as watched:
        page = watched.page
        for theme in THEMES:
            page.emulate_media(color_scheme=theme)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                where = f"{name}-{theme}-{width}"
                page.screenshot(path=SHOTS / f"{where}.png", full_page=True)
                wide, seen = page.evaluate(
                    "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
                )
                assert wide <= seen, where
                assert kept_out(page, axe) == [], where
        assert 1000 < watched.size <= (SITE_LIMIT if name.startswith("site") else LIMIT)
        assert watched.strangers() == []
        assert watched.said == []


def kept_out(page: Any, axe: str) -> list[str]:
    """What axe-core finds that keeps somebody out, a little or wholly, in words. It is put in as a
    debugger would, past the page's policy, which lets no script in."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations'], preload: false})")
    return [
        f"{one['id']} ({one['impact']}): {one['nodes'][0]['html']}" for one in found["violations"]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_the_same_without_scripts_and_on_paper(
    browser: Any, addresses: dict[str, str], name: str
) -> None:
    """Catches a number that only a script puts in, and a page that can not be printed."""
    texts = []
    for scripts in (True, False):
        with opened(browser, addresses[name], java_script_enabled=scripts) as watched:
            texts.append(without_clock(watched.page.inner_text("body")))
            if scripts:
                printed = watched.page.pdf(path=SHOTS / f"{name}.pdf")
            assert watched.strangers() == [] and watched.said == []
    assert texts[0] == texts[1] and len(texts[0]) > 200
    assert printed.startswith(b"%PDF")


def without_clock(text: str) -> str:
    """The live view tells when it was made, and whether it is followed; its words count seconds."""
    return re.sub(r"As of .*|for [\d:]+ (?:s|min)|about .* left|[\d,.]+ tokens/s", "", text)


def test_what_is_looked_for_is_found(browser: Any, axe: str, tmp_path: Path) -> None:
    """Catches a suite that passes whatever it is shown."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><html lang=en><title>bad</title><p style='color:#ccc;background:#fff'>pale"
        "<img src='https://varro.invalid/x.png'><p style='width:500px'>wide<script>throw 1</script>"
    )
    with opened(browser, bad.as_uri(), viewport={"width": 320, "height": 900}) as watched:
        assert watched.page.evaluate("document.documentElement.scrollWidth") > 320
        found = " ".join(kept_out(watched.page, axe))
        assert "color-contrast" in found and "image-alt" in found
        assert watched.strangers() == ["https://varro.invalid/x.png"]
        assert len(watched.said) == 2  # the picture that is not there, and what was thrown
