"""Write docs/metrics.md from the one table of metrics.

python scripts/build_metrics_doc.py
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from varro.report.metrics import METRICS  # noqa: E402

PAGE = ROOT / "docs" / "metrics.md"
_HEAD = """# Metrics

What each number of a report means; the name is its key in `report.json` and `metrics.jsonl`.
Written by `scripts/build_metrics_doc.py` from `varro/report/metrics.py`: change it there.

| name | label | definition | unit | healthy |
|---|---|---|---|---|
"""


def page() -> str:
    return _HEAD + "".join(
        f"| `{m.name}` | {_cell(m.label)} | {_cell(m.definition)} | {_cell(m.unit)} "
        f"| {_cell(m.healthy or '—')} |\n"
        for m in METRICS
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
