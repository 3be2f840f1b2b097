"""What pages say in numbers and marks, from the site's data: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from varro.domain import EvaluationInfo
from varro.evaluation.claim import pooled
from varro.report.charts import Chart, Line, line_chart
from varro.report.examples import COPIED
from varro.report.metrics import find_metric, format_value
from varro.report.page import Badge, Piece, between
from varro.reward.summary import BEATS, calibrated
from varro.site.build import SiteFacts
from varro.site.record import OVERDUE, PARTS, Json
from varro.site.tally import Mean, Tally, Week, is_scored, week_of

N_BOOTSTRAP = 2000
MIN_IN_BIN = 10
_SHOWN = ("reward", *PARTS, "probability")
_STATUS = {
    "open": ("○", "calm", "the day it speaks of is not over"),
    "due": ("◷", "calm", "to be settled by the next day that is run"),
    "overdue": ("✗", "bad", "nothing has settled it for more than two days"),
    "settled": ("✓", "good", "scored against what was then published"),
    "void": ("∅", "calm", "it can not be scored, which is not a 0"),
}


def status_badge(forecast: Json) -> Badge:
    """A forecast's status, with the reason where there is one."""
    status = forecast["status"]
    icon, tone, text = _STATUS[status]
    reason = forecast["void_reason"]
    if status == "settled" and not is_scored(forecast):
        reason = "there was nothing to hold it against: only its form is scored"
    if forecast["invalid_reason"]:
        reason = f"it earns nothing: {forecast['invalid_reason']}"
    on = f" on {forecast['settled_on']}" if forecast["settled_on"] else ""
    return Badge(f"{status}{on}", reason or text, icon, tone)


def group_status(group: Json) -> Badge:
    """A group's status in a list: that of its forecasts, in few words."""
    statuses = [f["status"] for f in group["forecasts"]]
    worst = max(set(statuses), key=lambda s: (s == "overdue", statuses.count(s), s))
    icon, tone, _ = _STATUS[worst]
    rewards = [f["reward"] for f in group["forecasts"] if is_scored(f)]
    mean = format_value("reward", sum(rewards) / len(rewards)) if rewards else None
    return Badge(worst, f"mean score {mean}" if mean else "", icon, tone)


def site_badges(facts: SiteFacts, tally: Tally) -> list[Badge]:
    """What is read first; the first of them stands in the title too."""
    counts = tally.counts
    badges = []
    if counts["overdue"]:
        said = f"{counts['overdue']:,} forecasts were due more than two days ago: settling stands."
        badges.append(Badge("Overdue", said, "✗", "bad"))
    if not facts.is_replay and facts.now - facts.updated > OVERDUE:
        said = f"No day was run since {facts.updated:%Y-%m-%d %H:%M} UTC."
        badges.append(Badge("Stopped", said, "✗", "bad"))
    if not badges:
        word = "Replay" if facts.is_replay else "Running"
        said = (
            "These are the days of an archive, under its own clock: nothing here was published "
            "before the world knew its outcome."
            if facts.is_replay
            else "Nothing is overdue."
        )
        badges.append(Badge(word, said, "↺" if facts.is_replay else "✓",
                            "calm" if facts.is_replay else "good"))  # fmt: skip
    return badges


def cut(text: str, limit: int, end: str = "…") -> str:
    """The text, or its beginning and `end`, in at most `limit` characters: up to the end of a word,
    unless that is a quarter shorter."""
    if len(text) <= limit:
        return text
    head = text[: limit - len(end)]
    words = head if text[len(head)].isspace() else head.rpartition(" ")[0]
    return (words if 4 * len(words) > 3 * limit else head).rstrip() + end


def pieces(forecast: Json, limit: int) -> list[Piece]:
    """The beginning of a forecast's text, in stretches of one beat or of none."""
    text, found, end = forecast["text"][:limit], [], 0
    for beat, start, stop in forecast["spans"]:
        start, stop = max(start, end), min(stop, len(text))
        if start < stop and beat in (*BEATS, COPIED):
            found += [Piece(text[end:start]), Piece(text[start:stop], beat)]
            end = stop
    return [piece for piece in (*found, Piece(text[end:])) if piece.text]


def parts_of(forecast: Json) -> list[tuple[str, str]]:
    """(label, value) of the score and each of its parts."""
    values = {"reward": forecast["reward"], **forecast["parts"],
              "probability": forecast["probability"]}  # fmt: skip
    return [
        (_label(name), format_value(name, values[name]))
        for name in _SHOWN
        if values.get(name) is not None
    ]


