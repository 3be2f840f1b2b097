"""The chain of a public site: what was published before its outcome can not be changed unseen."""

from __future__ import annotations

import csv
import errno
import io
import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from conftest import copy_home, ledger_at, raw_sql, small_config
from site_world import SiteWorld, clock, day_name

from varro.errors import ConfigError, DiskError, SiteError, StageError
from varro.service.site import publish, verify
from varro.site import write
from varro.site.chain import FOLDER, load_chain
from varro.site.record import SCORED, canonical, recomputed, text_sha256
from varro.site.tables import SCORES, as_csv, rows
from varro.site.verify import verify_site

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Three days, each published on the day it was made, before it was due."""
    folder = tmp_path_factory.mktemp("prepared")
    world = SiteWorld(folder / "home")
    for _ in range(3):
        world.add_days()
        publish(world.config(), folder / "site", NOW)
    return world, folder / "site"


@pytest.fixture
def world(prepared, tmp_path):
    """A copy of its ledger."""
    home = copy_home(prepared[0].home, tmp_path / "home")
    return replace(prepared[0], home=home, sizes=list(prepared[0].sizes))


@pytest.fixture
def site(prepared, tmp_path):
    """A copy of its site."""
    return shutil.copytree(prepared[1], tmp_path / "site")


def everything(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def edit(file, change):
    data = json.loads(file.read_bytes())
    change(data)
    file.write_bytes(canonical(data))


def test_a_sound_site_is_told_to_be_sound(world, site):
    """Catches a verification that cries wolf, or that looks at nothing."""
    found, ledger = verify(world.config(), site, NOW)
    assert (found.problems, found.n_late) == ([], 0)
    assert (found.n_days, found.n_forecasts, found.place) == (3, 72, 3)
    assert ledger is not None
    assert found.head == load_chain(site)[0][-1].sha256()


def test_each_manifest_names_the_one_before_and_is_written_once(world, site):
    """Catches a chain that is written anew with each publish: it would bind nothing."""
    before = everything(site / FOLDER)
    world.add_days()
    publish(world.config(), site, NOW)
    after = everything(site / FOLDER)
    assert {k: v for k, v in after.items() if k in before} == before
    links, problems = load_chain(site)
    assert problems == [] and [link.place for link in links] == [1, 2, 3, 4]
    assert [link.previous for link in links[1:]] == [link.sha256() for link in links[:-1]]
    assert [link.published_at for link in links] == [
        f"{clock(n):%Y-%m-%dT%H:%M:%SZ}" for n in range(4)
    ]


DAY_JSON = f"d/{day_name(1)}.json"
MANIFEST = f"chain/{day_name(1)}.json"


def change_text(site):
    def change(data):
        data["groups"][0]["forecasts"][2]["text"] += " Or fall."

    edit(site / DAY_JSON, change)


def change_text_and_its_hash(site):
    def change(data):
        forecast = data["groups"][0]["forecasts"][2]
        forecast["text"] = "I said so"
        forecast["text_sha256"] = text_sha256(forecast["text"])
        forecast["sha256"] = recomputed(data, data["groups"][0], forecast)[0]

    edit(site / DAY_JSON, change)


def change_headline(site):
    edit(site / DAY_JSON, lambda d: d["groups"][0]["headline"].update(title="Another"))


def change_due(site):
    edit(site / DAY_JSON, lambda d: d["groups"][0].update(due="2027-01-01T00:00:00Z"))


def change_policy(site):
    edit(site / DAY_JSON, lambda d: d["groups"][0].update(policy_version=99))


def remove_forecast(site):
    edit(site / DAY_JSON, lambda d: d["groups"][0]["forecasts"].pop())


def insert_forecast(site):
    def change(data):
        group = data["groups"][0]
        data["groups"].append(group | {"forecasts": [group["forecasts"][0] | {"id": "new"}]})

    edit(site / DAY_JSON, change)


def repeat_forecasts(site):
    edit(site / DAY_JSON, lambda d: d["groups"].append(d["groups"][0]))


def reorder_forecasts(site):
    edit(site / DAY_JSON, lambda d: d["groups"].reverse())


def change_page(site):
    page = next((site / "f").iterdir())
    page.write_text(page.read_text().replace("strong demand", "weak demand", 1))


def remove_page(site):
    next((site / "f").iterdir()).unlink()


def hide_text_on_page(site):
    page = next((site / "f").iterdir())
    page.write_text(page.read_text().replace('data-told="k3-text"', "hidden", 1))


def remove_day(site):
    (site / DAY_JSON).unlink()


def garble_day(site):
    (site / DAY_JSON).write_text('{"groups": 3}')


def change_manifest(site):
    edit(site / MANIFEST, lambda m: m["forecasts"][0].__setitem__(1, "0" * 64))


def backdate_manifest(site):
    edit(site / MANIFEST, lambda m: m.update(published_at="2026-01-01T00:00:00Z"))


def change_newest_manifest(site):
    edit(
        site / f"chain/{day_name(2)}.json", lambda m: m.update(published_at="2026-01-01T00:00:00Z")
    )


def remove_manifest(site):
    (site / MANIFEST).unlink()


def cut_the_chain(site):
    for folder in ("chain", "d"):
        (site / folder / f"{day_name(2)}.json").unlink()


def remove_front_page(site):
    (site / "index.html").unlink()


def lead_out(site):
    edit(site / DAY_JSON, lambda d: d["groups"][0].update(id="../../elsewhere"))


def garble_manifest(site):
    (site / MANIFEST).write_text("[]")


def change_csv(site):
    file = site / "forecasts.csv"
    file.write_bytes(file.read_bytes().replace(b"strong demand", b"weak demand", 1))


def leave_out_of_csv(site):
    file = site / "forecasts.csv"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:9] + lines[10:]))


def garble_csv(site):
    (site / "forecasts.csv").write_bytes(b"day\r\n2026-01-05\r\n")


def change_score_in_csv(site):
    file = site / "forecasts.csv"
    told = list(csv.DictReader(file.read_text().splitlines()))
    score = next(row["reward"] for row in told if row["reward"])
    file.write_text(file.read_text().replace(f",{score},", ",0.9,", 1), newline="")


def change_table(site):
    edit(site / "forecasts.json", lambda t: t["forecasts"][1].update(title="Another"))


def add_a_day_to_table(site):
    def change(table):
        table["forecasts"].append(table["forecasts"][0] | {"day": "2026-02-01"})

    edit(site / "forecasts.json", change)


def change_score_in_table(site):
    def change(table):
        next(row for row in table["forecasts"] if row["reward"] is not None)["reward"] = 0.9

    edit(site / "forecasts.json", change)


def remove_table(site):
    (site / "forecasts.json").unlink()


def edit_forecast(site, n_day, change):
    """The first forecast of a day in its data: day 0 and 1 are settled, day 2 is open."""
    edit(site / f"d/{day_name(n_day)}.json", lambda d: change(d["groups"][0]["forecasts"][0]))


def score_what_is_open(site):
    edit_forecast(site, 0, lambda f: f.update(settled_on=None, reward=0.999))


def settle_what_has_no_score(site):
    edit_forecast(site, 2, lambda f: f.update(status="settled"))


def tell_a_miss_as_void(site):
    edit_forecast(site, 0, lambda f: f.update(status="void"))


def take_a_fact_away(site):
    edit_forecast(site, 0, lambda f: f.pop("invalid_reason"))


def change_outcome(site):
    def change(data):
        next(iter(data["outcomes"].values()))["title"] = "Just as it was forecast"

    edit(site / DAY_JSON, change)


def remove_outcomes(site):
    edit(site / DAY_JSON, lambda d: d["outcomes"].clear())


def edit_csv(site, change):
    file = site / "forecasts.csv"
    told = list(csv.reader(io.StringIO(file.read_text(), newline="")))
    change(told)
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(told)
    file.write_bytes(out.getvalue().encode())


def score_what_is_open_in_csv(site):
    def change(told):
        told[1][told[0].index("settled_on")] = ""
        told[1][told[0].index("reward")] = "0.99"

    edit_csv(site, change)


def hide_a_miss_in_csv(site):
    def change(told):
        for column in SCORES:
            told[1][told[0].index(column)] = ""
        told[1][told[0].index("status")] = "open"

    edit_csv(site, change)


def hide_a_miss_in_table(site):
    open_ = dict.fromkeys(SCORES) | {"status": "open"}
    edit(site / "forecasts.json", lambda t: t["forecasts"][0].update(open_))


def leave_a_day_out_of_csv(site):
    edit_csv(site, lambda told: told.__delitem__(slice(25, 49)))


def leave_all_out_of_csv(site):
    edit_csv(site, lambda told: told.__delitem__(slice(1, None)))


def second_score_in_csv(site):
    edit_csv(site, lambda told: [row.append(row[6]) for row in told])


def cut_a_line_of_csv(site):
    edit_csv(site, lambda told: told.append(["id", "2027-01-01"]))


def empty_csv(site):
    (site / "forecasts.csv").write_bytes(b"")


def folder_for_csv(site):
    (site / "forecasts.csv").unlink()
    (site / "forecasts.csv").mkdir()


def settle_in_table(site):
    def change(table):
        table["forecasts"][-1].update(settled_on="2026-01-08", reward=0.99, status="settled")

    edit(site / "forecasts.json", change)


def score_what_is_open_in_table(site):
    edit(site / "forecasts.json", lambda t: t["forecasts"][0].update(settled_on=None, reward=0.99))


def leave_a_day_out_of_table(site):
    def change(table):
        table["forecasts"] = [f for f in table["forecasts"] if f["day"] != day_name(1)]

    edit(site / "forecasts.json", change)


def leave_all_out_of_table(site):
    edit(site / "forecasts.json", lambda t: t["forecasts"].clear())


def change_head_of_table(site):
    edit(site / "forecasts.json", lambda t: t["head"].update(sha256="0" * 64))


def unlist_a_day(site):
    edit(site / "forecasts.json", lambda t: t["days"].pop())


def mix_days_of_table(site):
    def change(table):
        table["forecasts"] += [table["forecasts"][0] | {"day": day} for day in (5, "x")]

    edit(site / "forecasts.json", change)


def odd_day_in_table(site):
    table = (site / "forecasts.json").read_text()
    odd = table.replace('"day":"2026-01-06","due":"', '"day":"\\ud800","due":"', 1)
    (site / "forecasts.json").write_text(odd)


def odd_outcome(site):
    file = site / DAY_JSON
    file.write_text(file.read_text().replace('"outcomes":{"', '"outcomes":{"\\ud800', 1))


def nest_table(site):
    (site / "forecasts.json").write_bytes(b"[" * 200_000)


def nest_day(site):
    (site / DAY_JSON).write_bytes(b"[" * 200_000)


def folder_for_day(site):
    (site / DAY_JSON).unlink()
    (site / DAY_JSON).mkdir()


def endless_place(site):
    (site / MANIFEST).write_text((site / MANIFEST).read_text().replace(":2,", ":Infinity,", 1))


def odd_text_in_manifest(site):
    manifest = (site / MANIFEST).read_text()
    (site / MANIFEST).write_text(manifest.replace('"run":"main"', '"run":"\\ud800"'))


def change_run(site):
    edit(site / "site.json", lambda d: d.update(run="elsewhere"))


def folder_for_manifest(site):
    (site / MANIFEST).unlink()
    (site / MANIFEST).mkdir()


def text_for_score(site):
    edit_forecast(site, 0, lambda f: f.update(reward=[0.1]))


def page_of(site, n_day):
    data = json.loads((site / f"d/{day_name(n_day)}.json").read_bytes())
    return site / f"f/{data['groups'][0]['id']}.html"


def garble_page(site):
    page = page_of(site, 0)
    page.write_text(page.read_text().replace('<code data-told="k0-id"', '<![foo[<code "', 1))


def folder_for_page(site):
    page = page_of(site, 0)
    page.unlink()
    page.mkdir()


def score_what_is_open_on_page(site):
    page = page_of(site, 2)
    score = '<dl class="parts"><dt>Score</dt><dd>0.999</dd></dl></article>'
    page.write_text(page.read_text().replace("</article>", score, 1))


def hide_score_on_page(site):
    page = page_of(site, 0)
    page.write_text(page.read_text().replace("<dd>", "<dd>0.999</dd><dd hidden>", 1))


def no_score_on_page(site):
    page = page_of(site, 0)
    page.write_text(re.sub(r"(<dd>)[0-9.]+", r"\1—", page.read_text(), count=1))


def change_score_on_page(site):
    page = next(p for p in (site / "f").iterdir() if "<dd>" in p.read_text())
    text = re.sub(r"(<dd>)[0-9.]+", r"\g<1>0.999", page.read_text(), count=1)
    page.write_text(text)


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (change_csv, "forecasts.csv tells another text of forecast"),
        (leave_out_of_csv, "forecasts.csv has other forecasts of"),
        (garble_csv, "forecasts.csv is not a table as it was written"),
        (change_score_in_csv, "forecasts.csv tells another reward of forecast"),
        (change_table, "forecasts.json tells another title of forecast"),
        (add_a_day_to_table, "has forecasts of 2026-02-01, which is not in the chain"),
        (change_score_in_table, "forecasts.json tells another reward of forecast"),
        (remove_table, "forecasts.json is gone"),
        (change_score_on_page, "shows another score than the day's data"),
        (change_text, "its text is not the one that was published"),
        (change_text_and_its_hash, "was changed"),
        (change_headline, "its headline is not the one that was published"),
        (change_due, "was changed"),
        (change_policy, "was changed"),
        (remove_forecast, "was removed"),
        (insert_forecast, "was put in afterwards"),
        (repeat_forecasts, "in another order"),
        (reorder_forecasts, "in another order"),
        (change_page, "shows another text than the one that was published"),
        (remove_page, "is gone"),
        (hide_text_on_page, "shows another text"),
        (remove_day, "is gone"),
        (garble_day, "not a day's data as it was written"),
        (change_manifest, "does not follow"),
        (backdate_manifest, "does not follow"),
        (change_newest_manifest, "another manifest at place 3"),
        (remove_manifest, "does not follow"),
        (cut_the_chain, "the chain has 2"),
        (garble_manifest, "is not a manifest as it was written"),
        (remove_front_page, "index.html is gone"),
        (lead_out, "a group with the id"),
        (score_what_is_open, "has a score that its status has not"),
        (settle_what_has_no_score, "has a score that its status has not"),
        (tell_a_miss_as_void, "has a score that its status has not"),
        (take_a_fact_away, "not a day's data as it was written (KeyError: 'invalid_reason')"),
        (change_outcome, "is not the one that was published"),
        (remove_outcomes, "was matched with a headline that is gone"),
        (score_what_is_open_in_csv, "forecasts.csv tells another reward of forecast"),
        (hide_a_miss_in_csv, "forecasts.csv tells another status of forecast"),
        (hide_a_miss_in_table, "forecasts.json tells another status of forecast"),
        (leave_a_day_out_of_csv, "forecasts.csv has forecasts of other days"),
        (leave_all_out_of_csv, "forecasts.csv has forecasts of other days"),
        (second_score_in_csv, "forecasts.csv is not a table as it was written (its columns"),
        (cut_a_line_of_csv, "forecasts.csv is not a table as it was written (a line of 2"),
        (empty_csv, "forecasts.csv is not a table as it was written (its columns"),
        (folder_for_csv, "forecasts.csv is gone"),
        (settle_in_table, "forecasts.json tells another status of forecast"),
        (score_what_is_open_in_table, "forecasts.json tells another reward of forecast"),
        (leave_a_day_out_of_table, "forecasts.json leaves out forecasts of days up to 2026-01-07"),
        (leave_all_out_of_table, "forecasts.json leaves out forecasts of days up to 2026-01-07"),
        (change_head_of_table, "forecasts.json tells another head"),
        (unlist_a_day, "forecasts.json tells another head, or lists other days"),
        (mix_days_of_table, "forecasts.json is not a table as it was written (a forecast of the"),
        (odd_day_in_table, "forecasts.json is not a table as it was written (a forecast of the"),
        (odd_outcome, "was matched with a headline that is gone"),
        (nest_table, "forecasts.json is not a table as it was written (maximum recursion"),
        (nest_day, "not a day's data as it was written (RecursionError"),
        (folder_for_day, f"{DAY_JSON} is gone"),
        (endless_place, "is not a manifest as it was written"),
        (folder_for_manifest, "is not a manifest as it was written"),
        (odd_text_in_manifest, "is not a manifest as it was written"),
        (change_run, "site.json is of run 'elsewhere', and the chain of another"),
        (text_for_score, "not a day's data as it was written"),
        (garble_page, "html does not show forecast"),
        (folder_for_page, "is gone, or tells nothing"),
        (score_what_is_open_on_page, "shows another score than the day's data, which is not settl"),
        (hide_score_on_page, "shows another score than the day's data"),
        (no_score_on_page, "shows another score than the day's data"),
    ],
)
def test_every_kind_of_tampering_is_told(world, site, tamper, words):
    """Catches a verification that one kind of change passes: the site alone must tell, without a
    ledger."""
    tamper(site)
    problems = verify_site(site).problems
    assert any(words in problem for problem in problems), problems
    "".join(problems).encode()  # they can be printed


@pytest.mark.parametrize(
    "tamper",
    [change_manifest, backdate_manifest, change_newest_manifest, remove_manifest, cut_the_chain,
     garble_manifest],
)  # fmt: skip
def test_a_changed_chain_is_not_published_on(world, site, tamper):
    """Catches a publish that mends a tampered chain in silence, or leaves a site half written."""
    tamper(site)
    world.add_days()
    before = everything(site)
    with pytest.raises(SiteError, match="nothing was written") as refused:
        publish(world.config(), site, NOW)
    assert refused.value.exit_code == 14
    assert everything(site) == before


@pytest.mark.parametrize(
    "tamper", [garble_day, nest_day, remove_day, change_text, reorder_forecasts, lead_out]
)
def test_data_that_were_changed_by_hand_are_made_again(world, site, tamper):
    """Catches a publish that falls over a day's data, or takes them for what the ledger says."""
    before = everything(site)
    tamper(site)
    publish(world.config(), site, NOW)
    assert everything(site) == before


