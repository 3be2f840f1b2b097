"""Fixtures that several test files share."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Answer = Callable[[BaseHTTPRequestHandler], None]

POSTGRES = os.environ.get("VARRO_TEST_POSTGRES")
"""URL of a server on which each home has a database of its own; see scripts/test_postgres.py"""
of_sqlite = pytest.mark.skipif(POSTGRES is not None, reason="of a SQLite file")
of_postgres = pytest.mark.skipif(POSTGRES is None, reason="NOT TESTED here: make test-postgres")
_databases: dict[str, str] = {}
"""those that were made, by the home they are for"""


def ledger_at(home: Path) -> Path | str:
    """Where the ledger of a home lies: in its SQLite file, or in its database."""
    from varro.ledger.place import ledger_path

    return ledger_path(home) if POSTGRES is None else _database_for(home)


def ledger_settings(home: Path) -> tuple[str, ...]:
    """The same as what a configuration overrides."""
    return () if POSTGRES is None else (f"ledger.url={_database_for(home)}",)


def copy_home(source: Path, target: Path) -> Path:
    """A copy of a home that nobody has open, with its ledger."""
    if POSTGRES is not None:
        _database_for(target, template=_database_for(source).rpartition("/")[2])
    return Path(shutil.copytree(source, target))


def raw_sql(place: Path | str, *statements: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
    """Statements (with `?` for parameters) past the ledger, committed; the last one's rows."""
    if isinstance(place, Path):
        connection: Any = sqlite3.connect(place)
    else:
        import psycopg

        connection = psycopg.connect(place)
    with contextlib.closing(connection):
        for statement in statements:
            if isinstance(place, str):
                statement = statement.replace("?", "%s")
            cursor = connection.execute(statement, parameters)
        rows = cursor.fetchall() if cursor.description else []
        connection.commit()
        return rows


def _database_for(home: Path, *, template: str = "template1") -> str:
    assert POSTGRES is not None
    key = str(home.resolve())
    assert key not in _databases or template == "template1", f"{home} has a database"
    if key not in _databases:
        name = f"t{hashlib.sha256(key.encode()).hexdigest()[:24]}"
        on_the_server(f"CREATE DATABASE {name} TEMPLATE {template}")
        _databases[key] = f"{POSTGRES.rpartition('/')[0]}/{name}"
    return _databases[key]


def on_the_server(statement: str) -> None:
    import psycopg

    with psycopg.connect(POSTGRES, autocommit=True) as server:
        server.execute(statement)


def pytest_sessionfinish() -> None:
    for url in _databases.values():
        on_the_server(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Path of a folder of real news beside the checkout; skips where it is not installed."""

    def locate(name: str) -> Path:
        path = Path(__file__).resolve().parents[2] / "shared" / "data" / name
        if not path.exists():
            pytest.skip(f"NOT TESTED on real data: no {path}")
        return path

    return locate


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Starts real HTTP servers on 127.0.0.1, one for each answer, and gives their addresses."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(answer: Answer, method: str = "GET") -> str:
        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                # A client that hangs up is what half of these tests are about.
                with contextlib.suppress(OSError):
                    answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        setattr(Handler, f"do_{method}", Handler._do)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def loaded_policy() -> tuple[Any, dict[str, Any]]:
    """The tiny policy and the adapter it was loaded with."""
    from varro.config import PolicyConfig
    from varro.policy.load import load_policy

    policy = load_policy(PolicyConfig(model=str(ROOT / "data" / "tiny-policy")), lora_seed=7)
    return policy, dict(policy.adapter())


@pytest.fixture
def policy(loaded_policy: tuple[Any, dict[str, Any]]) -> Any:
    """The tiny policy at version 0 with a fresh adapter."""
    policy, fresh = loaded_policy
    policy.set_adapter(fresh)
    policy.reference = None
    policy.version = 0
    return policy


@pytest.fixture(scope="session")
def embedder() -> Any:
    """The real embedder; a text is encoded once a session."""
    from varro.config import EmbedderConfig
    from varro.reward.embed import RememberingEmbedder, load_embedder

    config = EmbedderConfig()
    return RememberingEmbedder(lambda: load_embedder(config), config.sha256)


def lend_embedder(work: Any, embedder: Any) -> None:
    """Give an open run a loaded embedder, over the run's own store of vectors."""
    from varro.reward.embed import RememberingEmbedder

    work.embedder = RememberingEmbedder(
        lambda: embedder,
        work.config.embedder.sha256,
        known=work.ledger.embeddings,
        keep=work.ledger.keep_embeddings,
    )


SMALL_DAYS = (
    "news.n_headlines=6",
    "evaluate.n_headlines=3",
    "evaluate.n_base_forecasts=2",
    "evaluate.n_bootstrap=200",
    "evaluate.placebo_lags=[1, 3]",
    "sampling.n_forecasts=4",
    "sampling.max_tokens=48",
    "display.n_headlines=1",
)


def small_config(home: Path, *overrides: str) -> Any:
    """The embedded configuration at test size, with overrides on top."""
    from varro.config import load_config

    layers = [f"home={home}", *SMALL_DAYS, *overrides]
    where = [text.partition("=")[2] for text in layers if text.startswith("home=")][-1]
    layers[1:1] = ledger_settings(Path(where))
    return load_config(ROOT / "configs" / "embedded.toml", tuple(layers))


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., Any]:
    return lambda *overrides: small_config(tmp_path / "home", *overrides)
