"""Frozen values that all rooms share. No behaviour beyond what follows from their fields."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # `varro tick`, which wakes every hour, does without
    import numpy as np
    from numpy.typing import NDArray


class Role(StrEnum):
    """Why a group was sampled. Only `train` groups ever reach the optimiser."""

    TRAIN = "train"
    """served policy, on headlines the next update learns from"""
    HELDOUT = "heldout"
    """served policy, on held-out headlines: settled, never trained on"""
    BASE = "base"
    """frozen base, on the same headlines with the same seeds"""
    DISPLAY = "display"
    """of ledgers before 0.2: sampled for people to read, never settled"""


class Stage(StrEnum):
    """The stages of a day, in their order."""

    INGEST = "ingest"
    SETTLE = "settle"
    UPDATE = "update"
    PUBLISH = "publish"
    FORECAST = "forecast"
    EVALUATE = "evaluate"
    REPORT = "report"


Topic = Literal[
    "markets", "companies", "economy", "commodities", "politics", "war", "technology", "science",
    "sport", "disasters", "crime", "culture",
]  # fmt: skip
"""what a headline can be about; `training.curriculum` says what each means"""


@dataclass(frozen=True, slots=True)
class Headline:
    """One news item as ingested."""

    id: str
    """content id: `headline_id(corpus, feed, guid, title)`"""
    corpus: str
    """the stream it belongs to: `live`, or the name of an archive"""
    feed: str
    source: str
    guid: str
    title: str
    """clean text, at most 512 characters"""
    link: str
    published: datetime | None
    """what the publisher says: shown, and used to refuse a day whose dates contradict the clock"""
    first_seen: datetime
    """the clock (UTC)"""


@dataclass(frozen=True, slots=True)
class Forecast:
    """One sampled answer, exactly as sampled."""

    id: str
    group_id: str
    k: int
    """index within the group, 0-based"""
    token_ids: tuple[int, ...]
    """sampled ids, the stop token included"""
    sampler_logprobs: NDArray[np.float32]
    """(T,) log-probs at the sampling temperature, as reported while sampling"""
    text: str
    finish_reason: str
    """`stop`, `paragraph` or `length`"""
    seed: int
    sampler_entropies: NDArray[np.float32] | None = None
    """(T,) nats: of the distribution each token was drawn from; None from ledgers before 0005"""


@dataclass(frozen=True, slots=True)
class Group:
    """The G forecasts for one headline, made by one policy version."""

    id: str
    run: str
    day: str
    """ISO date of the day it was made in"""
    role: Role
    headline: Headline
    policy_version: int
    made_at: datetime
    prompt_version: str
    prompt_ids: tuple[int, ...]
    forecasts: tuple[Forecast, ...]


def group_as_dict(group: Group) -> dict[str, Any]:
    """Plain data and arrays, for another process; `group_from_dict` reads it."""
    facts = asdict(group)
    headline = facts["headline"]
    facts["made_at"] = group.made_at.isoformat()
    headline["first_seen"] = group.headline.first_seen.isoformat()
    if group.headline.published is not None:
        headline["published"] = group.headline.published.isoformat()
    return facts


def group_from_dict(facts: dict[str, Any]) -> Group:
    """The group that `group_as_dict` was given."""
    headline, published = facts["headline"], facts["headline"]["published"]
    when = {
        "first_seen": datetime.fromisoformat(headline["first_seen"]),
        "published": datetime.fromisoformat(published) if published else None,
    }
    forecasts = tuple(
        Forecast(**(forecast | {"token_ids": tuple(forecast["token_ids"])}))
        for forecast in facts["forecasts"]
    )
    whole = {
        "role": Role(facts["role"]),
        "headline": Headline(**(headline | when)),
        "made_at": datetime.fromisoformat(facts["made_at"]),
        "prompt_ids": tuple(facts["prompt_ids"]),
        "forecasts": forecasts,
    }
    return Group(**(facts | whole))


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one forecast earned against its outcomes. Immutable once in the ledger."""

    forecast_id: str
    group_id: str
    day: str
    """ISO date of the day that settled it"""
    reward_version: str
    reward: float | None
    """the scalar of record, and with kind `similarity` what trains; None if void"""
    components: dict[str, float] = field(default_factory=dict)
    """named parts, see `reward.score`: `semantic` only if something was published about the
    headline and placebo days exist"""
    outcome_id: str | None = None
    """the headline that matched best"""
    void_reason: str | None = None
    """why there is no reward"""
    invalid_reason: str | None = None
    """why the text earns nothing, though it was settled"""