def test_a_cut_chain_is_told_though_the_front_page_is_gone(world, site):
    """Catches a chain that is cut and grown again with other times: the feed has the head, too."""
    cut_the_chain(site)
    remove_front_page(site)
    with pytest.raises(SiteError, match=r"feed\.xml tells of 3 manifests"):
        publish(world.config(), site, NOW)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE forecasts SET text = 'It rained' WHERE k = 2", "was changed"),
        ("UPDATE headlines SET title = 'Something else'", "was changed"),
        ("UPDATE groups SET policy_version = 7", "was changed"),
        ("DELETE FROM stage_runs WHERE stage = 'forecast' AND day = '2026-01-06'",
         "the ledger has no such day"),
    ],
)  # fmt: skip
def test_a_changed_ledger_is_not_published(world, site, change, words):
    """Catches a site that follows a ledger which was edited after the outcome."""
    raw_sql(ledger_at(world.home), change)
    before = everything(site)
    with pytest.raises(SiteError, match=words):
        publish(world.config(), site, NOW)
    assert everything(site) == before
    found, _ = verify(world.config(), site, NOW)
    assert any(words in problem for problem in found.problems)


def test_a_score_that_was_made_better_is_told_beside_the_ledger(world, site):
    """Catches a site whose owner edits what a forecast earned: no chain can bind what came later,
    but the ledger keeps it."""

    def change(data):
        data["groups"][0]["forecasts"][0]["reward"] = 0.999

    edit(site / f"d/{day_name(0)}.json", change)
    found, _ = verify(world.config(), site, NOW)
    assert any("has another score than the ledger" in problem for problem in found.problems)


