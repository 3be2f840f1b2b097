"""What wakes Varro: launchd, a systemd user timer or cron, each calling `varro tick`.

The scheduler only wakes: `tick` asks the ledger what is due, and ends at once where nothing is. So
one that fires late, twice, or after a week of sleep does no harm, and none of them is told when a
day begins; they are only kept in step with it.
"""

from __future__ import annotations

import os
import plistlib
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time
from itertools import dropwhile
from pathlib import Path
from time import sleep
from typing import Literal
from unicodedata import category
from xml.parsers.expat import ExpatError

from varro.config import Config
from varro.domain import stable_hash
from varro.errors import DEGRADED, ConfigError, EmptyCycleError, HeldError, VarroError
from varro.files import disk_errors, write_file
from varro.lock import holder_of, is_held, lock_path
from varro.service.slots import ONE_DAY, load_timetable

Kind = Literal["launchd", "systemd", "cron"]
CARRIED = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "MLX_ENABLE_TF32",
    "OMP_NUM_THREADS",
    "VARRO_BLAS",
)
"""environment variables of the installing shell that the scheduled command gets too: where the
model lies and how it is computed. None may be a secret, for anyone may read a unit; so no proxy,
whose address can hold a password"""
_TRIES = 5
"""of launchctl bootstrap"""
_PAUSE_S = 1.0
Call = Callable[[Sequence[str], bytes | None], tuple[int, bytes, bytes]]
"""Runs a command with something on its standard input: exit code, and what it said on standard
output and standard error."""


@dataclass(frozen=True, slots=True)
class Job:
    """The command that is woken, when and where."""

    name: str
    """of the run"""
    home: Path
    """of the run, absolute"""
    command: tuple[str, ...]
    folder: Path
    """working folder"""
    every_min: int
    at: time
    """a local time that is met: that of a day's first cycle"""
    environment: Mapping[str, str] = field(default_factory=dict)
    """of `CARRIED`, what the command gets beside the scheduler's own"""

    def __post_init__(self) -> None:
        """Raises: ConfigError for what a line of a unit or crontab can not hold."""
        folders = str(self.home), str(self.folder)
        for part in (*folders, *self.command, *self.environment.values()):
            if any(category(letter) in ("Cc", "Cs") for letter in part):
                raise ConfigError(
                    f"a scheduler takes no line break, other control character or broken letter, "
                    f"found {part!r}; write it in the configuration file, or name another folder"
                )

    @property
    def label(self) -> str:
        """What the scheduler knows it by: its own for each run of each home."""
        return f"org.varro.{self.name}.{stable_hash(self.home)[:8]}"

    @property
    def log(self) -> Path:
        return self.home / "logs" / f"{self.name}.tick.log"


def kind_of_this_system() -> Kind:
    """launchd on macOS, systemd where a user manager runs, cron elsewhere."""
    if sys.platform == "darwin":
        return "launchd"
    return "systemd" if Path(f"/run/user/{os.getuid()}/systemd").exists() else "cron"


