"""A ledger in Postgres: what is refused and in which words, and what only a server can do to it.

All else that a ledger does is tested on both databases by the files that `make test-postgres` runs.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import (
    ROOT,
    SMALL_DAYS,
    ledger_at,
    of_postgres,
    on_the_server,
    raw_sql,
    small_config,
)
from sqlalchemy import text
from test_ledger import NOON, RUN, group_of, headline, stage
from test_tick import small_files

from varro.config import load_config, render_toml
from varro.domain import Role, Settlement, Stage
from varro.errors import ConfigError, DiskError, LedgerError, StaleLeaseError
from varro.ledger.glance import Glance, glance_at
from varro.ledger.place import home_id, is_begun, ledger_path
from varro.ledger.store import _fields, open_ledger
from varro.ledger.tables import LeaseRow, StageRunRow
from varro.run import open_run
from varro.service.backup import back_up, restore
from varro.service.status import describe
from varro.service.tick import glance_of

sys.path.insert(0, str(ROOT / "scripts"))

from crash_test import rows_of

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (f"ledger.url=postgresql://me:{SECRET}@db/varro", "holds a password"),
        (f"ledger.url=postgres://me:a/{SECRET}?@db/varro", "holds a password"),
        (f"ledger.url=postgresql://db/varro?user=me&password={SECRET}", "holds a password"),
        (f"ledger.url=postgresql:///?sslpassword={SECRET}&host=db", "holds a password"),
        (f"ledger.url=mysql://me:{SECRET}@db/varro", "holds a password"),
        (f'ledger="postgresql://me:{SECRET}@db/varro"', "ledger: "),
        (f'ledger.url=["postgresql://me:{SECRET}@db/varro"]', "ledger.url: "),
        ("ledger.url=mysql://db/varro", "wants a Postgres database.*mysql://db/varro"),
        ("ledger.url=sqlite:///x.sqlite", "leave it out for a SQLite file in home"),
        ("ledger.url=postgresql+asyncpg://db/varro", "wants a Postgres database"),
        ("ledger.uri=postgresql://db/varro", "did you mean 'ledger.url'"),
    ],
)
def test_a_url_of_another_kind_or_with_a_password_is_refused_and_not_repeated(setting, said):
    """Catches a password in an error, in `varro config show`, or in each checkpoint's config."""
    with pytest.raises(ConfigError, match=said) as refused:
        load_config(ROOT / "configs" / "embedded.toml", (setting,))
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("kind", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_url_is_kept_as_the_servers_own_library_reads_it(tmp_path, kind):
    """Catches a run that can not go on because its ledger has moved, and a URL that only one of the
    two that read it understands."""
    plain = small_config(tmp_path)
    there = small_config(tmp_path, f"ledger.url={kind}://me@db:5433/varro?sslmode=require")
    assert there.ledger.url == "postgresql://me@db:5433/varro?sslmode=require"
    assert there.identity_hash() == plain.identity_hash()
    file = tmp_path / "again.toml"
    file.write_text(render_toml(there))
    assert load_config(file) == there


def varro(*arguments, without=()):
    hide = "".join(f"sys.modules[{name!r}] = None\n" for name in without)
    code = f"import sys\n{hide}from varro.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("verb", ["status", "tick", "train-day", "backup"])
def test_a_server_that_does_not_answer_ends_in_one_line(tmp_path, verb):
    """Catches a traceback at night, a wait without an end, and a home begun for nothing."""
    url = f"postgresql://me@127.0.0.1:{free_port()}/varro"
    words = [verb, *([tmp_path / "copy"] if verb == "backup" else [])]
    done = varro(*words, "--home", tmp_path / "home", "--set", f"ledger.url={url}")
    assert done.returncode == 5, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"varro: cannot reach the ledger {url}: ")
    assert "Connection refused" in line and line.endswith("run it again when the server answers")
    assert not (tmp_path / "home" / "checkpoints").exists()


def test_a_missing_extra_is_named(tmp_path):
    """Catches a ModuleNotFoundError shown to somebody who followed the README."""
    flags = ("--home", tmp_path, "--set", "ledger.url=postgresql://me@127.0.0.1/varro")
    done = varro("status", *flags, without=["psycopg"])
    assert done.returncode == 5
    assert "needs the extra 'postgres' (pip install 'psycopg[binary]')" in done.stderr


