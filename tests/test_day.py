"""The whole day, end to end, with real parts: tiny policy, real embedder, real database."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from conftest import copy_home, ledger_at, lend_embedder, of_sqlite, raw_sql, small_config
from sqlalchemy.event import listen, remove

from varro.day import (
    DueDay,
    due_days,
    end_of_day,
    newest_report,
    report_folder,
    run_day,
    write_all_reports,
)
from varro.day.facts import read_history, report_facts
from varro.day.update import _reset_is_due
from varro.domain import EvaluationInfo, Role, Stage, StageRun, UpdateInfo, stable_seed
from varro.errors import ConfigError, FeedError, StageError
from varro.evaluation.evaluate import PARTS
from varro.ledger.place import ledger_path
from varro.policy.checkpoint import load_checkpoint
from varro.policy.load import load_policy
from varro.report.build import build_report
from varro.report.metrics import MEMORY
from varro.report.pages import write_report
from varro.reward.embed import RememberingEmbedder
from varro.run import live_policy, open_run
from varro.service.replay import next_days, replay_days, summarize
from varro.training import guard
from varro.training.advantage import component_advantages, running_moments, within_group_moments
from varro.training.update import update_policy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from bench_report import repeat_days

FIRST = date(2026, 1, 5)
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def day_of(n):
    day = FIRST + timedelta(days=n)
    return DueDay(day.isoformat(), end_of_day(day))


def told_on(row):
    return row["first_seen"][:10]


def opened(config, embedder=None):
    work = open_run(config)
    if embedder is not None:
        lend_embedder(work, embedder)
    return work


def run_days(config, embedder, n):
    with opened(config, embedder) as work:
        for i in range(n):
            run_day(work, day_of(i))
        return summarize(work.ledger, config)


class Heard:
    """A progress that writes down what it is told: of each stage its total, how far it came, and
    its line."""

    def __init__(self):
        self.total, self.came, self.line = {}, {}, {}

    def started(self, day, stage, *, total, unit):
        self.total[stage], self.came[stage] = total, 0

    def advanced(self, n, spared=0):
        self.came[list(self.came)[-1]] += n + spared

    def finished(self, day, stage, *, seconds, summary):
        self.line[stage] = summary


@pytest.fixture(scope="module")
def lineage(tmp_path_factory, embedder):
    """(configuration of a run of three unbroken days, copy of its home after two of them, what was
    told of the third)"""
    config = small_config(tmp_path_factory.mktemp("whole"))
    run_days(config, embedder, 2)
    half = copy_home(config.home, tmp_path_factory.mktemp("half") / "home")
    with opened(config, embedder) as work:
        work.progress = Heard()
        run_day(work, day_of(2))
    return config, half, work.progress


@pytest.fixture
def whole(lineage):
    """The configuration of a run of three unbroken days. Only read from it."""
    return lineage[0]


@pytest.fixture
def half(lineage):
    """The home of that run after two days. Only copy from it."""
    return lineage[1]


def facts(work):
    """Everything the ledger holds of a run, without how long it took."""
    days = sorted({s.day for s in work.ledger.stage_runs(work.name)})
    return {
        "stages": [(s.day, s.stage, s.as_of) for s in work.ledger.stage_runs(work.name)],
        "forecasts": [
            (g.id, f.id, f.token_ids, f.sampler_logprobs.tobytes(), f.text)
            for day in days
            for g in work.ledger.groups(work.name, day=day, roles=list(Role))
            for f in g.forecasts
        ],
        "settlements": [s for day in days for s, _ in work.ledger.settlements(work.name, day=day)],
        "advantages": [
            sorted(map(repr, work.ledger.advantages(work.name, day=day).values())) for day in days
        ],
        "lifts": [
            (e.day, e.lift, e.detail["differences"]) for e in work.ledger.evaluations(work.name)
        ],
    }


def adapter_hashes(home):
    return {
        manifest.parent.name: json.loads(manifest.read_text())["sha256"]["adapters.safetensors"]
        for manifest in sorted((home / "checkpoints").rglob("manifest.json"))
    }


def test_three_days_settle_train_and_report(whole):
    """Catches a stage that is missing, out of order, or runs on nothing."""
    with opened(whole) as work:
        assert [s.stage for s in work.ledger.stage_runs("main")] == list(Stage) * 3
        assert work.ledger.checkpoint("main").version == 2
        assert work.ledger.checkpoint("main", 2).parent == 1
        # 6 training and 3 held-out headlines, 4 forecasts each by the served policy, 2 by the base.
        assert work.ledger.counts("main")["forecasts"] == 3 * (6 + 3) * (4 + 2)
        assert work.ledger.counts("main")["settlements"] == 2 * (6 + 3) * (4 + 2)
    folder = report_folder(whole.home, "main", day_of(2).day)
    report = json.loads((folder / "report.json").read_text())
    assert report["verdict"]["word"].startswith("TRAINED")
    assert report["update"]["from_version"] == 1
    assert report["settled"]["n_forecasts"] == 24
    assert report["best"][0]["reward"] >= report["worst"][0]["reward"]
    assert report["machine"]["blas"]
    for name in ("report.md", "report.html"):
        assert (folder / name).stat().st_size > 1000


def test_every_stage_says_what_it_took_of_memory(whole):
    """Catches a stage without its figures, MLX's peak of the morning passed on to all that follows,
    a cache that is kept from stage to stage, and a report that leaves a stage out."""
    with opened(whole) as work:
        stages = work.ledger.stage_runs("main", day_of(2).day)
    took = {s.stage: s.detail["memory"] for s in stages}
    assert list(took) == list(Stage)
    for memory in took.values():
        assert set(memory) == set(MEMORY)
        assert 0 < memory["rss_gb"] <= memory["peak_rss_gb"] + 0.01
        assert memory["mlx_active_gb"] <= memory["mlx_peak_gb"]
    # Ten steps back and forth through the policy, against a copy of its adapter.
    assert took[Stage.UPDATE]["mlx_peak_gb"] > 2 * took[Stage.PUBLISH]["mlx_peak_gb"]
    assert took[Stage.FORECAST]["mlx_cache_gb"] > took[Stage.REPORT]["mlx_cache_gb"] == 0
    folder = report_folder(whole.home, "main", day_of(2).day)
    report = json.loads((folder / "report.json").read_text())
    assert report["memory"] == {str(s): m for s, m in took.items() if s is not Stage.REPORT}
    line = next(x for x in (folder / "report.md").read_text().splitlines() if "Peak MLX" in x)
    assert f"{took[Stage.UPDATE]['mlx_peak_gb']:.2f}" in line


@pytest.mark.parametrize("stage", [Stage.UPDATE, Stage.FORECAST, Stage.EVALUATE])
def test_a_bar_is_full_when_its_stage_has_ended(lineage, stage):
    """Catches a time left that is never reached: answers that end early, passes that are counted
    twice, or groups that are left out."""
    heard = lineage[2]
    assert heard.came[stage] == heard.total[stage] > 0


def test_sampling_and_training_say_how_fast_they_were(whole, lineage):
    """Catches tokens/s of the sampler or the trainer missing from the line of its stage or from the
    report, in any of its forms."""
    for stage in (Stage.UPDATE, Stage.FORECAST, Stage.EVALUATE):
        assert re.search(r"[1-9]\d* tokens/s", lineage[2].line[stage]), stage
    folder = report_folder(whole.home, "main", day_of(2).day)
    report = json.loads((folder / "report.json").read_text())
    sampler, trainer = (report[part]["tokens_per_s"] for part in ("forecast", "update"))
    for page in ("report.md", "report.html"):
        text = (folder / page).read_text()
        assert f"tokens at {sampler:,.0f} tokens/s" in text
        assert re.search(rf"Tokens per second\W.*\W{trainer:,.0f}\W.*tokens/s", text)


def arrays_of(fed, *names):
    """(N, G) arrays of the groups' stored components, NaN where absent."""
    return [
        np.array([[s.components.get(name, np.nan) for s in g.settlements] for g in fed])
        for name in names
    ]


