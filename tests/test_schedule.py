"""launchd, systemd and cron: shown before it is installed, and removed as it was."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from conftest import ROOT, small_config

from varro.errors import ConfigError, DiskError, HeldError
from varro.lock import hold_lock, lock_path
from varro.service.schedule import (
    Job,
    call,
    cron_line,
    install,
    installed,
    job_of,
    kind_of_this_system,
    plist,
    remark,
    render,
    service_unit,
    timer_unit,
    uninstall,
    with_cron_line,
)

JOB = Job(
    name="main",
    command=("/opt/va rro/python", "-m", "varro.cli", "tick", "--set", "a.b=\"50% $HOME \\ 'x'\""),
    home=Path("/home/ada/var ro/50% home"),
    folder=Path("/home/ada/var ro"),
    every_min=60,
    at=time(6, 30),
    environment={"HF_HOME": "/mo dels/50%$x \\ 'y\"", "OMP_NUM_THREADS": "4"},
)
MORNING = datetime(2026, 3, 2, 6, 40, tzinfo=UTC)
OTHERS = "# mine\n*/5 * * * * true  # org.varro.main.not\n0 1 * * * backup # org.varro.other\n"


USER = ["systemctl", "--user"]


class System:
    """A computer with schedulers that remember what they were told."""

    def __init__(self):
        self.calls, self.crontab, self.fails, self.n_fails = [], None, "", 99
        self.grumbles = b""
        self.loaded, self.active, self.enabled = set(), set(), set()

    def __call__(self, command, told):
        self.calls.append(list(command))
        if self.fails in command and self.n_fails > 0:
            self.n_fails -= 1
            return 1, b"", b"Bootstrap failed: 5: Input/output error\n"
        name = command[-1].rpartition("/")[2]
        match command[:-1]:
            case ["crontab"] if name == "-":
                self.crontab = told.decode()
            case ["crontab"] if self.crontab is None:
                return 1, b"", b"no crontab for ada\n"
            case ["crontab"]:
                return 0, self.crontab.encode(), self.grumbles
            case ["launchctl", "bootstrap", _]:
                self.loaded.add(name.removesuffix(".plist"))
            case ["launchctl", "bootout"]:
                self.loaded.discard(name)
            case ["launchctl", "print"] if name not in self.loaded:
                return 113, b"", f'Could not find service "{name}" in domain for login\n'.encode()
            case ["systemctl", _, "enable", "--now"]:
                self.active.add(name)
                self.enabled.add(name)
            case ["systemctl", _, "disable", "--now"]:
                self.active.discard(name)
                self.enabled.discard(name)
            case ["systemctl", _, "show", timer]:
                active = "active" if timer in self.active else "inactive"
                enabled = "enabled" if timer in self.enabled else "disabled"
                return 0, f"ActiveState={active}\nUnitFileState={enabled}\n".encode(), b""
        return 0, b"", b""


def files(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_plist_comes_back_as_it_was_meant():
    """Catches a plist that launchd can not read, and a job that is lost in sleep: intervals are,
    calendar times are made up at wake."""
    (content,) = render("launchd", JOB, home=Path("/home/ada")).values()
    assert content.startswith(b"<?xml")
    found = plistlib.loads(content)
    assert found == plist(JOB)
    assert found["ProgramArguments"] == list(JOB.command)
    assert found["StartCalendarInterval"] == [{"Minute": 30}]
    assert "StartInterval" not in found and found["RunAtLoad"] is True
    assert found["EnvironmentVariables"] == JOB.environment
    assert found["ProcessType"] == "Standard" and "LowPriorityIO" not in found
    quarter = plist(replace(JOB, every_min=15))["StartCalendarInterval"]
    assert quarter == [{"Minute": m} for m in (0, 15, 30, 45)]
    rare = plist(replace(JOB, every_min=480))["StartCalendarInterval"]
    assert rare == [{"Hour": h, "Minute": 30} for h in (6, 14, 22)]


@pytest.mark.parametrize(
    ("every", "when"),
    [(60, "*:30:00"), (15, "*:00,15,30,45:00"), (480, "06,14,22:30:00"), (1440, "06:30:00")],
)
def test_a_timer_wakes_in_step_with_the_first_cycle(every, when):
    """Catches a day that begins up to an hour late because its wake-ups are out of step."""
    assert f"OnCalendar=*-*-* {when}\n" in timer_unit(replace(JOB, every_min=every))


def test_systemd_takes_neither_a_degraded_day_nor_a_held_run_for_a_failure():
    """Catches a unit that is red for a day that is done, until nobody looks at it any more."""
    assert "\nSuccessExitStatus=10 12 13\n" in service_unit(JOB)


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="NOT TESTED: no systemd-analyze here"
)
@pytest.mark.parametrize("every", [15, 60, 480])
def test_systemd_finds_no_fault_with_the_units(tmp_path, every):
    """Catches a unit that systemd ignores, line by line, without a word to its owner."""
    job = replace(JOB, command=(sys.executable, *JOB.command[1:]), every_min=every)
    for path, content in render("systemd", job, home=tmp_path).items():
        (tmp_path / path.name).write_bytes(content)
    for unit in (f"{job.label}.service", f"{job.label}.timer"):
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", tmp_path / unit],
            capture_output=True,
            text=True,
        )
        ours = [line for line in done.stderr.splitlines() if job.label in line]
        assert ours == [] and done.returncode == 0, done.stderr


def test_systemd_gets_each_argument_as_it_is():
    """Catches a path with a space, and a % or $ that systemd would expand."""
    (line,) = [x for x in service_unit(JOB).splitlines() if x.startswith("ExecStart=")]
    assert line == (
        'ExecStart="/opt/va rro/python" "-m" "varro.cli" "tick" "--set" '
        '"a.b=\\"50%% $$HOME \\\\ \'x\'\\""'
    )
    # systemd.exec(5): in Environment= a $ means nothing.
    assert 'Environment="HF_HOME=/mo dels/50%%$x \\\\ \'y\\""\n' in service_unit(JOB)
    assert 'Environment="OMP_NUM_THREADS=4"\n' in service_unit(JOB)


def test_a_shell_gets_each_argument_of_the_cron_line_as_it_is(tmp_path):
    """Catches quoting that only works for tame paths, and a log in a folder that nobody has made:
    the line is run by sh, as cron does it."""
    tell = "import os, sys; print(sys.argv[1:], os.environ['HF_HOME'])"
    job = replace(
        JOB,
        command=(sys.executable, "-c", tell, *JOB.command[2:]),
        folder=tmp_path,
        home=tmp_path / "fresh home",
    )
    system = System()
    install("cron", job, home=tmp_path, call=system)
    minute, hour, _, _, _, command = system.crontab.split(" ", 5)
    assert (minute, hour) == ("30", "*")
    subprocess.run(["/bin/sh", "-c", command.replace(r"\%", "%")], check=True)
    assert job.log.read_text() == f"{list(job.command[3:])} {JOB.environment['HF_HOME']}\n"
    assert cron_line(replace(JOB, every_min=20)).startswith("10,30,50 * * * * ")
    assert cron_line(replace(JOB, every_min=720)).startswith("30 6,18 * * * ")


@pytest.mark.parametrize("kind", ["launchd", "systemd"])
def test_what_is_installed_is_removed_and_nothing_else(tmp_path, kind):
    """Catches files of others that go with ours, and some of ours that stay."""
    system = System()
    other = replace(JOB, name="other", home=tmp_path / "home")
    install(kind, other, home=tmp_path, call=system)
    job = replace(other, name="main")
    before = files(tmp_path)
    assert installed(kind, job, home=tmp_path, call=system) == "no"
    assert uninstall(kind, job, home=tmp_path, call=system) == []
    for _ in range(2):  # again, over an earlier one
        written = install(kind, job, home=tmp_path, call=system)
    assert {str(p) for p in files(tmp_path).keys() - before.keys()} == set(written)
    assert installed(kind, job, home=tmp_path, call=system) == "yes"
    changed = replace(job, every_min=30)
    assert installed(kind, changed, home=tmp_path, call=system) == "differs"
    assert uninstall(kind, job, home=tmp_path, call=system) == written
    assert files(tmp_path) == before
    assert installed(kind, other, home=tmp_path, call=system) == "yes"
    told = [c for c in system.calls if "bootstrap" in c or c[:4] == [*USER, "enable", "--now"]]
    assert len(told) == 3  # the other one, and twice this one


def test_a_crontab_keeps_every_line_that_is_not_ours(tmp_path):
    """Catches a user's own jobs lost, and our line written twice."""
    base = replace(JOB, home=tmp_path / "home")
    system = System()
    system.crontab = OTHERS
    for every in (60, 30):
        job = replace(base, every_min=every)
        install("cron", job, home=tmp_path, call=system)
        assert system.crontab == OTHERS + cron_line(job) + "\n"
        assert installed("cron", job, home=tmp_path, call=system) == "yes"
    assert installed("cron", base, home=tmp_path, call=system) == "differs"
    assert uninstall("cron", base, home=tmp_path, call=system) == ["crontab"]
    assert system.crontab == OTHERS
    assert uninstall("cron", base, home=tmp_path, call=system) == []
    empty = System()
    install("cron", base, home=tmp_path, call=empty)
    assert empty.crontab == cron_line(base) + "\n"
    assert with_cron_line("", base, None) == ""


