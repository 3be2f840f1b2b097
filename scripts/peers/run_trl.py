"""One run of TRL's GRPOTrainer on the benchmark's workload.

Its clock runs from `on_train_begin` to `on_train_end`. Sampling is the time inside
`_generate_single_turn`, which calls `model.generate`; all the rest of training is the update: the
old and the reference log-probs, the loss, the optimiser.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
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
    token_text,
)

PACKAGES = ("trl", "transformers", "torch", "accelerate", "peft")
NO_TOKEN = -1
"""ends an answer: no id is this one, so none ends early"""


class Clock(TrainerCallback):  # type: ignore[misc]
    started = ended = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.ended = time.perf_counter()


class TimedTrainer(GRPOTrainer):  # type: ignore[misc]
    sampling_s = 0.0
    answers: list[list[int]]

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        found = super()._generate_single_turn(*args, **kwargs)
        self.sampling_s += time.perf_counter() - started
        self.answers.extend(found[0])
        return found


def settings(job: Job, out: str) -> GRPOConfig:
    """All answers are sampled at once, then trained on in `n_steps` equal minibatches.

    Note: one group at a time, accumulated: faster here than a minibatch at once, and smaller.
    """
    n_prompts, steps = len(job.prompts), n_steps(len(job.prompts))
    if n_prompts % steps:
        raise ValueError(f"{n_prompts} prompts do not split into {steps} equal minibatches")
    return GRPOConfig(
        output_dir=out,
        per_device_train_batch_size=GROUP,
        gradient_accumulation_steps=n_prompts // steps,
        steps_per_generation=n_prompts,
        num_generations=GROUP,
        num_iterations=1,
        max_steps=steps,
        max_completion_length=job.n_tokens,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        beta=KL_COEF,
        importance_sampling_level="sequence",
        loss_type="grpo",
        epsilon=1.5e-3,
        epsilon_high=2e-3,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        generation_kwargs={"eos_token_id": NO_TOKEN},
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )


def adapter(mode: str) -> Any:
    if mode == "full":
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=LORA_RANK,
        lora_alpha=LORA_RANK * LORA_SCALE,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def run(job: Job) -> Result:
    model = AutoModelForCausalLM.from_pretrained(job.folder, dtype=torch.float32)
    n_parameters = sum(p.numel() for p in model.parameters())
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        trainer = TimedTrainer(
            model=model,
            reward_funcs=lambda completion_ids, **_: [reward(ids) for ids in completion_ids],
            args=settings(job, out),
            train_dataset=Dataset.from_list(
                [{"prompt": " ".join(map(token_text, ids))} for ids in job.prompts]
            ),
            processing_class=AutoTokenizer.from_pretrained(job.folder),
            callbacks=[clock],
            peft_config=adapter(job.mode),
        )
        trainer.eos_token_ids = [NO_TOKEN]
        trainer.answers = []
        trainer.train()
    return job.result(
        "trl",
        trainer.answers,
        sampling_s=trainer.sampling_s,
        whole_s=clock.ended - clock.started,
        packages=PACKAGES,
        n_parameters=n_parameters,
        n_trainable=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        blas="MKL (torch)",
        notes=["old and reference pass"],
    )


def main() -> None:
    with job_from_arguments() as job:
        result = run(job)
    job.finish(result)


if __name__ == "__main__":
    main()
