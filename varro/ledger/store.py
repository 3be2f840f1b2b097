"""The ledger: opened, migrated, appended to, asked.

The only room that imports sqlalchemy. Everything a stage produces is committed together with its
`stage_runs` row by `finish_stage`, so a stage has either happened or it has not.

SQLite and Postgres hold the same tables and keep the same promises: one writer at a time, a reader
sees one moment, a commit is on the disk. How each is told to is in `_set_up_sqlite` and
`_set_up_postgres`; what each calls its troubles, in `_refusal`.
"""

from __future__ import annotations

import secrets
import socket
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Engine,
    Row,
    Select,
    String,
    Table,
    and_,
    cast,
    create_engine,
    delete,
    event,
    func,
    inspect,
    select,
    text,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from varro.config import Config
from varro.domain import (
    AdvantageInfo,
    CheckpointInfo,
    EvaluationInfo,
    FeedRead,
    Forecast,
    Group,
    Headline,
    MissedInfo,
    Role,
    RunInfo,
    SettledGroup,
    Settlement,
    Stage,
    StageRun,
    ToldForecast,
    ToldGroup,
    UpdateInfo,
    settled_groups,
)
from varro.errors import DiskError, LedgerError, StaleLeaseError, VarroError
from varro.files import disk_errors, write_file
from varro.ledger.place import (
    ID_FILE,
    Place,
    connect_postgres,
    home_id,
    in_one_line,
    in_words,
    ledger_place,
    other_home,
    refuse_missing_psycopg,
    refuse_other_home,
)
from varro.ledger.tables import (
    AdvantageRow,
    Base,
    CheckpointRow,
    EmbeddingRow,
    EvaluationRow,
    FeedReadRow,
    FeedTryRow,
    ForecastRow,
    GroupRow,
    HeadlineRow,
    HomeRow,
    LeaseRow,
    MissedCycleRow,
    RunRow,
    SettlementRow,
    StageRunRow,
    UpdateRow,
)

HEAD_REVISION = "0008"
_OF_THE_DISK = (
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
)  # fmt: skip
# SQLSTATEs: disk_full, io_error.
_OF_THE_SERVERS_DISK = ("53100", "58030")
_LOCK_NOT_AVAILABLE = "55P03"
_WRITERS = 0x0A88_0001
"""names the lock of a Postgres ledger's one writer, beside its schema's name"""


