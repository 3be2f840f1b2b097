"""Days that are killed at every point and run again must end as the unbroken ones.

Two days, the first of a home (it makes the ledger and version 0) and a later one (it settles,
trains and publishes), with the tiny policy. For each numbered point (see `crash_points`): a fresh
home, the day killed there, the day run again, and all rows, weights and report compared with the
unbroken day's. Then pairs of points: killed, killed again while it recovers, run again. Then a disk
that is full, or in error, or a process out of descriptors (in turn, by the seed) at each call that
may fail: the day must end with a sentence and an exit code of ours, and run again as if nothing had
happened.

Every try is forked from a process that has imported everything and run nothing. Texts are embedded
by their words, for sentence vectors would be most of such a day.
"""

from __future__ import annotations

import argparse
import errno
import gzip
import json
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from crash_points import watch

from varro.config import Config, load_config
from varro.domain import stable_seed
from varro.errors import VarroError
from varro.files import sha256_file
from varro.ledger.place import Place, connect_postgres, ledger_path
from varro.policy.blas import load_fast_blas
from varro.report.pages import render_html, render_markdown
from varro.reward.embed import RememberingEmbedder
from varro.run import open_run
from varro.service.replay import replay_days

ROOT = Path(__file__).resolve().parent.parent
FIRST = date(2026, 1, 5)
N_AT_ONCE = os.cpu_count() or 2
FAULTS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EMFILE": errno.EMFILE}
ARCHIVE = "days.jsonl.gz"
"""the sample world up to the later day: each day of a try reads it"""
SMALL = (
    "news.n_headlines=3",
    "evaluate.n_headlines=1",
    "evaluate.n_base_forecasts=2",
    "evaluate.n_bootstrap=100",
    "evaluate.placebo_lags=[1, 3]",
    "sampling.n_forecasts=3",
    "sampling.max_tokens=40",
    "display.n_headlines=1",
    "checkpoints.keep_newest=1",
    "checkpoints.keep_monthly=false",
)
N_BEFORE = 3
"""days before the later day: it is the first that removes a checkpoint"""
TIMED = {"seconds", "timings", "memory", "tokens_per_s", "machine", "reproduce", "sha256"}
"""keys of what depends on the clock, the machine, or where home lies, as a manifest's hash does: it
covers config.toml"""


@dataclass(frozen=True)
class Case:
    """A day to be killed in."""

    name: str
    day: date
    before: Path | None
    """the home it begins from; None is none at all"""


@dataclass
class Tally:
    """What came of the tries."""

    n_tried: int = 0
    n_not_reached: int = 0
    lost: list[str] = field(default_factory=list)
    """tries that ended with less than the unbroken day, or other than it"""
    doubled: list[str] = field(default_factory=list)
    """tries that ended with more rows than the unbroken day"""
    torn: list[str] = field(default_factory=list)
    """tries that left something broken under its final name"""
    unclean: list[str] = field(default_factory=list)
    """failing disks that did not end in an error of ours"""

    def n_bad(self) -> int:
        return len(self.lost) + len(self.doubled) + len(self.torn) + len(self.unclean)


# -- one day in a forked process


def day_config(home: Path) -> Config:
    archive = f"news.archive={home.parent.parent / ARCHIVE}"
    return load_config(ROOT / "configs" / "embedded.toml", (f"home={home}", archive, *SMALL))


