"""What each stage's row says whatever the stage does: how long it took, in how much memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from varro.domain import Stage, StageRun
from varro.report.machine import stage_memory
from varro.run import OpenRun
from varro.service.slots import DueDay

_OF_THE_POLICY = (Stage.UPDATE, Stage.FORECAST, Stage.EVALUATE)
"""stages that use the live policy, and say so if it is not the newest version"""


@dataclass
class StageTiming:
    """A stage that is at work."""

    work: OpenRun
    due: DueDay
    stage: Stage
    started: float
    summary: str = ""
    """what it came to, for who watches"""

    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def row(self, detail: dict[str, Any]) -> StageRun:
        """The stage's row for the ledger, as of now."""
        memory = stage_memory(with_mlx=self.work.policy is not None)
        detail = {**detail, "memory": memory}
        if self.work.damaged and self.stage in _OF_THE_POLICY:
            detail["damaged"] = [asdict(lost) for lost in self.work.damaged]
        return StageRun(
            self.work.name, self.due.day, self.stage, self.due.as_of, self.seconds(), detail
        )


def begin_stage(work: OpenRun, due: DueDay, stage: Stage) -> StageTiming:
    """The clock of a stage that begins now."""
    if work.policy is not None:
        from varro.policy.mlx import reset_peak

        reset_peak()
    return StageTiming(work, due, stage, time.perf_counter())


@contextmanager
def timed_stage(
    work: OpenRun, due: DueDay, stage: Stage, *, total: int | None = None, unit: str = ""
) -> Iterator[StageTiming]:
    """The same, said to who watches; MLX's free memory is the system's again when it has ended."""
    timing = begin_stage(work, due, stage)
    work.progress.started(due.day, stage, total=total, unit=unit)
    yield timing
    work.progress.finished(due.day, stage, seconds=timing.seconds(), summary=timing.summary)
    if work.policy is not None:
        from varro.policy.mlx import release_memory

        release_memory()
