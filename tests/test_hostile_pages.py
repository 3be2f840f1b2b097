"""Strings that try to leave their place, in every page that may show them: none becomes an element,
an attribute, or an address that does anything.

Each page is parsed as a browser parses HTML5, and compared with its twin (`twins.py`).
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import copy_home, ledger_at, lend_embedder, of_sqlite, raw_sql, small_config
from site_world import SiteWorld
from test_compare import fill
from test_recovery import WordVectors, run_days
from test_report_across import failed
from test_report_pages import _report
from twins import (
    CORPUS,
    SIDES,
    N,
    Say,
    assert_twins,
    from_place,
    hostile,
    is_formula,
    link_of,
    outline,
    plain,
    planted,
    shape,
    storable,
)

from varro.day import write_all_reports
from varro.domain import Role
from varro.ledger.store import open_ledger
from varro.report.across import write_across
from varro.report.compare import render_comparison
from varro.report.groups import made_groups_of_day, paginate
from varro.report.line import metrics_line
from varro.report.pages import render_html, render_markdown, write_report
from varro.report.sections import build_page
from varro.report.templating import page_environment
from varro.run import open_run
from varro.service.compare import compare_runs
from varro.service.site import publish
from varro.service.tick import State, state_path
from varro.web.app import TEMPLATES as LIVE
from varro.web.facts import Looker

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FIRST = date(2026, 1, 5)
ROTATIONS = range(0, N, 38)
"""where in the corpus a page with room for a part of it begins"""


def test_the_corpus_is_what_it_says() -> None:
    """Catches a corpus that is cut, or harmless: put in raw, most of its strings do become an
    element or an attribute, in text or in a quoted value."""
    assert N >= 200 and len(set(CORPUS)) == N
    frames = ("<title>{}</title>", "<p>{}</p>", '<a title="{}">x</a>', "<a title='{}'>x</a>",
              "<a title={}>x</a>", '<a href="{}">x</a>')  # fmt: skip
    caught = [
        attack
        for attack in CORPUS
        if any(shape(f.format(attack)) != shape(f.format(plain(attack))) for f in frames)
    ]
    print(f"{N} strings, {len(caught)} of them do something if they are not escaped")
    assert len(caught) > 140


def test_a_page_that_does_not_escape_is_caught() -> None:
    """Catches a comparison that passes whatever it is given: one page with escaping off."""
    lax = page_environment().overlay(autoescape=False).get_template("report.html")
    pages = []
    for say in SIDES:
        page = build_page(planted(_report(), say, from_place(0)) | {"schema": 6})
        pages.append(lax.render(page=page, title=page.title, state=page.state, beside="", above=""))
    assert shape(pages[0]) != shape(pages[1])


@pytest.mark.parametrize("start", ROTATIONS)
def test_a_report_and_a_failed_days_page_hold(start: int) -> None:
    """Catches a text of the report that is not escaped, in HTML or Markdown, or an address that is
    more than one."""
    made = {
        say: {
            name: planted(report, say, from_place(start)) | {"schema": 6}
            for name, report in (("report", _report()), ("failed", failed("2026-01-05")))
        }
        for say in SIDES
    }
    html = [{n: render_html(r) for n, r in made[say].items()} for say in SIDES]
    assert_twins(*html)
    for name, report in made[hostile].items():
        assert outline(render_markdown(report)) == outline(render_markdown(made[plain][name]))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("attack", range(N))
def test_every_string_in_every_place_of_a_report(attack: int) -> None:
    """Catches the one place that a part of the corpus did not come to."""
    pages = []
    for say in SIDES:
        report = planted(_report(), say, iter(lambda: CORPUS[attack], None)) | {"schema": 6}
        pages.append((render_html(report), render_markdown(report)))
    assert_twins({"report": pages[0][0]}, {"report": pages[1][0]})
    assert outline(pages[0][1]) == outline(pages[1][1])


def test_an_index_holds(tmp_path: Path) -> None:
    """Catches a verdict that is markup in a calendar, and a run's folder that is in all runs'."""
    pages = [write_index(tmp_path / say.__name__, say) for say in SIDES]
    assert assert_twins(*pages) == 2
    assert pages[0]["index.html"].count('<th scope="row">') > 80  # a folder's name has no "/"


def write_index(folder: Path, say: Say) -> dict[str, str]:
    """A run with a day for each string, and a run with each string for its name."""
    lines, taken = [], set()
    for n, attack in enumerate(CORPUS):
        day = (FIRST + timedelta(days=n)).isoformat()
        report = _report() | {"day": day, "run": "main", "verdict": dict.fromkeys(
            ("word", "reason", "text"), say(storable(attack)))}  # fmt: skip
        lines.append(metrics_line(report))
        (folder / "main" / day).mkdir(parents=True)
        (folder / "main" / day / "report.json").write_text("{}")
    write_report(folder / "main" / lines[-1]["day"], report)
    for n, attack in enumerate(CORPUS):
        name, known = storable(attack) if say is hostile else f"run {n}", len(taken)
        if not set("/\0") & set(attack) and len(storable(attack).encode()) < 255:
            taken.add(storable(attack).casefold())  # some disks do not tell cases apart
        if len(taken) > known:
            (folder / name).mkdir()
            (folder / name / "metrics.jsonl").write_text(json.dumps(lines[n]) + "\n")
    write_across(folder, "main", lines)
    return {name: (folder / name).read_text() for name in ("index.html", "main/index.html")}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A home and its site in `hostile` and `plain`: the corpus in its titles, sources, addresses
    and forecasts, in the ledger as ingest and sampling write them, and in a note by hand."""
    folder = tmp_path_factory.mktemp("sites")
    return make_site(folder / "hostile", hostile), make_site(folder / "plain", plain)