def run_in_fork(home: Path, day: date, *, at: int = 0, code: int | None = None) -> int:
    """The process id of a child that runs a day, exits with Varro's code, and leaves the points
    that it passed in `home`.points."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        points = watch(home, at=at, code=code)
        status = _run_day(day_config(home), day)
        points.point("at the end")
        Path(f"{home}.points").write_text(json.dumps(points.seen))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _run_day(config: Config, day: date) -> int:
    try:
        with open_run(config) as work:
            work.embedder = RememberingEmbedder(
                WordVectors,
                "words",
                known=work.ledger.embeddings,
                keep=work.ledger.keep_embeddings,
            )
            replay_days(work, first=day, last=day)
    except VarroError as error:
        Path(f"{config.home}.said").write_text(f"{type(error).__name__}: {error}")
        return error.exit_code
    return 0


class WordVectors:
    """An embedder by words and pairs of words: near enough to sense for a day to settle and train,
    and at no cost."""

    def encode(self, texts: Sequence[str]) -> Any:
        rows = np.array([self._of_text(text) for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def _of_text(self, text: str) -> Any:
        words = ["^", *text.lower().split(), "$"]
        return sum(map(_draw, [*words, *map(" ".join, pairwise(words))]))


@cache
def _draw(feature: str) -> Any:
    return np.random.default_rng(stable_seed("word", feature)).normal(size=96)


# -- what a home holds


def state_of(home: Path, url: str | None = None) -> dict[str, Any]:
    """All that a home holds, without clocks and places: rows (at `url`, if they are in Postgres),
    hashes of weights, report, names of files."""
    found: dict[str, Any] = {}
    for name, rows in rows_of(url or ledger_path(home)).items():
        if name in ("leases", "homes"):  # who wrote, how often it was begun anew, and where
            continue
        for cells in rows:
            if name == "checkpoints":
                del cells["sha256"]  # held against the manifest in `torn_in`
            found.setdefault(f"rows of {name}", []).append(repr(_untimed(cells)))
        found.setdefault(f"rows of {name}", []).sort()
    for file in sorted(home.rglob("*")):
        name = str(file.relative_to(home))
        found[f"file {name}"] = None
        if file.name == "manifest.json":
            hashes = json.loads(file.read_text())["sha256"]
            found[f"file {name}"] = {k: v for k, v in hashes.items() if k != "config.toml"}
        elif file.name == "report.json":
            text = file.read_text()
            report = json.loads(text)
            found[f"file {name}"] = _untimed(json.loads(text.replace(str(home), "HOME")))
            pages = {"report.html": render_html, "report.md": render_markdown}
            for page, render in pages.items():
                same = (file.parent / page).read_text() == render(report)
                found[f"file {name} as {page}"] = same
    for suffix in ("-wal", "-shm"):
        found.pop(f"file ledger.sqlite{suffix}", None)
    return found


def rows_of(place: Place) -> dict[str, list[dict[str, Any]]]:
    """Every table's rows as they lie in the database, read past the ledger."""
    if isinstance(place, str):
        database: Any = connect_postgres(place)
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    else:
        database = sqlite3.connect(place)
        tables = "SELECT name FROM sqlite_master WHERE type = 'table'"
    found = {}
    with closing(database):
        for (name,) in database.execute(tables).fetchall():
            cursor = database.execute(f"SELECT * FROM {name}")
            columns = [column[0] for column in cursor.description]
            found[name] = [dict(zip(columns, row, strict=True)) for row in cursor]
    return found


def _untimed(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, dict):
        return {k: _untimed(v) for k, v in value.items() if k not in TIMED}
    return [_untimed(v) for v in value] if isinstance(value, list) else value


