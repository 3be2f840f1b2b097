"""Seconds that a day of many headlines takes to be taken in, chosen from and reported.

Feeds on loopback, each with its share of synthetic headlines, go through the fetcher, the parsing
processes, the judges and the ledger; then the day's headlines are selected, near-duplicates once,
the day goes on to its end, and its report is written a second time.

    python scripts/bench_ingest.py [--headlines 100000] [--feeds 200]
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from varro.config import load_config
from varro.day import DueDay, run_day, write_day_report
from varro.domain import Stage
from varro.news.ingest import select_headlines
from varro.run import open_run

ROOT = Path(__file__).resolve().parent.parent
N_WORDS = 30_000
AGAIN = 0.05
"""share of headlines that another feed has told already"""
SYLLABLES = "ba ke li mo nu ra se ti vo xa zu dor fen gar hil jun pel qua sto wyn".split()


def titles(n: int, *, seed: int = 0) -> Iterator[str]:
    """Headlines of 6 to 13 words, which are as unevenly common as those of a language."""
    draw = np.random.Generator(np.random.PCG64(seed))
    words = ["".join(draw.choice(SYLLABLES, size=k)) for k in draw.integers(1, 5, N_WORDS)]
    rank = np.arange(1, N_WORDS + 1)
    weights = 1 / (rank + 2.7)
    weights /= weights.sum()
    told: list[str] = []
    for length, is_again in zip(draw.integers(6, 14, n), draw.random(n) < AGAIN, strict=True):
        if told and is_again:
            yield f"UPDATE 1-{told[draw.integers(len(told))]} - Reuters"
            continue
        title = " ".join(words[i] for i in draw.choice(N_WORDS, size=length, p=weights))
        told.append(title.capitalize())
        yield told[-1]


def serve(bodies: list[bytes]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = bodies[int(self.path.strip("/"))]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--headlines", type=int, default=100_000)
    parser.add_argument("--feeds", type=int, default=200)
    asked = parser.parse_args()
    shares = np.array_split(np.array(list(titles(asked.headlines)), dtype=object), asked.feeds)
    bodies = [
        (
            "<rss version='2.0'><channel>"
            + "".join(
                f"<item><title>{t}</title><link>https://n.example/{f}/{i}</link></item>"
                for i, t in enumerate(share)
            )
            + "</channel></rss>"
        ).encode()
        for f, share in enumerate(shares)
    ]
    server = serve(bodies)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    with tempfile.TemporaryDirectory() as folder:
        opml = Path(folder) / "feeds.opml"
        outlines = "".join(f'<outline xmlUrl="{address}/{f}"/>' for f in range(asked.feeds))
        opml.write_text(f"<opml><body>{outlines}</body></opml>")
        config = load_config(
            ROOT / "configs" / "embedded.toml",
            (
                f"home={folder}/home", 'news.source="feeds"', f"news.feeds={opml}",
                "news.allow_private=true", "news.pause_s=0", "news.max_new_per_feed=100000",
            ),
        )  # fmt: skip
        as_of = datetime(2026, 1, 5, 7, tzinfo=UTC)
        with open_run(config) as work:
            started = time.perf_counter()
            run_day(work, DueDay("2026-01-05", as_of), only=Stage.INGEST)
            ingested, busy = time.perf_counter(), time.process_time()
            todays = work.ledger.headlines_between("live", after=None, until=as_of)
            chosen = [
                select_headlines(
                    todays,
                    n_train=config.news.n_headlines,
                    n_heldout=config.evaluate.n_headlines,
                    heldout_frac=config.evaluate.heldout_frac,
                    seed_parts=(0, "2026-01-05"),
                )
                for _ in range(2)
            ]
            selected, worked = time.perf_counter(), time.process_time() - busy
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert chosen[0] == chosen[1], "a selection that is not seeded"
            run_day(work, DueDay("2026-01-05", as_of))
            begun = time.perf_counter()
            report = write_day_report(work, "2026-01-05")
            reported = time.perf_counter()
            largest = max(page.stat().st_size for page in report.parent.glob("*.html"))
    server.shutdown()
    facts = {
        "headlines": len(todays),
        "feeds": asked.feeds,
        "ingest_s": round(ingested - started, 1),
        "selection_s": round((selected - ingested) / 2, 1),
        "selection_cpu_s": round(worked / 2, 1),
        "chosen": len(chosen[0].train) + len(chosen[0].heldout),
        "report_s": round(reported - begun, 2),
        "largest_page_kb": round(largest / 1000),
        "peak_rss_mb": round(peak / 1024),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