@dataclass(frozen=True, slots=True)
class SettledGroup:
    """A group with a reward for each of its forecasts: what the update learns from."""

    group: Group
    settlements: tuple[Settlement, ...]
    """one for each forecast, in their order"""


@dataclass(frozen=True, slots=True)
class ToldForecast:
    """A forecast as it is told to others: without what only the trainer needs."""

    id: str
    k: int
    text: str
    settlement: Settlement | None
    outcome: Headline | None
    """the headline that matched best"""


@dataclass(frozen=True, slots=True)
class ToldGroup:
    """A group of them."""

    id: str
    day: str
    role: Role
    headline: Headline
    policy_version: int
    made_at: datetime
    forecasts: tuple[ToldForecast, ...]


def settled_groups(
    groups: Sequence[Group], settlements: Sequence[Settlement], role: Role
) -> list[SettledGroup]:
    """The groups of one role whose forecasts all have a reward."""
    by_group: dict[str, list[Settlement]] = {}
    for settlement in settlements:
        if settlement.reward is not None:
            by_group.setdefault(settlement.group_id, []).append(settlement)
    return [
        SettledGroup(group, tuple(by_group[group.id]))
        for group in groups
        if group.role is role and len(by_group.get(group.id, ())) == len(group.forecasts)
    ]


def degraded_days(stages: Sequence[StageRun]) -> dict[str, str]:
    """Days whose news was too thin to be trained on → why."""
    return {
        s.day: s.detail["degraded"]
        for s in stages
        if s.stage is Stage.INGEST and s.detail.get("degraded")
    }


@dataclass(frozen=True, slots=True)
class AdvantageInfo:
    """What the update made of one forecast's reward, before the leash."""

    run: str
    forecast_id: str
    day: str
    advantage: float
    """in running spreads"""
    components: dict[str, float]
    """component → its part of the advantage"""


@dataclass(frozen=True, slots=True)
class RunInfo:
    name: str
    seed: int
    corpus: str
    config_hash: str
    config: dict[str, Any]
    """flat identity of the configuration, for naming what changed"""
    varro_version: str


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    run: str
    version: int
    parent: int | None
    day: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class UpdateInfo:
    run: str
    day: str
    from_version: int
    to_version: int
    metrics: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EvaluationInfo:
    run: str
    day: str
    n_headlines: int
    lift: float | None
    lift_low: float | None
    lift_high: float | None
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StageRun:
    run: str
    day: str
    stage: Stage
    as_of: datetime
    seconds: float
    detail: dict[str, Any] = field(default_factory=dict)


GOOD_READS = ("ok", "unchanged")
"""statuses of a feed that gave a good answer"""
ASKED_READS = (*GOOD_READS, "failed")
"""statuses of a feed that was asked"""


@dataclass(frozen=True, slots=True)
class FeedRead:
    """What came of one feed in one cycle. A feed's newest read is its state."""

    run: str
    day: str
    """the cycle, whether it was run or only tried"""
    url: str
    as_of: datetime
    feed: str
    """its name in the list"""
    status: str
    """`ok`, `unchanged` (a good answer too), `resting` (not asked), `unreached` (the time of all
    feeds was over before) or `failed`"""
    reason: str
    """why it gave nothing"""
    http_status: int | None
    etag: str
    last_modified: str
    """what is sent back, to be told whether anything has changed"""
    body_sha256: str
    n_entries: int
    """these two of the last body that was a feed, today's or an earlier one"""
    n_untitled: int
    """of today's entries"""
    n_new: int
    """headlines that today's body added"""
    n_failures: int
    """in a row, up to this one"""
    next_at: datetime | None
    """not to be asked before"""
    moved_to: str | None
    """the new address, if it has moved for good"""
    seconds: float


@dataclass(frozen=True, slots=True)
class MissedInfo:
    """A cycle of live feeds that nobody ran while it could be run."""

    run: str
    day: str
    due_at: datetime
    noted_on: str
    """the day that was begun next"""


def stable_hash(*parts: object) -> str:
    """Hex digest (128 bits) of the parts; the same on every machine and in every process."""
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def stable_seed(*parts: object) -> int:
    """63-bit seed H(parts): independent of order of work, batch size and process."""
    return int(stable_hash(*parts), 16) >> 65


def even_runs(n_items: int, n_runs: int) -> list[tuple[int, int]]:
    """[start, end) of `n_runs` runs of items, whose sizes differ by at most one."""
    bounds = [round(i * n_items / n_runs) for i in range(n_runs + 1)]
    return list(pairwise(bounds))


def headline_id(corpus: str, feed: str, guid: str, title: str) -> str:
    """Identity of a headline: a feed may retitle an item, which makes another headline."""
    return stable_hash("headline", corpus, feed, guid, title)
