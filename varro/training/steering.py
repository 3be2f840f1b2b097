"""What the trainer changes from day to day by what it measured: clip range and learning rate.

Pure. A step of steering is small against a day's noise, and bounded, so that a wrong start is found
in days and a wrong measurement does little.
"""

from __future__ import annotations

CLIP_FRAC = (0.05, 0.20)
"""healthy share of clipped forecasts: below, the clip is inert; above, data is thrown away"""
CLIP_STEP = 1.25
CLIP_BOUNDS = (0.25, 4.0)
LR_UP, LR_DOWN = 1.25, 1.5
LR_BOUNDS = (1 / 16, 2.0)
"""the cap is that of science.md, section 6: 2e-5 for a rate of 1e-5"""
WARMUP = 0.3
"""of the learning rate, at a run's first updates: Adam's moments are those of one batch"""


def next_clip_scale(scale: float, clip_frac: float, *, is_warmup: bool) -> float:
    """Factor on both clip ranges: wider if more than 20 % were clipped, narrower below 5 %, unless
    it was a run's warm-up that kept them inside."""
    low, high = CLIP_FRAC
    if clip_frac > high:
        scale *= CLIP_STEP
    elif clip_frac < low and not is_warmup:
        scale /= CLIP_STEP
    return min(max(scale, CLIP_BOUNDS[0]), CLIP_BOUNDS[1])


def next_lr_scale(
    scale: float, kl_update: float, *, kl_low: float, kl_high: float, is_warmup: bool
) -> float:
    """Factor on the learning rate: × 1.25 if the day moved the policy by less than kl_low, ÷ 1.5
    if by more than kl_high.

    A small move at a run's warm-up is the warm-up's, and raises nothing.
    Units: KLs in nats a sequence, of the day's first attempt: what the rate as it stood came to.
    """
    if kl_update > kl_high:
        scale /= LR_DOWN
    elif kl_update < kl_low and not is_warmup:
        scale *= LR_UP
    return bounded_lr_scale(scale)


def bounded_lr_scale(scale: float) -> float:
    """The factor within its bounds."""
    return min(max(scale, LR_BOUNDS[0]), LR_BOUNDS[1])


def warmed_up(lr: float, n_updates: int, *, n_warmup: int) -> float:
    """The learning rate of a run's next update, after `n_updates` of them."""
    return WARMUP * lr if n_updates < n_warmup else lr