def torn_in(home: Path, url: str | None = None) -> list[str]:
    """What lies broken under a final name in a home as a crash has left it."""
    wrong = []
    file = ledger_path(home)
    if url is None and file.exists():
        with closing(sqlite3.connect(file)) as database:
            (found,) = database.execute("PRAGMA integrity_check").fetchone()
        if found != "ok":
            wrong.append(f"ledger: {found}")
    if url is not None or file.exists():
        rows = rows_of(url or file).get("checkpoints", [])
        rows.sort(key=lambda row: -row["version"])
        needed = (rows[0]["version"], rows[0]["parent"]) if rows else ()
        for row in rows:
            path = row["path"]
            if not (home / path).exists():  # as those that are not kept
                wrong += [f"{path} is gone"] if row["version"] in needed else []
            elif manifest_hash(home / path) not in (row["sha256"], None):
                wrong.append(f"{path} is not what the ledger recorded")
    for folder in home.glob("checkpoints/*/v*"):
        if manifest_hash(folder) is None:
            wrong.append(f"{folder} has no manifest")
    for manifest in home.glob("checkpoints/*/v*/manifest.json"):
        for name, sha256 in json.loads(manifest.read_text())["sha256"].items():
            file = manifest.parent / name
            if not file.exists() or sha256_file(file) != sha256:
                wrong.append(f"{manifest.parent / name} is half written")
    for file in home.glob("reports/*/*/report.json"):
        try:
            json.loads(file.read_text())
        except ValueError:
            wrong.append(f"{file} is half written")
    for page in home.glob("reports/*/*/report.html"):
        if not page.read_text().rstrip().endswith("</html>"):
            wrong.append(f"{page} is half written")
    return wrong


def manifest_hash(folder: Path) -> str | None:
    manifest = folder / "manifest.json"
    return sha256_file(manifest) if manifest.exists() else None


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What two homes do not share, in words."""
    lines = []
    for key in sorted(found.keys() | wanted.keys()):
        if key not in found or key not in wanted:
            lines.append(f"{key} {'is missing' if key not in found else 'is left over'}")
        elif found[key] != wanted[key]:
            n = (len(found[key]), len(wanted[key])) if isinstance(found[key], list) else ""
            lines.append(f"{key} differs {n}".rstrip())
    return lines


def doubled(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Tables with more rows than they should have, in words."""
    return [
        f"{len(rows)} {name}, not {len(wanted.get(name, ()))}"
        for name, rows in found.items()
        if name.startswith("rows of") and len(rows) > len(wanted.get(name, ()))
    ]


# -- tries


@dataclass
class Try:
    """A home in which a day is killed (or its disk fails) at `kills`, one after another, and then
    left alone."""

    case: Case
    kills: tuple[int, ...]
    code: int | None
    home: Path
    pid: int = 0
    stage: int = 0

    def __str__(self) -> str:
        name = {v: k for k, v in FAULTS.items()}.get(self.code or 0, "killed")
        return f"{self.case.name}, {name} at {' and '.join(map(str, self.kills))}"


def run_tries(tries: Iterator[Try], tally: Tally, unbroken: dict[str, dict[str, Any]]) -> None:
    """All tries, some at a time; the tally is filled in."""
    running: dict[int, Try] = {}

    def start(item: Try) -> None:
        at = item.kills[item.stage] if item.stage < len(item.kills) else 0
        code = item.code if at else None
        item.pid = run_in_fork(item.home, item.case.day, at=at, code=code)
        running[item.pid] = item

    def begin() -> None:
        item = next(tries, None)
        if item is None:
            return
        item.home.parent.mkdir()
        if item.case.before is not None:
            shutil.copytree(item.case.before, item.home)
        tally.n_tried += 1
        start(item)

    for _ in range(N_AT_ONCE):
        begin()
    while running:
        pid, status = os.wait()
        item = running.pop(pid)
        if item.stage < len(item.kills):
            look_at_wreck(item, status, tally)
            item.stage += 1
            start(item)
            continue
        _judge(item, status, tally, unbroken)
        if tally.n_tried % 20 == 0:
            print(
                f"{item}; {tally.n_tried} tried, {tally.n_bad()} bad", file=sys.stderr, flush=True
            )
        shutil.rmtree(item.home.parent)
        begin()


def look_at_wreck(item: Try, status: int, tally: Tally) -> None:
    said = Path(f"{item.home}.said")
    if status == 0:
        tally.n_not_reached += 1
    elif item.code is not None and (not os.WIFEXITED(status) or os.WEXITSTATUS(status) <= 1):
        tally.unclean.append(f"{item}: status {status}")
    elif item.code is not None and not said.exists():
        tally.unclean.append(f"{item}: not a word")
    said.unlink(missing_ok=True)
    if not item.home.exists():
        return
    # A copy is looked at: SQLite mends a ledger that it opens, and that is the next run's to do.
    wreck = shutil.copytree(item.home, item.home.parent / "wreck")
    tally.torn += [f"{item}: {what}" for what in torn_in(wreck)]
    shutil.rmtree(wreck)


