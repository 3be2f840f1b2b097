"""The KL leash: its strength follows the measured distance from the reference, and the reference
follows a policy that has earned its distance. Pure."""

from __future__ import annotations

from collections.abc import Sequence

MAX_CORRECTION = 0.2
"""proportional error is clipped to this on either side (Ziegler et al. 2019)"""
RESET_AFTER = 7
"""updates in a row that must have been beyond the dead band"""
RESET_EVERY = 28
"""updates between two resets, at least"""


def leash_strength(
    kl_coef: float, kl_ref: float, *, gain: float, dead_band: tuple[float, float]
) -> float:
    """What a nat of distance costs today: kl_coef + gain · max(0, kl_ref − lower edge of the band).

    The coefficient alone moves by some per cent a day and is late: against a steady pull the policy
    is at its hard end before the leash has grown. This part needs no memory.
    Units: kl_ref and dead_band in nats a sequence. Source: proportional-integral control; the
    coefficient is the integral, the rest the proportional part.
    """
    return kl_coef + gain * max(0.0, kl_ref - dead_band[0])


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


def should_reset_reference(
    kl_refs: Sequence[float],
    *,
    above: float,
    n_since_reset: int | None,
    canaries_fine: bool,
    lift_proven: bool,
) -> bool:
    """Whether the policy is to become its own reference: it has pulled at the leash for
    RESET_AFTER updates, it was proven better than the frozen base, and the last reset (None:
    never) is RESET_EVERY updates ago.

    Without the proof a reset is a leash that follows the runaway. The distance to the frozen base
    keeps a ceiling of its own. Units: kl_refs, newest last, and `above` in nats a sequence.
    Source: ProRL, arXiv:2505.24864, hard resets with a fresh optimiser; the rule, science.md 6.
    """
    last = kl_refs[-RESET_AFTER:]
    return (
        canaries_fine
        and lift_proven
        and len(last) == RESET_AFTER
        and min(last) > above
        and (n_since_reset is None or n_since_reset >= RESET_EVERY)
    )