def test_what_crontab_grumbles_is_no_line_of_the_crontab(tmp_path):
    """Catches a warning on standard error that is written back as a job, and lines of a user that
    are broken, or refused, for letters that no text has."""
    system, job = System(), replace(JOB, home=tmp_path / "home")
    system.crontab, system.grumbles = OTHERS, b"crontab: your account will expire\n"
    install("cron", job, home=tmp_path, call=system)
    assert system.crontab == OTHERS + cron_line(job) + "\n"
    odd = b"0 1 * * * echo caf\xe9 \x0c \xe2\x80\xa8 here\n\n# the end"
    written = []

    def plain(command, told):
        written.append(told)
        return 0, odd, b""

    install("cron", job, home=tmp_path, call=plain)
    assert written[-1] == odd + b"\n" + cron_line(job).encode() + b"\n"


@pytest.mark.parametrize(
    "answer",
    [
        (1, b"", b"crontab: cannot open /var/spool/cron/ada: Permission denied\n"),
        (1, b"# there is no crontab for bob\n0 1 * * * true\n", b"crontab: read error\n"),
        (2, b"", b"no crontab for ada\n"),
        (127, b"", b""),
    ],
)
@pytest.mark.parametrize("verb", [install, uninstall, installed])
def test_a_crontab_that_can_not_be_read_is_not_written(tmp_path, answer, verb):
    """Catches all of a user's jobs lost because the list of them could not be had."""
    asked = []

    def system(command, told):
        asked.append(command)
        return answer

    with pytest.raises(ConfigError, match=rf"crontab -l ended with code {answer[0]}: "):
        verb("cron", replace(JOB, home=tmp_path / "home"), home=tmp_path, call=system)
    assert asked == [["crontab", "-l"]]


