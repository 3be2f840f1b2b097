"""The top of a day's page: one sentence with the four numbers, and six cards."""

from __future__ import annotations

from varro.report.alarms import kl_now
from varro.report.axes import three_digits
from varro.report.metrics import format_value
from varro.report.page import DASH, Card, Part, count


def sentence_of(report: Part) -> str:
    """Settled of due, reward against the frozen base, KL of the leash, and what is to be done."""
    parts = [_settled(report), _reward(report), _leash(report), _action(report)]
    return " · ".join(part for part in parts if part)


def cards_of(report: Part) -> tuple[Card, ...]:
    """Settled of due, reward, valid forecasts, KL, groups without signal, time and memory; none if
    the day did not settle."""
    if report["settled"] is None or report["changes"] is None:
        return ()
    settled, changes = report["settled"], report["changes"]
    n_due = _due(settled)
    limit = report["limits"]["kl_limit"]
    peaks = [m["peak_rss_gb"] for m in report["memory"].values() if m["peak_rss_gb"] is not None]
    pending = settled["n_pending_groups"]
    return (
        Card(
            "Settled of due",
            f"{count(settled['n_settled'])} of {count(n_due)}",
            "forecasts",
            f"{count(settled['n_void'])} void"
            + (f", {count(pending)} groups not due yet" if pending != 0 else ""),
            "all that is due",
        ),
        _card("Reward", "", changes["reward"], "above the frozen base"),
        _card("Valid forecasts", "%", changes["valid"], "100 %"),
        _card("KL to the reference", "nats", changes["kl_ref_after"],
              f"under {three_digits(limit)}, the hard end"),
        _card("Groups without signal", "%", changes["no_signal_frac"], "few"),
        _card("Wall time", "s", changes["seconds"],
              f"peak memory {format_value('peak_rss_gb', max(peaks, default=None))} GB"),
    )  # fmt: skip


def _card(label: str, unit: str, change: Part, target: str) -> Card:
    beside = "" if unit == "%" or change["today"] is None else unit
    return Card(label, _shown(change["today"], unit), beside, _change(change, unit), target)


def _change(change: Part, unit: str) -> str:
    today, mean, n = change["today"], change["mean"], change["n_days"]
    if today is None:
        return "not measured this day"
    if mean is None:
        return "no earlier day to compare with"
    beside = f"mean of {count(n)} day{'s' * (n != 1)} before {_shown(mean, unit)}"
    low, high = change["low"], change["high"]
    if low is None or high is None:
        return f"{beside}; they do not tell how far days differ"
    if low <= 0 <= high:
        return f"no clear change; {beside}"
    arrow = "▲" if today > mean else "▼"
    step = _shown(abs(today - mean), unit).replace("%", "points")
    return f"{arrow} {step}; {beside}"


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return DASH
    return f"{three_digits(value * 100)} %" if unit == "%" else three_digits(value)


def _settled(report: Part) -> str | None:
    settled = report["settled"]
    if settled is None:
        return None
    due = _due(settled)
    if due == 0:
        return "Nothing was due"
    return f"Settled {count(settled['n_settled'])} of {count(due)} due"


def _due(settled: Part) -> int | None:
    n_settled, n_void = settled["n_settled"], settled["n_void"]
    return None if n_settled is None or n_void is None else n_settled + n_void


def _reward(report: Part) -> str | None:
    evaluation = report["evaluation"]
    if evaluation is None or evaluation["served"]["reward"] is None:
        return None if report["settled"] is None else "reward not settled"
    said = (
        f"reward {three_digits(evaluation['served']['reward'])} against "
        f"{three_digits(evaluation['base']['reward'])} of the frozen base"
    )
    if evaluation["reward_low"] is None:
        if evaluation["n_reward"] == 1:
            return f"{said} (n = 1 headline, too few for an interval)"
        # A report of schema 5 did not keep the differences.
        return f"{said} (n = {count(evaluation['n_shared'])} headlines)"
    return (
        f"{said} (difference {three_digits(evaluation['reward_difference'])}, "
        f"{three_digits(evaluation['reward_low'])} to {three_digits(evaluation['reward_high'])}, "
        f"n = {count(evaluation['n_reward'])} headlines)"
    )


def _leash(report: Part) -> str | None:
    if report["limits"] is None:
        return None
    update = report["update"]
    kl = kl_now(report)
    if kl is None and update is None:
        return "no update, so KL as before"
    if kl is None:
        # An earlier version's update did not measure it.
        before = update["kl_ref"]
        return None if before is None else f"KL {three_digits(before)} nats before the update"
    return (
        f"KL now {three_digits(kl)} of {three_digits(report['limits']['kl_limit'])} nats of leash"
    )


def _action(report: Part) -> str:
    n = len(report["to_do"])
    return "nothing to do" if not n else f"{n} thing{'s' * (n != 1)} to do"