def _judge(item: Try, status: int, tally: Tally, unbroken: dict[str, dict[str, Any]]) -> None:
    said = Path(f"{item.home}.said")
    if status:
        words = said.read_text() if said.exists() else f"status {status}"
        tally.lost.append(f"{item}: run again, it ended with {words}")
    else:
        found, wanted = state_of(item.home), unbroken[item.case.name]
        if wrong := differences(found, wanted):
            tally.lost.append(f"{item}: {'; '.join(wrong)}")
        if wrong := doubled(found, wanted):
            tally.doubled.append(f"{item}: {'; '.join(wrong)}")


# -- the whole


def prepare(folder: Path) -> tuple[list[Case], dict[str, dict[str, Any]]]:
    """The cases, and the state that each must end in."""
    before, later = folder / "before" / "home", FIRST + timedelta(days=N_BEFORE)
    _write_archive(folder / ARCHIVE, until=later)
    for n in range(N_BEFORE):
        _unbroken(before, FIRST + timedelta(days=n))
    cases = [Case("later day", later, before)]
    cases.append(Case("first day", FIRST, None))
    unbroken = {}
    for case in cases:
        home = _begun(folder / f"whole-{case.name.split()[0]}", case)
        _unbroken(home, case.day)
        unbroken[case.name] = state_of(home)
        if wrong := torn_in(home):
            sys.exit(f"the unbroken day left {wrong}")
    trained = unbroken["later day"].get("rows of updates", ())
    if not any(str(cases[0].day) in row for row in trained):
        sys.exit(f"{cases[0].day} trained nothing: such a day shows little")
    if "'removed_versions': [1]" not in str(unbroken["later day"]["rows of stage_runs"]):
        sys.exit(f"{cases[0].day} removed no checkpoint: such a day shows little")
    return cases, unbroken


def _write_archive(path: Path, *, until: date) -> None:
    with gzip.open(ROOT / "data" / "sample" / "world.jsonl.gz", "rt", encoding="utf-8") as world:
        lines = [line for line in world if json.loads(line)["first_seen"][:10] <= str(until)]
    with gzip.open(path, "wt", encoding="utf-8") as archive:
        archive.writelines(lines)


def _begun(folder: Path, case: Case) -> Path:
    folder.mkdir()
    if case.before is not None:
        shutil.copytree(case.before, folder / "home")
    return folder / "home"


def _unbroken(home: Path, day: date, code: int | None = None) -> list[str]:
    """The points that a day passes when nothing happens at any."""
    home.parent.mkdir(parents=True, exist_ok=True)
    _, status = os.waitpid(run_in_fork(home, day, code=code), 0)
    if status:
        said = Path(f"{home}.said")
        sys.exit(f"the unbroken day failed: {said.read_text() if said.exists() else status}")
    seen: list[str] = json.loads(Path(f"{home}.points").read_text())
    return seen


