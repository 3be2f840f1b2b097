"""The alarms: each fires past its limit, and not at it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from varro.report.alarms import alarms


def fired(**changes: Any) -> dict[str, str]:
    """The alarms of a healthy day with some of its numbers changed: `part__key=value`."""
    report = copy.deepcopy(HEALTHY)
    for path, value in changes.items():
        parent: Any = report
        *parts, key = path.split("__")
        for part in parts:
            parent = parent[part]
        parent[key] = value
    return {alarm["name"]: alarm["found"] for alarm in alarms(report)}


def test_a_healthy_day_raises_nothing() -> None:
    """Catches a rule with its sign turned round, which fires every night and is soon unread."""
    assert fired() == {}


@pytest.mark.parametrize(
    ("name", "key", "at_limit", "past", "found"),
    [
        ("echo", "evaluation__served__copy_frac", 0.169, 0.176,
         "copy rate 17.6 %, more than 5 points above the frozen base's 12.0 %"),
        ("repetition", "evaluation__served__repetition_frac", 0.12, 0.13,
         "repetition 13.0 %, more than 10 points above the frozen base's 2.5 %"),
        ("repetition", "settled__repeating_frac", 0.2, 0.21,
         "repeating forecasts 21.0 %, above 20.0 %"),
        ("mode collapse", "settled__openings_frac", 0.5, 0.49, "openings 49.0 %, below 50.0 %"),
        ("mode collapse", "update__entropy", 1.5, 1.4,
         "entropy 1.400, below 50% of the first update's 3.000"),
        ("leash", "update__kl_ref", 12.0, 13.472, "kl to reference 13.472, above 12.000"),
        ("leash", "changes__kl_ref_after__today", 12.0, 12.1,
         "kl to reference, after 12.100, above 12.000"),
        ("length", "evaluation__served__words", 46.0, 46.1,
         "words 46.1, more than 15% off the frozen base's 40.0"),
        ("length", "evaluation__served__words", 34.0, 33.9,
         "words 33.9, more than 15% off the frozen base's 40.0"),
        ("length", "settled__components__truncated", 0.1, 0.11, "truncated 11.0 %, above 10.0 %"),
        ("hedging", "settled__components__hedged", 0.15, 0.16, "hedged 16.0 %, above 15.0 %"),
        ("nothing linked", "settled__unresolved_frac", 0.75, 0.8,
         "unresolved, share 80.0 %, above 75.0 %"),
        ("hub", "settled__hub_frac", 0.25, 0.26, "hub 26.0 %, above 25.0 %"),
        ("format saturation", "settled__components__format", 0.95, 0.96,
         "format 0.960, above 0.950"),
    ],
)  # fmt: skip
def test_each_alarm_fires_past_its_limit_and_says_what_it_found(
    name: str, key: str, at_limit: float, past: float, found: str
) -> None:
    """Catches a limit in other units, measured against the wrong side, or turned round."""
    assert fired(**{key: at_limit}) == {}
    assert fired(**{key: past}) == {name: found}


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(
    ("name", "control"),
    [("placebo positive", "shuffled"), ("base against itself", "base_against_base")],
)
def test_a_control_off_zero_is_an_alarm_on_either_side(name: str, control: str, side: int) -> None:
    """Catches a leak that pays the base instead of the served policy."""
    off = {"claim_low": 0.001, "claim_high": 0.02}
    if side < 0:
        off = {"claim_low": -0.02, "claim_high": -0.001}
    assert list(fired(**{f"learned__{control}": off})) == [name]
    assert fired(**{f"learned__{control}": {"claim_low": None, "claim_high": None}}) == {}


def test_reward_that_rises_with_the_placebo_and_no_lift_is_style() -> None:
    """Catches a week of sounding better that reads like a week of learning."""
    # Steps 0, 0, .01, 0, 0, 0: a day's spread is sqrt(.0001 / 6 / 2) = .0029; the rise .01 is 3.5.
    risen = [0.0, 0.0, 0.0, 0.01, 0.01, 0.01, 0.01]
    placebo = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.03]
    week = _week(risen, placebo)
    assert fired(week=week) == {
        "style, not skill": "over 7 days the reward rose by 0.0100 against the frozen base and the "
        "placebo by 0.0300, with no lift"
    }
    assert fired(week=week, learned__lift={"claim_low": 0.001, "claim_high": 0.02}) == {}
    assert fired(week=week, learned__lift={"claim_low": None, "claim_high": None}) == {}
    assert fired(week=week[1:]) == {}
    assert fired(week=_week(risen, [0.0] * 6 + [0.02])) == {}
    # Steps .007, -.007, .01, 0, 0, 0: the spread is sqrt(.000198 / 6 / 2) = .0041, the rise 2.5.
    assert fired(week=_week([0.0, 0.007, 0.0, 0.01, 0.01, 0.01, 0.01], placebo)) != {}
    # Steps of .01 up and down: the spread is .01 / sqrt(2), the rise .01 is 1.4 of it.
    assert fired(week=_week([0.0, 0.01, 0.0, 0.01, 0.0, 0.0, 0.01], placebo)) == {}
    assert fired(week=_week(risen[::-1], placebo)) == {}


@pytest.mark.parametrize(
    "line",
    ["redo: KL of the update 0.4", "skip: gradient norm 12 is a spike", "refuse: kl_ref is NaN"],
)
def test_what_the_training_guard_did_not_let_pass_is_an_alarm(line: str) -> None:
    """Catches an update that was redone, lost a step or was refused, and reads like any other."""
    assert fired(guard=["accept: day", line]) == {"training guard": line}
    assert fired(guard=[]) == {}


def test_a_policy_past_the_leash_is_an_alarm_though_its_update_was_refused() -> None:
    """Catches "KL now 13 of 12 nats" on a page whose alarms say nothing of it."""
    assert list(fired(update=None, changes={"kl_ref_after": {"today": 13.0}})) == ["leash"]


def test_what_was_not_measured_raises_nothing() -> None:
    """Catches a first day, or a day without update, that ends in an error or an alarm."""
    assert fired(evaluation=None, update=None, entropy_first=None, week=[]) == {}
    assert fired(update=None, changes=None, limits=None) == {}
    unsettled = {
        "components": {},
        "repeating_frac": None,
        "openings_frac": None,
        "hub_frac": None,
        "unresolved_frac": None,
    }
    assert fired(settled=unsettled) == {}
    nothing = dict.fromkeys(("copy_frac", "repetition_frac", "words"))
    assert fired(evaluation={"served": nothing, "base": nothing}) == {}


def _week(rewards: list[float], placebos: list[float]) -> list[dict[str, Any]]:
    return [
        {"day": f"2026-01-{5 + n:02}", "reward": reward, "placebo": placebo}
        for n, (reward, placebo) in enumerate(zip(rewards, placebos, strict=True))
    ]


ZERO = {"claim_low": -0.01, "claim_high": 0.01}
HEALTHY: dict[str, Any] = {
    "learned": {"lift": ZERO, "shuffled": ZERO, "base_against_base": ZERO},
    "week": _week([0.0] * 7, [0.0] * 7),
    "evaluation": {
        "served": {"copy_frac": 0.12, "repetition_frac": 0.03, "words": 40.0},
        "base": {"copy_frac": 0.12, "repetition_frac": 0.025, "words": 40.0},
    },
    "update": {"entropy": 2.9, "kl_ref": 8.0},
    "changes": {"kl_ref_after": {"today": 9.0}},
    "limits": {"kl_limit": 12.0},
    "entropy_first": 3.0,
    "guard": ["accept: day", "accept: update", "reset: v9 is its own reference now"],
    "lineage": [],
    "settled": {
        "components": {"truncated": 0.01, "hedged": 0.0, "format": 0.8},
        "repeating_frac": 0.0,
        "openings_frac": 0.9,
        "hub_frac": 0.1,
        "unresolved_frac": 0.1,
    },
}
