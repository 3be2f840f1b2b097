"""Rendering of a report: inert, complete, and never half-written."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from varro.errors import VarroError
from varro.evaluation.cadence import MEASURES
from varro.report import pages
from varro.report.build import HISTORY_DAYS
from varro.report.history import CHANGES, CHARTED
from varro.report.metrics import CONTROLS, MEMORY, METRICS, format_value
from varro.report.page import is_web_link
from varro.report.pages import (
    render_days_markdown,
    render_html,
    render_markdown,
    write_report,
)
from varro.report.sections import build_page
from varro.report.todo import to_do
from varro.reward.summary import BEATS

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></code></pre><svg onload=alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "{{ 7 * 7 }}{% raw %}",
    "[a](javascript:alert(1)) ![i](https://example.org/x.png)",
    "| a | b |\n# heading\n\n* item `code` __bold__ ~~gone~~ \\",
    "a \\| b \\",
    "$x_1$ and $$y$$",
    "line\u2028break\r\n\x00\x1b[31m\u202egnissim\ud800",
)


def test_hostile_text_in_any_field_is_only_text_in_html() -> None:
    """A headline, feed name or forecast with markup would become an element of the page."""
    benign = _tags(render_html(_replace_text(_report(), lambda _: "plain")))
    for attack in HOSTILE:
        html = render_html(_replace_text(_report(), lambda _, a=attack: a))  # type: ignore[misc]
        assert _tags(html) == benign, attack
        html.encode("utf-8")


def test_a_beat_name_of_the_report_never_becomes_a_class() -> None:
    """A span that names a class of its own choosing would style, or break out of, its element."""
    report = _report()
    report["best"][0]["beats"]["spans"] = [['"><b class="bad', 0, 7], ["good", 8, 12]]
    marks = [dict(attrs) for tag, attrs in _parse(render_html(report)).tags if tag == "mark"]
    assert {mark["class"] for mark in marks} <= {"object", "direction", "verification", "copied"}


def test_hostile_text_is_shown_as_it_was_written() -> None:
    """Stripping markup instead of escaping it would hide what the model really wrote."""
    attack = '</blockquote>&amp;<b onclick="x">{{ 1 }}'
    report = _report()
    report["best"][0]["text"] = attack
    assert attack in _parse(render_html(report)).text


def test_hostile_text_in_any_field_is_only_text_in_markdown() -> None:
    """A headline with Markdown would make a link, an image, a heading or another cell."""
    benign = _skeleton(render_markdown(_replace_text(_report(), lambda _: "plain")))
    for attack in HOSTILE:
        report = _replace_text(_report(), lambda _, a=attack: a)  # type: ignore[misc]
        assert _skeleton(render_markdown(report)) == benign, attack


def test_controls_and_direction_overrides_are_made_visible() -> None:
    """An override in a headline would show the rest of the line backwards."""
    report = _report()
    report["best"][0]["headline"] = "up\u202edown\x07 lone\ud800"
    for text in (render_html(report), render_markdown(report)):
        assert "up\ufffddown\ufffd lone\ufffd" in text


def test_only_web_addresses_become_links() -> None:
    """A feed that links to javascript: or data: would run when the reader clicks."""
    for link in (
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)//https://example.org",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "file:///etc/hosts",
        "ftp://example.org/",
        "//example.org/",
        "https://",
        " https://example.org/",
        "https://example.org/\njavascript:alert(1)",
        'https://example.org/" onclick="alert(1)',
        "https:\\\\example.org",
        "https://example.org/\u202e",
        "https://example.org/\ud800",
        "",
    ):
        assert not is_web_link(link), link
        report = _report()
        for name in ("best", "worst", "divided", "random", "display"):
            for example in report[name]:
                example["headline_link"] = link
                if "outcome_link" in example:
                    example["outcome_link"] = link
        hrefs = [
            dict(attrs)["href"] for tag, attrs in _parse(render_html(report)).tags if tag == "a"
        ]
        own = ("#", "../index.html", "../2026-01-05/report.html", "settled", "made")
        assert hrefs and all(href is not None and href.startswith(own) for href in hrefs)
        assert "](" not in render_markdown(report)
    assert is_web_link("HTTPS://example.org/a?b=1&c=(2)#d")


def test_outward_links_tell_nothing_about_the_reader() -> None:
    """Without rel, the news site would learn the address of the report and could script it."""
    anchors = [dict(attrs) for tag, attrs in _parse(render_html(_report())).tags if tag == "a"]
    outward = [a for a in anchors if (a["href"] or "").startswith("http")]
    assert len(outward) == 9
    assert {a.get("rel") for a in outward} == {"noopener noreferrer"}


def test_a_bare_address_in_text_is_not_a_link_in_markdown() -> None:
    """GitHub makes links of addresses it finds in text: the model would choose where you go."""
    report = _report()
    report["best"][0]["text"] = "See https://evil.example or www.evil.example"
    assert "See https\\://evil.example or www\\.evil.example" in render_markdown(report)


def test_a_markdown_link_cannot_be_ended_by_its_address() -> None:
    """A parenthesis or a pipe in an address would cut the link or the table."""
    report = _report()
    report["best"][0]["headline_link"] = "https://example.org/a_(b)|[c]*?x=1&y=`z"
    assert not is_web_link(report["best"][0]["headline_link"])
    report["best"][0]["headline_link"] = "https://example.org/a_(b)|[c]*?x=1&y=2"
    report["best"][0]["headline"] = "T"
    expected = "[T](https://example.org/a_%28b%29%7C%5Bc%5D%2A?x=1&amp;y=2)"
    assert expected in render_markdown(report)


def test_a_pipe_in_a_cell_keeps_the_column_count() -> None:
    """A pipe or a final backslash in a feed name would shift every number of its row."""
    report = _report()
    report["news"]["failures"] = [
        {"feed": "a | b", "reason": "c \\| d"},
        {"feed": "ends with \\", "reason": "two\nlines"},
    ]
    table = next(t for t in _markdown_tables(render_markdown(report)) if "Feed" in t[0])
    assert table[2:] == [["a | b", "c \\| d"], ["ends with \\", "two lines"]]
    for rows in _markdown_tables(render_markdown(_report())):
        assert len({len(row) for row in rows}) == 1, rows[0]


def test_every_value_of_the_report_reaches_the_page() -> None:
    """A key left out of the page: the number is computed each night and never seen."""
    report = _report()
    before = build_page(report)
    for path in _leaves(report):
        if path in (("schema",), ("learned", "days_for_this_lift")) or path[0] == "not_finite":
            continue  # what was told needs no more days; the last stands among what is to be done
        changed = copy.deepcopy(report)
        parent: Any = changed
        for key in path[:-1]:
            parent = parent[key]
        is_link = str(path[-1]).endswith("link")
        parent[path[-1]] = "https://other.example/" if is_link else _other(parent[path[-1]])
        assert build_page(changed) != before, path


def _other(value: Any) -> Any:
    return "changed" if value is None else True if value is False else None


def test_missing_numbers_are_dashes() -> None:
    """A number that is not available would read None, 0 or nan."""
    report = _replace_numbers(_report()) | {"schema": 7}
    html, markdown = render_html(report), render_markdown(report)
    for text in (_parse(html).text, markdown):
        assert not re.search(r"\b(None|nan)\b", text)
    cells = _cells(html)
    for name in ("kl_ref", "clip_frac", "entropy", "grad_norm", "reward", "placebo", "n_new"):
        assert cells[name][0] == "—", name
    assert cells["even_contrast"] == cells["contrast"] == ["—", "—"]
    assert cells["shuffled"][:5] == ["—"] * 5
    assert "interval —, n = — headlines with a contrast, of — that both forecast" in html


def test_a_first_day_renders() -> None:
    """The first day has nothing settled, and would end in a template error or rows of dashes."""
    report = _report()
    report.update(update=None, evaluation=None, checkpoint=None, best=[], worst=[], display=[])
    report.update(canaries=None, calibration=None, n_probabilities=0, alarms=[], week=[])
    report.update(divided=[], random=[], apart=[], feeds=[], history=[], to_do=[], previous=None)
    report["histogram"] = {"n_today": 0, "n_week": 0, "today": None, "week": None}
    report["verdict"] = {"word": "NO UPDATE", "reason": "first day", "text": "Nothing is due."}
    report["learned"]["reward"]["n_days"] = 0
    report["settled"].update(void_reasons={}, invalid_reasons={}, refused={}, components={})
    report["settled"].update(n_settled=0, n_groups=0, n_forecasts=0, essay=None)
    report["news"].update(failures=[], left_out={}, degraded=None)
    report["forecast"] = dict.fromkeys(report["forecast"])
    for text in (render_html(report), render_markdown(report)):
        for note in (
            "No update was made",
            "Nothing was compared with the frozen base this night",
            "Nothing was settled that could raise one",
            "Not judged: there is no placebo day yet",
            "Not judged before 30 forecasts with a stated probability",
            "n = 0 over all days",
            "No checkpoint was published",
            "No settled forecasts to show",
            "No feed failed",
            "Nothing to do.",
        ):
            assert note in text, note
        for row in ("Share of variance", "Shuffled day", "Reward difference"):
            assert row not in text[: text.index("Definitions")], row


def test_a_report_without_a_key_of_its_schema_is_an_error() -> None:
    """A misspelt key would leave a blank where a number belongs."""
    report = _report()
    del report["update"]["kl_ref"]
    with pytest.raises(KeyError, match="kl_ref"):
        render_html(report)


def test_the_json_on_disk_equals_the_report(tmp_path: Path) -> None:
    """Rounding or dropping on the way to disk would make old days impossible to re-render."""
    report = _report()
    report["best"][0]["headline"] = "Zürich \ud800 東京"
    path = write_report(tmp_path / "new" / "folder", report)
    folder = path.parent
    assert path == tmp_path / "new" / "folder" / "report.html"
    assert sorted(p.name for p in folder.iterdir()) == ["report.html", "report.json", "report.md"]
    written = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert written == report
    assert path.read_text(encoding="utf-8") == render_html(written)
    assert (folder / "report.md").read_text(encoding="utf-8") == render_markdown(written)


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    """Order of keys or time of writing in the files would make every re-run look like a change."""
    report = _report()
    backwards = dict(reversed(list(report.items())))
    for name, content in (("a", report), ("b", backwards)):
        write_report(tmp_path / name, content)
    for file in ("report.json", "report.md", "report.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_number_that_json_cannot_hold_leaves_the_old_report(tmp_path: Path) -> None:
    """NaN written half-way would cost the good report of an earlier run of the day."""
    write_report(tmp_path, _report())
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for bad in (float("nan"), float("inf"), Path("x")):
        report = _report()
        report["update"]["kl_ref"] = bad
        with pytest.raises(VarroError, match=r"found update\.kl_ref = "):
            write_report(tmp_path, report)
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_night_that_failed_half_way_leaves_nothing_once_repeated(tmp_path: Path) -> None:
    """Every failed night would leave another stray file beside the reports."""
    (tmp_path / "report.md").mkdir()
    with pytest.raises(OSError):
        write_report(tmp_path, _report())
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == _report()
    (tmp_path / "report.md").rmdir()
    write_report(tmp_path, _report())
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["report.html", "report.json", "report.md"]


def test_every_metric_shown_links_to_its_definition() -> None:
    """A number nobody can look up."""
    page = _parse(render_html(_report()))
    ids = [dict(attrs)["id"] for _, attrs in page.tags if "id" in dict(attrs)]
    targets = {
        href[1:]
        for tag, attrs in page.tags
        if tag == "a" and (href := dict(attrs)["href"] or "").startswith("#")
    }
    assert len(ids) == len(set(ids))
    assert len(targets) > 20
    assert targets <= set(ids)
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    markdown = next(t for t in _markdown_tables(render_markdown(_report())) if "Unit" in t[0][3:])
    assert {f"def-{row[1]}" for row in markdown[2:]} == {i for i in targets if i.startswith("def")}
    known = [metric.name for metric in METRICS]
    assert [row[1] for row in markdown[2:]] == [n for n in known if f"def-{n}" in targets]


def test_values_are_written_as_a_person_reads_them() -> None:
    """A tiny KL shown as 0.0000 reads as 'no change', a share as 0.125 reads as 0.1 %."""
    assert format_value("reward", None) == "—"
    assert format_value("reward", 0.4567) == "0.457"
    assert format_value("reward", -0.0) == "0.000"
    assert format_value("clip_frac", 0.125) == "12.5 %"
    assert format_value("script_frac", 0.00018) == "0.018 %"
    assert format_value("lr", 1e-5) == "1.0e-05"
    assert format_value("kl_sampler", 6e-5) == "6.0e-05"
    assert format_value("lift", -0.00001) == "-1.0e-05"
    assert format_value("n_parameters", 1_040_000) == "1,040,000"


def test_a_percentage_has_its_unit_once() -> None:
    """Catches "8.3 % | %" in a table that has a column for units."""
    markdown = render_markdown(_report())
    assert "\n| Clip fraction | 12.5 % | — | " in markdown
    assert "\n| Zeros | 7.0 % | — |\n" in markdown


def test_a_value_without_definition_or_not_finite_is_refused() -> None:
    """nan on the page, or a number that METRICS does not explain."""
    for bad in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match="kl_ref must be finite"):
            format_value("kl_ref", bad)
    with pytest.raises(ValueError, match="'kl_base' has no definition"):
        format_value("kl_base", 1.0)


def test_the_page_asks_nobody_for_anything() -> None:
    """A font, a script or an image from outside would tell a stranger when you read the news."""
    html = render_html(_report())
    page = _parse(html)
    assert {tag for tag, _ in page.tags}.isdisjoint(
        {"script", "img", "iframe", "object", "embed", "base", "form", "image", "use"}
    )
    icons = [dict(attrs) for tag, attrs in page.tags if tag == "link"]
    assert [icon["rel"] for icon in icons] == ["icon"]
    assert (icons[0]["href"] or "").startswith("data:image/svg+xml,")
    names = {name for _, attrs in page.tags for name, _ in attrs}
    assert not {name for name in names if name.startswith("on") or name in {"src", "style"}}
    assert not re.search(r"url\((?!#)|@import", html)
    policy = next(a for t, attrs in page.tags if "http-equiv" in (a := dict(attrs)))
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert (policy["content"] or "").startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert ("html", [("lang", "en")]) in page.tags


def test_tables_and_headings_can_be_followed_without_sight() -> None:
    """A header cell without scope, or a skipped level, loses a listener in the numbers."""
    page = _parse(render_html(_report()))
    names = [tag for tag, _ in page.tags]
    headings = [int(tag[1]) for tag in names if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    assert all("scope" in dict(attrs) for tag, attrs in page.tags if tag == "th")
    figures = names.count("details")  # the table of a chart is named by its summary
    assert names.count("caption") == names.count("table") - figures
    assert page.is_balanced


def test_the_verdict_is_read_first_and_not_by_colour_alone() -> None:
    """The reader would have to search for whether the night went well."""
    page = _parse(render_html(_report()))
    body = page.text[page.text.index("Varro, run main", page.text.index("Varro, run main") + 1) :]
    order = [
        "⚠ TRAINED WITH WARNINGS (2 alarms) Policy v4 was published.",
        "Settled 400 of 402 due · reward 0.610 against 0.305 of the frozen base "
        "(difference 0.0310, 0.0120 to 0.0520, n = 37 headlines) · KL now 2.50 of 12.0 nats of "
        "leash · 1 thing to do",
        "⚠ 2 alarms echo; length.",
        "Settled of due400 of 402 forecasts",
        "Is it learning?",
        "▲ learned lift over the frozen base",
        "Is it safe?",
        "Hygiene",
        "Canaries",
        "The reward taken apart",
        "Calibration",
        "Best forecasts",
        "Worst forecasts",
        "Most divided groups",
        "Forecasts at random",
        "Forecasts made today",
        "News and feeds",
        "Machine and provenance",
        "To do",
        "Commands",
        "Definitions",
    ]
    positions = [body.index(text) for text in order]
    assert positions == sorted(positions)


def test_a_card_without_a_number_has_no_unit() -> None:
    """Catches '— nats' on the morning after a refused update."""
    report = _report()
    report["changes"]["kl_ref_after"]["today"] = None
    page = _parse(render_html(report))
    assert "KL to the reference— not measured this day" in page.text


def test_a_week_of_form_alone_is_not_told_as_a_week_without_settlements() -> None:
    """Catches a page of the third day which says that nothing was settled before: it was, and had
    no placebo day to be held against."""
    report = _report()
    report["histogram"] |= {"n_week": 0, "week": None}
    html = render_html(report)
    assert "; in the 7 days before nothing had a reward with all its parts." in html
    assert "nothing was settled in the 7 days before" not in html


def test_a_reward_without_an_interval_has_its_n() -> None:
    """Catches one headline's luck at the top of a page that reads like a night of forty."""
    report = _report()
    report["evaluation"] |= dict.fromkeys(("reward_difference", "reward_low", "reward_high"))
    for n_reward, said in (
        (1, "(n = 1 headline, too few for an interval)"),
        (0, "(n = 38 headlines)"),
    ):
        report["evaluation"] |= {"n_reward": n_reward, "n_shared": 38}
        assert f"of the frozen base {said} ·" in build_page(report).sentence


