"""Forecast: eight answers to each of the day's headlines, by the newest policy."""

from __future__ import annotations

from varro.day.headlines import selected_headlines
from varro.day.sampling import sampled_groups, sampling_detail
from varro.day.timing import timed_stage
from varro.domain import Role, Stage
from varro.run import OpenRun, live_policy
from varro.service.slots import DueDay


def forecast_day(work: OpenRun, due: DueDay) -> None:
    """Sample the day's groups, those to train on and those held out."""
    policy = live_policy(work)
    config = work.config
    train, heldout = selected_headlines(work, due)
    n_rows = (len(train) + len(heldout)) * config.sampling.n_forecasts
    total = n_rows * config.sampling.max_tokens
    with timed_stage(work, due, Stage.FORECAST, total=total, unit="tokens") as timing:
        requests = [(h, Role.TRAIN) for h in train] + [(h, Role.HELDOUT) for h in heldout]
        groups = sampled_groups(work, due, requests, n_forecasts=config.sampling.n_forecasts)
        detail = sampling_detail(groups, timing.seconds()) | {
            "policy_version": policy.version,
            "n_train": len(train),
            "n_heldout": len(heldout),
        }
        work.ledger.finish_stage(timing.row(detail), groups=groups)
        timing.summary = (
            f"{detail['n_forecasts']} forecasts by v{policy.version}, "
            f"{detail['tokens_per_s']:.0f} tokens/s"
        )
