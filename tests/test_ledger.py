"""The ledger: appended, never edited, complete or not at all."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from conftest import ledger_at, of_sqlite, raw_sql
from sqlalchemy import event

from varro.domain import (
    GOOD_READS,
    AdvantageInfo,
    CheckpointInfo,
    FeedRead,
    Forecast,
    Group,
    Headline,
    Role,
    RunInfo,
    Settlement,
    Stage,
    StageRun,
    UpdateInfo,
    headline_id,
)
from varro.errors import DiskError, LedgerError
from varro.ledger.glance import runs_at
from varro.ledger.place import in_words
from varro.ledger.store import open_ledger

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
RUN = RunInfo("main", 0, "world", "hash", {"update.lr": 1e-5}, "0")


def headline(title="Norvik rises", first_seen=NOON):
    return Headline(
        headline_id("world", "f", title, title),
        "world",
        "f",
        "s",
        title,
        title,
        "",
        None,
        first_seen,
    )


def group_of(headline, role=Role.TRAIN, day="2026-01-05"):
    group_id = f"g-{role}-{headline.id}"
    forecasts = tuple(
        Forecast(
            f"{group_id}-{k}", group_id, k, (3, 1, 2 + k), np.float32([-0.1, -2.5, -1e-7]), f"t{k}",
            "stop", 2**62 + k, np.float32([0.3, 1 / 3, 1e-9]),
        )
        for k in range(2)
    )  # fmt: skip
    return Group(group_id, "main", day, role, headline, 4, NOON, "p-1", (9, 8, 7), forecasts)


def stage(name=Stage.FORECAST, day="2026-01-05"):
    return StageRun("main", day, name, NOON, 0.5, {"n": 1})


@pytest.fixture
def ledger(tmp_path):
    with open_ledger(ledger_at(tmp_path)) as ledger:
        ledger.add_run(RUN)
        yield ledger


def test_a_group_comes_back_exactly_as_it_was_sampled(ledger):
    """Catches re-tokenised text and log-probs rounded on the way through the database."""
    group = group_of(headline())
    ledger.finish_stage(stage(), headlines=[group.headline], groups=[group])
    (found,) = ledger.groups("main", day="2026-01-05", roles=[Role.TRAIN])
    assert replace(found, forecasts=()) == replace(group, forecasts=())
    for mine, theirs in zip(group.forecasts, found.forecasts, strict=True):
        assert mine.token_ids == theirs.token_ids
        assert mine.seed == theirs.seed
        np.testing.assert_array_equal(mine.sampler_logprobs, theirs.sampler_logprobs)
        np.testing.assert_array_equal(mine.sampler_entropies, theirs.sampler_entropies)


def test_finishing_a_stage_twice_changes_nothing(ledger):
    """Catches doubled rows after a crash between commit and acknowledgement."""
    group = group_of(headline())
    for _ in range(2):
        ledger.finish_stage(stage(), headlines=[group.headline], groups=[group])
    assert ledger.counts("main")["groups"] == 1
    assert ledger.counts("main")["forecasts"] == 2
    assert len(ledger.stage_runs("main")) == 1


def test_a_stage_that_fails_leaves_no_trace(ledger):
    """Catches half a stage: forecasts whose headline is unknown must take the stage row along."""
    with pytest.raises(LedgerError):
        ledger.finish_stage(stage(), groups=[group_of(headline("never ingested"))])
    assert ledger.stage_runs("main") == []
    assert ledger.counts("main")["groups"] == 0


def test_the_clock_bounds_are_after_and_until(ledger):
    """Catches look-ahead by one instant."""
    times = [NOON, NOON + timedelta(microseconds=1), NOON + timedelta(hours=1)]
    items = [headline(f"t{i}", t) for i, t in enumerate(times)]
    ledger.finish_stage(stage(Stage.INGEST), headlines=items)
    found = ledger.headlines_between("world", after=times[0], until=times[1])
    assert [h.title for h in found] == ["t1"]
    assert ledger.headlines_between("elsewhere", after=None, until=times[2]) == []


def test_a_headline_seen_again_at_another_time_is_refused(ledger):
    """Catches two archives of one name mixed in one ledger (the shuffled world over the real)."""
    ledger.finish_stage(stage(Stage.INGEST), headlines=[headline()])
    moved = headline(first_seen=NOON + timedelta(days=1))
    with pytest.raises(LedgerError, match=r"first seen .* in the ledger"):
        ledger.finish_stage(stage(Stage.INGEST, "2026-01-06"), headlines=[moved])


def test_only_wholly_scored_groups_train(ledger):
    """Catches a void forecast read as reward 0, and held-out groups in the update."""
    groups = [
        group_of(headline("a")),
        group_of(headline("b")),
        group_of(headline("c"), Role.HELDOUT),
    ]
    ledger.finish_stage(stage(), headlines=[g.headline for g in groups], groups=groups)
    settlements = [
        Settlement(f.id, g.id, "2026-01-06", "r-1", None if (g.id, k) == (groups[1].id, 0) else 0.5)
        for g in groups
        for k, f in enumerate(g.forecasts)
    ]
    ledger.finish_stage(stage(Stage.SETTLE, "2026-01-06"), settlements=settlements)
    settled = ledger.settled_groups("main", day="2026-01-06", role=Role.TRAIN)
    assert [s.group.id for s in settled] == [groups[0].id]
    assert [s.reward for s in settled[0].settlements] == [0.5, 0.5]
    assert [s.forecast_id for s in settled[0].settlements] == [f.id for f in groups[0].forecasts]


def test_a_settlement_comes_back_with_all_it_says(ledger):
    """Catches a component, or the reason why a text is invalid, lost on the way to the trainer."""
    group = group_of(headline())
    ledger.finish_stage(stage(), headlines=[group.headline], groups=[group])
    parts = {"format": 0.25, "semantic": 1 / 3, "valid": 0.0}
    settlements = [
        Settlement(
            f.id, group.id, "2026-01-06", "r-1", 0.0, parts, group.headline.id, None, "too short"
        )
        for f in group.forecasts
    ]
    ledger.finish_stage(stage(Stage.SETTLE, "2026-01-06"), settlements=settlements)
    (found,) = ledger.settled_groups("main", day="2026-01-06", role=Role.TRAIN)
    assert found.settlements == tuple(settlements)


def test_scores_are_what_all_days_settled_without_the_texts(ledger):
    """Catches another run's scores, a day that is missing, and order by chance."""
    groups = [group_of(headline()), group_of(headline(), Role.HELDOUT, "2026-01-06")]
    ledger.finish_stage(stage(), headlines=[headline()], groups=groups)
    for day, group in (("2026-01-07", groups[1]), ("2026-01-06", groups[0])):
        ledger.finish_stage(
            stage(Stage.SETTLE, day),
            settlements=[
                Settlement(f.id, group.id, day, "r-1", 0.5, {"format": 0.25})
                for f in group.forecasts
            ],
        )
    found = ledger.scores("main")
    assert [(s.day, g.role) for s, g in found] == [
        *[("2026-01-06", Role.TRAIN)] * 2, *[("2026-01-07", Role.HELDOUT)] * 2,
    ]  # fmt: skip
    assert found[0][1] == replace(groups[0], forecasts=())
    assert ledger.scores("other") == []


