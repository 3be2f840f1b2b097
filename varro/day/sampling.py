"""A day's forecasts from the policy as it is, the trained or the frozen one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from varro.config import Config
from varro.domain import Group, Headline, Role
from varro.run import OpenRun, live_policy
from varro.service.slots import DueDay

if TYPE_CHECKING:
    from varro.policy.sample import SamplingSettings


def sampled_groups(
    work: OpenRun, due: DueDay, requests: Sequence[tuple[Headline, Role]], *, n_forecasts: int
) -> list[Group]:
    """A group for each request, by the policy as it is now."""
    from varro.forecast.stage import forecast_headlines

    if not requests:
        return []
    config = work.config
    return forecast_headlines(
        live_policy(work),
        requests,
        run=work.name,
        seed=config.run.seed,
        day=due.day,
        made_at=due.as_of,
        n_forecasts=n_forecasts,
        settings=sampling_settings(config),
        on_tokens=work.progress.advanced,
    )


def sampling_settings(config: Config) -> SamplingSettings:
    """How every forecast of a day is drawn."""
    from varro.policy.sample import SamplingSettings

    return SamplingSettings(
        temperature=config.sampling.temperature,
        max_tokens=config.sampling.max_tokens,
        stop_at_paragraph=config.sampling.stop_at_paragraph,
        max_rows=config.sampling.max_rows,
    )


def sampling_detail(groups: Sequence[Group], seconds: float) -> dict[str, Any]:
    """What a stage's row says of its sampling: counts, tokens/s, how the answers ended."""
    forecasts = [f for g in groups for f in g.forecasts]
    reasons: dict[str, int] = {}
    for forecast in forecasts:
        reasons[forecast.finish_reason] = reasons.get(forecast.finish_reason, 0) + 1
    n_tokens = sum(len(f.token_ids) for f in forecasts)
    return {
        "n_groups": len(groups),
        "n_forecasts": len(forecasts),
        "n_tokens": n_tokens,
        "tokens_per_s": n_tokens / seconds if seconds > 0 else None,
        "finish_reasons": reasons,
    }