def tell_a_miss_as_open(site):
    """In all places: data, page and tables."""
    edit_forecast(site, 0, lambda f: f.update(SCORED, status="open"))
    page = page_of(site, 0)
    page.write_text(re.sub(r'<dl class="parts">.*?</dl>', "", page.read_text(), count=1))
    day = json.loads((site / f"d/{day_name(0)}.json").read_bytes())
    edit(site / "forecasts.json", lambda t: t["forecasts"].__setitem__(0, next(rows(day))))
    first = as_csv([day]).split(b"\r\n")[1]
    lines = (site / "forecasts.csv").read_bytes().split(b"\r\n")
    (site / "forecasts.csv").write_bytes(b"\r\n".join([lines[0], first, *lines[2:]]))


def match_with_another_headline(site):
    """One that was published, by the hash that it has."""

    def change(data):
        (key,) = data["outcomes"]
        other = data["groups"][0]["headline"]
        data["outcomes"] = {key: other | {"id": key}}

    edit(site / DAY_JSON, change)


def score_beside_a_lacking_fact(site):
    edit_forecast(site, 0, lambda f: f.update(reward=0.999))
    edit(site / f"d/{day_name(0)}.json", lambda d: d["groups"][-1]["forecasts"][-1].pop("parts"))


@pytest.mark.parametrize(
    "tamper", [tell_a_miss_as_open, match_with_another_headline, score_beside_a_lacking_fact]
)
def test_a_score_that_the_ledger_has_not_is_told(world, site, tamper):
    """Catches a miss that is hidden, a better match, and one fact taken away that ends the day's
    comparison: nothing but the ledger can tell."""
    tamper(site)
    found, _ = verify(world.config(), site, NOW)
    assert any("has another score than the ledger" in problem for problem in found.problems)