def call(
    command: Sequence[str], told: bytes | None = None, *, timeout_s: float = 60.0
) -> tuple[int, bytes, bytes]:
    """Raises: ConfigError if there is no such command, it can not be run, or it does not end."""
    try:
        done = subprocess.run(
            command, input=told, capture_output=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError:
        raise ConfigError(f"there is no {command[0]} here; choose another with --kind") from None
    except OSError as error:
        raise ConfigError(f"{command[0]} can not be run: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{shlex.join(command)} did not end within {timeout_s:g} s") from None
    return done.returncode, done.stdout, done.stderr


def job_of(
    config: Config,
    arguments: Sequence[str],
    *,
    now: datetime,
    environment: Mapping[str, str] = os.environ,
) -> Job:
    """What calls `varro tick` for a configuration that a command line has named by `arguments`,
    from the folder that this process is in."""
    first = replace(load_timetable(config.schedule), cadence=ONE_DAY).following(now).at
    return Job(
        name=config.run.name,
        home=config.home.resolve(),
        # -P: a tomllib.py in the working folder is not ours.
        command=(sys.executable, "-P", "-m", "varro.cli", "tick", "--quiet", *arguments),
        folder=Path.cwd(),
        every_min=config.schedule.wake_every_min,
        at=first.astimezone().time(),
        environment={name: environment[name] for name in CARRIED if environment.get(name)},
    )


def installed_here(
    config: Config, arguments: Sequence[str], *, now: datetime, kind: Kind | None = None
) -> dict[str, str | None]:
    """{kind, installed, remark}: what `installed` says, or why this system can not tell; and
    `remark`."""
    kind = kind or kind_of_this_system()
    try:
        found = installed(kind, job_of(config, arguments, now=now), home=Path.home())
    except ConfigError as error:
        found = f"can not be told: {error}"
    return {"kind": kind, "installed": found, "remark": None if found == "no" else remark(kind)}


def render(kind: Kind, job: Job, *, home: Path) -> dict[Path, bytes]:
    """What a scheduler wants, by the path where it goes; cron's line has none of its own."""
    if kind == "launchd":
        path = home / "Library" / "LaunchAgents" / f"{job.label}.plist"
        return {path: plistlib.dumps(plist(job))}
    if kind == "systemd":
        units = home / ".config" / "systemd" / "user"
        return {
            units / f"{job.label}.service": service_unit(job).encode(),
            units / f"{job.label}.timer": timer_unit(job).encode(),
        }
    return {Path("crontab"): f"{cron_line(job)}\n".encode()}


def install(
    kind: Kind,
    job: Job,
    *,
    home: Path,
    call: Call = call,
    wait: Callable[[float], None] = sleep,
) -> list[str]:
    """Write what wakes the run and switch it on; returns where it is.

    Raises: ConfigError with what the scheduler said, DiskError; what was installed before is then
    there as it was. HeldError if launchd would end a day at work.
    """
    with disk_errors("the log's folder"):
        job.log.parent.mkdir(parents=True, exist_ok=True)  # no shell makes it, nor does launchd
    if kind == "cron":
        _write_crontab(with_cron_line(_crontab(call), job, cron_line(job)), call)
        return ["crontab"]
    files = render(kind, job, home=home)
    with disk_errors("what wakes the run"):
        before = {path: path.read_bytes() for path in files if path.exists()}
    was_on = bool(before) and _is_on(kind, job, call)
    lock = lock_path(job.home, job.name)
    if kind == "launchd" and was_on and is_held(lock):
        raise HeldError(
            f"the run is at work ({holder_of(lock) or 'it has just begun'}), and launchd would end "
            "it to take in the new schedule: install again when it is done"
        )
    try:
        _put(files)
        _switch_on(kind, job, home=home, call=call, wait=wait)
    except (VarroError, OSError) as error:
        try:
            if not was_on:
                _switch_off(kind, job, call)
            _put({path: before.get(path) for path in files})
            if was_on:
                _switch_on(kind, job, home=home, call=call, wait=wait)
            else:
                _reread(kind, call)
        except (VarroError, OSError) as another:
            raise ConfigError(
                f"{error}; nor could what was there before be switched on again: {another}"
            ) from error
        raise
    return [str(path) for path in files]


def uninstall(kind: Kind, job: Job, *, home: Path, call: Call = call) -> list[str]:
    """Remove exactly what `install` wrote; returns what was there.

    Note: launchd ends a day at work with it; what of it was finished stays.
    """
    if kind == "cron":
        before = _crontab(call)
        after = with_cron_line(before, job, None)
        if after != before:
            _write_crontab(after, call)
        return ["crontab"] if after != before else []
    found = [path for path in render(kind, job, home=home) if path.exists()]
    if found or kind == "launchd":
        _switch_off(kind, job, call)
    _put(dict.fromkeys(found))
    if found:
        _reread(kind, call)
    return [str(path) for path in found]


def installed(kind: Kind, job: Job, *, home: Path, call: Call = call) -> str:
    """`no`; `off`: it is there, but switched off; `differs`: what is there is not what would be
    written now; `yes`. Folder and environment are those of the shell that installed it, whatever
    this one's are.

    Raises: ConfigError if the scheduler does not say.
    """
    if kind == "cron":
        ours = [line for line in _lines(_crontab(call)) if line.endswith(_mark(job))]
        live = [line for line in ours if not line.lstrip().startswith("#")]
        if not live:
            return "off" if ours else "no"
        is_same = [_essence(kind, line) for line in live] == [_essence(kind, cron_line(job))]
        return "yes" if is_same else "differs"
    wanted = render(kind, job, home=home)
    found = {path: path.read_bytes() for path in wanted if path.exists()}
    if not found:
        return "no"
    if not _is_on(kind, job, call):
        return "off"
    is_same = found.keys() == wanted.keys() and all(
        _essence(kind, found[path].decode(errors="replace")) == _essence(kind, content.decode())
        for path, content in wanted.items()
    )
    return "yes" if is_same else "differs"


def remark(kind: Kind, *, call: Call = call) -> str | None:
    """What its owner has to know, or do, so that it goes on after a logout and a restart."""
    if kind == "launchd":
        return (
            "launchd wakes it while you are logged in at the screen: after a restart, log in once"
        )
    if kind == "systemd":
        try:
            code, said, _ = call(
                ["loginctl", "show-user", str(os.getuid()), "--property=Linger"], None
            )
        except ConfigError:  # the manager may be here without logind
            code, said = 1, b""
        if code or said.split() != [b"Linger=yes"]:
            return (
                "systemd ends it when you log out, and does not start it at boot, unless you call "
                "'loginctl enable-linger' once"
            )
    return None


def plist(job: Job) -> dict[str, object]:
    """A LaunchAgent. Calendar times that pass in sleep are made up once, at wake; those of an
    interval would be lost.

    Note: ProcessType is Standard. launchd.plist(5) throttles Background jobs, and Apple silicon
    runs those on its efficiency cores alone.
    """
    times: list[dict[str, int]] = [{"Minute": minute} for minute in _minutes(job)]
    if job.every_min > 60:
        times = [{"Hour": hour, "Minute": job.at.minute} for hour in _hours(job)]
    return {
        "Label": job.label,
        "ProgramArguments": list(job.command),
        "WorkingDirectory": str(job.folder),
        "StartCalendarInterval": times,
        "RunAtLoad": True,
        "EnvironmentVariables": dict(job.environment),
        "ProcessType": "Standard",
        "ExitTimeOut": 20,
        "StandardOutPath": str(job.log),
        "StandardErrorPath": str(job.log),
    }


def service_unit(job: Job) -> str:
    """A oneshot service: systemd starts no second one beside it. Held by another is no failure, nor
    is a degraded day, or a cycle without news."""
    return (
        "[Unit]\n"
        f"Description=Varro: run what is due of {job.name} in {_escaped(str(job.home))}\n"
        "\n"
        "[Service]\n"
        "Type=oneshot\n"
        f"WorkingDirectory={_escaped(str(job.folder))}\n"
        + "".join(f"Environment={_quoted(f'{k}={v}')}\n" for k, v in job.environment.items())
        + f"ExecStart={' '.join(_quoted(part).replace('$', '$$') for part in job.command)}\n"
        f"SuccessExitStatus={HeldError.exit_code} {DEGRADED} {EmptyCycleError.exit_code}\n"
        "Nice=10\n"
        "TimeoutStartSec=infinity\n"
        "TimeoutStopSec=20\n"
    )


def timer_unit(job: Job) -> str:
    """Also soon after a start; what was slept through is made up for once, at wake."""
    minutes = ",".join(f"{m:02d}" for m in _minutes(job))
    hours = "*" if job.every_min <= 60 else ",".join(f"{h:02d}" for h in _hours(job))
    return (
        "[Unit]\n"
        f"Description=Varro: look whether a cycle of {job.name} is due in "
        f"{_escaped(str(job.home))}\n"
        "\n"
        "[Timer]\n"
        f"OnCalendar=*-*-* {hours}:{minutes}:00\n"
        "OnStartupSec=2min\n"
        "Persistent=true\n"
        "AccuracySec=30s\n"
        f"Unit={job.label}.service\n"
        "\n"
        "[Install]\n"
        "WantedBy=timers.target\n"
    )


def cron_line(job: Job) -> str:
    """Cron passes over what it sleeps through; the next hour makes up for it."""
    minutes = ",".join(map(str, _minutes(job)))
    hours = "*" if job.every_min <= 60 else ",".join(map(str, _hours(job)))
    given = "".join(f"{name}={shlex.quote(value)} " for name, value in job.environment.items())
    run = f"cd {shlex.quote(str(job.folder))} && {given}{shlex.join(job.command)}"
    run = f"{run} >> {shlex.quote(str(job.log))} 2>&1".replace("%", r"\%")  # a bare % ends it
    return f"{minutes} {hours} * * * {run} {_mark(job)}"


def with_cron_line(crontab: str, job: Job, line: str | None) -> str:
    """A crontab with our line in place of an earlier one, or without it; the rest stays."""
    kept = [text for text in _lines(crontab) if not text.endswith(_mark(job))]
    return "".join(f"{text}\n" for text in [*kept, *([line] if line else [])])


def _lines(crontab: str) -> list[str]:
    """As cron has them: `splitlines` would break one at a form feed, too."""
    return crontab.removesuffix("\n").split("\n") if crontab else []


def _mark(job: Job) -> str:
    return f"# {job.label}"


def _minutes(job: Job) -> list[int]:
    return sorted({(job.at.minute + m) % 60 for m in range(0, 60, min(job.every_min, 60))})


def _hours(job: Job) -> list[int]:
    return sorted({(job.at.hour + h) % 24 for h in range(0, 24, job.every_min // 60)})


def _put(files: Mapping[Path, bytes | None]) -> None:
    """Write files, or remove those without content; one that is as it should be is left alone."""
    with disk_errors("what wakes the run"):
        for path, content in files.items():
            if content is None:
                path.unlink(missing_ok=True)
            elif not path.exists() or path.read_bytes() != content:
                write_file(path, content)


def _switch_on(
    kind: Kind, job: Job, *, home: Path, call: Call, wait: Callable[[float], None]
) -> None:
    """Raises: ConfigError if the scheduler refuses."""
    if kind == "systemd":
        _must(call, ["systemctl", "--user", "daemon-reload"])
        _must(call, ["systemctl", "--user", "enable", "--now", f"{job.label}.timer"])
        return
    (path,) = render(kind, job, home=home)
    bootstrap = ["launchctl", "bootstrap", f"gui/{os.getuid()}", str(path)]
    call(_launchctl("bootout", job), None)  # an earlier one; there may be none
    call(_launchctl("enable", job), None)  # a disabled one can not be loaded
    for _ in range(_TRIES - 1):  # bootout does not wait until the earlier one has ended
        if call(bootstrap, None)[0] == 0:
            return
        wait(_PAUSE_S)
    _must(call, bootstrap)


def _switch_off(kind: Kind, job: Job, call: Call) -> None:
    """There may be none, so what the scheduler says is of no account."""
    if kind == "launchd":
        call(_launchctl("bootout", job), None)
    else:
        call(["systemctl", "--user", "disable", "--now", f"{job.label}.timer"], None)


def _reread(kind: Kind, call: Call) -> None:
    """systemd keeps what it has read."""
    if kind == "systemd":
        call(["systemctl", "--user", "daemon-reload"], None)


def _essence(kind: Kind, text: str) -> object:
    """What is written without folder and environment; the text itself if it is not of ours."""
    if kind == "launchd":
        try:
            agent = plistlib.loads(text.encode())
        except (ValueError, ExpatError):
            return text
        theirs = ("WorkingDirectory", "EnvironmentVariables")
        return {key: value for key, value in agent.items() if key not in theirs}
    if kind == "systemd":
        theirs = ("WorkingDirectory=", "Environment=")
        return [line for line in text.splitlines() if not line.startswith(theirs)]
    when, cd, rest = text.partition(" cd ")
    try:
        _folder, _and, *words = shlex.split(rest)
    except ValueError:
        return text
    return when, cd, list(dropwhile(lambda word: word.partition("=")[0] in CARRIED, words))


def _is_on(kind: Kind, job: Job, call: Call) -> bool:
    """Whether the scheduler wakes the job, now and after the next login."""
    if kind == "launchd":
        return call(_launchctl("print", job), None)[0] == 0
    unit = f"{job.label}.timer"
    said = _must(
        call, ["systemctl", "--user", "show", unit, "--property=ActiveState,UnitFileState"]
    )
    return {"ActiveState=active", "UnitFileState=enabled"} <= set(said.split())


def _launchctl(verb: str, job: Job) -> list[str]:
    return ["launchctl", verb, f"gui/{os.getuid()}/{job.label}"]


def _must(call: Call, command: Sequence[str], told: bytes | None = None) -> str:
    """What the command said on its standard output."""
    code, said, complained = call(command, told)
    if code:
        raise _refused(command, code, said + complained)
    return said.decode(errors="replace")


def _refused(command: Sequence[str], code: int, said: bytes) -> ConfigError:
    words = " ".join(said.decode(errors="replace").split())
    return ConfigError(f"{shlex.join(command)} ended with code {code}: {words}")


def _crontab(call: Call) -> str:
    """Empty where the user has none. Of the two outputs only one is the crontab; bytes that are no
    text are kept for `_write_crontab`."""
    command = ["crontab", "-l"]
    code, said, complained = call(command, None)
    if code == 1 and not said and b"no crontab for" in complained:
        return ""
    if code:
        raise _refused(command, code, said + complained)
    return said.decode(errors="surrogateescape")


def _write_crontab(text: str, call: Call) -> None:
    _must(call, ["crontab", "-"], text.encode(errors="surrogateescape"))


def _quoted(text: str) -> str:
    """As systemd reads a word: in quotes, with its specifiers escaped."""
    escaped = _escaped(text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{escaped}"'


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