def test_the_trainer_uses_exactly_what_the_ledger_holds(whole):
    """Catches the original's fault: a reward computed, stored and never trained on. What the ledger
    says the update made of the stored components, it made of them; and the published weights are,
    bit for bit, what those advantages make of the stored forecasts."""
    policy = load_policy(whole.policy, lora_seed=stable_seed(whole.run.seed, "lora"))
    with opened(whole) as work:
        past = []
        for n in (1, 2):
            day = day_of(n).day
            fed = work.ledger.settled_groups("main", day=day, role=Role.TRAIN)
            held = work.ledger.advantages("main", day=day)
            assert len(fed) == 6 and {g.group.policy_version for g in fed} == {n - 1}
            assert held.keys() == {f.id for g in fed for f in g.group.forecasts}
            for settlement in (s for g in fed for s in g.settlements):
                parts = settlement.components
                assert settlement.reward == 0.25 * parts["format"] + 0.75 * parts.get("semantic", 0)
            format_, semantic, valid = arrays_of(fed, "format", "semantic", "valid")
            past.append(within_group_moments(format_, semantic, valid > 0))
            expected = component_advantages(
                format_,
                semantic,
                valid > 0,
                moments=running_moments(past, decay=whole.reward.scale_decay),
                weights=(0.25, 0.75),
            )
            rows = [[held[f.id] for f in g.group.forecasts] for g in fed]
            stored = np.array([[a.advantage for a in row] for row in rows])
            np.testing.assert_array_equal(stored, expected.total)
            assert np.ptp(stored) > 1
            for name in ("format", "semantic"):
                parts = [[a.components[name] for a in row] for row in rows]
                np.testing.assert_array_equal(parts, getattr(expected, name))
            assert not np.isnan(semantic).all()

            parent = work.ledger.checkpoint("main", n - 1)
            state = load_checkpoint(whole.home, policy, path=parent.path, sha256=parent.sha256)
            update_policy(
                policy,
                [g.group for g in fed],
                stored,
                state,
                low_variance=expected.low_variance,
                config=whole.update,
                leash=whole.leash,
                guard=whole.guard,
                temperature=whole.sampling.temperature,
                seed_parts=(whole.run.seed, day),
            )
            made = {name: np.array(a) for name, a in policy.adapter().items()}
            child = work.ledger.checkpoint("main", n)
            load_checkpoint(whole.home, policy, path=child.path, sha256=child.sha256)
            for name, array in policy.adapter().items():
                np.testing.assert_array_equal(np.array(array), made[name])