class Ledger:
    """One database. Use `open_ledger`."""

    def __init__(self, engine: Engine, place: Place) -> None:
        self._engine = engine
        self._place = place
        self._name = f"ledger {in_words(place)}"
        self._lease: tuple[str, int] | None = None

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- one home

    def take_home(self, home: Path, *, by_force: bool = False) -> None:
        """Make a Postgres ledger this home's, and refuse it to all others from now on. A SQLite
        file is its home's wherever it is copied to.

        Raises: LedgerError if it is another home's, unless `by_force`; DiskError.
        """
        if not isinstance(self._place, str):
            return
        with self._session(writes=True) as session:
            owner = session.scalars(select(HomeRow)).one_or_none()
            mine = home_id(home)
            if owner is not None and owner.id == mine:
                return
            if owner is not None and not by_force:
                raise other_home(self._place, home, owner=owner.id, told=owner.told)
            if mine is None:
                mine = secrets.token_hex(8)
                with disk_errors(f"the home's {ID_FILE}"):
                    write_file(home / ID_FILE, f"{mine}\n".encode())
            session.execute(delete(HomeRow))
            session.add(HomeRow(id=mine, told=f"{home} on {socket.gethostname()}"))

    # -- one at a time

    def take_lease(self, run: str, holder: str, since: datetime | None) -> int:
        """The fencing number under which this process writes to a run: larger than any before, so
        that nothing of an earlier holder is taken any more."""
        with self._session(writes=True) as session:
            row = session.get(LeaseRow, run)
            number = 1 if row is None else row.number + 1
            session.merge(LeaseRow(run=run, number=number, holder=holder, since=since))
        self._lease = run, number
        return number

    def outrun_leases(self, by: int, holder: str) -> None:
        """Move every run's fencing number on by so much, in a copy of a ledger: who holds a run in
        the original has a number that counts for nothing here, whatever it has grown to."""
        with self._session(writes=True) as session:
            numbers = {row.run: row.number for row in session.scalars(select(LeaseRow))}
            for run in {*session.scalars(select(RunRow.name)), *numbers}:
                number = numbers.get(run, 0) + by
                session.merge(LeaseRow(run=run, number=number, holder=holder, since=None))

    def continue_lease(self, run: str, number: int) -> None:
        """Write under the number that a parent process has taken."""
        self._lease = run, number

    @property
    def lease_number(self) -> int | None:
        return None if self._lease is None else self._lease[1]

    def check_lease(self) -> None:
        """Raises: StaleLeaseError if another process has taken the run over."""
        with self._read() as session:
            self._refuse_stale(session)

    # -- appending

    def add_run(self, run: RunInfo) -> None:
        with self._write() as session:
            self._append(session, RunRow, [_fields(run)])

    def finish_stage(
        self,
        stage: StageRun,
        *,
        headlines: Sequence[Headline] = (),
        feed_reads: Sequence[FeedRead] = (),
        groups: Sequence[Group] = (),
        settlements: Sequence[Settlement] = (),
        advantages: Sequence[AdvantageInfo] = (),
        update: UpdateInfo | None = None,
        checkpoint: CheckpointInfo | None = None,
        evaluation: EvaluationInfo | None = None,
        missed: Sequence[MissedInfo] = (),
        also: Sequence[StageRun] = (),
    ) -> None:
        """Commit a stage's facts and its row in one transaction; doing it twice changes nothing.

        Raises: LedgerError if a headline is already known with another `first_seen`;
        StaleLeaseError if another process has taken the run over.
        """
        with self._write() as session:
            _refuse_moved_headlines(session, headlines)
            self._append(session, HeadlineRow, [_fields(h) for h in headlines])
            self._append(session, FeedReadRow, [_fields(r) for r in feed_reads])
            self._append(session, GroupRow, [_group_fields(g) for g in groups])
            self._append(session, ForecastRow, [_fields(f) for g in groups for f in g.forecasts])
            self._append(session, SettlementRow, [_fields(s) for s in settlements])
            self._append(session, AdvantageRow, [_fields(a) for a in advantages])
            if update:
                self._append(session, UpdateRow, [_fields(update)])
            if checkpoint:
                self._append(session, CheckpointRow, [_fields(checkpoint)])
            if evaluation:
                self._append(session, EvaluationRow, [_fields(evaluation)])
            self._append(session, MissedCycleRow, [_fields(m) for m in missed])
            self._append(session, StageRunRow, [_fields(s) for s in (stage, *also)])

    def add_feed_tries(self, reads: Sequence[FeedRead]) -> None:
        """Keep what was heard of feeds in a cycle that is not run.

        Note: a feed that is known to be unchanged gives nothing any more: only for reads of which
        no headline is left to be taken in.
        Raises: StaleLeaseError if another process has taken the run over.
        """
        with self._write() as session:
            self._append(session, FeedTryRow, [_fields(r) for r in reads])

    def keep_embeddings(self, vectors: Mapping[str, Any]) -> None:
        """Store vectors under their keys; a key that is known stays as it is."""
        with self._write() as session:
            rows = [{"key": key, "vector": vector} for key, vector in vectors.items()]
            self._append(session, EmbeddingRow, rows)

    def embeddings(self, keys: Sequence[str]) -> dict[str, Any]:
        """The vectors known under some of the keys."""
        with self._read() as session:
            return {
                row.key: row.vector
                for chunk in _chunks(keys)
                for row in session.scalars(select(EmbeddingRow).where(EmbeddingRow.key.in_(chunk)))
            }

    def add_checkpoint(self, checkpoint: CheckpointInfo) -> None:
        with self._write() as session:
            self._append(session, CheckpointRow, [_fields(checkpoint)])

    # -- asking

    def run(self, name: str) -> RunInfo | None:
        with self._read() as session:
            row = session.get(RunRow, name)
            return None if row is None else RunInfo(**_columns(row))

    def runs(self) -> list[RunInfo]:
        with self._read() as session:
            rows = session.scalars(select(RunRow).order_by(RunRow.name))
            return [RunInfo(**_columns(row)) for row in rows]

    def stage_runs(
        self, run: str, day: str | None = None, *, stage: Stage | None = None
    ) -> list[StageRun]:
        """Finished stages in the order they ended, of one day or all, of one kind or all."""
        query = select(StageRunRow).where(StageRunRow.run == run)
        if day is not None:
            query = query.where(StageRunRow.day == day)
        if stage is not None:
            query = query.where(StageRunRow.stage == str(stage))
        with self._read() as session:
            rows = [_columns(row) for row in session.scalars(query.order_by(StageRunRow.day))]
        found = [StageRun(**{**row, "stage": Stage(row["stage"])}) for row in rows]
        order = list(Stage)
        return sorted(found, key=lambda s: (s.day, order.index(s.stage)))

    def stage_run(self, run: str, day: str, stage: Stage) -> StageRun | None:
        return next(iter(self.stage_runs(run, day, stage=stage)), None)

    def newest_day(self, run: str) -> str | None:
        """The last day that was begun."""
        with self._read() as session:
            return session.scalar(select(func.max(StageRunRow.day)).where(StageRunRow.run == run))

    def days_begun(self, run: str) -> list[str]:
        """Days of which a stage is finished, oldest first."""
        query = select(StageRunRow.day).where(StageRunRow.run == run).distinct()
        with self._read() as session:
            return list(session.scalars(query.order_by(StageRunRow.day)))

    def days_done(self, run: str) -> list[str]:
        """Days whose last stage is finished, oldest first."""
        query = select(StageRunRow.day).where(
            StageRunRow.run == run, StageRunRow.stage == str(Stage.REPORT)
        )
        with self._read() as session:
            return list(session.scalars(query.order_by(StageRunRow.day)))

    def missed(self, run: str) -> list[MissedInfo]:
        """Cycles that nobody ran, oldest first."""
        query = select(MissedCycleRow).where(MissedCycleRow.run == run)
        with self._read() as session:
            rows = session.scalars(query.order_by(MissedCycleRow.day))
            return [MissedInfo(**_columns(row)) for row in rows]

    def headlines_between(
        self, corpus: str, *, after: datetime | None, until: datetime
    ) -> list[Headline]:
        """Headlines with after < first_seen ≤ until, by clock and id."""
        query = select(HeadlineRow).where(
            HeadlineRow.corpus == corpus, HeadlineRow.first_seen <= until
        )
        if after is not None:
            query = query.where(HeadlineRow.first_seen > after)
        with self._read() as session:
            rows = session.scalars(query.order_by(HeadlineRow.first_seen, HeadlineRow.id))
            return [Headline(**_columns(row)) for row in rows]

    def headline(self, headline_id: str) -> Headline | None:
        with self._read() as session:
            row = session.get(HeadlineRow, headline_id)
            return None if row is None else Headline(**_columns(row))

    def headlines(self, ids: Iterable[str]) -> dict[str, Headline]:
        """Those of some ids that are known."""
        found: dict[str, Headline] = {}
        with self._read() as session:
            for chunk in _chunks(sorted(ids)):
                rows = session.scalars(select(HeadlineRow).where(HeadlineRow.id.in_(chunk)))
                found |= {row.id: Headline(**_columns(row)) for row in rows}
        return found

    def known_headline_ids(self, ids: Iterable[str]) -> set[str]:
        wanted = list(ids)
        with self._read() as session:
            return {
                found
                for chunk in _chunks(wanted)
                for found in session.scalars(
                    select(HeadlineRow.id).where(HeadlineRow.id.in_(chunk))
                )
            }

    def titles_between(
        self, corpus: str, *, after: datetime, until: datetime
    ) -> set[tuple[str, str]]:
        """(feed, title) of the headlines with after < first_seen ≤ until."""
        query = select(HeadlineRow.feed, HeadlineRow.title).where(
            HeadlineRow.corpus == corpus,
            HeadlineRow.first_seen > after,
            HeadlineRow.first_seen <= until,
        )
        with self._read() as session:
            return {(feed, title) for feed, title in session.execute(query)}

    def newest_feed_reads(
        self,
        urls: Sequence[str],
        *,
        statuses: Collection[str] | None = None,
        until: datetime | None = None,
    ) -> dict[str, FeedRead]:
        """The newest read of each feed that was ever read, whichever run read it: headlines belong
        to all runs. Of some statuses or all; with as_of ≤ until."""
        found: dict[str, FeedRead] = {}
        with self._read() as session:
            for table in (FeedTryRow, FeedReadRow):
                for chunk in _chunks(urls):
                    for read in _newest_reads(session, table, chunk, statuses, until):
                        known = found.get(read.url)
                        if known is None or known.as_of <= read.as_of:
                            found[read.url] = read
        return found

    def groups(
        self, run: str, *, day: str, roles: Iterable[Role], unsettled_under: str | None = None
    ) -> list[Group]:
        """Groups of a day with their forecasts, by role and headline: the same order in any run.

        With `unsettled_under`, only those with no settlement under that reward version.
        """
        query = _OF_GROUPS.where(
            GroupRow.run == run,
            GroupRow.day == day,
            GroupRow.role.in_([str(role) for role in roles]),
        ).order_by(GroupRow.role, GroupRow.headline_id)
        if unsettled_under is not None:
            settled = select(SettlementRow.group_id).where(
                SettlementRow.reward_version == unsettled_under,
                SettlementRow.group_id == GroupRow.id,
            )
            query = query.where(~settled.exists())
        with self._read() as session:
            return _groups_of(session, query)

    def told_groups(
        self, run: str, *, day: str, roles: Iterable[Role], reward_version: str
    ) -> list[ToldGroup]:
        """Groups of a day as others are told them, with what each forecast has earned under one
        reward version; by role and headline. Token ids and log-probs are not read."""
        chosen = (
            GroupRow.run == run,
            GroupRow.day == day,
            GroupRow.role.in_([str(role) for role in roles]),
        )
        groups = (
            select(GroupRow.id, GroupRow.role, GroupRow.policy_version, GroupRow.made_at,
                   HeadlineRow)
            .join(HeadlineRow, HeadlineRow.id == GroupRow.headline_id)
            .where(*chosen)
            .order_by(GroupRow.role, GroupRow.headline_id)
        )  # fmt: skip
        settled = SettlementRow.__table__.c
        forecasts = (
            select(ForecastRow.group_id, ForecastRow.id, ForecastRow.k, ForecastRow.text, *settled)
            .join(GroupRow, GroupRow.id == ForecastRow.group_id)
            .outerjoin(
                SettlementRow,
                and_(
                    SettlementRow.forecast_id == ForecastRow.id,
                    SettlementRow.reward_version == reward_version,
                ),
            )
            .where(*chosen)
            .order_by(ForecastRow.group_id, ForecastRow.k)
        )
        found: dict[str, list[ToldForecast]] = {}
        with self._read() as session:
            rows = session.execute(forecasts).all()
            settlements = {
                row[1]: Settlement(**dict(zip(settled.keys(), row[4:], strict=True)))
                for row in rows
                if row[4] is not None
            }
            matched = sorted({s.outcome_id for s in settlements.values() if s.outcome_id})
            outcomes = {
                row.id: Headline(**_columns(row))
                for chunk in _chunks(matched)
                for row in session.scalars(select(HeadlineRow).where(HeadlineRow.id.in_(chunk)))
            }
            for group_id, forecast_id, k, text_, *_ in rows:
                settlement = settlements.get(forecast_id)
                outcome = outcomes.get(settlement.outcome_id or "") if settlement else None
                told = ToldForecast(forecast_id, k, text_, settlement, outcome)
                found.setdefault(group_id, []).append(told)
            return [
                ToldGroup(
                    group_id,
                    day,
                    Role(role),
                    Headline(**_columns(headline)),
                    version,
                    made_at,
                    tuple(found.get(group_id, ())),
                )
                for group_id, role, version, made_at, headline in session.execute(groups)
            ]

    def unsettled_days(
        self, run: str, *, before: str, roles: Iterable[Role], reward_version: str
    ) -> list[str]:
        """Days before `before` with groups that no settlement names yet, oldest first."""
        settled = select(SettlementRow.group_id).where(
            SettlementRow.reward_version == reward_version,
            SettlementRow.group_id == GroupRow.id,
        )
        query = (
            select(GroupRow.day)
            .where(
                GroupRow.run == run,
                GroupRow.day < before,
                GroupRow.role.in_([str(role) for role in roles]),
                ~settled.exists(),
            )
            .distinct()
            .order_by(GroupRow.day)
        )
        with self._read() as session:
            return list(session.scalars(query))

    def settlements(self, run: str, *, day: str) -> list[tuple[Settlement, Group]]:
        """What a day settled, each with its group (whose forecasts are filled)."""
        query = (
            select(*_in_order_of(Settlement, SettlementRow))
            .join(GroupRow, GroupRow.id == SettlementRow.group_id)
            .join(ForecastRow, ForecastRow.id == SettlementRow.forecast_id)
            .where(GroupRow.run == run, SettlementRow.day == day)
            .order_by(GroupRow.role, GroupRow.headline_id, ForecastRow.k)
        )
        with self._read() as session:
            found = [Settlement(*row) for row in session.execute(query)]
            groups = {
                group.id: group
                for ids in _chunks(sorted({s.group_id for s in found}))
                for group in _groups_of(session, _OF_GROUPS.where(GroupRow.id.in_(ids)))
            }
            return [(s, groups[s.group_id]) for s in found]

    def settled_rewards(
        self, run: str, *, after: str = "", until: str
    ) -> dict[str, list[tuple[str, str, float]]]:
        """Day that settled → (role, headline, reward) of its forecasts with a semantic reward, of
        the days after one, up to and with another."""
        query = (
            select(SettlementRow.day, GroupRow.role, GroupRow.headline_id, SettlementRow.reward)
            .join(GroupRow, GroupRow.id == SettlementRow.group_id)
            .where(
                GroupRow.run == run,
                SettlementRow.day > after,
                SettlementRow.day <= until,
                SettlementRow.reward.is_not(None),
                cast(SettlementRow.components, String).like('%"semantic"%'),
            )
            .order_by(SettlementRow.day, GroupRow.role, SettlementRow.forecast_id)
        )
        found: dict[str, list[tuple[str, str, float]]] = {}
        with self._read() as session:
            for day, role, headline, reward in session.execute(query):
                found.setdefault(day, []).append((role, headline, float(reward or 0.0)))
        return found

    def feed_reads(self, run: str, day: str) -> list[FeedRead]:
        """What came of each feed in a day, by the feed's name."""
        query = select(FeedReadRow).where(FeedReadRow.run == run, FeedReadRow.day == day)
        with self._read() as session:
            rows = session.scalars(query.order_by(FeedReadRow.feed, FeedReadRow.url))
            return [FeedRead(**_columns(row)) for row in rows]

    def newest_feed_news(self, run: str, *, until: str) -> dict[str, str]:
        """Feed's address → the newest day, up to one, on which it brought a new headline."""
        query = (
            select(FeedReadRow.url, func.max(FeedReadRow.day))
            .where(FeedReadRow.run == run, FeedReadRow.day <= until, FeedReadRow.n_new > 0)
            .group_by(FeedReadRow.url)
        )
        with self._read() as session:
            return {url: day for url, day in session.execute(query)}

    def scores(self, run: str) -> list[tuple[Settlement, Group]]:
        """What all days settled, oldest first, each with its group, whose forecasts are left out:
        what they earned, without the texts, which are most of the ledger."""
        query = (
            select(*_in_order_of(Settlement, SettlementRow))
            .join(GroupRow, GroupRow.id == SettlementRow.group_id)
            .where(GroupRow.run == run)
            .order_by(SettlementRow.day, GroupRow.role, GroupRow.headline_id)
        )
        of_run = _OF_GROUPS.where(GroupRow.run == run)
        with self._read() as session:
            groups = {row[0]: _to_group(row, ()) for row in session.execute(of_run)}
            found = [Settlement(*row) for row in session.execute(query)]
            return [(settlement, groups[settlement.group_id]) for settlement in found]

    def settled_groups(self, run: str, *, day: str, role: Role) -> list[SettledGroup]:
        """Groups of one role that a day settled, without the void ones: the update's food."""
        settled = self.settlements(run, day=day)
        groups = {group.id: group for _, group in settled}
        return settled_groups(list(groups.values()), [s for s, _ in settled], role)

    def advantages(self, run: str, *, day: str) -> dict[str, AdvantageInfo]:
        """What a day's update made of rewards, by forecast."""
        query = select(*_in_order_of(AdvantageInfo, AdvantageRow)).where(
            AdvantageRow.run == run, AdvantageRow.day == day
        )
        with self._read() as session:
            found = [AdvantageInfo(*row) for row in session.execute(query)]
        # Sorted here: SQLite would go through the whole run by its key to have them in order.
        return {a.forecast_id: a for a in sorted(found, key=lambda a: a.forecast_id)}

    def forecast(self, forecast_id: str) -> tuple[Forecast, Group, list[Settlement]] | None:
        """One forecast by its id or an unambiguous beginning of it."""
        with self._read() as session:
            rows = session.scalars(
                select(ForecastRow).where(ForecastRow.id.startswith(forecast_id)).limit(2)
            ).all()
            if len(rows) != 1:
                return None
            (group,) = _groups_of(session, _OF_GROUPS.where(GroupRow.id == rows[0].group_id))
            settlements = session.execute(
                select(*_in_order_of(Settlement, SettlementRow))
                .where(SettlementRow.forecast_id == rows[0].id)
                .order_by(SettlementRow.reward_version)
            )
            return (
                Forecast(**_columns(rows[0])),
                group,
                [Settlement(*row) for row in settlements],
            )

    def update(self, run: str, day: str) -> UpdateInfo | None:
        with self._read() as session:
            row = session.get(UpdateRow, (run, day))
            return None if row is None else UpdateInfo(**_columns(row))

    def updates(self, run: str) -> list[UpdateInfo]:
        """Of all days, oldest first."""
        query = select(UpdateRow).where(UpdateRow.run == run).order_by(UpdateRow.day)
        with self._read() as session:
            return [UpdateInfo(**_columns(row)) for row in session.scalars(query)]

    def evaluations(self, run: str, *, until: str | None = None) -> list[EvaluationInfo]:
        query = select(EvaluationRow).where(EvaluationRow.run == run)
        if until is not None:
            query = query.where(EvaluationRow.day <= until)
        with self._read() as session:
            rows = session.scalars(query.order_by(EvaluationRow.day))
            return [EvaluationInfo(**_columns(row)) for row in rows]

    def checkpoint(
        self, run: str, version: int | None = None, *, until: str | None = None
    ) -> CheckpointInfo | None:
        """One version, or the newest (of days up to `until`)."""
        query = select(CheckpointRow).where(CheckpointRow.run == run)
        if version is not None:
            query = query.where(CheckpointRow.version == version)
        if until is not None:
            query = query.where(CheckpointRow.day <= until)
        with self._read() as session:
            row = session.scalars(query.order_by(CheckpointRow.version.desc()).limit(1)).first()
            return None if row is None else CheckpointInfo(**_columns(row))

    def checkpoints(self, run: str) -> list[CheckpointInfo]:
        """All versions that were ever published, oldest first; the folders of some may be gone."""
        query = select(CheckpointRow).where(CheckpointRow.run == run)
        with self._read() as session:
            rows = session.scalars(query.order_by(CheckpointRow.version))
            return [CheckpointInfo(**_columns(row)) for row in rows]

    def rollbacks(self, run: str) -> list[CheckpointInfo]:
        """Versions that no update made: each has its parent's weights again. Oldest first."""
        trained = select(UpdateRow.to_version).where(
            UpdateRow.run == run, UpdateRow.to_version == CheckpointRow.version
        )
        query = select(CheckpointRow).where(
            CheckpointRow.run == run, CheckpointRow.parent.is_not(None), ~trained.exists()
        )
        with self._read() as session:
            rows = session.scalars(query.order_by(CheckpointRow.version))
            return [CheckpointInfo(**_columns(row)) for row in rows]

    def reference_version(self, run: str) -> int | None:
        """The version that last became its own reference; None while that is the frozen base."""
        query = (
            select(UpdateRow.to_version)
            .where(UpdateRow.run == run, UpdateRow.metrics["reference_reset"].as_boolean())
            .order_by(UpdateRow.to_version.desc())
            .limit(1)
        )
        with self._read() as session:
            return session.scalar(query)

    def counts(self, run: str) -> dict[str, int]:
        """How many rows of each kind a run has, for `varro status`."""
        of_run = GroupRow.run == run
        with self._read() as session:

            def count(query: Any) -> int:
                return int(session.scalar(query) or 0)

            return {
                "groups": count(select(func.count()).select_from(GroupRow).where(of_run)),
                "forecasts": count(
                    select(func.count())
                    .select_from(ForecastRow)
                    .join(GroupRow, GroupRow.id == ForecastRow.group_id)
                    .where(of_run)
                ),
                "settlements": count(
                    select(func.count())
                    .select_from(SettlementRow)
                    .join(GroupRow, and_(GroupRow.id == SettlementRow.group_id, of_run))
                ),
                "updates": count(
                    select(func.count()).select_from(UpdateRow).where(UpdateRow.run == run)
                ),
                "checkpoints": count(
                    select(func.count()).select_from(CheckpointRow).where(CheckpointRow.run == run)
                ),
            }

    # -- as a whole

    def stream(self, query: Any) -> Iterator[Any]:
        """The rows of a query of this room as of one moment, a few hundred at a time."""
        with self._read() as session:
            yield from session.execute(query.execution_options(yield_per=500))

    def copy_to(self, place: Place) -> None:
        """A copy of the whole ledger as of one moment, while others read and write.

        From SQLite to SQLite a copy of the file, else of the rows but leases and home, each
        compared with its original before they are committed: a copy that was made before is no
        obstacle.
        Raises: LedgerError for a ledger that cannot be copied, or a place that holds other rows.
        """
        if isinstance(place, str) or self._engine.dialect.name != "sqlite":
            with open_ledger(place) as target:
                self._copy_rows(target)
            return
        source: Any = self._engine.raw_connection()
        try:
            with closing(sqlite3.connect(place)) as file:
                source.driver_connection.backup(file)
        except sqlite3.Error as error:
            raise _refusal(f"cannot copy the ledger to {place}", error) from error
        finally:
            source.close()

    def _copy_rows(self, target: Ledger) -> None:
        with self._read() as mine, target._session(writes=True) as theirs:
            for table in Base.metadata.sorted_tables:
                if table.name in (LeaseRow.__tablename__, HomeRow.__tablename__):
                    continue
                with mine.execute(_in_order(table)) as found:
                    for chunk in found.mappings().partitions():
                        target._append(theirs, table, [dict(row) for row in chunk])
                stored = _in_order(table, raw=True)
                with mine.execute(stored) as found, theirs.execute(stored) as copied:
                    if any(a != b for a, b in zip_longest(found, copied)):
                        raise LedgerError(
                            f"{target._name} has rows of its own in {table.name!r}; nothing was "
                            "written there, name an empty database"
                        )

    def refuse_unsound(self) -> None:
        """Read every page and every reference between tables of a SQLite file; a Postgres server
        sees to its own.

        Raises: LedgerError naming what SQLite found.
        """
        with self._read() as session:
            found = [str(row[0]) for row in session.execute(text("PRAGMA integrity_check"))]
            broken = session.execute(text("PRAGMA foreign_key_check")).all()
        if found != ["ok"] or broken:
            raise LedgerError(f"{self._name} is damaged: {[*found, *broken][:3]}")

    # -- transactions

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with self._session(writes=True) as session:
            self._refuse_stale(session)
            yield session

    def _refuse_stale(self, session: Session) -> None:
        if self._lease is None:
            return
        run, number = self._lease
        newest = session.get(LeaseRow, run)
        if newest is None or newest.number != number:
            told = "nobody" if newest is None else newest.holder
            raise StaleLeaseError(
                f"run {run!r} was taken over by {told} while this process was stopped; nothing "
                "more was written, what was finished before stays"
            )

    @contextmanager
    def _read(self) -> Iterator[Session]:
        with self._session(writes=False) as session:
            yield session

    @contextmanager
    def _session(self, *, writes: bool) -> Iterator[Session]:
        engine = self._engine.execution_options(varro_writes=writes)
        try:
            with Session(engine, expire_on_commit=False) as session, session.begin():
                session.connection()  # begins now, so that a writer holds its lock from the start
                yield session
        except SQLAlchemyError as error:
            raise _refusal(self._name, error) from error

    def _append(
        self, session: Session, table: type[Base] | Table, rows: Sequence[dict[str, Any]]
    ) -> None:
        if not rows:
            return
        # Only a known key is passed over; any other violated constraint is an error.
        dialect = sqlite if self._engine.dialect.name == "sqlite" else postgresql
        session.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))