def test_the_claim_is_said_with_its_day_and_its_price() -> None:
    """A claim without the day it began, or "not yet" without what a yes would cost."""
    report = _report()
    assert "To be told since 2026-01-05, first on 2026-01-04." in render_markdown(report)
    assert "A lift of 0.0100 would need about 12 more days at this spread (standard deviation of " \
        "days 0.0210)." in render_markdown(report)  # fmt: skip
    assert "days to be told from 0, if it stays" not in render_markdown(report)
    report["learned"]["lift"].update(since=None)
    report["learned"].update(word="not yet distinguishable", days_for_small_lift=0)
    markdown = render_markdown(report)
    assert "To be told first on 2026-01-04, and no longer." in markdown
    assert "The lift so far, 0.0110, needs about 21 more days to be told from 0" in markdown
    assert "A lift of 0.0100 would be told from 0 by now" in markdown
    report["learned"].update(days_for_small_lift=None)
    assert "A lift of 0.0100 would need more than ten years" in render_markdown(report)
    report["learned"].update(sd_of_days=None)
    assert "is known once two days are compared" in render_markdown(report)


def test_a_control_that_is_not_zero_is_named_and_blocks() -> None:
    """A blocked claim that does not say which control broke it, or a placebo run read as a run."""
    report = _report() | {"is_placebo": True}
    report["learned"].update(word="blocked", blocked_by=["shuffled"])
    text = _parse(render_html(report)).text
    assert "✗ blocked lift over the frozen base" in text
    assert "Shuffled day: must be 0 and is not, so the measurement itself is in doubt." in text
    assert _cells(render_html(report))["shuffled"][-1] == "0, and is not"
    assert _cells(render_html(report))["base_against_base"][-1] == "0"
    assert "A placebo run: rewards are dealt out at random, and it must learn nothing." in text
    report["learned"].update(blocked_by=["copy_frac"])
    assert "copies more than the base, by over 0.0500" in _parse(render_html(report)).text


