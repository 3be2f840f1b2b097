"""One run of Varro on the benchmark's workload, through the modules that a day goes through."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workload import (
    GROUP,
    KL_COEF,
    LEARNING_RATE,
    LORA_RANK,
    LORA_SCALE,
    Job,
    Result,
    job_from_arguments,
    n_steps,
    reward,
)

from varro.config import GuardConfig, LeashConfig, PolicyConfig, UpdateConfig
from varro.domain import Forecast, Group, Headline, Role, stable_seed
from varro.policy.blas import load_fast_blas
from varro.policy.checkpoint import TrainerState
from varro.policy.load import Policy, leave_out_torch, load_policy
from varro.policy.memory import plan_update
from varro.policy.mlx import release_memory
from varro.policy.sample import Sample, SamplingSettings, sample_groups
from varro.training.measure import n_after, n_guarded
from varro.training.update import update_policy

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PACKAGES = ("mlx", "mlx-lm", "numpy")


def load(job: Job, dtype: Literal["auto", "float32", "bfloat16"] = "auto") -> Policy:
    """The policy, whose answers no token can end, as the process of a stage has it."""
    config = PolicyConfig(
        model=str(job.folder),
        dtype=dtype,
        fine_tune=job.mode,
        lora_rank=LORA_RANK,
        lora_scale=LORA_SCALE,
    )
    leave_out_torch()
    budget_bytes = int(job.budget_gb * 1e9) if job.budget_gb else None
    policy = load_policy(config, lora_seed=0, budget_bytes=budget_bytes)
    policy.eos_ids = policy.paragraph_ids = frozenset()
    return policy


def sample(policy: Policy, job: Job) -> list[list[Sample]]:
    return sample_groups(
        policy,
        [tuple(prompt) for prompt in job.prompts],
        seeds=[[stable_seed("bench", n, k) for k in range(GROUP)] for n in range(len(job.prompts))],
        settings=SamplingSettings(1.0, job.n_tokens, stop_at_paragraph=False, max_rows=512),
    )


def update(policy: Policy, job: Job, samples: list[list[Sample]]) -> dict[str, Any]:
    """The update's metrics.

    Raises: RuntimeError if it was refused, or tried more than once: that is other work.

    Note: after the steps Varro measures the new policy on the guard's groups.
    """
    rewards = np.array([[reward(s.token_ids) for s in group] for group in samples])
    found = update_policy(
        policy,
        [as_group(n, job, group, policy.version) for n, group in enumerate(samples)],
        rewards - rewards.mean(axis=1, keepdims=True),
        TrainerState(KL_COEF),
        low_variance=np.zeros(len(samples), dtype=bool),
        config=UpdateConfig(
            lr=LEARNING_RATE,
            n_minibatches=n_steps(len(job.prompts)),
            n_warmup=0,
            mask_overlong=False,
        ),
        leash=LeashConfig(),
        guard=GuardConfig(),
        temperature=1.0,
        seed_parts=("bench",),
    )
    if found.refused or found.metrics["n_attempts"] > 1:
        raise RuntimeError(f"the update was refused or repeated: {found.metrics}")
    return found.metrics


def describe_plan(policy: Policy, job: Job) -> str:
    """How the update was dealt out, as Varro plans it for these groups."""
    plan = plan_update(
        policy.shape(),
        prompt_tokens=max(map(len, job.prompts)),
        answer_tokens=job.n_tokens,
        group_size=GROUP,
        n_streams=len(policy.streams),
        budget_bytes=policy.budget_bytes,
    )
    return (
        f"budget {policy.budget_bytes / 1e9:.3g} GB: {plan.n_rows} answers at once on each of "
        f"{plan.n_side_by_side} streams, layers {'recomputed' if plan.recompute else 'kept'}"
    )


def as_group(n: int, job: Job, samples: list[Sample], version: int) -> Group:
    headline = Headline(f"h{n}", "bench", "", "", str(n), f"headline {n}", "", None, NOW)
    forecasts = tuple(
        Forecast(f"f{n}-{k}", f"g{n}", k, s.token_ids, s.logprobs, "", s.finish_reason, k)
        for k, s in enumerate(samples)
    )
    prompt = tuple(job.prompts[n])
    return Group(
        f"g{n}", "bench", "2030-01-01", Role.TRAIN, headline, version, NOW, "", prompt, forecasts
    )


def mlx_peak_gb() -> float:
    from varro.policy.mlx import mx

    return float(mx.get_peak_memory() / 1e9)


def run(job: Job) -> Result:
    policy = load(job)
    n_prompts = len(job.prompts)
    n_again = n_after(n_prompts) * n_guarded(n_prompts, GROUP)
    n_parameters, n_trainable = policy.n_parameters()
    started = time.perf_counter()
    samples = sample(policy, job)
    sampling_s = time.perf_counter() - started
    release_memory()  # as a day does between its stages
    update(policy, job, samples)
    return job.result(
        "varro",
        [s.token_ids for group in samples for s in group],
        sampling_s=sampling_s,
        whole_s=time.perf_counter() - started,
        packages=PACKAGES,
        mode=job.mode,
        n_parameters=n_parameters,
        n_trainable=n_trainable,
        blas=load_fast_blas(),
        mlx_peak_gb=mlx_peak_gb(),
        notes=[
            f"old and reference pass, and {n_again} of {n_prompts * GROUP} answers once more after "
            "the update",
            describe_plan(policy, job),
            "torch left out as in a stage of its own (memory.process_per_stage)",
        ],
    )


def main() -> None:
    with job_from_arguments() as job:
        result = run(job)
    job.finish(result)


if __name__ == "__main__":
    main()