def test_a_day_run_again_changes_nothing(whole, embedder):
    """Catches a re-run that doubles rows or trains twice."""
    with opened(whole, embedder) as work:
        before = facts(work)
        run_day(work, day_of(2))
        assert facts(work) == before


def test_a_run_stopped_after_every_stage_ends_as_the_unbroken_one(configured, whole, embedder):
    """Catches state that lives in memory between stages or days: same rows, same weights, bit for
    bit, though everything is loaded anew for each stage."""
    config = configured()
    for i in range(3):
        for stage in Stage:
            if stage is not Stage.PUBLISH:
                with opened(config, embedder) as work:
                    run_day(work, day_of(i), only=stage)
    with opened(config) as broken, opened(whole) as unbroken:
        assert facts(broken) == facts(unbroken)
    assert adapter_hashes(config.home) == adapter_hashes(whole.home)
    assert len(adapter_hashes(config.home)) == 3


def test_two_runs_with_one_seed_are_the_same_and_with_another_differ(configured, whole, embedder):
    """Catches randomness outside the seed, a seed that is ignored, and a name that matters."""
    with opened(whole) as work:
        first = summarize(work.ledger, whole)["days"][1]
    same = run_days(configured("run.name=other"), embedder, 2)["days"][1]
    differs = run_days(configured("run.name=third", "run.seed=1"), embedder, 2)["days"][1]
    assert same == first
    assert differs["reward"] != first["reward"]


def test_nothing_first_seen_later_reaches_the_day(tmp_path, configured, embedder):
    """Catches look-ahead: the same day with and without a flood of planted headlines seen one
    second after it must be the same in every forecast, reward and weight."""
    world = configured().news.archive
    lines = gzip.decompress(world.read_bytes()).decode().splitlines()
    planted = [
        json.dumps(
            {
                "title": f"Zyxxgarb quantum walrus {i} foretells everything",
                "source": "The Future",
                "link": f"https://example.org/future/{i}",
                "first_seen": (day_of(1).as_of + timedelta(seconds=1)).isoformat(),
            }
        )
        for i in range(60)
    ]
    homes = {}
    for name, content in (("clean", lines), ("planted", planted + lines)):
        archive = tmp_path / name / "world.jsonl"
        archive.parent.mkdir()
        archive.write_text("\n".join(content))
        config = configured(f"home={tmp_path / name}", f"news.archive={archive}")
        with opened(config, embedder) as work:
            run_day(work, day_of(0))
            run_day(work, day_of(1))
            homes[name] = facts(work), adapter_hashes(config.home)
            assert not any("Zyxxgarb" in h.title for h in work.ledger.headlines_between(
                "world", after=None, until=NOW))  # fmt: skip
    assert homes["clean"] == homes["planted"]
    # The control of this control: one day later the plant is there.
    config = configured(
        f"home={tmp_path / 'planted'}", f"news.archive={tmp_path}/planted/world.jsonl"
    )
    with opened(config, embedder) as work:
        run_day(work, day_of(2))
        assert any("Zyxxgarb" in h.title for h in work.ledger.headlines_between(
            "world", after=None, until=NOW))  # fmt: skip


def test_held_out_headlines_never_train_and_the_base_shares_all_seeds(whole):
    """Catches a control that is not one."""
    with opened(whole) as work:
        for n in (0, 1):
            train, heldout, base = (
                {g.headline.id: g for g in work.ledger.groups("main", day=day_of(n).day, roles=[r])}
                for r in (Role.TRAIN, Role.HELDOUT, Role.BASE)
            )
            assert not train.keys() & heldout.keys()
            assert (len(train), len(heldout)) == (6, 3)
            served = train | heldout
            assert served.keys() == base.keys()
            for headline, group in served.items():
                same, other = group.forecasts[:2], base[headline].forecasts
                assert len(other) == 2
                assert [f.seed for f in same] == [f.seed for f in other]
                assert (group.policy_version, base[headline].policy_version) == (n, 0)
                # Version 0 is the base: its forecasts are the base's, token by token.
                if n == 0:
                    assert [f.token_ids for f in same] == [f.token_ids for f in other]


def test_base_against_base_has_no_lift(configured, embedder):
    """Catches a comparison that is biased by itself: an unmoved policy must score exactly 0."""
    config = configured("update.lr=1e-30", "evaluate.n_base_forecasts=4")
    with opened(config, embedder) as work:
        for i in range(3):
            run_day(work, day_of(i))
        found = work.ledger.evaluations("main")
    assert [(e.day, e.lift, e.n_headlines) for e in found] == [
        (day_of(1).day, 0.0, 9),
        (day_of(2).day, 0.0, 9),
    ]
    for evaluation in found:
        differences = evaluation.detail["differences"]
        assert differences["format"] == differences["reward"] == [0.0] * 9
    assert len(differences["heldout"]) == 3
    assert len(differences["base_against_base"]) == len(differences["echo"]) == 9
    assert max(map(abs, differences["base_against_base"])) > 0
    assert differences["over_day_before"] == [0.0] * 9


