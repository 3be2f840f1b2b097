"""The forecast prompt, and the one way a headline becomes tokens.

A headline is hostile text. The template is rendered and tokenized around a placeholder, and the
headline is encoded on its own by a tokenizer that knows no added token at all, so that nothing a
publisher writes can end the user's turn or open a `<think>` block.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from varro.domain import stable_hash
from varro.errors import PolicyError

PROMPT_VERSION = "five-beats-1"

SYSTEM = "You forecast the news."
USER = (
    "Headline: {headline}\n"
    "Write one plain paragraph that forecasts tomorrow's news on it: name the object, its "
    "direction with a small magnitude, by when, the drivers, and how to verify it."
)
_PLACEHOLDER = "HEADLINE_GOES_HERE"


@dataclass(frozen=True)
class PromptEncoder:
    """Turns a clean headline into prompt ids: prefix + headline + suffix."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    added_ids: frozenset[int]
    plain: Any
    """a `tokenizers.Tokenizer` without added tokens"""
    template_hash: str

    def encode(self, headline: str) -> tuple[int, ...]:
        """Prompt ids for one headline.

        Raises: PolicyError if an added token appears in the headline's span.
        """
        span = self.plain.encode(headline, add_special_tokens=False).ids
        leaked = self.added_ids.intersection(span)
        if leaked:
            raise PolicyError(
                f"headline {headline!r} encodes to added tokens {sorted(leaked)}; the tokenizer "
                "keeps control tokens in its plain vocabulary and cannot be used safely"
            )
        return (*self.prefix, *span, *self.suffix)


def make_prompt_encoder(tokenizer: Any) -> PromptEncoder:
    """Encoder for a Hugging Face fast tokenizer with a chat template.

    Raises: PolicyError if the tokenizer is not a fast one, or has no chat template.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not tokenizer.chat_template:
        raise PolicyError(
            "the policy's tokenizer must be a fast tokenizer (tokenizer.json) with a chat "
            f"template, found {type(tokenizer).__name__}"
        )
    rendered = tokenizer.apply_chat_template(
        [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": USER.format(headline=_PLACEHOLDER)},
        ],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    before, found, after = rendered.partition(_PLACEHOLDER)
    if not found or _PLACEHOLDER in after:
        raise PolicyError("the chat template does not keep the user's message once, verbatim")
    return PromptEncoder(
        prefix=tuple(backend.encode(before, add_special_tokens=False).ids),
        suffix=tuple(backend.encode(after, add_special_tokens=False).ids),
        added_ids=frozenset(tokenizer.get_added_vocab().values()),
        plain=_without_added_tokens(backend),
        template_hash=stable_hash(PROMPT_VERSION, before, after),
    )


def _without_added_tokens(backend: Any) -> Any:
    from tokenizers import Tokenizer

    spec = json.loads(backend.to_str())
    spec["added_tokens"] = []
    spec["post_processor"] = None
    return Tokenizer.from_str(json.dumps(spec))
