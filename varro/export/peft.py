"""The adapter as PEFT has it.

    MLX   y = W x + scale · (x A) B      A (in, r), B (r, out)
    PEFT  y = W x + alpha/r · B' A' x    A' (r, in), B' (out, r)

so A' = Aᵀ, B' = Bᵀ, alpha = scale · r, and the deltas are the same numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from varro.errors import PolicyError
from varro.export.chosen import WEIGHTS, Chosen, write_json
from varro.files import new_folder
from varro.policy.arrays import Arrays, load_arrays, save_arrays

_PREFIX = "base_model.model."
_TURNED = {"lora_a": "lora_A", "lora_b": "lora_B"}


def export_peft(chosen: Chosen, out: Path) -> dict[str, Any]:
    """Write adapter_model.safetensors and adapter_config.json to a new folder; returns what was.

    Raises: PolicyError for a version without an adapter.
    """
    refuse_full(chosen, "peft")
    arrays = peft_arrays(load_arrays(chosen.folder / WEIGHTS))
    config = peft_config(chosen)
    with new_folder(out, f"export to {out}") as partial:
        save_arrays(partial / "adapter_model.safetensors", arrays, metadata={"format": "pt"})
        write_json(partial / "adapter_config.json", config)
    return {
        "n_tensors": len(arrays),
        "rank": config["r"],
        "alpha": config["lora_alpha"],
        "base": config["base_model_name_or_path"],
    }


def peft_arrays(arrays: Arrays) -> Arrays:
    """MLX's adapter tensors under PEFT's names, turned round."""
    found = {}
    for name, array in arrays.items():
        layer, _, kind = name.rpartition(".")
        found[f"{_PREFIX}{layer}.{_TURNED[kind]}.weight"] = np.ascontiguousarray(array.T)
    return found


def peft_config(chosen: Chosen) -> dict[str, Any]:
    alpha = chosen.scale * chosen.rank
    keys = chosen.adapter["lora_parameters"]["keys"]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": chosen.base,
        "r": chosen.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(key.rpartition(".")[2] for key in keys),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def refuse_full(chosen: Chosen, form: str) -> None:
    if chosen.is_full:
        raise PolicyError(
            f"v{chosen.checkpoint.version} was trained in full and has no adapter for {form!r}; "
            "'varro export hf' or 'varro export fused' write its weights"
        )
