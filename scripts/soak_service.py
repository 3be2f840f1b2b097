"""The long-living half of a soak: `varro serve` through an archive's days, quietly or in trouble.

It is woken with the clock and the feeds that a generator thinks out from what the ledger holds, and
it must come to each day's end. What it needs of memory and descriptors is read once a day.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from soak_world import (
    ALWAYS,
    CONFIG,
    FAULTS,
    MENDED,
    QUICK,
    SLOW,
    TIMEOUT_S,
    WITH_STATUS,
    News,
    Scene,
    cycle_name,
    evenings,
    read_scene,
    write_scene,
)

from varro.config import load_config
from varro.domain import Stage
from varro.errors import FeedError, StageError
from varro.report.machine import rss_gb
from varro.service.ending import end_on_signals
from varro.service.serve import serve
from varro.service.slots import Begun
from varro.service.tick import day_process, glance_of, load_state, state_path

DONE, KILLED = 0, 128 + signal.SIGKILL
NO_NEWS, CLOCK_IS_BACK = FeedError.exit_code, StageError.exit_code
WAKE_UP = timedelta(seconds=0.2)
FIRST_DAY_S = 5.0
"""about how long one takes; later ones are measured"""
MAX_TRIES = 20
"""of one day: more, and it will never be done"""
MAX_KILLS = 3
"""of one day"""
SMALLEST_JUMP = timedelta(minutes=15)
"""backwards: less is a clock that was put right, and is no matter"""
LARGEST_JUMP = timedelta(hours=6)


@dataclass(frozen=True)
class Expected:
    """A scene, and what may come of a wake-up in it."""

    scene: Scene
    codes: frozenset[int]
    """exit codes of the day's process; none: it must not be started"""
    is_refused: bool = False
    """the service says that the clock was set back"""


class Soak:
    """A service on its way through the days."""

    def __init__(self, config: Any, news: News, n_days: int, scene: Path, seed: int) -> None:
        self.config, self.news, self.n_days, self.scene = config, news, n_days, scene
        self.at = evenings(news, n_days, seed)
        self.samples: list[dict[str, float]] = []
        """before each day, and after the last: rss_mb, n_descriptors, n_threads"""
        self.counts: Counter[str] = Counter()
        self.killed_in: Counter[str] = Counter()
        self.seconds: list[float] = []
        """of each process of a day that came to its end, its start included"""
        self.code: int | None = None
        """how the process of the newest wake-up ended, if there was one"""
        self._readings = 0
        self._scenes: Iterator[Scene] = iter(())

    def run(self, expected: Iterator[Expected], arguments: list[str]) -> None:
        """Serve until the days are over.  Raises: SystemExit if one came to what it must not."""
        self._scenes = self._checked(expected)
        program = (sys.executable, str(Path(__file__).with_name("soak_day.py")), str(self.scene))
        start = day_process(arguments, limit=timedelta(minutes=20), program=program)

        def run_day(log: Path) -> int:
            started = time.monotonic()
            self.code = start(log)
            if self.code == DONE:
                self.seconds.append(time.monotonic() - started)
            return self.code

        try:
            serve(self.config, run_day, clock=self._clock, say=self._say, every=WAKE_UP)
        except _Over:
            return

    def _clock(self) -> datetime:
        """Asked twice a wake-up, the second time when the day's process has ended."""
        self._readings += 1
        if self._readings % 2:
            scene = next(self._scenes, None)
            if scene is None:
                raise _Over
            write_scene(self.scene, scene)
        return read_scene(self.scene).clock

    def _checked(self, expected: Iterator[Expected]) -> Iterator[Scene]:
        for number, wanted in enumerate(expected, start=1):
            self.code = None
            yield replace(wanted.scene, number=number)
            self.counts["wake-ups"] += 1
            state = load_state(state_path(self.config.home, self.config.run.name))
            assert state is not None
            is_refused = self.code is None and state.exit_code == CLOCK_IS_BACK
            is_as_expected = self.code in (wanted.codes or {None})
            if is_refused != wanted.is_refused or not is_as_expected:
                sys.exit(f"in {wanted} the service came to {self.code}: {state}")
            if self.code == KILLED:
                self.counts["kills"] += 1
                self.killed_in[self._at_work_on(wanted.scene.day)] += 1

    def _say(self, words: str) -> None:
        print(f"{read_scene(self.scene).now} {words}", file=sys.stderr, flush=True)

    def _at_work_on(self, day: int) -> str:
        """What a process that is gone was doing."""
        newest = glance_of(self.config).newest
        finished = newest[2] if newest else frozenset()
        if Stage.REPORT in finished:
            return "after its report" if self.is_newest(day) else "up to its ingest"
        left = [stage for stage in Stage if stage not in finished]
        return str(left[0]) if finished else "up to its ingest"

    def begun(self, day: int) -> Begun | None:
        """How far a day has come; None if nothing is known of it."""
        newest = glance_of(self.config).newest
        name = cycle_name(self.news, day)
        if newest is None or newest[0] < name:
            return None
        return Begun.of(*newest) if newest[0] == name else Begun(name, newest[1], is_done=True)

    def is_newest(self, day: int) -> bool:
        newest = glance_of(self.config).newest
        return newest is not None and newest[0] == cycle_name(self.news, day)

    def sample(self) -> None:
        self.samples.append(
            {
                "rss_mb": rss_gb() * 1000,
                "n_descriptors": len(os.listdir("/dev/fd")),
                "n_threads": threading.active_count(),
            }
        )

    def scene_of(self, day: int, now: datetime | None = None, **what: Any) -> Scene:
        """A day's evening, or what a wrong clock makes of it."""
        return Scene(now=(now or self.at[day]).isoformat(), day=day, **what)


