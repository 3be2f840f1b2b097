"""The day: the only place that knows the order of stages, and holds both ledger and stages.

    ingest → settle → update → publish → forecast → evaluate → report

Each finished stage is one row, committed together with what it made; a finished stage is skipped,
so a day can be run again after any crash and ends as if nothing had happened. Training comes
before forecasting: every forecast is sampled from the newest policy, and tomorrow's update starts
from exactly the weights that sampled its data.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from varro.config import render_toml
from varro.domain import (
    AdvantageInfo,
    CheckpointInfo,
    Forecast,
    Group,
    Headline,
    MissedInfo,
    Role,
    SettledGroup,
    Settlement,
    Stage,
    StageRun,
    UpdateInfo,
    settled_groups,
    stable_seed,
)
from varro.errors import FeedError, StageError, VarroError
from varro.evaluation.evaluate import claim, compare_with_base
from varro.evaluation.stats import medoid
from varro.files import disk_errors
from varro.ledger.store import Ledger
from varro.lineage import kept_versions, refuse_full_disk, remove_versions
from varro.news.bodies import keep_body, remove_old_bodies
from varro.news.fetch import fetcher_of
from varro.news.gather import FeedReading
from varro.news.ingest import (
    EARLIEST,
    ArrivedNews,
    feed_reads,
    ingest_archive,
    ingest_feeds,
    select_headlines,
    state_of,
    why_degraded,
)
from varro.news.parse_apart import ParserProcesses
from varro.news.wanted import (
    Judge,
    judge_languages,
    judge_number,
    judge_retold,
    judge_rules,
    judge_topics,
    sort_out,
)
from varro.report.build import ReportFacts, build_report
from varro.report.machine import describe_machine, stage_memory
from varro.report.pages import write_report
from varro.reward.canaries import CANARIES_VERSION, score_canaries
from varro.reward.embed import check_embedder
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
from varro.reward.summary import (
    component_array,
    spread_by_bucket,
    summarize_day,
)
from varro.run import OpenRun, embedder_of, live_policy
from varro.service.slots import ONE_DAY, Begun, DueDay, due_live, load_timetable
from varro.training.advantage import (
    Advantages,
    Moments,
    component_advantages,
    plain_advantages,
    running_moments,
)
from varro.training.curriculum import (
    TOPICS,
    Candidate,
    bucket_of,
    choose_headlines,
    day_spread,
    running_spread,
    topic_of,
)
from varro.training.leash import RESET_AFTER, should_reset_reference
from varro.training.steering import bounded_lr_scale

SETTLED_ROLES = (Role.TRAIN, Role.HELDOUT, Role.BASE)
_OF_THE_POLICY = (Stage.UPDATE, Stage.FORECAST, Stage.EVALUATE)
"""stages that use the live policy, and say so if it is not the newest version"""


def due_days(work: OpenRun, now: datetime) -> list[DueDay]:
    """Days that can be run, oldest first. An archive's days are due in their order, each as of its
    midnight; from live feeds only the newest cycle of the timetable can ever be begun, for the past
    can not be fetched, but one that was stopped halfway is finished first, under its own clock.

    Raises: StageError if the clock stands before a live run's newest cycle.
    """
    if work.archive is None:
        return due_live(
            load_timetable(work.config.schedule), now, newest_begun(work.ledger, work.name)
        )
    last = max(work.ledger.days_done(work.name), default="")
    return [
        DueDay(day.isoformat(), end_of_day(day))
        for day in work.archive.days()
        if day.isoformat() > last
    ]


def newest_begun(ledger: Ledger, run: str) -> Begun | None:
    """A run's newest day that was begun."""
    newest = ledger.newest_day(run)
    if newest is None:
        return None
    stages = ledger.stage_runs(run, newest)
    return Begun.of(newest, stages[0].as_of, [s.stage for s in stages])