def test_what_decides_how_a_day_is_computed_goes_along_and_no_secret_does(tmp_path):
    """Catches a scheduled day that fetches its model again, on a slow BLAS; and a password that
    anyone on the machine can read."""
    shell = {
        "VARRO_BLAS": "/opt/blas.so", "OMP_NUM_THREADS": "2", "HF_HOME": "/models",
        "HF_HUB_OFFLINE": "", "HF_TOKEN": "hf_secret", "HOME": "/home/ada",
        "HTTPS_PROXY": "http://ada:secret@proxy:3128",
    }  # fmt: skip
    job = job_of(small_config(tmp_path), [], now=MORNING, environment=shell)
    assert job.environment == {
        "HF_HOME": "/models",
        "OMP_NUM_THREADS": "2",
        "VARRO_BLAS": "/opt/blas.so",
    }
    for kind in ("launchd", "systemd", "cron"):
        text = b"".join(render(kind, job, home=tmp_path).values())
        assert b"/opt/blas.so" in text and b"secret" not in text


@pytest.mark.parametrize("kind", ["launchd", "systemd", "cron"])
def test_only_what_differs_is_said_to_differ(tmp_path, kind):
    """Catches a status that is wrong in another folder or shell, and so is never read again."""
    system = System()
    job = replace(JOB, home=tmp_path / "home")
    install(kind, job, home=tmp_path, call=system)
    elsewhere = replace(job, folder=Path("/tmp/some where && else"), environment={})
    for same in (elsewhere, replace(elsewhere, environment={"VARRO_BLAS": "off; 50%"})):
        assert installed(kind, same, home=tmp_path, call=system) == "yes"
        install(kind, same, home=tmp_path, call=system)
        assert installed(kind, job, home=tmp_path, call=system) == "yes"
    for changes in (
        {"command": job.command[:-1]},
        {"command": (*job.command, "--set", "x=VARRO_BLAS")},
        {"every_min": 30},
        {"at": time(6, 31)},
    ):
        assert installed(kind, replace(job, **changes), home=tmp_path, call=system) == "differs"


