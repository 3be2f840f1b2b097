"""The command `varro publish`: what it prints, its exit codes, and the workflow it gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ROOT, ledger_at, ledger_settings, raw_sql
from site_world import SiteWorld
from test_cli import refused, varro

from varro.config import load_config
from varro.errors import ConfigError
from varro.site.workflow import pages_workflow


@pytest.fixture
def home(tmp_path):
    """A home with two days of forecasts."""
    world = SiteWorld(tmp_path / "home", n_headlines=1, n_forecasts=2)
    world.add_days(2)
    return world.home


def arguments(home):
    return [part for text in ledger_settings(home) for part in ("--set", text)] + ["--home", home]


def test_publish_and_verify_tell_what_they_found(home, tmp_path):
    """Catches a verification that passes what was changed, by words, exit code or JSON."""
    site = tmp_path / "site"
    made = json.loads(varro("publish", "--out", site, "--json", *arguments(home)).stdout)
    assert (made["n_days"], made["n_forecasts"], made["place"]) == (2, 4, 2)
    assert made["counts"] == {"open": 2, "due": 0, "overdue": 0, "settled": 2, "void": 0}
    sound = varro("publish", "--verify", site, *arguments(home))
    assert sound.returncode == 0, sound.stderr
    assert "not before outcome: 2 forecasts of 1 days" in sound.stdout
    assert made["head"] in sound.stdout and "compared with" in sound.stdout
    raw_sql(ledger_at(home), "UPDATE forecasts SET text = 'Yes' WHERE k = 0")
    refused(varro("publish", "--out", site, *arguments(home)), 14, "was changed", "nothing was")
    told = varro("publish", "--verify", site, "--json", *arguments(home))
    assert told.returncode == 14
    assert json.loads(told.stdout)["ok"] is False and "was changed" in told.stderr


def test_a_post_mortem_says_on_how_many_forecasts_a_version_was_trained(home, tmp_path):
    """Catches what was settled told as what was trained on: of it some is left out each day."""
    metrics = json.dumps({"n_forecasts": 8, "n_trained": 7})
    raw_sql(ledger_at(home), "UPDATE updates SET metrics = ?", parameters=(metrics,))
    done = varro("publish", "--out", tmp_path / "site", *arguments(home))
    assert done.returncode == 0, done.stderr
    (page,) = (tmp_path / "site" / "postmortems").glob("*.html")
    assert ", trained on 7 of 8 forecasts" in page.read_text(encoding="utf-8")


def test_options_that_contradict_each_other_are_refused(tmp_path):
    """Catches a --verify that writes, and a folder that is taken for another."""
    for given in (
        ["a", "--out", "b"],
        ["--verify", "a", "--anew"],
        ["--verify", "--workflow", "w.yml"],
    ):
        refused(varro("publish", *given, "--home", tmp_path), 3)
    assert list(tmp_path.iterdir()) == []


def test_the_workflow_deploys_the_folder_and_nothing_else(tmp_path):
    """Catches a workflow without the rights that Pages asks for, and one that is overwritten."""
    file = tmp_path / ".github" / "workflows" / "pages.yml"
    done = varro("publish", "--workflow", file, "--out", "public/site")
    assert done.returncode == 0, done.stderr
    text = file.read_text()
    assert text == pages_workflow(Path("public/site"))
    for line in ("pages: write", "id-token: write", "contents: read", 'path: "public/site"',
                 "actions/configure-pages@", "actions/upload-pages-artifact@",
                 "actions/deploy-pages@"):  # fmt: skip
        assert line in text
    file.write_text("mine")
    refused(varro("publish", "--workflow", file), 3, "is there already")
    assert file.read_text() == "mine"


def test_the_publish_section_is_checked_and_is_no_part_of_a_run(tmp_path):
    """Catches a base URL that would make no link, and a run that ends when its site is renamed."""
    embedded = ROOT / "configs" / "embedded.toml"
    for bad in ('publish.base_url="javascript:x"', 'publish.title=""', "publish.n_day=3"):
        with pytest.raises(ConfigError, match=r"publish\."):
            load_config(embedded, (bad,))
    plain = load_config(embedded, ())
    named = load_config(embedded, ('publish.title="Mine"', f'publish.notes="{tmp_path}"'))
    assert plain.identity_hash() == named.identity_hash()