def test_a_number_and_what_it_was_have_one_unit() -> None:
    """Catches "4.66 % of forecasts; it was 0.0576", and a stage of 40 ms that took 4.2e-02 s."""
    report = _report()
    before = report["history"][0] | {"day": "2026-01-05", "clip_frac": 0.0576}
    report["history"] = [before, report["history"][0] | {"clip_frac": 0.0466}]
    report["timings"] = {"ingest": 0.042, "settle": 67.1}
    html = render_html(report)
    assert "4.66 % of forecasts; it was 5.76 % on 2026-01-05." in html
    assert ">0.0420</text>" in html and ">67.1</text>" in html


def test_canaries_are_ranked_and_the_broken_ones_named() -> None:
    """An order to be guessed from an alphabet of kinds."""
    report = _report()
    table = next(t for t in _markdown_tables(render_markdown(report)) if t[0][0] == "Canary")
    assert [row[0].split(":")[0] for row in table[2:]] == ["exact", "opposite", "empty"]
    report["canaries"]["broken"] = "opposite"
    text = _parse(render_html(report)).text
    assert "✗ out of order what was published is not above opposite, n = 8 headlines" in text


def test_beats_are_marked_where_they_stand() -> None:
    """A colour a character off, or a sentence that was copied shown as if it had been read."""
    report = _report()
    html = render_html(report)
    example = html[html.index("Best forecasts") : html.index("Worst forecasts")]
    marks = re.findall(r'<mark class="(\w+)" title="(\w+)">([^<]*)</mark>', example)
    legend, marked = marks[:4], marks[4:]
    assert [m[0] for m in legend] == ["object", "direction", "verification", "copied"]
    assert [(m[0], m[2]) for m in marked] == [
        ("object", "Exports"),
        ("direction", "rise"),
        ("verification", "verify in the trade release."),
        ("copied", "Exports rise for a third month."),
    ]
    assert all(name == title for name, title, _ in marks)
    text = "Exports rise by 2 % by Friday.\nDriven by demand; verify in the trade release. "
    quote = _parse(example[example.index("<blockquote") : example.index("</blockquote>")]).text
    assert quote == text + "Exports rise for a third month."
    read = "object 0.940; direction 0.950 (up); magnitude 0.960 (2 %); timeframe 0.970 (2026-01-09)"
    assert f"Read as {read}; drivers 0.980 (demand); verification 0.990; probability 70.0 %" in (
        _parse(example).text
    )


