"""The ledger's tables: facts, appended and never edited.

Keys are natural (run, day, …) or hashes of content, so inserting a fact twice is a no-op. Times
are stored as ISO 8601 UTC text: SQLite has no zone, and text sorts as time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Text = String().with_variant(String(collation="C"), "postgresql")
"""Text that sorts by its code points, as in SQLite and Python, whatever the database's language."""


class SampledText(TypeDecorator[str]):
    """What a policy wrote. A NUL, which Postgres does not take, is stored as U+FFFD in both."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else value.replace("\0", "\ufffd")


class UtcTime(TypeDecorator[datetime]):
    """Aware datetime ↔ `YYYY-MM-DDTHH:MM:SS.ffffff+00:00` text."""

    impl = String(32).with_variant(String(32, collation="C"), "postgresql")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> str | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the ledger takes aware times, found {value!r}")
        return value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: str | None, dialect: Any) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class Int32Array(TypeDecorator[tuple[int, ...]]):
    """Tuple of token ids ↔ little-endian int32 bytes."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: tuple[int, ...] | None, dialect: Any) -> bytes | None:
        return None if value is None else np.asarray(value, dtype="<i4").tobytes()

    def process_result_value(self, value: bytes | None, dialect: Any) -> tuple[int, ...] | None:
        return None if value is None else tuple(np.frombuffer(value, dtype="<i4").tolist())


class Float32Array(TypeDecorator[NDArray[np.float32]]):
    """Float32 vector ↔ little-endian bytes, exact."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: NDArray[np.float32] | None, dialect: Any) -> bytes | None:
        return None if value is None else np.asarray(value, dtype="<f4").tobytes()

    def process_result_value(self, value: bytes | None, dialect: Any) -> NDArray[np.float32] | None:
        return None if value is None else np.frombuffer(value, dtype="<f4")


class Base(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        dict[str, Any]: JSON, datetime: UtcTime, str: Text,
    }  # fmt: skip


class RunRow(Base):
    """One lineage of policy and config."""

    __tablename__ = "runs"

    name: Mapped[str] = mapped_column(primary_key=True)
    seed: Mapped[int] = mapped_column(BigInteger)
    corpus: Mapped[str]
    config_hash: Mapped[str]
    config: Mapped[dict[str, Any]]
    varro_version: Mapped[str]


class HeadlineRow(Base):
    __tablename__ = "headlines"
    __table_args__ = (Index("ix_headlines_clock", "corpus", "first_seen"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    corpus: Mapped[str]
    feed: Mapped[str]
    source: Mapped[str]
    guid: Mapped[str]
    title: Mapped[str]
    link: Mapped[str]
    published: Mapped[datetime | None]
    first_seen: Mapped[datetime]


class GroupRow(Base):
    __tablename__ = "groups"
    __table_args__ = (Index("ix_groups_day", "run", "day", "role"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    run: Mapped[str] = mapped_column(ForeignKey("runs.name"))
    day: Mapped[str]
    role: Mapped[str]
    headline_id: Mapped[str] = mapped_column(ForeignKey("headlines.id"))
    policy_version: Mapped[int]
    made_at: Mapped[datetime]
    prompt_version: Mapped[str]
    prompt_ids: Mapped[tuple[int, ...]] = mapped_column(Int32Array)


class ForecastRow(Base):
    __tablename__ = "forecasts"
    __table_args__ = (Index("ix_forecasts_group", "group_id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("groups.id"))
    k: Mapped[int]
    token_ids: Mapped[tuple[int, ...]] = mapped_column(Int32Array)
    sampler_logprobs: Mapped[Any] = mapped_column(Float32Array)
    text: Mapped[str] = mapped_column(SampledText)
    finish_reason: Mapped[str]
    seed: Mapped[int] = mapped_column(BigInteger)
    sampler_entropies: Mapped[Any] = mapped_column(Float32Array, nullable=True)


class SettlementRow(Base):
    __tablename__ = "settlements"
    __table_args__ = (
        Index("ix_settlements_group", "group_id"),
        Index("ix_settlements_day", "day"),
    )

    forecast_id: Mapped[str] = mapped_column(ForeignKey("forecasts.id"), primary_key=True)
    reward_version: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("groups.id"))
    day: Mapped[str]
    reward: Mapped[float | None]
    components: Mapped[dict[str, Any]]
    outcome_id: Mapped[str | None] = mapped_column(ForeignKey("headlines.id"))
    void_reason: Mapped[str | None]
    invalid_reason: Mapped[str | None]


class AdvantageRow(Base):
    """What an update made of a forecast's reward."""

    __tablename__ = "advantages"
    __table_args__ = (Index("ix_advantages_day", "run", "day"),)

    run: Mapped[str] = mapped_column(ForeignKey("runs.name"), primary_key=True)
    forecast_id: Mapped[str] = mapped_column(ForeignKey("forecasts.id"), primary_key=True)
    day: Mapped[str]
    advantage: Mapped[float]
    components: Mapped[dict[str, Any]]


