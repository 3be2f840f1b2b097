"""What stands beside the days: the index, the newest day, metrics.jsonl; and pages as a browser
would parse them."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import html5lib
import pytest
from test_report_pages import HOSTILE, _replace_text, _report, _row

from varro.errors import VarroError
from varro.report import across
from varro.report.across import load_lines, write_across
from varro.report.build import HISTORY_DAYS
from varro.report.calendar import N_ON_A_PAGE, months_of
from varro.report.groups import MAX_BYTES, links_of, paginate
from varro.report.line import metrics_line
from varro.report.pages import load_report, render_html, render_markdown, write_report
from varro.report.schema import EMPTY, upgraded
from varro.report.verdict import FAILED, MARKS, failed_verdict

DATA = Path(__file__).parent / "data"
LIMIT = 200_000


def report_of(day: str, **changes: Any) -> dict[str, Any]:
    rows = [_row() | {"day": day}]
    return _report() | {"day": day, "history": rows, "previous": None} | changes


def written(reports: Path, run: str, *days: str, **changes: Any) -> Path:
    made = [report_of(day, run=run, **changes) for day in days]
    for report in made:
        write_report(reports / run / report["day"], report)
    return write_across(reports, run, [metrics_line(report) for report in made])


def elements(html: str) -> Iterator[Any]:
    parser = html5lib.HTMLParser(strict=False, namespaceHTMLElements=False)
    yield from parser.parse(html).iter()


def test_a_page_of_hostile_text_parses_to_the_elements_of_its_template() -> None:
    """Catches a title, link, feed or forecast that a browser's own parser, which mends what a plain
    one does not, turns into an element or attribute."""

    def shape(html: str) -> list[tuple[str, list[str]]]:
        return [(str(e.tag), sorted(map(str, e.attrib))) for e in elements(html)]

    benign = shape(render_html(_replace_text(_report(), lambda _: "plain")))
    attacks = (*HOSTILE, "<!--", "]]>", "<![CDATA[x", "</svg><script>", "&#60;b&#62;", "\ufeff<b>")
    for attack in attacks:
        assert shape(render_html(_replace_text(_report(), lambda _, a=attack: a))) == benign, attack  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["full", "first", "failed", "older"])
def test_pages_can_be_read_without_sight_and_ask_nobody(kind: str) -> None:
    """Catches a chart without words, a skipped heading, an unnamed scroll box, an id twice, or an
    address outside."""
    html = render_html({
        "full": _report(),
        "first": report_of("2026-01-05", evaluation=None, canaries=None, update=None, apart=[]),
        "failed": failed("2026-01-05"),
        "older": json.loads((DATA / "report-5.json").read_text(encoding="utf-8")),
    }[kind])  # fmt: skip
    found = list(elements(html))
    ids = [e.get("id") for e in found if e.get("id")]
    assert len(ids) == len(set(ids))
    svgs = [e for e in found if str(e.tag).endswith("svg")]
    assert svgs or kind == "older"
    for svg in svgs:
        words = [child for child in svg if str(child.tag).rpartition("}")[2] in ("title", "desc")]
        assert svg.get("role") == "img" and svg.get("aria-labelledby").split() == [
            w.get("id") for w in words
        ]
        assert all((word.text or "").strip() for word in words)
    levels = [int(e.tag[1]) for e in found if re.fullmatch("h[1-6]", str(e.tag))]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for element in found:
        if element.get("tabindex"):
            assert element.get("role") == "region" and element.get("aria-label")
        if element.tag == "th":
            assert element.get("scope")
        for name in ("src", "srcset", "action", "data", "poster"):
            assert element.get(name) is None
        if element.tag == "link":
            assert element.get("href").startswith("data:")
    targets = [e.get("href")[1:] for e in found if (e.get("href") or "").startswith("#")]
    assert set(targets) <= set(ids)
    assert any(e.get("class") == "skip" for e in found)
    assert len(html.encode()) <= LIMIT


def failed(day: str) -> dict[str, Any]:
    return EMPTY | {
        "schema": 7, "varro_version": "0.1.0", "run": "main", "day": day,
        "made_at": f"{day}T00:00:00Z", "verdict": failed_verdict("update", "no <memory> left"),
        "machine": _report()["machine"], "memory": {}, "timings": {"ingest": 1.5},
        "reproduce": "varro train-day --run main",
        "to_do": [{"text": "Run it again.", "command": "varro train-day --run main"}],
    }  # fmt: skip


def test_a_day_that_failed_says_so_first_and_what_to_do() -> None:
    """Catches a page that is not there, or looks like a good night, when a stage has ended the
    day."""
    html, markdown = render_html(failed("2026-01-05")), render_markdown(failed("2026-01-05"))
    assert "<title>✗ FAILED (update): Varro, run main, 2026-01-05</title>" in html
    assert "The day ended at stage update: no &lt;memory&gt; left" in html
    assert "**✗ FAILED (update)**" in markdown and "varro train-day --run main" in markdown
    assert metrics_line(failed("2026-01-05"))["word"] == FAILED


def test_a_report_of_an_older_form_still_renders() -> None:
    """Catches a Varro that cannot read what last month's wrote."""
    old = json.loads((DATA / "report-5.json").read_text(encoding="utf-8"))
    assert old["schema"] == 5
    page = render_html(old)
    assert "TRAINED WITH WARNINGS (2 alarms)" in page and "Trilkark Reservoir" in page
    assert render_markdown(old)
    assert metrics_line(upgraded(old))["kl_ref"] == old["update"]["kl_ref"]