def end_of_day(day: date) -> datetime:
    """The first moment after a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + ONE_DAY


def run_day(work: OpenRun, due: DueDay, *, only: Stage | None = None) -> None:
    """Run a day's unfinished stages in order, or just one of them.

    Raises: StageError if `only` names a stage whose predecessor is not finished; any VarroError of
    a stage, after which everything finished before stays.
    """
    steps: tuple[tuple[Stage, Callable[[OpenRun, DueDay], None]], ...] = (
        (Stage.INGEST, _ingest),
        (Stage.SETTLE, _settle),
        (Stage.UPDATE, _update_and_publish),
        (Stage.FORECAST, _forecast),
        (Stage.EVALUATE, _evaluate),
        (Stage.REPORT, _report),
    )
    _refuse_disorder(work, due)
    finished = {s.stage for s in work.ledger.stage_runs(work.name, due.day)}
    if only is None and Stage.REPORT not in finished:
        with disk_errors(f"before {due.day}"):
            load_machines(work)
    for stage, step in steps:
        if only is not None and stage is not only:
            if stage not in finished:
                raise StageError(
                    f"stage {only} of {due.day} needs {stage} first; run 'varro {stage}', or "
                    "'varro train-day' for the whole day",
                    day=due.day,
                    stage=only,
                )
            continue
        if stage not in finished:
            try:
                with disk_errors(f"stage {stage} of {due.day}"):
                    step(work, due)
            except VarroError:
                raise
            except Exception as error:
                raise StageError(
                    f"stage {stage} of {due.day} failed: {type(error).__name__}: {error}",
                    day=due.day,
                    stage=stage,
                ) from error
        if stage is only:
            return


def _refuse_disorder(work: OpenRun, due: DueDay) -> None:
    """A policy must not forecast a day after it has trained on a later one, nor leave one half."""
    newest = newest_begun(work.ledger, work.name)
    if newest is None or newest.cycle == due.day or due.day in work.ledger.days_done(work.name):
        return
    if due.day < newest.cycle:
        raise StageError(
            f"day {due.day} comes before {newest.cycle}, which run {work.name!r} has begun or done:"
            " its policy knows what followed; begin another run with --run NAME",
            day=due.day,
        )
    if newest.is_half:
        raise StageError(
            f"day {newest.cycle} of run {work.name!r} was begun and not finished; finish it "
            "first with 'varro train-day' (or 'varro replay' from that day)",
            day=due.day,
        )


def load_machines(work: OpenRun) -> None:
    """Embedder, live policy and disk, checked before a day writes anything."""
    refuse_full_disk(work.home, live_policy(work), work.config.checkpoints)
    check_embedder(work.config.embedder)


def write_day_report(work: OpenRun, day: str) -> Path:
    """(Re)write a day's report from the ledger; returns the page's path."""
    report = build_report(_report_facts(work, day))
    return write_report(report_folder(work.home, work.name, day), report)


def report_folder(home: Path, run: str, day: str) -> Path:
    return home / "reports" / run / day


# -- stages


def _ingest(work: OpenRun, due: DueDay) -> None:
    config = work.config.news
    with _timed(work, due, Stage.INGEST) as timing:
        since = _since(work, due)
        news = _arrived(work, due)
        known = work.ledger.known_headline_ids(h.id for h in news.headlines)
        again = [h for h in news.headlines if h.id in known]
        new, left_out = sort_out(
            [h for h in news.headlines if h.id not in known], _judges(work, due)
        )
        if news.n_behind:
            left_out["too many in a body"] = news.n_behind
        todays = {h.id for h in new if h.first_seen > since}
        todays |= {
            h.id
            for h in work.ledger.headlines_between(work.info.corpus, after=since, until=due.as_of)
        }
        if not todays:
            raise FeedError(
                f"no new headline on {due.day} in {work.info.corpus!r} (first seen after "
                f"{since:%Y-%m-%dT%H:%M:%SZ}, until {due.as_of:%Y-%m-%dT%H:%M:%SZ}"
                + "".join(f"; {n} left out: {reason}" for reason, n in left_out.items())
                + "); an empty day is not run: name another day, or look at the archive or feeds"
            )
        degraded = why_degraded(
            news, len(todays), min_feeds=config.min_feeds, min_headlines=config.min_headlines
        )
        detail = {
            "corpus": work.info.corpus,
            "n_new": len(todays),
            "n_malformed": news.n_malformed,
            "n_duplicates": news.n_duplicates,
            "n_feeds": news.n_feeds,
            "n_alive": news.n_alive,
            "failures": [{"feed": f.feed, "reason": f.reason} for f in news.failures],
            "left_out": left_out,
            "degraded": degraded,
            "n_missed": len(due.missed),
        }
        work.ledger.add_run(work.info)
        work.ledger.finish_stage(
            timing.row(detail),
            headlines=[*again, *new],
            missed=[MissedInfo(work.name, m.cycle, m.at, due.day) for m in due.missed],
            feed_reads=feed_reads(news.readings, new, run=work.name, day=due.day, as_of=due.as_of),
        )
        if work.archive is None:  # an archive's clock says nothing of how old a body is
            remove_old_bodies(work.home, as_of=due.as_of, keep_days=config.keep_bodies_days)
        timing.summary = (
            f"{len(todays)} new headlines"
            + (f", {len(news.failures)} of {news.n_feeds} feeds failed" if news.failures else "")
            + (f", {_told_missed(due)}" if due.missed else "")
            + (f", degraded: {degraded}" if degraded else "")
        )


def _arrived(work: OpenRun, due: DueDay) -> ArrivedNews:
    """What there is to take in, as of the day's clock."""
    if work.archive is not None:
        # A run's first day takes the archive's past with it: placebo days are past days.
        # Later days take all since the last one that ran: skipped days are outcomes too.
        after = max(_earlier_clocks(work, due), default=None)
        return ingest_archive(work.archive, after=after, as_of=due.as_of)
    config = work.config.news
    fetcher = fetcher_of(config)
    reads = work.ledger.newest_feed_reads([feed.url for feed in work.feeds])

    def keep(reading: FeedReading) -> None:
        if config.keep_bodies_days:
            keep_body(work.home, reading, as_of=due.as_of)

    with ParserProcesses() as parser:
        return ingest_feeds(
            work.feeds,
            fetcher,
            parser,
            {url: state_of(read) for url, read in reads.items()},
            as_of=due.as_of,
            max_s=config.max_s,
            pause_s=config.pause_s,
            keep_body=keep,
        )