def test_a_look_at_a_sqlite_ledger_loads_neither_database_library(tmp_path):
    """Catches an hourly `varro tick` that pays for a server it does not have."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom varro.ledger.glance import glance_at\n"
        f"glance_at(Path({str(tmp_path)!r}) / 'ledger.sqlite', 'main')\n"
        "print([m for m in ('sqlalchemy', 'psycopg', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr


@pytest.fixture
def place(tmp_path):
    return ledger_at(tmp_path)


@of_postgres
def test_an_empty_database_is_a_ledger_that_is_not_begun(place):
    """Catches tables made by a look, and a look that fails where nothing is yet."""
    assert not is_begun(place) and glance_at(place, "main") == Glance()
    assert raw_sql(place, "SELECT count(*) FROM information_schema.tables "
                          "WHERE table_schema = 'public'") == [(0,)]  # fmt: skip
    open_ledger(place).close()
    assert is_begun(place) and glance_at(place, "main") == Glance()


@of_postgres
@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
def test_a_databases_own_settings_do_not_weaken_the_lease(place, level):
    """Catches a holder that reads the number before it has waited for the lock."""
    open_ledger(place).close()
    name = place.rpartition("/")[2]
    on_the_server(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    on_the_server(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with open_ledger(place) as stale, open_ledger(place) as fresh, ThreadPoolExecutor(1) as pool:
        stale.take_lease("main", "one", NOON)
        stale.add_run(RUN)
        with fresh._session(writes=True) as session:
            late = pool.submit(stale.finish_stage, stage())
            while raw_sql(place, waiting) == [(0,)]:
                assert not late.done()
            session.merge(LeaseRow(run="main", number=2, holder="two", since=None))
        with pytest.raises(StaleLeaseError):
            late.result()
        assert fresh.stage_runs("main") == []


@of_postgres
def test_a_database_without_room_for_all_letters_is_refused(place):
    """Catches a ledger that takes headlines until the first in Greek."""
    name = f"{place.rpartition('/')[2]}_latin"
    on_the_server(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING LATIN1 LOCALE_PROVIDER libc LOCALE 'C'"
    )
    latin = f"{place.rpartition('/')[0]}/{name}"
    with pytest.raises(LedgerError, match="is a database in LATIN1"):
        open_ledger(latin)
    on_the_server(f"DROP DATABASE {name}")


def end_sessions(place):
    """As a restart of the server, for all who are connected to this database."""
    on_the_server(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        f"WHERE datname = '{place.rpartition('/')[2]}'"
    )


@of_postgres
def test_a_server_that_was_restarted_meanwhile_is_not_noticed(place):
    """Catches a night of training lost because the connection of yesterday is gone."""
    with open_ledger(place) as ledger:
        ledger.add_run(RUN)
        end_sessions(place)
        ledger.finish_stage(stage())
        assert len(ledger.stage_runs("main")) == 1


@of_postgres
def test_a_server_that_goes_in_the_middle_leaves_the_stage_undone(place):
    """Catches half a stage, and a driver's error that nobody can act on."""
    with open_ledger(place) as ledger:
        ledger.add_run(RUN)
        with (
            pytest.raises(LedgerError, match=r"the server is gone.*run it again when it answers"),
            ledger._write() as session,
        ):
            ledger._append(session, StageRunRow, [_fields(stage())])
            end_sessions(place)
            session.execute(text("SELECT 1"))
        assert ledger.stage_runs("main") == []
        ledger.finish_stage(stage())


@of_postgres
@pytest.mark.parametrize(("state", "error"), [("53100", DiskError), ("58030", DiskError)])
def test_a_full_disk_of_the_server_is_a_full_disk(place, state, error):
    """Catches exit code 5 where somebody must make room, and rows of half a stage."""
    group = group_of(headline())
    with open_ledger(place) as ledger:
        ledger.add_run(RUN)
        raw_sql(
            place,
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
            f"'could not extend file: No space left on device' USING ERRCODE = '{state}'; END $$",
            "CREATE TRIGGER full_disk BEFORE INSERT ON stage_runs EXECUTE FUNCTION fail()",
        )
        with pytest.raises(error, match=r"No space left on device.*what was finished stays"):
            ledger.finish_stage(stage(), headlines=[group.headline], groups=[group])
        assert ledger.counts("main")["groups"] == 0
        raw_sql(place, "DROP TRIGGER full_disk ON stage_runs")
        ledger.finish_stage(stage(), headlines=[group.headline], groups=[group])
        assert ledger.counts("main")["groups"] == 1


