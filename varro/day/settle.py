"""Settle: what earlier days' forecasts earned, now that their outcomes are out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from varro.config import Config
from varro.day.headlines import headlines_of
from varro.day.timing import timed_stage
from varro.day.topics import buckets_of
from varro.domain import (
    Group,
    Headline,
    Role,
    SettledGroup,
    Settlement,
    Stage,
    settled_groups,
    stable_seed,
)
from varro.ledger.store import Ledger
from varro.reward.canaries import CANARIES_VERSION, score_canaries
from varro.reward.guard import GUARD_VERSION, GuardLimits, refuse_day
from varro.reward.injection import INJECTION_VERSION
from varro.reward.score import reward_version, rival_contrasts
from varro.reward.settle import (
    DAY_BEFORE,
    Outcomes,
    gather_outcomes,
    news_of,
    outcome_window,
    past_windows,
    placebo_seed,
    settle_groups,
    void_groups,
)
from varro.reward.summary import spread_by_bucket, summarize_day
from varro.run import OpenRun, embedder_of
from varro.service.slots import DueDay
from varro.training.curriculum import day_spread

SETTLED_ROLES = (Role.TRAIN, Role.HELDOUT, Role.BASE)


def settle_day(work: OpenRun, due: DueDay) -> None:
    """Settle all that is due, each forecast once, against the outcomes of its own window."""
    config = work.config
    version = reward_version(config.reward)
    with timed_stage(work, due, Stage.SETTLE) as timing:
        settlements: list[Settlement] = []
        groups: list[Group] = []
        notes: dict[str, Any] = {"refused": {}, "canaries": None, "rivals": {}}
        counts = dict.fromkeys(("n_pending_groups", "n_placebo_days", "n_outcomes", "n_repeats",
                                "n_doubles", "n_instructions"), 0)  # fmt: skip
        for day in work.ledger.unsettled_days(
            work.name, before=due.day, roles=SETTLED_ROLES, reward_version=version
        ):
            waiting = work.ledger.groups(
                work.name, day=day, roles=SETTLED_ROLES, unsettled_under=version
            )
            made_at = waiting[0].made_at
            outcomes = known_outcomes(
                work.ledger,
                config,
                work.info.corpus,
                made_at=made_at,
                as_of=due.as_of,
                headlines=headlines_of(waiting),
            )
            age = due.as_of - made_at
            closed = age >= timedelta(hours=config.reward.window_h)
            young = age < timedelta(hours=config.reward.min_window_h)
            few = len(outcomes.headlines) < config.reward.min_outcomes
            if young or (few and not closed):
                counts["n_pending_groups"] += len(waiting)
                continue
            groups += waiting
            counts["n_outcomes"] += len(outcomes.headlines)
            counts["n_repeats"] += outcomes.n_repeats
            counts["n_doubles"] += outcomes.n_doubles
            counts["n_instructions"] += outcomes.n_instructions
            n_placebo = sum(map(bool, outcomes.placebo_days))
            counts["n_placebo_days"] = max(counts["n_placebo_days"], n_placebo)
            reason = refuse_day(
                headlines_of(waiting),
                outcomes.headlines,
                limits=GuardLimits(min_outcomes=config.reward.min_outcomes),
                n_repeats=outcomes.n_repeats,
            )
            if reason and (outcomes.headlines or outcomes.n_repeats):
                notes["refused"][day] = reason
                settlements += void_groups(
                    waiting, f"refused: {reason}", config=config.reward, day=due.day
                )
                continue
            settlements += settle_groups(
                waiting,
                outcomes,
                embedder=embedder_of(work),
                config=config.reward,
                day=due.day,
                seed=placebo_seed(config.run.seed, day),
            )
            if outcomes.headlines:
                canaries, rivals = _checks(work, day, waiting, outcomes)
                if not (notes["canaries"] or {}).get("broken"):
                    notes["canaries"] = canaries or notes["canaries"]
                for name, contrasts in rivals.items():
                    notes["rivals"].setdefault(name, {}).update(contrasts)
        train = settled_groups(groups, settlements, Role.TRAIN)
        detail = {
            "reward_version": version,
            "versions": [GUARD_VERSION, CANARIES_VERSION, INJECTION_VERSION],
            **summarize_day(groups, settlements),
            "buckets": day_spread(_bucket_contrasts(work, train)),
            **notes,
            **counts,
        }
        work.ledger.finish_stage(timing.row(detail), settlements=settlements)
        timing.summary = (
            f"{detail['n_settled']} forecasts settled"
            + (f", {detail['n_void']} void" if detail["n_void"] else "")
            + (f", reward {detail['reward']:.3f}" if detail["reward"] is not None else "")
        )


def known_outcomes(
    ledger: Ledger,
    config: Config,
    corpus: str,
    *,
    made_at: datetime,
    as_of: datetime,
    headlines: Sequence[Headline],
) -> Outcomes:
    """What forecasts on `headlines`, made at one time, are settled against, as far as it is known
    by `as_of`."""
    ask = ledger.headlines_between
    after, until = outcome_window(made_at, as_of=as_of, window_h=config.reward.window_h)
    cycle = config.schedule.period()
    windows = past_windows(made_at, config.evaluate.placebo_lags, length=cycle)
    (before,) = past_windows(made_at, (DAY_BEFORE, DAY_BEFORE), length=cycle, apart=cycle)
    return gather_outcomes(
        ask(corpus, after=after, until=until),
        [ask(corpus, after=a, until=u) for a, u in windows],
        [h.title for h in headlines],
        day_before=ask(corpus, after=before[0], until=before[1]),
    )


def _checks(
    work: OpenRun, day: str, waiting: Sequence[Group], outcomes: Outcomes
) -> tuple[dict[str, Any] | None, dict[str, dict[str, float]]]:
    """Canaries scored beside a day's settlements, and rivals that need no policy."""
    headlines = headlines_of(waiting)
    news = news_of(headlines, outcomes)
    earlier = [
        s.day for s in work.ledger.stage_runs(work.name, stage=Stage.FORECAST) if s.day < day
    ]
    # Three days back, where there are as many: what goes on from day to day is less of a stranger.
    strangers = [
        group.forecasts[0].text
        for other in earlier[-3:][:1]
        for group in work.ledger.groups(work.name, day=other, roles=[Role.TRAIN])
    ]
    canaries = score_canaries(
        news,
        strangers=strangers,
        embedder=embedder_of(work),
        config=work.config.reward,
        # Neither the run nor its seed: the same news must not be refused by one draw of words.
        seed=stable_seed("canaries", day),
    )
    rivals = rival_contrasts(
        news, embedder=embedder_of(work), seed=placebo_seed(work.config.run.seed, day)
    )
    return asdict(canaries) if canaries else None, {
        name: {h.id: v for h, v in zip(headlines, values, strict=True) if v is not None}
        for name, values in rivals.items()
    }


def _bucket_contrasts(
    work: OpenRun, train: Sequence[SettledGroup]
) -> list[tuple[str, list[float]]]:
    headlines = [item.group.headline for item in train]
    bucket = dict(zip([h.id for h in headlines], buckets_of(work, headlines), strict=True))
    return spread_by_bucket(train, lambda group: bucket[group.headline.id])