def try_all(folder: Path, *, sample: int | None, n_pairs: int, seed: int) -> dict[str, Any]:
    """Crashes, double crashes and failing disks, with what came of them."""
    draw = random.Random(seed)
    cases, unbroken = prepare(folder)
    if sample is not None:
        cases = cases[:1]
    points, calls = {}, {}
    for case in cases:
        name = case.name.split()[0]
        points[case.name] = _unbroken(_begun(folder / f"points-{name}", case), case.day)
        calls[case.name] = _unbroken(_begun(folder / f"calls-{name}", case), case.day, errno.EIO)

    def tries(kills: dict[str, list[tuple[int, ...]]], codes: Sequence[int | None]) -> Any:
        for case in cases:
            for n, kill in enumerate(kills[case.name], start=seed):
                code = codes[n % len(codes)]
                name = f"{case.name.split()[0]}-{code}-{'-'.join(map(str, kill))}"
                yield Try(case, kill, code, folder / name / "home")

    def some(seen: dict[str, list[str]]) -> dict[str, list[tuple[int, ...]]]:
        every = {name: range(1, len(what) + 1) for name, what in seen.items()}
        return {
            name: [(n,) for n in (all_ if sample is None else _spread(all_, sample, draw))]
            for name, all_ in every.items()
        }

    pairs: dict[str, list[tuple[int, ...]]] = {
        name: some_pairs(len(seen), n_pairs // len(cases), draw) for name, seen in points.items()
    }
    result: dict[str, Any] = {"points": {name: len(seen) for name, seen in points.items()}}
    result["calls"] = {name: len(seen) for name, seen in calls.items()}
    for name, kills, codes in (
        ("crashes", some(points), (None,)),
        ("failing disks", some(calls), tuple(FAULTS.values())),
        ("double crashes", pairs, (None,)),
    ):
        tally = Tally()
        run_tries(tries(kills, codes), tally, unbroken)
        result[name] = asdict(tally)
        print(f"{name}: {tally}", file=sys.stderr, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, help="so many points of the later day alone")
    parser.add_argument("--pairs", type=int, default=500, help="double crashes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    load_fast_blas()
    _import_everything()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="varro-points-") as name:
        result = try_all(Path(name), sample=args.sample, n_pairs=args.pairs, seed=args.seed)
    result["seconds"] = round(time.perf_counter() - started, 1)
    print(json.dumps(result, indent=1) if args.json else _in_words(result))
    sys.exit(any(tally[key] for tally in _tallies(result).values() for key in _BAD))


_BAD = ("lost", "doubled", "torn", "unclean")


def _tallies(result: dict[str, Any]) -> dict[str, Any]:
    return {name: tally for name, tally in result.items() if isinstance(tally, dict)
            and "n_tried" in tally}  # fmt: skip


def _spread(every: range, n: int, draw: random.Random) -> list[int]:
    """`n` points, one drawn from each of `n` equal stretches of the day."""
    edges = np.linspace(0, len(every), min(n, len(every)) + 1).astype(int)
    return [every[draw.randrange(a, b)] for a, b in pairwise(edges)]


def some_pairs(n_points: int, n: int, draw: random.Random) -> list[tuple[int, ...]]:
    """`n` different pairs of points; all there are, if they are fewer."""
    every = range(n_points**2)
    chosen = draw.sample(every, min(n, len(every)))
    return sorted((1 + i // n_points, 1 + i % n_points) for i in chosen)


def _import_everything() -> None:
    from varro.policy.load import leave_out_torch

    leave_out_torch()
    for name in (
        "alembic.command",
        "jinja2",
        "mlx_lm.models.qwen3",
        "safetensors.numpy",
        "scipy.stats",
        "varro.forecast.stage",
        "varro.policy.checkpoint",
        "varro.policy.load",
        "varro.training.update",
    ):
        import_module(name)


def _in_words(result: dict[str, Any]) -> str:
    lines = [
        f"{name}: {result['points'][name]} points of a crash, {n_calls} calls that may fail"
        for name, n_calls in result["calls"].items()
    ]
    for name, tally in _tallies(result).items():
        counts = ", ".join(f"{key} {len(tally[key])}" for key in _BAD)
        past = f"; {tally['n_not_reached']} past the day's end" if tally["n_not_reached"] else ""
        lines.append(f"{name}: tried {tally['n_tried']}, {counts}{past}")
        lines += [f"  {key}: {what}" for key in _BAD for what in tally[key]]
    return "\n".join([*lines, f"{result['seconds']} s"])


if __name__ == "__main__":
    main()