def open_ledger_of(config: Config) -> Ledger:
    """The ledger of a configuration.

    Raises: LedgerError if it belongs to another home, of which nothing is then touched; else as
    `open_ledger`.
    """
    place = ledger_place(config)
    if isinstance(place, str):
        refuse_other_home(place, config.home)
    return open_ledger(place)


def open_ledger(place: Place, *, busy_s: float = 30.0) -> Ledger:
    """The ledger in a SQLite file or a Postgres database, created or migrated as needed. Each of
    its transactions waits up to `busy_s` for another process's.

    Raises: LedgerError for a newer schema, a database that is not a ledger, one that others do not
    let go of, a folder that cannot be written, or a server that does not answer; DiskError for a
    full or failing disk; a failed migration leaves the database as it was.
    """
    engine = (
        _set_up_postgres(place, busy_s) if isinstance(place, str) else _set_up_sqlite(place, busy_s)
    )
    try:
        _migrate(engine, in_words(place))
    except BaseException:
        engine.dispose()
        raise
    return Ledger(engine, place)


def _set_up_sqlite(path: Path, busy_s: float) -> Engine:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"cannot make the ledger's folder {path.parent}: {error}") from error
    engine = create_engine(URL.create("sqlite", database=str(path)))

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, record: Any) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {round(busy_s * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        # To the platter on macOS, where fsync only reaches the drive's cache; elsewhere no effect.
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
        _keep_wal(connection, busy_s)

    @event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if _writes(connection) else "BEGIN")

    return engine


def _keep_wal(connection: sqlite3.Connection, busy_s: float) -> None:
    """Let the file's journal be a write-ahead log.

    SQLite reads a new file before it changes its journal, and then does not wait for another that
    is about to: two that make a ledger at once would wait for each other.
    """
    give_up = time.monotonic() + busy_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > give_up:
                raise
        time.sleep(0.02)


def _set_up_postgres(url: str, busy_s: float) -> Engine:
    refuse_missing_psycopg(url)
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect_postgres(url, busy_s=busy_s),
        # Hours of training lie between two transactions, and the server may be another by then.
        pool_pre_ping=True,
    )

    @event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:
        if _writes(connection):
            # What is read after the lock must be what its last holder has committed.
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE")
            connection.exec_driver_sql(
                f"SELECT pg_advisory_xact_lock({_WRITERS}, hashtext(current_schema()))"
            )
        else:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    return engine


