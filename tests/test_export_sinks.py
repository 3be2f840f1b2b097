"""Numbers on their way to trackers: each day once, and never at the day's cost."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from conftest import ledger_at, small_config

from varro.config import SINKS, SinksConfig
from varro.day.report import _fed_sinks
from varro.domain import RunInfo, Stage, StageRun
from varro.errors import StageError
from varro.export.sinks import DayNumbers, day_numbers, feed, feed_all, report_numbers, sinks_on
from varro.ledger.glance import Glance, glance_at
from varro.ledger.store import open_ledger
from varro.service.watch import alerts_of

RUN = RunInfo("main", 0, "world", "hash", {"update.lr": 1e-5}, "0")
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
ROWS = [DayNumbers(n, f"2026-01-0{5 + n}", 1.7e9 + n, {"claim/lift_mean": n / 8}) for n in range(3)]

# A tracker of the wandb kind that keeps its history in a file, and passes nothing over itself.
FAKE = """
import json, os, pathlib, sys, time
FILE = pathlib.Path(os.environ["FAKE_TRACKER"])
MODE = os.environ.get("FAKE_MODE", "")
def history():
    return json.loads(FILE.read_text()) if FILE.exists() else []
class Run:
    def __init__(self):
        steps = [row["step"] for row in history()]
        self.resumed = bool(steps)
        self.step = self._next_step = max(steps, default=-1) + 1
    def log(self, numbers, step):
        FILE.write_text(json.dumps([*history(), {"step": step, **numbers}]))
    def finish(self):
        print("chatter 99")
def init(**settings):
    print("welcome")
    if MODE == "hang":
        import subprocess
        subprocess.Popen(["sleep", "60"])
        time.sleep(60)
    if MODE == "die":
        os._exit(9)
    if MODE == "refuse":
        raise ConnectionError("no route\\nto host")
    global _run
    _run = Run()
    return _run
def log(numbers, step):
    _run.log(numbers, step)
def finish():
    _run.finish()
"""


@pytest.fixture
def tracker(tmp_path, monkeypatch):
    """A fake of trackio and wandb for the process that feeds them; what it holds, in order."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    for name in ("trackio", "wandb"):
        (folder / f"{name}.py").write_text(FAKE)
    import os

    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    file = tmp_path / "history.json"
    monkeypatch.setenv("FAKE_TRACKER", str(file))
    return lambda: json.loads(file.read_text()) if file.exists() else []


def give(sink, rows, tmp_path, **more):
    return feed(sink, rows, run=RUN, home=tmp_path, config=SinksConfig(), **more)


def report(**more):
    return {
        "day": "2026-01-06",
        "made_at": "2026-01-07T00:00:00Z",
        "evaluation": {"lift": 0.02, "served": {"words": 27.5}, "made_up": 3, "n_headlines": None},
        "settled": {"reward": 0.4, "components": {"format": 0.5, "beatnik": 1}},
        "update": None,
        "learned": {"lift": {"mean": 0.01, "claim_low": None, "low": -0.01}},
        "timings": {"ingest": 0.5},
        "is_placebo": True,
    } | more


def test_the_numbers_are_those_of_the_metrics_table():
    """Catches a number without a definition, a flag taken for one, and a null taken for 0."""
    found = day_numbers(report(), step=4)
    assert (found.step, found.day, found.at) == (4, "2026-01-06", 1767744000.0)
    assert found.numbers == {
        "evaluation/lift": 0.02,
        "evaluation/served/words": 27.5,
        "settled/reward": 0.4,
        "settled/components/format": 0.5,
        "seconds/ingest": 0.5,
        "claim/lift_mean": 0.01,
        "claim/lift_low": -0.01,
    }


def test_a_report_that_is_gone_or_broken_is_named(tmp_path):
    """Catches a back-fill with a hole that nobody is told of."""
    with pytest.raises(StageError, match=r"report\.json is gone; 'varro report --day"):
        report_numbers(tmp_path / "2026-01-06", step=0)
    for text in ("{", "[]", "{}", '{"made_at": 3, "day": "x"}'):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(StageError, match="is not a report that can be read"):
            report_numbers(tmp_path, step=0)


@pytest.mark.parametrize("sink", ["trackio", "wandb"])
def test_a_tracker_is_given_each_day_once(tracker, tmp_path, sink):
    """Catches a back-fill that doubles what the days have already sent."""
    assert give(sink, ROWS[:1], tmp_path) == 1
    assert give(sink, ROWS, tmp_path) == 2
    assert give(sink, ROWS, tmp_path) == 0
    assert [(row["step"], row["day"]) for row in tracker()] == [
        (0, "2026-01-05"), (1, "2026-01-06"), (2, "2026-01-07"),
    ]  # fmt: skip
    assert tracker()[2]["claim/lift_mean"] == 0.25


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("refuse", "wandb did not take the numbers: ConnectionError: no route to host"),
        ("die", "its process ended with code 9"),
    ],
)
def test_a_tracker_that_fails_says_why(tracker, tmp_path, monkeypatch, mode, said):
    """Catches a failure without a reason, or with a traceback for one."""
    monkeypatch.setenv("FAKE_MODE", mode)
    with pytest.raises(StageError, match=said):
        give("wandb", ROWS, tmp_path)


