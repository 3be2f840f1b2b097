"""The section "Cadence": how surprise runs along the day's forecasts, beside the frozen base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from varro.domain import Forecast, Group
from varro.evaluation.cadence import MEASURES, compare_cadence, spiking
from varro.report.charts import Chart, sequence_chart
from varro.report.metrics import format_value
from varro.report.page import DASH, Part, Section, Table, between, metric_row, number, shown

MAX_WORDS = 100
"""of a chart: with more than these, its table would be a tenth of the page"""
END = "(end)"
"""stands for the tokens behind the last word, which only stop"""
_NOTE = "Diagnostics, not a claim: who writes other words has another cadence, better or not."


def cadence_part(
    groups: Sequence[Group],
    example: Forecast | None,
    pieces: Sequence[str] | None,
    *,
    seed: int,
    day: str,
    n_bootstrap: int,
) -> dict[str, Any]:
    """{compared: `compare_cadence` of the groups made that day, example: {forecast_id, words:
    [[word, nats, is_spike]]} or None}.

    `pieces`: the text of each token of the example, None where the tokenizer is not at hand.
    """
    words = None if example is None or pieces is None else word_surprisal(example, pieces)
    return {
        "compared": compare_cadence(groups, seed=seed, day=day, n_bootstrap=n_bootstrap),
        "example": None
        if example is None or words is None
        else {"forecast_id": example.id, "words": words},
    }


def word_surprisal(forecast: Forecast, pieces: Sequence[str]) -> list[list[Any]]:
    """[word, nats, whether one of its tokens is a spike] in order: a word's surprisal is the sum of
    its tokens', −log of the chance that it was to be this word. Tokens behind the text, such as the
    stop token, are `END`."""
    surprisal = -forecast.sampler_logprobs.astype(np.float64)
    words: list[list[Any]] = []
    nats, is_spike, is_apart = 0.0, False, True
    for piece, own, spikes in zip(pieces, surprisal, spiking(surprisal), strict=True):
        nats, is_spike = nats + float(own), is_spike or bool(spikes)
        text = " ".join(piece.split())
        is_apart = is_apart or piece[:1].isspace()
        if not text:
            continue
        if is_apart:
            words.append(["", 0.0, False])
        said, sum_, spiked = words[-1]
        words[-1] = [said + text, sum_ + nats, spiked or is_spike]
        nats, is_spike, is_apart = 0.0, False, piece[-1].isspace()
    return [*words, [END, nats, is_spike]] if nats else words


def cadence_section(part: Part) -> Section:
    """Each measure, served and base, with the paired difference, and one forecast's surprisal."""
    compared, example = part["compared"], part["example"]
    return Section(
        "Cadence",
        notes=(
            _NOTE if compared is not None else "No headline was forecast by both this day.",
            *(() if example is not None else ("Of no forecast can the words be told apart.",)),
        ),
        tables=() if compared is None else (_table(compared),),
        charts=() if example is None else (_chart(example),),
    )


def _table(compared: Part) -> Table:
    rows = tuple(
        metric_row(
            name := f"cadence_{measure}",
            number(found, "served", name),
            number(found, "base", name),
            number(found, "difference", name),
            between(name, found["low"], found["high"]),
            format_value("n_headlines", found["n"]),
        )
        for measure in MEASURES
        for found in (compared["measures"][measure],)
    )
    caption = (
        f"Forecasts made this day, n = {number(compared, 'n_headlines')} headlines: "
        f"{number(compared, 'n_served', 'n_forecasts')} forecasts of the served policy, "
        f"{number(compared, 'n_base', 'n_forecasts')} of the frozen base; bootstrap over headlines"
    )
    headers = ("Measure", "Served", "Frozen base", "Difference", "Interval", "n")
    return Table(caption, headers, rows)


def _chart(example: Part) -> Chart:
    told = example["words"][:MAX_WORDS]
    words = [shown(word) + (" ▲" if spiked else "") for word, _, spiked in told]
    values = [nats for _, nats, _ in told]
    known = [(nats, word) for word, nats in zip(words, values, strict=True) if nats is not None]
    top = max(known, default=(None, DASH))
    return sequence_chart(
        "cadence",
        "Surprisal over one forecast's words",
        f"Forecast {shown(example['forecast_id'])}: the least expected word is {top[1]}, at "
        f"{_nats(top[0])} nats. ▲ marks a word with a spike."
        + (
            f" Of {len(example['words'])} words the first {MAX_WORDS}." * (told != example["words"])
        ),
        words,
        values,
        series="Surprisal, nats a word",
        show=_nats,
    )


def _nats(value: float | None) -> str:
    return format_value("cadence_surprisal", value)
