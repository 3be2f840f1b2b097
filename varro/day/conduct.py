"""The last question before a trained policy is published: does it write as its parent does?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from varro.day.sampling import sampling_settings
from varro.domain import Role
from varro.reward.conduct import conduct_of
from varro.reward.settle import made_on
from varro.run import OpenRun
from varro.service.slots import DueDay
from varro.training.guard import Verdict, judge_conduct


def judge_trained(work: OpenRun, due: DueDay) -> Verdict:
    """What the guard says of the policy as it now is, on the held-out headlines that the day has
    settled: they never train, and its parent has forecast them, with the seeds used here again."""
    from varro.policy.sample import sample_groups

    policy, config = work.policy, work.config
    settled = work.ledger.settled_groups(work.name, day=due.day, role=Role.HELDOUT)
    groups = [s.group for s in settled if s.group.policy_version == policy.version]
    if not groups:
        return Verdict("accept", "conduct: no held-out forecast of the parent to compare with")
    sampled = sample_groups(
        policy,
        [group.prompt_ids for group in groups],
        seeds=[[f.seed for f in group.forecasts] for group in groups],
        settings=sampling_settings(config),
    )
    old = [forecast for group in groups for forecast in group.forecasts]
    new = [
        replace(
            forecast,
            token_ids=sample.token_ids,
            sampler_logprobs=sample.logprobs,
            text=policy.decode(sample.token_ids),
            finish_reason=sample.finish_reason,
            sampler_entropies=sample.entropies,
        )
        for forecast, sample in zip(old, (s for samples in sampled for s in samples), strict=True)
    ]
    seen = partial(
        conduct_of,
        titles=[group.headline.title for group in groups for _ in group.forecasts],
        made_on=made_on(groups[0].made_at),
        window_days=config.reward.window_h / 24,
    )
    return judge_conduct(seen(new), seen(old), limits=config.guard)