def test_colours_can_be_read_in_light_and_dark() -> None:
    """A palette under 4.5 : 1 (WCAG AA) is grey on grey at seven in the morning."""
    folder = Path(pages.__file__).parent / "templates"
    css = (folder / "marks.css").read_text(encoding="utf-8")
    for scheme in (folder / "base.css").read_text(encoding="utf-8").split("@media")[:2]:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", scheme))
        for name in ("line", "reference", "third", "good", "calm", "bad"):  # of charts
            assert _contrast(colours[name], colours["page"]) >= 3, name
        for name in ("ink", "muted", "link", "good", "bad", "calm"):
            for ground in ("page", "panel"):
                assert _contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        for beat in (*BEATS, "copied"):
            assert _contrast(colours["ink"], colours[beat]) >= 7, beat
            assert _contrast(colours["muted"], colours[beat]) >= 3, beat  # its underline
    styles = re.findall(r"text-decoration-(?:style|line): ([\w-]+)", css)
    assert len(set(styles)) == len(styles) == len(BEATS) + 1


def test_a_full_report_stays_small() -> None:
    """A page that grows with the day would not open on a phone."""
    report = _report()
    long_text = "Growth & <slows> to 2.1 % by 2026-01-07, driven by exports. " * 20
    shown = ("best", "worst", "divided", "random", "display")
    for example in (example for name in shown for example in report[name]):
        example.update(text=long_text, headline="&" * 512)
    for name in shown:
        report[name] = report[name][:1] * 5
    row = report["history"][0]
    report["history"] = [row | {"day": f"2026-01-{n:02}"} for n in range(HISTORY_DAYS)]
    report["cadence"]["example"]["words"] = [["<international>", 12.345, True]] * 200
    report["feeds"] = [{**report["feeds"][0], "reason": "timeout" * 20}] * 1000
    report["config_changes"] = [report["config_changes"][0]] * 1000
    failures = [{"feed": f"feed {k}", "reason": "timeout" * 20} for k in range(1000)]
    report["news"] |= {"failures": failures, "n_missed": 0}
    report["not_finite"] = [f"history[{n}].entropy" for n in range(1000)]
    dead = [feed | {"n_failures": 9} for feed in report["feeds"]]
    report["to_do"] = to_do({**report, "feeds": dead, "rollback_to_base": None})
    html = render_html(report)
    assert len(html.encode()) <= 200_000
    assert "Feeds that failed, n = 1000; 960 more not shown" in html
    assert "990 more feeds are dead or have moved." in html
    assert "history[9].entropy and 990 more." in html


