"""Tests of the reward of one's own: a function in a file, in the place of the contrast."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

import pytest
from conftest import ROOT, lend_embedder, small_config

from varro.config import RewardConfig, load_config
from varro.day import DueDay, end_of_day, run_day
from varro.errors import ConfigError, StageError
from varro.reward.score import News, reward_version, score_texts
from varro.run import open_run

BREVITY = """
def brevity(forecasts, **facts):
    return [min(1.0, 20 / max(1, len(text.split()))) for text in forecasts]

def by_contrast(components, **facts):
    return [max(0.0, c["even_contrast"]) if "even_contrast" in c else None for c in components]

def shown(forecasts, headlines, outcomes, components, made_on):
    assert len(forecasts) == len(headlines) == len(components) == 2
    assert outcomes == ["Oil prices rise 2% as OPEC cuts output"] and made_on is None
    assert components[0]["words"] > 8 and "object" in components[0]
    return [1, None]

def fails(**facts):
    raise KeyError("news")

def short(forecasts, **facts):
    return [0.5] * (len(forecasts) - 1)

def large(forecasts, **facts):
    return [1.5 for _ in forecasts]

def lost(forecasts, **facts):
    return [float("nan") for _ in forecasts]

number = 3
"""
NEWS = News(
    ("Oil traders await OPEC decision on output",),
    ("Oil prices rise 2% as OPEC cuts output",),
    (),
)
TEXTS = (
    "Oil will rise by 2% by Friday, driven by lower output from OPEC. Check the Brent close.",
    "Oil will fall by 1% by Friday, driven by weaker demand from China. Check the Brent close.",
)


@pytest.fixture
def rewards(tmp_path):
    file = tmp_path / "rewards.py"
    file.write_text(BREVITY)
    return lambda name: RewardConfig(kind=f"{file}:{name}")


@pytest.fixture
def score(embedder, rewards):
    def scored(name, texts=TEXTS):
        return score_texts(
            texts, [0] * len(texts), NEWS, embedder=embedder, config=rewards(name), seed=0
        )

    return scored


def test_the_function_takes_the_place_of_the_semantic_part(score):
    """Catches a reward that is loaded and not paid, one that loses the format, and one that pays a
    text that is invalid."""
    for text, found in zip(TEXTS, score("brevity"), strict=True):
        assert found.components["semantic"] == min(1.0, 20 / len(text.split()))
        assert found.reward == pytest.approx(
            0.25 * found.components["format"] + 0.75 * found.components["semantic"]
        )
        assert found.components["format"] > 0.5
    (cut,) = score("brevity", ("Rates fall.",))
    assert cut.invalid == "too short" and cut.reward == 0.0


def test_what_it_can_not_score_is_absent(score):
    """Catches a None that is paid as 0, and facts that the function is promised and not given."""
    first, second = score("shown")
    assert first.components["semantic"] == 1.0 and "semantic" not in second.components
    assert all("semantic" not in found.components for found in score("by_contrast"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fails", r"rewards.py:fails failed on 2 forecasts: KeyError\('news'\)"),
        ("short", "rewards.py:short returned 1 rewards for 2 forecasts"),
        ("large", "rewards.py:large gave 1.5 to 'Oil will rise"),
        ("lost", "rewards.py:lost gave nan to"),
    ],
)
def test_a_function_that_fails_is_named(score, name, words):
    """Catches a traceback without the function, and a reward that is no number in [0, 1]."""
    with pytest.raises(StageError, match=words):
        score(name)


def test_another_file_is_another_reward(rewards, tmp_path):
    """Catches rewards of two functions, or of two states of one, under the same name."""
    before = reward_version(rewards("brevity"))
    assert before != reward_version(rewards("large")) != reward_version(RewardConfig())
    assert before.startswith("own-brevity@")
    file = tmp_path / "rewards.py"
    file.write_text(BREVITY.replace("20 /", "30 /"))
    assert reward_version(rewards("brevity")) != before


def test_a_file_that_can_not_be_used_is_refused(rewards, tmp_path):
    """Catches a day that begins with a reward that it can not pay in the end."""
    for name in ("absent", "number"):
        with pytest.raises(ConfigError, match=f"rewards.py has no function '{name}'"):
            reward_version(rewards(name))
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere.py"):
        reward_version(RewardConfig(kind=f"{tmp_path / 'nowhere.py'}:f"))
    (tmp_path / "broken.py").write_text("def f(:")
    with pytest.raises(ConfigError, match=r"broken.py can not be run: SyntaxError"):
        reward_version(RewardConfig(kind=f"{tmp_path / 'broken.py'}:f"))
    # A script that ends itself would end the day without a word, and with success.
    (tmp_path / "script.py").write_text("raise SystemExit(0)")
    with pytest.raises(ConfigError, match=r"script.py can not be run: SystemExit\(0\)"):
        reward_version(RewardConfig(kind=f"{tmp_path / 'script.py'}:f"))


def test_it_is_found_beside_the_configuration_and_may_be_moved(rewards, tmp_path, monkeypatch):
    """Catches a path that is taken from wherever the command is called, and a run that can not go
    on when its folder has moved."""
    rewards("brevity")
    source = small_config(tmp_path / "home")
    here = tmp_path / "mine.toml"
    here.write_text('[reward]\nkind = "rewards.py:brevity"\n' + _required(source))
    monkeypatch.chdir("/")
    found = load_config(here)
    assert found.reward.kind == f"{tmp_path.resolve()}/rewards.py:brevity"
    assert found.identity()["reward.kind"] == "rewards.py:brevity"
    with pytest.raises(ConfigError, match=re.escape("or FILE.py:FUNCTION")):
        load_config(here, ("reward.kind=rewards.py",))


def _required(config):
    return f'[news]\narchive = "{config.news.archive}"\n[policy]\nmodel = "{config.policy.model}"\n'


def test_days_are_trained_on_it(rewards, tmp_path, embedder):
    """Catches a reward of one's own that a day settles with, and does not train on."""
    config = small_config(tmp_path / "home", f"reward.kind={rewards('brevity').kind}")
    with open_run(config) as work:
        lend_embedder(work, embedder)
        for n in range(3):
            day = date(2026, 1, 5 + n)
            run_day(work, DueDay(day.isoformat(), end_of_day(day)))
        paid = [s for s, _ in work.ledger.settlements("main", day="2026-01-07")]
        versions = [c.version for c in work.ledger.checkpoints("main")]
    assert paid and {s.reward_version.partition("@")[0] for s in paid} == {"own-brevity"}
    valid = [s.components for s in paid if s.components["valid"]]
    assert valid and all(
        c["semantic"] == pytest.approx(min(1.0, 20 / c["words"]), abs=0.1) for c in valid
    )
    assert versions == [0, 1, 2]


def test_the_documented_reward_can_be_paid(tmp_path, embedder):
    """Catches an example that nobody has run."""
    (code,) = re.findall(
        r"```python\n# rewards.py\n(.*?)```",
        (ROOT / "docs" / "extending.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
    (tmp_path / "rewards.py").write_text(code)
    news = replace(NEWS, placebo_days=(("Wheat growers watch the drought in Kansas",) * 3,))
    config = RewardConfig(kind=f"{tmp_path}/rewards.py:dated")
    found = score_texts(TEXTS, [0, 0], news, embedder=embedder, config=config, seed=0)
    for one in found:
        parts = one.components
        assert parts["semantic"] == pytest.approx(
            max(0.0, parts["even_contrast"]) * parts["timeframe"]
        )
    assert found[0].components["semantic"] > 0