@pytest.mark.parametrize("kind", ["launchd", "systemd", "cron"])
def test_what_is_switched_off_is_not_said_to_wake_anyone(tmp_path, kind):
    """Catches a status that looks at files only: a timer that its owner has stopped or disabled, an
    agent that was booted out, a line that was commented out."""
    system = System()
    job = replace(JOB, home=tmp_path / "home")
    install(kind, job, home=tmp_path, call=system)
    for part in ("loaded", "active", "enabled"):
        before = set(getattr(system, part))
        getattr(system, part).clear()
        assert installed(kind, job, home=tmp_path, call=system) == ("off" if before else "yes")
        getattr(system, part).update(before)
    if kind == "cron":
        system.crontab = f"# {system.crontab}"
        assert installed(kind, job, home=tmp_path, call=system) == "off"
    system.fails = "show"  # no bus, as over ssh without a session: nobody knows
    if kind == "systemd":
        with pytest.raises(ConfigError, match=r"systemctl --user show .* ended with code 1"):
            installed(kind, job, home=tmp_path, call=system)


@pytest.mark.parametrize("kind", ["launchd", "systemd"])
def test_files_that_are_no_longer_ours_differ(tmp_path, kind):
    """Catches a traceback, or a yes, for a file that its owner has rewritten, and one that is
    gone."""
    system = System()
    job = replace(JOB, home=tmp_path / "home")
    written = install(kind, job, home=tmp_path, call=system)
    for content in (b"", b"<plist><dict>", b"\xff", b"[Unit]\n"):
        Path(written[0]).write_bytes(content)
        assert installed(kind, job, home=tmp_path, call=system) == "differs"
    Path(written[0]).unlink()
    found = installed(kind, job, home=tmp_path, call=system)
    assert found == ("differs" if len(written) > 1 else "no")


@pytest.mark.parametrize(
    ("cadence", "wake"), [("30m", 30), ("90m", 30), ("2h", 120), ("12h", 720), ("1d", 480)]
)
def test_what_is_installed_is_the_same_at_every_hour(tmp_path, cadence, wake):
    """Catches a crontab line that depends on the hour of its installation, so that status says all
    day that it differs."""
    config = small_config(
        tmp_path, 'news.source="feeds"', "news.feeds=feeds.opml", 'schedule.zone="Asia/Kathmandu"',
        f"schedule.cadence={cadence}", f"schedule.wake_every_min={wake}",
    )  # fmt: skip
    hours = [MORNING + n * timedelta(minutes=15) for n in range(96)]
    assert len({cron_line(job_of(config, [], now=now)) for now in hours}) == 1
    # 06:30 in Kathmandu is 00:45Z.
    first = datetime(2026, 3, 3, 0, 45, tzinfo=UTC).astimezone().time()
    assert job_of(config, [], now=MORNING).at == first


