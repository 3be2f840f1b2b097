"""The embedder: a vector is a function of its text alone, and each text is encoded once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest

from varro.config import EmbedderConfig
from varro.errors import PolicyError
from varro.reward.embed import RememberingEmbedder, check_embedder, load_embedder

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def model():
    """The real embedder, without a memory."""
    return load_embedder(EmbedderConfig())


@pytest.fixture(scope="module")
def texts():
    """40 texts of 1 to about 300 word pieces, the empty one included."""
    lines = (ROOT / "scripts" / "reward_items" / "c.jsonl").read_text().splitlines()[:12]
    items = [json.loads(line) for line in lines]
    made = [item[key] for item in items for key in ("headline", "right", "flipped")]
    return [*made, "", "x", "Zürich — «4.25 %»", " ".join(made[:9])]


@pytest.fixture(scope="module")
def vectors(model, texts):
    return model.encode(texts)


class Counting:
    """An embedder that remembers what it was asked; a text's vector is its length."""

    def __init__(self):
        self.asked = []

    def encode(self, texts):
        self.asked.append(list(texts))
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def remembering(inner, sha256="w", **kept):
    return RememberingEmbedder(lambda: inner, sha256, **kept)


# -- the model


def test_a_vector_is_the_same_alone_in_a_list_and_in_another_order(model, texts, vectors):
    """Catches a batch whose padding or shape reaches the last bits: a vector kept by the hash of
    its text would be another one in another process."""
    order = Random(1).sample(range(len(texts)), len(texts))
    shuffled = model.encode([texts[i] for i in order])
    for place, i in enumerate(order):
        assert shuffled[place].tobytes() == vectors[i].tobytes(), texts[i]
    for i in (0, 1, 17, len(texts) - 4, len(texts) - 1):
        assert model.encode([texts[i]])[0].tobytes() == vectors[i].tobytes(), texts[i]
    assert model.encode([texts[0]] * 40).tobytes() == vectors[0].tobytes() * 40


def test_vectors_have_unit_length_and_stand_in_their_texts_order(texts, vectors):
    """Catches rows put back by length, and a dot product that is no cosine."""
    assert vectors.shape == (len(texts), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    # Each right forecast is nearer to its flipped self than to any other item's.
    right, flipped = vectors[1:36:3], vectors[2:36:3]
    assert (right @ flipped.T).argmax(axis=1).tolist() == list(range(12))


def test_meaning_is_what_sentence_transformers_says(model, texts, vectors):
    """Catches pooling over the padding, and lost position or mask: against the library's own
    encoding, which pads and batches in its own way."""
    some = [0, 1, 2, 9, 36, 37, 38, 39]
    plain = model._model.encode(
        [texts[i] for i in some], normalize_embeddings=True, show_progress_bar=False
    )
    np.testing.assert_allclose(vectors[some], plain, atol=1e-5)


def test_nothing_to_encode_is_no_vectors(model):
    """Catches an index into an empty batch."""
    assert model.encode([]).shape == (0, 384)


def test_other_weights_are_refused(tmp_path):
    """Catches an embedder swapped under a run: its rewards would be others."""
    with pytest.raises(PolicyError, match="another embedder is another reward"):
        check_embedder(EmbedderConfig(sha256="0" * 64))
    with pytest.raises(PolicyError, match="no embedder weights"):
        check_embedder(EmbedderConfig(model=tmp_path))


# -- the memory


def test_each_text_is_encoded_once():
    """Catches a day that encodes its headlines once for each group."""
    inner = Counting()
    memory = remembering(inner)
    first = memory.encode(["bb", "a", "bb"])
    np.testing.assert_array_equal(first[:, 0], [2, 1, 2])
    second = memory.encode(["ccc", "a"])
    np.testing.assert_array_equal(second[:, 0], [3, 1])
    assert inner.asked == [["bb", "a"], ["ccc"]]
    assert memory.n_encoded == 3


def test_vectors_that_are_known_are_not_encoded():
    """Catches a ledger that is written and never read, and one asked for what is held."""
    inner, kept, questions = Counting(), {}, []

    def known(keys):
        questions.append(list(keys))
        return {key: kept[key] for key in keys if key in kept}

    remembering(inner, keep=kept.update).encode(["a", "bb"])
    assert len(kept) == 2
    later = remembering(inner, known=known, keep=kept.update)
    np.testing.assert_array_equal(later.encode(["bb", "ccc", "a"])[:, 0], [2, 3, 1])
    later.encode(["bb", "ccc"])
    assert inner.asked == [["a", "bb"], ["ccc"]]
    assert later.n_encoded == 1
    assert [len(question) for question in questions] == [3]
    assert len(kept) == 3


def test_only_new_vectors_are_kept():
    """Catches a second row for one key, which an append-only ledger refuses."""
    kept = []
    memory = remembering(Counting(), keep=lambda new: kept.extend(new))
    memory.encode(["a", "a", "bb"])
    memory.encode(["bb", "a"])
    memory.encode(["ccc", "a"])
    assert len(kept) == len(set(kept)) == 3


def test_another_embedder_has_other_keys():
    """Catches vectors of one model read as another's."""
    kept = {}
    for sha256 in ("one", "two"):
        remembering(Counting(), sha256, keep=kept.update).encode(["a"])
    assert len(kept) == 2


def test_the_model_is_loaded_when_a_text_must_be_encoded_and_once():
    """Catches seconds of loading on a day whose vectors are all known."""
    loads, kept = [], {}

    def load():
        loads.append(1)
        return Counting()

    memory = RememberingEmbedder(load, "w", keep=kept.update)
    assert memory.encode([]).shape[0] == 0
    assert loads == []
    memory.encode(["a"])
    memory.encode(["bb"])
    assert loads == [1]
    RememberingEmbedder(load, "w", known=lambda keys: kept).encode(["a", "bb"])
    assert loads == [1]


def test_what_is_forgotten_is_asked_for_again():
    """Catches a memory that grows with every day, and one that loses what was kept."""
    inner, kept = Counting(), {}
    memory = remembering(inner, known=lambda keys: kept, keep=kept.update)
    memory.encode(["a"])
    memory.forget()
    np.testing.assert_array_equal(memory.encode(["a"]), [[1.0, 1.0]])
    assert inner.asked == [["a"]]


def test_remembered_vectors_are_the_models_to_the_bit(model, texts, vectors):
    """Catches a copy in another precision."""
    memory = remembering(model)
    memory.encode(texts[:2])
    assert memory.encode(texts[:4]).tobytes() == vectors[:4].tobytes()


@pytest.mark.slow
def test_vectors_are_the_same_with_and_without_a_policy_beside_them():
    """Catches a stage alone that scores otherwise than a whole day, in its last bits: torch's
    products run on the BLAS that MLX was given, if that was loaded first."""
    found = set()
    for first in ("", "import varro.policy.mlx; "):
        code = (
            f"{first}from varro.config import EmbedderConfig; "
            "from varro.reward.embed import load_embedder; "
            "print(load_embedder(EmbedderConfig()).encode(['Oil waits for OPEC']).tobytes().hex())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        found.add(done.stdout)
    assert len(found) == 1
