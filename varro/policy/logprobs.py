"""Log-probs of sampled tokens by a teacher-forced pass: new, old and reference alike."""

from __future__ import annotations

from collections.abc import Sequence

from varro.policy.load import Policy
from varro.policy.mlx import mx


def pad_responses(responses: Sequence[Sequence[int]]) -> tuple[mx.array, mx.array]:
    """Right-padded token ids (B, T) int32 and their mask (B, T) float32, 1 where sampled.

    Raises: ValueError if a response is empty: it has no token to train.
    """
    if any(not r for r in responses):
        raise ValueError("a forecast without a sampled token has no log-prob")
    width = max(len(r) for r in responses)
    tokens = mx.array([[*r, *([0] * (width - len(r)))] for r in responses], dtype=mx.int32)
    lengths = mx.array([len(r) for r in responses])
    return tokens, (mx.arange(width)[None] < lengths[:, None]).astype(mx.float32)


def response_logprobs(
    policy: Policy, prompt_ids: Sequence[int], tokens: mx.array, *, temperature: float
) -> mx.array:
    """log π(y_t | prompt, y_<t) at a temperature, the head applied to response positions only.

    Shapes: tokens (B, T) → (B, T) float32.  Units: nats.
    Note: positions past a row's own end hold numbers without meaning; the mask goes with them.
    """
    n_rows = tokens.shape[0]
    prompt = mx.broadcast_to(
        mx.array(list(prompt_ids), dtype=tokens.dtype), (n_rows, len(prompt_ids))
    )
    inputs = mx.concatenate([prompt, tokens[:, :-1]], axis=1)  # (B, P + T - 1)
    hidden = policy.hidden(inputs)[:, len(prompt_ids) - 1 :]  # (B, T, H)
    scaled = policy.logits(hidden) / temperature
    chosen = mx.take_along_axis(scaled, tokens[..., None], axis=-1)[..., 0]
    return chosen - mx.logsumexp(scaled, axis=-1)