def test_a_report_that_knew_no_kl_of_what_serves_on_still_renders() -> None:
    """Catches a page of last month that is not drawn, or has the KL before the update as now's."""
    old = _report() | {"schema": 6}
    old["history"] = [{k: v for k, v in _row().items() if k != "kl_ref_after"}]
    old["changes"]["kl_ref"] = old["changes"].pop("kl_ref_after")
    old["best_of"]["word"] = "narrower"
    for row in old["best_of"]["pooled"]:
        row |= {"low": -0.2, "high": -0.1}
    kl = old["update"]["kl_ref_after"]
    markdown = render_markdown(old)
    assert f"KL now {kl:.2f} of 12.0 nats" in markdown
    assert f"**KL to the reference, nats.** {kl:.2f} nats a sequence" in markdown
    assert metrics_line(upgraded(old))["kl_ref_after"] == kl
    assert "one forecast earns less than the base's, and so does the best of many" in markdown


@pytest.mark.parametrize("schema", [None, 4, 8, "7"])
def test_a_form_that_is_not_known_is_refused_in_one_line(tmp_path: Path, schema: Any) -> None:
    """Catches a page half made of a report of the future."""
    file = tmp_path / "report.json"
    file.write_text(json.dumps(_report() | {"schema": schema}), encoding="utf-8")
    with pytest.raises(VarroError, match=r"schema .*, this Varro reads 5 to 7: 'varro report"):
        load_report(file)
    file.write_text("{half", encoding="utf-8")
    with pytest.raises(VarroError, match="cannot be read"):
        load_report(file)
    file.write_text("[]", encoding="utf-8")
    with pytest.raises(VarroError, match="schema None"):
        load_report(file)