def make_site(folder: Path, say: Say) -> Path:
    """Four days with a fourth of the corpus each as titles; every string is each thing once."""
    a_day = N // 4

    def nth(n: int, i: int, shift: int = 0) -> str:
        return storable(CORPUS[(n * a_day + i + shift) % N])

    world = SiteWorld(
        folder / "home", n_headlines=a_day, n_forecasts=2,
        title=lambda n, i: say(nth(n, i)),
        source=lambda n, i: say(nth(n, i, 31)),
        link=lambda n, i: link_of(nth(n, i, 67), say),
        text=lambda n, i, k: say(nth(n, i, 101 + 37 * k)),
    )  # fmt: skip
    world.add_days(4)
    notes = folder / "notes"
    notes.mkdir()
    for week, attacks in (("2026-W02", CORPUS[::2]), ("2026-W03", CORPUS[1::2])):
        text = "\n\n".join(say(storable(attack[:40])) for attack in attacks)
        (notes / f"{week}.md").write_text(text[:6000], encoding="utf-8")
    publish(world.config(f"publish.notes={notes}"), folder / "site", NOW)
    return folder


def texts_of(folder: Path, ending: str) -> dict[str, str]:
    files = sorted(folder.rglob(f"*{ending}"))
    return {str(f.relative_to(folder)): f.read_text("utf-8") for f in files}


@of_sqlite
def test_a_public_site_holds(sites: tuple[Path, Path]) -> None:
    """Catches a headline, source, address, forecast or note that is part of a page for the world,
    or a cell that a spreadsheet would run."""
    pages = [texts_of(folder / "site", ".html") for folder in sites]
    n = assert_twins(*pages)
    print(f"{n} pages of a site parsed, each with its twin")
    assert n > N
    site = sites[0] / "site"
    for row in csv.reader(io.StringIO((site / "forecasts.csv").read_text("utf-8"))):
        assert not any(map(is_formula, row))
    feeds = [ElementTree.parse(folder / "site" / "feed.xml") for folder in sites]
    assert [[e.tag for e in feed.iter()] for feed in feeds[:1]] == [
        [e.tag for e in feed.iter()] for feed in feeds[1:]
    ]


@of_sqlite
def test_the_pages_of_groups_hold(sites: tuple[Path, Path], tmp_path: Path) -> None:
    """Catches a forecast of the ledger that is part of the page that shows all eight."""
    pages = []
    for folder, say in zip(sites, SIDES, strict=True):
        made: dict[str, str] = {}
        with open_ledger(ledger_at(folder / "home")) as ledger:
            for day in ledger.days_begun("main"):
                groups = ledger.groups("main", day=day, roles=list(Role))
                groups = sorted(groups, key=lambda group: group.headline.guid)
                target = tmp_path / say.__name__ / day
                kinds = {"made": paginate("made", made_groups_of_day(groups))}
                write_report(target, _report() | {"day": day}, kinds)
                made |= {
                    f"{day}/{n}": t for n, t in texts_of(target, ".html").items() if "made" in n
                }
        pages.append(made)
    assert assert_twins(*pages) == 4


@of_sqlite
def test_a_feed_with_a_hostile_title_is_still_a_feed(tmp_path: Path) -> None:
    """Catches a title that ends its element, or a character that XML has not."""
    world = SiteWorld(tmp_path / "home", n_headlines=1, n_forecasts=1)
    world.add_days(2)
    tags = set()
    awkward = re.compile(r"\]\]|[?]>|<[!?]|&[^ ]|[\x00-\x1f\x7f-\x9f\u2028\ufffd-\uffff]")
    told = [storable(attack)[:60] for attack in CORPUS if awkward.search(storable(attack)[:60])]
    assert len(told) > 30
    for n in range(0, len(told), 3):
        title = " ".join(told[n : n + 3])[:120]
        quoted = json.dumps(title, ensure_ascii=False).replace("\x7f", "\\u007f")
        site = tmp_path / f"site-{n}"
        publish(world.config(f"publish.title={quoted}"), site, NOW)
        feed = ElementTree.parse(site / "feed.xml")
        tags.add(tuple(element.tag for element in feed.iter()))
    assert len(tags) == 1


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("compared")
    fill(home, ("main", 0.1, {}), ("twice", 0.3, {}), ("new", None, {}))
    return compare_runs(small_config(home), ["main", "twice", "new"])


