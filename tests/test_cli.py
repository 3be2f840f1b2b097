"""The command line: exit codes, one-line errors, JSON, and speed of the door."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from varro.domain import RunInfo, Stage, StageRun
from varro.ledger.store import open_ledger
from varro.lock import hold_lock, lock_path

ROOT = Path(__file__).resolve().parent.parent
WORLD = ROOT / "data" / "sample" / "world.jsonl.gz"
SMALL = [
    "--set", "news.n_headlines=8", "--set", "evaluate.n_headlines=4",
    "--set", "sampling.n_forecasts=3", "--set", "evaluate.n_base_forecasts=2",
    "--set", "evaluate.placebo_lags=[1, 3]", "--set", "sampling.max_tokens=48",
]  # fmt: skip


def varro(*arguments, timeout=240):
    return subprocess.run(
        [sys.executable, "-m", "varro.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def refused(done, code, *words):
    assert done.returncode == code, done.stderr
    assert done.stderr.strip().count("\n") == 0, done.stderr
    assert done.stderr.startswith("varro: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert done.stdout == ""


def test_help_answers_at_once():
    """Catches torch or MLX imported at the door. Processor time of the best of five, not wall time:
    machines are shared."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert varro("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.3


def test_every_command_has_help_with_an_example():
    """Catches a verb that a newcomer must guess."""
    listed = varro("--help").stdout
    verbs = ["train-day", "ingest", "settle", "update", "forecast", "evaluate", "report", "replay"]
    more = ["score", "status", "show", "doctor", "config show", "tick", "serve"]
    more += ["backup", "restore", "rollback"]
    feeds = ["list", "add", "remove", "test", "import", "export", "health"]
    schedule = [f"schedule {verb}" for verb in ("install", "uninstall", "status", "run")]
    out = ("hf", "peft", "fused", "verifiers", "csv", "parquet", "datasette", "trackio", "wandb",
           "tensorboard")  # fmt: skip
    schedule += [f"export {verb}" for verb in out]
    for verb in [*verbs, *more, *(f"feeds {verb}" for verb in feeds), *schedule]:
        assert verb.split()[0] in listed
        done = varro(*verb.split(), "--help")
        assert done.returncode == 0
        assert f"varro {verb}" in " ".join(done.stdout.split()), verb


def test_the_newest_report_is_shown_while_a_day_is_at_work(tmp_path):
    """Catches a report that can not be read for as long as another process holds the run."""
    now = datetime(2026, 1, 5, 20, tzinfo=UTC)
    refused(varro("report", "--last", "--home", tmp_path), 7, "no finished day")
    with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.add_run(RunInfo("main", 0, "x", "h", {}, "0"))
        ledger.finish_stage(StageRun("main", "2026-01-05", Stage.REPORT, now, 1.0, {}))
    lock = hold_lock(lock_path(tmp_path, "main"), now=now)
    refused(
        varro("report", "--last", "--home", tmp_path), 7, "report.md is gone", "--day 2026-01-05"
    )
    page = tmp_path / "reports" / "main" / "2026-01-05" / "report.md"
    page.parent.mkdir(parents=True)
    page.write_text("# the newest")
    assert varro("report", "--last", "--home", tmp_path).stdout == "# the newest\n"
    refused(varro("report", "--last", "--day", "2026-01-04", "--home", tmp_path), 3, "give one")
    lock.close()


def test_a_first_evening_and_a_first_morning(tmp_path):
    """Catches a README that promises what the commands do not do."""
    home = ["--home", tmp_path / "home"]
    first = varro("train-day", *home, *SMALL)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("report: ")
    page = Path(first.stdout.removeprefix("report: ").strip())
    assert page.name == "report.html" and page.exists()
    lines = first.stderr.splitlines()
    assert [line.split()[1] for line in lines[:3]] == ["ingest", "settle", "update"]
    assert sum("2026-01-06" in line.split()[0] for line in lines) >= 6

    status = json.loads(varro("status", *home, *SMALL, "--json").stdout)["runs"][0]
    assert (status["days_done"], status["last_day"]) == (2, "2026-01-06")
    assert status["policy_version"] == 1

    shown = varro("show", "2026-01-06", *home)
    assert shown.returncode == 0 and "2026-01-06" in shown.stdout
    report = json.loads(varro("show", "2026-01-06", *home, "--json").stdout)
    forecast_id = report["best"][0]["forecast_id"]
    facts = json.loads(varro("show", forecast_id[:16], *home, "--json").stdout)
    assert facts["forecast_id"] == forecast_id
    assert facts["settlements"][0]["reward"] == report["best"][0]["reward"]
    assert len(facts["token_ids"]) == len(facts["sampler_logprobs"])

    index = page.parent.parent / "index.html"
    index.unlink()
    again = varro("report", "--all", *home, *SMALL)
    assert again.stdout == f"2 reports, index: {index}\n" and index.exists()
    facts = json.loads(varro("report", "--all", "--json", *home, *SMALL).stdout)
    assert facts == {"n_days": 2, "index": str(index)}
    refused(varro("report", "--all", "--last", *home, *SMALL), 3, "give one of them")
    # What the disk refuses has a code and a word of its own, and is no fault of the program.
    index.parent.rename(tmp_path / "aside")
    index.parent.write_text("a file in the way")
    for which in (["--all"], ["--day", "2026-01-06"]):
        refused(varro("report", *which, *home, *SMALL), 9, "not complete", "in its way")
    index.parent.unlink()
    (tmp_path / "aside").rename(index.parent)

    changed = varro("train-day", *home, *SMALL, "--set", "update.lr=1e-5")
    refused(changed, 3, "update.lr = 0.002, now 1e-05", "--run NAME")


