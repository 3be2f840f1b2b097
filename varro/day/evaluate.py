"""Evaluate: the frozen base's forecasts of the same headlines, and what was settled, compared."""

from __future__ import annotations

from varro.day.headlines import headlines_of
from varro.day.sampling import sampled_groups, sampling_detail
from varro.day.timing import timed_stage
from varro.domain import Role, Stage
from varro.evaluation.evaluate import compare_with_base
from varro.report.machine import describe_machine
from varro.run import OpenRun, live_policy
from varro.service.slots import DueDay


def evaluate_day(work: OpenRun, due: DueDay) -> None:
    """Let the frozen base forecast the same, and compare both on what was settled today."""
    policy = live_policy(work)
    config = work.config
    headlines = headlines_of(
        work.ledger.groups(work.name, day=due.day, roles=[Role.TRAIN, Role.HELDOUT])
    )
    n_forecasts = config.evaluate.n_base_forecasts
    total = len(headlines) * n_forecasts * config.sampling.max_tokens
    with timed_stage(work, due, Stage.EVALUATE, total=total, unit="tokens") as timing:
        with policy.adapter_off():
            requests = [(h, Role.BASE) for h in headlines]
            groups = sampled_groups(work, due, requests, n_forecasts=n_forecasts)
        settle = work.ledger.stage_run(work.name, due.day, Stage.SETTLE)
        evaluation = compare_with_base(
            work.ledger.settlements(work.name, day=due.day),
            run=work.name,
            day=due.day,
            seed=config.run.seed,
            n_bootstrap=config.evaluate.n_bootstrap,
            rivals=settle.detail["rivals"] if settle else None,
        )
        detail = sampling_detail(groups, timing.seconds())
        detail["machine"] = describe_machine(policy, work.home)
        work.ledger.finish_stage(timing.row(detail), groups=groups, evaluation=evaluation)
        if evaluation is None:
            told = f"{len(groups)} headlines forecast by the frozen base"
        elif evaluation.lift is None:
            told = f"{len(groups)} headlines forecast by the frozen base, none compared"
        else:
            told = f"lift {evaluation.lift:+.4f} on {evaluation.n_headlines} headlines"
        timing.summary = f"{told}, {detail['tokens_per_s']:.0f} tokens/s"
