"""Configuration: typed, frozen, unknown keys refused with a way out."""

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from varro.config import default_config_path, load_config, render_toml
from varro.errors import ConfigError

CONFIGS = Path(__file__).parent.parent / "configs"


def test_both_shipped_configurations_load():
    """Catches a shipped file that no longer fits the model."""
    embedded = load_config(CONFIGS / "embedded.toml")
    live = load_config(CONFIGS / "live.toml")
    assert embedded.news.source == "archive"
    assert live.policy.model == "Qwen/Qwen3-0.6B"
    assert default_config_path().name == "embedded.toml"


def test_paths_are_taken_from_the_files_folder(tmp_path, monkeypatch):
    """Catches paths that depend on where cron happens to start the job."""
    monkeypatch.chdir(tmp_path)
    config = load_config(CONFIGS / "embedded.toml")
    assert config.news.archive == (CONFIGS.parent / "data/sample/world.jsonl.gz").resolve()
    assert config.home == (CONFIGS.parent / "var").resolve()


def test_an_unknown_key_is_refused_with_the_nearest_one():
    """Catches `update.learning_rat` silently doing nothing."""
    with pytest.raises(ConfigError, match=r"'sampling.temprature', did you mean 'sampling.temper"):
        load_config(CONFIGS / "embedded.toml", ("sampling.temprature=1",))
    with pytest.raises(ConfigError, match=r"unknown key 'samplin', did you mean 'sampling'"):
        load_config(CONFIGS / "embedded.toml", ("samplin.temperature=1",))


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("update.lr=-1", "update.lr: .*greater than 0.*-1"),
        ("reward.format_weight=0.5", "must be 1"),
        ("run.name=../x", "run.name"),
        ("sampling.n_forecasts=1", "sampling.n_forecasts"),
        ("reward.kind=plain", "reward.kind: .*'contrast' or 'similarity'.*'plain'"),
        ("reward.min_outcomes=0", "reward.min_outcomes"),
        ("evaluate.n_base_forecasts=1", "evaluate.n_base_forecasts"),
        ("curriculum.uniform_frac=0", "curriculum.uniform_frac: .*greater than 0"),
        ("display.temperature=0.5", "unknown key 'display.temperature'"),
        ("update.lr", "section.key=value"),
        ("update.form=word", "update.form: .*'sequence' or 'token'.*'word'"),
        ("update.kl_day_low=9", "kl_day_low must be below update.kl_day_high"),
        ("guard.kl_redo=9", "guard.kl_redo must not exceed guard.kl_refuse"),
        ("guard.max_length_correlation=1.5", "guard.max_length_correlation"),
        ("news.source=feeds", "news.feeds must name a file"),
        ("news.min_feeds=0", "news.min_feeds: .*greater than or equal to 1"),
        ("news.min_headlines=0", "news.min_headlines"),
        ("news.topics=['sports']", "news.topics.0: .*'sport'.*'sports'"),
        ("news.languages=['English']", "news.languages.0"),
        ("news.rules=[{feed='a'}]", "rule for 'a' has neither include nor exclude"),
        ("news.rules=[{exclud=['a']}]", "news.rules.0.exclud"),
        ("evaluate.placebo_lags=[0, 2]", "the day that is foreseen"),
        ("evaluate.placebo_lags=[5, 3]", "1 <= first <= last"),
    ],
)
def test_bad_values_are_refused_by_name(override, problem):
    """Catches a bad value that surfaces as a traceback in the middle of the night."""
    with pytest.raises(ConfigError, match=problem):
        load_config(CONFIGS / "embedded.toml", (override,))


def test_set_overrides_one_key_and_leaves_its_neighbours():
    """Catches an override that replaces its whole section."""
    before = load_config(CONFIGS / "embedded.toml")
    after = load_config(CONFIGS / "embedded.toml", ("update.lr=1e-6", "run.name=night"))
    assert after.update.lr == 1e-6
    assert after.run.name == "night"
    assert after.update.clip_low == before.update.clip_low


