"""A service left alone for many days, twice: quietly, and with kills, feeds that fail and clocks
that jump. Both must end with the same ledger, and the service must not grow.

An archive's headlines are shown by feeds on this machine; `varro serve` (see `soak_service`) runs
in one long process, by a clock that says which day it is, and starts `varro train-day` in a process
of its own (see `soak_day`). In the second run, by a seed:

- that process is killed (SIGKILL) at random times, up to three times a day;
- feeds answer with errors, hang, drip, hang up, send garbage, half a body, an error page, nothing.
  Some are well when the fetch tries again. Some fail all at once: such a day is not begun, and is
  tried again. Some hang while the process is killed. A feed without news may be down for a day;
- the clock goes back by up to six hours, or on by up to twenty, or over a sleep into the next day:
  between days, in a half day, and while a day is at work.

What may differ in the end: what ledger and report say of a feed that was down on a day on which it
had nothing new, and how many feeds were alive on that day. Everything else must not: all rows of
all tables, hashes of weights, reports without what depends on the machine, names of files. Troubles
that must change the ledger are left out, for nothing could be compared: a feed that is down on a
day of its news (they come a day later), a wrong clock under which a day is begun (it keeps it).

Days are of the crash harness's size: a tiny policy, few headlines, texts embedded by their words.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crash_test import SMALL, differences, doubled, state_of, torn_in
from soak_world import EVENING, RUN, TIMEOUT_S, FeedServer, News

from varro.service.ending import end_on_signals

ROOT = Path(__file__).resolve().parent.parent
ARCHIVE = ROOT.parent / "shared/data/replay/finance-2025-04-18--2025-06-30.jsonl.gz"
MAX_GROWTH_MB = 3.0
"""of the median resident memory, from the second quarter of the days to the last"""
OF_THE_SERVICE = ("file service", "file logs", "file alerts.log")
"""what was told, and to whom: the run does not read it"""
TOKEN = "VARRO_SOAK"
"""in the environment of the service and of all processes that come of it"""


@dataclass(frozen=True)
class Soaked:
    """A home after its days, and what its service says of them."""

    home: Path
    facts: dict[str, Any]
    n_processes_left: int


def soak(folder: Path, archive: Path, *, n_days: int | None, seed: int) -> dict[str, Any]:
    """Both runs, compared.  Raises: SystemExit if one did not come to its end."""
    news = News(archive)
    n_days = min(n_days or news.n_days, news.n_days)
    folders = {name: folder / name for name in ("quiet", "troubled")}
    server = FeedServer(news, {name: path / "scene.json" for name, path in folders.items()})
    given = [f"--archive={archive}", f"--days={n_days}", f"--seed={seed}"]
    services = []
    for name, path in folders.items():
        path.mkdir()
        server.write_list(path / "feeds.opml", name)
        kind = ["--trouble"] if name == "troubled" else []
        services.append(_Service(path, [*given, *kind, "--", *settings(path / "feeds.opml")]))
    try:  # side by side, each with its own home
        quiet, troubled = [service.soaked() for service in services]
    finally:
        for service in services:
            service.end()
        server.close()
    return {
        "n_days": n_days,
        "day_s": statistics.median(quiet.facts["seconds"]),
        **compare(quiet.home, troubled.home, troubled.facts["down"]),
        "troubles": troubled.facts["counts"],
        "killed_in": troubled.facts["killed_in"],
        "feed_days_down": len(troubled.facts["down"]),
        "services": {"quiet": growth(quiet), "troubled": growth(troubled)},
    }


def settings(opml: Path) -> list[str]:
    """Overrides of `configs/embedded.toml`: live feeds, and days of the crash harness's size."""
    return [
        *SMALL,
        'news.source="feeds"',
        f"news.feeds={opml}",
        "news.allow_private=true",
        "news.pause_s=0",
        f"news.timeout_s={TIMEOUT_S}",
        "news.min_headlines=1",
        f"run.name={RUN}",
        'schedule.zone="UTC"',
        f'schedule.at="{EVENING:%H:%M}"',
        "alerts.min_free_gb=0",
    ]