def test_the_days_table_has_one_line_a_day_and_the_claim_last() -> None:
    """A replay whose columns do not line up, whose mean is taken for a day, or whose controls are
    left out of sight."""
    row: dict[str, Any] = {
        "day": "2026-01-06",
        "reward": 0.5,
        "format": 0.75,
        "semantic": 0.25,
        "lift": 0.0123,
        "lift_low": -0.001,
        "lift_high": 0.02,
        "kl_ref": 1.5,
        "clip_frac": 0.125,
        "entropy": 2.0,
        "words": 31.25,
        "copy_frac": 0.1,
        "repetition_frac": 0.02,
        "n_headlines": 10,
    }
    empty = dict.fromkeys(row, None) | {"day": "2026-01-05"}
    control = {"mean": 0.003, "claim_low": -0.01, "claim_high": 0.016}
    total = row | {
        "n_days": 9,
        "n_headlines": 1234,
        "claim": "learned",
        "since": "2026-01-13",
        "lift_bootstrap": [0.001, 0.02],
        "n_compared": 300,
        "n_lift_days": 8,
        "controls": dict.fromkeys(CONTROLS, control),
        "accuracy": {"served": 0.625, "base": 0.5},
        "null_correlation": 0.12,
        "raw_null_correlation": 0.81,
        "share_format": 0.25,
        "share_semantic": 0.75,
    }
    table, said, controls = render_days_markdown([empty, row], total).split("\n\n")
    header, rule, first, second, last = table.splitlines()
    assert first == "| 2026-01-05 |" + " — |" * 12
    cells = (
        "0.500 | 0.750 | 0.250 | 0.0123 | -0.0010 to 0.0200 | 1.500 | 12.5 % | 2.000 | 31.2 | "
        "10.0 % | 2.0 % |"
    )
    assert second == f"| 2026-01-06 | 10 | {cells}"
    assert last == f"| all 9 days: learned | 1,234 | {cells}"
    assert header.startswith("| Day | Headlines | Reward | Format | Semantic | Lift")
    assert header.count("|") == rule.count("|") == 14
    assert said == (
        "learned, first said on 2026-01-13: lift 0.0123, confidence sequence -0.0010 to 0.0200, "
        "bootstrap over days 0.0010 to 0.0200, n = 300 headlines on 8 days"
    )
    lines = controls.splitlines()
    assert len(lines) == 2 + 6 + 2 + 2 + 2
    assert lines[2].startswith("| Shuffled day | 0.0030 | -0.0100 to 0.0160 | 0 |")
    assert lines[8].startswith("| Direction right, served | 62.5 % | — |")
    assert lines[9].startswith("| Direction right, frozen base | 50.0 % | — |")
    assert lines[10].startswith("| Correlation with placebo | 0.12 | — | at most 0.2 |")
    assert lines[11].startswith("| Correlation with placebo, raw | 0.81 |")
    assert lines[12].startswith("| Share of variance, format | 25.0 % |")
    assert lines[13].startswith("| Share of variance, semantic | 75.0 % |")