def _writes(connection: Any) -> bool:
    return bool(connection.get_execution_options().get("varro_writes", False))


def _migrate(engine: Engine, name: str) -> None:
    try:
        with engine.connect() as connection:
            tables = set(inspect(connection).get_table_names())
            revision = None
            if "alembic_version" in tables:
                revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
            elif tables:
                raise LedgerError(
                    f"{name} is a database, but not a Varro ledger; name another home or database"
                )
            elif engine.dialect.name == "postgresql":
                _refuse_encoding(connection.scalar(text("SHOW server_encoding")), name)
    except DBAPIError as error:
        raise _refusal(f"cannot open the ledger {name}", error) from error
    if revision == HEAD_REVISION:
        return
    if revision is not None and revision > HEAD_REVISION:
        raise LedgerError(
            f"{name} has schema {revision}, newer than {HEAD_REVISION} which this Varro knows; "
            "upgrade Varro, or name another home or database"
        )
    _upgrade(engine, name)


def _refuse_encoding(encoding: str, name: str) -> None:
    if encoding != "UTF8":
        raise LedgerError(
            f"{name} is a database in {encoding}, which has no room for all headlines; make one "
            "with ENCODING 'UTF8'"
        )


def _upgrade(engine: Engine, name: str) -> None:
    from alembic import command
    from alembic.config import Config as AlembicConfig
    from alembic.util import CommandError

    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    try:
        with engine.execution_options(varro_writes=True).begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except (DBAPIError, CommandError) as error:
        raise _refusal(f"cannot migrate the ledger {name}", error) from error


