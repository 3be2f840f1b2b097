"""The settle stage: score forecasts against what was published in their window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from varro.config import RewardConfig
from varro.domain import Group, Headline, Settlement, stable_seed
from varro.news.duplicates import first_of_each, title_key, without_near_duplicates
from varro.reward.embed import Embedder
from varro.reward.injection import instruction_like
from varro.reward.score import News, reward_version, score_texts

NO_EVIDENCE = "no evidence"
ONE_DAY = timedelta(days=1)
DAY_BEFORE = 2
"""lag in cycles: the headlines' own lies between it and the outcomes'"""
MIN_HELD_WORDS = 4
"""words of a prompt from which a title that holds it all is a repeat"""


@dataclass(frozen=True)
class Outcomes:
    """What forecasts made at one time are settled against."""

    headlines: tuple[Headline, ...]
    placebo_days: tuple[tuple[Headline, ...], ...]
    day_before: tuple[Headline, ...] = ()
    """the day as long before the forecasts' headlines as the outcomes come after them"""
    n_repeats: int = 0
    """arrivals that only repeated a headline that was forecast: news, but not the outcome"""
    n_doubles: int = 0
    """arrivals that only repeated another arrival"""
    n_instructions: int = 0
    """arrivals that talk to a language model and not to readers"""


def outcome_window(
    made_at: datetime, *, as_of: datetime, window_h: float
) -> tuple[datetime, datetime]:
    """(after, until): outcomes have after < first_seen ≤ until, and are known by `as_of`."""
    return made_at, min(made_at + timedelta(hours=window_h), as_of)


def past_windows(
    made_at: datetime,
    lags: tuple[int, int],
    *,
    length: timedelta = ONE_DAY,
    apart: timedelta = ONE_DAY,
) -> list[tuple[datetime, datetime]]:
    """Windows as long as a cycle, at the same time of earlier days: each lag in days (in `apart`)
    before the outcomes' own. All before `made_at`."""
    first, last = lags
    return [
        (made_at - lag * apart, made_at - lag * apart + length) for lag in range(first, last + 1)
    ]


def gather_outcomes(
    arrived: Sequence[Headline],
    placebo_days: Sequence[Sequence[Headline]],
    prompts: Sequence[str],
    *,
    day_before: Sequence[Headline] = (),
) -> Outcomes:
    """The arrivals that may settle forecasts on `prompts`.

    Past days are cleaned alike, for they are compared with the outcomes.
    """

    def kept(headlines: Sequence[Headline]) -> list[Headline]:
        return [headlines[i] for i in settling_titles([h.title for h in headlines], prompts)]

    def distinct(headlines: Sequence[Headline]) -> tuple[Headline, ...]:
        return tuple(headlines[i] for i in first_of_each([h.title for h in headlines]))

    told = kept(arrived)
    outcomes = distinct(told)
    n_instructions = sum(instruction_like(h.title) for h in arrived)
    return Outcomes(
        headlines=outcomes,
        placebo_days=tuple(distinct(kept(day)) for day in placebo_days),
        day_before=distinct(kept(day_before)),
        n_repeats=len(arrived) - n_instructions - len(told),
        n_doubles=len(told) - len(outcomes),
        n_instructions=n_instructions,
    )


def settling_titles(titles: Sequence[str], prompts: Sequence[str]) -> list[int]:
    """Indices of the titles that are no instruction to a model and no repeat of a prompt.

    A title that holds a whole prompt repeats it too, whatever it adds: that may be news, but it is
    also how a stranger hangs orders on a headline that is sure to be linked.
    """
    keys = [key for key in map(title_key, prompts) if len(key.split()) >= MIN_HELD_WORDS]
    news = [
        i
        for i, title in enumerate(titles)
        if not instruction_like(title) and not _holds_one(title_key(title), keys)
    ]
    return [news[i] for i in without_near_duplicates([titles[i] for i in news], prompts)]


def settle_groups(
    groups: Sequence[Group],
    outcomes: Outcomes,
    *,
    embedder: Embedder,
    config: RewardConfig,
    day: str,
    seed: int,
) -> list[Settlement]:
    """A settlement for each forecast of groups that share their outcomes."""
    if not groups:
        return []
    if not outcomes.headlines:
        return void_groups(groups, NO_EVIDENCE, config=config, day=day)
    pairs = [(n, group, f) for n, group in enumerate(groups) for f in group.forecasts]
    scored = score_texts(
        [forecast.text for _, _, forecast in pairs],
        [n for n, _, _ in pairs],
        news_of([group.headline for group in groups], outcomes),
        embedder=embedder,
        config=config,
        seed=seed,
        finish_reasons=[forecast.finish_reason for _, _, forecast in pairs],
        made_on=made_on(groups[0].made_at),
    )
    return [
        Settlement(
            forecast_id=forecast.id,
            group_id=group.id,
            day=day,
            reward_version=reward_version(config),
            reward=found.reward,
            components=found.components,
            outcome_id=None if found.outcome is None else outcomes.headlines[found.outcome].id,
            invalid_reason=found.invalid,
        )
        for (_, group, forecast), found in zip(pairs, scored, strict=True)
    ]


def placebo_seed(run_seed: int, day: str) -> int:
    """Of the draws from a day's placebo pools: all that is compared there meets the same ones."""
    return stable_seed("placebo", run_seed, day)


def made_on(made_at: datetime) -> date:
    """The day a forecast speaks from: one made at midnight closes the day before."""
    return (made_at - timedelta(microseconds=1)).date()


def void_groups(
    groups: Sequence[Group], reason: str, *, config: RewardConfig, day: str
) -> list[Settlement]:
    """Settlements without a reward, for forecasts that can not be scored."""
    return [
        Settlement(
            forecast_id=forecast.id,
            group_id=group.id,
            day=day,
            reward_version=reward_version(config),
            reward=None,
            void_reason=reason,
        )
        for group in groups
        for forecast in group.forecasts
    ]


def news_of(headlines: Sequence[Headline], outcomes: Outcomes) -> News:
    """The titles that the scorer reads."""
    return News(
        headlines=tuple(h.title for h in headlines),
        outcomes=tuple(h.title for h in outcomes.headlines),
        placebo_days=tuple(tuple(h.title for h in day) for day in outcomes.placebo_days),
        day_before=tuple(h.title for h in outcomes.day_before),
    )


def _holds_one(title: str, prompts: Sequence[str]) -> bool:
    return any(f" {prompt} " in f" {title} " for prompt in prompts)