@pytest.mark.parametrize("kind", ["launchd", "systemd", "cron"])
def test_two_homes_with_runs_of_one_name_do_not_know_each_other(tmp_path, kind):
    """Catches a second home whose installation silently takes the first one's place."""
    system = System()
    first, second = (replace(JOB, home=tmp_path / name) for name in "ab")
    for job in (first, second):
        install(kind, job, home=tmp_path, call=system)
    for job in (first, second):
        assert installed(kind, job, home=tmp_path, call=system) == "yes"
    assert uninstall(kind, second, home=tmp_path, call=system) != []
    assert installed(kind, first, home=tmp_path, call=system) == "yes"
    assert installed(kind, second, home=tmp_path, call=system) == "no"


@pytest.mark.parametrize(("kind", "verb"), [("launchd", "bootstrap"), ("systemd", "enable")])
def test_an_installation_that_is_refused_leaves_nothing(tmp_path, kind, verb):
    """Catches files that a later login would start, after an error that said it did not work."""
    system, waits = System(), []
    system.fails = verb
    with pytest.raises(ConfigError, match=rf"{verb}.* ended with code 1: Bootstrap failed"):
        job = replace(JOB, home=tmp_path / "h")
        install(kind, job, home=tmp_path, call=system, wait=waits.append)
    assert files(tmp_path) == {} and system.loaded == system.active == set()
    # launchd may still be ending the earlier one: it is asked again, not for ever.
    assert waits == ([1.0] * 4 if kind == "launchd" else [])


@pytest.mark.parametrize("kind", ["launchd", "systemd"])
@pytest.mark.parametrize("is_on", [True, False])
def test_a_new_installation_that_is_refused_leaves_the_old_one_as_it_was(tmp_path, kind, is_on):
    """Catches a run that nothing wakes any more, because somebody tried another hour."""
    system = System()
    job = replace(JOB, home=tmp_path / "h")
    install(kind, job, home=tmp_path, call=system)
    if not is_on:
        system([*USER, "disable", "--now", f"{job.label}.timer"], None)
        system(["launchctl", "bootout", f"gui/0/{job.label}"], None)
    before = files(tmp_path)
    # Of launchd's five tries none is taken; then the old one is, at the second.
    system.fails, system.n_fails = ("bootstrap", 6) if kind == "launchd" else ("enable", 1)
    with pytest.raises(ConfigError, match="Bootstrap failed") as refused:
        later = replace(job, at=time(7, 45))
        install(kind, later, home=tmp_path, call=system, wait=lambda seconds: None)
    assert "nor could" not in str(refused.value)
    assert files(tmp_path) == before
    if kind == "systemd":  # which keeps what it has read
        assert [*USER, "daemon-reload"] in system.calls[-3:]
    found = installed(kind, job, home=tmp_path, call=system)
    assert found == ("yes" if is_on else "off")


@pytest.mark.parametrize("kind", ["launchd", "systemd"])
def test_an_old_installation_that_can_not_be_switched_on_again_is_said_to_be_off(tmp_path, kind):
    """Catches an error of the new one that hides that the old one is gone too."""
    system = System()
    job = replace(JOB, home=tmp_path / "h")
    install(kind, job, home=tmp_path, call=system)
    before = files(tmp_path)
    system.fails = "bootstrap" if kind == "launchd" else "daemon-reload"
    with pytest.raises(ConfigError, match="nor could what was there before be switched on again: "):
        later = replace(job, at=time(7, 45))
        install(kind, later, home=tmp_path, call=system, wait=lambda seconds: None)
    assert files(tmp_path) == before