def test_a_preset_fills_what_is_not_given_and_nothing_else():
    """Catches a preset that overrules a number somebody wrote down, or is printed without what it
    stands for."""
    config = load_config(CONFIGS / "live.toml", ("update.preset=paper",))
    assert (config.update.clip_low, config.update.clip_high) == (3e-4, 4e-4)
    assert config.update.steer_clip is False
    shown = tomllib.loads(render_toml(config))["update"]
    assert (shown["clip_low"], shown["clip_high"], shown["steer_clip"]) == (3e-4, 4e-4, False)
    mixed = ("update.preset=paper", "update.clip_high=1e-3", "update.steer_clip=true")
    config = load_config(CONFIGS / "live.toml", mixed).update
    assert (config.clip_low, config.clip_high, config.steer_clip) == (3e-4, 1e-3, True)
    config = load_config(CONFIGS / "live.toml").update
    assert (config.clip_low, config.clip_high, config.steer_clip) == (1.5e-3, 2e-3, True)


def test_the_resolved_configuration_reads_back_the_same(tmp_path):
    """Catches a `config show` that does not say what runs."""
    config = load_config(CONFIGS / "live.toml", ("leash.dead_band=[6.5, 9.5]",))
    file = tmp_path / "resolved.toml"
    file.write_text(render_toml(config))
    assert load_config(file) == config
    assert tomllib.loads(render_toml(config))["leash"]["dead_band"] == [6.5, 9.5]


def test_a_configuration_is_frozen():
    """Catches a stage that edits what the checkpoint will claim it ran with."""
    config = load_config(CONFIGS / "embedded.toml")
    with pytest.raises(ValidationError):
        config.update.lr = 1.0


def test_identity_ignores_where_things_lie_and_nothing_else(tmp_path):
    """Catches a moved home that ends a run, and a changed reward that does not."""
    config = load_config(CONFIGS / "embedded.toml")
    moved = load_config(CONFIGS / "embedded.toml", (f"home={tmp_path}", "run.name=other"))
    assert moved.identity_hash() == config.identity_hash()
    for change in (
        "update.lr=1e-9",
        "update.tis=false",
        "guard.min_spike=9",
        "update.placebo=true",
        "reward.kind=similarity",
        "reward.window_h=24",
        "reward.min_outcomes=9",
        "curriculum.enabled=true",
        "evaluate.n_base_forecasts=2",
        "run.seed=1",
        "sampling.temperature=1",
    ):
        changed = load_config(CONFIGS / "embedded.toml", (change,))
        assert changed.identity_hash() != config.identity_hash(), change


@pytest.mark.parametrize("content", ["[run", "home = 1\n", None])
def test_a_bad_file_is_one_clear_error(tmp_path, content):
    """Catches a traceback for a file that is missing or is not TOML."""
    file = tmp_path / "bad.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=r"bad.toml"):
        load_config(file)


def test_rules_are_printed_as_toml_that_reads_back():
    """Catches tables written as JSON, which TOML is not: the config beside a checkpoint would not
    load again."""
    rules = """news.rules=[{feed='BBC "World"', exclude=['\\bsport\\b', 'é']}, {include=['x']}]"""
    config = load_config(CONFIGS / "embedded.toml", (rules, "news.topics=['war']"))
    assert config.news.rules[0].exclude == (r"\bsport\b", "é")
    text = render_toml(config)
    assert tomllib.loads(text)["news"]["rules"][1] == {"feed": "*", "include": ["x"], "exclude": []}