def _judges(work: OpenRun, due: DueDay) -> list[Judge]:
    """What new headlines must pass, the cheapest first."""
    config = work.config.news
    is_live = work.archive is None
    judges: list[Judge] = []
    if is_live:
        told = work.ledger.titles_between(
            work.info.corpus, after=due.as_of + EARLIEST, until=due.as_of
        )
        judges.append(judge_retold(told))
    if config.rules:
        judges.append(judge_rules(config.rules))
    if config.languages:
        judges.append(judge_languages(config.languages))
    if config.topics:
        judges.append(judge_topics(config.topics, lambda titles: _topics(work, titles)))
    if is_live:
        judges.append(judge_number(config.max_new_per_feed))
    return judges


def _told_missed(due: DueDay) -> str:
    first, last = due.missed[0].cycle, due.missed[-1].cycle
    return f"{len(due.missed)} missed before it: {first}" + (f" to {last}" if last > first else "")


def _settle(work: OpenRun, due: DueDay) -> None:
    config = work.config
    version = reward_version(config.reward)
    with _timed(work, due, Stage.SETTLE) as timing:
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
            outcomes = _outcomes(work, made_at, due.as_of, waiting)
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
                _headlines_of(waiting),
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


def _checks(
    work: OpenRun, day: str, waiting: Sequence[Group], outcomes: Outcomes
) -> tuple[dict[str, Any] | None, dict[str, dict[str, float]]]:
    """Canaries scored beside a day's settlements, and rivals that need no policy."""
    headlines = _headlines_of(waiting)
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


