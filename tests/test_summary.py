"""A settled day in numbers."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from varro.domain import Forecast, Group, Headline, Role, Settlement
from varro.reward.summary import (
    calibrated,
    component_array,
    settled_groups,
    spread_by_bucket,
    summarize_day,
)

NOW = datetime(2026, 1, 5, tzinfo=UTC)
BEATS = ("object", "direction", "magnitude", "timeframe", "drivers", "verification")
TEXTS = ("Oil will rise by 1% tomorrow.", "Oil will fall by 2% tomorrow.")


def make_group(name, texts=TEXTS, *, role=Role.TRAIN):
    headline = Headline(name, "w", "f", "s", name, f"News of {name}", "", None, NOW)
    forecasts = tuple(
        Forecast(f"{name}-{k}", name, k, (), np.zeros(0, np.float32), text, "stop", k)
        for k, text in enumerate(texts)
    )
    return Group(name, "r", "2026-01-05", role, headline, 0, NOW, "p", (), forecasts)


def settle(group, rewards, *, outcome="o", invalid=None, beats=None, **components):
    """A settlement for each forecast; a component is one value for each of them."""
    return [
        Settlement(
            forecast_id=forecast.id,
            group_id=group.id,
            day="2026-01-06",
            reward_version="v",
            reward=rewards[k],
            components={
                **dict.fromkeys(BEATS, 0.5),
                **(beats or {}),
                "valid": 1.0,
                **{name: values[k] for name, values in components.items()},
            },
            outcome_id=outcome,
            invalid_reason=(invalid or [None] * len(rewards))[k],
        )
        for k, forecast in enumerate(group.forecasts)
    ]


def void(group, reason):
    return [
        Settlement(f.id, group.id, "2026-01-06", "v", None, void_reason=reason)
        for f in group.forecasts
    ]


def resolved(group, rewards, semantic, placebo, **rest):
    return settle(
        group,
        rewards,
        format=[0.4, 0.6],
        similarity=semantic,
        semantic=semantic,
        placebo=placebo,
        **rest,
    )


def test_only_whole_groups_of_the_role_are_settled_groups():
    """Catches a held-out group that trains, and a group trained on without all its forecasts."""
    train, heldout = make_group("a"), make_group("b", role=Role.HELDOUT)
    half, unpaid = make_group("c"), make_group("d")
    settlements = [
        *settle(heldout, [0.1, 0.2]),
        *settle(train, [0.3, 0.4]),
        settle(half, [0.5, 0.6])[0],
        *void(unpaid, "no evidence"),
    ]
    groups = [train, heldout, half, unpaid]
    found = settled_groups(groups, settlements, Role.TRAIN)
    assert [item.group.id for item in found] == ["a"]
    assert [s.reward for s in found[0].settlements] == [0.3, 0.4]
    assert [i.group.id for i in settled_groups(groups, settlements, Role.HELDOUT)] == ["b"]


def test_an_absent_component_is_nan_and_not_zero():
    """Catches "could not be scored" read as 0."""
    a, b = make_group("a"), make_group("b")
    settlements = [*settle(a, [1, 1], semantic=[0.2, 0.4]), *settle(b, [1, 1])]
    found = component_array(settled_groups([a, b], settlements, Role.TRAIN), "semantic")
    np.testing.assert_array_equal(found, [[0.2, 0.4], [np.nan, np.nan]])


def test_a_day_in_numbers():
    """Catches means over what is not there, held-out forecasts among the training figures, and
    wrong counts."""
    a, b, heldout = make_group("a"), make_group("b"), make_group("h", role=Role.HELDOUT)
    gone = make_group("g")
    settlements = [
        *resolved(a, [0.2, 0.4], [0.1, 0.3], [0.3, 0.5], invalid=[None, "leak"]),
        *settle(b, [0.1, 0.1], outcome=None, format=[0.4, 0.4]),
        *resolved(heldout, [0.9, 0.9], [1.0, 1.0], [0.0, 0.0]),
        *void(gone, "refused: 3 outcomes, 10 are needed"),
    ]
    found = summarize_day([a, b, heldout, gone], settlements)
    assert found["n_settled"] == 6
    assert found["n_void"] == 2
    assert found["void_reasons"] == {"refused: 3 outcomes, 10 are needed": 2}
    assert found["n_groups"] == 2
    assert found["n_unresolved_groups"] == 1
    assert found["n_forecasts"] == 4
    assert found["invalid_reasons"] == {"leak": 1}
    assert found["reward"] == pytest.approx(0.3)
    # Format of four forecasts, semantic of the two that have one.
    assert found["components"]["format"] == pytest.approx((0.4 + 0.6 + 0.4 + 0.4) / 4)
    assert found["components"]["semantic"] == pytest.approx(0.2)
    # In the one group with a placebo both rise together.
    assert found["null_correlation"] == {"semantic": pytest.approx(1.0), "raw": None}
    # The unresolved group is no part of the spread: format ∓0.1, semantic ∓0.1.
    assert found["moments"] == {
        "var_format": pytest.approx(0.01),
        "var_semantic": pytest.approx(0.01),
        "covariance": pytest.approx(0.01),
        "n_groups": 1,
    }


def test_a_day_that_settles_nothing_has_no_figures():
    """Catches 0.0 shown for what is not known, and a division by no forecasts."""
    group = make_group("a")
    for settlements in ([], void(group, "no evidence")):
        found = summarize_day([group], settlements)
        assert found["n_settled"] == found["n_forecasts"] == found["n_groups"] == 0
        assert found["components"] == {}
        assert found["null_correlation"] == {"semantic": None, "raw": None}
        for name in ("reward", "essay", "hub_frac", "openings_frac", "moments"):
            assert found[name] is None, name
        assert found["probabilities"] == []


def test_the_null_correlation_is_within_groups():
    """Catches the correlation of headlines: an easy one has both a high reward and a high null."""
    a, b = make_group("a"), make_group("b")
    settlements = [
        *resolved(a, [0, 0], [0.1, 0.2], [0.2, 0.1], raw=[0.5, 0.6], raw_placebo=[0.3, 0.4]),
        *resolved(b, [0, 0], [0.8, 0.9], [0.9, 0.8], raw=[0.1, 0.2], raw_placebo=[0.7, 0.8]),
    ]
    found = summarize_day([a, b], settlements)["null_correlation"]
    assert found["semantic"] == pytest.approx(-1.0)
    assert found["raw"] == pytest.approx(1.0)


def test_an_outcome_that_most_forecasts_match_is_a_hub():
    """Catches one outcome that pays everybody, and unresolved forecasts counted as matches."""
    groups = [make_group(name) for name in "abcd"]
    outcomes = ["x", "x", "y", None]
    settlements = [
        s
        for group, outcome in zip(groups, outcomes, strict=True)
        for s in settle(group, [0.1, 0.1], outcome=outcome)
    ]
    # 4 of the 6 forecasts that matched anything.
    assert summarize_day(groups, settlements)["hub_frac"] == pytest.approx(4 / 6)


def test_openings_tell_how_alike_a_group_is():
    """Catches collapse: eight forecasts that begin with the same five words are one."""
    opened = "oil WILL rise by one percent", "Oil will rise by one third", "Gold will not"
    a, b = make_group("a", opened), make_group("b", (*TEXTS, "Gold will not"))
    settlements = [*settle(a, [0.1] * 3), *settle(b, [0.1] * 3)]
    # Two openings of three; "Oil will rise by" and "Oil will fall by" are two.
    found = summarize_day([a, b], settlements)["openings_frac"]
    assert found == pytest.approx((2 / 3 + 1) / 2)


def test_quality_is_the_mean_of_the_five_beats():
    """Catches six beats, direction and magnitude counting double, under the essay's name."""
    group = make_group("a")
    beats = dict(zip(BEATS, (1.0, 0.8, 0.4, 0.2, 0.0, 0.5), strict=True))
    found = summarize_day([group], settle(group, [0.1, 0.1], beats=beats))["essay"]
    # (1 + (0.8 + 0.4)/2 + 0.2 + 0 + 0.5) / 5
    assert found["quality"] == pytest.approx(0.46)
    assert "quality_original" in found


