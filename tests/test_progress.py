"""What a person sees while a day goes by."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from varro.domain import Stage
from varro.service.progress import StageProgress


class Watched:
    """A progress on a terminal whose clock stands until it is moved."""

    def __init__(self, *, is_terminal: bool = True) -> None:
        self.now = 0.0
        self._out = io.StringIO()
        console = Console(file=self._out, force_terminal=is_terminal, width=120, color_system=None)
        self.progress = StageProgress(console, clock=lambda: self.now)

    def after(self, seconds: float, n: int, spared: int = 0) -> None:
        self.now += seconds
        self.progress.advanced(n, spared)

    def last_line(self) -> str:
        """The bar as it was last drawn, which is when it is stopped."""
        self.progress.stop()
        lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", self._out.getvalue()).split("\n")
        return next(line for line in reversed(lines) if "2026-01-05" in line)


@pytest.mark.parametrize("pass_s", [0.5, 60.0])
def test_the_time_left_is_shown_however_slow_a_pass_is(pass_s):
    """Catches a speed of the last 30 seconds: a pass through Qwen3-0.6B takes longer on a CPU, and
    the time left would never be known. 8 passes are left of 10."""
    watched = Watched()
    watched.progress.started("2026-01-05", Stage.UPDATE, total=10, unit="passes")
    for _ in range(2):
        watched.after(pass_s, 1)
    left = {0.5: "0:00:04", 60.0: "0:08:00"}[pass_s]
    assert left in watched.last_line()


def test_answers_that_end_early_shorten_the_time_left_and_are_no_speed():
    """Catches a time left as if every answer ran to its limit, five times too long for answers of a
    fifth of it, and tokens/s that count what was never sampled. 600 of 1,000 tokens are left at
    20 a second, of which 10 are sampled."""
    watched = Watched()
    watched.progress.started("2026-01-05", Stage.FORECAST, total=1000, unit="tokens")
    for _ in range(2):
        watched.after(10.0, 100, spared=100)
    line = watched.last_line()
    assert "0:00:30" in line
    assert "10 tokens/s" in line


def test_elsewhere_a_stage_is_one_line():
    """Catches a log file full of bars."""
    watched = Watched(is_terminal=False)
    watched.progress.started("2026-01-05", Stage.FORECAST, total=1000, unit="tokens")
    watched.after(1.0, 100)
    watched.progress.finished("2026-01-05", Stage.FORECAST, seconds=1.5, summary="100 tokens/s")
    assert watched.last_line() == "2026-01-05 forecast    1.5 s  100 tokens/s"
