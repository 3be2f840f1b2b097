"""How a day is watched: bars with rates and time left on a terminal, one line a stage elsewhere."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from varro.domain import Stage


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {task.fields['unit']}/s" if speed else "")


class StageProgress:
    """Prints to a console (stderr), so that stdout stays for results."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Progress | None = None
        self._task: Any = None

    def started(self, day: str, stage: Stage, *, total: int | None, unit: str) -> None:
        if not self._console.is_terminal:
            return
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            _Rate(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bars.add_task(f"{day} {stage}", total=total, unit=unit)
        self._bars.start()

    def advanced(self, n: int) -> None:
        if self._bars is not None:
            self._bars.advance(self._task, n)

    def finished(self, day: str, stage: Stage, *, seconds: float, summary: str) -> None:
        self.stop()
        self._console.print(
            f"{day} {stage:<8} {seconds:6.1f} s  {summary}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
