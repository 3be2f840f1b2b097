"""A day whose news is thin is forecast and evaluated, and nothing is trained on it."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, date, datetime, timedelta

import numpy as np
from conftest import lend_embedder
from typer.testing import CliRunner

from varro.cli import app
from varro.config import render_toml
from varro.day import DueDay, due_days, end_of_day, report_folder, run_day
from varro.domain import Role, Stage
from varro.run import open_run
from varro.service.replay import summarize

FIRST = date(2026, 1, 5)
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def day_of(n: int) -> DueDay:
    day = FIRST + timedelta(days=n)
    return DueDay(day.isoformat(), end_of_day(day))


def test_a_thin_day_is_forecast_and_evaluated_but_not_trained_on(tmp_path, configured, embedder):
    """Catches a policy trained on what little two feeds had to say, a thin day that is skipped
    altogether, and one that nobody is told of."""
    lines = gzip.decompress(configured().news.archive.read_bytes()).decode().splitlines()
    by_day: dict[str, list[str]] = {}
    for line in lines:
        by_day.setdefault(json.loads(line)["first_seen"][:10], []).append(line)
    thin = day_of(1).day
    by_day[thin] = by_day[thin][:20]
    archive = tmp_path / "thin.jsonl"
    archive.write_text("\n".join(line for day in by_day.values() for line in day))
    config = configured(f"news.archive={archive}", "news.min_headlines=21", "news.min_feeds=9")
    with open_run(config) as work:
        lend_embedder(work, embedder)
        run_day(work, day_of(0))
        before = {name: np.array(a) for name, a in work.policy.adapter().items()}
    # The second day by the command line, which must say so too.
    file = tmp_path / "thin.toml"
    file.write_text(render_toml(config))
    done = CliRunner().invoke(app, ["train-day", "--config", str(file), "--json"])
    assert done.exit_code == 12, done.output
    reason = "20 new headlines, 21 are needed"
    assert json.loads(done.stdout)["degraded"] == {thin: reason}
    with open_run(config) as work:
        lend_embedder(work, embedder)
        stages = [s.stage for s in work.ledger.stage_runs("main", thin)]
        assert stages == list(Stage)
        assert work.ledger.stage_run("main", thin, Stage.UPDATE).detail["reason"] == (
            f"the day is degraded: {reason}"
        )
        # It would have been trained on: everything that an update needs is there.
        settled = work.ledger.settled_groups("main", day=thin, role=Role.TRAIN)
        assert len(settled) >= config.update.min_groups
        assert all("semantic" in s.components for item in settled for s in item.settlements)
        assert work.ledger.update("main", thin) is None
        assert work.ledger.checkpoint("main").version == 0
        for role in (Role.TRAIN, Role.HELDOUT, Role.BASE):
            assert work.ledger.groups("main", day=thin, roles=[role])
        assert [e.day for e in work.ledger.evaluations("main")] == [thin]
        # The next day is as it should be, and trains.
        assert due_days(work, NOW)[0] == day_of(2)
        run_day(work, day_of(2))
        update = work.ledger.update("main", day_of(2).day)
        assert (update.from_version, update.to_version) == (0, 1)
        assert any(
            not np.array_equal(np.array(a), before[name])
            for name, a in work.policy.adapter().items()
        )
        rows = summarize(work.ledger, config)["days"]
        assert [row["degraded"] for row in rows] == [None, reason, None]
    report = json.loads((report_folder(config.home, "main", thin) / "report.json").read_text())
    assert report["verdict"]["reason"] == "thin news"
    assert reason in report["verdict"]["text"]
    assert report["news"]["degraded"] == reason
    page = (report_folder(config.home, "main", thin) / "report.md").read_text()
    assert f"The day is degraded: {reason}" in page.replace("\\", "")
