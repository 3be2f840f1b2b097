"""The benchmark's workload: the same models, prompts and reward for every system.

Standard library only: each system's runner imports it inside that system's own environment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random
from typing import Any

SEED = 20260
GROUP = 8
"""answers a prompt"""
MAX_STEPS = 4
"""optimiser steps of one update"""
LEARNING_RATE = 1e-6
KL_COEF = 0.03
LORA_RANK = 16
LORA_SCALE = 2.0
"""alpha / rank"""
SPECIAL = ("<unk>", "<pad>", "<eos>")
"""tokens 0, 1 and 2 of every model here"""


@dataclass(frozen=True)
class Shape:
    """A Qwen3 with tied embeddings."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int

    def products(self) -> tuple[tuple[int, int], ...]:
        """(out, in) of the linear layers of one block, in the order q k v o gate up down."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        h, wide = self.hidden, self.intermediate
        return (q, h), (kv, h), (kv, h), (h, q), (wide, h), (wide, h), (h, wide)

    @property
    def body(self) -> int:
        """Weights of all linear layers, the output head left out."""
        return self.layers * sum(out * width for out, width in self.products())

    @property
    def head(self) -> int:
        """Weights of the output head, which are the embedding's too."""
        return self.vocab * self.hidden

    @property
    def n_parameters(self) -> int:
        norms = self.layers * (2 * self.hidden + 2 * self.head_dim) + self.hidden
        return self.body + self.head + norms


MODELS = {
    "tiny": Shape(256, 5, 4, 2, 64, 768, 4_096),
    "small": Shape(640, 8, 10, 5, 64, 1_984, 32_000),
    "qwen3-0.6b": Shape(1_024, 28, 16, 8, 128, 3_072, 151_936),
}
MEMORY_ONLY = ("qwen3-0.6b",)
"""too slow to time in rounds: run once, for its peak memory"""


def prompt_ids(n_prompts: int, vocab: int) -> list[list[int]]:
    """Prompts of 51 to 62 random tokens; the first is of mean length."""
    random = Random(SEED)
    return [
        [random.randrange(len(SPECIAL), vocab) for _ in range(51 + (5 + 7 * i) % 12)]
        for i in range(n_prompts)
    ]


def token_text(token_id: int) -> str:
    """The word that the benchmark's tokenizer reads as this one token."""
    return SPECIAL[token_id] if token_id < len(SPECIAL) else f"t{token_id}"


def reward(token_ids: Sequence[int]) -> float:
    """Mean of (id mod 7) / 7: fixed, and different for each answer."""
    return sum(t % 7 for t in token_ids) / (7 * len(token_ids))


def n_steps(n_prompts: int) -> int:
    """Optimiser steps of one update: minibatches of a quarter of the prompts each."""
    return min(MAX_STEPS, n_prompts)


class WrongWork(ValueError):
    """A system did other work than the workload: its seconds do not count."""


def check_answers(answers: Sequence[Sequence[int]], *, n_prompts: int, n_tokens: int) -> None:
    """Raises: WrongWork unless there are GROUP answers a prompt, each of `n_tokens` tokens."""
    lengths = sorted({len(answer) for answer in answers})
    if len(answers) != n_prompts * GROUP or lengths != [n_tokens]:
        raise WrongWork(
            f"expected {n_prompts * GROUP} answers of {n_tokens} tokens, found {len(answers)} of "
            f"{lengths}: same tokens, same work, or it does not count"
        )


@dataclass
class Result:
    """What one run of one system prints."""

    system: str
    model: str
    mode: str
    n_parameters: int
    n_trainable: int
    n_answers: int
    n_tokens: int
    """sampled"""
    sampling_s: float
    update_s: float
    whole_s: float
    peak_rss_gb: float
    versions: dict[str, str]
    blas: str
    notes: list[str] = field(default_factory=list)
    mlx_peak_gb: float | None = None


@dataclass(frozen=True)
class Job:
    """What a runner is asked to do."""

    folder: Path
    mode: str
    prompts: list[list[int]]
    n_tokens: int
    blas_library: str | None
    budget_gb: float | None
    """of memory, for a system that can be told"""
    print_line: Callable[[str], object]

    def result(
        self,
        system: str,
        answers: Sequence[Sequence[int]],
        *,
        sampling_s: float,
        whole_s: float,
        packages: Sequence[str],
        **facts: Any,
    ) -> Result:
        """The result of a run, once its answers are seen to be the workload's.

        Units: `whole_s` is sampling and update together.  Raises: WrongWork.
        """
        check_answers(answers, n_prompts=len(self.prompts), n_tokens=self.n_tokens)
        return Result(
            system=system,
            model=self.folder.name,
            mode=facts.pop("mode", self.mode),
            n_answers=len(answers),
            n_tokens=sum(map(len, answers)),
            sampling_s=sampling_s,
            update_s=whole_s - sampling_s,
            whole_s=whole_s,
            peak_rss_gb=peak_rss_gb(),
            versions=installed(packages),
            **facts,
        )

    def finish(self, result: Result) -> None:
        self.print_line(json.dumps(asdict(result)))


@contextlib.contextmanager
def job_from_arguments() -> Iterator[Job]:
    """The job of the command line. Inside, what a library prints goes to stderr.

    Note: stdout holds one line, the result.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--mode", choices=("full", "lora"), default="full")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--blas-library", help="loaded before MLX; without it, BLAS as shipped")
    parser.add_argument("--budget-gb", type=float)
    options = parser.parse_args()
    vocab = json.loads((options.folder / "config.json").read_text())["vocab_size"]
    stdout = sys.stdout
    job = Job(
        folder=options.folder,
        mode=options.mode,
        prompts=prompt_ids(options.prompts, vocab),
        n_tokens=options.tokens,
        blas_library=options.blas_library,
        budget_gb=options.budget_gb,
        print_line=lambda line: print(line, file=stdout, flush=True),
    )
    with contextlib.redirect_stdout(sys.stderr):
        yield job


def peak_rss_gb() -> float:
    """Peak resident memory of this process. Units: GB (10^9 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def installed(packages: Sequence[str]) -> dict[str, str]:
    """Versions of those packages that are installed, and of Python."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
