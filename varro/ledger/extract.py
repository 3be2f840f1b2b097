"""A run's rows on their way out, a few hundred at a time: never a whole ledger in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Select, func, select

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

_ABOUT = HeadlineRow.__table__.alias("about")
_OUTCOME = HeadlineRow.__table__.alias("outcome")
_FORECAST = (
    ForecastRow.id.label("forecast_id"),
    GroupRow.run,
    GroupRow.day,
    GroupRow.role,
    ForecastRow.k,
    GroupRow.headline_id,
    _ABOUT.c.title.label("headline"),
    _ABOUT.c.source,
    _ABOUT.c.feed,
    _ABOUT.c.link,
    _ABOUT.c.first_seen,
    GroupRow.made_at,
    GroupRow.policy_version,
    GroupRow.prompt_version,
    ForecastRow.seed,
    (func.length(ForecastRow.token_ids) // 4).label("n_tokens"),
    ForecastRow.finish_reason,
    ForecastRow.text,
)
_SETTLEMENT = (
    SettlementRow.day.label("settled_on"),
    SettlementRow.reward_version,
    SettlementRow.reward,
    SettlementRow.components,
    SettlementRow.outcome_id,
    _OUTCOME.c.title.label("outcome"),
    _OUTCOME.c.source.label("outcome_source"),
    _OUTCOME.c.link.label("outcome_link"),
    _OUTCOME.c.first_seen.label("outcome_first_seen"),
    SettlementRow.void_reason,
    SettlementRow.invalid_reason,
)
_BY_FORECAST = (GroupRow.day, GroupRow.role, GroupRow.headline_id, ForecastRow.k)


def forecast_rows(ledger: Ledger, run: str) -> Iterator[Row]:
    """Every forecast of a run, by day, role, headline and k. Keys: FORECASTS."""
    return _rows(ledger, _of_run(select(*_FORECAST), run).order_by(*_BY_FORECAST))


def settlement_rows(ledger: Ledger, run: str) -> Iterator[Row]:
    """Every settlement of a run's forecasts, by the day that settled it. Keys: SETTLEMENTS."""
    query = _of_run(select(ForecastRow.id.label("forecast_id"), *_SETTLEMENT), run)
    query = query.join(SettlementRow, SettlementRow.forecast_id == ForecastRow.id)
    return _rows(
        ledger,
        query.outerjoin(_OUTCOME, _OUTCOME.c.id == SettlementRow.outcome_id).order_by(
            SettlementRow.day, *_BY_FORECAST, SettlementRow.reward_version
        ),
    )


def settled_rows(ledger: Ledger, run: str) -> Iterator[Row]:
    """Every forecast once for each of its settlements, or once without. Keys: both."""
    query = _of_run(select(*_FORECAST, *_SETTLEMENT), run)
    query = query.outerjoin(SettlementRow, SettlementRow.forecast_id == ForecastRow.id)
    return _rows(
        ledger,
        query.outerjoin(_OUTCOME, _OUTCOME.c.id == SettlementRow.outcome_id).order_by(
            *_BY_FORECAST, SettlementRow.reward_version
        ),
    )


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


def _of_run(query: Select[Any], run: str) -> Select[Any]:
    joined = query.select_from(ForecastRow).join(GroupRow, GroupRow.id == ForecastRow.group_id)
    return joined.join(_ABOUT, _ABOUT.c.id == GroupRow.headline_id).where(GroupRow.run == run)


def _rows(ledger: Ledger, query: Select[Any]) -> Iterator[Row]:
    return (dict(row._mapping) for row in ledger.stream(query))