def _refusal(doing: str, error: Exception) -> VarroError:
    """What the database says, as an error that says what to do."""
    cause = getattr(error, "orig", None) or error
    # Extended codes have the plain one in their low byte.
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    state = getattr(cause, "sqlstate", None)
    said = in_one_line(cause)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or state == _LOCK_NOT_AVAILABLE:
        return LedgerError(
            f"{doing}: another process has not let go of it in time; wait for it, or end it, and "
            "run it again, what was finished stays"
        )
    if code in _OF_THE_DISK or state in _OF_THE_SERVERS_DISK:
        return DiskError(f"{doing}: {said}; mend that and run it again, what was finished stays")
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return LedgerError(
            f"{doing}: the server is gone: {said}; run it again when it answers, what was finished "
            "stays"
        )
    return LedgerError(f"{doing}: {said}")


def _in_order(table: Table, *, raw: bool = False) -> Any:
    """All rows of a table by key, a few hundred at a time; `raw` as they lie in the database."""
    stored = [
        type_coerce(c, getattr(c.type, "impl_instance", c.type)) if raw else c for c in table.c
    ]
    query = select(*stored).order_by(*table.primary_key)
    return query.execution_options(yield_per=500)


def _newest_reads(
    session: Session,
    table: type[FeedReadRow] | type[FeedTryRow],
    urls: Sequence[str],
    statuses: Collection[str] | None,
    until: datetime | None,
) -> Iterator[FeedRead]:
    among: list[ColumnElement[bool]] = [table.url.in_(urls)]
    if statuses is not None:
        among.append(table.status.in_(statuses))
    if until is not None:
        among.append(table.as_of <= until)
    newest = (
        select(table.url, func.max(table.as_of).label("as_of"))
        .where(*among)
        .group_by(table.url)
        .subquery()
    )
    same = and_(table.url == newest.c.url, table.as_of == newest.c.as_of, *among)
    for row in session.scalars(select(table).join(newest, same)):
        yield FeedRead(**_columns(row))


