"""Served policy against frozen base: what is paired, what is left out, what may be claimed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from varro.domain import EvaluationInfo, Forecast, Group, Headline, Role, Settlement
from varro.evaluation.claim import claim, pooled
from varro.evaluation.evaluate import CLAIMED, OF_SKILL, compare_with_base
from varro.evaluation.stats import sequence_half_width

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
N_BOOTSTRAP = 200


def settled(headline, role, *components, reward=0.5):
    """A settlement for each forecast on a headline, in the order of k, with the group of them."""
    group_id = f"{role}-{headline}"
    title = Headline(headline, "w", "f", "s", headline, headline, "", None, NOON)
    forecasts = tuple(
        Forecast(f"{group_id}-{k}", group_id, k, (1,), np.zeros(1, np.float32), "", "stop", k)
        for k in range(len(components))
    )
    group = Group(group_id, "r", "2026-01-05", role, title, 0, NOON, "p", (1,), forecasts)
    return [
        (Settlement(f.id, group_id, "2026-01-06", "v", reward, parts), group)
        for f, parts in zip(forecasts, components, strict=True)
    ]


def contrasts(headline, role, *values, reward=0.5):
    return settled(headline, role, *({CLAIMED: v} for v in values), reward=reward)


def compared(*rows, **rivals):
    return compare_with_base(
        [pair for row in rows for pair in row],
        run="r",
        day="2026-01-06",
        seed=0,
        n_bootstrap=N_BOOTSTRAP,
        rivals=rivals or None,
    )


def test_the_lift_pairs_served_and_base_by_headline():
    """Catches pairing by position, means over forecasts instead of headlines, and headlines that
    only one side forecast."""
    found = compared(
        contrasts("a", Role.TRAIN, 0.2, 0.4),
        contrasts("b", Role.HELDOUT, 0.1, 0.1, 0.1, 0.1),
        contrasts("only served", Role.TRAIN, 9.0),
        contrasts("only base", Role.BASE, 9.0),
        contrasts("b", Role.BASE, 0.4),
        contrasts("a", Role.BASE, 0.1, 0.1, 0.1, 0.1),
    )
    # a: 0.3 − 0.1 = 0.2; b: 0.1 − 0.4 = −0.3.
    assert found.detail["differences"][CLAIMED] == pytest.approx([0.2, -0.3])
    assert found.lift == pytest.approx(-0.05)
    assert found.lift_low < found.lift < found.lift_high
    assert found.n_headlines == found.detail["n_shared"] == 2
    assert found.detail["served"][CLAIMED] == pytest.approx(0.2)
    assert found.detail["base"][CLAIMED] == pytest.approx(0.25)


def test_a_headline_without_contrast_is_no_headline_with_contrast_zero():
    """Catches first days, which have no placebo, and unresolved headlines counted in the lift; or
    a reward of their format alone compared as if it were whole."""
    found = compared(
        settled("a", Role.TRAIN, {CLAIMED: 0.3, "semantic": 0.5}, reward=0.7),
        settled("a", Role.BASE, {CLAIMED: 0.1, "semantic": 0.5}, reward=0.6),
        settled("b", Role.TRAIN, {"format": 0.4}, reward=0.1),
        settled("b", Role.BASE, {"format": 0.3}, reward=0.075),
    )
    assert found.lift == pytest.approx(0.2)
    assert (found.n_headlines, found.detail["n_shared"]) == (1, 2)
    assert found.detail["differences"]["reward"] == pytest.approx([0.1])
    assert found.detail["differences"]["format"] == pytest.approx([0.1])
    # One headline has no interval.
    assert (found.lift_low, found.lift_high) == (None, None)


@pytest.mark.parametrize("part", OF_SKILL)
def test_what_an_invalid_forecast_met_is_not_compared(part):
    """Catches a policy whose lift is that it is cut off less often, or whose babble counts."""
    found = compared(
        settled("a", Role.TRAIN, {part: 0.3, "valid": 1.0}, {part: 9.0, "valid": 0.0}),
        settled("a", Role.BASE, {part: 0.1, "valid": 1.0}, {part: -9.0, "valid": 0.0}),
        settled("b", Role.TRAIN, {part: 9.0, "valid": 0.0}),
        settled("b", Role.BASE, {part: 0.1, "valid": 1.0}),
    )
    assert found.detail["differences"][part] == pytest.approx([0.2])
    assert found.detail["differences"]["valid"] == pytest.approx([0.0, -1.0])


def test_a_day_without_any_contrast_has_a_comparison_and_no_lift():
    """Catches a crash, or a lift of 0, on a run's first days."""
    found = compared(
        settled("a", Role.TRAIN, {"format": 0.4}), settled("a", Role.BASE, {"format": 0.1})
    )
    assert (found.lift, found.lift_low, found.lift_high, found.n_headlines) == (None,) * 3 + (0,)
    assert found.detail["differences"]["format"] == pytest.approx([0.3])


