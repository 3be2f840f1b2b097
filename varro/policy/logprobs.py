"""Log-probs of sampled tokens by a teacher-forced pass: new, old and reference alike.

The forecasts of a group share their prompt, so its keys and values are computed once and every
forecast attends to them; gradients flow through. With a prompt three times as long as the answer,
as here, that saves two thirds of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from varro.policy.attention import answer_memories, hidden_recomputed, prompt_memories
from varro.policy.head import Seen, compare, plain_token_logprobs, token_logprobs
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
    policy: Policy,
    prompt_ids: Sequence[int],
    tokens: mx.array,
    *,
    temperature: float,
    trains: bool = False,
    recompute: bool = False,
    embedded: mx.array | None = None,
) -> mx.array:
    """log π(y_t | prompt, y_<t) at a temperature, the head applied to response positions only.

    `trains`: whether a gradient will be asked for; without it the pass is cheaper. `recompute`:
    layers are computed again in the backward pass instead of kept (gradient checkpointing).
    `embedded`: the embeddings of what is read, (n, H) at `ids_read`, if they are at hand.
    Shapes: tokens (B, T) → (B, T) float32.  Units: nats.
    Note: positions past a row's own end hold numbers without meaning; the mask goes with them.
    """
    hidden = _response_hidden(policy, prompt_ids, tokens, recompute=recompute, embedded=embedded)
    read = token_logprobs if trains else plain_token_logprobs
    flat = read(policy.head(), hidden, tokens.reshape(-1), temperature=temperature)
    return flat.reshape(tokens.shape)


@dataclass(frozen=True)
class Behaviour:
    """The live policy beside its reference on sampled tokens. All (B, T) float32, in nats."""

    old: mx.array
    ref: mx.array
    kl: mx.array
    """exact KL(policy‖reference) at each position, over the whole vocabulary"""
    entropy: mx.array
    """exact entropy of the policy at each position"""
    hidden: tuple[mx.array, mx.array]
    """(B · T, H) last hidden states of policy and reference"""


def behaviour_logprobs(
    policy: Policy, prompt_ids: Sequence[int], tokens: mx.array, *, temperature: float
) -> Behaviour:
    """Log-probs of the live policy and its reference, with the exact KL between them.

    Shapes: tokens (B, T) → (B, T) each.
    Note: the sum of `kl` over a forecast has the expectation of the usual k1 estimate and far less
    noise; it is exact in each step, given what was sampled before it.
    """
    one = response_seen(policy, prompt_ids, tokens)
    with policy.as_reference():
        other = response_seen(policy, prompt_ids, tokens)
    found = compare(one, [other], tokens.reshape(-1), temperature=temperature)
    old, ref, kl, entropy = (
        a.reshape(tokens.shape)
        for a in (found.logprobs, found.others[0], found.kl[0], found.entropy)
    )
    return Behaviour(old, ref, kl, entropy, (one.hidden, other.hidden))


def response_seen(policy: Policy, prompt_ids: Sequence[int], tokens: mx.array) -> Seen:
    """The policy as it is now at each response position. Shapes: tokens (B, T) → hidden (B · T, H).

    Note: no gradient.
    """
    return Seen(_response_hidden(policy, prompt_ids, tokens), policy.head())


def ids_read(prompt_ids: Sequence[int], tokens: mx.array) -> mx.array:
    """What the policy reads to predict each response token: the prompt, then of each response all
    but its last token. Shapes: tokens (B, T) → (P + B · (T − 1),)."""
    return mx.concatenate([mx.array(list(prompt_ids)), tokens[:, :-1].reshape(-1)])


def _response_hidden(
    policy: Policy,
    prompt_ids: Sequence[int],
    tokens: mx.array,
    *,
    recompute: bool = False,
    embedded: mx.array | None = None,
) -> mx.array:
    """Hidden states that predict each response token. Shapes: (B, T) → (B · T, H)."""
    n_rows, n_tokens = tokens.shape
    prompt = prompt_memories(policy.n_layers)
    if embedded is None:
        embedded = policy.embed(ids_read(prompt_ids, tokens))
    of_prompt = embedded[: len(prompt_ids)][None]
    hidden = policy.hidden_of(of_prompt, prompt)[:, -1:]  # (1, 1, H)
    hidden = mx.broadcast_to(hidden, (n_rows, 1, hidden.shape[-1]))
    if n_tokens > 1:
        of_rows = embedded[len(prompt_ids) :].reshape(n_rows, n_tokens - 1, -1)
        if recompute:
            rest = hidden_recomputed(policy.model.model, of_rows, prompt)
        else:
            rest = policy.hidden_of(of_rows, answer_memories(prompt))
        hidden = mx.concatenate([hidden, rest], axis=1)  # (B, T, H)
    return hidden.reshape(-1, hidden.shape[-1])