def _refuse_moved_headlines(session: Session, headlines: Sequence[Headline]) -> None:
    new = {h.id: h for h in headlines}
    for chunk in _chunks(list(new)):
        rows = session.execute(
            select(HeadlineRow.id, HeadlineRow.first_seen).where(HeadlineRow.id.in_(chunk))
        )
        for known_id, first_seen in rows:
            headline = new[known_id]
            # Live feeds show an item again every day: the first sight stands. A dated archive
            # that says otherwise than the ledger is another archive under the same name.
            if headline.corpus != "live" and first_seen != headline.first_seen:
                raise LedgerError(
                    f"headline {headline.title!r} of corpus {headline.corpus!r} was first seen "
                    f"{first_seen.astimezone(UTC).isoformat()} in the ledger and "
                    f"{headline.first_seen.isoformat()} in the archive; use another --home for "
                    "another archive of the same name"
                )


def _fields(value: Any) -> dict[str, Any]:
    """Shallow field dict of a slotted dataclass; enums become their text."""
    fields = {name: getattr(value, name) for name in type(value).__dataclass_fields__}
    if "stage" in fields:
        fields["stage"] = str(fields["stage"])
    return fields


def _group_fields(group: Group) -> dict[str, Any]:
    fields = _fields(group)
    del fields["forecasts"]
    fields["headline_id"] = fields.pop("headline").id
    fields["role"] = str(group.role)
    return fields