def test_the_day_before_and_the_outcomes_are_equally_far(tmp_path, configured, embedder):
    """Catches a measure of what merely goes on that looks at the headlines themselves, or further
    back than the outcomes lie ahead: what is published on the second day was told on the day before
    the first here, so nothing is left."""
    lines = gzip.decompress(configured().news.archive.read_bytes()).decode().splitlines()
    days = {n: [x for x in map(json.loads, lines) if told_on(x) == day_of(n).day] for n in (1, 2)}
    again = [
        row | {"guid": f"again-{row['guid']}", "first_seen": f"{day_of(0).day}T08:00:00Z"}
        for row in days[2]
    ]
    for row in again:
        del row["published"]
    archive = tmp_path / "again.jsonl"
    archive.write_text("\n".join(json.dumps(row) for row in [*again, *days[1], *days[2]]))
    with opened(configured(f"news.archive={archive}"), embedder) as work:
        run_day(work, day_of(1))
        run_day(work, day_of(2))
        found = [s.components for s, _ in work.ledger.settlements("main", day=day_of(2).day)]
    assert found
    assert [parts["over_day_before"] for parts in found] == [0.0] * len(found)
    assert any(parts["even_contrast"] for parts in found)


def test_an_archive_may_grow(tmp_path, configured):
    """Catches news of one's own that ends with what its file held on the first day."""
    lines = gzip.decompress(configured().news.archive.read_bytes()).decode().splitlines()
    archive = tmp_path / "mine.jsonl"
    config = configured(f"news.archive={archive}")
    for n in (1, 2):
        told = {day_of(i).day for i in range(n)}
        archive.write_text("\n".join(x for x in lines if told_on(json.loads(x)) in told))
        with opened(config) as work:
            due = due_days(work, NOW)
            assert [d.day for d in due] == [day_of(n - 1).day]
            work.ledger.add_run(work.info)
            for stage in Stage:
                work.ledger.finish_stage(StageRun("main", due[0].day, stage, due[0].as_of, 1.0, {}))


def test_an_empty_day_is_refused_and_leaves_nothing(configured, embedder):
    """Catches a day that trains on silence."""
    config = configured()
    with opened(config, embedder) as work:
        with pytest.raises(FeedError, match=r"no new headline on 2025-12-24 in 'world'"):
            run_day(work, DueDay("2025-12-24", end_of_day(date(2025, 12, 24))))
        assert work.ledger.stage_runs("main") == []
        assert work.ledger.runs() == []
        with pytest.raises(FeedError, match="no headline first seen from 2025-12-24 to 2025-12-24"):
            replay_days(work, first=date(2025, 12, 24), last=date(2025, 12, 24))


def test_forecasts_without_outcomes_are_void_and_not_zero(tmp_path, configured, embedder):
    """Catches silence read as failure: after a hole in the news nothing is settled as 0."""
    lines = gzip.decompress(configured().news.archive.read_bytes()).decode().splitlines()
    hole = {(FIRST + timedelta(days=n)).isoformat() for n in (1, 2)}
    archive = tmp_path / "holes.jsonl"
    archive.write_text("\n".join(x for x in lines if json.loads(x)["first_seen"][:10] not in hole))
    config = configured(f"news.archive={archive}")
    with opened(config, embedder) as work:
        assert replay_days(work, first=FIRST, last=FIRST + timedelta(days=4)) == sorted(hole)
        settled = work.ledger.settlements("main", day=day_of(3).day)
        assert {s.void_reason for s, _ in settled} == {"no evidence"}
        assert {s.reward for s, _ in settled} == {None}
        assert work.ledger.update("main", day_of(3).day) is None
        assert work.ledger.update("main", day_of(4).day) is not None
        path = report_folder(config.home, "main", day_of(3).day) / "report.json"
        assert json.loads(path.read_text())["verdict"]["word"] == "NO UPDATE"


def test_a_refused_day_is_void_with_its_reason_and_later_days_go_on(tmp_path, configured, embedder):
    """Catches a guard that is computed and not obeyed, and one that stops the run for good."""
    lines = gzip.decompress(configured().news.archive.read_bytes()).decode().splitlines()
    short = [x for x in lines if json.loads(x)["first_seen"][:10] == day_of(1).day]
    archive = tmp_path / "short.jsonl"
    archive.write_text("\n".join(x for x in lines if x not in short[5:]))
    config = configured(f"news.archive={archive}", "reward.window_h=24", "news.min_headlines=1")
    reason = "5 outcomes, 10 are needed"
    with opened(config, embedder) as work:
        for n in range(3):
            run_day(work, day_of(n))
        refused = [s for s, _ in work.ledger.settlements("main", day=day_of(1).day)]
        assert len(refused) == (6 + 3) * (4 + 2)
        assert {(s.reward, s.void_reason) for s in refused} == {(None, f"refused: {reason}")}
        settle, update = (
            work.ledger.stage_run("main", day_of(1).day, stage).detail
            for stage in (Stage.SETTLE, Stage.UPDATE)
        )
        assert settle["refused"] == {day_of(0).day: reason}
        assert (settle["n_settled"], settle["n_void"]) == (0, len(refused))
        assert update["reason"] == f"{day_of(0).day} was refused: {reason}"
        assert work.ledger.update("main", day_of(1).day) is None
        assert work.ledger.advantages("main", day=day_of(1).day) == {}
        # The next day trains version 0 on what that version forecast on the short day alone.
        assert work.ledger.update("main", day_of(2).day).from_version == 0
        later = work.ledger.settlements("main", day=day_of(2).day)
        assert {(g.day, s.void_reason) for s, g in later} == {(day_of(1).day, None)}
    path = report_folder(config.home, "main", day_of(1).day) / "report.json"
    assert json.loads(path.read_text())["verdict"]["reason"] == "day guard"


