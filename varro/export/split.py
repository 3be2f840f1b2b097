"""Days to train on, days to evaluate on, and none of what both would have seen. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from varro.errors import StageError


@dataclass(frozen=True)
class Split:
    """Names of days, oldest first; every train day comes before every embargoed one, and those
    before every evaluation day."""

    train: tuple[str, ...]
    embargo: tuple[str, ...]
    eval: tuple[str, ...]

    def of(self, day: str) -> str | None:
        return "train" if day in self.train else "eval" if day in self.eval else None


def split_days(
    days: Sequence[tuple[str, datetime]],
    *,
    eval_frac: float,
    window: timedelta,
    cycle: timedelta,
) -> Split:
    """Split (day, when its forecasts were made), oldest first, by date.

    The newest `eval_frac` of them, at least one, are for evaluation. An earlier day trains only if
    the `window` of its outcomes has closed before the first evaluation day's own headlines, those
    of the `cycle` before its forecasts, began; and at least one day stands between.
    Raises: StageError if that leaves nothing to train on.
    """
    n_eval = max(1, round(eval_frac * len(days)))
    before, held = list(days[:-n_eval]), list(days[-n_eval:])
    begins = held[0][1] - cycle if held else None
    train = [d for d in before[:-1] if begins is not None and d[1] + window <= begins]
    if not train:
        raise StageError(
            f"{len(days)} settled days are too few for a split with an embargo: outcomes of a day "
            f"reach {window / timedelta(hours=1):g} hours on; run more days, or lower --eval-frac"
        )
    names = [day for day, _ in days]
    return Split(
        tuple(names[: len(train)]),
        tuple(names[len(train) : len(before)]),
        tuple(names[len(before) :]),
    )
