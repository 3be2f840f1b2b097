"""The guard: figures of a day, a step or an update in, a verdict out. Pure.

A trainer with a flipped sign, a scorer that pays for length or a rate a thousand times too high all
run, log a loss and change weights. Each verdict carries its figures, whatever it is.
Source: science.md, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from varro.config import GuardConfig

SPIKE = 5.0
"""a gradient norm so many times the running mean is a spike"""
MAX_SKIPPED = 2
"""steps left out in a day before the day is given up"""
NORM_DECAY = 0.9
"""of the running mean of gradient norms, an update"""
ENTROPY_BAND = (0.25, 2.0)
"""entropy of the policy, of what it was at the run's first update: below it says one thing whatever
it is asked, above it falls apart. In the 462 updates of nine healthy runs it was 0.48 to 1.03"""
MIN_FORECASTS = 32
"""before a correlation with length, or the conduct of a policy, is believed"""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do and why; `reason` has the figures."""

    action: Literal["accept", "skip", "redo", "refuse"]
    """skip is of a step, redo of an update: from the parent, at half the rate, once"""
    reason: str
    past_limit: bool = False
    """the policy would be further away than the leash allows"""

    def __str__(self) -> str:
        return f"{self.action}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Conduct:
    """How a policy's forecasts on headlines that never train are written, whatever they foresee."""

    n: int
    """forecasts"""
    valid_frac: float
    """share that hygiene lets earn"""
    format: float
    """mean of the five beats"""
    words: float
    """mean"""
    surprisal: float
    """nats a token, as the sampler drew them"""


def judge_day(
    figures: Mapping[str, float],
    *,
    n_trained: int,
    excluded: str,
    length_correlation: float | None,
    entropy_first: float | None,
    limits: GuardConfig,
) -> Verdict:
    """Whether the day's data can be trained on at all.

    `figures` must all be finite, and have `kl_sampler` and `entropy`; `entropy_first` is that of
    the run's first update, None before it; `excluded` says what was left out.
    Units: kl_sampler and entropy in nats a token.
    """
    if not_finite := [name for name, value in figures.items() if not math.isfinite(value)]:
        return Verdict("refuse", f"{not_finite[0]} is not finite")
    mismatch = figures["kl_sampler"]
    if mismatch > limits.max_kl_sampler:
        return Verdict(
            "refuse",
            f"sampler and trainer disagree: {mismatch:.3g} nats a token, at most "
            f"{limits.max_kl_sampler:g}",
        )
    if entropy_first:
        low, high = (factor * entropy_first for factor in ENTROPY_BAND)
        if not low <= figures["entropy"] <= high:
            return Verdict(
                "refuse",
                f"entropy {figures['entropy']:.3g} nats a token, at the first update "
                f"{entropy_first:.3g}: outside {low:.3g} to {high:.3g}",
            )
    if not n_trained:
        return Verdict("refuse", f"no group left to learn from: {excluded}")
    found = "none" if length_correlation is None else f"{length_correlation:+.2f}"
    if (
        length_correlation is not None
        and n_trained >= MIN_FORECASTS
        and abs(length_correlation) > limits.max_length_correlation
    ):
        return Verdict(
            "refuse",
            f"advantages follow the length of the answer: correlation {found} over {n_trained} "
            f"forecasts, at most {limits.max_length_correlation:g}",
        )
    return Verdict(
        "accept",
        f"day: {n_trained} forecasts to train on, sampler mismatch {mismatch:.1e} nats a token, "
        f"correlation with length {found}",
    )


def judge_leash(unleashed: Floats, leashed: Floats, kl: Floats) -> Verdict:
    """Whether the leash takes from what is far: Σ (leashed − unleashed)(kl − group mean) ≤ 0.

    True of every clipped and centred leash, however strong, unless its sign is flipped.
    Shapes: (N, G), both advantages clipped alike.  Units: kl in nats a sequence.
    """
    paid = (leashed - unleashed) * (kl - kl.mean(axis=1, keepdims=True))
    total = float(paid.sum())
    if not math.isfinite(total):
        return Verdict("refuse", "the leash is not finite")
    if total > 1e-9 * max(1.0, float(np.abs(paid).sum())):
        return Verdict("refuse", f"the leash pays for distance: {total:+.3g}; its sign is flipped")
    return Verdict("accept", f"leash: {total:+.2g} paid for distance")


