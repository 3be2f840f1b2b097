"""The settle stage: score forecasts against what was published in their window.

Reward `similarity-1`, the plain version: 0.25 × format (mean of the five beats) + 0.75 × semantic
(best cosine to the outcomes). What the same forecast earns against placebo days is stored beside
it: similarity that another day would have paid as well is not foresight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import numpy as np

from varro.config import RewardConfig
from varro.domain import Forecast, Group, Headline, Settlement, stable_seed
from varro.forecast.beats import BEATS_VERSION, parse_beats
from varro.reward.embed import Embedder
from varro.reward.semantic import best_match, placebo_similarity

REWARD_VERSION = f"similarity-1/{BEATS_VERSION}"
NO_EVIDENCE = "no evidence"


@dataclass(frozen=True)
class Outcomes:
    """What forecasts made at one time are settled against."""

    headlines: tuple[Headline, ...]
    placebo_days: tuple[tuple[Headline, ...], ...]


def outcome_window(
    made_at: datetime, *, as_of: datetime, window_h: float
) -> tuple[datetime, datetime]:
    """(after, until): outcomes have after < first_seen ≤ until, and are known by `as_of`."""
    return made_at, min(made_at + timedelta(hours=window_h), as_of)


def placebo_windows(made_at: datetime, lags: tuple[int, int]) -> list[tuple[datetime, datetime]]:
    """The same one-day window, each lag in days before the outcome's day. All before `made_at`."""
    first, last = lags
    return [
        (made_at - timedelta(days=lag), made_at - timedelta(days=lag - 1))
        for lag in range(first, last + 1)
    ]


def without_repeats(
    outcomes: Sequence[Headline], known_titles: Sequence[str]
) -> tuple[Headline, ...]:
    """Outcomes that do not repeat the title of a headline that was forecast."""
    known = {_plain(title) for title in known_titles}
    return tuple(h for h in outcomes if _plain(h.title) not in known)


def settle_groups(
    groups: Sequence[Group],
    outcomes: Outcomes,
    *,
    embedder: Embedder,
    config: RewardConfig,
    day: str,
    seed_parts: tuple[object, ...],
) -> list[Settlement]:
    """A settlement for each forecast of groups that share their outcomes."""
    pairs = [(group, forecast) for group in groups for forecast in group.forecasts]
    if not pairs:
        return []
    if not outcomes.headlines:
        return [_void(group, forecast, day) for group, forecast in pairs]
    vectors = embedder.encode([forecast.text for _, forecast in pairs])
    outcome_vectors = embedder.encode([h.title for h in outcomes.headlines])
    semantic, matched = best_match(vectors, outcome_vectors)
    placebo = placebo_similarity(
        vectors,
        [embedder.encode([h.title for h in d]) for d in outcomes.placebo_days if d],
        n_outcomes=len(outcomes.headlines),
        seed=stable_seed("placebo", *seed_parts),
    )
    settlements = []
    for i, (group, forecast) in enumerate(pairs):
        beats = parse_beats(forecast.text, group.headline.title)
        has_text = bool(forecast.text.strip())
        components = {
            "format": beats.format_score(),
            "semantic": float(semantic[i]) if has_text else 0.0,
            **asdict(beats),
        }
        if placebo is not None:
            components["placebo"] = float(placebo[i]) if has_text else 0.0
        settlements.append(
            Settlement(
                forecast_id=forecast.id,
                group_id=group.id,
                day=day,
                reward_version=REWARD_VERSION,
                reward=combine(components, config),
                components=components,
                outcome_id=outcomes.headlines[int(matched[i])].id if has_text else None,
            )
        )
    if not np.isfinite(semantic).all():
        raise ValueError("a reward is not finite; the embedder returned a broken vector")
    return settlements


def combine(components: dict[str, float], config: RewardConfig) -> float:
    """format_weight · format + semantic_weight · semantic, in [0, 1]."""
    return (
        config.format_weight * components["format"]
        + config.semantic_weight * components["semantic"]
    )


def _void(group: Group, forecast: Forecast, day: str) -> Settlement:
    return Settlement(
        forecast_id=forecast.id,
        group_id=group.id,
        day=day,
        reward_version=REWARD_VERSION,
        reward=None,
        void_reason=NO_EVIDENCE,
    )


def _plain(title: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in title.casefold()).split())