def test_a_miss_that_is_hidden_everywhere_passes_without_the_ledger(site):
    """Catches a test above that proves nothing: it is the ledger that tells of it."""
    tell_a_miss_as_open(site)
    assert verify_site(site).problems == []


def test_what_was_settled_since_the_last_publish_is_no_change(world, site):
    """Catches a verification that cries wolf between the night's settling and the publish."""
    world.add_days()
    found, ledger = verify(world.config(), site, NOW)
    assert (found.problems, ledger is None) == ([], False)


def test_tables_of_a_publish_that_was_stopped_are_no_change(world, site):
    """Catches a verification that cries wolf over tables which are a day older than the data."""
    names = ("forecasts.json", "forecasts.csv")
    before = {name: (site / name).read_bytes() for name in names}
    world.add_days()
    publish(world.config(), site, NOW)
    for name in names:
        (site / name).write_bytes(before[name])
    found, _ = verify(world.config(), site, NOW)
    assert found.problems == []


@pytest.mark.parametrize(
    ("before", "after", "days"),
    [((), (), 1), ((), ("publish.scores_only=true",), 1), (("publish.scores_only=true",), (), 0)],
)
def test_a_publish_that_was_stopped_anywhere_is_no_tampering(
    tmp_path, monkeypatch, before, after, days
):
    """Catches a crash or a full disk that is told as tampering: what is not complete is said to be
    that, and all else is sound."""
    world = SiteWorld(tmp_path / "home", n_headlines=2, n_forecasts=2)
    world.add_days(2)
    publish(world.config(*before), tmp_path / "site", NOW)
    world.add_days(days)
    real, said = write.write_file, set()
    for stop in range(100):
        site = shutil.copytree(tmp_path / "site", tmp_path / f"site{stop}")
        written = []

        def fails(path, content, written=written, stop=stop):
            if len(written) == stop:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            written.append(path)
            real(path, content)

        monkeypatch.setattr(write, "write_file", fails)
        try:
            publish(world.config(*after), site, NOW)
        except DiskError:
            found, _ = verify(world.config(*after), site, NOW)
            said |= {problem.partition("; ")[2] or problem for problem in found.problems}
        else:
            break
    assert stop > 8
    assert all("'varro publish' completes" in problem for problem in said), said


