"""Tables on their way out: what the ledger holds, in forms that nobody's program runs."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import resource
import sqlite3
import tracemalloc
from datetime import UTC, datetime

import numpy as np
import pytest
from conftest import ledger_at, of_sqlite

from varro.domain import Forecast, Group, Headline, Role, RunInfo, Settlement, Stage, StageRun
from varro.errors import ConfigError, DiskError, StageError
from varro.export.datasette import QUERIES, TABLES, datasette_metadata, export_datasette
from varro.export.tables import export_tables, write_csv
from varro.ledger.extract import FORECASTS, SETTLEMENTS, forecast_rows
from varro.ledger.store import open_ledger
from varro.ledger.tables import Base

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
FORMULA = '=HYPERLINK("http://evil.example","x")'
HOSTILE = f'{FORMULA},\r\n"quoted" \u2028 हिन्दी \u202eשלום'


def fill(ledger, n=3):
    """`n` forecasts of run `main` on one headline, all but the last one settled, one of them void;
    and a forecast of another run."""
    headlines = [
        Headline(i, "world", "feed", "@source", i, title, "https://x.example/a", None, NOON)
        for i, title in (("h1", HOSTILE), ("h2", "What came of it"))
    ]
    groups = []
    for run, count in (("main", n), ("other", 1)):
        ledger.add_run(RunInfo(run, 0, "world", "h", {}, "0"))
        made = tuple(
            Forecast(
                f"{run}{k:05}", run, k, (1, 2, 3), np.zeros(3, np.float32), f"-{k} % by Friday",
                "stop", 2**62 + k,
            )
            for k in range(count)
        )  # fmt: skip
        groups.append(
            Group(run, run, "2026-01-05", Role.TRAIN, headlines[0], 4, NOON, "p", (1,), made)
        )
    settlements = [
        Settlement(f"main{k:05}", "main", "2026-01-06", "r1", 0.1 + 0.2, {"format": 0.5}, "h2")
        for k in range(n - 2)
    ]
    settlements.append(
        Settlement(f"main{n - 2:05}", "main", "2026-01-06", "r1", None, void_reason="no evidence")
    )
    stage = StageRun("main", "2026-01-05", Stage.FORECAST, NOON, 1.0, {})
    ledger.finish_stage(stage, headlines=headlines, groups=groups, settlements=settlements)


@pytest.fixture
def ledger(tmp_path):
    with open_ledger(ledger_at(tmp_path / "home")) as opened:
        fill(opened)
        yield opened


def read_csv(path):
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))


def test_a_folder_has_forecasts_and_settlements_and_a_file_has_both(ledger, tmp_path):
    """Catches rows of another run, forecasts lost because they are not settled, and zeros for what
    is void."""
    made = export_tables(ledger, "main", tmp_path / "out", kind="csv")
    assert made == {"forecasts": 3, "settlements": 2}
    forecasts = read_csv(tmp_path / "out/forecasts.csv")
    assert tuple(forecasts[0]) == FORECASTS
    assert [row["forecast_id"] for row in forecasts] == ["main00000", "main00001", "main00002"]
    assert forecasts[0]["n_tokens"] == "3" and forecasts[0]["seed"] == str(2**62)
    assert forecasts[0]["made_at"] == "2026-01-05T12:00:00+00:00"
    settlements = read_csv(tmp_path / "out/settlements.csv")
    assert tuple(settlements[0]) == SETTLEMENTS
    assert float(settlements[0]["reward"]) == 0.1 + 0.2
    assert json.loads(settlements[0]["components"]) == {"format": 0.5}
    assert settlements[0]["outcome"] == "What came of it"
    assert (settlements[1]["reward"], settlements[1]["void_reason"]) == ("", "no evidence")
    assert export_tables(ledger, "main", tmp_path / "all.csv", kind="csv") == {"forecasts": 3}
    both = read_csv(tmp_path / "all.csv")
    assert [row["settled_on"] for row in both] == ["2026-01-06", "2026-01-06", ""]


def test_a_title_is_no_formula_and_comes_back_whole(ledger, tmp_path):
    """Catches a headline that a spreadsheet runs, and one that breaks the rows after it."""
    export_tables(ledger, "main", tmp_path / "all.csv", kind="csv")
    content = (tmp_path / "all.csv").read_bytes()
    assert not content.startswith(b"\xef\xbb\xbf") and content.count(b"\r\n") >= 4
    row = read_csv(tmp_path / "all.csv")[0]
    assert row["headline"] == f"'{HOSTILE}"
    assert row["source"] == "'@source" and row["text"] == "'-0 % by Friday"


def test_numbers_are_not_taken_for_formulas(tmp_path):
    """Catches a negative number with an apostrophe before it."""
    rows = [{"a": -0.5, "b": None, "c": "\tx", "d": "fine = fine"}]
    assert write_csv(tmp_path / "x.csv", ("a", "b", "c", "d"), rows) == 1
    assert (tmp_path / "x.csv").read_bytes() == b"a,b,c,d\r\n-0.5,,'\tx,fine = fine\r\n"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_that_is_there_stays_and_a_full_disk_leaves_nothing(ledger, tmp_path, kind):
    """Catches a table that is cut off, under the name of a whole one."""
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="NOT TESTED with pyarrow: pip install '.[parquet]'")
    out = tmp_path / f"all.{kind}"
    out.write_text("mine")
    with pytest.raises(StageError, match="exists; name a new file"):
        export_tables(ledger, "main", out, kind=kind)
    assert out.read_text() == "mine"
    before = sorted(p.name for p in tmp_path.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        for target in (f"new.{kind}", "new"):
            with pytest.raises(DiskError, match="allow larger files"):
                export_tables(ledger, "main", tmp_path / target, kind=kind)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_rows_go_by_and_are_not_kept(tmp_path):
    """Catches a whole ledger in memory: ten times the forecasts must not take twice the room."""
    peaks = []
    for n in (1_000, 10_000):
        with open_ledger(ledger_at(tmp_path / f"home{n}")) as opened:
            fill(opened, n)
            tracemalloc.start()
            assert sum(1 for _ in forecast_rows(opened, "main")) == n
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


def test_parquet_has_types(ledger, tmp_path):
    """Catches times and numbers as text, and seeds as floats."""
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="NOT TESTED with pyarrow: pip install '.[parquet]'"
    )
    made = export_tables(ledger, "main", tmp_path / "out", kind="parquet")
    assert made == {"forecasts": 3, "settlements": 2}
    rows = parquet.read_table(tmp_path / "out/forecasts.parquet").to_pylist()
    assert rows[0]["headline"] == HOSTILE  # no spreadsheet will run it
    assert rows[0]["seed"] == 2**62 and rows[0]["made_at"] == NOON
    settlements = parquet.read_table(tmp_path / "out/settlements.parquet").to_pylist()
    assert [row["reward"] for row in settlements] == [0.1 + 0.2, None]
    export_tables(ledger, "main", tmp_path / "all.parquet", kind="parquet")
    assert parquet.read_table(tmp_path / "all.parquet").num_rows == 3


def test_without_pyarrow_parquet_says_what_it_needs(ledger, tmp_path, monkeypatch):
    """Catches a traceback where an extra is missing, and a folder left behind by it."""
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="needs the extra 'parquet'"):
        export_tables(ledger, "main", tmp_path / "out", kind="parquet")
    assert not (tmp_path / "out").exists()


def test_every_table_and_column_is_described_and_no_other():
    """Catches a column that was added and nobody explained."""
    real = {t.name: {c.name for c in t.columns} for t in Base.metadata.sorted_tables}
    assert {name: set(columns) for name, (_, columns) in TABLES.items()} == real
    for about, columns in TABLES.values():
        assert about and all(columns.values())


@of_sqlite
@pytest.mark.parametrize("name", sorted(QUERIES))
def test_every_canned_query_runs(ledger, tmp_path, name):
    """Catches a query that asks for a column which is gone."""
    _, sql = QUERIES[name]
    with contextlib.closing(sqlite3.connect(tmp_path / "home/ledger.sqlite")) as connection:
        rows = connection.execute(sql).fetchall()
    n_rows = {"best_forecasts": 1, "open_forecasts": 2, "components_by_day": 1, "most_divided": 1}
    assert len(rows) == n_rows.get(name, 1 if name == "time_by_stage" else 0)


def test_the_metadata_file_is_what_datasette_reads(tmp_path):
    """Catches a second name for the database: Datasette calls it by its file."""
    made = export_datasette(tmp_path / "metadata.json")
    found = json.loads((tmp_path / "metadata.json").read_text())
    assert found == datasette_metadata() and list(found["databases"]) == ["ledger"]
    assert made["n_queries"] == len(found["databases"]["ledger"]["queries"]) == 8
    with pytest.raises(StageError, match="exists; name a new file"):
        export_datasette(tmp_path / "metadata.json")