def test_an_advantage_is_kept_once_for_each_run_and_forecast(ledger):
    """Catches advantages of another day or run, or the same ones twice after a crash."""
    group = group_of(headline())
    ledger.finish_stage(stage(), headlines=[group.headline], groups=[group])
    made = [
        AdvantageInfo("main", f.id, "2026-01-06", 1 / 3 - k, {"format": 1 / 3, "semantic": -k})
        for k, f in enumerate(group.forecasts)
    ]
    for _ in range(2):
        ledger.finish_stage(stage(Stage.UPDATE, "2026-01-06"), advantages=made)
    assert ledger.advantages("main", day="2026-01-06") == {a.forecast_id: a for a in made}
    assert ledger.advantages("main", day="2026-01-05") == {}
    assert ledger.advantages("other", day="2026-01-06") == {}


def test_embeddings_come_back_to_the_last_bit(ledger):
    """Catches vectors that are rounded, mixed up, or overwritten by a second encoding."""
    vectors = {f"key-{i}": np.float32([1 / 3, -i, 1e-30]) for i in range(1200)}
    ledger.keep_embeddings(vectors)
    ledger.keep_embeddings({"key-7": np.zeros(3, np.float32)})
    found = ledger.embeddings([*vectors, "unknown"])
    assert found.keys() == vectors.keys()
    for key, vector in vectors.items():
        np.testing.assert_array_equal(found[key], vector)