class Blurred:
    """An embedder to which all texts mean nearly the same."""

    def encode(self, texts):
        seeds = [stable_seed("blurred", text) for text in texts]
        noise = np.array([np.random.default_rng(seed).normal(size=8) for seed in seeds])
        vectors = np.float32(np.ones(8) + 0.1 * noise)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_day_whose_canaries_are_out_of_order_does_not_train_and_says_so(tmp_path, half):
    """Catches a broken scorer whose rewards go on teaching, because each looks like a reward."""
    config = small_config(copy_home(half, tmp_path / "home"))
    with opened(config) as work:
        work.embedder = RememberingEmbedder(Blurred, "blurred")
        run_day(work, day_of(2))
        day = day_of(2).day
        canaries = work.ledger.stage_run("main", day, Stage.SETTLE).detail["canaries"]
        assert {"opposite", "stranger"} <= set(canaries["broken"].split(", "))
        update = work.ledger.stage_run("main", day, Stage.UPDATE).detail
        assert update["updated"] is False
        assert update["reason"] == (
            f"the canaries are out of order: exact is not above {canaries['broken']}"
        )
        # What was settled stays, and nothing is learned from it.
        assert len(work.ledger.settled_groups("main", day=day, role=Role.TRAIN)) == 6
        assert work.ledger.update("main", day) is None
        assert work.ledger.advantages("main", day=day) == {}
        assert work.ledger.checkpoint("main").version == 1
        made = work.ledger.groups("main", day=day, roles=[Role.TRAIN])
        assert {g.policy_version for g in made} == {1}
    path = report_folder(config.home, "main", day) / "report.json"
    assert json.loads(path.read_text())["verdict"]["reason"] == "canaries out of order"


def test_a_refused_update_leaves_the_parent_and_is_remembered(configured, embedder):
    """Catches a guard whose steering is lost with the process: the next night would make the same
    mistake; and a refusal that reads like a day without data."""
    config = configured("guard.kl_redo=1e-9", "guard.kl_refuse=1e-9", "sampling.max_tokens=40")
    day = day_of(1).day
    with opened(config, embedder) as work:
        run_day(work, day_of(0))
        before = {name: np.array(a) for name, a in work.policy.adapter().items()}
        run_day(work, day_of(1))
        for name, array in work.policy.adapter().items():
            np.testing.assert_array_equal(np.array(array), before[name])
        assert work.ledger.checkpoint("main").version == 0
        detail = work.ledger.stage_run("main", day, Stage.UPDATE).detail
        assert detail["reason"].startswith("refused: KL of the update")
        assert detail["trainer_next"]["lr_scale"] == 0.5
        remembered = work.trainer
    with opened(config, embedder) as work:
        live_policy(work)
        assert work.trainer == remembered
    report = json.loads((report_folder(config.home, "main", day) / "report.json").read_text())
    assert report["verdict"]["reason"] == "training guard"
    assert report["guard"][-1].startswith("refuse: KL of the update")
    assert "training guard" in [alarm["name"] for alarm in report["alarms"]]


def test_a_policy_that_would_write_otherwise_is_not_published(configured, embedder, monkeypatch):
    """Catches a gate that looks at the parent twice, at headlines that train, or leaves the trained
    weights live: whatever differs is too much here, and everything must be as before the update."""
    monkeypatch.setattr(guard, "MIN_FORECASTS", 1)
    config = configured("guard.max_drift=1e-9", "sampling.max_tokens=40", "guard.max_format_fall=1")
    day = day_of(1).day
    with opened(config, embedder) as work:
        run_day(work, day_of(0))
        before = {name: np.array(a) for name, a in work.policy.adapter().items()}
        n_heldout = len(work.ledger.groups("main", day=day_of(0).day, roles=[Role.HELDOUT]))
        run_day(work, day_of(1))
        for name, array in work.policy.adapter().items():
            np.testing.assert_array_equal(np.array(array), before[name])
        assert work.ledger.checkpoint("main").version == 0
        assert work.ledger.update("main", day) is None
        detail = work.ledger.stage_run("main", day, Stage.UPDATE).detail
    assert n_heldout
    assert "drifts on held-out headlines: valid " in detail["reason"]
    assert detail["trainer_next"]["lr_scale"] == 0.5
    report = json.loads((report_folder(config.home, "main", day) / "report.json").read_text())
    assert report["verdict"]["reason"] == "training guard"
    assert [line.split(":")[0] for line in report["guard"]][-2:] == ["accept", "refuse"]


