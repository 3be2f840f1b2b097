"""How a day is watched: bars with rates and time left on a terminal, one line a stage elsewhere."""

from __future__ import annotations

from collections.abc import Callable
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
from varro.service.doing import DoingFile

_SPEED_OVER_S = 3600.0
"""the time left follows from the speed of the last hour: a pass may take minutes"""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        n, seconds = task.fields["done"], task.elapsed
        return Text(f"{n / seconds:,.0f} {task.fields['unit']}/s" if n and seconds else "")


class StageProgress:
    """Prints to a console (stderr), so that stdout stays for results; other processes see it in a
    file."""

    def __init__(
        self,
        console: Console,
        file: DoingFile | None = None,
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._console = console
        self._file = file
        self._clock = clock
        self._bars: Progress | None = None
        self._task: Any = None
        self._done = 0

    def started(self, day: str, stage: Stage, *, total: int | None, unit: str) -> None:
        if self._file is not None:
            self._file.started(day, stage, total=total, unit=unit)
        if not self._console.is_terminal:
            return
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            _Rate(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            speed_estimate_period=_SPEED_OVER_S,
            get_time=self._clock,
        )
        self._done = 0
        self._task = self._bars.add_task(f"{day} {stage}", total=total, unit=unit, done=0)
        self._bars.start()

    def advanced(self, n: int, spared: int = 0) -> None:
        """`n` more are done, and `spared` need not be: they shorten the way and are no speed."""
        if self._file is not None:
            self._file.advanced(n, spared)
        if self._bars is not None:
            self._done += n
            self._bars.update(self._task, advance=n + spared, done=self._done)

    def finished(self, day: str, stage: Stage, *, seconds: float, summary: str) -> None:
        self._stop_bars()
        if self._file is not None:
            self._file.finished()
        self._console.print(
            f"{day} {stage:<8} {seconds:6.1f} s  {summary}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def warned(self, text: str) -> None:
        self._console.print(f"varro: {text}", highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        self._stop_bars()
        if self._file is not None:
            self._file.stop()

    def _stop_bars(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
