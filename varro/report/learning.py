"""The section "Is it learning?": the claim, what it costs, and the controls it stands beside."""

from __future__ import annotations

from collections.abc import Sequence

from varro.evaluation.claim import MIN_DAYS
from varro.report.days import learning_charts
from varro.report.metrics import CONTROLS, MAX_COPY_RISE, find_metric, format_value
from varro.report.page import (
    DASH,
    Part,
    Row,
    Section,
    Table,
    between,
    mark_badge,
    metric_row,
    number,
)

_MARKS = {
    "learned": ("▲", "good"),
    "not yet distinguishable": ("≈", "calm"),
    "worse": ("▼", "bad"),
    "not enough days": ("…", "calm"),
    "blocked": ("✗", "bad"),
}
_COMPARED = ("reward", "format", "semantic", "contrast", "similarity", "placebo", "vote",
             "copy_frac", "repetition_frac", "words", "valid")  # fmt: skip


def learning_section(
    learned: Part, evaluation: Part | None, *, is_placebo: bool, history: Sequence[Part]
) -> Section:
    """The claim of all days so far, its cost in days, and this night beside them."""
    lift = learned["lift"]
    said = (
        f"lift over the frozen base {number(lift, 'mean', 'lift')}, confidence sequence "
        f"{_claim('lift', lift)} (the claim, from {MIN_DAYS} days on), day-block bootstrap "
        f"{_bootstrap('lift', lift)} (for display), n = {number(lift, 'n_headlines')} headlines "
        f"on {number(lift, 'n_days')} days"
    )
    placebo = "A placebo run: rewards are dealt out at random, and it must learn nothing."
    notes = (
        placebo if is_placebo else None,
        _blocked(learned["blocked_by"]),
        _since(learned),
        _more_days(learned),
        _power(learned),
        _tonight(evaluation),
    )
    tables: tuple[Table, ...] = ()
    if learned["reward"]["n_days"] != 0:
        tables = (_differences(learned), _controls(learned), _directions(learned, evaluation))
    return Section(
        "Is it learning?",
        mark_badge(learned["word"], said, _MARKS),
        notes=tuple(note for note in notes if note),
        charts=learning_charts(history),
        tables=(*tables, *(() if evaluation is None else (_means(evaluation),))),
    )


def _blocked(names: Sequence[str]) -> str | None:
    labels = [find_metric(name).label for name in CONTROLS if name in names]
    reasons = []
    if labels:
        reasons.append(
            f"{' and '.join(labels)}: must be 0 and is not, so the measurement itself is in doubt."
        )
    if "copy_frac" in names:
        limit = format_value("lift_copy_frac", MAX_COPY_RISE)
        reasons.append(f"The policy copies more than the base, by over {limit}: an echo can lift.")
    return " ".join(reasons) or None


def _since(learned: Part) -> str:
    since, first = learned["lift"]["since"], learned["lift"]["first"]
    if since is not None:
        return f"To be told since {since}" + ("." if since == first else f", first on {first}.")
    if first is not None:
        return f"To be told first on {first}, and no longer."
    return "No day so far allowed a claim."


def _more_days(learned: Part) -> str | None:
    """What the lift so far still costs: only while it cannot be told."""
    days = learned["days_for_this_lift"]
    if learned["lift"]["mean"] is None or learned["word"] in ("learned", "worse", "blocked"):
        return None
    mean = number(learned["lift"], "mean", "lift")
    if days is None:
        return f"The lift so far, {mean}, is too small to be told from 0 within ten years."
    return (
        f"The lift so far, {mean}, needs about {max(days, 1):,} more days to be told from 0, if it "
        "stays what it is."
    )


def _power(learned: Part) -> str:
    lift = number(learned, "small_lift", "lift")
    if learned["sd_of_days"] is None:
        return f"What a lift of {lift} would cost in days is known once two days are compared."
    needed = learned["days_for_small_lift"]
    if needed == 0:
        cost = "would be told from 0 by now"
    elif needed is None:
        cost = "would need more than ten years"
    else:
        cost = f"would need about {number(learned, 'days_for_small_lift')} more days"
    return (
        f"A lift of {lift} {cost} at this spread "
        f"(standard deviation of days {number(learned, 'sd_of_days')})."
    )


def _tonight(evaluation: Part | None) -> str:
    if evaluation is None:
        return "Nothing was compared with the frozen base this night."
    return (
        f"This night: lift {number(evaluation, 'lift')}, interval "
        f"{between('lift', evaluation['lift_low'], evaluation['lift_high'])}, "
        f"n = {number(evaluation, 'n_headlines')} headlines with a contrast, of "
        f"{number(evaluation, 'n_shared', 'n_headlines')} that both forecast."
    )


def _differences(learned: Part) -> Table:
    parts = {"lift": learned["lift"]} | {f"lift_{name}": learned[name] for name in _COMPARED}
    rows = tuple(metric_row(name, *_pooled_cells(name, part)) for name, part in parts.items())
    headers = ("Served minus frozen base", "Mean", "Bootstrap", "Confidence sequence", "n", "Days")
    return Table("Paired differences over all days", headers, rows)


def _controls(learned: Part) -> Table:
    rows = []
    for name in CONTROLS:
        part = learned[name]
        wanted = find_metric(name).healthy or DASH
        if name in learned["blocked_by"]:
            wanted = f"{wanted}, and is not"
        rows.append(metric_row(name, *_pooled_cells(name, part), wanted))
    headers = ("Control", "Mean", "Bootstrap", "Confidence sequence", "n", "Days", "Should be")
    return Table("Beside the claim, over all days", headers, tuple(rows))


def _pooled_cells(name: str, part: Part) -> tuple[str, ...]:
    return (
        number(part, "mean", name),
        _bootstrap(name, part),
        _claim(name, part),
        number(part, "n_headlines"),
        number(part, "n_days"),
    )


def _directions(learned: Part, evaluation: Part | None) -> Table:
    def cell(accuracy: Part) -> str:
        n = format_value("n_forecasts", accuracy["n"])
        return f"{number(accuracy, 'frac', 'accuracy')}, n = {n}"

    rows = tuple(
        Row(
            label,
            (
                cell(learned["accuracy"][side]),
                DASH if evaluation is None else cell(evaluation["accuracy"][side]),
            ),
            "accuracy",
        )
        for side, label in (("served", "Served"), ("base", "Frozen base"))
    )
    caption = "Direction right, of n forecasts where it can be told"
    return Table(caption, ("Policy", "All days", "This night"), rows)


def _means(evaluation: Part) -> Table:
    served, base, rivals = evaluation["served"], evaluation["base"], evaluation["rivals"]
    names = ("even_contrast", "reward", "format", "semantic", "contrast", "similarity", "placebo",
             "vote")  # fmt: skip
    rows = [metric_row(name, number(served, name), number(base, name)) for name in names]
    rows += [
        Row(
            f"Contrast on even terms of the {name}",
            (format_value("even_contrast", value), DASH),
            "even_contrast",
        )
        for name, value in sorted(rivals.items())
    ]
    n = number(evaluation, "n_shared", "n_headlines")
    caption = f"This night, mean over n = {n} headlines; echo and template need no policy"
    return Table(caption, ("Mean", "Served", "Frozen base"), tuple(rows))


def _claim(name: str, part: Part) -> str:
    return between(name, part["claim_low"], part["claim_high"])


def _bootstrap(name: str, part: Part) -> str:
    return between(name, part["low"], part["high"])
