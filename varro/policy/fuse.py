"""Merged weights: the base's files, with what was trained written into them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varro.errors import DiskError, PolicyError
from varro.policy.arrays import load_arrays, save_arrays
from varro.policy.mlx import mx
from varro.policy.prompt import SYSTEM, USER

_ALONGSIDE = ("*.json", "*.jinja", "*.txt")
"""of a model's folder: configuration and tokenizer"""
_PROBE = "Headline that stands for all: prices rise as talks go on"
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
"""of merged logits, against those of base and adapter, in shares of the largest one; rounding the
merged weights to the type the base has costs no more"""


def write_fused(base: Path, adapter: Path, target: Path, *, scale: float) -> dict[str, Any]:
    """Write the base's folder into `target` with W + scale · Bᵀ Aᵀ in place of each adapted weight
    W, merged in float32 and kept in W's own type; returns {n_merged, dtype}.

    Raises: PolicyError for a quantized base, or one that lacks an adapted weight; DiskError.
    """
    pairs = _pairs(_load(adapter)[0])
    merged: set[str] = set()
    dtype = None
    _copy_alongside(base, target)
    for file in sorted(base.glob("model*.safetensors")):
        arrays, metadata = _load(file)
        for name in sorted(pairs.keys() & arrays.keys()):
            weight, (a, b) = arrays[name], pairs[name]
            dtype = _refuse_quantized(base, name, weight)
            delta = scale * (b.astype(mx.float32).T @ a.astype(mx.float32).T)
            arrays[name] = (weight.astype(mx.float32) + delta).astype(weight.dtype)
            merged.add(name)
        _save(target / file.name, arrays, metadata)
    missing = sorted(pairs.keys() - merged)
    if missing:
        raise PolicyError(f"{base} has no {missing[0]}, which the adapter changes: another base")
    return {"n_merged": len(merged), "dtype": dtype}


def write_full(base: Path, weights: Path, target: Path) -> dict[str, Any]:
    """Write a folder with the base's configuration and tokenizer, and whole weights as they were
    trained; returns {n_merged, dtype}."""
    _copy_alongside(base, target)
    (target / "model.safetensors.index.json").unlink(missing_ok=True)
    arrays = load_arrays(weights)
    save_arrays(target / "model.safetensors", arrays, metadata={"format": "mlx"})
    file = target / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {"torch_dtype": "float32"}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return {"n_merged": len(arrays), "dtype": "float32"}


def compare_logits(base: Path, checkpoint: Path, fused: Path, *, dtype: str) -> dict[str, float]:
    """Largest difference between the logits of base with adapter and of the merged weights, both as
    mlx_lm loads them, over every position of one prompt: {max_difference, max_logit}.

    Raises: PolicyError if they differ by more than rounding does.
    """
    wanted = probe_logits(base, checkpoint)
    found = probe_logits(fused, None)
    difference = float(np.abs(wanted - found).max())
    largest = float(np.abs(wanted).max())
    if not difference <= TOLERANCE[dtype] * largest:
        raise PolicyError(
            f"the merged weights in {dtype} are not those of base and adapter: logits differ by "
            f"{difference:.3g}, the largest is {largest:.3g}; nothing was written"
        )
    return {"max_difference": difference, "max_logit": largest}


def probe_logits(model: Path, adapter: Path | None) -> NDArray[np.float32]:
    """Logits on one prompt. Shapes: → (T, V)."""
    from mlx_lm import load

    loaded = load(str(model), adapter_path=None if adapter is None else str(adapter))
    network, tokenizer = loaded[0], loaded[1]
    ids = tokenizer.encode(f"{SYSTEM}\n{USER.format(headline=_PROBE)}")
    logits = network(mx.array([ids]))[0].astype(mx.float32)
    return np.array(logits)


def _pairs(adapter: Mapping[str, mx.array]) -> dict[str, tuple[mx.array, mx.array]]:
    """Name of the weight → (A, B)."""
    layers = {name.rpartition(".")[0] for name in adapter}
    return {
        f"{layer}.weight": (adapter[f"{layer}.lora_a"], adapter[f"{layer}.lora_b"])
        for layer in layers
    }


def _refuse_quantized(base: Path, name: str, weight: mx.array) -> str:
    """The type of a weight, in a word."""
    dtype = str(weight.dtype).removeprefix("mlx.core.")
    if dtype not in TOLERANCE:
        raise PolicyError(
            f"{base} is quantized ({name} is {dtype}) and can not be merged with an adapter; "
            "'varro export hf' writes the adapter"
        )
    return dtype


def _copy_alongside(base: Path, target: Path) -> None:
    for pattern in _ALONGSIDE:
        for file in sorted(base.glob(pattern)):
            shutil.copyfile(file, target / file.name)


def _load(file: Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    found: Any = mx.load(str(file), return_metadata=True)
    arrays, metadata = found
    return arrays, dict(metadata)


def _save(file: Path, arrays: dict[str, mx.array], metadata: dict[str, str]) -> None:
    try:
        mx.save_safetensors(str(file), arrays, metadata=metadata)
    except RuntimeError as error:
        raise DiskError(
            f"cannot write {file}: {error}; mend that and run it again, what was finished stays"
        ) from error
