"""A day of 100,000 headlines is taken in and chosen from within a minute, and has its report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def seconds_of(n_headlines: int, n_feeds: int) -> dict[str, float]:
    command = [sys.executable, ROOT / "scripts" / "bench_ingest.py", "--headlines", n_headlines]
    done = subprocess.run(
        [*map(str, command), "--feeds", str(n_feeds)], capture_output=True, text=True, check=True
    )
    print(done.stdout)
    return json.loads(done.stdout)


def test_the_benchmark_takes_in_what_it_makes() -> None:
    """A benchmark that measures an empty day."""
    facts = seconds_of(300, 3)
    assert facts["headlines"] == 300
    assert facts["chosen"] == 44


@pytest.mark.slow
def test_a_hundred_thousand_headlines_take_less_than_a_minute() -> None:
    """Work that grows with the square of a day's headlines, or a page with each of them."""
    facts = seconds_of(100_000, 200)
    assert facts["headlines"] == 100_000
    assert facts["ingest_s"] + facts["selection_s"] < 60
    assert facts["report_s"] < 2
    assert facts["largest_page_kb"] <= 200