def filled(ledger):
    """Rows in most tables, with what is easily lost: bytes, fractions, a NUL, a key's order."""
    group = group_of(headline("naïve “Fed” \U0001f4c8"))
    other = group_of(headline("b"), Role.HELDOUT)
    ledger.take_lease("main", "me", NOON)
    ledger.add_run(RUN)
    ledger.finish_stage(
        replace(stage(), detail={"x": "\0", "rate": 1 / 3, "none": None}),
        headlines=[group.headline, other.headline],
        groups=[group, other],
    )
    parts = {"format": 0.1, "semantic": 1 / 3}
    settlements = [
        Settlement(f.id, g.id, "2026-01-06", "r-1", 1 / 7, parts)
        for g in (group, other)
        for f in g.forecasts
    ]
    ledger.finish_stage(stage(Stage.SETTLE, "2026-01-06"), settlements=settlements)
    ledger.keep_embeddings({f"k{n}": [n / 3, -0.0] for n in range(1100)})


@of_postgres
def test_a_ledger_is_copied_to_the_other_kind_and_back(place, tmp_path):
    """Catches a backup that rounds, reorders or drops, and one that mixes two ledgers."""
    there, back = tmp_path / "there.sqlite", ledger_at(tmp_path / "back")
    with open_ledger(place) as ledger:
        filled(ledger)
        ledger.copy_to(there)
        ledger.finish_stage(stage(Stage.UPDATE, "2026-01-06"))
    with open_ledger(there) as copied:
        copied.refuse_unsound()
        assert copied.stage_run("main", "2026-01-06", Stage.UPDATE) is None
        for _ in range(2):  # as after a restore that was interrupted
            copied.copy_to(back)
        with pytest.raises(LedgerError, match="has rows of its own in 'stage_runs'; nothing was"):
            copied.copy_to(place)
    raw_sql(back, "UPDATE forecasts SET seed = seed + 1")
    with open_ledger(there) as copied, pytest.raises(LedgerError, match="its own in 'forecasts'"):
        copied.copy_to(back)
    raw_sql(back, "UPDATE forecasts SET seed = seed - 1")
    with open_ledger(back) as ledger, open_ledger(there) as copied:
        ledger.copy_to(tmp_path / "again.sqlite")
        assert (
            ledger.settlements("main", day="2026-01-06")[0][0]
            == (copied.settlements("main", day="2026-01-06")[0][0])
        )
        # Leases stay where they are.
        assert ledger.take_lease("main", "me", NOON + timedelta(days=1)) == 1
    assert rows_of(tmp_path / "again.sqlite") == rows_of(there)


@of_postgres
def test_a_sqlite_home_moves_to_a_server_and_back_by_the_commands_of_the_readme(tmp_path):
    """Catches a restore that puts the rows elsewhere than the configuration says."""
    small, place = tmp_path / "small", ledger_at(tmp_path / "large")
    with open_ledger(ledger_path(small)) as ledger:
        filled(ledger)
    there = ("--set", f"ledger.url={place}")
    for words in (
        ("backup", tmp_path / "moved", "--home", small),
        ("restore", tmp_path / "moved", "--home", tmp_path / "large", *there),
        ("backup", tmp_path / "again", "--home", tmp_path / "large", *there),
        ("restore", tmp_path / "again", "--home", tmp_path / "back"),
    ):
        done = varro(*words)
        assert done.returncode == 0, done.stderr
    assert [p.name for p in (tmp_path / "large").iterdir()] == ["home.id"]
    before, after = (rows_of(ledger_path(tmp_path / home)) for home in ("small", "back"))
    assert rows_of(place).keys() == before.keys() == after.keys()
    assert after.pop("leases")[0]["holder"] == "a restored backup"
    for table, rows in after.items():
        assert sorted(map(repr, rows)) == sorted(map(repr, before[table]))


def taken(home, place):
    """What opens a home's ledger to write in it."""
    config = small_config(home, f"ledger.url={place}")
    with open_run(config) as work:
        work.ledger.add_run(work.info)
    return config