def test_the_reference_is_reset_by_the_ledgers_own_record(configured):
    """Catches a rule that looks at other days than the run's own, or at an unproven policy: seven
    updates beyond the dead band, and a lift on each day that no chance explains."""
    home = configured().home
    names = (*PARTS, "base_against_base", "heldout", "echo", "template")

    def due(lift, kl_refs, *, name):
        with open_run(configured(f"home={home / name}")) as work:
            live_policy(work)
            work.ledger.add_run(work.info)
            for n, kl_ref in enumerate(kl_refs[:-1]):
                day = day_of(n)
                values = {part: [0.0, 0.0, 0.0] for part in names}
                values["even_contrast"] = [lift, lift + 0.001 * n, lift - 0.001]
                detail = {"differences": values}
                evaluation = EvaluationInfo("main", day.day, 3, lift, None, None, detail)
                row = StageRun("main", day.day, Stage.UPDATE, day.as_of, 0.0, {"updated": True})
                update = UpdateInfo("main", day.day, n, n + 1, {"kl_ref": kl_ref})
                work.ledger.finish_stage(row, update=update, evaluation=evaluation)
            today = {"kl_ref": kl_refs[-1]}
            return _reset_is_due(work, day_of(len(kl_refs) - 1), today)

    far = [9.5] * 10
    assert due(0.05, far, name="proven")
    assert not due(0.0, far, name="unproven")
    assert not due(0.05, [*far[:-3], 8.0, 9.5, 9.5], name="near")
    assert not due(0.05, [*far[:-1], 8.0], name="today")


def test_canaries_in_order_are_stored_and_let_the_day_train(whole):
    """Catches a control of the scorer that is never run, or that a sound day does not pass."""
    with opened(whole) as work:
        details = [
            work.ledger.stage_run("main", day_of(n).day, Stage.SETTLE).detail for n in range(3)
        ]
    # Nothing is settled on the first day; on the second no other day's forecast is a stranger yet.
    assert details[0]["canaries"] is None
    for detail in details[1:]:
        means = detail["canaries"]["means"]
        assert detail["canaries"]["broken"] is None
        assert all(means["exact"] > value for kind, value in means.items() if kind != "exact")


def test_days_settled_together_are_all_checked(configured, embedder):
    """Catches canaries and rivals of the last of several days that stand for all of them."""
    config = configured("sampling.max_tokens=24")
    clocks = [(14, 23), (15, 7), (16, 7)]  # the second comes too soon after the first to settle it
    with opened(config, embedder) as work:
        for day, hour in clocks:
            as_of = datetime(2026, 1, day, hour, tzinfo=UTC)
            run_day(work, DueDay(as_of.date().isoformat(), as_of))
        settled = work.ledger.settlements("main", day="2026-01-16")
        assert {g.day for _, g in settled} == {"2026-01-14", "2026-01-15"}
        detail = work.ledger.stage_run("main", "2026-01-16", Stage.SETTLE).detail
    resolved = {g.headline.id for s, g in settled if "contrast" in s.components}
    assert len(resolved) > 9
    assert detail["rivals"]["echo"].keys() == detail["rivals"]["template"].keys() == resolved
    assert detail["canaries"]["broken"] is None


def test_the_placebo_run_learns_from_the_same_rewards_dealt_out_at_random(
    configured, whole, embedder
):
    """Catches a placebo that trains on the true rewards, or mixes them between groups: then it
    would differ from the run in more than in what it can learn."""
    config = configured("update.placebo=true")
    run_days(config, embedder, 2)
    day = day_of(1).day
    with opened(config) as work, opened(whole) as true:
        fed = work.ledger.settled_groups("main", day=day, role=Role.TRAIN)
        same = true.ledger.settled_groups("main", day=day, role=Role.TRAIN)
        assert [g.settlements for g in fed] == [g.settlements for g in same]
        dealt, held = (w.ledger.advantages("main", day=day) for w in (work, true))
    ids = [[f.id for f in g.group.forecasts] for g in fed]
    found, earned = (
        np.array([[a[i].advantage for i in row] for row in ids]) for a in (dealt, held)
    )
    np.testing.assert_allclose(np.sort(found), np.sort(earned), atol=1e-9)
    moved = [not np.allclose(a, b) for a, b in zip(found, earned, strict=True)]
    assert np.mean(moved) >= 0.5
    hashes, others = adapter_hashes(config.home), adapter_hashes(whole.home)
    assert hashes["v00000"] == others["v00000"]
    assert hashes["v00001"] != others["v00001"]


def test_a_text_is_encoded_once_in_the_life_of_a_ledger(configured, embedder):
    """Catches a settle stage that pays for outcomes and placebo days again every day, and a store
    that belongs to one run."""
    config = configured()
    with opened(config, embedder) as work:
        for n in range(2):
            run_day(work, day_of(n))
        first = work.embedder.n_encoded
    rows = raw_sql(ledger_at(config.home), "SELECT count(*) FROM embeddings")
    assert rows == [(first,)]
    # Another run with the same seed makes the same forecasts and settles them on the same news.
    other = configured("run.name=other")
    with opened(other, embedder) as work:
        for n in range(2):
            run_day(work, day_of(n))
        assert len(work.ledger.settlements("other", day=day_of(1).day)) == (6 + 3) * (4 + 2)
        assert work.embedder.n_encoded == 0
    assert first > 48


