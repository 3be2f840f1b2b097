"""A pause: `tick` and `serve` begin nothing until it is over. What is at work goes on to the end of
its day, and what a person calls by hand is run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from varro.errors import StageError
from varro.files import sync_folder, write_file


@dataclass(frozen=True, slots=True)
class Pause:
    since: str
    """empty if it is not known"""
    by: str
    """how it was asked for"""

    def __str__(self) -> str:
        since = f" since {self.since[:16]}Z" if self.since else ""
        return f"paused{since} by {self.by}"


def pause_path(home: Path, run: str) -> Path:
    return home / "service" / f"{run}.paused"


def load_pause(home: Path, run: str) -> Pause | None:
    """The pause that a run is in. One whose file can not be read is a pause all the same: what
    someone has stopped is not begun again by a damaged file."""
    path = pause_path(home, run)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return Pause(str(facts["since"]), str(facts["by"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return Pause("", f"{path}, which can not be read")


def pause(home: Path, run: str, *, now: datetime, by: str) -> Pause:
    """Begin a pause, or the one that a run is in.

    Raises: StageError if its file can not be written.
    """
    found = load_pause(home, run)
    if found is not None:
        return found
    found, path = Pause(now.astimezone(UTC).isoformat(), by), pause_path(home, run)
    try:
        write_file(path, json.dumps(asdict(found)).encode())
    except OSError as error:
        raise StageError(f"cannot begin the pause: {error.strerror} ({path})") from error
    return found


def resume(home: Path, run: str) -> Pause | None:
    """End a pause: the one that it was, None if there was none.

    Raises: StageError if its file can not be removed.
    """
    found = load_pause(home, run)
    path = pause_path(home, run)
    try:
        path.unlink(missing_ok=True)
        if found is not None:
            sync_folder(path.parent)
    except OSError as error:
        raise StageError(f"cannot end the pause: {error.strerror} ({path})") from error
    return found