def _update_and_publish(work: OpenRun, due: DueDay) -> None:
    """Update and publish end in one transaction: an update without its checkpoint is no update."""
    from varro.training.update import n_update_ticks, reset_reference, update_policy

    config = work.config
    policy = live_policy(work)
    refuse_full_disk(work.home, policy, config.checkpoints)
    settled = work.ledger.settled_groups(work.name, day=due.day, role=Role.TRAIN)
    fresh = [s for s in settled if s.group.policy_version == policy.version]
    settle = work.ledger.stage_run(work.name, due.day, Stage.SETTLE)
    notes = settle.detail if settle else {}
    broken = (notes.get("canaries") or {}).get("broken")
    if worse := _worse_than_base(work, due):
        _go_back_to_base(work, due, worse, n_stale=len(settled))
        return
    ingest = work.ledger.stage_run(work.name, due.day, Stage.INGEST)
    degraded = ingest.detail.get("degraded") if ingest else None
    total = n_update_ticks(len(fresh))
    with _timed(work, due, Stage.UPDATE, total=total, unit="passes") as timing:
        detail: dict[str, Any] = {"updated": False, "n_stale": len(settled) - len(fresh)}
        result = None
        earned: Advantages | None = None
        if broken:
            detail["reason"] = f"the canaries are out of order: exact is not above {broken}"
        elif degraded:
            detail["reason"] = f"the day is degraded: {degraded}"
        elif len(fresh) >= config.update.min_groups > _n_scored(fresh):
            detail["reason"] = (
                f"{_n_scored(fresh)} groups have a semantic reward, {config.update.min_groups} are "
                "needed: there are too few placebo days yet, or nothing was published about them"
            )
        elif len(fresh) < config.update.min_groups:
            refused = "; ".join(f"{d} was refused: {why}" for d, why in notes["refused"].items())
            detail["reason"] = refused or (
                f"{len(fresh)} settled groups of the live policy, "
                f"{config.update.min_groups} are needed"
                + (f"; {detail['n_stale']} of another version" if detail["n_stale"] else "")
            )
        else:
            earned, facts = _advantages(work, due, fresh)
            result = update_policy(
                policy,
                [item.group for item in fresh],
                earned.total,
                work.trainer,
                low_variance=earned.low_variance,
                config=config.update,
                leash=config.leash,
                guard=config.guard,
                temperature=config.sampling.temperature,
                seed_parts=(config.run.seed, due.day),
                on_group=lambda: work.progress.advanced(1),
            )
            result.metrics.update(facts)
            if result.refused:
                detail |= {
                    "reason": f"refused: {result.refused}",
                    "metrics": {k: v for k, v in result.metrics.items() if _is_finite(v)},
                    "policy_version": policy.version,
                    "trainer_next": result.state.numbers(),
                }
                work.trainer = result.state
        if result is None or result.refused:
            update_row = timing.row(detail)
            if work.ledger.checkpoint(work.name) is None:
                checkpoint, publish = _publish(work, due, work.trainer, version=0, parent=None)
            else:
                checkpoint, publish = None, _begun(work, due, Stage.PUBLISH).row({})
            work.ledger.finish_stage(update_row, checkpoint=checkpoint, also=[publish])
            timing.summary = f"no update: {detail['reason']}"
            return
        metrics = result.metrics
        newest = work.ledger.checkpoint(work.name)
        # Not the live version's successor if newer ones were damaged: a version has one meaning.
        parent, version = policy.version, 1 + (newest.version if newest else policy.version)
        metrics["reference_reset"] = _reset_is_due(work, due, metrics, is_broken=bool(broken))
        if metrics["reference_reset"]:
            result = replace(result, state=reset_reference(policy, result.state))
            metrics["guard"].append(f"reset: v{version} is its own reference now")
        update_row = timing.row(detail | {"updated": True})
        checkpoint, publish = _publish(work, due, result.state, version=version, parent=parent)
        work.ledger.finish_stage(
            update_row,
            update=UpdateInfo(work.name, due.day, parent, version, metrics),
            advantages=_advantage_rows(work, due, fresh, earned),
            checkpoint=checkpoint,
            also=[publish],
        )
        policy.version, work.trainer, work.damaged = version, result.state, ()
        timing.summary = (
            f"v{parent} → v{version}: kl_ref {metrics['kl_ref']:.3f}, clip "
            f"{metrics['clip_frac']:.0%}, {metrics['tokens_per_s']:.0f} tokens/s"
        )


def _worse_than_base(work: OpenRun, due: DueDay) -> str | None:
    """Why the run must go back to the frozen base, or None.

    The confidence sequence over the days since it last went back lies below 0, and the controls
    hold: the same evidence by which a policy is said to have learned.
    """
    if not work.config.guard.back_to_base:
        return None
    since = max((c.day for c in work.ledger.rollbacks(work.name)), default="")
    claimed = claim(
        [e for e in work.ledger.evaluations(work.name, until=due.day) if e.day > since],
        seed=work.config.run.seed,
        n_bootstrap=work.config.evaluate.n_bootstrap,
    )
    if claimed["word"] != "worse":
        return None
    lift = claimed["lift"]
    return (
        f"worse than the frozen base over {lift['n_days']} days, lift {lift['mean']:+.4f} "
        f"[{lift['claim_low']:+.4f}, {lift['claim_high']:+.4f}]"
    )


def _go_back_to_base(work: OpenRun, due: DueDay, worse: str, *, n_stale: int) -> None:
    """Publish version 0's weights as the newest version; the day trains nothing.

    Raises: CheckpointError if version 0 is missing or damaged.
    """
    from varro.policy.checkpoint import load_checkpoint

    base, newest = work.ledger.checkpoint(work.name, 0), work.ledger.checkpoint(work.name)
    assert base is not None and newest is not None  # something was compared, so both were published
    with _timed(work, due, Stage.UPDATE) as timing:
        state = load_checkpoint(work.home, work.policy, path=base.path, sha256=base.sha256)
        state = replace(state, lr_scale=bounded_lr_scale(work.trainer.lr_scale / 2))
        version = newest.version + 1
        detail = {"updated": False, "n_stale": n_stale, "reason": f"rolled back: {worse}"}
        update_row = timing.row(detail)
        checkpoint, publish = _publish(work, due, state, version=version, parent=0)
        work.ledger.finish_stage(update_row, checkpoint=checkpoint, also=[publish])
        work.policy.version, work.trainer, work.damaged = version, state, ()
        timing.summary = f"v{version} has the frozen base's weights again: {worse}"


