"""The arithmetic of the comparison: the work that is needed, scaling, and ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from workload import GROUP, Result, Shape, WrongWork


@dataclass(frozen=True)
class Floor:
    """FLOP that the method needs, whoever does it."""

    sampling: float
    update: float
    attention: float
    """scores and values, over sampling and update; not part of the other two"""

    def seconds(self, gflops: Mapping[int, float]) -> tuple[float, float]:
        """Of sampling and of the update at the measured rates: with 128 rows a product, and with
        2,048."""
        return self.sampling / gflops[128] / 1e9, self.update / gflops[2048] / 1e9


def flop_floor(shape: Shape, prompt_lengths: Sequence[int], n_tokens: int, mode: str) -> Floor:
    """2·P FLOP a token and forward pass, P the linear layers' weights and the tied head's.

    Sampling: each prompt once without the head, and each answer token. Update: the reference's
    forward pass (2·P) and forward and backward (6·P; 4·P with LoRA, whose frozen weights want no
    gradient; the adapter's own products are left out). Each prompt is passed once a group. The old
    log-probs are the sampler's, so a pass for them is no part of the floor.
    """
    answers = GROUP * len(prompt_lengths) * n_tokens
    weights = shape.body * sum(prompt_lengths) + (shape.body + shape.head) * answers
    passes = 2 + (6 if mode == "full" else 4)
    seen = sum(
        n * (n + 1) // 2 + GROUP * (n * n_tokens + n_tokens * (n_tokens + 1) // 2)
        for n in prompt_lengths
    )
    forward = 4.0 * shape.layers * shape.heads * shape.head_dim * seen
    # Attention has no weights: its backward pass is twice its forward pass in either mode.
    return Floor(2.0 * weights, float(passes * weights), forward * (1 + 1 + 3))


def scaled(result: Result, factor: int) -> Result:
    """The seconds and tokens of `factor` times the work; memory stays."""
    return replace(
        result,
        n_answers=result.n_answers * factor,
        n_tokens=result.n_tokens * factor,
        sampling_s=result.sampling_s * factor,
        update_s=result.update_s * factor,
        whole_s=result.whole_s * factor,
    )


def paired_ratios(seconds: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """seconds / baseline, round by round: what slows a whole round cancels."""
    return [mine / theirs for mine, theirs in zip(seconds, baseline, strict=True)]


def check_result(result: Result, shape: Shape, *, n_prompts: int, n_tokens: int) -> None:
    """Raises: WrongWork if the run had another model, or other numbers of answers or tokens."""
    found = (result.n_parameters, result.n_answers, result.n_tokens)
    wanted = (shape.n_parameters, n_prompts * GROUP, n_prompts * GROUP * n_tokens)
    if found != wanted:
        raise WrongWork(
            f"{result.system}: expected (parameters, answers, tokens) {wanted}, found {found}"
        )
