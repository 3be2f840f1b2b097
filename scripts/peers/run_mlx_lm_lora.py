"""One run of mlx-lm-lora's GRPO trainer on the benchmark's workload.

Its clock runs from the call of `train_grpo` to the report of the last step, before weights are
saved. Sampling is the time inside its `generate_grpo`; all the rest is the update.
"""

from __future__ import annotations

import ctypes
import tempfile
import time
from pathlib import Path
from typing import Any

from workload import (
    GROUP,
    KL_COEF,
    LEARNING_RATE,
    LORA_RANK,
    LORA_SCALE,
    Job,
    Result,
    job_from_arguments,
    reward,
    token_text,
)

PACKAGES = ("mlx-lm-lora", "mlx", "mlx-lm", "numpy")


class Sampler:
    """`generate_grpo` with a clock; keeps the answers."""

    def __init__(self, generate: Any) -> None:
        self._generate = generate
        self.seconds = 0.0
        self.answers: list[list[int]] = []
        self.last: list[list[int]] = []

    def __call__(self, **arguments: Any) -> Any:
        started = time.perf_counter()
        found = self._generate(**arguments)
        self.seconds += time.perf_counter() - started
        self.last = [answer.tolist() for answer in found[0]]
        self.answers.extend(self.last)
        return found


class Clock:
    """A training callback that keeps when the last step was done."""

    ended = 0.0

    def on_train_loss_report(self, _: Any) -> None:
        self.ended = time.perf_counter()

    def on_val_loss_report(self, _: Any) -> None: ...


def run(job: Job) -> Result:
    import mlx.optimizers as optim
    from mlx_lm import load
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm_lora.trainer import grpo_trainer

    model, tokenizer = load(str(job.folder))
    reference, _ = load(str(job.folder))
    n_parameters = count(model.parameters())
    if job.mode == "lora":
        model.freeze()
        lora = {"rank": LORA_RANK, "scale": LORA_SCALE, "dropout": 0.0}
        linear_to_lora_layers(model, len(model.layers), lora)
    tokenizer._eos_token_ids = set()
    sampler, clock = Sampler(grpo_trainer.generate_grpo), Clock()
    grpo_trainer.generate_grpo = sampler

    def same_reward(**_: Any) -> list[float]:
        return [reward(ids) for ids in sampler.last]

    n_trainable = count(model.trainable_parameters())
    with tempfile.TemporaryDirectory() as out:
        arguments = grpo_trainer.GRPOTrainingArgs(
            # Also the rows it decodes at once. Four steps of four prompts take 1.4 times as long.
            batch_size=len(job.prompts),
            iters=1,
            steps_per_report=1,
            steps_per_save=2,
            adapter_file=str(Path(out) / "weights.safetensors"),
            group_size=GROUP,
            beta=KL_COEF,
            epsilon=1.5e-3,
            epsilon_high=2e-3,
            max_completion_length=job.n_tokens,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            grpo_loss_type="grpo",
            importance_sampling_level="sequence",
        )
        started = time.perf_counter()
        grpo_trainer.train_grpo(
            model,
            reference,
            tokenizer,
            optim.AdamW(learning_rate=LEARNING_RATE),
            [(ids, [], " ".join(map(token_text, ids)), "") for ids in job.prompts],
            reward_funcs=[same_reward],
            args=arguments,
            training_callback=clock,
            end_answer_token="",
        )
    return job.result(
        "mlx-lm-lora",
        sampler.answers,
        sampling_s=sampler.seconds,
        whole_s=clock.ended - started,
        packages=PACKAGES,
        n_parameters=n_parameters,
        n_trainable=n_trainable,
        blas=Path(job.blas_library).name if job.blas_library else "as shipped",
        notes=[
            "reference pass, no old pass; one optimiser step; rows decoded at once: "
            f"{len(job.prompts)}"
        ],
    )


def count(tree: Any) -> int:
    from mlx.utils import tree_flatten

    return sum(array.size for _, array in tree_flatten(tree))


def main() -> None:
    with job_from_arguments() as job:
        if job.blas_library:
            ctypes.CDLL(job.blas_library, mode=ctypes.RTLD_GLOBAL)
        result = run(job)
    job.finish(result)


if __name__ == "__main__":
    main()
