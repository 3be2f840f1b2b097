"""The KL leash: how its strength follows the measured distance from the reference."""

from __future__ import annotations

MAX_CORRECTION = 0.2
"""proportional error is clipped to this on either side (Ziegler et al. 2019)"""


def next_kl_coef(
    kl_coef: float,
    kl_ref: float,
    *,
    past_limit: bool = False,
    n_forecasts: int,
    target: float,
    dead_band: tuple[float, float],
    horizon: int,
    min_kl_coef: float,
    max_kl_coef: float,
) -> float:
    """kl_coef · (1 + clip(kl_ref/target − 1, ±0.2) · n_forecasts/horizon), within its bounds.

    Units: kl_ref, target and dead_band in nats a sequence. Inside the dead band nothing moves.
    An update that was refused for going past the limit doubles the coefficient: the same data
    would otherwise be refused again tomorrow.
    Source: arXiv:1909.08593, section 2.2, with a dead band and a horizon for daily batches.
    """
    if past_limit:
        return min(2.0 * kl_coef, max_kl_coef)
    low, high = dead_band
    if low <= kl_ref <= high:
        return kl_coef
    error = min(max(kl_ref / target - 1.0, -MAX_CORRECTION), MAX_CORRECTION)
    return min(max(kl_coef * (1.0 + error * n_forecasts / horizon), min_kl_coef), max_kl_coef)