def test_an_earlier_agent_that_takes_its_time_to_end_is_waited_for(tmp_path):
    """Catches error 5 of a bootstrap that comes right after a bootout."""
    system, waits = System(), []
    job = replace(JOB, home=tmp_path / "h")
    system.fails, system.n_fails = "bootstrap", 2
    install("launchd", job, home=tmp_path, call=system, wait=waits.append)
    assert waits == [1.0, 1.0] and system.loaded == {job.label}
    # launchctl(1): one that is disabled can not be loaded.
    verbs = [command[1] for command in system.calls]
    assert verbs == ["bootout", "enable", "bootstrap", "bootstrap", "bootstrap"]


def test_launchd_is_not_made_to_end_a_day_for_a_new_schedule(tmp_path):
    """Catches hours of training lost to a bootout. systemd and cron leave what runs alone."""
    system = System()
    job = replace(JOB, home=tmp_path / "h")
    held = hold_lock(lock_path(job.home, job.name))
    for kind in ("launchd", "systemd", "cron"):
        install(kind, job, home=tmp_path, call=system)  # none before it: nothing is ended
    before = files(tmp_path)
    with pytest.raises(HeldError, match=rf"process {os.getpid()} .* install again when it is done"):
        install("launchd", replace(job, at=time(7, 45)), home=tmp_path, call=system)
    assert files(tmp_path) == before and system.loaded == {job.label}
    for kind in ("systemd", "cron"):
        install(kind, replace(job, at=time(7, 45)), home=tmp_path, call=system)
    held.close()
    install("launchd", replace(job, at=time(7, 45)), home=tmp_path, call=system)


def test_a_file_that_can_not_be_written_leaves_what_was_installed(tmp_path):
    """Catches a service of today with a timer of yesterday."""
    system = System()
    job = replace(JOB, home=tmp_path / "h")
    units = [Path(path) for path in install("systemd", job, home=tmp_path, call=system)]
    before = files(tmp_path)
    # What a write goes through is in the way for the second file.
    (units[1].parent / f".{units[1].name}.partial").mkdir()
    later = replace(job, at=time(7, 45), command=("/bin/true",))
    with pytest.raises(DiskError, match="Is a directory"):
        install("systemd", later, home=tmp_path, call=system)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"command": (*JOB.command, "--set", 'run.name="a\nb"')},
        {"folder": Path("/home/a\tda")},
        {"environment": {"HF_HOME": "/models\n"}},
        {"home": Path(b"/home/\xff".decode(errors="surrogateescape"))},
    ],
)
def test_what_no_line_of_a_scheduler_can_hold_is_refused(changes):
    """Catches a unit that systemd calls fatal, and does not load, after an installation that said
    it went well."""
    with pytest.raises(ConfigError, match="no line break, other control character or broken"):
        replace(JOB, **changes)
    replace(JOB, folder=Path("/home/ада/日本\u3000語"))  # a wide space is a letter like others


@pytest.mark.parametrize(
    ("answer", "lingers"),
    [
        ((0, b"Linger=yes\n", b"a warning\n"), True),
        ((0, b"Linger=no\n", b""), False),
        ((1, b"", b"Failed to get user: User ID 1000 is not logged in or lingering\n"), False),
        (ConfigError("there is no loginctl here"), False),
    ],
)
def test_an_installation_says_what_ends_at_logout(answer, lingers):
    """Catches timers that stop with a session, and are not there after a restart, on a machine that
    was to be left alone."""
    asked = []

    def system(command, told):
        asked.append(command)
        if isinstance(answer, Exception):
            raise answer
        return answer

    told = remark("systemd", call=system)
    assert asked == [["loginctl", "show-user", str(os.getuid()), "--property=Linger"]]
    assert told is None if lingers else "'loginctl enable-linger'" in told
    assert remark("cron", call=system) is None
    assert "logged in at the screen" in remark("launchd", call=system)