def read_of(url, day, **facts):
    as_of = datetime.fromisoformat(f"{day}T07:00:00+00:00")
    known = dict(status="ok", reason="", http_status=200, etag='"a"', last_modified="Mon",
                 body_sha256="ab", n_entries=9, n_untitled=1, n_new=3, n_failures=0,
                 next_at=None, moved_to=None, seconds=0.25)  # fmt: skip
    return FeedRead(run="main", day=day, url=url, as_of=as_of, feed="f", **(known | facts))


def test_the_newest_read_of_a_feed_is_its_state(ledger):
    """Catches a validator of last week sent again, a feed that rests on an old failure's word, and
    one read that is stored under another day."""
    a, b, c = "https://a.org/", "https://b.org/", "https://c.org/"
    rest = NOON + timedelta(hours=3)
    reads = {
        "2026-01-05": [read_of(a, "2026-01-05"), read_of(b, "2026-01-05", etag="")],
        "2026-01-06": [
            read_of(a, "2026-01-06", status="failed", reason="gone", http_status=410,
                    n_failures=1, next_at=rest, moved_to="https://new.org/"),
            read_of(b, "2026-01-06", status="unchanged", http_status=304),
        ],
    }  # fmt: skip
    for day, rows in reversed(reads.items()):
        ledger.finish_stage(stage(Stage.INGEST, day), feed_reads=rows)
        ledger.finish_stage(stage(Stage.INGEST, day), feed_reads=rows)
    second = {read.url: read for read in reads["2026-01-06"]}
    assert ledger.newest_feed_reads([a, b, c]) == second
    assert ledger.newest_feed_reads([b]) == {b: second[b]}
    assert ledger.newest_feed_reads([a, b], statuses=GOOD_READS) == {
        a: reads["2026-01-05"][0],
        b: second[b],
    }


def test_what_was_heard_in_a_cycle_that_is_not_run_counts_like_a_read(tmp_path):
    """Catches a server's word that is lost with its cycle, one that outlives a newer one, one heard
    under a clock that was wrong, and a run that is begun by it."""
    a, b = "https://a.org/", "https://b.org/"
    with open_ledger(ledger_at(tmp_path)) as ledger:
        tries = [read_of(a, "2026-01-05", n_failures=1), read_of(b, "2026-01-05", status="failed")]
        ledger.add_feed_tries(tries)
        ledger.add_feed_tries(tries)
        assert ledger.newest_feed_reads([a, b]) == {read.url: read for read in tries}
        assert ledger.newest_feed_reads([a, b], statuses=GOOD_READS) == {a: tries[0]}
        assert ledger.runs() == [] and ledger.stage_runs("main") == []
        ledger.add_run(RUN)
        same_clock, later = read_of(a, "2026-01-05", n_new=7), read_of(b, "2026-01-07")
        ledger.finish_stage(stage(Stage.INGEST), feed_reads=[same_clock])
        ledger.finish_stage(stage(Stage.INGEST, "2026-01-07"), feed_reads=[later])
        assert ledger.newest_feed_reads([a, b]) == {a: same_clock, b: later}
        until = later.as_of - timedelta(seconds=1)
        assert ledger.newest_feed_reads([a, b], until=until) == {a: same_clock, b: tries[1]}


