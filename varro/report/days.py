"""The charts of a day's page: each from the days up to it, with its finding in words."""

from __future__ import annotations

from collections.abc import Sequence

from varro.report.axes import Chart, Limit, Line, Marks, three_digits
from varro.report.charts import bar_chart, line_chart, row_chart, share_chart
from varro.report.history import N_BINS, invalid_kinds
from varro.report.page import DASH, Part, count

Values = list[float | None]


def learning_charts(history: Sequence[Part]) -> tuple[Chart, ...]:
    """Served against frozen base, the paired difference, and the claim as it stood each day."""
    if not history:
        return ()
    days = _days(history)
    return (
        line_chart(
            "reward",
            "Reward of settled forecasts",
            _reward_found(history),
            days,
            [
                Line("served policy", _of(history, "reward"), _of(history, "reward_low"),
                     _of(history, "reward_high")),
                Line("frozen base, same headlines", _of(history, "base_reward")),
            ],
            marks=marks_of(history),
        ),
        line_chart(
            "lift",
            "Paired difference: lift over the frozen base",
            _lift_found(history),
            days,
            [Line("served minus base", _of(history, "lift"), _of(history, "lift_low"),
                  _of(history, "lift_high"))],
            zero=True,
        ),
        line_chart(
            "claim",
            "The claim: mean lift so far",
            _claim_found(history),
            days,
            [Line("mean of days", _of(history, "mean_lift"), _of(history, "claim_low"),
                  _of(history, "claim_high"))],
            zero=True,
        ),
    )  # fmt: skip


def safety_charts(history: Sequence[Part], limits: Part | None) -> tuple[Chart, ...]:
    """The leash, entropy and length, what became of forecasts, clip fraction and gradient."""
    if not history:
        return ()
    days = _days(history)
    limit = None if limits is None else limits["kl_limit"]
    leash = [] if limit is None else [Limit("hard end of the leash", limit)]
    kinds = invalid_kinds(history)
    charts = [
        line_chart("kl-ref", "KL to the reference, nats", _kl_found(history, limit), days,
                   [Line("the version that serves on", _of(history, "kl_ref_after")),
                    Line("before the day's update", _of(history, "kl_ref"))],
                   limits=leash,
                   zero=True),
        bar_chart("kl-update", "KL of the day's update",
                  _last(history, "kl_update", "nats a sequence from parent to trained policy"),
                  days, Line("kl_update, nats", _of(history, "kl_update"))),
        line_chart("entropy", "Entropy", _last(history, "entropy", "nats a token"), days,
                   [Line("nats a token", _of(history, "entropy"))]),
        line_chart("words", "Length of forecasts",
                   _against(history, "words", "base_words", "words"), days,
                   [Line("served policy", _of(history, "words")),
                    Line("frozen base", _of(history, "base_words"))]),
        share_chart("shares", "What became of forecasts", _shares_found(history, kinds), days,
                    _shares(history, kinds)),
        line_chart("clip", "Clip fraction", _last(history, "clip_frac", "of forecasts", 100), days,
                   [Line("share of forecasts clipped", _of(history, "clip_frac"))], percent=True,
                   zero=True),
        line_chart("grad-norm", "Gradient norm", _last(history, "grad_norm", "mean of the day"),
                   days, [Line("mean of the inner steps", _of(history, "grad_norm"))], zero=True),
    ]  # fmt: skip
    return tuple(charts)


def histogram_chart(found: Part | None) -> tuple[Chart, ...]:
    """Rewards of the day against those of the week before it."""
    if found is None or found["today"] is None:
        return ()
    edges = [f"{n / N_BINS:.2f}" for n in range(N_BINS)]
    low = _under_a_quarter(found["today"])
    finding = f"{low} of today's n = {count(found['n_today'])} rewards are under 0.25" + (
        f", against {_under_a_quarter(found['week'])} of n = {count(found['n_week'])} in the 7 "
        "days before."
        if found["week"]
        else "; in the 7 days before nothing had a reward with all its parts."
    )
    outline = Line("7 days before", found["week"]) if found["week"] else None
    return (
        bar_chart("histogram", "Rewards, today against the week", finding, edges,
                  Line("today", found["today"]), outline=outline, percent=True,
                  show=_percent, heading="From"),
    )  # fmt: skip


def _under_a_quarter(shares: Sequence[float | None]) -> str:
    return f"{sum(share or 0.0 for share in shares[: N_BINS // 4]):.0%}"


def baselines_chart(evaluation: Part | None) -> tuple[Chart, ...]:
    """Contrast of the served policy beside what needs no training, or no policy."""
    if evaluation is None:
        return ()
    rows = [("served policy", evaluation["served"]["even_contrast"]),
            ("frozen base", evaluation["base"]["even_contrast"]),
            *sorted(evaluation["rivals"].items()),
            ("another day's news", evaluation["served"].get("shuffled"))]  # fmt: skip
    best = max((v for _, v in rows if v is not None), default=None)
    names = " and ".join(label for label, v in rows if v is not None and v == best)
    finding = (
        f"{names or 'Nothing'} is highest, n = {count(evaluation['n_shared'])} headlines; echo "
        "repeats the headline, template is one sentence for all."
    )
    return (row_chart("baselines", "Contrast on even terms", finding, rows),)