def judge_step(
    loss: float,
    norm: float,
    leash_loss: float,
    *,
    norm_ema: float | None,
    n_skipped: int,
    limits: GuardConfig,
) -> Verdict:
    """Whether the optimiser may take a minibatch's step, before it does.

    `leash_loss` is the part of the loss that is the leash, a square: 0 or more.
    """
    if not (math.isfinite(loss) and math.isfinite(norm) and math.isfinite(leash_loss)):
        return Verdict("refuse", f"loss {loss} or gradient norm {norm} is not finite")
    if leash_loss < 0:
        return Verdict("refuse", f"the leash pays for distance: {leash_loss:.3g} in the loss")
    limit = max(SPIKE * (norm_ema or 0.0), limits.min_spike)
    if norm <= limit:
        return Verdict("accept", f"step: gradient norm {norm:.3g}")
    spike = f"gradient norm {norm:.3g} is a spike: at most {limit:.3g}"
    if n_skipped + 1 >= MAX_SKIPPED:
        return Verdict("refuse", f"{spike}; the {_ordinal(n_skipped + 1)} step of the day")
    return Verdict("skip", spike)


def judge_update(
    *,
    kl_update: float,
    kl_ref: tuple[float, float],
    kl_base: tuple[float, float],
    kl_limit: float,
    base_kl_limit: float,
    may_redo: bool,
    limits: GuardConfig,
) -> Verdict:
    """Whether an update may stand.

    A policy that is past a limit already may take any step that leads back.
    Units: nats a sequence; kl_ref and kl_base (before, after) on the same forecasts.
    """
    if not all(map(math.isfinite, (kl_update, *kl_ref, *kl_base))):
        return Verdict("refuse", "the new policy's log-probs are not finite")
    moved = f"KL of the update {kl_update:.3g} nats a sequence"
    if kl_update > limits.kl_refuse:
        return Verdict("refuse", f"{moved}, at most {limits.kl_refuse:g}")
    for name, (before, after), limit in (
        ("reference", kl_ref, kl_limit),
        ("frozen base", kl_base, base_kl_limit),
    ):
        if after > max(limit, before):
            return Verdict(
                "redo" if may_redo else "refuse",
                f"KL to the {name} would be {after:.2f} nats a sequence, past the limit of "
                f"{limit:g}",
                past_limit=True,
            )
    if kl_update > limits.kl_redo and may_redo:
        return Verdict("redo", f"{moved}, above {limits.kl_redo:g}")
    return Verdict("accept", f"update: {moved}, KL to the reference {kl_ref[1]:.3g}")


def judge_conduct(new: Conduct, parent: Conduct, *, limits: GuardConfig) -> Verdict:
    """Whether a trained policy may be published: it must not write worse than its parent does on
    the same headlines, with the same seeds.

    Distances say how far an update went; this says whether it ended in what no one would read.
    """
    if min(new.n, parent.n) < MIN_FORECASTS:
        return Verdict(
            "accept", f"conduct: {new.n} forecasts to look at, {MIN_FORECASTS} are needed"
        )
    if not all(map(math.isfinite, (new.surprisal, parent.surprisal))):
        return Verdict("refuse", "the new policy's log-probs are not finite")
    found = [
        f"{name} {before:{form}} → {after:{form}}"
        for name, before, after, form in (
            ("valid", parent.valid_frac, new.valid_frac, ".0%"),
            ("format", parent.format, new.format, ".2f"),
            ("words", parent.words, new.words, ".0f"),
            ("surprisal", parent.surprisal, new.surprisal, ".2f"),
        )
    ]
    told = ", ".join(found)
    if parent.valid_frac - new.valid_frac > limits.max_valid_fall:
        return Verdict("refuse", f"fewer valid forecasts on held-out headlines: {told}")
    if parent.format - new.format > limits.max_format_fall:
        return Verdict("refuse", f"format lost on held-out headlines: {told}")
    for name, before, after in (
        ("length", parent.words, new.words),
        ("surprisal", parent.surprisal, new.surprisal),
    ):
        if abs(after - before) > limits.max_drift * before:
            return Verdict("refuse", f"{name} drifts on held-out headlines: {told}")
    return Verdict("accept", f"conduct on {new.n} held-out forecasts: {told}")


def next_norm_ema(norm_ema: float | None, norm: float) -> float:
    """The running mean of updates' mean gradient norms, with one more."""
    return norm if norm_ema is None else NORM_DECAY * norm_ema + (1 - NORM_DECAY) * norm


def _ordinal(n: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(n, f"{n}th")