def test_a_disk_that_fails_is_not_taken_for_a_report_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a night that ends with exit code 1 for want of a descriptor, and a run's index that
    leaves days out because the disk could not be read."""
    written(tmp_path, "main", "2026-01-05")
    read = Path.read_text

    def fails(path: Path, *arguments: Any, **named: Any) -> str:
        if path.name == "report.json":
            raise OSError(errno.EMFILE, "Too many open files", str(path))
        return read(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", fails)
    with pytest.raises(OSError, match="Too many open files"):
        write_across(tmp_path, "main", [metrics_line(report_of("2026-01-05"))])


def test_metrics_has_a_line_a_day_and_a_day_again_replaces_its_own(tmp_path: Path) -> None:
    """Catches a line that is appended twice, out of order, or kept for a day that is gone."""
    written(tmp_path, "main", "2026-01-06", "2026-01-05")
    written(tmp_path, "main", "2026-01-05", alarms=[])
    lines = load_lines(tmp_path / "main")
    assert [line["day"] for line in lines] == ["2026-01-05", "2026-01-06"]
    assert [line["n_alarms"] for line in lines] == [0, 2]
    assert lines[1]["kl_ref"] == _row()["kl_ref"] and lines[1]["served_reward"] == _row()["reward"]
    for file in (tmp_path / "main" / "2026-01-06").iterdir():
        file.unlink()
    (tmp_path / "main" / "2026-01-06").rmdir()
    written(tmp_path, "main", "2026-01-07")
    assert [x["day"] for x in load_lines(tmp_path / "main")] == ["2026-01-05", "2026-01-07"]


def test_metrics_that_are_lost_or_broken_are_made_again_of_the_days(tmp_path: Path) -> None:
    """Catches a run whose index forgets its life with one file."""
    written(tmp_path, "main", "2026-01-05", "2026-01-06")
    file = tmp_path / "main" / "metrics.jsonl"
    before = file.read_text(encoding="utf-8")
    for text in ("", "{half", '{"day": "2026-01-05"}\n', "\x00"):
        file.write_text(text, encoding="utf-8")
        write_across(tmp_path, "main", [])
        assert file.read_text(encoding="utf-8") == before
    (tmp_path / "main" / "2026-01-05" / "report.json").write_text("{", encoding="utf-8")
    file.unlink()
    page = write_across(tmp_path, "main", []).read_text(encoding="utf-8")
    assert "1 report could not be read" in page and "2026-01-05" in page


def test_the_newest_day_has_a_place_that_stays(tmp_path: Path) -> None:
    """Catches a bookmark that shows yesterday."""
    written(tmp_path, "main", "2026-01-05")
    latest = tmp_path / "main" / "latest.html"
    assert "2026-01-05" in latest.read_text(encoding="utf-8")
    written(tmp_path, "main", "2026-01-06")
    assert "run main, 2026-01-06" in latest.read_text(encoding="utf-8")
    written(tmp_path, "main", "2026-01-05")
    html = latest.read_text(encoding="utf-8")
    assert "run main, 2026-01-06" in html
    for file in (latest, tmp_path / "main" / "2026-01-06" / "report.html"):
        links = [e.get("href") for e in elements(file.read_text(encoding="utf-8")) if e.tag == "a"]
        own = [x for x in links if x and not x.startswith(("http", "#")) and "index" not in x]
        pages = {"2026-01-06/settled.html#g-0a1b", "2026-01-06/settled.html", "settled.html",
                 "2026-01-06/made.html", "made.html", "settled.html#g-0a1b"}  # fmt: skip
        assert own and set(own) <= pages
        assert all(x.startswith("2026") == (file == latest) for x in own)
    assert 'href="index.html"' in html


def test_the_index_shows_each_day_with_its_state_in_words_and_links_to_it(tmp_path: Path) -> None:
    """Catches a day that is missing from the calendar, told by colour alone, or linked to nothing;
    a missing day is blank and breaks nothing."""
    written(tmp_path, "main", "2025-12-31", "2026-01-02", "2026-01-03T0600")
    page = written(tmp_path, "main", "2026-01-05", **{"config_changes": None})
    html = page.read_text(encoding="utf-8")
    found = list(elements(html))
    links = {e.get("href"): "".join(e.itertext()) for e in found if e.tag == "a"}
    for day in ("2025-12-31", "2026-01-02", "2026-01-03T0600", "2026-01-05"):
        target = f"{day}/report.html"
        assert (page.parent / target).exists()
        assert "TRAINED WITH WARNINGS (2 alarms)" in links[target] and "⚠" in links[target]
    assert "2026-01-01/report.html" not in links
    assert "January 2026" in html and "December 2025" in html
    for word, (icon, _) in MARKS.items():
        assert word in html and icon in html
    assert {"promotion", "config change"} <= {e.text for e in found if e.tag.endswith("text")}
    assert sum(e.tag.endswith("svg") for e in found) == 4
    assert ", n = 4 days up to 2026-01-05" in html  # the claim has its n
    runs = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="main/index.html"' in runs and 'href="main/latest.html"' in runs


def test_runs_stand_side_by_side(tmp_path: Path) -> None:
    """Catches an index of all runs that knows only the one just written."""
    written(tmp_path, "main", "2026-01-05")
    written(tmp_path, "seed-2", "2026-01-06")
    runs = (tmp_path / "index.html").read_text(encoding="utf-8")
    rows = [e for e in elements(runs) if e.tag == "tr"]
    assert [e[0][0].text for e in rows[1:]] == ["main", "seed-2"]


def test_ten_years_of_days_stay_light(tmp_path: Path) -> None:
    """Catches an index that grows without end."""
    line = metrics_line(report_of("2026-01-05"))
    days = [f"{year}-{month:02}-{day:02}" for year in range(2020, 2026)
            for month in range(1, 13) for day in range(1, 29)]  # fmt: skip
    lines = [line | {"day": day} for day in days]
    for day in days:
        (tmp_path / "main" / day).mkdir(parents=True)
        (tmp_path / "main" / day / "report.json").touch()
    write_report(tmp_path / "main" / days[-1], report_of(days[-1]))
    write_across(tmp_path, "main", lines)
    pages = sorted((tmp_path / "main").glob("index*.html"))
    assert len(pages) == -(-len(days) // N_ON_A_PAGE)
    assert all(page.stat().st_size <= LIMIT for page in pages)
    linked = [e.get("href") for page in pages for e in elements(page.read_text(encoding="utf-8"))
              if e.tag == "a" and "/report.html" in (e.get("href") or "")]  # fmt: skip
    assert sorted(set(linked)) == [f"{day}/report.html" for day in days]


def test_a_month_is_laid_out_from_monday() -> None:
    """Catches a calendar a day off."""
    line = metrics_line(report_of("2026-01-05"))
    (month,) = months_of([line])
    # 1 January 2026 is a Thursday, the 5th a Monday.
    assert [day for day, _ in month.weeks[0]] == [None, None, None, 1, 2, 3, 4]
    assert [len(cells) for _, cells in month.weeks[1]] == [1, 0, 0, 0, 0, 0, 0]


def group(key: str, n: int, text: str) -> dict[str, Any]:
    forecasts = [
        {"id": f"{key}{k}", "k": k, "text": text, "reward": 0.5, "parts": {"format": 0.5},
         "unpaid": None, "outcome": "An outcome", "outcome_link": "https://news.example/"}
        for k in range(n)
    ]  # fmt: skip
    return {"id": key, "role": "train", "headline": "H", "headline_link": "javascript:x",
            "source": "S", "made_at": "2026-01-05T00:00:00Z", "policy_version": 3,
            "forecasts": forecasts}  # fmt: skip


def test_all_forecasts_are_on_pages_that_stay_light_and_keep_their_anchors(tmp_path: Path) -> None:
    """Catches a link to all eight that leads nowhere, a page of a megabyte, or a page that stays
    from an earlier run of the day."""
    groups = [group(f"{n:04x}", 8, "<&> हिन्दी עברית " * 20) for n in range(60)]
    pages = paginate("settled", groups)
    assert len(pages) > 2 and pages[0]["file"] == "settled.html"
    write_report(tmp_path, _report(), {"settled": pages, "made": paginate("made", [])})
    for key, link in links_of(pages).items():
        file, anchor = link.split("#")
        html = (tmp_path / file).read_text(encoding="utf-8")
        assert f'id="{anchor}"' in html and anchor == f"g-{key}"
        assert len(html.encode()) <= LIMIT and MAX_BYTES < LIMIT
        assert "javascript:" not in html
    assert "There are none." in (tmp_path / "made.html").read_text(encoding="utf-8")
    write_report(tmp_path, _report(), {"settled": pages[:1], "made": paginate("made", [])})
    assert {p.name for p in tmp_path.glob("*.html")} == {"made.html", "report.html", "settled.html"}


@pytest.mark.parametrize("title", ["عناوين الأخبار اليوم", "निर्यात बढ़ा", "a\u2028b", "x" * 100_000])
def test_titles_of_any_script_and_length_keep_the_page_whole(title: str) -> None:
    """Catches a right-to-left title that reorders its neighbours, a line separator, or a title that
    fills the page."""
    report = _report()
    for part in (*report["best"], *report["display"]):
        part["headline"] = title
    html = render_html(report)
    heads = [e for e in elements(html) if e.tag == "h3" and len(e) and e[0].get("dir") == "auto"]
    assert any(title[:5] in "".join(e.itertext()) for e in heads)


def test_a_life_of_charts_stays_light() -> None:
    """Catches a page whose charts grow with the run."""
    rows = [_row() | {"day": f"2026-{1 + n // 28:02}-{1 + n % 28:02}"} for n in range(HISTORY_DAYS)]
    assert len(render_html(_report() | {"history": rows}).encode()) <= LIMIT


def test_a_folder_that_cannot_be_written_leaves_the_index_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches an index half written on a full disk."""
    page = written(tmp_path, "main", "2026-01-05")
    before = page.read_bytes()

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(across, "write_file", full)
    with pytest.raises(OSError, match="No space left"):
        write_across(tmp_path, "main", [metrics_line(report_of("2026-01-06"))])
    assert page.read_bytes() == before
    assert not list(tmp_path.rglob("*.partial"))
