"""The crash harness finds what it looks for, and a sample of it; `make crash-test` is the whole."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from crash_test import (  # noqa: E402
    Case,
    Tally,
    Try,
    differences,
    doubled,
    look_at_wreck,
    some_pairs,
    torn_in,
)

SCRIPT = ROOT / "scripts" / "crash_test.py"
BAD = ("lost", "doubled", "torn", "unclean")


def tried(*arguments, timeout):
    """What the harness found."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    wrong = {
        name: {key: found[name][key] for key in BAD if found[name][key]}
        for name in ("crashes", "double crashes", "failing disks")
    }
    assert not any(wrong.values()), json.dumps(wrong, indent=1)
    assert done.returncode == 0
    return found


def test_a_sample_of_crashes_and_failing_disks_leaves_no_trace():
    """Catches state that a crash loses or doubles, half a file under its name, an error of the disk
    that ends in a traceback: one point of each sixth of a day."""
    found = tried("--sample", "6", "--pairs", "2", timeout=280)
    assert found["crashes"]["n_tried"] == 6
    assert found["double crashes"]["n_tried"] == 2
    assert found["failing disks"]["n_tried"] == 6
    assert found["crashes"]["n_not_reached"] == 0
    assert found["points"]["later day"] > 80


@pytest.mark.slow
def test_every_crash_and_failing_disk_leaves_no_trace(capsys):
    """Catches the one point in hundreds that a sample passes over."""
    found = tried("--pairs", "100", timeout=3500)
    assert found["crashes"]["n_tried"] == sum(found["points"].values())
    assert found["failing disks"]["n_tried"] == sum(found["calls"].values())
    with capsys.disabled():
        print({name: found[name]["n_tried"] for name in ("crashes", "double crashes",
                                                         "failing disks")})  # fmt: skip


def killed_in(home, at, body):
    """What a process leaves that is killed at a point of its own work."""
    script = f"""
import sys
sys.path[:0] = {[str(ROOT), str(SCRIPT.parent)]!r}
from pathlib import Path
from crash_points import watch
home = Path({str(home)!r})
import varro.files as files
found = watch(home, at={at})
{body}
print(len(found.seen))
"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_a_write_is_torn_where_the_harness_says(tmp_path):
    """Catches a harness that kills between writes only, where nothing can be half."""
    body = "files.write_file(home / 'f', b'x' * 100)"
    done = killed_in(tmp_path, 0, body)
    assert done.returncode == 0, done.stderr
    n_points = int(done.stdout)
    sizes = set()
    for at in range(1, n_points + 1):
        for file in tmp_path.iterdir():
            file.unlink()
        assert killed_in(tmp_path, at, body).returncode == -signal.SIGKILL
        sizes |= {(p.name, p.stat().st_size) for p in tmp_path.iterdir()}
    partial = ".f.partial"
    assert sizes == {(partial, 0), (partial, 1), (partial, 50), (partial, 99), (partial, 100),
                     ("f", 100)}  # fmt: skip


def test_a_careless_writer_is_caught(tmp_path):
    """The control of the harness: a file written in place is seen half under its final name."""
    folder = tmp_path / "reports" / "main" / "2026-01-05"
    folder.mkdir(parents=True)
    body = "(home / 'reports/main/2026-01-05/report.json').write_text('{}' + ' ' * 100)"
    found = []
    for at in range(1, 7):
        killed_in(tmp_path, at, body)
        found += torn_in(tmp_path)
        shutil.rmtree(folder)
        folder.mkdir()
    assert any("report.json is half written" in what for what in found)


def test_a_day_that_is_killed_before_it_has_a_home_leaves_nothing_to_look_at(tmp_path):
    """Catches a harness that falls at the first day's first point, where there is no folder yet."""
    tally = Tally()
    case = Case("first day", date(2026, 1, 5), None)
    look_at_wreck(Try(case, (1,), None, tmp_path / "home"), signal.SIGKILL, tally)
    assert tally == Tally()
    look_at_wreck(Try(case, (1,), None, tmp_path / "home"), 0, tally)
    assert tally == Tally(n_not_reached=1)


def test_no_pair_of_points_is_drawn_twice():
    """Catches two tries of one name, the second of which ends the harness after an hour."""
    pairs = some_pairs(20, 300, random.Random(0))
    assert len(set(pairs)) == 300 and {n for pair in pairs for n in pair} == set(range(1, 21))
    assert some_pairs(2, 300, random.Random(0)) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_what_is_lost_left_over_or_doubled_is_seen():
    """Catches a comparison that passes whatever it is given."""
    wanted = {"rows of updates": ["a"], "file x": "hash", "file y": None}
    assert differences(dict(wanted), wanted) == doubled(dict(wanted), wanted) == []
    found = {"rows of updates": ["a", "b"], "file x": "other", "file z": None}
    assert differences(found, wanted) == [
        "file x differs", "file y is missing", "file z is left over",
        "rows of updates differs (2, 1)",
    ]  # fmt: skip
    assert doubled(found, wanted) == ["2 rows of updates, not 1"]