def _report() -> dict[str, Any]:
    """A full report with a different value in each number."""
    side = {
        "even_contrast": 0.043,
        "contrast": 0.041,
        "reward": 0.61,
        "format": 0.81,
        "semantic": 0.51,
        "similarity": 0.71,
        "placebo": 0.67,
        "vote": 0.21,
        "copy_frac": 0.22,
        "repetition_frac": 0.11,
        "words": 34.5,
    }
    text = (
        "Exports rise by 2 % by Friday.\nDriven by demand; verify in the trade release. "
        "Exports rise for a third month."
    )
    beats = {
        "scores": {
            "object": 0.94,
            "direction": 0.95,
            "magnitude": 0.96,
            "timeframe": 0.97,
            "drivers": 0.98,
            "verification": 0.99,
        },
        "sign": 1,
        "magnitude": "2 %",
        "dates": ["2026-01-09"],
        "drivers": ["demand"],
        "probability": 0.7,
        "spans": [
            ["object", 0, 7],
            ["direction", 8, 12],
            ["verification", 49, 77],
            ["copied", 78, 109],
        ],
    }
    made = {
        "forecast_id": "f-01",
        "headline": "Exports rise for a third month",
        "headline_link": "https://news.example/1",
        "source": "Example Wire",
        "text": text,
        "beats": beats,
        "page": "settled.html#g-0a1b",
        "made_at": "2026-01-05T00:00:00Z",
    }
    example = made | {
        "reward": 0.91,
        "format": 0.92,
        "semantic": 0.93,
        "contrast": 0.31,
        "vote": 0.33,
        "margin": 0.034,
        "gate": 0.85,
        "advantage": 1.25,
        "invalid_reason": None,
        "outcome": "Trade surplus widens",
        "outcome_link": "http://news.example/2?a=1&b=2",
        "k": 3,
        "role": "train",
    }
    return {
        "schema": 7,
        "varro_version": "0.1.0",
        "run": "main",
        "day": "2026-01-06",
        "made_at": "2026-01-07T00:00:00Z",
        "is_placebo": False,
        "previous": "2026-01-05",
        "verdict": {
            "word": "TRAINED WITH WARNINGS",
            "reason": "2 alarms",
            "text": "Policy v4 was published.",
        },
        "to_do": [{"text": "Look at the alarms.", "command": "varro rollback --to 3 --run main"}],
        "not_finite": ["update.loss"],
        "limits": {"kl_limit": 12.0},
        "history": [_row()],
        "changes": {
            name: {"today": 0.5 + k, "mean": 0.4, "n_days": 7, "low": 0.05, "high": 0.15}
            for k, name in enumerate(CHANGES)
        },
        "apart": [
            {
                "name": "semantic",
                "n": 250,
                "mean": 0.52,
                "sd": 0.21,
                "within_sd": 0.12,
                "correlation": 0.83,
                "missing_frac": 0.023,
            },
        ],
        "histogram": {
            "n_today": 256,
            "n_week": 1792,
            "today": [0.04, 0.06] * 10,
            "week": [0.045, 0.055] * 10,
        },
        "pages": {"settled": ["settled.html"], "made": ["made.html"]},
        "feeds": [
            {
                "feed": "x",
                "status": "failed",
                "reason": "timeout",
                "http_status": 503,
                "n_entries": 3,
                "n_new": 2,
                "n_failures": 4,
                "newest": "2026-01-03",
                "next_at": "2026-01-08T00:00:00Z",
                "moved_to": "https://feed.example/new",
                "seconds": 1.7,
            },
        ],
        "config_changes": [{"key": "report.n_examples", "before": 5, "after": 3}],
        "rollback": "varro rollback --to 3 --run main",
        "alarms": [
            {"name": "echo", "found": "copy rate 22.0 %, frozen base 11.0 %"},
            {"name": "length", "found": "words 34.5, frozen base 17.2"},
        ],
        "learned": {
            "word": "learned",
            "blocked_by": [],
            "lift": _pooled(1) | {"since": "2026-01-05", "first": "2026-01-04"},
            "sd_of_days": 0.021,
            "days_for_small_lift": 12,
            "days_for_this_lift": 21,
            "small_lift": 0.01,
            **{
                name: _pooled(2 + k)
                for k, name in enumerate(
                    (
                        "reward",
                        "format",
                        "semantic",
                        "similarity",
                        "placebo",
                        "vote",
                        "contrast",
                        "copy_frac",
                        "valid",
                        "repetition_frac",
                        "words",
                        "shuffled",
                        "base_against_base",
                        "heldout",
                        "over_day_before",
                        "echo",
                        "template",
                    )
                )
            },
            "accuracy": {"served": {"n": 210, "frac": 0.57}, "base": {"n": 110, "frac": 0.52}},
        },
        "week": [{"day": "2026-01-06", "reward": 0.0333, "placebo": 0.0222}],
        "settled": {
            "reward_version": "contrast/contrast-1",
            "kind": "contrast",
            "n_settled": 400,
            "n_forecasts": 256,
            "n_groups": 32,
            "n_unresolved_groups": 3,
            "n_rewarded": 231,
            "n_void": 2,
            "void_reasons": {"no evidence": 8},
            "invalid_reasons": {"too short": 5},
            "refused": {"2026-01-04": "7 outcomes, 10 are needed"},
            "reward": 0.62,
            "components": {
                "format": 0.82,
                "semantic": 0.52,
                "contrast": 0.17,
                "similarity": 0.64,
                "placebo": 0.47,
                "vote": 0.19,
                "margin": 0.021,
                "gate": 0.93,
                "topic": 0.97,
                "object": 0.91,
                "direction": 0.83,
                "magnitude": 0.74,
                "timeframe": 0.65,
                "drivers": 0.56,
                "verification": 0.48,
                "truncated": 0.03,
                "hedged": 0.04,
                "leak": 0.005,
                "script_frac": 0.006,
            },
            "essay": {
                "quality": 0.77,
                "quality_original": 0.41,
                "zeros_frac": 0.07,
                "very_low_frac": 0.08,
                "leak_frac": 0.09,
                "words": 31.2,
            },
            "repeating_frac": 0.012,
            "hub_frac": 0.13,
            "unresolved_frac": 0.094,
            "openings_frac": 0.66,
            "null_correlation": {"semantic": 0.14, "raw": 0.79},
            "influence": {
                "format": {"weight": 0.25, "share": 0.27, "spread": 0.06},
                "semantic": {"weight": 0.75, "share": 0.73, "spread": 0.16},
            },
            "n_outcomes": 48,
            "n_repeats": 4,
            "n_doubles": 1,
            "n_instructions": 1,
            "n_placebo_days": 6,
            "n_pending_groups": 9,
        },
        "canaries": {
            "n_headlines": 8,
            "frozen": False,
            "means": {"empty": 0.002, "exact": 0.78, "opposite": 0.26},
            "broken": None,
        },
        "n_probabilities": 44,
        "calibration": {
            "n": 45,
            "brier": 0.21,
            "base_rate_brier": 0.24,
            "bins": [
                {"low": 0.6, "high": 0.8, "n": 43, "mean_probability": 0.7, "happened_frac": 0.58}
            ],
        },
        "evaluation": {
            "n_headlines": 36,
            "n_shared": 38,
            "lift": 0.011,
            "lift_low": -0.002,
            "lift_high": 0.024,
            "reward_difference": 0.031,
            "reward_low": 0.012,
            "reward_high": 0.052,
            "n_reward": 37,
            "served": dict(side),
            "base": {name: value / 2 for name, value in side.items()},
            "rivals": {"echo": 0.055, "template": 0.007},
            "accuracy": {"served": {"n": 31, "frac": 0.61}, "base": {"n": 17, "frac": 0.5}},
        },
        "entropy_first": 2.9,
        "guard": ["redo: KL of the update 0.41 nats a sequence", "accept: update"],
        "lineage": [],
        "update": {
            "from_version": 3,
            "to_version": 4,
            "n_groups": 31,
            "n_forecasts": 248,
            "n_zero_variance": 1,
            "loss": -0.0042,
            "grad_norm": 0.73,
            "lr": 1e-5,
            "kl_ref": 2.345,
            "kl_k1": 2.3,
            "kl_k3": 2.4,
            "kl_ref_after": 2.4,
            "kl_base_after": 2.5,
            "clip_scale": 1.25,
            "lr_scale": 0.8,
            "leash_strength": 0.28,
            "tis_mean": 1.0001,
            "leash_loss": 0.01,
            "length_correlation": 0.12,
            "n_skipped_steps": 1,
            "n_attempts": 2,
            "n_trained": 230,
            "n_low_variance": 2,
            "n_too_few": 1,
            "n_overlong": 3,
            "n_off_sampler": 1,
            "n_empty": 1,
            "old_from": "recomputed",
            "kl_coef": 0.03,
            "kl_update": 0.0125,
            "kl_sampler": 2e-6,
            "clip_frac": 0.125,
            "ratio_mean": 1.0003,
            "entropy": 2.71,
            "n_steps": 4,
            "tokens_per_s": 2100.0,
        },
        "forecast": {
            "n_groups": 52,
            "n_forecasts": 416,
            "n_tokens": 30000,
            "tokens_per_s": 4100.0,
            "finish_reasons": {"stop": 410, "length": 6},
            "policy_version": 4,
        },
        "best": [example],
        "worst": [example | {"forecast_id": "f-02", "reward": 0.11, "invalid_reason": "leak"}],
        "divided": [example | {"forecast_id": "f-04"}],
        "random": [example | {"forecast_id": "f-05"}],
        "display": [made | {"forecast_id": "f-03", "headline_link": "https://news.example/3"}],
        "n_in_group": 8,
        "news": {
            "source": "archive",
            "corpus": "world",
            "n_new": 49,
            "n_train": 33,
            "n_heldout": 12,
            "n_malformed": 7,
            "n_duplicates": 5,
            "n_feeds": 14,
            "n_alive": 13,
            "n_unreached": 2,
            "left_out": {"told before": 4},
            "degraded": "13 of 14 feeds are alive, 14 are needed",
            "failures": [{"feed": "x", "reason": "timeout"}],
        },
        "best_of": {
            "night": [_curve(1, 0.11), _curve(2, 0.12)],
            "pooled": [_curve(1, 0.13) | {"n_days": 9}, _curve(2, 0.14) | {"n_days": 8}],
            "word": "sharper",
        },
        "cadence": {
            "compared": {
                "n_headlines": 41,
                "n_served": 328,
                "n_base": 164,
                "measures": {
                    name: {
                        "served": 0.1 * n,
                        "base": 0.2 * n,
                        "difference": 0.3 * n,
                        "low": 0.4 * n,
                        "high": 0.5 * n,
                        "n": n,
                    }
                    for n, name in enumerate(MEASURES, start=1)
                },
            },
            "example": {
                "forecast_id": "f-0",
                "words": [["Exports", 0.5, True], ["rise", 2.25, False]],
            },
        },
        "checkpoint": {
            "version": 4,
            "parent": 3,
            "path": "checkpoints/main/v00004",
            "sha256": "ab" * 32,
        },
        "machine": {
            "device": "cpu",
            "blas": "MKL (libtorch_cpu.so)",
            "platform": "Linux-x86_64",
            "python": "3.11.7",
            "versions": {"mlx": "0.32.4", "numpy": "2.4.0"},
            "revision": "0123456789ab with changes",
            "disk_free_gb": 321.5,
            "trainable_frac": 0.06,
            "n_parameters": 1_040_000,
        },
        "memory": {
            "ingest": dict.fromkeys(MEMORY, 0.3),
            "update": dict.fromkeys(MEMORY, 1.2),
        },
        "timings": {"ingest": 0.1, "settle": 4.0, "update": 9.5},
        "reproduce": "varro train-day --run main --day 2026-01-06",
    }


