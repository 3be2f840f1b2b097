"""What takes minutes: `make test-all` runs it, `make test` leaves it out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data" / "sample"


def varro(*arguments, **environment):
    command = [sys.executable, "-m", "varro.cli", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, timeout=3000
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def replay(archive, home, *arguments):
    return json.loads(varro("replay", "--archive", archive, "--home", home, "--json", *arguments))


def test_the_policy_learns_where_there_is_something_to_learn_and_only_there(tmp_path):
    """Catches learning that is not real, and a measure that calls style foresight: on the sample
    world a fortnight's lift excludes 0, on the same world with shuffled days it does not."""
    world = replay(SAMPLE / "world.jsonl.gz", tmp_path, "--to", "2026-01-18", "--run", "w")
    total = world["total"]
    assert total["lift_low"] > 0
    assert total["claim"] == "learned"
    assert total["lift_reward_low"] > 0
    rewards = [row["reward"] for row in world["days"][1:]]
    assert sum(rewards[-4:]) / 4 > sum(rewards[:4]) / 4 + 0.02
    shuffled = replay(SAMPLE / "shuffled.jsonl.gz", tmp_path, "--to", "2026-01-18", "--run", "s")
    assert shuffled["total"]["lift_low"] <= 0 <= shuffled["total"]["lift_high"]
    assert shuffled["total"]["claim"] == "not yet distinguishable"


def test_ten_days_in_ten_processes_equal_ten_days_in_one(tmp_path):
    """Catches anything that a process remembers and a checkpoint does not: bit for bit."""
    archive = SAMPLE / "world.jsonl.gz"
    small = ["--set", "news.n_headlines=8", "--set", "evaluate.n_headlines=4", "--run", "r"]
    one, ten = tmp_path / "one", tmp_path / "ten"
    unbroken = replay(archive, one, "--to", "2026-01-14", *small)
    for day in range(5, 15):
        resumed = replay(archive, ten, "--to", f"2026-01-{day:02d}", *small)
    assert resumed == unbroken
    assert len(resumed["days"]) == 10

    def hashes(home):
        return {
            path.parent.name: {
                name: digest
                for name, digest in json.loads(path.read_text())["sha256"].items()
                if name.endswith(".safetensors")
            }
            for path in (home / "checkpoints" / "r").glob("*/manifest.json")
        }

    assert hashes(one) == hashes(ten)
    assert len(hashes(one)) == 10


def test_qwen3_0_6b_shape_goes_through_forecast_and_update(tmp_path):
    """Catches code that only a tiny model can run; prints the time and the peak memory."""
    model = tmp_path / "qwen3-0.6b-random"
    build = [sys.executable, ROOT / "scripts" / "build_random_policy.py", "--out", model]
    subprocess.run(build, check=True, timeout=600)
    overrides = [
        f"policy.model={model}",
        "news.n_headlines=2",
        "evaluate.n_headlines=1",
        "display.n_headlines=0",
        "sampling.max_tokens=32",
        "sampling.n_forecasts=8",
    ]
    flags = [part for key in overrides for part in ("--set", key)]
    home = tmp_path / "home"
    replay(SAMPLE / "world.jsonl.gz", home, "--to", "2026-01-06", "--run", "big", *flags)
    path = home / "reports" / "big" / "2026-01-06" / "report.json"
    report = json.loads(path.read_text())
    machine, update = report["machine"], report["update"]
    assert 590e6 < machine["n_parameters"] < 600e6
    assert update["n_forecasts"] == 16
    assert 0 < machine["peak_rss_gb"] < 16
    print(
        f"forecast {report['timings']['forecast']:.0f} s, "
        f"update {report['timings']['update']:.0f} s, "
        f"peak RSS {machine['peak_rss_gb']:.1f} GB, MLX {machine['mlx_peak_gb']:.1f} GB"
    )