def _reset_is_due(work: OpenRun, due: DueDay, metrics: dict[str, Any], *, is_broken: bool) -> bool:
    """Whether the policy that has just been trained becomes the leash's reference."""
    config = work.config
    if not config.leash.reset or metrics["kl_ref"] <= config.leash.dead_band[1]:
        return False
    updated = [
        s.day
        for s in work.ledger.stage_runs(work.name, stage=Stage.UPDATE)
        if s.day < due.day and s.detail["updated"]
    ]
    past = [work.ledger.update(work.name, day) for day in updated[-(RESET_AFTER - 1) :]]
    claimed = claim(
        work.ledger.evaluations(work.name, until=due.day),
        seed=config.run.seed,
        n_bootstrap=config.evaluate.n_bootstrap,
    )
    state = work.trainer
    return should_reset_reference(
        [*(u.metrics["kl_ref"] for u in past if u), metrics["kl_ref"]],
        above=config.leash.dead_band[1],
        n_since_reset=None if state.last_reset is None else state.n_updates + 1 - state.last_reset,
        canaries_fine=not is_broken,
        lift_proven=claimed["word"] == "learned",
    )


def _n_scored(settled: Sequence[SettledGroup]) -> int:
    """Groups with a semantic reward: training on form alone is not what the weights say."""
    return sum(all("semantic" in s.components for s in item.settlements) for item in settled)


def _advantages(
    work: OpenRun, due: DueDay, settled: Sequence[SettledGroup]
) -> tuple[Advantages, dict[str, Any]]:
    """Advantages of the day's groups by the configured reward, and the facts about them."""
    config = work.config
    weights = (config.reward.format_weight, config.reward.semantic_weight)
    if config.update.placebo:
        settled = [_permuted(item, config.run.seed, due.day) for item in settled]
    format_ = component_array(settled, "format")
    semantic = component_array(settled, "semantic")
    if config.reward.kind == "similarity":
        rewards = np.array([[s.reward for s in i.settlements] for i in settled], dtype=np.float64)
        earned = plain_advantages(rewards, weights=weights, format_=format_)
        return earned, {f"share_{k}": v for k, v in (earned.shares or {}).items()}
    days = [
        Moments(**s.detail["moments"])
        for s in work.ledger.stage_runs(work.name, stage=Stage.SETTLE)
        if s.day <= due.day and s.detail.get("moments")
    ]
    moments = running_moments(days, decay=config.reward.scale_decay)
    earned = component_advantages(
        format_,
        semantic,
        component_array(settled, "valid") > 0,
        moments=moments,
        weights=weights,
        per_component=config.reward.scale_per_component,
    )
    facts = {f"share_{k}": v for k, v in (earned.shares or {}).items()}
    if moments:
        facts["spread_format"] = math.sqrt(moments.var_format)
        facts["spread_semantic"] = math.sqrt(moments.var_semantic)
    return earned, facts


def _permuted(item: SettledGroup, seed: int, day: str) -> SettledGroup:
    """The group with its settlements dealt out at random: the placebo adapter's reward."""
    draw = np.random.Generator(np.random.PCG64(stable_seed("permute", seed, day, item.group.id)))
    order = draw.permutation(len(item.settlements))
    return replace(item, settlements=tuple(item.settlements[i] for i in order))


def _advantage_rows(
    work: OpenRun, due: DueDay, settled: Sequence[SettledGroup], earned: Advantages | None
) -> list[AdvantageInfo]:
    if earned is None:
        return []
    return [
        AdvantageInfo(
            work.name,
            forecast.id,
            due.day,
            float(earned.total[n, g]),
            {"format": float(earned.format[n, g]), "semantic": float(earned.semantic[n, g])},
        )
        for n, item in enumerate(settled)
        for g, forecast in enumerate(item.group.forecasts)
    ]


def _publish(
    work: OpenRun, due: DueDay, state: Any, *, version: int, parent: int | None
) -> tuple[CheckpointInfo, StageRun]:
    from varro.policy.checkpoint import publish_checkpoint

    timing = _begun(work, due, Stage.PUBLISH)
    work.ledger.check_lease()  # files are replaced before the ledger is asked
    path, sha256 = publish_checkpoint(
        work.home,
        work.policy,
        state,
        run=work.name,
        version=version,
        parent=parent,
        day=due.day,
        seed=work.config.run.seed,
        config_toml=render_toml(work.config),
    )
    return (
        CheckpointInfo(work.name, version, parent, due.day, path, sha256),
        timing.row({"version": version}),
    )