def test_a_stated_probability_is_kept_with_what_happened():
    """Catches a forecast whose direction nobody can tell counted as one that failed."""
    a, b, c = make_group("a"), make_group("b"), make_group("c")
    settlements = [
        *settle(a, [0.1, 0.1], probability=[0.7, 0.6], vote=[1.0, -0.5]),
        *settle(b, [0.1, 0.1], probability=[0.9, 0.9], vote=[0.0, 0.0]),
        *settle(c, [0.1, 0.1], vote=[1.0, 1.0]),
    ]
    found = summarize_day([a, b, c], settlements)["probabilities"]
    assert found == [[0.7, True], [0.6, False]]


def test_calibration_waits_for_thirty_forecasts():
    """Catches a Brier score of three forecasts, and True and 0.7 in each other's place."""
    assert calibrated([(0.8, True)] * 29) is None
    found = calibrated([(0.8, True)] * 30)
    assert found["n"] == 30
    assert found["brier"] == pytest.approx(0.04)


def test_the_curriculum_learns_from_groups_that_have_a_contrast():
    """Catches an unresolved group read as one without spread: its bucket would starve."""
    a, b = make_group("a"), make_group("b")
    settlements = [*settle(a, [0.1, 0.1], contrast=[0.2, 0.3]), *settle(b, [0.1, 0.1])]
    train = settled_groups([a, b], settlements, Role.TRAIN)
    found = spread_by_bucket(train, lambda group: f"bucket of {group.id}")
    assert found == [("bucket of a", [0.2, 0.3])]