@of_postgres
def test_a_database_belongs_to_one_home(tmp_path, place):
    """Catches two homes that write into one database, each without the other's checkpoints; and a
    home that is refused because it was moved."""
    home, other = tmp_path / "home", tmp_path / "other"
    config = taken(home, place)
    rows = rows_of(place)
    said = (
        rf"belongs to another home than {other}, to the one that was {home} on .* when it took it: "
        r"use that one, or name an empty database in ledger\.url"
    )
    with pytest.raises(LedgerError, match=said) as refused:
        taken(other, place)
    flags = ("--home", other, "--set", f"ledger.url={place}")
    for verb in (
        ("status",), ("show", "2026-01-05"), ("report", "--last"), ("tick",), ("train-day",),
        ("backup", tmp_path / "copy"),
    ):  # fmt: skip
        done = varro(*verb, *flags)
        assert done.returncode == 5 and str(refused.value) in done.stderr, (verb, done)
    assert rows_of(place) == rows and not (other / "home.id").exists()
    # A home is itself wherever it lies, and one that has lost its file is told how to be itself.
    home.rename(tmp_path / "moved")
    taken(tmp_path / "moved", place)
    (tmp_path / "moved" / "home.id").unlink()
    with pytest.raises(LedgerError, match=r"write \w+ into .*/moved/home\.id") as lost:
        glance_of(config.model_copy(update={"home": tmp_path / "moved"}))
    words = str(lost.value).split()
    Path(words[words.index("into") + 1]).write_text(f"{words[words.index('write') + 1]}\n")
    taken(tmp_path / "moved", place)
    assert rows_of(place)["homes"] == rows["homes"]


@of_postgres
def test_a_home_that_can_not_keep_its_id_takes_no_database(tmp_path, place):
    """Catches a database that belongs to a home which does not know it, and a traceback."""
    with open_ledger(place) as ledger:
        with small_files(0), pytest.raises(DiskError, match=r"home\.id: File too large"):
            ledger.take_home(tmp_path / "home")
        assert rows_of(place)["homes"] == []
        ledger.take_home(tmp_path / "home")
    assert [row["id"] for row in rows_of(place)["homes"]] == [home_id(tmp_path / "home")]


@of_postgres
def test_an_older_ledger_is_the_home_s_that_opens_it_next(tmp_path, place):
    """Catches an upgrade after which nobody, or anybody, may open the ledger; a look takes none."""
    home, other = tmp_path / "home", tmp_path / "other"
    config = taken(home, place)
    (home / "home.id").unlink()
    raw_sql(
        place,
        "DROP INDEX ix_settlements_day",
        "DROP INDEX ix_advantages_day",
        "ALTER TABLE forecasts DROP COLUMN sampler_entropies",
        "DROP TABLE homes",
        "UPDATE alembic_version SET version_num = '0005'",
    )
    assert glance_of(config) == Glance()
    assert describe(config, NOON)["runs"] and not (home / "home.id").exists()
    taken(home, place)
    with pytest.raises(LedgerError, match="belongs to another home"):
        taken(other, place)


@of_postgres
@pytest.mark.parametrize("is_same", [True, False])
def test_a_restored_home_owns_the_database_it_was_restored_to(tmp_path, place, is_same):
    """Catches a restored home that its own database refuses, or that shares it with the original:
    in a database of its own, or in the place of the original."""
    home, again = tmp_path / "home", tmp_path / "again"
    taken(home, place)
    there = place if is_same else ledger_at(again)
    back_up(home, tmp_path / "backup", made_at=NOON, url=place)
    assert rows_of(tmp_path / "backup" / "ledger.sqlite")["homes"] == []
    restore(tmp_path / "backup", again, url=there)
    with pytest.raises(LedgerError, match=f"belongs to another home than {home}, to the one that "
                                          f"was {again} on "):  # fmt: skip
        taken(home, there)
    taken(again, there)
    if not is_same:
        taken(home, place)


@of_postgres
def test_a_password_is_shown_nowhere(tmp_path, place, monkeypatch):
    """Catches a secret in a report, a checkpoint, the service's state, or what a verb prints."""
    home, password = tmp_path / "home", os.environ["PGPASSWORD"]
    settings = (*SMALL_DAYS, f"ledger.url={place}")
    flags = ("--home", home, *(part for setting in settings for part in ("--set", setting)))
    ends = [
        varro(*words, *flags)
        for words in (["train-day"], ["status", "--json"], ["config", "show"], ["doctor"])
    ]
    assert [end.returncode for end in ends] == [0] * 4, ends
    assert f"{place}: runs main" in ends[-1].stdout
    rows = repr(rows_of(place))
    monkeypatch.setenv("PGPASSWORD", SECRET)
    ends.append(varro("status", *flags))
    assert ends[-1].returncode == 5 and "password authentication failed" in ends[-1].stderr
    said = "".join(end.stdout + end.stderr for end in ends)
    files = "".join(p.read_bytes().decode("latin-1") for p in home.rglob("*") if p.is_file())
    assert "main" in rows and "main" in files
    for secret in (password, SECRET):
        assert secret not in said + files + rows
