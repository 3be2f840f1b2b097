"""varro compare: facts from ledgers, the three forms, hostile names, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from varro.config import load_config
from varro.domain import (
    Forecast,
    Group,
    Headline,
    Role,
    RunInfo,
    Settlement,
    Stage,
    StageRun,
)
from varro.errors import ConfigError, StageError
from varro.evaluation.evaluate import CLAIMED, compare_with_base
from varro.ledger.place import ledger_path
from varro.ledger.store import open_ledger
from varro.report.compare import FORMATS, render_comparison
from varro.reward.summary import BEATS, summarize_day
from varro.service.compare import compare_runs

ROOT = Path(__file__).resolve().parent.parent
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
DAYS = [f"2026-01-{n:02d}" for n in range(5, 14)]


def fill(home, *runs, days=DAYS):
    """A ledger with runs of (name, what the served policy gains on the base, its settings)."""
    with open_ledger(ledger_path(home)) as ledger:
        for name, gain, settings in runs:
            ledger.add_run(RunInfo(name, 3, "world", name, settings, "0.1.0"))
            for n, day in enumerate(days if gain is not None else []):
                add_day(ledger, name, day, f"2026-02-{n + 1:02d}", gain + 0.002 * (-1) ** n)


def add_day(ledger, run, day, settled, gain):
    title = Headline(f"h-{day}", "world", "f", "s", day, f"Title of {day}", "", None, NOON)
    groups, settlements = [], []
    for role, own in ((Role.TRAIN, gain), (Role.BASE, 0.0)):
        group_id = f"{run}-{day}-{role}"
        forecasts = tuple(
            Forecast(f"{group_id}-{k}", group_id, k, (1,), np.zeros(1, np.float32),
                     "Oil will rise by next week.", "stop", k)
            for k in range(2)
        )  # fmt: skip
        groups.append(Group(group_id, run, day, role, title, 1, NOON, "p", (1,), forecasts))
        settlements += [
            Settlement(f.id, group_id, settled, "v", 0.4 + own,
                       {CLAIMED: 0.1 + own + (-1) ** int(day[-1]) * 0.01 * f.k,
                        "semantic": 0.4 + own, "format": 0.5,
                        **dict.fromkeys(BEATS, 0.5)})
            for f in forecasts
        ]  # fmt: skip
    detail = summarize_day(groups, settlements) | {"refused": {}, "canaries": None}
    pairs = [(s, next(g for g in groups if g.id == s.group_id)) for s in settlements]
    ledger.finish_stage(
        StageRun(run, day, Stage.FORECAST, NOON, 1.0, {}), headlines=[title], groups=groups
    )
    ledger.finish_stage(
        StageRun(run, settled, Stage.SETTLE, NOON, 1.0, detail), settlements=settlements
    )
    ledger.finish_stage(
        StageRun(run, settled, Stage.EVALUATE, NOON, 1.0, {}),
        evaluation=compare_with_base(pairs, run=run, day=settled, seed=3, n_bootstrap=200),
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    plain = {"update.lr": 1e-5, "update.placebo": False}
    fill(
        home,
        ("main", 0.1, plain),
        ("twice", 0.3, plain | {"update.lr": 2e-5}),
        ("new", None, plain | {"update.placebo": True}),
    )
    return home


@pytest.fixture(scope="module")
def config(home):
    layers = (f"home={json.dumps(str(home))}", "evaluate.n_bootstrap=200")
    return load_config(ROOT / "configs" / "embedded.toml", layers)


@pytest.fixture(scope="module")
def found(config):
    return compare_runs(config, ["main", "twice", "new"])


def test_a_run_has_its_own_days_and_figures(found):
    """Catches the figures of the configured run told of all of them."""
    main, twice, _ = found["runs"]
    assert [run["label"] for run in found["runs"]] == ["main", "twice", "new"]
    assert (main["seed"], main["n_days"], main["n_forecasts"], main["n_updates"]) == (3, 9, 36, 0)
    assert (main["first_day"], main["last_day"]) == ("2026-02-01", "2026-02-09")
    # Nine days of a gain that alternates by 0.002.
    assert main["lift"] == pytest.approx(0.1 + 0.002 / 9)
    assert twice["lift"] == pytest.approx(0.3 + 0.002 / 9)
    assert main["lift_low"] < main["lift"] < main["lift_high"]
    assert (main["claim"], main["n_lift_days"]) == ("learned", 9)
    assert main["zeros_frac"] == 0.0 and main["words"] == 6.0
    assert main["reward"] == pytest.approx(0.5 + 0.002 / 9)
    assert main["kl_ref"] is None
    best = main["best_of"]["pooled"]
    assert [row["difference"] for row in best] == pytest.approx([main["lift"]] * 2)
    assert main["best_of"]["word"] == "both"


def test_a_run_without_a_settled_day_has_dashes_and_no_zeros(found):
    """Catches a mean of nothing told as 0, in the facts and in each form."""
    new = found["runs"][2]
    for name in ("quality", "zeros_frac", "leak_frac", "words", "reward", "kl_ref", "lift"):
        assert new[name] is None, name
    assert (new["n_days"], new["claim"], new["is_placebo"]) == (0, "not enough days", True)
    lines = [line for line in render_comparison(found, "md").splitlines() if "(placebo)" in line]
    essay, lift = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert essay[:6] == ["new (placebo)", "3", "—", "—", "—", "0"] and set(essay[6:]) == {"—"}
    assert lift[1:3] == ["—", "—"] and lift[3] == "not enough days" and set(lift[4:]) == {"—"}
    *_, last = csv.DictReader(io.StringIO(render_comparison(found, "csv")))
    assert (last["run"], last["lift"], last["zeros_frac"], last["n_days"]) == ("new", "", "", "0")


def test_the_others_are_compared_with_the_first(found):
    """Catches a difference the wrong way round, and pairs that nobody asked for."""
    twice, new = found["pairs"]
    assert (twice["run"], twice["against"], new["run"]) == ("twice", "main", "new")
    assert twice[CLAIMED]["mean"] == pytest.approx(0.2)
    assert (twice[CLAIMED]["word"], twice[CLAIMED]["n_headlines"]) == ("better", 9)
    assert (new[CLAIMED]["mean"], new[CLAIMED]["n_days"]) == (None, 0)


def test_settings_that_differ_are_named_for_each_run(found):
    """Catches a difference in learning rate that the reader must find for himself."""
    assert found["settings"] == [
        {"key": "update.lr", "values": [1e-5, 2e-5, 1e-5]},
        {"key": "update.placebo", "values": [False, False, True]},
    ]


def test_runs_of_other_homes_are_named_with_their_home(config, tmp_path, found):
    """Catches a run of the same name in another home that is taken for this one's."""
    fill(tmp_path, ("main", 0.0, {}), days=DAYS[:2])
    both = compare_runs(config, ["main", f"{tmp_path}:main"])
    assert [run["label"] for run in both["runs"]] == ["main", f"{tmp_path}:main"]
    assert [run["n_days"] for run in both["runs"]] == [9, 2]
    assert both["pairs"][0][CLAIMED]["mean"] == pytest.approx(-0.1)
    assert both["pairs"][0][CLAIMED]["n_days"] == 2
    assert both["runs"][0] == found["runs"][0]