def timing_chart(timings: Sequence[tuple[str, float | None]]) -> tuple[Chart, ...]:
    """Wall time by stage."""
    if not timings:
        return ()
    total = sum(seconds or 0.0 for _, seconds in timings)
    name, most = max(((n, s or 0.0) for n, s in timings), key=lambda item: item[1])
    finding = f"{three_digits(total)} s in all; {name} took most, {three_digits(most)} s."
    return (row_chart("timings", "Wall time", finding, timings, headers=("Stage", "Seconds")),)


def marks_of(history: Sequence[Part]) -> list[Marks]:
    """Days that made a version, and days whose configuration had changed."""
    return [
        Marks("promotion", [n for n, row in enumerate(history) if row["version"] is not None]),
        Marks("config change", [n for n, row in enumerate(history) if row["config_changed"]]),
    ]


def _reward_found(history: Sequence[Part]) -> str:
    last = history[-1]
    if last["reward"] is None:
        return "Nothing was settled with a reward this day: a gap, not a 0."
    interval = (
        f" ({three_digits(last['reward_low'])} to {three_digits(last['reward_high'])})"
        if last["reward_low"] is not None
        else ""
    )
    base = (
        f", frozen base {three_digits(last['base_reward'])}"
        if last["base_reward"] is not None
        else ""
    )
    return (
        f"Served {three_digits(last['reward'])}{interval}{base}, n = {count(last['n_headlines'])} "
        f"headlines this day; {_trend(history, 'reward')}."
    )


def _lift_found(history: Sequence[Part]) -> str:
    last = history[-1]
    if last["lift"] is None:
        return "Nothing was compared this day."
    low, high = last["lift_low"], last["lift_high"]
    side = (
        "too few headlines for an interval" if low is None
        else "above 0" if low > 0
        else "below 0" if high < 0
        else "the interval includes 0"
    )  # fmt: skip
    return (
        f"{three_digits(last['lift'])} this day, n = {count(last['n_compared'])} headlines: {side}."
    )


def _claim_found(history: Sequence[Part]) -> str:
    last = next((row for row in reversed(history) if row["mean_lift"] is not None), None)
    if last is None:
        return "No day has been compared yet."
    if last["claim_low"] is None:
        return f"Mean {three_digits(last['mean_lift'])}; no interval before 7 compared days."
    low, high = last["claim_low"], last["claim_high"]
    told = "above 0" if low > 0 else "below 0" if high < 0 else "0 is inside: not told apart yet"
    return (
        f"Mean {three_digits(last['mean_lift'])}, confidence sequence {three_digits(low)} to "
        f"{three_digits(high)}: {told}."
    )


def _kl_found(history: Sequence[Part], limit: float | None) -> str:
    value = history[-1]["kl_ref_after"]
    if value is None:
        return "Not measured this day."
    if not limit:
        return f"{three_digits(value)} nats a sequence."
    return (
        f"{three_digits(value)} nats a sequence, {value / limit:.0%} of the hard end of the "
        f"leash, {three_digits(limit)}."
    )


def _shares_found(history: Sequence[Part], kinds: Sequence[str]) -> str:
    last = history[-1]
    if last["valid"] is None:
        return "Nothing was settled this day."
    invalid = last["invalid"] or {}
    said = ", ".join(f"{kind} {invalid[kind]:.1%}" for kind in kinds if invalid.get(kind))
    return (
        f"{last['valid']:.1%} of n = {count(last['n_forecasts'])} training forecasts were valid"
        + (f"; {said}." if said else ".")
    )


def _shares(history: Sequence[Part], kinds: Sequence[str]) -> list[Line]:
    shares: list[Line] = [Line("valid", _of(history, "valid"))]
    for kind in kinds:
        shares.append(Line(kind, [None if row["invalid"] is None else row["invalid"].get(kind, 0.0)
                                  for row in history]))  # fmt: skip
    others = [
        None if row["valid"] is None or row["invalid"] is None
        else min(1.0, max(0.0, 1 - row["valid"] - sum(row["invalid"].get(k) or 0.0 for k in kinds)))
        for row in history
    ]  # fmt: skip
    if any(share is not None and share > 1e-9 for share in others):
        shares.append(Line("other", others))
    return shares


def _last(history: Sequence[Part], name: str, unit: str, scale: float = 1.0) -> str:
    value = history[-1][name]
    if value is None:
        return "Not measured this day."
    text = _scaled(value, scale)
    return f"{text} {unit}; {_trend(history, name, scale)}."


def _against(history: Sequence[Part], name: str, base: str, unit: str) -> str:
    ours, theirs = history[-1][name], history[-1][base]
    if ours is None:
        return "Not measured this day."
    beside = "" if theirs is None else f", frozen base {three_digits(theirs)}"
    return f"{three_digits(ours)} {unit}{beside}; {_trend(history, name)}."


def _trend(history: Sequence[Part], name: str, scale: float = 1.0) -> str:
    measured = [row for row in history if row[name] is not None]
    if len(measured) < 2:
        return "the first day measured"
    first = measured[0]
    return f"it was {_scaled(first[name], scale)} on {first['day']}"


def _scaled(value: float, scale: float) -> str:
    return three_digits(value * scale) + (" %" if scale == 100 else "")


def _percent(share: float | None) -> str:
    return DASH if share is None else f"{share * 100:.1f} %"


def _days(history: Sequence[Part]) -> list[str]:
    return [str(row["day"]) for row in history]


def _of(history: Sequence[Part], name: str) -> Values:
    return [row[name] for row in history]
