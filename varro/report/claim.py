"""What a day's report claims, read from its file."""

from __future__ import annotations

import json
from pathlib import Path


def claim_of(home: Path, run: str, day: str | None) -> str | None:
    """The word of a day's report; None where there is none to be read."""
    try:
        page = home / "reports" / run / str(day) / "report.json"
        return str(json.loads(page.read_text(encoding="utf-8"))["learned"]["word"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # reports may be deleted, and are made again by `varro report`