class _Over(BaseException):
    """The days are."""


# -- two ways through the days


def quietly(soak: Soak) -> Iterator[Expected]:
    """Each day at its hour, and a look in between."""
    for day in range(soak.n_days):
        soak.sample()
        yield Expected(soak.scene_of(day), frozenset({DONE}))
        later = soak.scene_of(day, soak.at[day] + timedelta(hours=2))
        yield Expected(later, frozenset())
    soak.sample()


class Trouble:
    """The same days with kills, feeds that fail and clocks that jump, as `draw` has them. None of
    it may change what the ledger holds in the end, but for the rows of feeds that were down on a
    day on which they had nothing new."""

    def __init__(self, soak: Soak, draw: random.Random) -> None:
        self.soak, self.draw = soak, draw
        self.down = [self._down_on(day) for day in range(soak.n_days)]
        """feeds without news that fail for a whole day, with what is wrong with them"""

    def wakeups(self) -> Iterator[Expected]:
        soak = self.soak
        for day in range(soak.n_days):
            soak.sample()
            n_tries = n_kills = n_outages = 0
            while not ((begun := soak.begun(day)) and begun.is_done):
                n_tries += 1
                if n_tries > MAX_TRIES:
                    sys.exit(f"{cycle_name(soak.news, day)} was begun {MAX_TRIES} times: {begun}")
                if begun is not None and self._chance(0.3):
                    yield self._set_back(day, begun)
                    continue
                if begun is None and n_outages < 2 and self._chance(0.15):
                    n_outages += 1
                    yield self._outage(day)
                    continue
                is_killed = n_kills < MAX_KILLS and self._chance(0.7)
                n_kills += is_killed
                if begun is None and is_killed and self._chance(0.1):
                    yield self._killed_in_hanging_feed(day)
                    continue
                yield self._day(day, begun, is_killed=is_killed)
            if soak.is_newest(day):  # it is not, if its successor was begun in the same breath
                yield from self._wrong_clocks(day)
        soak.sample()

    def _chance(self, probability: float) -> bool:
        return self.draw.random() < probability

    def _count(self, what: str, n: int = 1) -> None:
        self.soak.counts[what] += n

    # the feeds

    def _down_on(self, day: int) -> dict[str, tuple[str, int]]:
        found = {}
        for feed in self.soak.news.feeds:
            if self.soak.news.is_silent(day, feed) and self._chance(0.5):
                slow = self._chance(0.1)
                found[feed] = self._failure(day, feed, SLOW if slow else QUICK)
        return found

    def _failure(self, day: int, feed: str, kinds: Iterable[str]) -> tuple[str, int]:
        """A feed that has never shown anything is not suddenly empty: it is well, and read."""
        is_new = not self.soak.news.has_shown(day, feed)
        kinds = [kind for kind in kinds if not (is_new and kind == "suddenly empty")]
        return self.draw.choice(kinds), ALWAYS

    def _outage(self, day: int) -> Expected:
        """No feed can be read, each for its own reason: the day is not begun. What a server says
        itself would be remembered, and would change when its feed is asked again."""
        self._count("outages")
        quick = [kind for kind in QUICK if kind not in WITH_STATUS]
        faults = {feed: self._failure(day, feed, quick) for feed in self.soak.news.feeds}
        worst = self.draw.choice(self.soak.news.feeds)
        faults[worst] = self._failure(day, worst, [k for k in FAULTS if k not in WITH_STATUS])
        return Expected(self.soak.scene_of(day, faults=faults), frozenset({NO_NEWS}))

    def _killed_in_hanging_feed(self, day: int) -> Expected:
        """The other feeds are read, and their bodies kept, when the process is killed."""
        self._count("kills while a feed hangs")
        loud = [f for f in self.soak.news.feeds if f not in self.down[day]]
        faults = {**self.down[day], self.draw.choice(loud): ("hang", 1)}
        kill_after_s = self.draw.uniform(1, TIMEOUT_S - 1)
        scene = self.soak.scene_of(day, faults=faults, kill_after_s=kill_after_s)
        return Expected(scene, frozenset({KILLED}))

    def _mended(self, day: int) -> dict[str, tuple[str, int]]:
        """Feeds that fail once or twice and are well when they are asked again."""
        loud = [f for f in self.soak.news.feeds if f not in self.down[day]]
        feeds = self.draw.sample(loud, self.draw.choice((0, 0, 1, 1, 2)))
        self._count("feeds mended within a fetch", len(feeds))
        return {feed: (self.draw.choice(MENDED), self.draw.choice((1, 1, 2))) for feed in feeds}

    # the clock

    def _day(self, day: int, begun: Begun | None, *, is_killed: bool) -> Expected:
        """A wake-up that is to do the day, or what is left of it."""
        soak = self.soak
        scene = soak.scene_of(day, faults=self.down[day])
        codes = {DONE}
        if begun is None:
            scene = replace(scene, faults={**self.down[day], **self._mended(day)})
        elif begun.is_half and day + 1 < soak.n_days and self._chance(0.4):
            self._count("clock on, over a sleep in a half day")
            scene = self._evening(day + 1)
        elif self._chance(0.7):
            self._count("clock on, in a half day")
            scene = replace(scene, now=self._later(day).isoformat())
        if scene.day == day:
            jump = self.draw.random()
            if jump < 0.1:
                self._count("clock back, under a day's feet")
                scene = replace(scene, then=replace(scene, now=self._earlier(day).isoformat()))
                codes = {CLOCK_IS_BACK}
            elif jump < 0.2:
                self._count("clock on, under a day's feet")
                scene = replace(scene, then=replace(scene, now=self._later(day).isoformat()))
            elif jump < 0.3 and day + 1 < soak.n_days:
                self._count("clock on, over a sleep under a day's feet")
                scene = replace(scene, then=self._evening(day + 1))
        if is_killed:
            whole_s = statistics.median(soak.seconds) if soak.seconds else FIRST_DAY_S
            # About half of it goes by before the clock is looked at.
            scene = replace(scene, kill_after_s=self.draw.uniform(0.05, 0.65) * whole_s)
            codes.add(KILLED)
        return Expected(scene, frozenset(codes))

    def _evening(self, day: int) -> Scene:
        return self.soak.scene_of(day, faults=self.down[day])

    def _set_back(self, day: int, begun: Begun) -> Expected:
        """A half day and a clock before it: nothing is done until it is right again."""
        self._count("clock back, in a half day")
        scene = self.soak.scene_of(day, self._earlier(day))
        return Expected(scene, frozenset(), is_refused=True)

    def _wrong_clocks(self, day: int) -> Iterator[Expected]:
        """The day is done, and nothing is due, whatever the clock says."""
        jump = self.draw.random()
        if jump < 0.4:
            self._count("clock back, after a day")
            scene = self.soak.scene_of(day, self._earlier(day))
            yield Expected(scene, frozenset(), is_refused=True)
        elif jump < 0.7:
            self._count("clock on, after a day")
            scene = self.soak.scene_of(day, self._later(day))
            yield Expected(scene, frozenset())

    def _earlier(self, day: int) -> datetime:
        return self.soak.at[day] - self.draw.uniform(SMALLEST_JUMP, LARGEST_JUMP)

    def _later(self, day: int) -> datetime:
        """Before the next cycle falls due: one that is begun under a clock that is wrong has that
        clock for good, and is another."""
        return self.soak.at[day] + timedelta(hours=self.draw.uniform(0.1, 20))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--days", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="for home, scene and result")
    parser.add_argument("--trouble", action="store_true")
    parser.add_argument("settings", nargs="*")
    args = parser.parse_args()
    end_on_signals()
    home = args.folder / "home"
    config = load_config(CONFIG, (f"home={home}", *args.settings))
    soak = Soak(config, News(args.archive), args.days, args.folder / "scene.json", args.seed)
    down: list[dict[str, tuple[str, int]]] = []
    expected = quietly(soak)
    if args.trouble:
        trouble = Trouble(soak, random.Random(f"trouble {args.seed}"))
        down, expected = trouble.down, trouble.wakeups()
    arguments = ["--config", str(CONFIG), "--home", str(home)]
    soak.run(expected, arguments + [part for text in args.settings for part in ("--set", text)])
    found = {
        "samples": soak.samples,
        "counts": soak.counts,
        "killed_in": soak.killed_in,
        "seconds": soak.seconds,
        "down": [
            (cycle_name(soak.news, day), feed) for day, feeds in enumerate(down) for feed in feeds
        ],
    }
    (args.folder / "result.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