def _row() -> dict[str, Any]:
    """A day of the history, with a different value in each number."""
    numbers = [name for name in CHARTED if name not in ("day", "config_changed", "invalid")]
    return {
        "day": "2026-01-06",
        "config_changed": True,
        "invalid": {"too short": 0.0215},
        **{name: 0.1 + k / 1000 for k, name in enumerate(numbers)},
    }


def _curve(k: int, served: float) -> dict[str, Any]:
    """The best of k."""
    return {"k": k, "n": 30 + k, "served": served, "base": served - 0.05,
            "difference": 0.05 + k / 99, "low": 0.01 + k / 99, "high": 0.09 + k / 99}  # fmt: skip


def _pooled(k: int) -> dict[str, Any]:
    """A paired difference over days."""
    return {
        "n_days": 20 + k,
        "n_headlines": 700 + k,
        "mean": 0.01 + k / 1000,
        "low": 0.005 + k / 1000,
        "high": 0.02 + k / 1000,
        "claim_low": 0.001 + k / 1000,
        "claim_high": 0.03 + k / 1000,
    }


def _replace_text(value: Any, replace: Callable[[str], str], name: str = "") -> Any:
    """The report with every text field, and every key that is itself text, replaced."""
    if isinstance(value, dict):
        is_free = name in {
            "void_reasons",
            "invalid_reasons",
            "refused",
            "means",
            "rivals",
            "finish_reasons",
            "versions",
            "timings",
            "memory",
            "invalid",
        }
        return {
            f"{replace(key)} {index}" if is_free else key: _replace_text(child, replace, key)
            for index, (key, child) in enumerate(value.items())
        }
    if isinstance(value, list):
        return [_replace_text(child, replace, name) for child in value]
    return replace(value) if isinstance(value, str) and not name.endswith("_link") else value


