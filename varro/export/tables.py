"""Forecasts and settlements as CSV or Parquet: rows go by, none is kept.

A folder gets two files, `forecasts` and `settlements`; a file gets one table, each forecast once
for each of its settlements, or once without.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from varro.errors import ConfigError
from varro.files import new_file, new_folder
from varro.ledger.extract import (
    FORECASTS,
    SETTLEMENTS,
    forecast_rows,
    settled_rows,
    settlement_rows,
)
from varro.ledger.store import Ledger
from varro.report.page import table_text

Row = dict[str, Any]
Writer = Callable[[Path, Sequence[str], Iterable[Row]], int]
"""(path, columns, rows) → how many were written"""

_INTEGERS = ("k", "policy_version", "seed", "n_tokens")
_NUMBERS = ("reward",)
_TIMES = ("first_seen", "made_at", "outcome_first_seen")
_BATCH = 2_000
"""rows that are made into columns together"""


def export_tables(ledger: Ledger, run: str, out: Path, *, kind: str) -> dict[str, int]:
    """Write a run's forecasts and settlements to a new file or folder; returns table → rows.

    Raises: StageError if it exists; ConfigError where `parquet` is not installed; DiskError.
    """
    write = writer_of(kind)
    doing = f"export to {out}"
    if out.suffix == f".{kind}":
        with new_file(out, doing) as partial:
            columns = (*FORECASTS, *SETTLEMENTS[1:])
            return {"forecasts": write(partial, columns, settled_rows(ledger, run))}
    with new_folder(out, doing) as partial:
        return {
            "forecasts": write(
                partial / f"forecasts.{kind}", FORECASTS, forecast_rows(ledger, run)
            ),
            "settlements": write(
                partial / f"settlements.{kind}", SETTLEMENTS, settlement_rows(ledger, run)
            ),
        }


def writer_of(kind: str) -> Writer:
    if kind == "csv":
        return write_csv
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"Parquet needs the extra 'parquet' (pip install pyarrow): {error}"
        ) from error
    return write_parquet


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> int:
    """RFC 4180 in UTF-8: a header, CRLF, quotes where they are needed; absent is empty.

    Note: text that a spreadsheet would run as a formula has an apostrophe before it.
    """
    n = 0
    with path.open("w", encoding="utf-8", newline="") as handle:
        out = csv.writer(handle)
        out.writerow(columns)
        for row in rows:
            out.writerow([_cell(row.get(column)) for column in columns])
            n += 1
    return n


def write_parquet(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> int:
    """Typed columns: times in UTC, numbers as numbers, components as JSON text."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    types = {
        **dict.fromkeys(_INTEGERS, pyarrow.int64()),
        **dict.fromkeys(_NUMBERS, pyarrow.float64()),
        **dict.fromkeys(_TIMES, pyarrow.timestamp("us", tz="UTC")),
    }
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in columns])
    n = 0
    with ParquetWriter(str(path), schema) as out:
        for batch in _batches(rows):
            plain = [{name: _plain(row.get(name)) for name in columns} for row in batch]
            out.write_table(pyarrow.Table.from_pylist(plain, schema=schema))
            n += len(batch)
    return n


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    value = _plain(value)
    return table_text(value) if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
