"""Settled days as an environment: split by date, scored as Varro scores, gold where gold is."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
import tomllib
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from conftest import ROOT, ledger_at, small_config

from varro.day.settle import known_outcomes
from varro.domain import Forecast, Group, Role, RunInfo, Stage, StageRun
from varro.errors import ConfigError, PolicyError, StageError
from varro.export.chosen import opened_ledger
from varro.export.split import split_days
from varro.export.taskset import export_taskset, scorer_modules
from varro.ledger.store import open_ledger
from varro.news.archive import load_archive
from varro.policy.prompt import SYSTEM
from varro.reward.score import reward_version
from varro.reward.settle import placebo_seed, settle_groups

sys.path.insert(0, str(ROOT / "scripts"))

from crash_test import WordVectors

FIRST = date(2026, 1, 5)
N_DAYS = 8
ONE = timedelta(days=1)


def clock(n):
    return datetime.combine(FIRST, datetime.min.time(), tzinfo=UTC) + (n + 1) * ONE


def forecast(group_id, k, text):
    return Forecast(
        f"{group_id}-{k}", group_id, k, (1, 2), np.zeros(2, np.float32), text, "stop", k
    )


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    """Configuration of a home in which eight days of the sample world are settled, with forecasts
    by hand."""
    return settle_world(tmp_path_factory.mktemp("settled"), WordVectors())


def settle_world(home, embedder):
    config = small_config(home)
    archive = load_archive(config.news.archive)
    version = reward_version(config.reward)
    with open_ledger(ledger_at(config.home)) as ledger:
        identity = config.identity() | {"reward.version": version}
        ledger.add_run(RunInfo("main", config.run.seed, archive.corpus, "h", identity, "0"))
        waiting: list[Group] = []
        for n in range(N_DAYS):
            day, as_of = str(FIRST + n * ONE), clock(n)
            todays = archive.between(as_of - ONE, as_of)
            ingest = StageRun("main", day, Stage.INGEST, as_of, 1.0, {})
            ledger.finish_stage(ingest, headlines=todays)
            settlements = []
            if waiting:
                outcomes = known_outcomes(
                    ledger, config, archive.corpus, made_at=waiting[0].made_at, as_of=as_of,
                    headlines=[g.headline for g in waiting],
                )  # fmt: skip
                settlements = settle_groups(
                    waiting, outcomes, embedder=embedder, config=config.reward, day=day,
                    seed=placebo_seed(config.run.seed, waiting[0].day),
                )  # fmt: skip
            settle = StageRun("main", day, Stage.SETTLE, as_of, 1.0, {})
            ledger.finish_stage(settle, settlements=settlements)
            waiting = []
            for i, headline in enumerate(todays[:6]):
                name = f"{n}-{i}"
                text = (
                    f"{headline.title.split()[0]} will rise 2% tomorrow, driven by supply news. "
                    "Check the closing report on Friday."
                )
                made = (forecast(name, 0, text), forecast(name, 1, "It could go either way"))
                waiting.append(
                    Group(name, "main", day, Role.TRAIN, headline, 0, as_of, "p", (1,), made)
                )
            made_at = StageRun("main", day, Stage.FORECAST, as_of, 1.0, {})
            ledger.finish_stage(made_at, groups=waiting)
    return config


def export(config, out, **more):
    with opened_ledger(config) as (ledger, run):
        return export_taskset(
            config, ledger, run, out, embedder=more.pop("embedder", WordVectors()),
            eval_frac=more.pop("eval_frac", 0.2),
        )  # fmt: skip


@pytest.fixture(scope="module")
def package(settled, tmp_path_factory):
    """(configuration, folder, its reward module with the embedder of the fixture)"""
    folder = tmp_path_factory.mktemp("package") / "out"
    export(settled, folder)
    # Its own __init__ wants verifiers; the reward stands without.
    (folder / "varro_news/__init__.py").write_text("")
    sys.path.insert(0, str(folder))
    reward = importlib.import_module("varro_news.reward")
    reward._embedder._load = WordVectors
    yield settled, folder, reward
    sys.path.remove(str(folder))
    for name in [n for n in sys.modules if n.split(".")[0] == "varro_news"]:
        del sys.modules[name]


def tasks_of(folder):
    lines = (folder / "varro_news/tasks.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_days_are_split_by_date_with_an_embargo():
    """Catches a training day whose outcomes are headlines of an evaluation day."""
    days = [(str(FIRST + n * ONE), clock(n)) for n in range(10)]
    split = split_days(days, eval_frac=0.2, window=timedelta(hours=36), cycle=ONE)
    # Days 8 and 9 evaluate. Day 8's headlines begin as day 7 ends; outcomes of day 5 reach to the
    # middle of day 7, those of day 6 into day 8.
    assert split.eval == ("2026-01-13", "2026-01-14")
    assert split.train == tuple(str(FIRST + n * ONE) for n in range(6))
    assert split.embargo == ("2026-01-11", "2026-01-12")
    apart = [days[0], days[9]]
    with pytest.raises(StageError, match="2 settled days are too few"):
        split_days(apart, eval_frac=0.2, window=timedelta(hours=1), cycle=ONE)
    for few in ([], days[:1], days[:3]):
        with pytest.raises(StageError, match="too few for a split"):
            split_days(few, eval_frac=0.5, window=timedelta(hours=36), cycle=ONE)


def test_the_package_pays_what_the_ledger_says(package):
    """Catches a reward that was rewritten and drifted: every stored one is computed again from the
    package alone."""
    config, folder, reward = package
    tasks = {task["id"]: task for task in tasks_of(folder)}
    n = 0
    with opened_ledger(config) as (ledger, _):
        for day in range(N_DAYS):
            for settlement, group in ledger.settlements("main", day=str(FIRST + day * ONE)):
                task = tasks.get(group.headline.id)
                if task is None:
                    continue
                text = next(f.text for f in group.forecasts if f.id == settlement.forecast_id)
                found = reward.score(text, task["headline"], task["day"])
                assert found["reward"] == settlement.reward
                assert found["semantic"] == settlement.components["semantic"]
                n += 1
    assert n >= 12
    cut = reward.score("Oil will rise 2% tomorrow, driven by", task["headline"], task["day"])
    assert cut["reward"] == 0.0
    assert reward.as_sampled("\n\n One. \n\n Two.") == "One. "


def test_the_gold_leads_and_what_an_untouched_task_earns_is_nothing(package):
    """Catches a task that cannot be solved, and one that is solved by saying nothing."""
    _, folder, reward = package
    tasks = tasks_of(folder)
    assert {task["split"] for task in tasks} == {"train", "eval"}
    for task in tasks:
        about = task["headline"], task["day"]
        gold = reward.score(task["gold"], *about)
        told = gold["semantic"] / max(gold["gate"], 0.05)
        assert told == pytest.approx(task["gold_semantic"], abs=1e-9)
        assert told > reward.score(reward.NONSENSE, *about)["semantic"]
        assert reward.score("", *about)["reward"] == 0.0
        assert task["system_prompt"] == SYSTEM and task["headline"] in task["prompt"]
    train = max(task["day"] for task in tasks if task["split"] == "train")
    assert train < min(task["day"] for task in tasks if task["split"] == "eval")


def test_no_title_of_an_evaluation_day_settled_a_training_day(package):
    """Catches the leak that an embargo is for."""
    _, folder, reward = package
    days = reward.WORLD["days"]
    tasks = tasks_of(folder)
    asked = {t["headline"] for t in tasks if t["split"] == "eval"}
    told = {
        reward.WORLD["titles"][n]
        for day in {t["day"] for t in tasks if t["split"] == "train"}
        for n in days[day]["outcomes"]
    }
    assert not asked & told


def test_the_package_has_the_form_that_verifiers_wants(settled, tmp_path):
    """Catches a hook of the removed API, a second taskset, and an open range of versions."""
    made = export(settled, tmp_path / "out")
    project = tomllib.loads((tmp_path / "out/pyproject.toml").read_text())["project"]
    assert project["name"] == "varro-news" and project["tags"]
    assert "verifiers>=0.4,<0.5" in project["dependencies"]
    for file in (tmp_path / "out").rglob("*.py"):
        tree = ast.parse(file.read_text())
        names = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        assert "load_environment" not in names
        wanted = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        assert not [m for m in wanted if m and m.startswith("varro.")], file
    said = (tmp_path / "out/README.md").read_text()
    assert f"{made['n_eval']} to evaluate on" in said and "{{" not in said
    assert str(settled.home) not in "".join(
        p.read_text() for p in (tmp_path / "out").rglob("*") if p.is_file()
    )
    assert made["max_difference"] == 0.0 and made["n_checked"] > made["n_eval"]


def test_the_scorer_goes_along_whole_and_alone():
    """Catches a module that is missing in the package, and the ledger or MLX in it."""
    found = scorer_modules()
    assert "varro/reward/score.py" in found and "varro/reward/__init__.py" in found
    assert not [path for path in found if path.startswith(("varro/ledger", "varro/day"))]
    for source in found.values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("varro_news"):
                assert node.module.removeprefix("varro_news.").replace(".", "/") + ".py" in found


def test_another_embedder_or_reward_is_refused_and_leaves_nothing(settled, tmp_path):
    """Catches an environment that pays otherwise than the run it is named after."""

    class Others(WordVectors):
        def encode(self, texts):
            return super().encode([text[::-1] for text in texts])

    with pytest.raises(PolicyError, match=r"earned .* and would now earn"):
        export(settled, tmp_path / "out", embedder=Others())
    other = small_config(settled.home, "reward.format_weight=0.5", "reward.semantic_weight=0.5")
    with pytest.raises(ConfigError, match=r"was settled with reward\.format_weight = 0\.25"):
        export(other, tmp_path / "out")
    with pytest.raises(ConfigError, match="would pay for topics"):
        export(small_config(settled.home, "reward.kind=similarity"), tmp_path / "out")
    with pytest.raises(StageError, match="too few for a split"):
        export(settled, tmp_path / "out", eval_frac=0.9)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_verifiers_validates_every_task(tmp_path, embedder):
    """Catches a package that verifiers does not load, and a gold that does not lead, with the real
    embedder. VARRO_TEST_VERIFIERS names the `bin` of an environment that has what the package
    needs."""
    commands = os.environ.get("VARRO_TEST_VERIFIERS")
    if commands is None:
        pytest.skip("NOT TESTED with verifiers: set VARRO_TEST_VERIFIERS, see docs/exports.md")
    made = export(settle_world(tmp_path / "home", embedder), tmp_path / "pkg", embedder=embedder)
    done = subprocess.run(
        [
            f"{commands}/vf-validate",
            "varro-news",
            "--no-rich",
            "--runtime.type",
            "subprocess",
            "-o",
            str(tmp_path / "found"),
        ],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "pkg")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    (summary,) = (tmp_path / "found").glob("*/summary.json")
    found = json.loads(summary.read_text())
    assert found["outcomes"]["valid"] == found["total"] == made["n_eval"], done.stderr