def _replace_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_numbers(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_replace_numbers(child) for child in value]
    return value if isinstance(value, str) else None


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        children = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in children:
            yield from _leaves(child, (*path, key))
    else:
        yield path


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""
        self.is_balanced = True
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))
        if tag not in ("meta", "link", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.is_balanced &= bool(self._open) and self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _parse(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    page.close()
    page.is_balanced &= not page._open
    return page


def _tags(html: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(tag, tuple(name for name, _ in attrs)) for tag, attrs in _parse(html).tags]


def _cells(html: str) -> dict[str, list[str]]:
    """Cells of the first row of each metric."""
    found: dict[str, list[str]] = {}
    for name, cells in re.findall(r'href="#def-(\w+)">[^<]*</a></th>(.*?)</tr>', html):
        found.setdefault(name, re.findall(r"<td>(.*?)</td>", cells))
    return found


def _skeleton(markdown: str) -> str:
    """What has a meaning in Markdown once escapes, entities and literal lines are gone."""
    lines = [line for line in markdown.splitlines() if not line.startswith("    ")]
    bare = re.sub(r"\\[!-/:-@\[-`{-~]|&(amp|lt|gt);", "", "\n".join(lines))
    return re.sub(r"[^<>\[\]`*_#|~$&\\\n]", "", bare)


def _markdown_tables(markdown: str) -> list[list[list[str]]]:
    """Tables as rows of unescaped cells, split where a pipe is not escaped."""
    tables: list[list[list[str]]] = []
    previous = ""
    for line in markdown.splitlines():
        if line.startswith("|"):
            if not previous.startswith("|"):
                tables.append([])
            cells = re.findall(r"((?:\\.|[^|\\])*)\|", line[1:])
            tables[-1].append([re.sub(r"\\(.)", r"\1", cell.strip()) for cell in cells])
        previous = line
    return tables


def _contrast(first: str, second: str) -> float:
    """WCAG 2 contrast ratio, (L1 + 0.05) / (L2 + 0.05)."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
