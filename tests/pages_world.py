"""Pages of every kind, made as they are made every day, for a browser to look at.

Three runs of one home (two seeds and the placebo), a day that failed, their comparison, the public
site of one run and a site of many invented days, and the live view of a service at work.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from conftest import ROOT, lend_embedder, small_config
from site_world import SiteWorld
from test_recovery import day_of

from varro.config import render_toml
from varro.day import run_day
from varro.domain import Stage
from varro.errors import StageError
from varro.files import write_file
from varro.lock import hold_lock, lock_path
from varro.report.compare import render_comparison
from varro.reward.embed import RememberingEmbedder
from varro.run import open_run
from varro.service.compare import compare_runs
from varro.service.doing import DoingFile
from varro.service.pause import pause
from varro.service.site import publish

RUNS = {
    "main": ("run.seed=1",),
    "seed-2": ("run.seed=2",),
    "placebo": ("run.seed=1", "update.placebo=true"),
}
N_DAYS = 5
"""of `main`; the others have two less"""
NOW = datetime(2026, 1, 12, tzinfo=UTC)
FIRST, QUIET, TRAINED, FAILED = (day_of(n).day for n in (0, 1, N_DAYS - 1, N_DAYS))
"""days of `main`: its first, one that can not train yet, its newest that did, and one that a stage
ended"""
VIEW = re.compile(r"live view: (http://127\.0\.0\.1:\d+)/\?token=(\S+)\n")


class Confused:
    """An embedder that ends what asks it."""

    def encode(self, texts: Any) -> Any:
        raise RuntimeError("<b>no vectors</b> today: the folder /a/path/to/somewhere is not there")


def run_config(home: Path, run: str) -> Any:
    settings = ("sampling.n_forecasts=8", "sampling.max_tokens=64", "evaluate.placebo_lags=[2,3]")
    return small_config(home, f"run.name={run}", *settings, *RUNS[run])


def make_pages(folder: Path, embedder: Any) -> dict[str, Path]:
    """Name → file of each page that a disk holds; their home is `folder / "home"`."""
    home = folder / "home"
    for run in RUNS:
        with open_run(run_config(home, run)) as work:
            lend_embedder(work, embedder)
            for n in range(N_DAYS - 2 * (run != "main")):
                run_day(work, day_of(n))
    fail_a_day(home)
    compared = compare_runs(run_config(home, "main"), list(RUNS))
    for form in ("html", "md"):
        write_file(home / f"compare.{form}", render_comparison(compared, form).encode())
    publish(run_config(home, "main"), home / "site", NOW)
    make_long_site(folder)
    reports, long = home / "reports", folder / "long-site"
    return {
        "report": reports / "main" / TRAINED / "report.html",
        "report-first-day": reports / "main" / FIRST / "report.html",
        "report-no-update": reports / "main" / QUIET / "report.html",
        "report-failed": reports / "main" / FAILED / "report.html",
        "report-placebo": reports / "placebo" / "latest.html",
        "settled": reports / "main" / TRAINED / "settled.html",
        "made": reports / "main" / TRAINED / "made.html",
        "latest": reports / "main" / "latest.html",
        "index-of-days": reports / "main" / "index.html",
        "index-of-runs": reports / "index.html",
        "compare": home / "compare.html",
        "site": home / "site" / "index.html",
        "site-day": home / "site" / "d" / f"{TRAINED}.html",
        "site-forecasts": newest(home / "site" / "f"),
        "site-long": long / "index.html",
        "site-long-day": next(iter(sorted((long / "d").glob("*-2.html")))),
        "site-days": long / "days.html",
        "site-scorecard": long / "scorecard.html",
        "site-postmortem": long / "postmortems" / "2026-W03.html",
        "site-sources": long / "feeds.html",
        "site-about": long / "about.html",
    }


def newest(folder: Path) -> Path:
    """A page of forecasts that are settled."""
    return next(f for f in sorted(folder.glob("*.html")) if "Matched" in f.read_text("utf-8"))


def fail_a_day(home: Path) -> None:
    with open_run(run_config(home, "main")) as work:
        work.embedder = RememberingEmbedder(Confused, "confused")
        try:
            run_day(work, day_of(N_DAYS))
        except StageError:
            return
    raise AssertionError("the day went well")


def make_long_site(folder: Path) -> None:
    """A site of two weeks with more headlines a day than a page has, and a note by hand."""
    world = SiteWorld(folder / "long", n_headlines=20, n_forecasts=3)
    world.add_days(15)
    notes = folder / "notes"
    write_file(notes / "2026-W03.md", b"A quiet week.\n\nNothing of it was foreseen.\n")
    publish(world.config(f"publish.notes={notes}"), folder / "long-site", NOW)


@contextmanager
def service_at_work(home: Path, folder: Path) -> Iterator[dict[str, str]]:
    """Name → address of the pages of `varro serve --web`, whose own run is paused while a second
    run of the home is at work."""
    pause(home, "main", now=NOW, by="a person")
    config = write_file_of(run_config(home, "main"), folder / "main.toml")
    lock = hold_lock(lock_path(home, "seed-2"), now=NOW)
    begun = datetime.now(UTC) - timedelta(seconds=20)
    doing = DoingFile(home, "seed-2", clock=lambda: begun)
    doing.started(day_of(N_DAYS).day, Stage.FORECAST, total=2000, unit="tokens")
    begun, doing._written = datetime.now(UTC), float("-inf")
    doing.advanced(700, 0)
    command = [sys.executable, "-m", "varro.cli", "serve", "--web", "--port", "0", "-c", config]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stderr is not None
        found = VIEW.search(process.stderr.readline())
        assert found is not None
        top = found[1]
        yield {
            "live": f"{top}/",
            "live-with-buttons": f"{top}/?token={found[2]}",
            "live-runs": f"{top}/reports/index.html",
            "live-report": f"{top}/reports/main/latest.html",
        }
    finally:
        process.terminate()
        process.communicate(timeout=30)
        doing.stop()
        lock.close()


def write_file_of(config: Any, path: Path) -> Path:
    path.write_text(render_toml(config), encoding="utf-8")
    return path
