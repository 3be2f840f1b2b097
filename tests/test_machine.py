"""Memory of a stage: read as the system sees it, and given back when a stage has ended."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

from varro.policy.mlx import mx, read_memory, release_memory, reset_peak
from varro.report.machine import describe_machine, peak_rss_gb, revision, rss_gb, stage_memory
from varro.report.metrics import MEMORY


def test_resident_memory_now_follows_what_is_held():
    """Catches pages read as kilobytes, and the process's peak passed off as its size now."""
    release_memory()  # else what others have freed is used again
    before = rss_gb()
    held = np.ones(25_000_000)  # 0.2 GB
    grown = rss_gb()
    assert 0.15 < grown - before < 0.25
    assert peak_rss_gb() >= grown - 0.01
    del held
    release_memory()
    assert rss_gb() < grown - 0.15


def test_what_mlx_has_freed_goes_back_to_the_system():
    """Catches a process that stays as large after a stage as the stage has ever been: malloc keeps
    every block that MLX frees, until it is told."""
    if sys.platform != "linux":
        pytest.skip("NOT TESTED: only glibc's malloc is told to keep what is freed")
    many = [mx.random.normal((250_000,)) for _ in range(300)]  # 0.3 GB
    mx.eval(many)
    held = rss_gb()
    del many
    assert rss_gb() > held - 0.1
    release_memory()
    assert rss_gb() < held - 0.2
    assert read_memory()["mlx_cache_gb"] == 0


def test_a_stage_has_its_own_mlx_peak():
    """Catches a morning's peak that hides every later stage's."""
    mx.eval(mx.zeros((10_000_000,)))
    assert stage_memory(with_mlx=True)["mlx_peak_gb"] >= 0.04
    reset_peak()
    found = stage_memory(with_mlx=True)
    assert found["mlx_peak_gb"] < 0.04
    assert set(found) == set(MEMORY)
    assert set(stage_memory(with_mlx=False)) == {"peak_rss_gb", "rss_gb"}


def test_the_revision_is_that_of_the_code_that_ran(tmp_path):
    """Catches a report that calls changed code by its last commit, and an installed package that
    takes the commit of whatever repository its environment lies in."""
    if shutil.which("git") is None:
        pytest.skip("NOT TESTED: git is not installed")
    package = tmp_path / "code" / "varro"
    package.mkdir(parents=True)
    (package / "day.py").write_text("first")
    assert revision(package) is None
    _git(package.parent, "init", "-q")
    _git(package.parent, "add", ".")
    _git(package.parent, "commit", "-q", "-m", "first")
    revision.cache_clear()
    committed = revision(package)
    assert len(committed) == 12 and set(committed) <= set("0123456789abcdef")
    (package / "day.py").write_text("second")
    revision.cache_clear()
    assert revision(package) == f"{committed} with changes"
    installed = package.parent / ".venv" / "site-packages" / "varro"
    installed.mkdir(parents=True)
    assert revision(installed) is None


def test_the_machine_says_how_much_room_its_disk_has(tmp_path):
    """Catches a report that is silent about a disk that fills up, and its room in other units."""
    free = describe_machine(home=tmp_path)["disk_free_gb"]
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free / 1e9, rel=0.2)
    assert "disk_free_gb" not in describe_machine()
    assert describe_machine()["versions"]["varro"]


def _git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True)
