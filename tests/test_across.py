"""Runs beside each other: what is paired, what is averaged, and in what they differ."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import chain

import pytest

from varro.domain import Group, Headline, Role, Settlement, Stage, StageRun
from varro.evaluation.across import best_over_days, compare_served, differing, essay_means
from varro.evaluation.evaluate import CLAIMED

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def scores(day, headline, role, *values, settled="2026-02-01"):
    title = Headline(headline, "w", "f", "s", headline, headline, "", None, NOON)
    group = Group(f"{role}-{day}-{headline}", "r", day, role, title, 0, NOON, "p", (1,), ())
    return [
        (Settlement(f"{k}", group.id, settled, "v", v, {CLAIMED: v, "semantic": v}), group)
        for k, v in enumerate(values)
    ]


def compared(first, other):
    return compare_served([*chain(*first)], [*chain(*other)], seed=0, n_bootstrap=200)


def test_runs_are_paired_by_day_and_headline():
    """Catches a headline of another day, one that a run did not forecast, and the frozen base."""
    found = compared(
        [
            scores("2026-01-05", "a", Role.TRAIN, 0.1, 0.3),
            scores("2026-01-05", "b", Role.HELDOUT, 0.5),
            scores("2026-01-05", "a", Role.BASE, 9.0),
            scores("2026-01-06", "a", Role.TRAIN, 0.0),
            scores("2026-01-07", "c", Role.TRAIN, 9.0),
        ],
        [
            # Settled later than the first run's: it is the day they were made in that pairs.
            scores("2026-01-05", "a", Role.HELDOUT, 0.4, settled="2026-03-01"),
            scores("2026-01-05", "c", Role.TRAIN, 9.0),
            scores("2026-01-06", "a", Role.TRAIN, 0.1),
            scores("2026-01-07", "a", Role.TRAIN, 9.0),
        ],
    )
    # 5th: 0.4 − 0.2; 6th: 0.1 − 0.0; 7th: no headline of both.
    assert found[CLAIMED]["mean"] == pytest.approx(0.15)
    assert (found[CLAIMED]["n_headlines"], found[CLAIMED]["n_days"]) == (2, 2)
    assert found[CLAIMED]["word"] == "not enough days"
    assert found["reward"]["mean"] == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("gain", "word"),
    [(0.1, "better"), (-0.1, "worse"), (0.0, "not yet distinguishable")],
)
def test_seven_days_are_put_in_a_word(gain, word):
    """Catches a difference with its sign the wrong way round."""
    first = [scores(f"2026-01-{d:02d}", "a", Role.TRAIN, 0.2) for d in range(1, 9)]
    other = [
        scores(f"2026-01-{d:02d}", "a", Role.TRAIN, 0.2 + gain + 0.001 * (-1) ** d)
        for d in range(1, 9)
    ]
    assert compared(first, other)[CLAIMED]["word"] == word


def test_runs_without_a_common_day_have_no_difference():
    """Catches 0 told of runs that never met."""
    first, other = (scores(day, "a", Role.TRAIN, 0.1) for day in ("2026-01-05", "2026-01-06"))
    for found in (compared([first], [other]), compared([first], [[]]), compared([], [])):
        assert (found[CLAIMED]["mean"], found[CLAIMED]["n_days"]) == (None, 0)
        assert found[CLAIMED]["word"] == "not enough days"


def test_the_best_of_k_is_put_together_over_days():
    """Catches days of one curve taken for headlines of it."""
    rows = [
        scores("2026-01-05", "a", Role.TRAIN, 0.1, 0.3),
        scores("2026-01-05", "a", Role.BASE, 0.1, 0.1),
        scores("2026-01-06", "a", Role.TRAIN, 0.3, 0.7),
        scores("2026-01-06", "a", Role.BASE, 0.1, 0.1),
    ]
    one, two = best_over_days([*chain(*rows)], seed=0, n_bootstrap=200)["pooled"]
    assert (one["n_days"], one["difference"]) == (2, pytest.approx(0.25))
    assert (two["n_days"], two["difference"]) == (2, pytest.approx(0.4))
    assert best_over_days([], seed=0, n_bootstrap=200) == {"pooled": [], "word": "open"}


def settle(day, **essay):
    whole = dict.fromkeys(("quality_original", "quality", "zeros_frac", "leak_frac", "words"), 0.5)
    detail = {"essay": whole | essay if essay else None}
    return StageRun("r", day, Stage.SETTLE, NOON, 1.0, detail)


def test_the_essays_figures_are_means_over_the_days_that_have_them():
    """Catches a first day, or one of empty forecasts, read as zero."""
    days = [settle("1"), settle("2", zeros_frac=0.2, words=None), settle("3", zeros_frac=0.4)]
    found = essay_means(days)
    assert found["zeros_frac"] == pytest.approx(0.3)
    assert found["words"] == found["quality"] == 0.5
    assert set(essay_means(days[:1]).values()) == set(essay_means([]).values()) == {None}


def test_only_settings_that_differ_are_named():
    """Catches a key that one run does not know, left out for it."""
    found = differing([{"a": 1, "b": 2, "c": [1]}, {"a": 1, "b": 3, "c": [1]}, {"a": 1, "c": [2]}])
    assert found == [
        {"key": "b", "values": [2, 3, None]}, {"key": "c", "values": [[1], [1], [2]]},
    ]  # fmt: skip
    assert differing([{"a": 1}]) == []