def _forecast(work: OpenRun, due: DueDay) -> None:
    policy = live_policy(work)
    config = work.config
    train, heldout = _selected(work, due)
    n_rows = (len(train) + len(heldout)) * config.sampling.n_forecasts
    total = n_rows * config.sampling.max_tokens
    with _timed(work, due, Stage.FORECAST, total=total, unit="tokens") as timing:
        requests = [(h, Role.TRAIN) for h in train] + [(h, Role.HELDOUT) for h in heldout]
        groups = _sampled(work, due, requests, n_forecasts=config.sampling.n_forecasts)
        detail = _sampling_detail(groups, timing.seconds()) | {
            "policy_version": policy.version,
            "n_train": len(train),
            "n_heldout": len(heldout),
        }
        work.ledger.finish_stage(timing.row(detail), groups=groups)
        timing.summary = (
            f"{detail['n_forecasts']} forecasts by v{policy.version}, "
            f"{detail['tokens_per_s']:.0f} tokens/s"
        )


def _evaluate(work: OpenRun, due: DueDay) -> None:
    policy = live_policy(work)
    config = work.config
    headlines = _headlines_of(
        work.ledger.groups(work.name, day=due.day, roles=[Role.TRAIN, Role.HELDOUT])
    )
    n_forecasts = config.evaluate.n_base_forecasts
    total = len(headlines) * n_forecasts * config.sampling.max_tokens
    with _timed(work, due, Stage.EVALUATE, total=total, unit="tokens") as timing:
        with policy.adapter_off():
            requests = [(h, Role.BASE) for h in headlines]
            groups = _sampled(work, due, requests, n_forecasts=n_forecasts)
        settle = work.ledger.stage_run(work.name, due.day, Stage.SETTLE)
        evaluation = compare_with_base(
            work.ledger.settlements(work.name, day=due.day),
            run=work.name,
            day=due.day,
            seed=config.run.seed,
            n_bootstrap=config.evaluate.n_bootstrap,
            rivals=settle.detail["rivals"] if settle else None,
        )
        detail = _sampling_detail(groups, timing.seconds())
        detail["machine"] = describe_machine(policy)
        work.ledger.finish_stage(timing.row(detail), groups=groups, evaluation=evaluation)
        if evaluation is None:
            told = f"{len(groups)} headlines forecast by the frozen base"
        elif evaluation.lift is None:
            told = f"{len(groups)} headlines forecast by the frozen base, none compared"
        else:
            told = f"lift {evaluation.lift:+.4f} on {evaluation.n_headlines} headlines"
        timing.summary = f"{told}, {detail['tokens_per_s']:.0f} tokens/s"


def _report(work: OpenRun, due: DueDay) -> None:
    with _timed(work, due, Stage.REPORT) as timing:
        work.ledger.check_lease()
        page = write_day_report(work, due.day)
        removed = _removable(work, due)
        remove_versions(work.home, removed)
        detail = {
            "path": str(page.relative_to(work.home)),
            "removed_versions": _newly(work, [c.version for c in removed]),
        }
        work.ledger.finish_stage(timing.row(detail))
        timing.summary = str(page)
    if work.embedder is not None:
        work.embedder.forget()


def _removable(work: OpenRun, due: DueDay) -> list[CheckpointInfo]:
    """Versions that need not be kept, by the ledger alone: the same whenever it is asked."""
    checkpoints = work.ledger.checkpoints(work.name)
    forecast = work.ledger.stage_run(work.name, due.day, Stage.FORECAST)
    if forecast is None:
        return []
    kept = kept_versions(
        checkpoints,
        work.config.checkpoints,
        live=forecast.detail["policy_version"],
        reference=work.ledger.reference_version(work.name),
    )
    return [c for c in checkpoints if c.version not in kept]


def _newly(work: OpenRun, versions: Sequence[int]) -> list[int]:
    """Those that no earlier day has named as removed."""
    named = {
        version
        for s in work.ledger.stage_runs(work.name, stage=Stage.REPORT)
        for version in s.detail.get("removed_versions", ())
    }
    return [version for version in versions if version not in named]


# -- what stages share


@dataclass
class _Timing:
    work: OpenRun
    due: DueDay
    stage: Stage
    started: float
    summary: str = ""

    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def row(self, detail: dict[str, Any]) -> StageRun:
        memory = stage_memory(with_mlx=self.work.policy is not None)
        detail = {**detail, "memory": memory}
        if self.work.damaged and self.stage in _OF_THE_POLICY:
            detail["damaged"] = [asdict(lost) for lost in self.work.damaged]
        return StageRun(
            self.work.name, self.due.day, self.stage, self.due.as_of, self.seconds(), detail
        )