def test_feed_reads_are_committed_with_their_stage_or_not_at_all(ledger):
    """Catches a feed that is "unchanged" since a body whose headlines were lost in a crash."""
    read = read_of("https://a.org/", "2026-01-05")
    with pytest.raises(LedgerError):
        ledger.finish_stage(
            stage(Stage.INGEST), feed_reads=[read], groups=[group_of(headline("never ingested"))]
        )
    assert ledger.newest_feed_reads([read.url]) == {}


def test_titles_are_asked_by_feed_and_clock(ledger):
    """Catches one feed's title hiding another's, and a bound that looks ahead."""
    times = [NOON, NOON + timedelta(days=1), NOON + timedelta(days=2)]
    items = [headline(f"t{i}", t) for i, t in enumerate(times)]
    ledger.finish_stage(stage(Stage.INGEST), headlines=items)
    assert ledger.titles_between("world", after=times[0], until=times[1]) == {("f", "t1")}
    assert ledger.titles_between("live", after=times[0], until=times[1]) == set()


def test_unsettled_days_shrink_as_they_are_settled(ledger):
    """Catches a settle stage that scores a day twice, or asks for roles that nobody named."""
    groups = [group_of(headline("a")), group_of(headline("b"), Role.BASE)]
    ledger.finish_stage(stage(), headlines=[g.headline for g in groups], groups=groups)
    ask = {"before": "2026-01-06", "roles": [Role.TRAIN], "reward_version": "r-1"}
    assert ledger.unsettled_days("main", **ask) == ["2026-01-05"]
    settlements = [
        Settlement(f.id, groups[0].id, "2026-01-06", "r-1", 0.1) for f in groups[0].forecasts
    ]
    ledger.finish_stage(stage(Stage.SETTLE, "2026-01-06"), settlements=settlements)
    assert ledger.unsettled_days("main", **ask) == []
    assert ledger.unsettled_days("main", **ask | {"reward_version": "r-2"}) == ["2026-01-05"]
    assert ledger.unsettled_days("main", **ask | {"roles": [Role.BASE]}) == ["2026-01-05"]


def test_the_newest_checkpoint_is_found(ledger):
    """Catches an order by text: v10 is newer than v9."""
    for version in (9, 10):
        ledger.finish_stage(
            stage(Stage.PUBLISH, f"2026-01-{version:02d}"),
            checkpoint=CheckpointInfo("main", version, version - 1, "d", "p", "s"),
        )
    assert ledger.checkpoint("main").version == 10
    assert ledger.checkpoint("main", 9).parent == 8


@of_sqlite
def test_the_database_is_durable_and_shared(tmp_path, ledger):
    """Catches a ledger without WAL, and a writer that takes its lock too late."""
    raw = sqlite3.connect(tmp_path / "ledger.sqlite", timeout=0.1, isolation_level=None)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with ledger._write():
        assert raw.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            raw.execute("BEGIN IMMEDIATE")
    raw.close()


def test_a_newer_schema_is_refused_untouched(tmp_path):
    """Catches an old Varro writing into a ledger it does not understand."""
    place = ledger_at(tmp_path)
    open_ledger(place).close()
    raw_sql(place, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerError, match=r"schema 9999, newer than .*upgrade Varro"):
        open_ledger(place)


@pytest.mark.parametrize(
    "content",
    [pytest.param(b"not a database at all, but long enough" * 40, marks=of_sqlite), None],
)
def test_a_file_that_is_not_a_ledger_is_refused(tmp_path, content):
    """Catches tables made inside somebody else's database."""
    place = ledger_at(tmp_path)
    if content:
        place.write_bytes(content)
    else:
        raw_sql(place, "CREATE TABLE photos (id integer)")
    with pytest.raises(LedgerError, match=re.escape(in_words(place))):
        open_ledger(place)