def test_a_tracker_that_hangs_is_ended_with_all_that_it_started(tracker, tmp_path, monkeypatch):
    """Catches a day that waits for ever for a server, and processes that are left behind."""
    monkeypatch.setenv("FAKE_MODE", "hang")
    started = time.monotonic()
    with pytest.raises(StageError, match="has not taken the numbers within 3 s"):
        give("wandb", ROWS, tmp_path, timeout_s=3)
    assert time.monotonic() - started < 20


def test_a_tracker_that_is_not_installed_names_its_extra(tmp_path, monkeypatch):
    """Catches a traceback of the import system in an alert."""
    folder = tmp_path / "none"
    folder.mkdir()
    (folder / "wandb.py").write_text("raise ImportError('No module named wandb')")
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{__import__('os').environ.get('PYTHONPATH', '')}")
    with pytest.raises(StageError, match="it needs the extra 'wandb'"):
        give("wandb", ROWS, tmp_path)


def test_a_day_is_finished_whatever_its_trackers_do(tracker, tmp_path, monkeypatch):
    """Catches a day that fails with its tracker, and one whose failure nobody is told of."""
    monkeypatch.setenv("FAKE_MODE", "refuse")
    config = small_config(tmp_path / "home", "sinks.wandb=true", "sinks.trackio=true")
    assert sinks_on(config.sinks) == ["trackio", "wandb"] and set(SINKS) > {"trackio", "wandb"}
    folder = tmp_path / "home/reports/main/2026-01-06"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report()))
    warned = []
    with open_ledger(ledger_at(config.home)) as ledger:
        ledger.add_run(RUN)
        settled = {"n_settled": 1, "canaries": None}
        ledger.finish_stage(StageRun("main", "2026-01-06", Stage.SETTLE, NOON, 1.0, settled))
        work = SimpleNamespace(
            ledger=ledger, name="main", info=RUN, home=config.home, config=config,
            progress=SimpleNamespace(warned=warned.append),
        )  # fmt: skip
        fed = _fed_sinks(work, "2026-01-06", folder)
        ledger.finish_stage(StageRun("main", "2026-01-06", Stage.REPORT, NOON, 1.0, {"sinks": fed}))
    assert len(warned) == 2 and "'varro export wandb' gives it what it lacks" in warned[1]
    glance = glance_at(ledger_at(config.home), "main")
    assert [sink for sink, _ in glance.sinks] == ["trackio", "wandb"]
    told = alerts_of(
        glance, now=NOON, watched_since=NOON, cadence=NOON - NOON, max_quiet=None, failed=None,
        free_gb=9.0, min_free_gb=2.0,
    )  # fmt: skip
    assert [alert.key for alert in told] == ["sink-trackio", "sink-wandb"]
    assert "of 2026-01-06: wandb did not take the numbers" in told[1].text
    monkeypatch.setenv("FAKE_MODE", "")
    again = feed_all(day_numbers(report(), step=0), run=RUN, home=tmp_path, config=config.sinks)
    assert again == {"trackio": None, "wandb": None}
    assert Glance().sinks == ()


def test_sinks_are_no_part_of_a_runs_identity(tmp_path):
    """Catches a run that cannot go on because somebody switched a tracker on."""
    plain, fed = (small_config(tmp_path, *more) for more in ((), ("sinks.tensorboard=true",)))
    assert plain.identity_hash() == fed.identity_hash()


def test_tensorboard_has_one_file_a_day_that_replaces_itself(tmp_path):
    """Catches a curve that is drawn twice after a back-fill."""
    pytest.importorskip(
        "tensorboardX", reason="NOT TESTED with tensorboardX: pip install '.[tensorboard]'"
    )
    assert give("tensorboard", ROWS[:2], tmp_path) == 2
    assert give("tensorboard", ROWS, tmp_path) == 1
    folder = tmp_path / "tensorboard" / "main"
    names = sorted(p.name for p in folder.iterdir())
    assert names == [f"events.out.tfevents.{row.day}" for row in ROWS]
    assert b"claim/lift_mean" in (folder / names[2]).read_bytes()
    assert [p.name for p in folder.parent.iterdir()] == ["main"]


@pytest.mark.slow
def test_the_real_trackio_holds_each_day_once(tmp_path, monkeypatch):
    """Catches a trackio that no longer says which steps it has."""
    pytest.importorskip("trackio", reason="NOT TESTED with trackio: pip install '.[trackio]'")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for rows in (ROWS[:1], ROWS, ROWS):
        give("trackio", rows, tmp_path)
    with closing(sqlite3.connect(tmp_path / "trackio/varro.db")) as database:
        steps = database.execute("SELECT step FROM metrics ORDER BY step").fetchall()
    assert steps == [(0,), (1,), (2,)]