def test_the_curriculum_chooses_among_all_that_is_not_held_out(configured, embedder):
    """Catches a curriculum that trains on held-out headlines or on more than the budget, that goes
    by what the day's own outcomes will be, or chooses otherwise when it is asked again."""
    chosen = {}
    for name in ("one", "two", "plain"):
        config = configured(
            f"run.name={name}",
            f"curriculum.enabled={str(name != 'plain').lower()}",
            "sampling.max_tokens=24",
            "evaluate.placebo_lags=[2, 2]",
        )
        with opened(config, embedder) as work:
            for n in range(3):
                run_day(work, day_of(n))
            chosen[name] = [
                {
                    role: [
                        g.headline.id
                        for g in work.ledger.groups(name, day=day_of(n).day, roles=[role])
                    ]
                    for role in (Role.TRAIN, Role.HELDOUT)
                }
                for n in range(3)
            ]
            # The last day's choice had spreads to go by.
            assert work.ledger.stage_run(name, day_of(2).day, Stage.SETTLE).detail["buckets"]
    assert chosen["one"] == chosen["two"]
    for day, plain in zip(chosen["one"], chosen["plain"], strict=True):
        assert (len(set(day[Role.TRAIN])), len(day[Role.HELDOUT])) == (6, 3)
        assert day[Role.HELDOUT] == plain[Role.HELDOUT]
        assert not set(day[Role.TRAIN]) & set(day[Role.HELDOUT])
        assert day[Role.TRAIN] != plain[Role.TRAIN]


def test_skipped_days_are_outcomes_all_the_same(configured, embedder):
    """Catches evidence that the archive holds and the ledger never saw."""
    with opened(configured(), embedder) as work:
        run_day(work, day_of(0))
        run_day(work, day_of(2))
        settled = work.ledger.settlements("main", day=day_of(2).day)
        assert settled and all(s.reward is not None for s, _ in settled)
        outcome_days = {
            work.ledger.headline(s.outcome_id).first_seen.date().isoformat() for s, _ in settled
        }
        assert day_of(1).day in outcome_days


def test_days_are_never_run_out_of_order(whole, configured, embedder):
    """Catches look-ahead by a policy that trained on Thursday and then forecasts Monday."""
    with opened(whole) as work, pytest.raises(StageError, match="comes before 2026-01-07"):
        run_day(work, DueDay("2026-01-04", end_of_day(date(2026, 1, 4))))
    with opened(configured(), embedder) as work:
        for stage in (Stage.INGEST, Stage.SETTLE):
            run_day(work, day_of(0), only=stage)
        with pytest.raises(StageError, match=r"2026-01-05 .* not finished; finish it first"):
            run_day(work, day_of(1))


def test_a_run_is_held_by_one_process_at_a_time(whole):
    """Catches two overlapping jobs that publish over each other's checkpoints."""
    with opened(whole), pytest.raises(StageError, match="another varro is at work on this run"):
        open_run(whole)
    opened(whole).__exit__()


def test_a_young_forecast_waits_for_its_evidence(configured, embedder):
    """Catches a day settled on the quarter of an hour between two runs around midnight."""
    with opened(configured("reward.min_window_h=30"), embedder) as work:
        run_day(work, day_of(0))
        run_day(work, day_of(1))
        assert work.ledger.settlements("main", day=day_of(1).day) == []
        detail = work.ledger.stage_run("main", day_of(1).day, Stage.SETTLE).detail
        assert detail["n_pending_groups"] == 6 + 3 + 9
        assert detail["n_void"] == 0


def test_a_report_made_again_is_the_same(whole):
    """Catches a re-rendered report with another day's checkpoint, or without its machine."""
    from varro.day import write_day_report

    path = report_folder(whole.home, "main", day_of(1).day) / "report.json"
    before = json.loads(path.read_text())
    with opened(whole) as work:
        write_day_report(work, day_of(1).day)
    after = json.loads(path.read_text())
    assert after["checkpoint"]["version"] == 1
    assert after["machine"] == before["machine"] and after["machine"]["device"]
    assert after == before


class Confused:
    """An embedder that ends what asks it."""

    def encode(self, texts):
        raise RuntimeError("<b>no vectors</b> today")


