"""How fast a day is here: sampling and update on a fixed workload, beside the GEMM rate.

16 headlines × 8 forecasts by the tiny policy (or --model), the medians of several runs. Read the
ratios: machines are shared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from varro.config import GuardConfig, LeashConfig, PolicyConfig, UpdateConfig
from varro.domain import Headline, Role
from varro.forecast.stage import forecast_headlines
from varro.news.archive import load_archive
from varro.policy.blas import load_fast_blas
from varro.policy.checkpoint import TrainerState
from varro.policy.load import Policy, load_policy
from varro.policy.sample import SamplingSettings
from varro.report.machine import describe_machine, peak_rss_gb
from varro.service.doctor import matmul_gflops
from varro.training.advantage import plain_advantages
from varro.training.update import update_policy

ROOT = Path(__file__).resolve().parent.parent
NOW = datetime(2030, 1, 1, tzinfo=UTC)
OPEN = GuardConfig(
    min_spike=1e9, kl_redo=1e9, kl_refuse=1e9, max_length_correlation=1.0, max_kl_sampler=1e9
)
"""the same work whatever a made-up reward and an untrained policy look like"""


def run_once(policy: Policy, headlines: list[Headline], *, seed: int, max_tokens: int) -> Any:
    """Seconds and tokens of one sampling and one update."""
    settings = SamplingSettings(0.8, max_tokens, stop_at_paragraph=True, max_rows=512)
    started = time.perf_counter()
    groups = forecast_headlines(
        policy,
        [(h, Role.TRAIN) for h in headlines],
        run="bench",
        seed=seed,
        day="2030-01-01",
        made_at=NOW,
        n_forecasts=8,
        settings=settings,
    )
    sampled = time.perf_counter() - started
    rewards = np.array([[len(f.token_ids) % 7 / 7 for f in g.forecasts] for g in groups])
    parent = dict(policy.adapter())
    started = time.perf_counter()
    update_policy(
        policy,
        groups,
        plain_advantages(rewards, weights=(0.0, 1.0), format_=np.zeros_like(rewards)).total,
        TrainerState(0.03),
        low_variance=np.zeros(len(groups), dtype=bool),
        config=UpdateConfig(mask_overlong=False),
        leash=LeashConfig(kl_limit=1e9, base_kl_limit=1e9),
        guard=OPEN,
        temperature=0.8,
        seed_parts=(seed,),
    )
    updated = time.perf_counter() - started
    policy.set_adapter(parent)
    n_tokens = sum(len(f.token_ids) for g in groups for f in g.forecasts)
    return {
        "sampling": n_tokens / sampled,
        "update": n_tokens / updated,
        "seconds": sampled + updated,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(ROOT / "data" / "tiny-policy"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=80)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    blas = load_fast_blas()
    policy = load_policy(PolicyConfig(model=options.model), lora_seed=0)
    headlines = list(load_archive(ROOT / "data/sample/world.jsonl.gz").headlines[:16])
    run_once(policy, headlines, seed=0, max_tokens=options.max_tokens)
    runs, gemm = [], []
    for seed in range(1, options.runs + 1):
        gemm.append(matmul_gflops())
        runs.append(run_once(policy, headlines, seed=seed, max_tokens=options.max_tokens))
    medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    result = {
        "blas": blas,
        "gemm_gflops": statistics.median(gemm),
        "sampling_tokens_per_s": medians["sampling"],
        "update_tokens_per_s": medians["update"],
        "seconds": medians["seconds"],
        "peak_rss_gb": peak_rss_gb(),
        "n_runs": len(runs),
        "versions": describe_machine()["versions"],
    }
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        for key, value in result.items():
            print(f"{key:>22}  {value:,.1f}" if isinstance(value, float) else f"{key:>22}  {value}")


if __name__ == "__main__":
    main()