def test_the_command_line_installs_and_says_what_is_still_to_be_done(tmp_path):
    """Catches an installation that went well and keeps to itself that it ends at logout. Stand-ins
    for systemd's commands: they say what a user's manager without lingering says."""
    said = {"systemctl": "ActiveState=active\\nUnitFileState=enabled", "loginctl": "Linger=no"}
    for name, words in said.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\nprintf '{words}\\n'\n")
        path.chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path}/bin:/bin", "PYTHONPATH": str(ROOT)}
    for verb, words in (
        ("install", "installed for systemd: "),
        ("status", "installed  yes\n"),
        ("uninstall", "removed: "),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "varro.cli", "schedule", verb, "--kind", "systemd",
             "--home", tmp_path / "home"],
            capture_output=True, text=True, env=environment,
        )  # fmt: skip
        assert done.returncode == 0 and words in done.stdout, done.stdout + done.stderr
        assert ("'loginctl enable-linger' once" in done.stdout) == (verb != "uninstall")
    assert not list((tmp_path / ".config").rglob("org.varro*"))


def test_a_system_without_the_scheduler_is_told_so(tmp_path):
    """Catches a traceback where there is no crontab command."""
    if shutil.which("crontab"):
        pytest.skip("NOT TESTED: there is a crontab command here")
    with pytest.raises(ConfigError, match="there is no crontab here; choose another with --kind"):
        install("cron", JOB, home=tmp_path)


def test_a_scheduler_that_may_not_be_run_is_told(tmp_path):
    """Catches a traceback where only some users may have a crontab, and outputs that are mixed."""
    (tmp_path / "crontab").write_text("#!/bin/sh\n")
    with pytest.raises(ConfigError, match=r"crontab can not be run: Permission denied"):
        call([str(tmp_path / "crontab"), "-l"])
    assert call(["/bin/sh", "-c", "cat; echo no >&2; exit 3"], b"yes") == (3, b"yes", b"no\n")


def test_a_scheduler_that_does_not_answer_is_given_up():
    """Catches an installation that waits for ever for a manager that hangs."""
    with pytest.raises(ConfigError, match=r"sleep 60 did not end within 0\.2 s"):
        call(["sleep", "60"], timeout_s=0.2)


def test_print_shows_all_and_writes_nothing(tmp_path):
    """Catches an installation by someone who only wanted to look."""
    command = [sys.executable, "-m", "varro.cli", "schedule"]
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path.cwd())}
    shown = {}
    for kind in ("launchd", "systemd", "cron"):
        done = subprocess.run(
            [*command, "install", "--print", "--kind", kind, "--home", tmp_path / "h"],
            capture_output=True,
            text=True,
            env=home,
        )
        assert done.returncode == 0, done.stderr
        shown[kind] = done.stdout
    text = shown["launchd"].partition("\n")[2]
    agent = plistlib.loads(text.encode())
    arguments, environment = agent["ProgramArguments"], agent["EnvironmentVariables"]
    assert environment == {}  # nothing that this process has set for itself
    assert arguments[1:6] == ["-P", "-m", "varro.cli", "tick", "--quiet"]
    assert arguments[-2:] == ["--home", str(tmp_path / "h")]
    assert "OnCalendar=" in shown["systemd"] and "# org.varro.main." in shown["cron"]
    assert list(tmp_path.iterdir()) == []
    wrong = subprocess.run(
        [*command, "install", "--kind", "at"], capture_output=True, text=True, env=home
    )
    assert wrong.returncode == 3 and "launchd, systemd or cron, found 'at'" in wrong.stderr


def test_a_module_of_the_working_folder_is_not_taken_for_pythons_own(tmp_path, monkeypatch):
    """Catches a schedule that fails, every hour, for a file beside the user's own scripts."""
    (tmp_path / "tomllib.py").write_text("raise SystemExit('this is not the TOML of Python')\n")
    monkeypatch.chdir(tmp_path)
    # An option that is refused, by Varro's own word, once all is loaded.
    job = job_of(small_config(tmp_path / "home"), ["--set", "nonsense"], now=MORNING)
    done = subprocess.run(
        job.command, cwd=job.folder, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 3 and "--set wants section.key=value" in done.stderr, done.stderr


def test_the_scheduler_of_this_system_is_found():
    """Catches a Mac that is given a crontab."""
    assert (kind_of_this_system() == "launchd") == (sys.platform == "darwin")
