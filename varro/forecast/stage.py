"""The forecast stage: headlines in, groups of sampled forecasts out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from varro.domain import Forecast, Group, Headline, Role, stable_hash, stable_seed
from varro.policy.load import Policy
from varro.policy.prompt import PROMPT_VERSION
from varro.policy.sample import SamplingSettings, sample_groups


def forecast_headlines(
    policy: Policy,
    requests: Sequence[tuple[Headline, Role]],
    *,
    run: str,
    seed: int,
    day: str,
    made_at: datetime,
    n_forecasts: int,
    settings: SamplingSettings,
    on_tokens: Callable[[int, int], None] | None = None,
) -> list[Group]:
    """One group per request, made by the policy as it is now.

    The frozen base draws the numbers of the groups it is compared with: neither role nor version is
    in the seeds. Nor is the run's name, so two runs with one seed differ by what they learned and
    nothing else.

    Raises: ValueError if a headline was first seen after `made_at`: that would be look-ahead.
    """
    for headline, _ in requests:
        if headline.first_seen > made_at:
            raise ValueError(
                f"headline {headline.id[:12]} was first seen {headline.first_seen.isoformat()}, "
                f"after the forecasts' time {made_at.isoformat()}"
            )
    prompts = [policy.prompts.encode(headline.title) for headline, _ in requests]
    seeds = [
        [stable_seed(seed, day, headline.id, k) for k in range(n_forecasts)]
        for headline, _ in requests
    ]
    sampled = sample_groups(policy, prompts, seeds=seeds, settings=settings, on_tokens=on_tokens)
    groups = []
    for (headline, role), prompt_ids, row_seeds, samples in zip(
        requests, prompts, seeds, sampled, strict=True
    ):
        group_id = stable_hash("group", run, day, role, headline.id)
        groups.append(
            Group(
                id=group_id,
                run=run,
                day=day,
                role=role,
                headline=headline,
                policy_version=0 if role is Role.BASE else policy.version,
                made_at=made_at,
                prompt_version=f"{PROMPT_VERSION}/{policy.prompts.template_hash[:12]}",
                prompt_ids=prompt_ids,
                forecasts=tuple(
                    Forecast(
                        id=stable_hash("forecast", group_id, k),
                        group_id=group_id,
                        k=k,
                        token_ids=sample.token_ids,
                        sampler_logprobs=sample.logprobs,
                        text=policy.decode(sample.token_ids),
                        finish_reason=sample.finish_reason,
                        seed=row_seeds[k],
                        sampler_entropies=sample.entropies,
                    )
                    for k, sample in enumerate(samples)
                ),
            )
        )
    return groups
