"""The policy's model folder: found, checked and hashed before MLX has to be loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from varro.config import PolicyConfig
from varro.errors import PolicyError
from varro.files import sha256_file

MODEL_TYPES = ("qwen2", "qwen3")
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