def _begun(work: OpenRun, due: DueDay, stage: Stage) -> _Timing:
    if work.policy is not None:
        from varro.policy.mlx import reset_peak

        reset_peak()
    return _Timing(work, due, stage, time.perf_counter())


@contextmanager
def _timed(
    work: OpenRun, due: DueDay, stage: Stage, *, total: int | None = None, unit: str = ""
) -> Iterator[_Timing]:
    timing = _begun(work, due, stage)
    work.progress.started(due.day, stage, total=total, unit=unit)
    yield timing
    work.progress.finished(due.day, stage, seconds=timing.seconds(), summary=timing.summary)
    if work.policy is not None:
        from varro.policy.mlx import release_memory

        release_memory()


def _since(work: OpenRun, due: DueDay) -> datetime:
    """When the day's own headlines begin: after the day before it, and never over a day ago (a
    cycle, where it is shorter)."""
    return max([due.as_of - work.config.schedule.period(), *_earlier_clocks(work, due)])


def _earlier_clocks(work: OpenRun, due: DueDay) -> list[datetime]:
    """`as_of` of the run's days before this one."""
    return [
        s.as_of for s in work.ledger.stage_runs(work.name, stage=Stage.INGEST) if s.day < due.day
    ]


def _selected(work: OpenRun, due: DueDay) -> tuple[list[Headline], list[Headline]]:
    """The day's (train, held-out) headlines: the same whenever it is asked."""
    todays = work.ledger.headlines_between(
        work.info.corpus, after=_since(work, due), until=due.as_of
    )
    config = work.config
    selection = select_headlines(
        todays,
        n_train=len(todays) if config.curriculum.enabled else config.news.n_headlines,
        n_heldout=config.evaluate.n_headlines,
        heldout_frac=config.evaluate.heldout_frac,
        seed_parts=(config.run.seed, due.day),
    )
    train = list(selection.train)
    if config.curriculum.enabled and len(train) > config.news.n_headlines:
        train = _chosen(work, due, train)
    return train, list(selection.heldout)


def _chosen(work: OpenRun, due: DueDay, pool: Sequence[Headline]) -> list[Headline]:
    """The headlines to train on by the running spread of their bucket, in the pool's order."""
    config = work.config
    past = [
        s.detail["buckets"]
        for s in work.ledger.stage_runs(work.name, stage=Stage.SETTLE)
        if s.day <= due.day
    ]
    chosen = choose_headlines(
        [
            Candidate(h.id, h.source, bucket)
            for h, bucket in zip(pool, _buckets(work, pool), strict=True)
        ],
        config.news.n_headlines,
        spread=running_spread(past, decay=config.curriculum.decay),
        seed=stable_seed("curriculum", config.run.seed, due.day),
        uniform_frac=config.curriculum.uniform_frac,
    )
    return [pool[i] for i in chosen]


def _buckets(work: OpenRun, headlines: Sequence[Headline]) -> list[str]:
    """Source and topic of each headline."""
    topics = _topics(work, [h.title for h in headlines])
    return [bucket_of(h.source, topic) for h, topic in zip(headlines, topics, strict=True)]


def _topics(work: OpenRun, titles: Sequence[str]) -> list[str]:
    """What each title is about."""
    if not titles:
        return []
    anchors = embedder_of(work).encode(list(TOPICS.values()))
    names = list(TOPICS)
    return [names[i] for i in topic_of(embedder_of(work).encode(list(titles)), anchors)]


def _bucket_contrasts(
    work: OpenRun, train: Sequence[SettledGroup]
) -> list[tuple[str, list[float]]]:
    headlines = [item.group.headline for item in train]
    bucket = dict(zip([h.id for h in headlines], _buckets(work, headlines), strict=True))
    return spread_by_bucket(train, lambda group: bucket[group.headline.id])


def _headlines_of(groups: Sequence[Group]) -> list[Headline]:
    """The groups' headlines, each once, in their order."""
    return list({g.headline.id: g.headline for g in groups}.values())


def _sampled(
    work: OpenRun, due: DueDay, requests: Sequence[tuple[Headline, Role]], *, n_forecasts: int
) -> list[Group]:
    from varro.forecast.stage import forecast_headlines
    from varro.policy.sample import SamplingSettings

    if not requests:
        return []
    config = work.config
    settings = SamplingSettings(
        temperature=config.sampling.temperature,
        max_tokens=config.sampling.max_tokens,
        stop_at_paragraph=config.sampling.stop_at_paragraph,
        max_rows=config.sampling.max_rows,
    )
    return forecast_headlines(
        live_policy(work),
        requests,
        run=work.name,
        seed=config.run.seed,
        day=due.day,
        made_at=due.as_of,
        n_forecasts=n_forecasts,
        settings=settings,
        on_tokens=work.progress.advanced,
    )