def test_an_unknown_run_is_refused_with_those_that_there_are(config, tmp_path):
    """Catches an empty column for a name that was misspelt."""
    with pytest.raises(StageError, match=r"no run 'mian' in .*; there are: 'main', 'new', 'twice'"):
        compare_runs(config, ["main", "mian"])
    with pytest.raises(StageError, match="no ledger at"):
        compare_runs(config, [f"{tmp_path}:main"])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="'main' is named twice"):
        compare_runs(config, ["main", "twice", "main"])


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))


def tags(html):
    parser = _Tags()
    parser.feed(html)
    return parser.tags


@pytest.mark.parametrize("hostile", [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</title><svg onload=a()>",
    "| a | b |", "[a](javascript:alert(1))", "line\u2028break\r\n\x00\u202e",
])  # fmt: skip
def test_hostile_names_and_settings_are_only_text(found, hostile):
    """Catches a folder's name, or a setting of a stranger's config, that becomes markup."""
    runs = [run | {"label": hostile} for run in found["runs"]]
    pairs = [pair | {"run": hostile, "against": hostile} for pair in found["pairs"]]
    settings = [{"key": hostile, "values": [hostile] * 3}]
    other = found | {"runs": runs, "pairs": pairs, "settings": settings}
    plain = found | {"settings": [{"key": "a", "values": ["b"] * 3}]}
    assert tags(render_comparison(other, "html")) == tags(render_comparison(plain, "html"))
    for text, expected in ((render_comparison(of, "md") for of in (other, plain)),):
        assert text.count("\n") == expected.count("\n")
    rows = list(csv.DictReader(io.StringIO(render_comparison(other, "csv"))))
    assert [row["label"] for row in rows] == [hostile] * 3


