"""The whole day, end to end, with real parts: tiny policy, real embedder, real database."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, date, datetime, timedelta

import pytest
from conftest import small_config

from varro.day import DueDay, due_days, end_of_day, open_run, report_folder, run_day
from varro.domain import Role, Stage
from varro.errors import ConfigError, FeedError, StageError
from varro.service.replay import next_days, replay_days, summarize

FIRST = date(2026, 1, 5)
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def day_of(n):
    day = FIRST + timedelta(days=n)
    return DueDay(day.isoformat(), end_of_day(day))


def opened(config, embedder=None):
    work = open_run(config)
    work.embedder = embedder
    return work


def run_days(config, embedder, n):
    with opened(config, embedder) as work:
        for i in range(n):
            run_day(work, day_of(i))
        return summarize(work.ledger, config)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, embedder):
    """The configuration of a run of three unbroken days. Only read from it."""
    config = small_config(tmp_path_factory.mktemp("whole"))
    run_days(config, embedder, 3)
    return config


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
        "lifts": [(e.day, e.lift) for e in work.ledger.evaluations(work.name)],
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
        # 6 training and 3 held-out headlines by the served policy, 3 by the base, ×4; 1 display.
        assert work.ledger.counts("main")["forecasts"] == 3 * ((6 + 3 + 3) * 4 + 1)
        assert work.ledger.counts("main")["settlements"] == 2 * (6 + 3 + 3) * 4
    folder = report_folder(whole.home, "main", day_of(2).day)
    report = json.loads((folder / "report.json").read_text())
    assert report["verdict"]["word"] == "trained"
    assert report["update"]["from_version"] == 1
    assert report["settled"]["n_forecasts"] == 24
    assert report["best"][0]["reward"] >= report["worst"][0]["reward"]
    assert report["machine"]["blas"]
    for name in ("report.md", "report.html"):
        assert (folder / name).stat().st_size > 1000


def test_the_trainer_uses_exactly_the_stored_reward(whole):
    """Catches the original's fault: a reward computed, stored and never trained on."""
    with opened(whole) as work:
        day = day_of(1).day
        stored = {s.forecast_id: s for s, _ in work.ledger.settlements("main", day=day)}
        fed = work.ledger.settled_groups("main", day=day, role=Role.TRAIN)
    assert len(fed) == 6
    for item in fed:
        assert item.group.policy_version == 0
        for forecast, reward in zip(item.group.forecasts, item.rewards, strict=True):
            parts = stored[forecast.id].components
            assert reward == stored[forecast.id].reward
            assert reward == 0.25 * parts["format"] + 0.75 * parts["semantic"]


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


def test_held_out_headlines_never_train_and_base_shares_their_seeds(whole):
    """Catches a control that is not one."""
    with opened(whole) as work:
        train, served, base = (
            {g.headline.id: g for g in work.ledger.groups("main", day=day_of(1).day, roles=[role])}
            for role in (Role.TRAIN, Role.HELDOUT, Role.BASE)
        )
    assert not train.keys() & served.keys()
    assert len(served) == 3 and served.keys() == base.keys()
    for headline, group in served.items():
        seeds = [f.seed for f in group.forecasts]
        assert seeds == [f.seed for f in base[headline].forecasts]
        assert (group.policy_version, base[headline].policy_version) == (1, 0)


def test_base_against_base_has_no_lift(configured, embedder):
    """Catches a comparison that is biased by itself: an unmoved policy must score exactly 0."""
    summary = run_days(configured("update.lr=1e-30"), embedder, 3)
    assert [row["lift"] for row in summary["days"]] == [None, None, 0.0]
    assert [row["lift_reward"] for row in summary["days"]] == [None, 0.0, 0.0]


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
        assert json.loads(path.read_text())["verdict"]["word"] == "no update"


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
        assert detail["n_pending_groups"] == 12
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
    assert {**after, "timings": 0} == {**before, "timings": 0}


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
