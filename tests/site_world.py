"""A small ledger of forecasts, settled, open and void, for the public site to be made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from conftest import ledger_at, small_config

from varro.config import MINILM_SHA256
from varro.domain import (
    EvaluationInfo,
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
    stable_hash,
)
from varro.ledger.store import Ledger, open_ledger

FIRST = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
G = 8
VERSION = "contrast/test"
PARTS = {
    "format": 0.5, "semantic": 0.25, "contrast": 0.04, "similarity": 0.6, "placebo": 0.56,
    "vote": 1.0, "margin": 0.02, "gate": 1.0, "valid": 1.0,
}  # fmt: skip
TEXT = "Norvik exports will rise 2% by Friday, driven by strong demand. Check the customs report."


def day_name(n: int) -> str:
    return (FIRST + n * DAY).date().isoformat()


def clock(n: int) -> datetime:
    """The ledger's clock on the n-th day, when its forecasts are made."""
    return FIRST + (n + 1) * DAY


@dataclass
class SiteWorld:
    """Days are put in one after the other; each settles the one before."""

    home: Path
    corpus: str = "world"
    n_headlines: int = 3
    title: Callable[[int, int], str] = lambda n, i: f"Norvik exports rise {n}.{i}%"
    text: Callable[[int, int, int], str] = lambda n, i, k: f"{TEXT} {n} {i} {k}"
    source: str | Callable[[int, int], str] = "The Civic Ledger"
    link: str | Callable[[int, int], str] = "https://example.org/a?b=1&c=2"
    n_forecasts: int = G
    n_days: int = 0
    sizes: list[int] = field(default_factory=list)
    """headlines of each day"""

    def __post_init__(self) -> None:
        settings = {"reward.version": VERSION, "reward.window_h": 36.0, "reward.min_window_h": 12.0}
        with open_ledger(ledger_at(self.home)) as ledger:
            ledger.add_run(RunInfo("main", 0, self.corpus, "hash", settings, "0"))

    def config(self, *overrides: str) -> Any:
        return small_config(self.home, "run.name=main", *overrides)

    def add_days(self, n: int = 1, *, void: str | None = None, settles: bool = True) -> None:
        with open_ledger(ledger_at(self.home)) as ledger:
            for _ in range(n):
                self._add_day(ledger, void, settles)

    def _add_day(self, ledger: Ledger, void: str | None, settles: bool) -> None:
        n, made_at = self.n_days, clock(self.n_days)
        groups = [self._group(n, i) for i in range(self.n_headlines)]
        headlines = [group.headline for group in groups]
        before = [self._group(n - 1, i) for i in range(self.sizes[-1])] if n else []
        settlements = [
            self._settlement(group, forecast, n, void)
            for group in before
            for forecast in group.forecasts
            if settles
        ]
        stage = lambda name: StageRun("main", day_name(n), name, made_at, 1.0, {})  # noqa: E731
        ledger.finish_stage(stage(Stage.INGEST), headlines=headlines)
        ledger.finish_stage(stage(Stage.SETTLE), settlements=settlements)
        update = UpdateInfo("main", day_name(n), n, n + 1, {"n_forecasts": 24})
        ledger.finish_stage(stage(Stage.UPDATE), update=update)
        ledger.finish_stage(stage(Stage.FORECAST), groups=groups)
        if settlements:
            ledger.finish_stage(stage(Stage.EVALUATE), evaluation=_evaluation(day_name(n)))
        texts = [f.text for group in groups for f in group.forecasts]
        ledger.keep_embeddings(self._vectors(texts))
        self.n_days += 1
        self.sizes.append(self.n_headlines)

    def _vectors(self, texts: Sequence[str]) -> dict[str, Any]:
        return {
            stable_hash("embedding", MINILM_SHA256, text): np.float32([np.cos(i), np.sin(i), 0.5])
            for i, text in enumerate(t.replace("\x00", "\ufffd") for t in texts)
        }

    def _group(self, n: int, i: int) -> Group:
        title = self.title(n, i)
        guid = f"{n}-{i}"
        headline = Headline(
            headline_id(self.corpus, "feed", guid, title), self.corpus, "feed",
            _at(self.source, n, i), guid, title, _at(self.link, n, i), None,
            clock(n) - timedelta(hours=3),
        )  # fmt: skip
        group_id = stable_hash("group", n, i)
        forecasts = tuple(
            Forecast(stable_hash("forecast", n, i, k), group_id, k, (1, 2), np.zeros(2, np.float32),
                     self.text(n, i, k), "stop", 1)
            for k in range(self.n_forecasts)
        )  # fmt: skip
        role = Role.HELDOUT if i == 0 else Role.TRAIN
        return Group(
            group_id, "main", day_name(n), role, headline, n, clock(n), "p", (1,), forecasts
        )

    def _settlement(self, group: Group, forecast: Forecast, n: int, void: str | None) -> Settlement:
        if void:
            return Settlement(forecast.id, group.id, day_name(n), VERSION, None, void_reason=void)
        outcome = self._group(n, 0).headline.id if self.n_headlines else None
        reward = 0.1 + 0.01 * forecast.k
        return Settlement(forecast.id, group.id, day_name(n), VERSION, reward, dict(PARTS), outcome)


def _at(text: str | Callable[[int, int], str], n: int, i: int) -> str:
    return text if isinstance(text, str) else text(n, i)


def _evaluation(day: str) -> EvaluationInfo:
    means = {"reward": 0.3, "placebo": 0.5}
    differences = {p: [0.01, 0.02] for p in ("even_contrast", "reward", "echo", "template")}
    detail = {"served": means, "base": {"reward": 0.28, "placebo": 0.5}, "differences": differences}
    return EvaluationInfo("main", day, 2, 0.015, 0.0, 0.03, detail)
