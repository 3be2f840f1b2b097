"""The training guard: what a broken trainer or scorer looks like in its figures."""

import math
from dataclasses import replace

import numpy as np
import pytest

from varro.config import GuardConfig
from varro.training.gspo import leashed_advantages
from varro.training.guard import (
    Conduct,
    judge_conduct,
    judge_day,
    judge_leash,
    judge_step,
    judge_update,
    next_norm_ema,
)

LIMITS = GuardConfig()


def day(n_trained=64, length_correlation=0.1, entropy_first=None, **figures):
    return judge_day(
        {"kl_sampler": 1e-6, "entropy": 0.4, **figures},
        n_trained=n_trained,
        excluded="n_low_variance 32",
        length_correlation=length_correlation,
        entropy_first=entropy_first,
        limits=LIMITS,
    )


def test_a_sound_day_is_accepted_with_its_figures():
    """Catches a guard that refuses everything, and a verdict nobody can check."""
    assert str(day()) == (
        "accept: day: 64 forecasts to train on, sampler mismatch 1.0e-06 nats a token, "
        "correlation with length +0.10"
    )
    assert day(length_correlation=None).action == "accept"


def test_a_day_with_nothing_to_learn_from_is_refused():
    """Catches a constant reward: everything is dropped, and the day must say so."""
    found = day(n_trained=0, length_correlation=None)
    assert str(found) == "refuse: no group left to learn from: n_low_variance 32"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused_by_name(bad):
    """Catches a NaN that passes every comparison."""
    assert day(kl_ref=bad).reason == "kl_ref is not finite"
    assert day(kl_sampler=bad).reason == "kl_sampler is not finite"


@pytest.mark.parametrize("sign", [1, -1])
def test_advantages_that_follow_the_length_are_refused(sign):
    """Catches a scorer that pays by the word, or for saying nothing."""
    assert day(length_correlation=sign * 0.81).action == "refuse"
    assert "follow the length" in day(length_correlation=sign * 0.81).reason
    assert day(length_correlation=sign * 0.8).action == "accept"
    # 31 forecasts are too few to believe it of.
    assert day(n_trained=31, length_correlation=sign * 1.0).action == "accept"


def test_a_sampler_that_disagrees_is_refused():
    """Catches off-policy data from a sampler at another temperature or with a stale cache."""
    assert day(kl_sampler=0.02).action == "accept"
    assert day(kl_sampler=0.021).reason.startswith("sampler and trainer disagree: 0.021")


def test_a_policy_that_has_collapsed_or_falls_apart_is_not_trained_further():
    """Catches a policy that gives one answer to everything, or noise, and is trained on its own
    output for weeks: an entropy of a quarter of the first update's, or of twice it."""
    for entropy in (0.1, 0.4, 0.8):
        assert day(entropy=entropy, entropy_first=0.4).action == "accept"
        assert day(entropy=entropy / 40).action == "accept"  # there is none to compare it with
    assert day(entropy=0.099, entropy_first=0.4).reason == (
        "entropy 0.099 nats a token, at the first update 0.4: outside 0.1 to 0.8"
    )
    assert day(entropy=0.81, entropy_first=0.4).action == "refuse"
    assert day(entropy=math.nan, entropy_first=0.4).reason == "entropy is not finite"


# -- the leash


def leash_cases():
    rng = np.random.default_rng(0)
    return rng.normal(0, 2, (8, 8)), rng.normal(8, 4, (8, 8))


def leashed(kl_coef):
    advantages, kl = leash_cases()
    return leashed_advantages(advantages, kl, kl_coef=kl_coef, max_advantage=3.0)


@pytest.mark.parametrize("kl_coef", [1e-6, 0.03, 30.0])
def test_a_leash_that_pays_for_distance_is_refused(kl_coef):
    """Catches the sign of the KL in the reward, flipped: the policy would be paid to run. Clipped
    advantages must not look like it."""
    _, kl = leash_cases()
    assert judge_leash(leashed(0.0), leashed(kl_coef), kl).action == "accept"
    flipped = judge_leash(leashed(0.0), leashed(-kl_coef), kl)
    assert flipped.action == "refuse"
    assert "the leash pays for distance" in flipped.reason


def test_no_leash_pays_for_nothing():
    """Catches a run without a leash that is refused every day."""
    _, kl = leash_cases()
    assert judge_leash(leashed(0.0), leashed(0.0), kl).action == "accept"


# -- steps


def step(norm=1.0, *, loss=0.1, leash_loss=0.0, norm_ema=None, n_skipped=0):
    return judge_step(loss, norm, leash_loss, norm_ema=norm_ema, n_skipped=n_skipped, limits=LIMITS)


