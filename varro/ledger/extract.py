"""A run's rows on their way out, a few hundred at a time: never a whole ledger in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import func, select

from varro.ledger.store import Ledger
from varro.ledger.tables import ForecastRow, GroupRow, HeadlineRow, SettlementRow

FORECASTS = (
    "forecast_id", "run", "day", "role", "k", "headline_id", "headline", "source", "feed", "link",
    "first_seen", "made_at", "policy_version", "prompt_version", "seed", "n_tokens",
    "finish_reason", "text",
)  # fmt: skip
SETTLEMENTS = (
    "forecast_id", "settled_on", "reward_version", "reward", "components", "outcome_id", "outcome",
    "outcome_source", "outcome_link", "outcome_first_seen", "void_reason", "invalid_reason",
)  # fmt: skip

Row = dict[str, Any]


def forecast_rows(ledger: Ledger, run: str) -> Iterator[Row]:
    """Every forecast of a run, by day, role, headline and k. Keys: FORECASTS."""
    query = (
        select(ForecastRow, GroupRow, HeadlineRow)
        .join(GroupRow, GroupRow.id == ForecastRow.group_id)
        .join(HeadlineRow, HeadlineRow.id == GroupRow.headline_id)
        .where(GroupRow.run == run)
        .order_by(GroupRow.day, GroupRow.role, GroupRow.headline_id, ForecastRow.k)
    )
    for forecast, group, headline in ledger.stream(query):
        yield {
            "forecast_id": forecast.id,
            "run": group.run,
            "day": group.day,
            "role": group.role,
            "k": forecast.k,
            "headline_id": headline.id,
            "headline": headline.title,
            "source": headline.source,
            "feed": headline.feed,
            "link": headline.link,
            "first_seen": headline.first_seen,
            "made_at": group.made_at,
            "policy_version": group.policy_version,
            "prompt_version": group.prompt_version,
            "seed": forecast.seed,
            "n_tokens": len(forecast.token_ids),
            "finish_reason": forecast.finish_reason,
            "text": forecast.text,
        }


def settlement_rows(ledger: Ledger, run: str) -> Iterator[Row]:
    """Every settlement of a run's forecasts, by the day that settled it. Keys: SETTLEMENTS."""
    query = (
        select(SettlementRow, HeadlineRow)
        .join(GroupRow, GroupRow.id == SettlementRow.group_id)
        .join(ForecastRow, ForecastRow.id == SettlementRow.forecast_id)
        .outerjoin(HeadlineRow, HeadlineRow.id == SettlementRow.outcome_id)
        .where(GroupRow.run == run)
        .order_by(
            SettlementRow.day, GroupRow.day, GroupRow.role, GroupRow.headline_id, ForecastRow.k,
            SettlementRow.reward_version,
        )
    )  # fmt: skip
    for settlement, outcome in ledger.stream(query):
        yield {
            "forecast_id": settlement.forecast_id,
            "settled_on": settlement.day,
            "reward_version": settlement.reward_version,
            "reward": settlement.reward,
            "components": settlement.components,
            "outcome_id": settlement.outcome_id,
            "outcome": outcome and outcome.title,
            "outcome_source": outcome and outcome.source,
            "outcome_link": outcome and outcome.link,
            "outcome_first_seen": outcome and outcome.first_seen,
            "void_reason": settlement.void_reason,
            "invalid_reason": settlement.invalid_reason,
        }


def feed_counts(ledger: Ledger, corpus: str) -> Sequence[tuple[str, int]]:
    """(feed, headlines first seen there), most first."""
    n = func.count()
    query = (
        select(HeadlineRow.feed, n)
        .where(HeadlineRow.corpus == corpus)
        .group_by(HeadlineRow.feed)
        .order_by(n.desc(), HeadlineRow.feed)
    )
    return [(feed, int(count)) for feed, count in ledger.stream(query)]
