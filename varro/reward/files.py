"""`varro score`: forecasts in a file, scored against the titles in another.

Every file is UTF-8, an item a line, blank lines left out; titles are cleaned as the news room
cleans them. A line that can not be read is an error with its number: nothing is left out in
silence.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from varro.config import RewardConfig
from varro.domain import stable_seed
from varro.errors import FeedError
from varro.news.clean import clean_title
from varro.news.duplicates import first_of_each
from varro.reward.contrast import is_measured, link_outcomes
from varro.reward.embed import Embedder
from varro.reward.score import ASSUMED_PLACEBO, News, reward_version, score_texts
from varro.reward.settle import settling_titles


def read_titles(path: Path) -> list[str]:
    """The titles in a file of one title a line.

    Raises: FeedError naming the file and the line.
    """
    titles = [clean_title(line) for _, line in _lines(path)]
    return [title for title in titles if title]


def read_forecasts(path: Path) -> dict[str | int, str]:
    """Id → text, from JSON lines of {"id", "text"}, in their order.

    Raises: FeedError naming the file and the line; also if there is none, or two have one id.
    """
    found: dict[str | int, str] = {}
    for number, line in _lines(path):
        row = _json(path, number, line)
        if not isinstance(row, dict) or not {"id", "text"} <= row.keys():
            raise FeedError(
                f'{path}:{number}: expected {{"id": …, "text": …}}, found {line[:60]!r}'
            )
        name = row["id"]
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise FeedError(f"{path}:{number}: id must be text or a whole number, found {name!r}")
        if name in found:
            raise FeedError(
                f"{path}:{number}: id {name!r} stands on an earlier line; give each one"
            )
        found[name] = _text(path, number, row["text"])
    if not found:
        raise FeedError(f'{path}: holds no forecast; expected {{"id": …, "text": …}} on each line')
    return found


def read_placebo_days(path: Path) -> list[list[str]]:
    """The titles of each placebo day, from a JSON list of titles a line.

    Raises: FeedError naming the file and the line.
    """
    days = []
    for number, line in _lines(path):
        row = _json(path, number, line)
        if not isinstance(row, list):
            raise FeedError(f"{path}:{number}: expected a JSON list of titles, found {line[:60]!r}")
        titles = [clean_title(_text(path, number, item)) for item in row]
        days.append([title for title in titles if title])
    return days


def score_forecasts(
    forecasts: Mapping[str | int, str],
    headline: str,
    outcomes: Sequence[str],
    placebo_days: Sequence[Sequence[str]],
    *,
    embedder: Embedder,
    config: RewardConfig,
    seed: int,
) -> dict[str, Any]:
    """What each forecast on the headline earns: {version, placebo, linked, forecasts: [row]}.

    Outcomes and placebo days lose instructions and repeats of the headline, as when a day is
    settled. Placebo days with too few titles would be too easy to beat: ASSUMED_PLACEBO stands in,
    and `placebo` says which.
    """

    def settling(titles: Sequence[str]) -> tuple[str, ...]:
        told = [titles[i] for i in settling_titles(titles, [headline])]
        return tuple(told[i] for i in first_of_each(told))

    told = settling(outcomes)
    days = tuple(settling(day) for day in placebo_days)
    measured = is_measured(len(told), sum(map(len, days)))
    news = News((headline,), told, days if measured else ())
    scored = score_texts(
        list(forecasts.values()),
        [0] * len(forecasts),
        news,
        embedder=embedder,
        config=config,
        seed=stable_seed("placebo", seed),
        assumed_placebo=ASSUMED_PLACEBO,
    )
    (linked,) = link_outcomes(embedder.encode([headline]), embedder.encode(told))
    return {
        "version": reward_version(config),
        "placebo": "measured" if measured else "assumed",
        "linked": [told[i] for i in linked],
        "forecasts": [
            {
                "id": name,
                "reward": found.reward,
                "format": found.components["format"],
                "semantic": found.components.get("semantic"),
                "valid": found.invalid is None,
                "invalid_reason": found.invalid,
                "matched": None if found.outcome is None else told[found.outcome],
                "components": found.components,
            }
            for name, found in zip(forecasts, scored, strict=True)
        ],
    }


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank, split at LF only: U+2028 may stand inside a string."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FeedError(f"cannot read {path}: {error.strerror or error}") from error
    for number, raw in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        try:
            line = raw.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise FeedError(f"{path}:{number}: not UTF-8 ({error.reason})") from error
        if line:
            yield number, line


def _json(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FeedError(f"{path}:{number}: not JSON: {error}") from error


def _text(path: Path, number: int, value: object) -> str:
    """The value if it is text. JSON can escape half a character, which no tokenizer reads."""
    if not isinstance(value, str):
        raise FeedError(f"{path}:{number}: expected text, found {json.dumps(value)[:60]}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FeedError(f"{path}:{number}: not Unicode text ({error.reason})") from error
    return value
