"""Stages in processes of their own: the same day, and a small process that waits for them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest
from conftest import SMALL_DAYS, copy_home, ledger_settings, lend_embedder, small_config

from varro.config import load_config
from varro.day import DueDay, end_of_day, run_day
from varro.domain import Role, Stage
from varro.run import open_run
from varro.service.apart import _embeds

ROOT = Path(__file__).resolve().parent.parent

APART = """
import json, sys
from varro import cli
from varro.report.machine import rss_gb
sys.argv = ["varro", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as end:
    code = end.code or 0
heavy = sorted({"mlx.core", "torch", "sentence_transformers"} & set(sys.modules))
print(json.dumps({"code": code, "rss_gb": rss_gb(), "heavy": heavy}))
"""


def command(home, *arguments):
    flags = [part for key in (*SMALL_DAYS, *ledger_settings(home)) for part in ("--set", key)]
    return [
        *(sys.executable, "-c", APART, "train-day", "--home", str(home), *flags),
        *("--set", "memory.process_per_stage=true", *arguments),
    ]


def content(home):
    """Rows that do not say how long or how large, and hashes of what was published."""
    with open_run(small_config(home)) as work:
        days = sorted({s.day for s in work.ledger.stage_runs(work.name)})
        found = {
            "stages": [(s.day, s.stage, s.as_of) for s in work.ledger.stage_runs(work.name)],
            "texts": [
                (f.id, f.token_ids, f.sampler_logprobs.tobytes(), f.text)
                for day in days
                for g in work.ledger.groups(work.name, day=day, roles=list(Role))
                for f in g.forecasts
            ],
            "settlements": [s for d in days for s, _ in work.ledger.settlements(work.name, day=d)],
            "updates": [
                {k: v for k, v in u.metrics.items() if k != "tokens_per_s"}
                for day in days
                if (u := work.ledger.update(work.name, day))
            ],
        }
    found["weights"] = {
        manifest.parent.name: {
            name: digest
            for name, digest in json.loads(manifest.read_text())["sha256"].items()
            if name.endswith(".safetensors")
        }
        for manifest in sorted((home / "checkpoints").rglob("manifest.json"))
    }
    return found


@pytest.fixture(scope="module")
def two_days(tmp_path_factory, embedder):
    """(home whose second day ran in one process, home whose second day ran in six, what that said,
    home after the first day)"""
    first = tmp_path_factory.mktemp("first") / "home"
    with open_run(small_config(first)) as work:
        lend_embedder(work, embedder)
        run_day(work, DueDay("2026-01-05", end_of_day(date(2026, 1, 5))))
    one, many = (tmp_path_factory.mktemp(name) / "home" for name in ("one", "many"))
    for home in (one, many):
        copy_home(first, home)
    together = command(one, "--set", "memory.process_per_stage=false")
    subprocess.run(together, capture_output=True, timeout=280, check=True)
    done = subprocess.run(command(many), capture_output=True, text=True, timeout=280, check=True)
    return one, many, done, first


def test_only_stages_that_encode_texts_load_torch():
    """Catches a stage that would embed and finds torch hidden."""
    config = load_config(ROOT / "configs" / "embedded.toml", [])
    embedding = [stage for stage in Stage if _embeds(stage, config)]
    assert embedding == [Stage.SETTLE, Stage.REPORT]
    choosy = load_config(ROOT / "configs" / "embedded.toml", ["curriculum.enabled=true"])
    assert _embeds(Stage.FORECAST, choosy)  # topics of headlines


def test_a_policy_is_loaded_and_used_without_torch():
    """Catches a policy that pulls in torch, 190 MB, or statistics that stumble over its absence."""
    code = """
import sys
from varro.policy.load import leave_out_torch, load_policy
from varro.config import PolicyConfig
leave_out_torch()
policy = load_policy(PolicyConfig(model="data/tiny-policy"), lora_seed=0)
assert policy.decode(policy.prompts.encode("Fed holds rates"))
from varro.evaluation.stats import block_interval
assert block_interval([[1.0], [2.0], [3.0]], n_bootstrap=100, seed=0)
assert "torch" not in sys.modules
import torch
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.slow
def test_stages_apart_come_to_the_same_day(two_days):
    """Catches what one stage leaves in memory for the next and no ledger row or checkpoint holds:
    rows, texts, log-probs and weights are equal, bit for bit."""
    one, many, _, _ = two_days
    found = content(many)
    assert found == content(one)
    assert len(found["updates"]) == 1 and len(found["weights"]) == 2


@pytest.mark.slow
def test_the_process_that_waits_stays_small_and_says_what_it_always_says(two_days):
    """Catches a parent that loads what its children load, and a child whose line is lost."""
    said = json.loads(two_days[2].stdout.splitlines()[-1])
    assert said["code"] == 0 and said["heavy"] == []
    assert said["rss_gb"] < 0.3
    stages = [line.split()[1] for line in two_days[2].stderr.splitlines()]
    assert stages == [str(s) for s in Stage if s is not Stage.PUBLISH]


@pytest.mark.slow
def test_a_childs_error_is_the_parents(two_days, tmp_path):
    """Catches an error that is printed twice or not at all, and an exit code of 0 or 1 for all:
    a damaged checkpoint is met in the update, after two stages that stay."""
    home = copy_home(two_days[3], tmp_path / "home")
    (newest,) = home.glob("checkpoints/main/v00000")
    (newest / "adapters.safetensors").write_bytes(b"broken")
    done = subprocess.run(command(home), capture_output=True, text=True, timeout=280)
    assert json.loads(done.stdout.splitlines()[-1])["code"] == 6
    assert done.stderr.count("varro: ") == 1 and "Traceback" not in done.stderr
    with open_run(small_config(home)) as work:
        stages = [s.stage for s in work.ledger.stage_runs("main", "2026-01-06")]
    assert stages == [Stage.INGEST, Stage.SETTLE]


def test_a_disk_without_room_stops_the_day_before_its_first_stage(tmp_path):
    """Catches news that are taken in and settled each night for an update that can not be
    written."""
    home = tmp_path / "home"
    full = command(home, "--set", "checkpoints.min_free_gb=1e9")
    done = subprocess.run(full, capture_output=True, text=True, timeout=120)
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["code"], said["heavy"]) == (9, []), done.stderr
    assert "are needed for a checkpoint" in done.stderr
    page = (home / "reports" / "main" / "latest.html").read_text(encoding="utf-8")
    assert "FAILED (start)" in page and "are needed for a checkpoint" in page
    with open_run(small_config(home)) as work:
        assert work.ledger.stage_runs("main") == []


