"""The section "Is it safe?": the leash, the guard, and what the update did."""

from __future__ import annotations

from collections.abc import Sequence

from varro.report.days import safety_charts
from varro.report.metrics import find_metric, unit_beside
from varro.report.page import DASH, Part, Section, Table, metric_row, number, shown


def safety_section(
    update: Part | None,
    entropy_first: float | None,
    guard: Sequence[str],
    *,
    history: Sequence[Part],
    limits: Part | None,
) -> Section:
    """The leash and its limit, entropy, length and validity over the days, and the update."""
    title = "Is it safe?"
    charts = safety_charts(history, limits)
    said = tuple(f"Guard, {shown(line)}" for line in guard)
    if update is None:
        unmoved = "No update was made, so the weights are as they were."
        return Section(title, notes=(unmoved, *said), charts=charts)
    values = {**update, "entropy_first": entropy_first}
    names = ("kl_ref", "kl_k1", "kl_k3", "kl_ref_after", "kl_base_after", "clip_frac", "clip_scale",
             "entropy", "entropy_first", "grad_norm", "n_skipped_steps", "n_attempts", "kl_coef",
             "leash_strength", "kl_update", "kl_sampler", "tis_mean", "ratio_mean", "loss",
             "leash_loss", "lr", "lr_scale", "length_correlation", "tokens_per_s")  # fmt: skip
    left_out = ("n_low_variance", "n_too_few", "n_overlong", "n_off_sampler", "n_empty")
    caption = (
        f"Update v{shown(update['from_version'])} to v{shown(update['to_version'])}, "
        f"n = {number(update, 'n_forecasts')} forecasts in {number(update, 'n_groups')} groups, "
        f"{number(update, 'n_steps')} inner steps, "
        f"groups without spread: {number(update, 'n_zero_variance')}; "
        f"{number(update, 'n_trained')} forecasts trained on, left out: "
        + ", ".join(f"{find_metric(n).label.lower()} {number(update, n)}" for n in left_out)
        + f"; old log-probs {shown(update['old_from'])}"
    )
    rows = tuple(
        metric_row(name, number(values, name), unit_beside(name), find_metric(name).healthy or DASH)
        for name in names
    )
    table = Table(caption, ("Measure", "Value", "Unit", "Healthy"), rows)
    return Section(title, notes=said, charts=charts, tables=(table,))