def test_a_day_that_a_stage_ended_has_a_page_until_it_is_run_again(tmp_path, half, embedder):
    """Catches a failed night that shows yesterday's page, one whose failure stays after it was run,
    and a failure that reaches the ledger."""
    config = small_config(copy_home(half, tmp_path / "home"))
    day, folder = day_of(2).day, config.home / "reports" / "main"
    with opened(config) as work:
        work.embedder = RememberingEmbedder(Confused, "confused")
        with pytest.raises(StageError, match="stage settle of 2026-01-07 failed: RuntimeError"):
            run_day(work, day_of(2))
        assert work.ledger.days_done("main") == [day_of(0).day, day_of(1).day]
    report = json.loads((folder / day / "report.json").read_text())
    assert (report["verdict"]["word"], report["verdict"]["reason"]) == ("FAILED", "settle")
    assert list(report["timings"]) == ["ingest"]
    page = (folder / "latest.html").read_text()
    assert "<title>✗ FAILED (settle)" in page and "&lt;b&gt;no vectors&lt;/b&gt; today" in page
    assert "varro train-day --run main" in page
    assert "FAILED (settle)" in newest_report(config, as_json=False)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["word"] for line in lines][-1] == "FAILED"
    with opened(config, embedder) as work:
        run_day(work, day_of(2))
    assert "FAILED" not in (folder / day / "report.html").read_text()
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3


def test_all_reports_are_written_again_from_the_ledger(tmp_path, whole):
    """Catches a report that needs the files it is, or that --all and --day write differently."""
    config = small_config(copy_home(whole.home, tmp_path / "home"))
    folder = config.home / "reports" / "main"
    before = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    shutil.rmtree(folder)
    with opened(config) as work:
        assert write_all_reports(work) == (3, folder / "index.html")
    after = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    home, copy = str(whole.home).encode(), str(config.home).encode()
    assert {n: c.replace(copy, home) for n, c in after.items()} == before


@of_sqlite
def test_a_day_s_report_costs_the_same_after_three_months_as_after_one(tmp_path, whole):
    """Catches a report that goes through all days before it, headline by headline: a year of them
    would take the square of the time."""
    config = small_config(copy_home(whole.home, tmp_path / "home"))
    repeat_days(ledger_path(config.home), "main", 108)
    with opened(config) as work:
        days = work.ledger.days_done("main")
        history = read_history(work, until=days[-1])

        def cost(day):
            """SQL statements, and calls of functions."""
            calls, statements = [0], []

            def count(_frame, event, _argument):
                calls[0] += event in ("call", "c_call")

            def keep(*given):
                statements.append(given[2])

            listen(work.ledger._engine, "before_cursor_execute", keep)
            sys.setprofile(count)
            try:
                facts = report_facts(work, day, history)
                write_report(tmp_path / day, build_report(facts), facts.pages)
            finally:
                sys.setprofile(None)
                remove(work.ledger._engine, "before_cursor_execute", keep)
            return len(statements), calls[0]

        cost(days[-1])  # imports, templates
        (early_asked, early), (late_asked, late) = cost(days[35]), cost(days[107])
    assert late_asked == early_asked
    assert late < early * 1.03


def test_a_changed_configuration_is_refused_by_name(whole):
    """Catches a run whose numbers mean one thing before Tuesday and another after."""
    with pytest.raises(ConfigError, match=r"update.lr = 0.002, now 1e-05: put it back, or begin"):
        open_run(small_config(whole.home, "update.lr=1e-5"))
    with opened(small_config(whole.home, "report.n_examples=2")):
        pass


def test_a_stage_out_of_order_is_refused(configured, embedder):
    """Catches forecasts made before the day's update."""
    with (
        opened(configured(), embedder) as work,
        pytest.raises(StageError, match="stage forecast of 2026-01-05 needs ingest first"),
    ):
        run_day(work, day_of(0), only=Stage.FORECAST)


def test_the_first_call_runs_two_days_and_then_one(configured):
    """Catches a first evening with nothing to read."""
    with opened(configured()) as work:
        due = due_days(work, NOW)
        assert [d.day for d in next_days(work, due)] == ["2026-01-05", "2026-01-06"]
        assert len(due) == 28
        assert due[0].as_of == datetime(2026, 1, 6, tzinfo=UTC)
        run_day(work, due[0], only=Stage.INGEST)
        assert [d.day for d in next_days(work, due_days(work, NOW))] == ["2026-01-05"]


def test_the_summary_has_what_a_script_reads(whole):
    """Catches a renamed key: scripts read `replay --json`."""
    with opened(whole) as work:
        summary = summarize(work.ledger, whole)
    keys = {"lift", "lift_low", "lift_high", "reward", "kl_ref", "clip_frac", "n_headlines"}
    assert len(summary["days"]) == 3
    for row in (*summary["days"], summary["total"]):
        assert keys <= row.keys()
    assert summary["days"][0]["reward"] is None
    assert all(0 < row["reward"] < 1 for row in summary["days"][1:])
    assert [row["updated"] for row in summary["days"]] == [False, True, True]
    last = summary["days"][2]
    assert last["lift_low"] <= last["lift"] <= last["lift_high"]
    assert summary["total"]["n_updates"] == 2
    assert summary["total"]["claim"] == "not enough days"
    assert {"shuffled", "base_against_base", "echo"} <= summary["total"]["controls"].keys()
    assert [row["n_compared"] for row in summary["days"]] == [0, 9, 9]
    assert [row["semantic"] is None for row in summary["days"]] == [True, False, False]
    assert [row["share_semantic"] is None for row in summary["days"]] == [True, False, False]
    assert summary["days"][2]["canaries"]["exact"] > 0
    assert summary["days"][2]["refused"] == {}