def test_a_child_that_is_killed_leaves_a_page(tmp_path):
    """Catches a night that ended because memory ran out, and shows yesterday's page in the morning:
    who was killed can write none."""
    home = tmp_path / "home"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command(home), **pipes) as process:
        assert " ingest " in process.stderr.readline()
        kill_the_child_of(process.pid)
        said = process.stderr.read()
        assert json.loads(process.stdout.read())["code"] == 7
    assert "ended without a word (killed, as the system does when memory runs out)" in said
    page = (home / "reports" / "main" / "latest.html").read_text(encoding="utf-8")
    assert re.search(r"FAILED \((ingest|settle)\)", page) and "memory runs out" in page


def kill_the_child_of(pid):
    """The process of a stage, as soon as there is one: not multiprocessing's own tracker."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        told = subprocess.run(["ps", "-ewwo", "pid,ppid,args"], capture_output=True, text=True)
        for line in told.stdout.splitlines():
            child, parent, args = line.split(None, 2)
            if parent == str(pid) and "spawn_main" in args:
                os.kill(int(child), signal.SIGKILL)
                return
        time.sleep(0.05)
    raise AssertionError("no stage was begun")


def test_a_child_ends_with_a_parent_that_was_killed(tmp_path):
    """Catches an orphan that goes on and holds the run, so that it cannot be started again."""
    home = tmp_path / "home"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command(home), **pipes) as process:
        assert " ingest " in process.stderr.readline()
        time.sleep(1.0)
        process.kill()
        started = time.monotonic()
        process.stderr.read()  # ends when the last process that writes there has ended
        assert time.monotonic() - started < 5
    with open_run(small_config(home)) as work:  # the lock is free
        assert work.ledger.days_done("main") == []


def test_an_interrupt_ends_parent_and_child(tmp_path):
    """Catches a child that works on, and holds the run, after Ctrl-C."""
    home = tmp_path / "home"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command(home), start_new_session=True, **pipes) as process:
        assert " ingest " in process.stderr.readline()
        time.sleep(1.0)
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read()  # ends when the last process that writes there has ended
        assert json.loads(process.stdout.read())["code"] == 130
    assert "Traceback" not in rest
    with open_run(small_config(home)) as work:  # the lock is free
        assert work.ledger.days_done("main") == []
