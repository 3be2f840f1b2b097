"""Where a ledger lies: in a SQLite file, or in a Postgres database. Asked without SQLAlchemy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varro.config import Config, without_password
from varro.errors import LedgerError

if TYPE_CHECKING:
    import psycopg

Place = Path | str
"""a SQLite file, or the URL of a Postgres database"""
ID_FILE = "home.id"
"""in a home whose ledger is in Postgres: what the database knows it by, wherever it lies"""

# A server that is gone is noticed within a minute, and not after the system's two hours.
_CONNECTION: dict[str, str | int] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "client_encoding": "utf8",
    "application_name": "varro",
}


def ledger_path(home: Path) -> Path:
    """The SQLite file of a home, or of a backup."""
    return home / "ledger.sqlite"


def ledger_place(config: Config) -> Place:
    return config.ledger.url or ledger_path(config.home)


def in_words(place: Place) -> str:
    """A place as it may be printed."""
    return str(place) if isinstance(place, Path) else without_password(place)


def is_begun(place: Place) -> bool:
    """Whether there is a ledger.

    Raises: LedgerError for a server that does not answer.
    """
    return place.exists() if isinstance(place, Path) else ask_postgres(place, ()) is not None


def home_id(home: Path) -> str | None:
    try:
        return (home / ID_FILE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(f"{home / ID_FILE} can not be read: {error}") from error


def refuse_other_home(url: str, home: Path) -> None:
    """Raises: LedgerError if the database belongs to another home; or as `ask_postgres`."""
    ask_postgres(url, (), home=home)


def other_home(url: str, home: Path, *, owner: str, told: str) -> LedgerError:
    return LedgerError(
        f"the ledger {in_words(url)} belongs to another home than {home}, to the one that was "
        f"{told} when it took it: use that one, or name an empty database in ledger.url; if "
        f"{home} is that home, write {owner} into {home / ID_FILE}"
    )


def ask_postgres(
    url: str,
    queries: Sequence[str],
    parameters: Mapping[str, Any] | None = None,
    *,
    home: Path | None = None,
) -> list[list[tuple[Any, ...]]] | None:
    """The rows of each query, or None if the database has no ledger.

    Raises: LedgerError for a server that does not answer, or refuses; with `home`, for a database
    that belongs to another one.
    """
    with closing(connect_postgres(url)) as connection:
        import psycopg

        try:
            if connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,):
                return None
            # Ledgers before schema 0006 have no such table.
            if home and connection.execute("SELECT to_regclass('homes')").fetchone() != (None,):
                row = connection.execute("SELECT id, told FROM homes").fetchone()
                if row is not None and row[0] != home_id(home):
                    raise other_home(url, home, owner=row[0], told=row[1])
            return [connection.execute(query, parameters).fetchall() for query in queries]
        except psycopg.Error as error:
            raise LedgerError(f"ledger {in_words(url)}: {in_one_line(error)}") from error


def connect_postgres(url: str, *, busy_s: float = 30.0) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection whose statements wait up to `busy_s` for another's lock.

    Raises: LedgerError if psycopg is not installed, or the server does not take the connection.
    """
    refuse_missing_psycopg(url)
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    try:
        given = conninfo_to_dict(url)
        missing = {key: value for key, value in _CONNECTION.items() if key not in given}
        connection = psycopg.connect(make_conninfo(url, **missing), autocommit=True)
        connection.execute(f"SET lock_timeout = {round(busy_s * 1000)}")
        connection.execute("SET synchronous_commit = on")  # what is committed is on the disk
        connection.autocommit = False
    except psycopg.Error as error:
        raise LedgerError(
            f"cannot reach the ledger {in_words(url)}: {in_one_line(error)}; what was finished "
            "stays, run it again when the server answers"
        ) from error
    return connection


def refuse_missing_psycopg(url: str) -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise LedgerError(
            f"the ledger {in_words(url)} needs the extra 'postgres' "
            f"(pip install 'psycopg[binary]'): {error}"
        ) from error


def in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