@of_sqlite
@pytest.mark.parametrize("start", ROTATIONS)
def test_a_comparison_holds(compared: dict[str, Any], start: int) -> None:
    """Catches a run's name, a folder or a setting of a stranger's configuration that is markup."""
    made = []
    for say in SIDES:
        corpus = from_place(start)
        facts = planted({k: compared[k] for k in ("runs", "pairs")}, say, corpus)
        for run, known in zip(facts["runs"], compared["runs"], strict=True):
            run["best_of"] = known["best_of"]  # our own words, by which sentences are chosen
        settings = [
            {"key": say(next(corpus)), "values": [say(next(corpus)) for _ in facts["runs"]]}
            for _ in range(38)
        ]
        made.append(compared | facts | {"settings": settings})
    pages = [{"compare.html": render_comparison(facts, "html")} for facts in made]
    assert_twins(*pages)
    outlines = [outline(render_comparison(facts, "md")) for facts in made]
    assert outlines[0] == outlines[1]
    for row in csv.reader(io.StringIO(render_comparison(made[0], "csv"))):
        assert not any(map(is_formula, row))


@of_sqlite
def test_the_live_view_holds(tmp_path: Path) -> None:
    """Catches an alert, an error or a pause that is markup: what a day said last may hold a
    headline, and the live view is the one page that runs a script."""
    page = page_environment(LIVE).get_template("live.html")
    pages = []
    for say in SIDES:
        world = SiteWorld(tmp_path / say.__name__, n_headlines=1, n_forecasts=1)
        world.add_days(1)
        told = {str(n): {"text": say(storable(a)), "since": "", "by": [["log", ""]]}
                for n, a in enumerate(CORPUS)}  # fmt: skip
        made = {}
        for start in ROTATIONS:
            attack = say(storable(CORPUS[start]))
            state = State(NOW.isoformat(), at="2026-01-05T00:00:00", outcome=attack, error=attack,
                          exit_code=7, told=told)  # fmt: skip
            file = state_path(world.home, "main")
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(asdict(state)))
            (file.parent / "main.paused").write_text(json.dumps({"since": "", "by": attack}))
            facts = Looker(world.config()).page_facts(NOW)
            made[f"live {start}"] = page.render(**facts, token=attack)
        pages.append(made)
    assert pages[0]["live 0"].count("Alert:") == N
    assert_twins(*pages)


@of_sqlite
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_reports_made_from_a_hostile_ledger_hold(tmp_path: Path) -> None:
    """Catches a way from the ledger to a report's page that the pieces above do not go: days that
    were really run, their rows then changed to hold the corpus. Which forecasts are shown, and what
    is said of them, follows their words, so that kinds of elements are compared, not each."""
    lived = tmp_path / "lived"
    run_days(lived, 0, 1, 2)
    kinds, n = [], 0
    for say in (*SIDES, None):
        home = copy_home(lived, tmp_path / getattr(say, "__name__", "as-it-was"))
        if say is not None:
            assert plant_ledger(ledger_at(home), say) > N
        with open_run(small_config(home, "checkpoints.keep_newest=99")) as work:
            lend_embedder(work, WordVectors())
            write_all_reports(work)
        pages = texts_of(home / "reports", ".html")
        n += len(pages)
        kinds.append({kind for page in pages.values() for kind in shape(page)})
    assert kinds[0] <= kinds[1] | kinds[2]
    print(f"{n} pages of three homes parsed")


def plant_ledger(place: Path | str, say: Say) -> int:
    """Titles, sources, addresses and forecasts of a ledger are the corpus; how many rows were."""
    n = 0
    for table, columns in (("headlines", ("title", "source", "link")), ("forecasts", ("text",))):
        for (key,) in raw_sql(place, f"SELECT id FROM {table} ORDER BY id"):
            for shift, column in enumerate(columns):
                attack = storable(CORPUS[(n + 31 * shift) % N])
                text = link_of(attack, say) if column == "link" else say(attack)
                text = text.replace("\0", "\ufffd")
                raw_sql(
                    place, f"UPDATE {table} SET {column} = ? WHERE id = ?", parameters=(text, key)
                )
            n += 1
    return n