def test_migrations_make_the_tables_the_code_declares(tmp_path):
    """Catches a column that is in the code and not in the migration."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from varro.ledger.tables import Base

    with open_ledger(ledger_at(tmp_path)) as ledger, ledger._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_ledger_of_the_first_schema_is_migrated_with_all_it_holds(tmp_path):
    """Catches a migration that loses settlements, or works on empty tables only."""
    place = ledger_at(tmp_path)
    with open_ledger(place) as ledger:
        ledger.add_run(RUN)
        group = group_of(headline())
        ledger.finish_stage(stage(), headlines=[group.headline], groups=[group])
        settlements = [
            Settlement(f.id, group.id, "2026-01-06", "r-1", 0.5, {"format": 0.25})
            for f in group.forecasts
        ]
        ledger.finish_stage(stage(Stage.SETTLE, "2026-01-06"), settlements=settlements)
    raw_sql(
        place,
        "DROP TABLE advantages",
        "DROP TABLE embeddings",
        "DROP TABLE feed_reads",
        "DROP TABLE feed_tries",
        "DROP TABLE missed_cycles",
        "DROP TABLE leases",
        "DROP TABLE homes",
        "DROP INDEX ix_settlements_day",
        "ALTER TABLE settlements DROP COLUMN invalid_reason",
        "ALTER TABLE forecasts DROP COLUMN sampler_entropies",
        "UPDATE alembic_version SET version_num = '0001'",
    )
    with open_ledger(place) as ledger:
        found = ledger.settlements("main", day="2026-01-06")
        assert [s for s, _ in found] == settlements
        assert {f.sampler_entropies for _, g in found for f in g.forecasts} == {None}
        ledger.keep_embeddings({"key": np.ones(2, np.float32)})
        ledger.finish_stage(
            stage(Stage.UPDATE, "2026-01-06"),
            advantages=[AdvantageInfo("main", group.forecasts[0].id, "2026-01-06", 1.0, {})],
        )
        assert len(ledger.advantages("main", day="2026-01-06")) == 1


@of_sqlite
def test_what_a_day_settled_is_found_by_its_day(tmp_path):
    """Catches a report that reads all settlements of a run for each of its days: a third of the
    time of a year of them."""
    place = ledger_at(tmp_path)
    with open_ledger(place) as ledger:
        asked = []
        event.listen(
            ledger._engine, "before_cursor_execute", lambda *given: asked.append(given[2:4])
        )
        ledger.settlements("main", day="2026-01-06")
        ledger.advantages("main", day="2026-01-06")
    queries = [(q, values) for q, values in asked if q.startswith("SELECT")]
    raw = sqlite3.connect(place)
    plans = [raw.execute(f"EXPLAIN QUERY PLAN {q}", values).fetchall() for q, values in queries]
    assert "ix_settlements_day" in str(plans[0])
    assert "ix_advantages_day" in str(plans[-1])


def hold(place, seconds):
    """Another process that writes in the ledger for some seconds, once it has begun to."""
    script = (
        "import time\n"
        "from pathlib import Path, PosixPath\n"
        "from varro.ledger.store import open_ledger\n"
        f"with open_ledger({place!r}) as ledger, ledger._write():\n"
        "    print('held', flush=True)\n"
        f"    time.sleep({seconds})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_ledger_that_is_held_is_waited_for(tmp_path):
    """Catches "database is locked" seen by a user whose other window is only slow."""
    place = ledger_at(tmp_path)
    with open_ledger(place) as ledger:
        ledger.add_run(RUN)
        with hold(place, 1.5) as process:
            started = time.monotonic()
            ledger.finish_stage(stage())
            assert time.monotonic() - started > 1
        assert process.returncode == 0
        assert len(ledger.stage_runs("main")) == 1


def test_a_ledger_that_is_not_let_go_of_ends_in_words(tmp_path):
    """Catches a run that waits for ever, one that gives up at once, and half a stage."""
    place = ledger_at(tmp_path)
    with open_ledger(place, busy_s=0.5) as ledger:
        ledger.add_run(RUN)
        with hold(place, 5) as process:
            started = time.monotonic()
            with pytest.raises(LedgerError, match="has not let go of it in time; wait for it"):
                ledger.finish_stage(stage())
            assert 0.4 < time.monotonic() - started < 4
            process.kill()
        assert ledger.stage_runs("main") == []
        ledger.finish_stage(stage())
    assert inspect.signature(open_ledger).parameters["busy_s"].default == 30


@of_sqlite
def test_a_full_disk_is_said_and_the_stage_left_undone(tmp_path):
    """Catches a database error that nobody can act on, and rows of half a stage. The database may
    not grow, which is what it sees of a full disk."""
    place = ledger_at(tmp_path)
    group = group_of(headline("x" * 500))
    headlines = [headline(f"{n}" * 400) for n in range(200)]
    with open_ledger(place) as ledger:
        ledger.add_run(RUN)
        with ledger._engine.connect() as connection:
            n_pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        ledger.close()

        @event.listens_for(ledger._engine, "connect")
        def on_connect(connection, record):
            connection.execute(f"PRAGMA max_page_count = {n_pages + 2}")

        with pytest.raises(DiskError, match="database or disk is full; mend that and run it again"):
            ledger.finish_stage(stage(), headlines=[group.headline, *headlines], groups=[group])
        assert ledger.stage_runs("main") == []
        assert ledger.counts("main")["groups"] == 0
    with open_ledger(place) as ledger:
        ledger.finish_stage(stage(), headlines=[group.headline, *headlines], groups=[group])
        ledger.refuse_unsound()


def test_a_copy_is_of_one_moment_and_sound(tmp_path):
    """Catches a copy of the file beside its write-ahead log, which is a ledger of last week."""
    with open_ledger(ledger_at(tmp_path)) as ledger:
        ledger.add_run(RUN)
        ledger.finish_stage(stage())
        ledger.copy_to(tmp_path / "copy.sqlite")
        ledger.finish_stage(stage(day="2026-01-06"))
    with open_ledger(tmp_path / "copy.sqlite") as copied:
        copied.refuse_unsound()
        assert [s.day for s in copied.stage_runs("main")] == ["2026-01-05"]


@of_sqlite
def test_an_unsound_ledger_is_refused(tmp_path):
    """Catches a backup whose pages are broken, or whose forecasts have lost their group."""
    place = ledger_at(tmp_path)
    group = group_of(headline())
    with open_ledger(place) as ledger:
        ledger.add_run(RUN)
        ledger.finish_stage(stage(), headlines=[group.headline], groups=[group])
        ledger.refuse_unsound()
    raw_sql(place, "DELETE FROM groups")
    with open_ledger(place) as ledger, pytest.raises(LedgerError, match="is damaged"):
        ledger.refuse_unsound()


def test_a_version_that_no_update_made_is_a_rollback(ledger):
    """Catches a rollback that reads as training, and version 0 taken for one."""
    made = [(0, None), (1, 0), (2, 1), (3, 1)]
    for version, parent in made:
        ledger.add_checkpoint(CheckpointInfo("main", version, parent, "2026-01-05", "p", "s"))
    for version in (1, 2):
        update = UpdateInfo("main", f"2026-01-0{version}", version - 1, version,
                            {"reference_reset": version == 1})  # fmt: skip
        ledger.finish_stage(stage(Stage.UPDATE, f"2026-01-0{version}"), update=update)
    assert [(c.version, c.parent) for c in ledger.rollbacks("main")] == [(3, 1)]
    assert [(c.version, c.parent) for c in ledger.checkpoints("main")] == made
    assert ledger.reference_version("main") == 1
    assert ledger.reference_version("other") is None


def test_text_sorts_by_its_code_points(ledger):
    """Catches days, ids and clocks in the order of somebody's language, in which case and marks
    count little: another order of rollouts in each database."""
    ids = ["a", "B", "_c", "Z-1", "z1", "é", "10", "9", "ä-", "A b"]
    items = [replace(headline(i), id=i) for i in ids]
    ledger.finish_stage(stage(Stage.INGEST), headlines=items)
    found = ledger.headlines_between("world", after=None, until=NOON)
    assert [h.id for h in found] == sorted(ids)
    days = ["2026-01-05", "2026-01-05T0630", "2026-01-05T0630b", "2026-01-05_", "2026-01-06"]
    for day in reversed(days):
        ledger.finish_stage(stage(Stage.REPORT, day))
    assert ledger.days_done("main") == sorted(days)
    assert ledger.newest_day("main") == max(days)


def test_any_text_is_kept_and_a_nul_is_kept_as_a_sign_that_it_was_there(ledger):
    """Catches a day that one odd token of the policy ends, in a database that knows no NUL; and
    texts that differ by the database they lie in."""
    texts = ["a\0b", "\0", "\u202e \U0001f4c8 \x01 \ufffd", "'; DROP TABLE groups; -- % :x %(y)s"]
    group = group_of(headline())
    group = replace(
        group,
        forecasts=tuple(
            replace(group.forecasts[0], id=f"f{k}", k=k, text=text) for k, text in enumerate(texts)
        ),
    )
    row = replace(stage(), detail={"said": "\0 %", "n": 1e-300})
    ledger.finish_stage(row, headlines=[group.headline], groups=[group])
    (found,) = ledger.groups("main", day="2026-01-05", roles=[Role.TRAIN])
    assert [f.text for f in found.forecasts] == ["a\ufffdb", "\ufffd", *texts[2:]]
    assert ledger.stage_run("main", "2026-01-05", Stage.FORECAST) == row


def at_once(n, place, code):
    """What each of some processes prints that run code with the same ledger at the same time."""
    script = (
        "import sys\n"
        "from pathlib import Path, PosixPath\n"
        "from varro.ledger.store import open_ledger\n"
        f"place = {place!r}\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        f"{code}\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", script], **pipes) for _ in range(n)]
    assert [p.stdout.readline() for p in processes] == ["ready\n"] * n
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [p.communicate()[0].strip() for p in processes]
    assert [p.returncode for p in processes] == [0] * n
    return said


def test_of_processes_that_make_the_ledger_at_once_one_does(tmp_path):
    """Catches two migrations of one empty database, of which one finds half of the other's."""
    place = ledger_at(tmp_path)
    said = at_once(5, place, "with open_ledger(place) as ledger: print(len(ledger.runs()))")
    assert said == ["0"] * 5


