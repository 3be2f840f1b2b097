"""Which headlines are a day's own, and which of them are forecast."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from varro.day.topics import buckets_of
from varro.domain import Group, Headline, Stage, stable_seed
from varro.news.ingest import select_headlines
from varro.run import OpenRun
from varro.service.slots import DueDay
from varro.training.curriculum import Candidate, choose_headlines, running_spread


def begins_after(work: OpenRun, due: DueDay) -> datetime:
    """When the day's own headlines begin: after the day before it, and never over a day ago (a
    cycle, where it is shorter)."""
    return max([due.as_of - work.config.schedule.period(), *earlier_clocks(work, due)])


def earlier_clocks(work: OpenRun, due: DueDay) -> list[datetime]:
    """`as_of` of the run's days before this one."""
    return [
        s.as_of for s in work.ledger.stage_runs(work.name, stage=Stage.INGEST) if s.day < due.day
    ]


def selected_headlines(work: OpenRun, due: DueDay) -> tuple[list[Headline], list[Headline]]:
    """The day's (train, held-out) headlines: the same whenever it is asked."""
    todays = work.ledger.headlines_between(
        work.info.corpus, after=begins_after(work, due), until=due.as_of
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
            for h, bucket in zip(pool, buckets_of(work, pool), strict=True)
        ],
        config.news.n_headlines,
        spread=running_spread(past, decay=config.curriculum.decay),
        seed=stable_seed("curriculum", config.run.seed, due.day),
        uniform_frac=config.curriculum.uniform_frac,
    )
    return [pool[i] for i in chosen]


def headlines_of(groups: Sequence[Group]) -> list[Headline]:
    """The groups' headlines, each once, in their order."""
    return list({g.headline.id: g.headline for g in groups}.values())