def test_the_best_of_k_is_of_the_claimed_contrast():
    """Catches a best of rewards, in which style counts, and one of forecasts that are no skill."""
    found = compared(
        contrasts("a", Role.TRAIN, 0.1, 0.3),
        contrasts("a", Role.BASE, 0.1, 0.2),
        settled("b", Role.TRAIN, {CLAIMED: 9.0, "valid": 0.0}, {CLAIMED: 0.3, "valid": 1.0}),
        contrasts("b", Role.BASE, 0.1, 0.2),
    )
    rows = found.detail["best_of"]
    assert [(row["k"], row["n"]) for row in rows] == [(1, 1), (2, 1)]
    assert [row["difference"] for row in rows] == pytest.approx([0.05, 0.1])


def test_void_forecasts_are_left_out():
    """Catches what could not be scored read as a contrast of nothing."""
    void = contrasts("a", Role.BASE, 0.0, reward=None)
    assert compared(contrasts("a", Role.TRAIN, 0.3), void) is None
    served = contrasts("a", Role.TRAIN, 0.3), contrasts("b", Role.TRAIN, 0.3)
    found = compared(*served, void, contrasts("b", Role.BASE, 0.1))
    assert found.detail["n_shared"] == 1
    assert compared() is None


def test_the_base_is_split_by_k_and_not_by_order():
    """Catches a control of 0 that is one because each half is compared with itself."""
    base = contrasts("a", Role.BASE, 0.1, 0.2, 0.3, 0.6)
    # Even k: (0.1 + 0.3) / 2, odd k: (0.2 + 0.6) / 2.
    found = compared(contrasts("a", Role.TRAIN, 0.3), base[::-1])
    assert found.detail["differences"]["base_against_base"] == pytest.approx([-0.2])


def test_held_out_headlines_are_compared_apart_and_with_the_rest():
    """Catches a gate that reads headlines which train tomorrow."""
    found = compared(
        contrasts("a", Role.TRAIN, 0.3),
        contrasts("b", Role.HELDOUT, 0.2),
        contrasts("a", Role.BASE, 0.0),
        contrasts("b", Role.BASE, 0.1),
    )
    assert found.detail["differences"]["heldout"] == pytest.approx([0.1])
    assert found.detail["differences"][CLAIMED] == pytest.approx([0.3, 0.1])


def test_rivals_are_beaten_on_their_own_headlines():
    """Catches a rival compared with the base, or on headlines that it has no contrast for."""
    found = compared(
        contrasts("a", Role.TRAIN, 0.3),
        contrasts("b", Role.TRAIN, 0.2),
        contrasts("a", Role.BASE, 0.1),
        contrasts("b", Role.BASE, 0.1),
        echo={"b": 0.25, "elsewhere": 0.9},
        template={},
    )
    assert found.detail["differences"]["echo"] == pytest.approx([-0.05])
    assert found.detail["differences"]["template"] == []
    assert found.detail["rivals"] == {"echo": pytest.approx(0.25), "template": None}


def test_accuracy_counts_forecasts_whose_direction_can_be_told():
    """Catches a direction that is not known counted as wrong, and a void one as right."""
    found = compared(
        settled("a", Role.TRAIN, {"vote": 1.0}, {"vote": -1.0}, {"vote": 0.0}),
        settled("b", Role.HELDOUT, {"vote": 0.5}, {}),
        settled("a", Role.BASE, {"vote": 0.0}),
        settled("b", Role.BASE, {"vote": 1.0}, reward=None),
    )
    assert found.detail["accuracy"] == {
        "served": {"n": 3, "frac": pytest.approx(2 / 3)},
        "base": {"n": 0, "frac": None},
    }


def evaluations(*, first=date(2026, 1, 5), **parts):
    """One evaluation a day; each part gives a list of its days' differences."""
    n_days = max(map(len, parts.values()))
    return [
        EvaluationInfo(
            "r",
            (first + timedelta(days=n)).isoformat(),
            0,
            None,
            None,
            None,
            {"differences": {CLAIMED: []} | {p: days[n] for p, days in parts.items()}},
        )
        for n in range(n_days)
    ]


def constant(value, n_days=8):
    return [[value]] * n_days


def claimed(**parts):
    return claim(evaluations(**parts), seed=0, n_bootstrap=N_BOOTSTRAP)


def test_days_are_pooled_and_not_headlines():
    """Catches a day of ten headlines that outvotes a day of one."""
    found = pooled(
        evaluations(even_contrast=[[0.0] * 10, [], [0.4]]), CLAIMED, seed=0, n_bootstrap=N_BOOTSTRAP
    )
    assert (found["n_days"], found["n_headlines"], found["mean"]) == (2, 11, pytest.approx(0.2))
    assert found["low"] <= 0.2 <= found["high"]
    assert (found["claim_low"], found["claim_high"], found["since"]) == (None, None, None)


def test_a_claim_is_dated_by_the_day_that_first_allowed_it():
    """Catches an index among days with a lift read as an index among all days."""
    # Without placebo on the 5th and 6th, the seventh day with a lift is the 13th.
    days = evaluations(even_contrast=[[], [], *constant(0.1, 9)])
    found = pooled(days, CLAIMED, seed=0, n_bootstrap=N_BOOTSTRAP)
    assert (found["n_days"], found["since"]) == (9, "2026-01-13")