class _Service:
    """A service on its way through the days, in a process of its own."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self._folder, self._token = folder, uuid.uuid4().hex
        script = Path(__file__).with_name("soak_service.py")
        self._process = subprocess.Popen(
            [sys.executable, script, f"--folder={folder}", *arguments],
            env=os.environ | {TOKEN: self._token},
        )

    def soaked(self) -> Soaked:
        """What it has come to.  Raises: SystemExit if that is no end."""
        code, result = self._process.wait(), self._folder / "result.json"
        if code or not result.exists():
            sys.exit(f"the {self._folder.name} service ended with {code}, see above")
        return Soaked(self._folder / "home", json.loads(result.read_text()), n_left(self._token))

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()


def n_left(token: str, *, wait_s: float = 30.0) -> int:
    """Processes that a service has left behind. Those that have just lost their parent have a
    moment to see it. Where there is no /proc, none is found."""
    wanted, until = f"{TOKEN}={token}".encode(), time.monotonic() + wait_s
    while True:
        left = [file for file in Path("/proc").glob("[0-9]*/environ") if wanted in _read(file)]
        if not left or time.monotonic() >= until:
            return len(left)
        time.sleep(0.5)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # another's, or gone
        return b""


# -- what came of it


def compare(quiet: Path, troubled: Path, down: list[list[str]]) -> dict[str, Any]:
    """{n_rows, n_tables, n_files, n_updates, differences} of two homes; `down`: (day, feed) that
    failed in the second one."""
    wanted, found = _of_the_run(quiet), _of_the_run(troubled)
    tables = {key: rows for key, rows in wanted.items() if key.startswith("rows of")}
    wrong = [f"the quiet home: {what}" for what in torn_in(quiet)]
    wrong += [f"the troubled home: {what}" for what in torn_in(troubled)]
    forgiven = [forgive(state, down) for state in (wanted, found)]
    if forgiven[1] != len(down) or forgiven[0] != len(down):
        wrong.append(f"{len(down)} feeds were to be down, {forgiven} rows tell of them")
    for lines in (differences(found, wanted), doubled(found, wanted)):
        wrong += [line for line in lines if line not in wrong]
    return {
        "n_rows": sum(len(rows) for rows in tables.values()),
        "n_tables": len(tables),
        "n_files": len(wanted) - len(tables),
        "n_updates": len(tables.get("rows of updates", ())),
        "differences": wrong,
    }


def _of_the_run(home: Path) -> dict[str, Any]:
    state = {
        key: what for key, what in state_of(home).items() if not key.startswith(OF_THE_SERVICE)
    }
    # The two read the same feeds under addresses of their own.
    reads, reader = state["rows of feed_reads"], f"/{home.parent.name}/"
    state["rows of feed_reads"] = sorted(row.replace(reader, "/") for row in reads)
    return state


def forgive(state: dict[str, Any], down: list[list[str]]) -> int:
    """Take out of a home's state what a feed that was down without news may change; the number of
    rows of `feed_reads` that were."""
    days, pairs = {day for day, _ in down}, {(day, feed) for day, feed in down}
    kept = []
    for row in state["rows of feed_reads"]:
        cells = ast.literal_eval(row)
        if (cells["day"], cells["feed"]) not in pairs:
            kept.append(row)
    n_forgiven = len(state["rows of feed_reads"]) - len(kept)
    state["rows of feed_reads"] = kept
    for place, row in enumerate(state["rows of stage_runs"]):
        if "'stage': 'ingest'" in row:
            cells = ast.literal_eval(row)
            if cells["day"] in days:
                del cells["detail"]["n_alive"], cells["detail"]["failures"]
                state["rows of stage_runs"][place] = repr(cells)
    for day in days:
        report = state[f"file reports/{RUN}/{day}/report.json"]
        del report["news"]["n_alive"], report["news"]["failures"]
        report["feeds"] = [read for read in report["feeds"] if (day, read["feed"]) not in pairs]
        told = tuple(f"Feed {feed} has failed" for other, feed in pairs if other == day)
        report["to_do"] = [item for item in report["to_do"] if not item["text"].startswith(told)]
    return n_forgiven


def growth(soaked: Soaked) -> dict[str, Any]:
    """{key: [first, last, median of the second quarter, of the last]}, and whether it is flat."""
    samples = soaked.facts["samples"]
    n = len(samples)
    found: dict[str, Any] = {}
    for key in samples[0]:
        values = [sample[key] for sample in samples]
        second, last = values[n // 4 : n // 2] or values, values[3 * n // 4 :]
        ends = (values[0], values[-1])
        found[key] = [*ends, statistics.median(second), statistics.median(last)]
    grown = {key: values[3] - values[2] for key, values in found.items()}
    found["is_flat"] = (
        grown["rss_mb"] <= MAX_GROWTH_MB
        and grown["n_descriptors"] == grown["n_threads"] == 0
        and not soaked.n_processes_left
    )
    return found | {"n_processes_left": soaked.n_processes_left}


def _is_well(result: dict[str, Any]) -> bool:
    return not result["differences"] and all(s["is_flat"] for s in result["services"].values())


def in_words(result: dict[str, Any]) -> str:
    counts = dict(result["troubles"])
    lines = [
        f"{result['n_days']} days, {counts.pop('wake-ups')} wake-ups, {counts.pop('kills')} kills ("
        + ", ".join(f"{stage} {n}" for stage, n in result["killed_in"].items())
        + f"), {result['feed_days_down']} feed-days down; "
        + ", ".join(f"{what} {n}" for what, n in sorted(counts.items())),
        f"compared: {result['n_rows']} rows of {result['n_tables']} tables ({result['n_updates']} "
        f"updates), {result['n_files']} files; differences: {len(result['differences'])}",
        *(f"  {what}" for what in result["differences"]),
    ]
    for name, service in result["services"].items():
        told = [
            f"{label} {first:.{digits}f} first, {last:.{digits}f} last, median {second:.{digits}f} "
            f"in the second quarter, {fourth:.{digits}f} in the last"
            for label, key, digits in (("MB", "rss_mb", 1), ("descriptors", "n_descriptors", 0),
                                       ("threads", "n_threads", 0))
            for first, last, second, fourth in [service[key]]
        ]  # fmt: skip
        word = "flat" if service["is_flat"] else "NOT FLAT"
        left = f"{service['n_processes_left']} processes left"
        lines.append(f"the {name} service, {word}: {'; '.join(told)}; {left}")
    return "\n".join([*lines, f"{result['day_s']:.1f} s a quiet day, {result['seconds']} s in all"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Days of a service, in quiet and in trouble.")
    parser.add_argument("--archive", type=Path, default=ARCHIVE)
    parser.add_argument("--days", type=int, help="the first so many; default all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not args.archive.exists():
        sys.exit(f"no archive {args.archive}; name one with --archive")
    end_on_signals(grace_s=60.0)  # its services end with it
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="varro-soak-") as name:
        archive = args.archive.resolve()
        result = soak(Path(name), archive, n_days=args.days, seed=args.seed)
    result["seconds"] = round(time.perf_counter() - started, 1)
    print(json.dumps(result, indent=1) if args.json else in_words(result))
    sys.exit(not _is_well(result))


if __name__ == "__main__":
    main()
