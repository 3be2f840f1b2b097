"""The public site's pages: inert, complete, small, the same each time, and whole after a crash."""

from __future__ import annotations

import csv
import errno
import io
import json
import posixpath
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from conftest import ledger_at, of_sqlite, raw_sql
from site_world import SiteWorld, clock, day_name

from varro import files
from varro.errors import ConfigError, DiskError
from varro.report.page import is_web_link
from varro.service.site import publish
from varro.site import write
from varro.site.pages import MAX_PAGE
from varro.site.verify import verify_site
from varro.site.views import WeekRow, cut, lift_chart

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></blockquote></code><svg onload=alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "{{ 7 * 7 }}{% raw %}{# x #}",
    "]]><!-- --!> --> <![CDATA[",
    "<base href=//evil.example><meta http-equiv=refresh content=0>",
    "line\u2028break\r\n\x00\x1b[31m\u202egnissim\x85",
    "نمو صادرات القمح \u2067abc\u2069 प्रधानमंत्री",
    "<p data-told='k0-text'>x</p>",
)


class Parsed(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def site_of(tmp_path, name="site", *overrides, days=3, **shape):
    world = SiteWorld(tmp_path / f"home-{name}", **shape)
    world.add_days(days)
    publish(world.config(*overrides), tmp_path / name, NOW)
    return tmp_path / name


def pages(folder):
    return {
        str(p.relative_to(folder)): Parsed(p.read_bytes().decode())
        for p in sorted(folder.rglob("*.html"))
    }


def skeleton(page):
    """Elements and the names of their attributes, but for marks, which follow the words."""
    return [(tag, sorted(attrs)) for tag, attrs in page.tags if tag != "mark"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A site of three days."""
    return site_of(tmp_path_factory.mktemp("plain"))


def test_hostile_text_makes_no_element_and_no_attribute(tmp_path):
    """Catches a headline, source or forecast that becomes part of the page."""
    n = len(HOSTILE)
    shape = {"days": 2, "n_headlines": n, "n_forecasts": 2}
    benign = site_of(tmp_path, "benign", **shape, source="Plain", title=lambda n, i: "Plain",
                     text=lambda n, i, k: "Plain words.")  # fmt: skip
    hostile = site_of(tmp_path, "hostile", **shape, source=HOSTILE[3],
                      title=lambda n, i: HOSTILE[i], text=lambda n, i, k: HOSTILE[i])  # fmt: skip
    expected, found = pages(benign), pages(hostile)
    assert found.keys() == expected.keys() and len(found) > 2 * n
    for name, page in found.items():
        assert skeleton(page) == skeleton(expected[name]), name
    shown = "".join(page.text for page in found.values())
    for attack in HOSTILE[:7]:
        assert attack in shown  # escaped, not taken out
    assert verify_site(hostile).problems == []
    json.loads((hostile / "forecasts.json").read_bytes())


def test_only_web_addresses_become_links(tmp_path):
    """Catches a feed whose link runs when a reader clicks."""
    for n, link in enumerate(("javascript:alert(1)", "data:text/html,x", "//evil.example", "")):
        site = site_of(tmp_path, f"s{n}", days=2, n_headlines=1, n_forecasts=2, link=link)
        hrefs = [
            attrs["href"] for page in pages(site).values() for tag, attrs in page.tags if tag == "a"
        ]
        assert hrefs and all(not re.match(r"(?i)[a-z]+:|//", href or "") for href in hrefs)
        rows = list(csv.DictReader(io.StringIO((site / "forecasts.csv").read_text())))
        assert {row["link"] for row in rows} == {""}


def test_every_address_leads_somewhere_from_a_disk(plain):
    """Catches a link that works only on a server, or not at all: folders, absolute paths, anchors
    that no element has."""
    found = pages(plain)
    n = 0
    for name, page in found.items():
        for _, attrs in page.tags:
            for attribute in ("href", "src"):
                address = attrs.get(attribute)
                if not address or is_web_link(address) or address.startswith("data:"):
                    continue
                path, _, anchor = address.partition("#")
                target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if (
                    path) else name  # fmt: skip
                assert (plain / target).is_file(), (name, address)
                if anchor:
                    ids = {a.get("id") for _, a in found[target].tags}
                    assert anchor in ids, (name, address)
                n += 1
    assert n > 200


def test_nothing_is_fetched_and_outward_links_tell_nothing(plain):
    """Catches a page that asks a third party for anything, or tells it who reads."""
    for name, page in pages(plain).items():
        tags = [tag for tag, _ in page.tags]
        assert not {"script", "img", "iframe", "object", "form", "video"} & set(tags), name
        policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy
        for tag, attrs in page.tags:
            if tag == "a" and is_web_link(attrs["href"]):
                assert attrs["rel"] == "noopener noreferrer"
        assert tags.count("h1") == 1 and tags.count("main") == 1
    style = (plain / "style.css").read_text()
    assert "url(" not in style and "@import" not in style


WORST = {
    "quotes": ('"' * 512, '"' * 4000),
    "wide": ("😀" * 512, "😀" * 4000),
    "beats": ("Norvik exports rise 2% by Friday " * 15, "Norvik exports rise 2% by Friday. " * 90),
}  # fmt: skip


@pytest.mark.parametrize("kind", WORST)
def test_a_page_is_below_60_kb_whatever_it_is_given(tmp_path, kind):
    """Catches one long text or link that makes a page of half a megabyte."""
    title, text = WORST[kind]
    note = tmp_path / "notes"
    note.mkdir()
    (note / "2026-W02.md").write_text('"' * 6000)
    site = site_of(
        tmp_path, "site", f"publish.notes={note}", days=2, n_headlines=18, source=title,
        title=lambda n, i: title, text=lambda n, i, k: f"{text} {k}",
        link="https://example.org/?" + "&" * 3000, n_forecasts=9,
    )  # fmt: skip
    sizes = {str(p.relative_to(site)): p.stat().st_size for p in site.rglob("*.html")}
    assert len(sizes) > 72
    assert {name: size for name, size in sizes.items() if size > MAX_PAGE} == {}
    assert verify_site(site).problems == []


def test_what_nothing_could_be_held_against_is_in_no_mean_and_no_miss(tmp_path):
    """Catches first days without a placebo, and headlines on which nothing was published, told as
    the worst forecasts of a week: a quarter of their form is all that they can earn."""
    world = SiteWorld(tmp_path / "home", n_headlines=2)
    world.add_days(3)
    form_only = ("0.05", '{"format": 0.2, "valid": 1.0}', day_name(1))
    update = "UPDATE settlements SET reward = ?, components = ? WHERE day = ?"
    raw_sql(ledger_at(world.home), update, parameters=form_only)
    site = tmp_path / "site"
    publish(world.config(), site, NOW)
    post_mortem = (site / "postmortems" / "2026-W02.html").read_text(encoding="utf-8")
    assert "Settled 32; void 0." in post_mortem
    assert "For 16 there was nothing to hold them against" in post_mortem
    # The other sixteen: two headlines, k = 0 to 7, a reward of 0.1 + 0.01 k, so 0.135 on the mean.
    assert '<th scope="row">Score</th><td>0.135</td><td>16</td><td>—</td>' in post_mortem
    # The parts are of the same sixteen, not of all that have a form.
    assert '<th scope="row">Format</th><td>0.500</td><td>16</td><td>—</td>' in post_mortem
    assert "score 0.100" in post_mortem and "mean score 0.135" in post_mortem
    assert "score 0.050" not in post_mortem
    sources = (site / "feeds.html").read_text(encoding="utf-8")
    assert "<td>48</td><td>32</td><td>16</td><td>0.135</td>" in sources
    assert (
        "settled 32, void 0, mean score 0.135 over 16 scored forecasts."
        in (site / "feed.xml").read_text()
    )
    first = (site / "d" / f"{day_name(0)}.html").read_text(encoding="utf-8")
    assert "settled</span>" in first and "mean score" not in first
    told = "there was nothing to hold it against: only its form is scored"
    assert sum(told in page.read_text() for page in (site / "f").glob("*.html")) == 2


def test_sources_of_any_number_and_script_keep_their_page_light(tmp_path):
    """Catches a list of sources that no limit shortens, once their names are long."""
    feeds = "".join(
        f'<outline type="rss" text="{"&quot;" * 80}{k}" xmlUrl="https://{"a" * 60}{k}.org/f"/>'
        for k in range(160)
    )
    opml = tmp_path / "feeds.opml"
    opml.write_text(f'<opml version="2.0"><head/><body>{feeds}</body></opml>')
    site = site_of(
        tmp_path, "site", "news.source=feeds", f"news.feeds={opml}", days=1, corpus="live",
        n_headlines=210, n_forecasts=1, source=lambda n, i: f"{i:03} " + '"' * 80,
    )  # fmt: skip
    page = (site / "feeds.html").read_bytes()
    assert len(page) <= MAX_PAGE
    for k in (0, 149):
        assert f"{k:03} &#34;".encode() in page
    assert b"And 60 more sources." in page and b"And 60 more." in page


def test_forecasts_beyond_eight_have_a_page_too(tmp_path):
    """Catches a ninth forecast that no address leads to."""
    site = site_of(tmp_path, n_forecasts=11, days=2)
    rows = list(csv.DictReader(io.StringIO((site / "forecasts.csv").read_text())))
    assert {row["page"].partition(".html")[2] for row in rows} == {f"#k{k}" for k in range(11)}
    for row in rows:
        path, _, anchor = row["page"].partition("#")
        assert f'id="{anchor}"' in (site / path).read_text()


def test_the_same_ledger_makes_the_same_bytes(tmp_path):
    """Catches a clock, a set's order or a random number in a page: each publish would be a
    change of thousands of files."""
    world = SiteWorld(tmp_path / "home")
    world.add_days(3)
    for name, now in (("a", NOW), ("b", NOW + timedelta(days=9))):
        publish(world.config(), tmp_path / name, now)
    first = {p.name: p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()}
    second = {p.name: p.read_bytes() for p in (tmp_path / "b").rglob("*") if p.is_file()}
    assert first == second


def test_a_publish_writes_only_what_has_changed(tmp_path):
    """Catches a day's publish that writes the whole history anew."""
    world = SiteWorld(tmp_path / "home")
    world.add_days(6)
    site = tmp_path / "site"
    publish(world.config(), site, NOW)
    times = {p: p.stat().st_mtime_ns for p in site.rglob("*") if p.is_file()}
    assert publish(world.config(), site, NOW).n_written == 0
    assert {p: p.stat().st_mtime_ns for p in times} == times
    world.add_days()
    made = publish(world.config(), site, NOW)
    old = [p for p in times if p.parent.name == "f" or p.parent.name == "d"]
    touched = [p for p in old if p.stat().st_mtime_ns != times[p]]
    # The newest of the six was settled, and has a day after it now; the others stay.
    assert {p.name[:10] for p in touched if p.parent.name == "d"} == {day_name(5)}
    assert len([p for p in touched if p.parent.name == "f"]) == 3
    assert made.n_new_days == 1


def test_step_by_step_and_at_once_make_the_same_pages(tmp_path):
    """Catches a page that an incremental publish leaves behind its data."""
    world = SiteWorld(tmp_path / "home", corpus="live")
    for n in range(4):
        world.add_days(void="no evidence" if n == 2 else None)
        publish(world.config(), tmp_path / "steps", clock(n))
    before = {p: p.read_bytes() for p in (tmp_path / "steps").rglob("*") if p.is_file()}
    publish(world.config(), tmp_path / "steps", clock(3), anew=True)
    assert {p: p.read_bytes() for p in before} == before


def test_a_page_that_is_gone_comes_back(tmp_path):
    """Catches a publish that trusts its own record more than the folder."""
    world = SiteWorld(tmp_path / "home")
    world.add_days(3)
    site = tmp_path / "site"
    publish(world.config(), site, NOW)
    page = next((site / "f").iterdir())
    content = page.read_bytes()
    page.unlink()
    publish(world.config(), site, NOW)
    assert page.read_bytes() == content


@pytest.mark.parametrize("stop", [1, 3, 7, 12, "index.html"])
def test_a_full_disk_in_the_middle_is_completed_by_the_next_publish(tmp_path, stop, monkeypatch):
    """Catches a half-written page, and a site that stays a mix: the front page is the earlier one
    until all else is there."""
    world = SiteWorld(tmp_path / "home")
    world.add_days(2)
    site = tmp_path / "site"
    publish(world.config(), site, NOW)
    front = (site / "index.html").read_bytes()
    world.add_days()
    publish(world.config("run.name=main"), tmp_path / "whole", NOW)
    written = []

    def fails(path, content):
        written.append(path)
        if stop in (len(written), path.name):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        files.write_file(path, content)

    monkeypatch.setattr(write, "write_file", fails)
    with pytest.raises(DiskError, match="make room"):
        publish(world.config(), site, NOW)
    assert (site / "index.html").read_bytes() == front
    assert all(p.read_bytes().endswith(b"</html>\n") for p in site.rglob("*.html"))
    monkeypatch.undo()
    publish(world.config(), site, NOW)
    found = verify_site(site)
    assert (found.problems, found.place) == ([], 3)
    for file in (tmp_path / "whole" / "f").iterdir():
        assert Parsed((site / "f" / file.name).read_text()).text.count("Forecast ") == 16


def test_statuses_are_open_due_overdue_settled_and_void(tmp_path):
    """Catches a forecast that nobody settles and that the site shows as pending for ever."""
    world = SiteWorld(tmp_path / "home", corpus="live")
    world.add_days(2)
    world.add_days(void="refused: too few outcomes")
    world.add_days(settles=False)
    site = tmp_path / "site"
    rows = {}
    for hours in (1, 13, 61):
        publish(world.config(), site, clock(3) + timedelta(hours=hours))
        told = json.loads((site / "forecasts.json").read_bytes())
        rows[hours] = {d["day"]: max(("open", "due", "overdue", "settled", "void"), key=d.get)
                       for d in told["days"]}  # fmt: skip
        assert sum(told["counts"].values()) == 96
    days = [day_name(n) for n in range(4)]
    assert [rows[1][d] for d in days] == ["settled", "void", "due", "open"]
    assert [rows[13][d] for d in days] == ["settled", "void", "due", "due"]
    assert [rows[61][d] for d in days] == ["settled", "void", "overdue", "overdue"]
    front = (site / "index.html").read_text()
    assert "open 0, due 0, overdue 48, settled 24, void 24" in front
    assert re.search(r'class="badge bad".*✗.*<strong>Overdue</strong>', front)
    void = [p.read_text() for p in (site / "f").iterdir() if "void on" in p.read_text()]
    assert len(void) == 3 and all("refused: too few outcomes" in page for page in void)


def test_scores_only_shows_no_word_of_a_third_party(tmp_path):
    """Catches a title that stands in the data, the feed or a post-mortem though pages hide it; and
    a chain that breaks when the switch is turned."""
    world = SiteWorld(
        tmp_path / "home",
        title=lambda n, i: f"Zanzibar {n} {i}",
        text=lambda n, i, k: f"Zanzibar will rise {n} {i} {k}.",
        link="https://zanzibar.example/",
    )
    world.add_days(3)
    site = tmp_path / "site"
    publish(world.config("publish.scores_only=true"), site, NOW)
    for file in site.rglob("*"):
        if file.is_file():
            assert b"anzibar" not in file.read_bytes(), file
    assert verify_site(site).problems == []
    publish(world.config(), site, NOW)
    assert "Zanzibar 2 0" in (site / "index.html").read_text()
    assert verify_site(site).problems == []
    publish(world.config("publish.scores_only=true"), site, NOW)
    assert not any(b"anzibar" in p.read_bytes() for p in site.rglob("*") if p.is_file())


def test_a_spreadsheet_runs_nothing(tmp_path):
    """Catches a title that is a formula when the table is opened."""
    for n, start in enumerate(("=", "+", "-", "@", "\t=")):
        attack = f'{start}HYPERLINK("http://evil.example")'
        site = site_of(tmp_path, f"s{n}", days=2, n_headlines=1, n_forecasts=2, source=attack,
                       title=lambda n, i, a=attack: a,
                       text=lambda n, i, k, a=attack: a)  # fmt: skip
        rows = list(csv.DictReader(io.StringIO((site / "forecasts.csv").read_text(), newline="")))
        assert len(rows) == 4
        for row in rows:
            for name in ("title", "text", "source"):
                assert row[name] == f"'{attack}", name
        assert float(rows[0]["margin"]) == 0.02


def test_the_feed_is_valid_and_its_ids_stay(tmp_path):
    """Catches a feed that readers refuse, that tells them old entries again, or that carries
    another clock than the ledger's."""
    import feedparser

    world = SiteWorld(tmp_path / "home", title=lambda n, i: "<b>&\x0b\ufffe")
    world.add_days(2)
    site = tmp_path / "site"
    base = ('publish.base_url="https://example.org/varro"', 'publish.title="News & <forecasts>"')
    publish(world.config(*base), site, NOW)
    first = feedparser.parse((site / "feed.xml").read_bytes())
    world.add_days()
    publish(world.config('publish.base_url="https://moved.example/"'), site, NOW)
    second = feedparser.parse((site / "feed.xml").read_bytes())
    for parsed in (first, second):
        assert not parsed.bozo and parsed.version == "atom10"
        assert all(e.id.startswith("tag:example.org,2026-01-05:main/") for e in parsed.entries)
        assert len({e.id for e in parsed.entries}) == len(parsed.entries)
        assert all(e.updated and e.title and e.summary for e in parsed.entries)
    assert first.feed.title == "News & <forecasts>"
    assert {e.id for e in first.entries} < {e.id for e in second.entries}
    assert second.feed.updated == "2026-01-08T00:00:00Z"
    newest = next(e for e in second.entries if e.id.endswith("/d/2026-01-07"))
    assert newest.link == "https://moved.example/d/2026-01-07.html"
    settled = next(e for e in second.entries if e.id.endswith("2026-01-05"))
    assert settled.updated == "2026-01-07T00:00:00Z" and "settled 24" in settled.summary


def test_a_day_without_forecasts_has_its_page_and_its_manifest(tmp_path):
    """Catches a day that is passed over in silence, or a front page that falls on it."""
    world = SiteWorld(tmp_path / "home")
    world.add_days(2)
    world.n_headlines = 0
    world.add_days(settles=False)
    publish(world.config(), tmp_path / "site", NOW)
    assert "No forecasts were made on this day" in (tmp_path / "site/d/2026-01-07.html").read_text()
    assert "No forecasts were made on this day" in (tmp_path / "site/index.html").read_text()
    found = verify_site(tmp_path / "site")
    assert (found.problems, found.n_days, found.n_forecasts) == ([], 3, 48)


@of_sqlite
def test_a_number_that_is_none_is_a_dash(tmp_path):
    """Catches NaN in JSON, which no reader takes."""
    world = SiteWorld(tmp_path / "home")
    world.add_days(2)
    raw_sql(ledger_at(world.home), """UPDATE settlements SET components = '{"format": NaN}'""")
    publish(world.config(), tmp_path / "site", NOW)
    told = json.loads((tmp_path / "site/forecasts.json").read_text(), parse_constant=pytest.fail)
    assert {row["format"] for row in told["forecasts"]} == {None}


def test_many_days_and_headlines_are_paged(tmp_path):
    """Catches one index of half a megabyte, and a page that no other leads to."""
    world = SiteWorld(tmp_path / "home", n_headlines=1, n_forecasts=2)
    world.add_days(155)
    world.n_headlines = 40
    world.add_days()
    site = tmp_path / "site"
    publish(world.config(), site, NOW)
    assert "days-2.html" in (site / "days.html").read_text()
    assert f"d/{day_name(0)}.html" in (site / "days-2.html").read_text()
    assert f'"{day_name(155)}-3.html"' in (site / f"d/{day_name(155)}.html").read_text()
    feed = (site / "feed.xml").read_text()
    assert feed.count("<entry>") < 40
    assert all(p.stat().st_size <= MAX_PAGE for p in site.rglob("*.html"))
    rows = (site / "forecasts.csv").read_text().count("\n") - 1
    assert rows == 29 * 2 + 80


def test_notes_by_hand_are_plain_text(tmp_path):
    """Catches a note that is markup, and one whose name nobody will find."""
    world = SiteWorld(tmp_path / "home")
    world.add_days(3)
    notes = world.home / "notes"
    notes.mkdir()
    (notes / "2026-W02.md").write_text("It <b>rained</b>\n[a](javascript:x)\n\nSecond.")
    publish(world.config(), tmp_path / "site", NOW)
    page = Parsed((tmp_path / "site/postmortems/2026-W02.html").read_text())
    assert "It <b>rained</b> [a](javascript:x)" in page.text
    assert not any(tag == "b" for tag, _ in page.tags)
    for name, content, words in (
        ("2026-W54.md", b"x", "named after its week"),
        ("last week.md", b"x", "named after its week"),
        ("2026-W03.md", b"\xff", "cannot read"),
        ("2026-W03.md", b"x" * 6001, "shorten it"),
    ):
        (notes / name).write_bytes(content)
        with pytest.raises(ConfigError, match=words):
            publish(world.config(), tmp_path / "site", NOW)
        (notes / name).unlink()


def test_calibration_is_shown_from_30_forecasts_on(tmp_path):
    """Catches a reliability table of five forecasts, or of bins with three."""
    for n, words in ((0, "No settled forecast stated"), (29, "29 settled forecasts stated"),
                     (45, "Brier score")):  # fmt: skip
        world = SiteWorld(tmp_path / f"home{n}")
        world.add_days(2)
        pairs = [[0.9, True]] * min(n, 36) + [[0.1, False]] * max(n - 36, 0)
        raw_sql(
            ledger_at(world.home),
            "UPDATE stage_runs SET detail = ? WHERE stage = 'settle' AND day = '2026-01-06'",
            parameters=(json.dumps({"probabilities": pairs}),),
        )
        publish(world.config(), tmp_path / f"site{n}", NOW)
        page = (tmp_path / f"site{n}/scorecard.html").read_text()
        assert words in page
    assert "80 to 100 %" in page and "0 to 20 %" not in page and "fewer than 10" in page


@of_sqlite
def test_a_post_mortem_says_whom_it_leaves_out(tmp_path):
    """Catches a "worst miss" that passes over worse texts in silence, sources that are all called
    worst, and a week in which nothing was scored with a table of dashes."""
    world = SiteWorld(tmp_path / "home", n_headlines=1)
    world.add_days(2)
    update = "UPDATE settlements SET reward = 0, invalid_reason = 'cut off' WHERE reward < 0.11"
    raw_sql(ledger_at(world.home), update)
    publish(world.config(), tmp_path / "site", NOW)
    page = Parsed((tmp_path / "site/postmortems/2026-W02.html").read_text()).text
    assert "Settled 8, of which 1 earned nothing because their text was not usable" in page
    assert "none of these is best or worst" in page
    assert "Sources, lowest mean score first: at most five" in page and "called worst" not in page
    for name, sql, words in (
        (
            "form",
            """UPDATE settlements SET components = '{"format": 0.2}'""",
            "Settled 8, of which",
        ),
        (
            "void",
            "UPDATE settlements SET reward = NULL, void_reason = 'x'",
            "Nothing was settled; ",
        ),
    ):
        raw_sql(ledger_at(world.home), sql)
        publish(world.config(), tmp_path / name, NOW)
        page = Parsed((tmp_path / name / "postmortems/2026-W02.html").read_text())
        assert words in page.text and "No score was earned in this week" in page.text, name
        assert "Largest misses" not in page.text and "Settled 0" not in page.text
        assert not any(tag == "table" for tag, _ in page.tags), name


def test_each_mean_says_over_what_it_is(plain):
    """Catches two mean scores of one week, in the scorecard and in its post-mortem, that differ
    without a word."""
    front = (plain / "index.html").read_text()
    assert "means of the days' means" in front or "means of the days&#39; means" in front
    assert "over all of its scored forecasts" in (plain / "scorecard.html").read_text()
    assert "Means over the scored forecasts" in (plain / "postmortems/2026-W02.html").read_text()


def test_only_a_live_run_can_have_stopped(tmp_path):
    """Catches a replay whose front page says that a machine has stopped: its clock is long past."""
    for corpus, stops in (("world", False), ("live", True)):
        world = SiteWorld(tmp_path / corpus, corpus=corpus)
        world.add_days()
        publish(world.config(), tmp_path / f"{corpus}-site", clock(0))
        front = (tmp_path / f"{corpus}-site" / "index.html").read_text()
        assert "Next to be settled" in front
        assert ("the machine behind it has stopped" in front) == stops


def test_what_is_long_is_cut_at_a_word(tmp_path):
    """Catches a title or a reason that ends in the middle of a number; and a name without a space
    of which nothing is left."""
    assert cut("trained on 2096 of 2,096 forecasts", 20) == "trained on 2096 of…"
    assert cut("trained on 2096 of 2,096 forecasts", 19) == "trained on 2096 of…"
    assert cut("trained on 2096", 15) == "trained on 2096"
    assert cut("a " + "b" * 30, 20) == "a " + "b" * 17 + "…"
    assert cut("one two three", 9, "") == "one two"
    site = site_of(
        tmp_path, days=2, title=lambda n, i: "Exports " * 30, text=lambda n, i, k: "exports " * 60
    )
    for name in ("index.html", "postmortems/2026-W02.html"):
        text = Parsed((site / name).read_text()).text
        assert "Exports Exports…" in text and "exports exports…" in text


def test_the_weeks_intervals_are_counted_apart():
    """Catches a week without an interval that is told as one in which no difference can be told."""
    row = WeekRow("2026-W01", 1, 0, "", "", "", "", "", "", "", 1, 0.1, None, None)
    bounds = ((0.05, 0.2), (-0.2, -0.1), (-0.1, 0.1), (-0.1, 0.2), (None, None))
    weeks = [replace(row, name=f"2026-W{n}", low=low, high=high)
             for n, (low, high) in enumerate(bounds)]  # fmt: skip
    assert lift_chart(weeks).finding == (
        "Of 5 weeks, by their interval: 1 above 0, 1 below 0, 2 around 0 (no difference can be "
        "told), 1 without one."
    )