@pytest.mark.parametrize(
    ("days", "word"),
    [
        # Equal days have no spread: their interval is their mean, from the seventh day on.
        (constant(0.1), "learned"),
        (constant(-0.1), "worse"),
        (constant(0.1, 6), "not enough days"),
        (constant(0.1, 6) + [[]] * 5, "not enough days"),
        ([[0.1], [-0.1]] * 8, "not yet distinguishable"),
        (constant(0.0), "not yet distinguishable"),
    ],
)
def test_the_word_is_that_of_the_last_day(days, word):
    """Catches a claim from an interval that may not be read daily, and one of the wrong sign."""
    assert claimed(even_contrast=days)["word"] == word


def test_a_claim_that_no_longer_holds_is_withdrawn():
    """Catches a verdict that is kept for good once it was reached."""
    days = constant(0.1, 8) + constant(-0.1, 8)
    assert claimed(even_contrast=days[:8])["word"] == "learned"
    found = claimed(even_contrast=days)
    assert found["word"] == "not yet distinguishable"
    # That it once could be told is still known.
    assert (found["lift"]["since"], found["lift"]["first"]) == (None, "2026-01-11")


def test_a_claim_dates_from_when_it_was_last_regained():
    """Catches "to be told since" a day after which it was lost for weeks."""
    days = [[0.02], [0.021]] * 5 + [[-0.1]] * 2 + [[0.02], [0.021]] * 40
    found = claimed(even_contrast=days)
    assert found["word"] == "learned"
    assert found["lift"]["first"] == "2026-01-11"
    assert found["lift"]["since"] > "2026-02-01"
    assert claimed(even_contrast=days[:12])["lift"]["since"] is None


def test_a_run_without_evaluations_claims_nothing():
    """Catches a summary that fails on a run's first evening."""
    found = claim([], seed=0, n_bootstrap=N_BOOTSTRAP)
    assert (found["word"], found["blocked_by"]) == ("not enough days", [])
    assert (found["lift"]["mean"], found["days_for_small_lift"]) == (None, None)


@pytest.mark.parametrize("control", ["shuffled", "base_against_base"])
def test_a_control_that_is_not_zero_blocks_the_claim(control):
    """Catches a lift that is claimed though the same measurement finds one where none can be."""
    lift = constant(0.1)
    for broken in (constant(0.05), constant(-0.05)):
        found = claimed(even_contrast=lift, **{control: broken})
        assert (found["word"], found["blocked_by"]) == ("blocked", [control])
        assert found[control]["mean"] == pytest.approx(broken[0][0])
    # Six days are too few to doubt by, and noise about 0 is what a control should be.
    for sound in (constant(0.05, 6) + [[]] * 2, constant(0.0), [[0.1], [-0.1]] * 4):
        found = claimed(even_contrast=lift, **{control: sound})
        assert (found["word"], found["blocked_by"]) == ("learned", [])


def test_a_policy_that_copies_more_has_not_learned():
    """Catches an echo that lifts; and a "worse" that copying would hide, or a block on day one."""
    copying = {"copy_frac": constant(0.06)}
    found = claimed(even_contrast=constant(0.1), **copying)
    assert (found["word"], found["blocked_by"]) == ("blocked", ["copy_frac"])
    assert claimed(even_contrast=constant(-0.1), **copying)["word"] == "worse"
    few = claimed(even_contrast=constant(0.1, 3), copy_frac=constant(0.06, 3))
    assert (few["word"], few["blocked_by"]) == ("not enough days", [])
    assert claimed(even_contrast=constant(0.1), copy_frac=constant(0.04))["word"] == "learned"


def test_a_part_that_need_not_be_zero_blocks_nothing():
    """Catches a run stopped because it beats the echo, or writes longer sentences."""
    more = {name: constant(0.2) for name in ("echo", "template", "words", "heldout", "reward")}
    found = claimed(even_contrast=constant(0.1), **more)
    assert found["word"] == "learned"
    assert all(found[name]["claim_low"] > 0 for name in more)


def test_the_power_is_told_in_days_that_are_still_to_come():
    """Catches a number of days that counts those already seen, or the spread of headlines."""
    # Seven days are the least; six have been seen.
    assert claimed(even_contrast=constant(0.1, 6))["days_for_small_lift"] == 1
    assert claimed(even_contrast=constant(0.1, 9))["days_for_small_lift"] == 0
    # Day means ±0.02 about 0, headlines far wider: sd = 0.02·sqrt(16/15).
    found = claimed(even_contrast=[[1.02, -0.98], [0.98, -1.02]] * 8)
    assert found["sd_of_days"] == pytest.approx(0.02 * np.sqrt(16 / 15))
    needed = found["days_for_small_lift"] + 16
    widths = sequence_half_width([needed - 1, needed], found["sd_of_days"])
    assert widths[1] < found["small_lift"] <= widths[0]
