"""Fixtures that several test files share."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Answer = Callable[[BaseHTTPRequestHandler], None]


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

    layers = (f"home={home}", *SMALL_DAYS, *overrides)
    return load_config(ROOT / "configs" / "embedded.toml", layers)


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., Any]:
    return lambda *overrides: small_config(tmp_path / "home", *overrides)