def test_a_spike_is_left_out_and_a_second_one_ends_the_day():
    """Catches one absurd minibatch that decides where the policy goes."""
    assert step(10.0).action == "accept"
    assert step(10.1).action == "skip"
    assert step(10.1, n_skipped=1).action == "refuse"
    # Five times the running mean of 3, which is above the floor of 10.
    assert step(15.0, norm_ema=3.0).action == "accept"
    assert step(15.1, norm_ema=3.0).action == "skip"
    assert step(9.0, norm_ema=0.01).action == "accept"


def test_a_step_that_is_not_finite_ends_the_day():
    """Catches a NaN that reaches the weights."""
    for bad in (math.nan, math.inf):
        assert step(bad).action == step(loss=bad).action == "refuse"
        assert "finite" in step(bad).reason


def test_a_leash_in_the_loss_is_never_below_zero():
    """Catches the sign of k2, flipped: half a square cannot be negative."""
    assert step(leash_loss=1e-9).action == "accept"
    assert "pays for distance" in step(leash_loss=-1e-9).reason


def test_the_running_norm_by_hand():
    """Catches a mean that one day decides."""
    assert next_norm_ema(None, 2.0) == 2.0
    assert next_norm_ema(2.0, 12.0) == pytest.approx(3.0)  # 0.9 · 2 + 0.1 · 12


# -- updates


def update(kl_update=0.1, kl_ref=(8.0, 8.1), kl_base=(8.0, 8.1), *, may_redo=True):
    return judge_update(
        kl_update=kl_update,
        kl_ref=kl_ref,
        kl_base=kl_base,
        kl_limit=12.0,
        base_kl_limit=24.0,
        may_redo=may_redo,
        limits=LIMITS,
    )


def test_an_update_that_moves_too_far_is_redone_once_and_then_stands():
    """Catches a redo for ever, and a day lost to a step that half its length would have kept."""
    assert update(0.30).action == "accept"
    assert update(0.31).action == "redo"
    assert update(0.31, may_redo=False).action == "accept"
    assert update(1.0, may_redo=False).action == "accept"
    assert not update(0.31).past_limit


def test_an_update_that_moves_much_too_far_is_refused_at_once():
    """Catches a learning rate a thousand times too high that gets a second try."""
    assert update(1.01).action == "refuse"
    assert "1.01" in update(1.01).reason


def test_a_limit_is_passed_only_on_the_way_back():
    """Catches a limit that is logged and not kept, and a policy that may not leave where it is."""
    for name, past, back in (
        ("reference", {"kl_ref": (11.0, 12.1)}, {"kl_ref": (14.0, 13.0)}),
        ("frozen base", {"kl_base": (23.0, 24.1)}, {"kl_base": (26.0, 25.0)}),
    ):
        first, last = update(**past), update(**past, may_redo=False)
        assert (first.action, last.action) == ("redo", "refuse")
        assert first.past_limit and last.past_limit
        assert f"KL to the {name} would be" in last.reason
        assert update(**back).action == "accept"


def test_log_probs_that_are_not_finite_are_refused():
    """Catches NaN > limit, which is False."""
    assert update(math.nan).action == "refuse"
    assert update(kl_ref=(8.0, math.nan)).action == "refuse"
    assert update(kl_base=(8.0, math.inf)).action == "refuse"


PARENT = Conduct(n=72, valid_frac=0.8, format=0.6, words=40.0, surprisal=1.0)


def test_a_policy_that_writes_as_its_parent_does_is_published():
    """Catches a gate that is always shut, and a verdict nobody can check."""
    found = judge_conduct(replace(PARENT, words=44.0, valid_frac=0.7), PARENT, limits=LIMITS)
    assert str(found) == (
        "accept: conduct on 72 held-out forecasts: valid 80% → 70%, format 0.60 → 0.60, "
        "words 40 → 44, surprisal 1.00 → 1.00"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"valid_frac": 0.6}, "fewer valid forecasts"),
        ({"format": 0.4}, "format lost"),
        ({"words": 19.0}, "length drifts"),
        ({"words": 61.0}, "length drifts"),
        ({"surprisal": 0.49}, "surprisal drifts"),
        ({"surprisal": 1.51}, "surprisal drifts"),
        ({"surprisal": math.nan}, "not finite"),
    ],
)
def test_a_policy_that_writes_worse_is_not_published(change, told):
    """Catches a collapse that the distances allow: gibberish, a template, no end."""
    found = judge_conduct(replace(PARENT, **change), PARENT, limits=LIMITS)
    assert found.action == "refuse"
    assert told in found.reason
    # Of fewer than 32 forecasts it is not believed.
    few = judge_conduct(replace(PARENT, n=31, **change), PARENT, limits=LIMITS)
    assert few.action == "accept"
