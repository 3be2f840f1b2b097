"""The tests that open a ledger, on Postgres: a server of their own on loopback, for as long as they
take.

    python scripts/test_postgres.py [tests/test_ledger.py …] [-k …]

The server's programs are looked for on the path, where Debian, Fedora and Homebrew put them. Its
databases sort by the rules of English, where that can be had, so that an order that only holds in
SQLite is found. Where there is no server this says so, and has tested nothing.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = [
    f"tests/test_{name}.py"
    for name in (
        "ledger", "postgres", "lock", "lineage", "recovery", "day", "degraded", "feed_days",
        "feeds_command", "tick", "status", "serve", "ending", "apart", "unattended", "web_facts",
    )
]  # fmt: skip
FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
START_S = 60.0


def main(arguments: list[str]) -> int:
    programs = server_programs()
    if programs is None:
        print(
            "NOT RUN: the tests on Postgres. No server is installed here (Debian: apt-get install "
            "postgresql); nothing was tested.",
            file=sys.stderr,
        )
        return 0
    files = [] if any(a.startswith("tests") for a in arguments) else FILES
    with (
        tempfile.TemporaryDirectory(prefix="varro-postgres-") as folder,
        running_server(programs, Path(folder)) as (url, password),
    ):
        environment = os.environ | {"VARRO_TEST_POSTGRES": url, "PGPASSWORD": password}
        command = [sys.executable, "-m", "pytest", *files, *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment).returncode


def server_programs() -> Path | None:
    """The folder of the newest server's `initdb` and `postgres`."""
    on_path = shutil.which("initdb")
    folders = [f for pattern in FOLDERS for f in Path("/").glob(pattern.lstrip("/"))]
    folders += [Path(on_path).resolve().parent] if on_path else []
    return max((f for f in folders if (f / "postgres").exists()), key=_version_of, default=None)


def _version_of(programs: Path) -> int:
    """The server's major version."""
    told = subprocess.run([programs / "postgres", "-V"], capture_output=True, text=True, check=True)
    return int("".join(c if c.isdigit() else " " for c in told.stdout).split()[0])


@contextmanager
def running_server(programs: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """(URL, password) of a new server."""
    data, password = folder / "data", secrets.token_hex(16)
    (folder / "password").write_text(password)
    as_user = _unprivileged(folder)
    language = ["--locale-provider=icu", "--icu-locale=en-US"] if _version_of(programs) > 14 else []
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "varro", "-A", "scram-sha-256", "-E", "UTF8",
         "--no-sync", "--locale=C.UTF-8", *language, f"--pwfile={folder}/password"],
        check=True, stdout=subprocess.DEVNULL, **as_user,
    )  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = (
        f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off",
        "full_page_writes=off", "max_connections=200",
    )  # fmt: skip
    log = folder / "log"
    with log.open("wb") as handle:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, *(p for s in settings for p in ("-c", s))],
            stdout=handle, stderr=subprocess.STDOUT, start_new_session=True, **as_user,
        )  # fmt: skip
    try:
        _wait_for(server, log)
        yield f"postgresql://varro@127.0.0.1:{port}/postgres", password
    finally:
        server.send_signal(signal.SIGQUIT)  # at once: nobody needs its data any more
        server.wait()


def _unprivileged(folder: Path) -> dict[str, int]:
    """Postgres does not run as root: for `subprocess`, who it runs as instead, whose the folder is
    from now on."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    for path in (folder, *folder.iterdir()):
        os.chown(path, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid}


def _wait_for(server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < until:
        if b"ready to accept connections" in log.read_bytes():
            return
        time.sleep(0.1)
    raise SystemExit(f"the server did not start:\n{log.read_text()}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends too
    sys.exit(main(sys.argv[1:]))
