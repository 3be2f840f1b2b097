"""`varro tick`: look whether a cycle is due, and run it. Cheap, and safe to be called at any time.

What wakes it only wakes it; the ledger says what is due, and says it again under the run's lock in
the process that does the work. So a wake-up that comes late, twice, or never does no harm.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from varro.config import SINKS, Config
from varro.errors import (
    DEGRADED,
    DiskError,
    EmptyCycleError,
    HeldError,
    LedgerError,
    StageError,
    StaleLeaseError,
    VarroError,
)
from varro.files import disk_errors, write_file
from varro.ledger.glance import Glance, degraded_since, glance_at
from varro.ledger.place import ledger_place
from varro.lock import holder_of, is_held, is_silent, lock_path, waiting_lock
from varro.service.alerts import channels, is_over, tell
from varro.service.ending import ENDS_WITH_STDIN, ending_of
from varro.service.pause import load_pause
from varro.service.slots import Begun, Timetable, due_live, load_timetable
from varro.service.watch import Alert, Attempt, alerts_of

OUTCOMES = {
    0: "done",
    DEGRADED: "degraded",
    HeldError.exit_code: "held",
    EmptyCycleError.exit_code: "empty",
    StaleLeaseError.exit_code: "taken over",
    129: "interrupted",
    130: "interrupted",
    143: "interrupted",
}
"""what an exit code is called; any other is `failed`"""
_DONE = (0, DEGRADED)
TOO_LONG = 124
"""exit code of a day that was ended because it took longer than schedule.max_run_h"""
_BY_THE_LEDGER = ("quiet", "unsettled", "canary", "refused", *(f"sink-{name}" for name in SINKS))
"""events that only a ledger which can be read tells of, or that they are over"""
_UNDECIDED = ("held", "taken over", "interrupted", "empty")
"""outcomes of a cycle that has neither failed nor been done"""
_N_LOGS = 60
_END_S = 4.0
"""for the process of a day to end when it is told to: less than this one has itself, see
`ending.GRACE_S`"""

RunDay = Callable[[Path], int]
"""Runs what is due with its words added to a log; the exit code, 128 + n for signal n."""


@dataclass(frozen=True)
class State:
    """What the service remembers between two wake-ups. Deleting it loses nothing but what was
    already told."""

    watched_since: str
    at: str = ""
    """when a wake-up last looked or came back from a day: the heartbeat"""
    outcome: str = "nothing due"
    """`nothing due`, `paused`, `at work` while a day is run, or how that ended, see OUTCOMES"""
    cycle: str | None = None
    exit_code: int = 0
    error: str = ""
    next_due: str | None = None
    left: str | None = None
    """a cycle that fell due while this one was run, and is to be run at once"""
    last_run: dict[str, Any] | None = None
    """{at, cycle, outcome, exit_code, error, degraded, seconds, log} of what was run last;
    `degraded` has the days that it did not train on → why"""
    told: dict[str, Any] | None = None
    """alerts that are the case and have been told, by key"""


def state_path(home: Path, run: str) -> Path:
    return home / "service" / f"{run}.json"


def load_state(path: Path) -> State | None:
    """None if there is none, or it is of another version."""
    try:
        state = State(**json.loads(path.read_text(encoding="utf-8")))
        is_aware = datetime.fromisoformat(state.watched_since).tzinfo is not None
        known = [state.told or {}, state.last_run or {"outcome": "", "cycle": ""}]
        is_ours = is_aware and all(isinstance(facts, dict) for facts in known)
        return state if is_ours and {"outcome", "cycle"} <= known[1].keys() else None
    except (OSError, ValueError, TypeError):
        return None


def tick(
    config: Config,
    run_day: RunDay,
    *,
    clock: Callable[[], datetime],
    complain: Callable[[str], None],
) -> State:
    """Run the cycle that is due, tell what is wrong; leave a heartbeat before it and at the end.

    One that falls due meanwhile is `left`: then this is to be called again at once. In a pause
    nothing is begun; all else is as ever.

    Raises: HeldError if another process is at work on the run; StageError if the clock was set
    back; LedgerError if the ledger can not be read; ConfigError if the system's time zone can not
    be told; all after the heartbeat. DiskError if that can not be written: it is told at each
    wake-up, unless it was told before that the disk is filling up, and nothing else is.
    Whatever ends this process ends the day's too, in seconds.
    """
    run = config.run.name
    path, now = state_path(config.home, run), clock()
    state = load_state(path) or State(watched_since=now.isoformat())
    state = replace(state, at=now.isoformat(), cycle=None, left=None, error="", exit_code=0)
    timetable: Timetable | None = None
    glance: Glance | None = None
    refusal: VarroError | None = None
    try:
        with disk_errors("wake-up"):
            if config.news.source == "feeds":
                timetable = load_timetable(config.schedule)
            glance = glance_of(config)
            cycle = due_cycle(config, glance, now)
            lock = lock_path(config.home, run)
            paused = load_pause(config.home, run)
            if cycle is None:
                state = replace(state, outcome="nothing due")
            elif paused is not None:
                state = replace(state, outcome="paused", cycle=cycle)
            elif is_held(lock) and not is_silent(lock, now, config.schedule.lease_s):
                # One that is silent is looked at more closely by the day's process.
                raise HeldError(
                    f"cycle {cycle} is due, but another varro is at work on this run: "
                    f"{holder_of(lock) or 'it has just begun'} ({lock})"
                )
            else:
                state = replace(state, outcome="at work", cycle=cycle)
                with waiting_lock(path.with_suffix(".lock")):
                    _write_state(path, state)
                state = _run(state, config, run_day, cycle=cycle, now=now)
                now, glance = clock(), None
                glance = glance_of(config)
                if state.exit_code in _DONE:
                    state = replace(state, left=due_cycle(config, glance, now))
    except VarroError as error:
        refusal = error
        code = error.exit_code
        outcome = OUTCOMES.get(code, "failed")
        state = replace(state, outcome=outcome, exit_code=code, error=str(error))
    state = replace(
        state,
        at=now.isoformat(),
        next_due=timetable.following(now).at.isoformat() if timetable else None,
    )
    try:
        with disk_errors("service state"), waiting_lock(path.with_suffix(".lock")):
            # First: what can not be remembered would be told again at each wake-up.
            state = _write_state(path, state)
            told = _told(state, config, glance, now=now, refusal=refusal, complain=complain)
            if told != state.told:
                state = _write_state(path, state, told=told)
    except DiskError as error:
        by = channels(config.alerts, home=config.home, run=run, now=now)
        tell([Alert("disk", str(error))], state.told or {}, by, now=now, complain=complain)
        raise
    if refusal is not None:
        raise refusal
    return state


def _write_state(path: Path, state: State, *, told: dict[str, Any] | None = None) -> State:
    """Under the state's lock; without `told`, what has been told is what the file says: another
    wake-up may have told something since this one read it."""
    if told is None:
        newest = load_state(path)
        told = (newest and newest.told) or {}
    state = replace(state, told=told)
    write_file(path, (json.dumps(asdict(state), indent=2) + "\n").encode())
    return state


def in_words(state: State) -> str:
    """One line on what a wake-up came to."""
    due = "" if state.next_due is None else f"; next due {state.next_due[:16]}Z"
    if state.cycle is None:
        return f"nothing is due{due}"
    if state.outcome == "paused":
        return f"{state.cycle} is due, but paused; 'varro resume' lets it go on{due}"
    why = f": {state.error}" if state.error else ""
    if state.outcome == "empty":  # without the clocks in its words: they are others each hour
        why = " so far: no new headline; tried again at the next wake-up"
    last = state.last_run or {}
    log = f" (log: {last['log']})" if last else ""
    thin = [f"{day}, {reason}" for day, reason in last.get("degraded", {}).items()]
    untrained = f"; evaluated, not trained on: {'; '.join(thin)}" if thin else ""
    return f"{state.cycle} {state.outcome}{why}{untrained}{log}{due}"


def glance_of(config: Config) -> Glance:
    """The configured run at a glance."""
    return glance_at(ledger_place(config), config.run.name, home=config.home)


def due_cycle(config: Config, glance: Glance, now: datetime) -> str | None:
    """The name of the oldest cycle that can be run now.

    Raises: StageError if the clock was set back; FeedError for an archive that can not be read.
    """
    if config.news.source == "feeds":
        newest = None if glance.newest is None else Begun.of(*glance.newest)
        due = due_live(load_timetable(config.schedule), now, newest)
        return due[0].day if due else None
    from varro.news.archive import load_archive

    assert config.news.archive is not None
    archive = load_archive(config.news.archive, max_malformed_frac=config.news.max_malformed_frac)
    last = glance.done[0][0] if glance.done else ""
    return next((day.isoformat() for day in archive.days() if day.isoformat() > last), None)


def day_process(
    arguments: Sequence[str],
    *,
    limit: timedelta,
    program: Sequence[str] = (sys.executable, "-P", "-m", "varro.cli"),
) -> RunDay:
    """`varro train-day --catch-up` in a process of its own, which ends with this one: within
    `_END_S` where this one ends in order, within seconds where it is killed.

    `program`: what is called with a verb and its options; -P, for a module in the folder it is
    called from is none of ours.
    Raises: StageError if the process can not be started.
    """

    def run_day(log: Path) -> int:
        command = [*program, "train-day", "--catch-up", *arguments]
        with log.open("ab") as handle:
            # A session of its own: Ctrl-C on a terminal is for this process, which passes it on.
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,  # closed by the system, whatever ends this process
                    stdout=handle,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env={**os.environ, ENDS_WITH_STDIN: "1"},
                )
            except OSError as error:
                raise StageError(f"the day's process can not be started: {error}") from error
            try:
                code = process.wait(limit.total_seconds())
                if code >= 0:
                    return code
                handle.write(f"varro: {ending_of(code)}\n".encode())
                return 128 - code
            except subprocess.TimeoutExpired:
                handle.write(f"varro: ended after {limit}: schedule.max_run_h\n".encode())
                return TOO_LONG
            finally:
                _end(process)
                assert process.stdin is not None
                process.stdin.close()

    return run_day


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _run(state: State, config: Config, run_day: RunDay, *, cycle: str, now: datetime) -> State:
    folder = config.home / "logs" / config.run.name
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{cycle}.log"
    started = time.monotonic()
    start_of_words = log.stat().st_size if log.exists() else 0
    code = run_day(log)
    is_whole = code in _DONE
    degraded = _degraded(config, cycle, is_whole=is_whole)
    if is_whole:  # that process may have found the day done by another one
        code = DEGRADED if degraded else 0
    error = "" if is_whole else _last_word(log, start_of_words)
    if is_whole and not _is_done(cycle, glance_of(config)):
        code = StageError.exit_code
        error = f"the day's process ended well, but the ledger has no finished cycle {cycle}"
    outcome = OUTCOMES.get(code, "failed")
    last_run = {
        "at": now.isoformat(),
        "cycle": cycle,
        "outcome": outcome,
        "exit_code": code,
        "error": error,
        "degraded": degraded,
        "seconds": round(time.monotonic() - started, 1),
        "log": str(log.relative_to(config.home)),
    }
    for old in sorted(folder.glob("*.log"))[:-_N_LOGS]:
        old.unlink(missing_ok=True)
    return replace(
        state, outcome=outcome, cycle=cycle, exit_code=code, error=error, last_run=last_run
    )


def _degraded(config: Config, cycle: str, *, is_whole: bool) -> dict[str, str]:
    """Finished days from `cycle` on whose news was too thin to be trained on → why.

    Raises: LedgerError, unless the days are not whole: then the ledger may be what is wrong.
    """
    try:
        return degraded_since(ledger_place(config), config.run.name, cycle, home=config.home)
    except LedgerError:
        if is_whole:
            raise
        return {}


def _is_done(cycle: str, glance: Glance) -> bool:
    """Whether it was finished, or passed over for a later one that fell due meanwhile."""
    return bool(glance.done) and glance.done[0][0] >= cycle


def _last_word(log: Path, start: int) -> str:
    """The line that says why a day ended."""
    with log.open("rb") as handle:
        handle.seek(max(start, log.stat().st_size - 20_000))
        lines = handle.read().decode(errors="replace").split("\n")
    said = [line.removeprefix("varro: ") for line in lines if line.startswith("varro: ")]
    return said[-1] if said else f"no word; see {log.name}"


def _is_going_on(key: str, told: Mapping[str, Any]) -> bool:
    return key in told and not is_over(told[key])


def _told(
    state: State,
    config: Config,
    glance: Glance | None,
    *,
    now: datetime,
    refusal: VarroError | None,
    complain: Callable[[str], None],
) -> dict[str, Any]:
    """What is the case now and has been told, by this wake-up or one before it."""
    run, alerts = config.run.name, config.alerts
    last = state.last_run
    failed = None
    if refusal is not None and not isinstance(refusal, HeldError):
        failed = Attempt(None, refusal.exit_code, str(refusal))
    elif (
        last
        and last["outcome"] == "failed"
        and not (glance is not None and _is_done(last["cycle"], glance))
    ):
        failed = Attempt(last["cycle"], last["exit_code"], last["error"])
    cadence = config.schedule.period()
    config.home.mkdir(parents=True, exist_ok=True)
    paused = load_pause(config.home, run)
    found = alerts_of(
        glance,
        now=now,
        watched_since=datetime.fromisoformat(state.watched_since),
        cadence=cadence,
        max_quiet=alerts.max_quiet_cycles * cadence if config.news.source == "feeds" else None,
        failed=failed,
        paused=None if paused is None else str(paused),
        free_gb=shutil.disk_usage(config.home).free / 1e9,
        min_free_gb=alerts.min_free_gb,
        is_disk_told=_is_going_on("disk", state.told or {}),
    )
    by = channels(alerts, home=config.home, run=run, now=now)
    undecided = () if glance else _BY_THE_LEDGER
    if last is not None and last["outcome"] in _UNDECIDED:
        undecided = (*undecided, "failed")
    return tell(found, state.told or {}, by, now=now, complain=complain, undecided=undecided)