def test_the_page_asks_nobody_for_anything(found):
    """Catches a style, script or picture from elsewhere."""
    html = render_comparison(found, "html")
    assert "default-src 'none'" in html and "http" not in html.replace("http-equiv", "").replace(
        "http%3A//www.w3.org/2000/svg", ""
    )
    assert {tag for tag, _ in tags(html)}.isdisjoint({"script", "img", "iframe", "object", "form"})
    assert all("scope" in names for tag, names in tags(html) if tag == "th")
    assert len(html) < 60_000


def test_as_many_curves_are_drawn_as_can_be_told_apart(found):
    """Catches a fourth line that looks like the first, or an error for a comparison of four."""
    main = found["runs"][0]
    for n, drawn in ((1, 2), (3, 2), (4, 1)):
        runs = [main | {"label": f"run {i}"} for i in range(n)]
        html = render_comparison(found | {"runs": runs, "settings": []}, "html")
        assert html.count("<figure") == drawn


def test_one_run_alone_is_a_table_too(config):
    """Catches a crash on pairs or settings that are not there."""
    alone = compare_runs(config, ["main"])
    assert (alone["pairs"], alone["settings"]) == ([], [])
    for form in FORMATS:
        assert "main" in render_comparison(alone, form)
    assert "no other run" in render_comparison(alone, "md")
    nothing = compare_runs(config, ["new"])
    assert "No run has a lift yet" in render_comparison(nothing, "html")


def varro(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "varro.cli", "compare", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_command_writes_three_files_and_prints_facts(home, tmp_path):
    """Catches a file that is announced and not there, and a `--json` that is none."""
    out = tmp_path / "new" / "out"
    done = varro("main", "twice", "--home", home, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    assert [run["run"] for run in json.loads(done.stdout)["runs"]] == ["main", "twice"]
    assert sorted(file.name for file in out.iterdir()) == [
        "compare.csv", "compare.html", "compare.md",
    ]  # fmt: skip
    printed = varro("main", "--home", home, "--format", "csv")
    assert printed.stdout.splitlines()[0].startswith("label,run,seed")


def test_what_cannot_be_done_is_one_line(home, tmp_path):
    """Catches a traceback, or a file half-written, for a name or a folder that is wrong."""
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for arguments, code, word in (
        (("mian", "--home", home), 7, "there are: 'main'"),
        (("main", "--home", tmp_path), 7, "no ledger at"),
        (("main", "--home", home, "--format", "pdf"), 3, "html, md, csv"),
        (("main", "--home", home, "--out", tmp_path / "file"), 9, "name a folder where no file"),
    ):
        done = varro(*arguments)
        assert done.returncode == code, done.stderr
        assert done.stderr.startswith("varro: ") and done.stderr.count("\n") == 1
        assert word in done.stderr and done.stdout == ""
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
