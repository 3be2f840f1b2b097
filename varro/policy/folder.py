"""The policy's model folder: found, checked and hashed before MLX has to be loaded."""

from __future__ import annotations

import hashlib
import json
from math import prod
from pathlib import Path
from typing import Any

from varro.config import PolicyConfig
from varro.errors import PolicyError
from varro.files import sha256_file

MODEL_TYPES = ("qwen2", "qwen3")
_METADATA = "__metadata__"
"""the one entry of a safetensors header that is no tensor"""
_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "README.md")
"""of a model on the hub; its card names its licence"""


def check_policy(config: PolicyConfig) -> None:
    """Refuse a folder that cannot be the policy. A hub id that is no folder is left to loading.

    Raises: PolicyError naming the folder and what is wrong.
    """
    looks_local = config.model.startswith((".", "/", "~"))
    if looks_local or Path(config.model).is_dir():
        check_model_config(resolve_model(config.model))


def hash_weights(path: Path) -> str:
    """Identity of the base: sha256 of its safetensors file, or of the hashes of several."""
    hashes = [sha256_file(file) for file in sorted(path.glob("model*.safetensors"))]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def trained_bytes(config: PolicyConfig) -> int:
    """Bytes of what trains, Σ rank · (in + out) · 4 over the adapter's layers, or 4 a weight of the
    whole model: what a loaded policy's `adapter()` takes, told from the folder.

    Raises: PolicyError as loading does.
    Note: a head that is tied and stored all the same is counted, and is not there once loaded.
    """
    path = resolve_model(config.model)
    model = check_model_config(path)
    if config.fine_tune == "full":
        return 4 * sum(_n_weights(file) for file in path.glob("model*.safetensors"))
    try:
        hidden, feed_forward = model["hidden_size"], model["intermediate_size"]
        n_heads = model["num_attention_heads"]
        n_kv_heads = model.get("num_key_value_heads") or n_heads
        head_dim = model.get("head_dim") or hidden // n_heads
        of_heads = 2 * (hidden + n_heads * head_dim) + 2 * (hidden + n_kv_heads * head_dim)
        of_layer = of_heads + 3 * (hidden + feed_forward)
        return int(4 * config.lora_rank * model["num_hidden_layers"] * of_layer)
    except (KeyError, TypeError) as error:
        raise PolicyError(f"{path}/config.json: the model's shape is not in it: {error}") from error


def _n_weights(file: Path) -> int:
    """From its header: a length in eight bytes, and as much JSON.

    Source: https://github.com/huggingface/safetensors#format
    """
    try:
        with file.open("rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        return sum(prod(entry["shape"]) for name, entry in header.items() if name != _METADATA)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise PolicyError(f"{file}: cannot read the model's weights: {error}") from error


def resolve_model(name: str) -> Path:
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists() or name.startswith((".", "/", "~")):
        raise PolicyError(f"no model folder at {name}; policy.model names a folder or a hub id")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:
        raise PolicyError(
            f"cannot fetch the policy {name!r} from the model hub ({type(error).__name__}); "
            "connect once, or set policy.model to a folder"
        ) from error


def check_model_config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(f"{file}: cannot read the model's config: {error}") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    architectures = config.get("architectures") or [] if isinstance(config, dict) else []
    causal = any(str(name).endswith("ForCausalLM") for name in architectures)
    if kind not in MODEL_TYPES or not causal:
        raise PolicyError(
            f"{file}: expected a causal LM of type {' or '.join(MODEL_TYPES)}, found type "
            f"{kind!r} with architectures {architectures}; set policy.model to one"
        )
    if not any(path.glob("model*.safetensors")):
        raise PolicyError(f"{path}: no model*.safetensors; the download may be incomplete")
    return dict(config)
