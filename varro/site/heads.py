"""The head of the chain as front page and feed tell it, which are written after all else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from varro.site.chain import Link
from varro.site.feed import HEAD as FEED_HEAD

HEAD = re.compile(r'data-place="(\d{1,9})" data-head="([0-9a-f]{64})"')
"""how the front page tells it"""
Heads = dict[str, tuple[int, str] | None]
"""(place, sha256) by file; None of one that is gone, or tells none"""


def told_heads(folder: Path) -> Heads:
    return {
        name: _told(folder / name, told)
        for name, told in (("index.html", HEAD), ("feed.xml", FEED_HEAD))
    }


def completed_place(heads: Heads) -> int:
    """The newest place that is told: the publish that wrote it had written the data and pages of
    all days up to there, as the ledger had them then. 0 if none is told."""
    return max((head[0] for head in heads.values() if head is not None), default=0)


def head_problems(heads: Heads, links: Sequence[Link], *, missing: bool = False) -> list[str]:
    """Where front page and feed tell of another chain than there is; they may tell an earlier head.
    With `missing`, that they tell none is a problem, too."""
    problems = []
    for name, head in heads.items():
        if head is None:
            problems += [f"{name} is gone, or does not tell the head of the chain"] * missing
            continue
        place, sha256 = head
        if place > len(links):
            problems.append(
                f"{name} tells of {place} manifests, and the chain has {len(links)}: its end is "
                "gone"
            )
        elif place < 1 or links[place - 1].sha256() != sha256:
            problems.append(f"{name} tells of another manifest at place {place} than the chain has")
    return problems


def _told(file: Path, told: re.Pattern[str]) -> tuple[int, str] | None:
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    found = told.search(text)
    return None if found is None else (int(found[1]), found[2])
