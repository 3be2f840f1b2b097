"""A day's numbers on their way to trackers: trackio, Weights & Biases, TensorBoard.

They are sinks and never a source: what they hold is made again from reports at any time. Each is
fed in a process of its own, which may hang, crash or chatter without any harm to the day.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from varro.config import SINKS, SinksConfig
from varro.domain import RunInfo, stable_hash
from varro.errors import StageError
from varro.report.metrics import METRICS

_SECTIONS = ("evaluation", "settled", "update", "forecast", "news", "memory")
"""of report.json, where numbers of the metrics table stand under their own names"""
_CLAIM = ("mean", "low", "high", "claim_low", "claim_high")


@dataclass(frozen=True)
class DayNumbers:
    """What a tracker is given of one day."""

    step: int
    """the day's place in its run, from 0"""
    day: str
    at: float
    """the day's clock, seconds since 1970"""
    numbers: dict[str, float]


def sinks_on(config: SinksConfig) -> list[str]:
    return [name for name in SINKS if getattr(config, name)]


def day_numbers(report: Mapping[str, Any], *, step: int) -> DayNumbers:
    """The numbers of a report that the metrics table defines, by their path in it."""
    known = {metric.name for metric in METRICS}
    found = {
        path: value
        for section in _SECTIONS
        for path, value in _leaves(section, report.get(section))
        if path.rpartition("/")[2] in known
    }
    found |= dict(_leaves("seconds", report.get("timings")))
    lift = (report.get("learned") or {}).get("lift") or {}
    found |= {
        f"claim/lift_{name}": float(lift[name]) for name in _CLAIM if lift.get(name) is not None
    }
    at = datetime.fromisoformat(report["made_at"]).timestamp()
    return DayNumbers(step, report["day"], at, found)


def report_numbers(folder: Path, *, step: int) -> DayNumbers:
    """The same of a day's folder.

    Raises: StageError if its report is gone, or is none.
    """
    file = folder / "report.json"
    try:
        return day_numbers(json.loads(file.read_text(encoding="utf-8")), step=step)
    except FileNotFoundError:
        raise StageError(
            f"{file} is gone; 'varro report --day {folder.name}' writes it again"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StageError(
            f"{file} is not a report that can be read ({error}); 'varro report --day "
            f"{folder.name}' writes it again"
        ) from error


def feed(
    sink: str,
    rows: Sequence[DayNumbers],
    *,
    run: RunInfo,
    home: Path,
    config: SinksConfig,
    timeout_s: float | None = None,
) -> int:
    """Give days to a tracker; returns how many it did not have yet.

    Raises: StageError saying why it did not take them.
    """
    message = {
        "sink": sink,
        "project": config.project,
        "run": run.name,
        "id": stable_hash("sink", run.name, run.config_hash)[:16],
        "config": run.config,
        "folder": str(home / "tensorboard" / run.name),
        "rows": [asdict(row) for row in rows],
    }
    limit = timeout_s or config.timeout_s
    with subprocess.Popen(
        [sys.executable, "-m", "varro.export.trackers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # a tracker starts processes of its own, which must end with it
    ) as child:
        try:
            said, complained = child.communicate(json.dumps(message), timeout=limit)
        except subprocess.TimeoutExpired:
            raise StageError(f"{sink} has not taken the numbers within {limit:g} s") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    lines = [line.strip() for line in complained.splitlines() if line.strip()]
    if child.returncode != 0:
        why = lines[-1] if lines else f"its process ended with code {child.returncode}"
        raise StageError(f"{sink} did not take the numbers: {why[:300]}")
    return int(said.split()[-1])


def feed_all(
    row: DayNumbers, *, run: RunInfo, home: Path, config: SinksConfig
) -> dict[str, str | None]:
    """Give a day to every tracker that is on: name → why it was not taken, or None."""
    found: dict[str, str | None] = {}
    for sink in sinks_on(config):
        try:
            feed(sink, [row], run=run, home=home, config=config)
            found[sink] = None
        except (StageError, OSError, ValueError) as error:
            found[sink] = " ".join(str(error).split())
    return found


def _leaves(path: str, value: object) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _leaves(f"{path}/{key}", child)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)