def _outcomes(
    work: OpenRun, made_at: datetime, as_of: datetime, groups: Sequence[Group]
) -> Outcomes:
    """What forecasts made at one time are settled against, as far as it is known by `as_of`."""
    ask = work.ledger.headlines_between
    corpus = work.info.corpus
    after, until = outcome_window(made_at, as_of=as_of, window_h=work.config.reward.window_h)
    cycle = work.config.schedule.period()
    windows = past_windows(made_at, work.config.evaluate.placebo_lags, length=cycle)
    (before,) = past_windows(made_at, (DAY_BEFORE, DAY_BEFORE), length=cycle, apart=cycle)
    return gather_outcomes(
        ask(corpus, after=after, until=until),
        [ask(corpus, after=a, until=u) for a, u in windows],
        [h.title for h in _headlines_of(groups)],
        day_before=ask(corpus, after=before[0], until=before[1]),
    )


def _sampling_detail(groups: Sequence[Group], seconds: float) -> dict[str, Any]:
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


def _report_facts(work: OpenRun, day: str) -> ReportFacts:
    ledger, name = work.ledger, work.name
    settled = ledger.settlements(name, day=day)
    evaluated = ledger.stage_run(name, day, Stage.EVALUATE)
    outcome_ids = {s.outcome_id for s, _ in settled if s.outcome_id}
    updated = [
        s.day
        for s in ledger.stage_runs(name, stage=Stage.UPDATE)
        if s.day <= day and s.detail["updated"]
    ]
    return ReportFacts(
        config=work.config,
        run=name,
        day=day,
        stages=ledger.stage_runs(name, day),
        settled=settled,
        outcomes={i: h for i in outcome_ids if (h := ledger.headline(i)) is not None},
        display=_displayed(work, day),
        settles=[s for s in ledger.stage_runs(name, stage=Stage.SETTLE) if s.day <= day],
        update=ledger.update(name, day),
        evaluations=ledger.evaluations(name, until=day),
        advantages=ledger.advantages(name, day=day),
        first_update=ledger.update(name, updated[0]) if updated else None,
        checkpoint=_served(ledger, name, day),
        lineage=_lineage(ledger, name, day),
        machine=evaluated.detail["machine"] if evaluated else describe_machine(),
    )


def _served(ledger: Ledger, run: str, day: str) -> CheckpointInfo | None:
    """The version that forecast that day, whatever was published or went bad since."""
    forecast = ledger.stage_run(run, day, Stage.FORECAST)
    if forecast is None:
        return ledger.checkpoint(run, until=day)
    return ledger.checkpoint(run, forecast.detail["policy_version"])


def _lineage(ledger: Ledger, run: str, day: str) -> list[str]:
    """What happened to the run's versions besides training, in words."""
    lost = {
        item["version"]: item
        for stage in ledger.stage_runs(run, day)
        for item in stage.detail.get("damaged", ())
    }
    lines = [
        f"v{item['version']} could not be used ({item['reason']}): what {item['day']} trained is "
        "lost, and what that version forecast does not train"
        for _, item in sorted(lost.items())
    ]
    # By hand, after the day before was done; or by the guard, in the day itself.
    before = max((d for d in ledger.days_done(run) if d < day), default="")
    own, earlier = _published(ledger, run, day), _published(ledger, run, before)
    return lines + [
        f"rolled back to the weights of v{c.parent}, as v{c.version}"
        for c in ledger.rollbacks(run)
        if c.version == own or (c.day == before and c.version != earlier)
    ]


def _published(ledger: Ledger, run: str, day: str) -> int | None:
    """The version that a day published itself."""
    stage = ledger.stage_run(run, day, Stage.PUBLISH) if day else None
    return stage.detail.get("version") if stage else None


def _displayed(work: OpenRun, day: str) -> list[tuple[Group, Forecast]]:
    """Some of the day's groups, each with the forecast nearest to all its others: the medoid."""
    groups = work.ledger.groups(work.name, day=day, roles=[Role.TRAIN])
    shown = []
    for group in groups[: work.config.display.n_headlines]:
        vectors = embedder_of(work).encode([f.text for f in group.forecasts])
        shown.append((group, group.forecasts[medoid(vectors)]))
    return shown


def _is_finite(value: Any) -> bool:
    """JSON has no NaN; a metric that is not finite is left out, the reason names it."""
    return not isinstance(value, float) or math.isfinite(value)
