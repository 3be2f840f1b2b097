"""What is wrong with a run that nobody watches. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from varro.ledger.glance import Glance

SILENT_CYCLES = 2
"""finished cycles, one after another, that settled nothing"""

_ROOM = 1.1
"""times `min_free_gb` at which a disk is no more filling up: it is not told at each crossing"""
REFUSED_UPDATES = 3
"""one after another: the halved rate has not helped, and someone must look"""


@dataclass(frozen=True, slots=True)
class Alert:
    """One event, told once; and once that it is over."""

    key: str
    """the same as long as it is the same event; its first word is the kind"""
    text: str
    recovered: bool = False
    """it was the case, and is no more"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How the last run of a day by `varro tick` ended."""

    cycle: str | None
    """None if it could not be told which one is due"""
    exit_code: int
    error: str
    """its last word"""


def alerts_of(
    glance: Glance | None,
    *,
    now: datetime,
    watched_since: datetime,
    cadence: timedelta,
    max_quiet: timedelta | None,
    failed: Attempt | None,
    free_gb: float,
    min_free_gb: float,
    is_disk_told: bool = False,
    paused: str | None = None,
) -> list[Alert]:
    """The events that are the case now.

    `glance` is None where the ledger can not be read, and then nothing is said of what it would
    say; `max_quiet` is None where cycles do not fall due by the clock; `is_disk_told`: that the
    disk is filling up is known, and over with a little more room; `paused` is since when and by
    whom: a pause is no excuse for silence, and is told as its reason.
    """
    found = []
    if failed is not None:
        what = f"cycle {failed.cycle}" if failed.cycle else "nothing can be run: it"
        found.append(
            Alert(
                f"failed {failed.cycle} {failed.exit_code}",
                f"{what} failed with exit code {failed.exit_code}: {failed.error}",
            )
        )
    if glance is not None:
        found += _of_ledger(
            glance,
            now=now,
            watched_since=watched_since,
            cadence=cadence,
            max_quiet=max_quiet,
            paused=paused,
        )
    wanted_gb = min_free_gb * (_ROOM if is_disk_told else 1)
    if free_gb < wanted_gb:
        found.append(Alert("disk", f"{free_gb:.1f} GB free at home, less than {wanted_gb:g}"))
    return found


def _of_ledger(
    glance: Glance,
    *,
    now: datetime,
    watched_since: datetime,
    cadence: timedelta,
    max_quiet: timedelta | None,
    paused: str | None,
) -> list[Alert]:
    found = []
    last = glance.done[0] if glance.done else None
    since = last[1] if last else min(filter(None, [glance.first_at, watched_since]))
    if max_quiet is not None and now - since > max_quiet:
        told = f"the last was {last[0]}" if last else "there has been none"
        hours = (now - since) / timedelta(hours=1)
        why = f"; {paused}" if paused else ""
        found.append(Alert("quiet", f"no cycle was completed for {hours:.0f} hours; {told}{why}"))
    if _settles_nothing(glance.n_settled):
        length = SILENT_CYCLES * cadence / timedelta(hours=1)
        found.append(
            Alert(
                "unsettled",
                f"nothing was settled in the last {SILENT_CYCLES} cycles ({length:g} hours), "
                f"up to {last[0] if last else ''}",
            )
        )
    if len(glance.refused) >= REFUSED_UPDATES:
        found.append(
            Alert(
                "refused",
                f"the guard refused {REFUSED_UPDATES} updates one after another, the last since "
                f"{glance.refused[0]}",
            )
        )
    if glance.broken_canary:
        found.append(
            Alert(
                "canary",
                f"the canaries are out of order on {last[0] if last else ''}: the exact outcome "
                f"does not score above {glance.broken_canary}; nothing is trained",
            )
        )
    found += [
        Alert(f"sink-{sink}", f"of {last[0] if last else ''}: {why}") for sink, why in glance.sinks
    ]
    return found


def _settles_nothing(n_settled: Sequence[int]) -> bool:
    """A run's first cycle has nothing to settle."""
    return len(n_settled) > SILENT_CYCLES and not any(n_settled[:SILENT_CYCLES])
