"""Backup and restore of a home: the ledger as of one moment, every checkpoint that it names, and
the feed bodies that are kept, which nobody could fetch again.

A backup is made while a day runs. Files are durable before the ledger names them, so whatever the
copied ledger names is there to be copied. Both ways all is read again and held against its hashes
before the folder gets its name. Reports are not copied: `varro report --day` writes them again.
A Postgres ledger is copied row by row to a SQLite file, and a backup is restored to either.

A restored home is nobody's: the lock of the original is not copied, so its first writer is never
refused; and its fencing numbers are far from any that the original has given out or will, so a
process that still holds a run there cannot write here, not even where this home takes its place.
In Postgres the database knows the restored home as its own, and refuses the original.
"""

from __future__ import annotations

import json
import secrets
import shutil
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from varro import __version__
from varro.domain import CheckpointInfo
from varro.errors import (
    CheckpointError,
    DamagedCheckpointError,
    DiskError,
    FeedError,
    LedgerError,
    StageError,
)
from varro.files import make_folder, new_folder, sha256_file, write_file
from varro.ledger.place import in_words, is_begun, ledger_path, refuse_other_home
from varro.ledger.store import Ledger, open_ledger
from varro.news.bodies import FOLDER as BODIES
from varro.policy.manifest import verify_checkpoint

_CONTENTS = "backup.json"
_FAR_BITS = 48
"""fencing numbers grow by one a process: none comes so far by itself, nor twice to one place"""


@dataclass(frozen=True)
class Backup:
    """What a backup holds; `backup.json` is this."""

    made_at: str
    varro_version: str
    ledger_sha256: str
    checkpoints: dict[str, str]
    """folder, relative to home → sha256 of its manifest"""
    left_out: dict[str, str]
    """folder or file → why: removed meanwhile or long ago by what is kept, or damaged"""
    bodies: dict[str, str] = field(default_factory=dict)
    """file, relative to home → its sha256"""


def back_up(
    home: Path,
    target: Path,
    *,
    made_at: datetime,
    with_bodies: bool = True,
    url: str | None = None,
) -> Backup:
    """Copy a home's ledger (`url`: where it is in Postgres), checkpoints and feed bodies to a new
    folder, verified.

    Raises: StageError if there is no ledger, or the folder exists or is being made;
    CheckpointError if no version of a run is whole; LedgerError if it belongs to another home, or
    the copied one is not sound; DiskError.
    """
    place = url or ledger_path(home)
    if not is_begun(place):
        raise StageError(f"no ledger at {in_words(place)}; there is nothing to back up")
    if url is not None:
        refuse_other_home(url, home)
    with new_folder(target, f"backup to {target}") as partial:
        with open_ledger(place) as ledger:
            ledger.copy_to(ledger_path(partial))
        with open_ledger(ledger_path(partial)) as copied:
            copied.refuse_unsound()
            found: dict[str, str] = {}
            left_out: dict[str, str] = {}
            for run in copied.runs():
                _copy_run(home, partial, copied, run.name, found, left_out)
        bodies = _copy_bodies(home, partial, left_out) if with_bodies else {}
        contents = Backup(
            f"{made_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            __version__,
            sha256_file(ledger_path(partial)),
            found,
            left_out,
            bodies,
        )
        text = json.dumps(asdict(contents), indent=2, sort_keys=True)
        write_file(partial / _CONTENTS, text.encode() + b"\n")
    return contents


