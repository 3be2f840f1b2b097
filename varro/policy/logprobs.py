"""Log-probs of sampled tokens by a teacher-forced pass: new, old and reference alike.

The forecasts of a group share their prompt, so its keys and values are computed once and every
forecast attends to them; gradients flow through. With a prompt three times as long as the answer,
as here, that saves two thirds of the work.
"""

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
    prefix = [_PrefixCache() for _ in range(policy.n_layers)]
    hidden = policy.hidden(mx.array([list(prompt_ids)]), prefix)[:, -1:]  # (1, 1, H)
    hidden = mx.broadcast_to(hidden, (tokens.shape[0], 1, hidden.shape[-1]))
    if tokens.shape[1] > 1:
        forked = [_ForkedCache(layer) for layer in prefix]
        rest = policy.hidden(tokens[:, :-1], forked)  # (B, T - 1, H)
        hidden = mx.concatenate([hidden, rest], axis=1)
    scaled = policy.logits(hidden) / temperature  # (B, T, V)
    chosen = mx.take_along_axis(scaled, tokens[..., None], axis=-1)[..., 0]
    return chosen - mx.logsumexp(scaled, axis=-1)


class _PrefixCache:
    """Keeps one prompt's keys and values; speaks mlx_lm's cache protocol."""

    def __init__(self) -> None:
        self.offset = 0
        self.keys: mx.array = mx.zeros((1, 1, 0, 1))
        self.values: mx.array = self.keys

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.keys, self.values = keys, values
        return keys, values

    def make_mask(self, n: int, **_: object) -> str | None:
        return "causal" if n > 1 else None


class _ForkedCache:
    """A prompt's keys and values before each row's own. Shapes: (1, H, P, D), (B, H, T, D)."""

    def __init__(self, prefix: _PrefixCache) -> None:
        self._prefix = prefix
        self.offset = prefix.keys.shape[2]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        return _behind(self._prefix.keys, keys), _behind(self._prefix.values, values)

    def make_mask(self, n: int, **_: object) -> str | None:
        return "causal" if n > 1 else None


def _behind(prefix: mx.array, own: mx.array) -> mx.array:
    shared = mx.broadcast_to(prefix, (own.shape[0], *prefix.shape[1:]))
    return mx.concatenate([shared, own], axis=2)
