"""Which text each sampled token wrote: asked by reports, without loading the policy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from varro.config import PolicyConfig
from varro.errors import PolicyError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_UNFINISHED = "\ufffd"
"""what a decoder shows for a character whose last bytes are still to come"""


def token_pieces(config: PolicyConfig, token_ids: Sequence[int]) -> list[str] | None:
    """The text that each token adds, "" for one that only ends or begins a character; joined, what
    they wrote. None if the policy's tokenizer is not on this machine: nothing is fetched.

    Raises: PolicyError if it cannot be read.
    """
    file = _tokenizer_file(config.model)
    if file is None:
        return None
    try:
        tokenizer = _tokenizer(file, file.stat().st_mtime_ns)
        told, pieces = "", []
        for n in range(1, len(token_ids) + 1):
            text = tokenizer.decode(list(token_ids[:n]), skip_special_tokens=True)
            whole = n == len(token_ids) or not text.endswith(_UNFINISHED)
            pieces.append(text[len(told) :] if whole else "")
            told = text if whole else told
    except Exception as error:  # the library raises nothing narrower
        raise PolicyError(f"{file}: cannot read the tokenizer: {error}") from error
    return pieces


@lru_cache(maxsize=1)
def _tokenizer(file: Path, _written_at: int) -> Tokenizer:
    """Read once for all the days of a re-render."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(file))


def _tokenizer_file(model: str) -> Path | None:
    if Path(model).is_dir():
        file = Path(model) / "tokenizer.json"
    else:
        from huggingface_hub import try_to_load_from_cache

        try:
            found = try_to_load_from_cache(model, "tokenizer.json")
        except ValueError:  # a folder that is gone is no hub id
            return None
        file = Path(found) if isinstance(found, str) else Path()
    return file if file.is_file() else None