def restore(source: Path, home: Path, *, url: str | None = None) -> Backup:
    """Make a home of a backup, in a new folder, verified before and after; its ledger in a Postgres
    database, if `url` names one, which must have none or the very same, and is this home's then.

    Raises: StageError if it is no backup, or the folder is not new; LedgerError, CheckpointError or
    FeedError for one that is damaged, or a database with rows of its own; DiskError.
    """
    contents = _contents_of(source)
    _verify(source, contents)
    with new_folder(home, f"restore to {home}") as partial:
        for name in (ledger_path(source).name, *contents.checkpoints, *contents.bodies):
            _copy(source / name, partial / name)
        _verify(partial, contents)
        with open_ledger(ledger_path(partial)) as ledger:
            ledger.refuse_unsound()
            if url is not None:
                ledger.copy_to(url)
        with open_ledger(url or ledger_path(partial)) as restored:
            restored.outrun_leases(1 + secrets.randbits(_FAR_BITS), "a restored backup")
        if url is not None:
            ledger_path(partial).unlink()
    if url is not None:
        with open_ledger(url) as restored:
            restored.take_home(home, by_force=True)
    return contents


def _copy_run(
    home: Path,
    partial: Path,
    ledger: Ledger,
    run: str,
    found: dict[str, str],
    left_out: dict[str, str],
) -> None:
    checkpoints = ledger.checkpoints(run)
    for checkpoint in checkpoints:
        if (reason := _copy_checkpoint(home, partial, checkpoint)) is None:
            found[checkpoint.path] = checkpoint.sha256
        else:
            left_out[checkpoint.path] = reason
    if checkpoints and not any(c.path in found for c in checkpoints):
        raise CheckpointError(f"no version of run {run!r} is whole: {left_out}")


def _copy_checkpoint(home: Path, partial: Path, checkpoint: CheckpointInfo) -> str | None:
    """Why a checkpoint could not be copied, or None."""
    try:
        _copy(home / checkpoint.path, partial / checkpoint.path)
        verify_checkpoint(partial / checkpoint.path, checkpoint.sha256)
    except FileNotFoundError:
        reason = "removed"
    except DamagedCheckpointError as error:
        reason = str(error)
    else:
        return None
    shutil.rmtree(partial / checkpoint.path, ignore_errors=True)
    return reason


def _copy_bodies(home: Path, partial: Path, left_out: dict[str, str]) -> dict[str, str]:
    """The bodies that are kept, by day and hash; what else lies among them is let alone."""
    found = {}
    for file in sorted((home / BODIES).glob("????-??-??/*.gz")):
        path = file.relative_to(home)
        try:
            before = sha256_file(file)
            _copy(file, partial / path)
        except FileNotFoundError:
            left_out[str(path)] = "removed"
            continue
        if sha256_file(partial / path) != before:
            raise DiskError(f"the copy of {file} is not what was copied; look after the disk")
        found[str(path)] = before
    return found


def _copy(source: Path, target: Path) -> None:
    """A file, or a folder's files. Copied and not linked: what damages one must not damage both."""
    if not source.is_dir():
        make_folder(target.parent)
        shutil.copyfile(source, target)
        return
    for file in sorted(source.iterdir()):
        _copy(file, target / file.name)


def _contents_of(source: Path) -> Backup:
    file = source / _CONTENTS
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        contents = Backup(**found)
        for path in contents.checkpoints | contents.bodies:
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise ValueError(f"{path!r} lies outside of it")
        return contents
    except FileNotFoundError:
        raise StageError(f"{source} is no backup: it has no {_CONTENTS}") from None
    except (ValueError, TypeError) as error:
        raise StageError(f"{file} is not what 'varro backup' writes: {error}") from error


def _verify(folder: Path, contents: Backup) -> None:
    ledger = ledger_path(folder)
    if not ledger.exists() or sha256_file(ledger) != contents.ledger_sha256:
        raise LedgerError(f"{ledger} is missing or damaged: its sha256 is not {_CONTENTS}'s")
    for path, sha256 in contents.checkpoints.items():
        verify_checkpoint(folder / path, sha256)
    for path, sha256 in contents.bodies.items():
        if not (folder / path).exists() or sha256_file(folder / path) != sha256:
            raise FeedError(
                f"{folder / path} is missing or damaged: its sha256 is not {_CONTENTS}'s"
            )
