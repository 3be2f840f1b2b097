"""How a policy's forecasts are written, whatever they foresee: what the guard asks of a new one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np

from varro.domain import Forecast
from varro.forecast.beats import parse_beats
from varro.reward.hygiene import inspect_text
from varro.training.guard import Conduct


def conduct_of(
    forecasts: Sequence[Forecast], titles: Sequence[str], *, made_on: date, window_days: float
) -> Conduct:
    """The conduct seen in some forecasts, each about its headline.  Raises: ValueError if none."""
    if not forecasts:
        raise ValueError("no conduct without a forecast")
    pairs = list(zip(forecasts, titles, strict=True))
    hygiene = [inspect_text(f.text, title, finish_reason=f.finish_reason) for f, title in pairs]
    beats = [
        parse_beats(f.text, title, made_on=made_on, window_days=window_days) for f, title in pairs
    ]
    logprobs = np.concatenate([f.sampler_logprobs for f in forecasts])
    return Conduct(
        n=len(forecasts),
        valid_frac=float(np.mean([h.invalid_reason() is None for h in hygiene])),
        format=float(np.mean([b.format_score() for b in beats])),
        words=float(np.mean([h.words for h in hygiene])),
        surprisal=-float(logprobs.mean()) if logprobs.size else 0.0,
    )