def test_replay_prints_a_table_and_json_and_goes_on_where_it_was(tmp_path):
    """Catches a replay that cannot be read by a script, or starts over."""
    command = ["replay", "--archive", WORLD, "--home", tmp_path / "home", "--run", "r", *SMALL]
    first = varro(*command, "--to", "2026-01-06")
    assert first.returncode == 0, first.stderr
    assert "2026-01-06" in first.stdout and "lift" in first.stdout
    again = varro(*command, "--to", "2026-01-07", "--json")
    summary = json.loads(again.stdout)
    assert [row["day"] for row in summary["days"]] == ["2026-01-05", "2026-01-06", "2026-01-07"]
    assert "2026-01-06 " not in again.stderr


def test_a_placebo_replay_is_a_run_of_its_own(tmp_path):
    """Catches a control that trains on the true rewards, or goes on with the run it controls."""
    command = ["replay", "--archive", WORLD, "--home", tmp_path / "home", *SMALL, "--json"]
    done = varro(*command, "--to", "2026-01-06", "--placebo")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["run"] == "world-placebo"
    assert summary["days"][-1]["updated"]
    mixed = varro(*command, "--run", "world-placebo")
    refused(mixed, 3, "update.placebo = True, now False")


def test_config_show_prints_what_runs(tmp_path):
    """Catches a resolved configuration that leaves overrides out."""
    done = varro("config", "show", "--set", "update.lr=3e-4", "--seed", "5")
    assert "lr = 0.0003" in done.stdout
    assert "seed = 5" in done.stdout
    assert json.loads(varro("config", "show", "--json").stdout)["sampling"]["n_forecasts"] == 8


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train-day", "--set", "update.learning_rate=1"], 3, ["update.learning_rate", "did you"]),
        (["train-day", "--config", "/nowhere.toml"], 3, ["/nowhere.toml"]),
        (["replay", "--archive", "/nowhere.jsonl"], 4, ["/nowhere.jsonl"]),
        (["replay", "--archive", f"/{'x' * 80}.jsonl", "--placebo"], 4, ["no archive at /xxx"]),
        (["replay", "--archive", WORLD, "--from", "yesterday"], 3, ["--from", "'yesterday'"]),
        (["replay", "--archive", WORLD, "--from", "2026-01-09", "--to", "2026-01-08"], 3, ["is a"]),
        (["train-day", "--set", "policy.model=/nowhere"], 6, ["/nowhere", "policy.model"]),
        (["train-day", "--set", f'embedder.sha256="{"0" * 64}"'], 6, ["sha256", "another reward"]),
        (["show", "2026-01-06"], 7, ["no ledger"]),
        (["status", "--prometheus", "/dev/null/x.prom"], 9, ["/dev/null", "Prometheus"]),
        (["settle"], 7, ["needs ingest first"]),
        (["report"], 7, ["no finished day"]),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_a_code(tmp_path, arguments, code, words):
    """Catches tracebacks, exit code 0, and errors that do not say what to do."""
    refused(varro(*arguments, "--home", tmp_path / "home"), code, *words)
    written = [p for p in (tmp_path / "home").rglob("*") if not re.search("ledger|lock", p.name)]
    assert written == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("not json", [":3:"]),
        ('{"title": "t", "source": "s", "link": "l"}', [":3:", "first_seen"]),
        ('{"source": "s", "link": "l", "first_seen": "2026-01-05T00:00:00Z"}', [":3:", "title"]),
        ('{"title": "t", "source": "s", "first_seen": "2026-01-05T00:00:00"}', [":3:", "zone"]),
        ('{"title": "t", "source": "s", "first_seen": "2026-13-05T00:00:00Z"}', [":3:"]),
    ],
)
def test_a_malformed_archive_is_refused_with_its_line(tmp_path, line, words):
    """Catches an archive that is half imported."""
    good = '{"title": "t%d", "source": "s", "link": "l%d", "first_seen": "2026-01-05T00:00:00Z"}'
    archive = tmp_path / "news.jsonl"
    archive.write_text("\n".join([good % (1, 1), good % (2, 2), line]))
    done = varro("replay", "--archive", archive, "--home", tmp_path / "home")
    refused(done, 4, str(archive), *words)
    assert not (tmp_path / "home").exists()


def test_doctor_names_the_blas_and_every_check():
    """Catches a doctor that says all is well without looking."""
    checks = {c["name"]: c for c in json.loads(varro("doctor", "--json").stdout)}
    assert checks.keys() == {
        *("news", "feeds", "ledger", "disk", "blas", "policy", "embedder", "schedule", "output"),
    }
    assert checks["policy"]["status"] == checks["embedder"]["status"] == "ok"
    assert "GFLOP/s" in checks["blas"]["text"]
    broken = varro("doctor", "--json", "--set", "policy.model=/nowhere")
    assert broken.returncode == 1
    assert {c["name"]: c["status"] for c in json.loads(broken.stdout)}["policy"] == "error"