def definitions() -> list[tuple[str, str]]:
    """(label, definition) of what forecasts' pages show."""
    return [(_label(name), find_metric(name).definition) for name in _SHOWN]


def _label(name: str) -> str:
    return "Score" if name == "reward" else find_metric(name).label


@dataclass(frozen=True, slots=True)
class WeekRow:
    """A line of the scorecard."""

    name: str
    n_settled: int
    n_void: int
    reward: str
    base: str
    difference: str
    lift: str
    placebo: str
    echo: str
    template: str
    n_days: int
    mean: float | None
    low: float | None
    high: float | None
    """of the lift"""


def week_rows(facts: SiteFacts, tally: Tally) -> list[WeekRow]:
    """The scorecard, newest week first."""
    weeks = sorted({*tally.weeks, *(week_of(e.day) for e in facts.evaluations)}, reverse=True)
    return [_week_row(facts, name, tally.weeks.get(name) or Week(name)) for name in weeks]


def _week_row(facts: SiteFacts, name: str, week: Week) -> WeekRow:
    days = [e for e in facts.evaluations if week_of(e.day) == name]

    def difference(part: str, shown_as: str) -> tuple[str, dict[str, Any]]:
        found = pooled(days, part, seed=facts.seed, n_bootstrap=N_BOOTSTRAP)
        if found["mean"] is None:
            return "—", found
        said = format_value(shown_as, found["mean"])
        if found["low"] is not None:
            said += f" ({between(shown_as, found['low'], found['high'])})"
        return said, found

    lift, found = difference("even_contrast", "lift")
    return WeekRow(
        name,
        week.n_settled,
        week.n_void,
        format_value("reward", _mean_of(days, "served", "reward")),
        format_value("reward", _mean_of(days, "base", "reward")),
        difference("reward", "lift_reward")[0],
        lift,
        format_value("placebo", _mean_of(days, "served", "placebo")),
        difference("echo", "echo")[0],
        difference("template", "template")[0],
        found["n_days"],
        found["mean"],
        found["low"],
        found["high"],
    )


def _mean_of(days: Sequence[EvaluationInfo], side: str, part: str) -> float | None:
    """Mean of days' means."""
    mean = Mean()
    for day in days:
        value = day.detail[side].get(part)
        if value is not None:
            mean.add(value)
    return mean.value


def lift_chart(rows: Sequence[WeekRow]) -> Chart | None:
    """The paired difference by week; none with fewer than two weeks."""
    drawn = [row for row in reversed(rows) if row.mean is not None]
    if len(drawn) < 2:
        return None
    known = [(row.low, row.high) for row in drawn if row.low is not None and row.high is not None]
    above = sum(low > 0 for low, _ in known)
    below = sum(high < 0 for _, high in known)
    finding = (
        f"Of {len(drawn)} weeks, by their interval: {above} above 0, {below} below 0, "
        f"{len(known) - above - below} around 0 (no difference can be told), "
        f"{len(drawn) - len(known)} without one."
    )
    line = Line("Served minus frozen base", [row.mean for row in drawn],
                [row.low for row in drawn], [row.high for row in drawn])  # fmt: skip
    return line_chart("lift", "Lift over the frozen base by week", finding,
                      [row.name for row in drawn], [line], zero=True, heading="Week")  # fmt: skip


def calibration_view(facts: SiteFacts) -> dict[str, Any] | None:
    """Brier score and the bins that hold enough; None while too few were settled."""
    found = calibrated(facts.probabilities)
    if found is None:
        return None
    bins = [b for b in found["bins"] if b["n"] >= MIN_IN_BIN]
    return {**found, "bins": bins, "n_hidden": len(found["bins"]) - len(bins)}


def week_parts(week: Week, before: Week | None) -> list[tuple[str, str, int, str]]:
    """(label, mean of this week, forecasts in it, mean of the week before) of the score and its
    parts."""

    def means(of: Week) -> list[Mean]:
        return [of.reward, *(of.parts[part] for part in PARTS)]

    return [
        (_label(name), format_value(name, now.value), now.n, format_value(name, then.value))
        for name, now, then in zip(
            ("reward", *PARTS), means(week), means(before or Week("")), strict=True
        )
    ]


def low_sources(week: Week, *, min_n: int = 8, n: int = 5) -> list[tuple[str, int, str]]:
    """(source, forecasts, mean score), the lowest mean first."""
    found = [
        (m.value, s, m.n) for s, m in week.sources.items() if m.n >= min_n and m.value is not None
    ]
    return [
        (source, count, format_value("reward", mean)) for mean, source, count in sorted(found)[:n]
    ]