def _columns(row: Base) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in row.__table__.columns}


def _in_order_of(kind: Any, table: type[Base]) -> list[Column[Any]]:
    """A table's columns as a dataclass takes them: `kind(*row)`. Rows of columns cost less than
    mapped objects, and a year of reports reads a few hundred thousand."""
    return [table.__table__.c[name] for name in kind.__dataclass_fields__]


_GROUP = ("id", "run", "day", "policy_version", "made_at", "prompt_version", "prompt_ids", "role")
_OF_GROUPS = select(
    *(GroupRow.__table__.c[name] for name in _GROUP), *_in_order_of(Headline, HeadlineRow)
).join(HeadlineRow, HeadlineRow.id == GroupRow.headline_id)


def _groups_of(session: Session, query: Select[Any]) -> list[Group]:
    """The groups of an `_OF_GROUPS` query, with their forecasts."""
    rows = session.execute(query).all()
    forecasts = _forecasts_of(session, [row[0] for row in rows])
    return [_to_group(row, forecasts[row[0]]) for row in rows]


def _to_group(row: Row[Any], forecasts: tuple[Forecast, ...]) -> Group:
    """A row of `_OF_GROUPS`."""
    fields = dict(zip(_GROUP, row, strict=False))
    fields["role"] = Role(fields["role"])
    return Group(**fields, headline=Headline(*row[len(_GROUP) :]), forecasts=forecasts)


def _forecasts_of(session: Session, group_ids: Sequence[str]) -> dict[str, tuple[Forecast, ...]]:
    found: dict[str, list[Forecast]] = {group_id: [] for group_id in group_ids}
    columns = _in_order_of(Forecast, ForecastRow)
    for chunk in _chunks(group_ids):
        query = select(*columns).where(ForecastRow.group_id.in_(chunk)).order_by(ForecastRow.k)
        for forecast in [Forecast(*row) for row in session.execute(query)]:
            found[forecast.group_id].append(forecast)
    return {group_id: tuple(forecasts) for group_id, forecasts in found.items()}


def _chunks(values: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