@of_sqlite
def test_a_new_file_is_waited_for_while_another_makes_it(tmp_path):
    """Catches a second process that is refused at once: SQLite does not wait where a file's journal
    is about to be changed by two."""
    file = tmp_path / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(file, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="not let go of it in time"):
            open_ledger(file, busy_s=0.1)
        timer = threading.Timer(0.5, other.rollback)
        timer.start()
        with open_ledger(file) as ledger:
            assert ledger.runs() == []
        timer.join()


def test_processes_that_take_a_run_at_once_get_a_number_each(tmp_path):
    """Catches two holders under one fencing number: neither would ever be refused."""
    place = ledger_at(tmp_path)
    open_ledger(place).close()
    code = (
        "with open_ledger(place) as ledger:\n"
        "    print([ledger.take_lease('main', 'me', None) for _ in range(5)])"
    )
    said = at_once(4, place, code)
    assert sorted(n for line in said for n in json.loads(line)) == list(range(1, 21))


@pytest.mark.parametrize("name", ["what?", "a?b=c&d", "50%41", "no#1", "file:x"])
def test_a_homes_name_is_no_part_of_an_address(tmp_path, name):
    """Catches a ledger that lies elsewhere than where the home is looked for, because what follows
    a question mark was read as a setting."""
    file = tmp_path / name / "ledger.sqlite"
    with open_ledger(file) as ledger:
        ledger.add_run(RunInfo("main", 0, "x", "h", {}, "0"))
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert runs_at(file) == ["main"]