def test_a_newest_day_without_data_is_not_complete_and_an_earlier_one_is_gone(world, site):
    """Catches data that were deleted and are told as not written yet."""
    world.add_days()
    whole = shutil.copytree(site, site.parent / "whole")
    publish(world.config(), whole, NOW)
    newest = f"chain/{day_name(3)}.json"
    shutil.copy(whole / newest, site / newest)
    (problem,) = verify_site(site).problems
    assert "is not there yet: 'varro publish' completes" in problem
    (whole / f"d/{day_name(3)}.json").unlink()
    assert f"d/{day_name(3)}.json is gone" in verify_site(whole).problems


def test_a_page_of_an_earlier_version_is_sound(site):
    """Catches a verification that calls a page changed because an earlier Varro marked no score in
    it, or showed more digits or fewer."""
    for shown in ("0.1", "0.10", "0.100", "0.1000", "1.0e-01"):
        page = page_of(site, 0)
        score = r"<dd>0\.1[0-9.]*</dd>"
        text = re.sub(score, f"<dd>{shown}</dd>", page.read_text(), count=1)
        assert f"<dd>{shown}</dd>" in text
        page.write_text(text)
        assert verify_site(site).problems == [], shown


def test_a_long_text_is_read_again(tmp_path):
    """Catches a table that is called damaged because a text is longer than the csv module takes."""
    world = SiteWorld(tmp_path / "home", n_headlines=1, text=lambda n, i, k: f"{k} " * 80_000)
    world.add_days()
    publish(world.config(), tmp_path / "site", NOW)
    assert verify_site(tmp_path / "site").problems == []
    assert csv.field_size_limit() == 131_072


