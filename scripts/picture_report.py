"""The picture of a report in README.md: the top of one page, as a browser shows it in the light.

    varro replay --archive data/sample/world.jsonl.gz --to 2026-01-19 --run world --home var/picture
    python scripts/picture_report.py var/picture/reports/world/2026-01-19/report.html

wants the extra `browser` and Chromium, as `make test-pages` does.
"""

from __future__ import annotations

import base64
import os
import shutil
import sys
from pathlib import Path

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "report.webp"
WIDTH, HEIGHT = 1100, 1115
"""pixels: down to the first charts"""
MAX_BYTES = 150_000
_TO_WEBP = """async png => {
  const picture = await createImageBitmap(await (await fetch(png)).blob());
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  canvas.getContext("2d").drawImage(picture, 0, 0);
  const webp = await canvas.convertToBlob({type: "image/webp", quality: 0.8});
  return btoa(String.fromCharCode(...new Uint8Array(await webp.arrayBuffer())));
}"""


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_file():
        print(__doc__, file=sys.stderr)
        return 2
    program = find_chromium()
    if program is None:
        print("no Chromium on the path or in VARRO_CHROMIUM", file=sys.stderr)
        return 1
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(Path(arguments[0]).resolve().as_uri())
        png = base64.b64encode(page.screenshot()).decode()
        page.goto("about:blank")  # the report's own policy lets nothing be drawn
        picture = base64.b64decode(page.evaluate(_TO_WEBP, f"data:image/png;base64,{png}"))
        browser.close()
    if len(picture) > MAX_BYTES:
        print(f"the picture has {len(picture):,} bytes, at most {MAX_BYTES:,} are wanted")
        return 1
    PICTURE.write_bytes(picture)
    print(f"{PICTURE}: {len(picture):,} bytes")
    return 0


def find_chromium() -> str | None:
    """The browser that is installed: `VARRO_CHROMIUM`, or the first that is on the path."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("VARRO_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
