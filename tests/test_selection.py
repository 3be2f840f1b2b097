"""Which of the day's forecasts train, and why the others do not."""

import numpy as np

from varro.training.selection import select_forecasts

NONE = np.zeros((2, 4), dtype=bool)


def select(*, n_tokens=5, overlong=NONE, weights=1.0, low=(False, False), mask_overlong=True):
    return select_forecasts(
        np.broadcast_to(np.array(n_tokens), (2, 4)),
        overlong,
        np.broadcast_to(np.array(weights, dtype=float), (2, 4)),
        np.array(low),
        mask_overlong=mask_overlong,
    )


def test_all_train_where_nothing_is_wrong():
    """Catches a condition turned round."""
    found = select()
    assert found.trains.all()
    assert found.counts["n_trained"] == 8
    assert sum(found.counts.values()) == 8


def test_a_forecast_without_a_token_does_not_train():
    """Catches a mean over no tokens."""
    found = select(n_tokens=[[5, 0, 5, 5], [5, 5, 5, 5]], weights=[[1, np.nan, 1, 1], [1] * 4])
    assert found.trains.tolist() == [[True, False, True, True], [True] * 4]
    assert (found.counts["n_empty"], found.counts["n_off_sampler"]) == (1, 0)


def test_a_forecast_that_was_cut_does_not_train():
    """Catches a push away from answers because they were long, whatever they said."""
    cut = NONE.copy()
    cut[0, 3] = True
    assert not select(overlong=cut).trains[0, 3]
    assert select(overlong=cut).counts["n_overlong"] == 1
    kept = select(overlong=cut, mask_overlong=False)
    assert kept.trains.all()
    assert kept.counts["n_overlong"] == 1


def test_what_the_sampler_would_not_have_made_does_not_train():
    """Catches one forecast of a broken sampler that speaks for two, or one whose weight is NaN."""
    found = select(weights=[[0.5, 2.0, 0.49, 2.01], [1.0, np.inf, np.nan, 1.0]])
    assert found.trains.tolist() == [[True, True, False, False], [True, False, False, True]]
    assert found.counts["n_off_sampler"] == 4


def test_a_group_with_one_forecast_left_does_not_train():
    """Catches an advantage over nobody."""
    found = select(n_tokens=[[5, 0, 0, 0], [5, 5, 0, 0]])
    assert found.trains.tolist() == [[False] * 4, [True, True, False, False]]
    assert found.counts["n_too_few"] == 1


def test_a_group_that_hardly_differs_does_not_train_and_is_counted_once():
    """Catches noise made as loud as signal, and a group left out for two reasons."""
    found = select(low=(True, False), n_tokens=[[5, 0, 0, 0], [5] * 4])
    assert not found.trains[0].any()
    assert found.trains[1].all()
    assert (found.counts["n_low_variance"], found.counts["n_too_few"]) == (1, 0)