class EmbeddingRow(Base):
    """Sentence vectors by the hash of their text: derived, kept so that a text is encoded once."""

    __tablename__ = "embeddings"

    key: Mapped[str] = mapped_column(primary_key=True)
    vector: Mapped[Any] = mapped_column(Float32Array)


class CheckpointRow(Base):
    __tablename__ = "checkpoints"

    run: Mapped[str] = mapped_column(ForeignKey("runs.name"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    parent: Mapped[int | None]
    day: Mapped[str]
    path: Mapped[str]
    """relative to home"""
    sha256: Mapped[str]
    """of the manifest, which holds the sha256 of every file"""


class UpdateRow(Base):
    __tablename__ = "updates"

    run: Mapped[str] = mapped_column(ForeignKey("runs.name"), primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    from_version: Mapped[int]
    to_version: Mapped[int]
    metrics: Mapped[dict[str, Any]]


class EvaluationRow(Base):
    __tablename__ = "evaluations"

    run: Mapped[str] = mapped_column(ForeignKey("runs.name"), primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    n_headlines: Mapped[int]
    lift: Mapped[float | None]
    lift_low: Mapped[float | None]
    lift_high: Mapped[float | None]
    detail: Mapped[dict[str, Any]]
    """per-headline paired differences and component means"""


class StageRunRow(Base):
    """A finished stage. A stage with a row is never run again for that run and day."""

    __tablename__ = "stage_runs"

    run: Mapped[str] = mapped_column(ForeignKey("runs.name"), primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    as_of: Mapped[datetime]
    """the day's clock: nothing first seen later was read"""
    seconds: Mapped[float]
    detail: Mapped[dict[str, Any]]


class _OfAFeed:
    """What came of a feed."""

    feed: Mapped[str]
    status: Mapped[str]
    reason: Mapped[str]
    http_status: Mapped[int | None]
    etag: Mapped[str]
    last_modified: Mapped[str]
    body_sha256: Mapped[str]
    n_entries: Mapped[int]
    n_untitled: Mapped[int]
    n_new: Mapped[int]
    n_failures: Mapped[int]
    next_at: Mapped[datetime | None]
    moved_to: Mapped[str | None]
    seconds: Mapped[float]


class FeedReadRow(_OfAFeed, Base):
    """What came of a feed in one day, committed with the day's ingest."""

    __tablename__ = "feed_reads"
    __table_args__ = (Index("ix_feed_reads_newest", "url", "as_of"),)

    run: Mapped[str] = mapped_column(ForeignKey("runs.name"), primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(primary_key=True)
    as_of: Mapped[datetime]


class FeedTryRow(_OfAFeed, Base):
    """What came of a feed in a cycle that was not run, for it brought nothing. The run need not
    have begun."""

    __tablename__ = "feed_tries"
    __table_args__ = (Index("ix_feed_tries_newest", "url", "as_of"),)

    run: Mapped[str] = mapped_column(primary_key=True)
    as_of: Mapped[datetime] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str]


class MissedCycleRow(Base):
    """A cycle of live feeds that was not run while it could be: its news are gone."""

    __tablename__ = "missed_cycles"

    run: Mapped[str] = mapped_column(ForeignKey("runs.name"), primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    due_at: Mapped[datetime]
    noted_on: Mapped[str]
    """the day that was begun next"""


class HomeRow(Base):
    """The one home that a Postgres ledger belongs to. A SQLite file has no row: it lies in its
    home."""

    __tablename__ = "homes"

    id: Mapped[str] = mapped_column(primary_key=True)
    """as in the home's `place.ID_FILE`"""
    told: Mapped[str]
    """where it was when it took the database"""


class LeaseRow(Base):
    """Who may write to a run. The one row that is edited: a new holder makes the number larger."""

    __tablename__ = "leases"

    run: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    """fencing number: who holds a smaller one has lost the run"""
    holder: Mapped[str]
    since: Mapped[datetime | None]