def test_what_is_taken_in_belongs_to_a_run_and_how_it_is_fetched_does_not():
    """Catches a run whose news is thinned out in its middle, and one that has to be begun anew for
    a slow server."""
    base = load_config(CONFIGS / "live.toml")

    def same(*overrides):
        return load_config(CONFIGS / "live.toml", overrides).identity() == base.identity()

    assert same("news.max_s=60", "news.pause_s=2", "news.timeout_s=5", "news.max_feed_mb=1")
    assert same("news.allow_private=true", "news.keep_bodies_days=0")
    for key in (
        "news.min_feeds=9",
        "news.min_headlines=99",
        "news.max_new_per_feed=5",
        "news.topics=['war']",
        "news.languages=['en']",
        "news.rules=[{exclude=['x']}]",
    ):
        assert not same(key), key


LIVE = ('news.source="feeds"', "news.feeds=feeds.opml")


def test_windows_follow_the_cadence_where_they_are_not_given(configured):
    """Catches a two-hour cycle whose forecasts are settled half a day later, by another policy."""
    daily = configured(*LIVE)
    assert (daily.reward.window_h, daily.reward.min_window_h) == (36, 12)
    short = configured(*LIVE, "schedule.cadence=2h")
    assert (short.reward.window_h, short.reward.min_window_h) == (3, 1)
    mine = configured(*LIVE, "schedule.cadence=2h", "reward.window_h=2.5")
    assert (mine.reward.window_h, mine.reward.min_window_h) == (2.5, 1)


@pytest.mark.parametrize(
    ("cadence", "pace"),
    [("1d", 60), ("2h", 60), ("90m", 30), ("30m", 30), ("10m", 10), ("96m", 12)],
)
def test_the_pace_of_looking_follows_the_cadence(configured, cadence, pace):
    """Catches cycles of half an hour that are looked for every hour: each second one is lost."""
    assert configured(*LIVE, f"schedule.cadence={cadence}").schedule.wake_every_min == pace
    mine = configured(*LIVE, f"schedule.cadence={cadence}", "schedule.wake_every_min=2")
    assert mine.schedule.wake_every_min == 2


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            [*LIVE, "schedule.cadence=30m", "schedule.wake_every_min=60"],
            ["schedule: wake_every_min is 60", "cadence of 30m", "leave it out"],
        ),
        (
            [*LIVE, "schedule.cadence=90m", "schedule.wake_every_min=60"],
            ["does not divide a cadence of 90m"],
        ),
        ([*LIVE, "schedule.cadence=5h"], ["schedule.cadence", "divides it", "'5h'"]),
        ([*LIVE, "schedule.cadence=2d"], ["schedule.cadence", "'2d'"]),
        ([*LIVE, "schedule.cadence=1m"], ["schedule.cadence", "from 10m"]),
        (["schedule.cadence=2h"], ["cycles of an archive", "UTC days"]),
        ([*LIVE, "schedule.zone=Mars/Olympus"], ["schedule.zone", "IANA", "Europe/Berlin"]),
        ([*LIVE, "schedule.zone=../etc/passwd"], ["schedule.zone", "IANA"]),
        ([*LIVE, "schedule.at=25:00"], ["schedule.at"]),
        ([*LIVE, 'schedule.at="06:30:15"'], ["schedule.at", "without seconds"]),
        (
            [*LIVE, "schedule.cadence=2h", "reward.min_window_h=3"],
            ["reward.min_window_h is 3", "cycle of 2 hours", "nothing would ever be trained"],
        ),
        (
            [*LIVE, "schedule.cadence=12h", "reward.window_h=6"],
            ["reward.window_h is 6", "cycle of 12 hours", "never be any evidence"],
        ),
    ],
)
def test_a_schedule_that_can_not_work_is_refused(configured, overrides, words):
    """Catches a service that runs for weeks and can never train."""
    with pytest.raises(ConfigError) as refused:
        configured(*overrides)
    for word in words:
        assert word in str(refused.value)


def test_a_run_may_be_moved_to_another_hour_and_place(configured):
    """Catches a run that can not go on after its owner has moved, or wants to be told by mail."""
    moved = configured("schedule.zone=Asia/Kathmandu", 'schedule.at="05:00"', "alerts.notify=true")
    assert moved.identity() == configured().identity()
