"""A reward of your own: `reward.kind = "FILE.py:FUNCTION"` pays what the function returns in the
place of the contrast. Format, validity and weights stay, and so does what the claim is made of.

    def brevity(forecasts, **facts):
        return [min(1.0, 20 / max(1, len(text.split()))) for text in forecasts]

The function is called by keyword with lists of one length, a forecast each: `forecasts` (texts),
`headlines` (the title each is about), `components` (what Varro's own scorer measured of it: the
names of README's table), and with `outcomes` (all titles of the window) and `made_on` (a date). It
returns as many numbers in [0, 1], or None for what it can not score, which leaves that forecast's
group without this part. The convention is that of TRL's reward functions.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from varro.errors import ConfigError, StageError


@dataclass(frozen=True, slots=True)
class OwnReward:
    where: str
    """file's name and function"""
    version: str
    """changes with any byte of the file, but not with what the file imports"""
    function: Callable[..., Any]


def load_own(kind: str) -> OwnReward:
    """The function that `reward.kind` names.

    Raises: ConfigError if its file can not be read or run, or has no such function.
    """
    path, _, name = kind.rpartition(":")
    file = Path(path)
    try:
        source = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"reward.kind: cannot read {file}: {error.strerror}") from error
    return _loaded(file, name, source)


@lru_cache(maxsize=4)
def _loaded(file: Path, name: str, source: bytes) -> OwnReward:
    digest = sha256(source).hexdigest()[:12]
    module = ModuleType(f"varro_own_reward_{digest}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # where dataclasses and pickle look for it
    try:
        exec(compile(source, str(file), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"reward.kind: {file} can not be run: {error!r}") from error
    function = module.__dict__.get(name)
    if not callable(function):
        raise ConfigError(f"reward.kind: {file} has no function {name!r}")
    return OwnReward(f"{file.name}:{name}", f"own-{name}@{digest}", function)


def own_rewards(
    own: OwnReward,
    forecasts: Sequence[str],
    headlines: Sequence[str],
    outcomes: Sequence[str],
    components: Sequence[dict[str, float]],
    *,
    made_on: date | None,
) -> list[float | None]:
    """What the function gives each forecast, or None where it can not score it.

    Raises: StageError if it fails, or returns what is no reward.
    """
    try:
        found = own.function(
            forecasts=list(forecasts),
            headlines=list(headlines),
            outcomes=list(outcomes),
            components=[dict(parts) for parts in components],
            made_on=made_on,
        )
        values = [None if value is None else float(value) for value in found]
    except (Exception, SystemExit) as error:
        raise StageError(f"{own.where} failed on {len(forecasts)} forecasts: {error!r}") from error
    if len(values) != len(forecasts):
        raise StageError(
            f"{own.where} returned {len(values)} rewards for {len(forecasts)} forecasts"
        )
    for text, value in zip(forecasts, values, strict=True):
        if value is not None and not (math.isfinite(value) and 0.0 <= value <= 1.0):
            raise StageError(f"{own.where} gave {value} to {text[:60]!r}; a reward lies in [0, 1]")
    return values