def test_what_was_published_late_says_so(world, tmp_path):
    """Catches forecasts that pass for foresight though their outcome was known when they were
    shown."""
    folder = tmp_path / "site"
    made = publish(world.config(), folder, NOW)
    assert made.n_late == 48  # two days of three; the newest was made just now
    found, _ = verify(world.config(), folder, NOW)
    assert (found.problems, found.n_late, found.late_days) == ([], 48, [day_name(0), day_name(1)])
    late = [p.read_text() for p in (folder / "f").iterdir()]
    assert sum("Published after its outcome was due" in page for page in late) == 6
    assert sum("Published before its outcome was due" in page for page in late) == 3


def test_live_forecasts_are_late_by_the_wall_clock(tmp_path):
    """Catches a ledger that stood still for a week and lets its forecasts pass as published in
    time."""
    world = SiteWorld(tmp_path / "home", corpus="live")
    world.add_days()
    late = publish(world.config(), tmp_path / "late", clock(0) + timedelta(days=7))
    in_time = publish(world.config(), tmp_path / "in time", clock(0) + timedelta(hours=11))
    assert (late.n_late, in_time.n_late) == (24, 0)
    front = (tmp_path / "late" / "index.html").read_text()
    assert "overdue 24" in front and "Stopped" in front and "✗" in front
    assert "overdue 0" in (tmp_path / "in time" / "index.html").read_text()


def test_an_in_time_claim_is_recomputed(site):
    """Catches a page that says of itself that it was in time."""
    edit(site / DAY_JSON, lambda d: d["groups"][0].update(in_time=False))
    assert any("say wrongly" in problem for problem in verify_site(site).problems)


def test_a_run_of_odd_text_is_refused(world, site):
    """Catches a traceback of the ledger, which is asked for a run that no text can name."""
    file = site / "site.json"
    file.write_text(file.read_text().replace('"run":"main"', '"run":"\\ud800"'))
    with pytest.raises(SiteError, match="not of a site that this Varro knows"):
        verify(world.config(), site, NOW)


def test_a_day_that_turns_up_later_is_refused(world, site):
    """Catches a forecast that is put in between days that were published without it."""
    raw_sql(
        ledger_at(world.home),
        "INSERT INTO stage_runs SELECT run, '2026-01-05T1800', stage, as_of, seconds, detail "
        "FROM stage_runs WHERE day = '2026-01-05' AND stage = 'forecast'",
    )
    with pytest.raises(SiteError, match="not in the chain, which went on to 2026-01-07"):
        publish(world.config(), site, NOW)


def test_another_runs_site_and_a_strangers_folder_are_left_alone(world, site, tmp_path):
    """Catches a publish that overwrites somebody's files, or mixes two runs in one chain."""
    other = SiteWorld(tmp_path / "other")
    other.add_days()
    edit(site / "site.json", lambda d: d.update(run="elsewhere"))
    with pytest.raises(ConfigError, match="is the site of run 'elsewhere'"):
        publish(world.config(), site, NOW)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        publish(other.config(), theirs, NOW)
    assert [p.name for p in theirs.iterdir()] == ["thesis.txt"]
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        publish(other.config(), file, NOW)


def test_nothing_to_publish_is_one_line(tmp_path):
    """Catches a site without a day, or a traceback, of a ledger that has no forecasts."""
    world = SiteWorld(tmp_path / "home")
    with pytest.raises(StageError, match="has made no forecasts yet"):
        publish(world.config(), tmp_path / "site", NOW)
    with pytest.raises(StageError, match=r"no run 'elsewhere' .* there is 'main'"):
        publish(world.config("run.name=elsewhere"), tmp_path / "site", NOW)
    with pytest.raises(StageError, match="no ledger"):
        publish(small_config(tmp_path / "new"), tmp_path / "site", NOW)
    assert not (tmp_path / "site").exists() and not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="no site at"):
        verify_site(tmp_path / "site")


def test_publishing_only_reads_the_ledger(world, tmp_path):
    """Catches a publish that takes the run's lease, or keeps vectors, beside a day at work."""
    place = ledger_at(world.home)
    tables = ("leases", "embeddings", "stage_runs")
    count = lambda: [raw_sql(place, f"SELECT count(*) FROM {t}") for t in tables]  # noqa: E731
    before = count()
    publish(world.config(), tmp_path / "site", NOW)
    assert count() == before
