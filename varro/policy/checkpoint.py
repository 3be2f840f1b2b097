"""Checkpoints: a folder that stock mlx_lm loads as an adapter, with all that resuming needs.

    v00004/
      adapters.safetensors    what trains: LoRA tensors, or every weight; nothing else
      adapter_config.json     what mlx_lm reads: type, layers, rank, scale, keys
      optimizer.safetensors   AdamW moments, step and learning rate (absent before an update)
      reference.safetensors   what the leash is tied to (absent while that is the frozen base)
      state.json              version, parent, leash, steering, counters, seeds, hash of the base
      config.toml             the resolved configuration
      manifest.json           sha256 of every other file, and the tensor count

The ledger's `checkpoints` row, written after the folder is durable, holds the manifest's sha256.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from varro.errors import CheckpointError, DiskError, PolicyError
from varro.files import make_folder, publish_folder, sha256_file
from varro.policy.arrays import save_arrays
from varro.policy.load import LORA_KEYS, Policy
from varro.policy.manifest import checkpoint_path, verify_checkpoint
from varro.policy.mlx import mx

FORMAT = 2
"""1 had no steering, no running norm and no reference of its own: those read as their defaults"""


@dataclass(frozen=True)
class TrainerState:
    """What the trainer carries from day to day besides weights."""

    kl_coef: float
    n_updates: int = 0
    optimizer: Mapping[str, mx.array] = field(default_factory=dict)
    """flat optimizer state by name; empty before the first update"""
    clip_scale: float = 1.0
    """factor on both clip ranges"""
    lr_scale: float = 1.0
    """factor on the learning rate"""
    grad_norm_ema: float | None = None
    """running mean of updates' mean gradient norms; None before the first"""
    entropy_first: float | None = None
    """nats a token, at the run's first update"""
    last_reset: int | None = None
    """`n_updates` when the reference was last reset; None if never"""

    def numbers(self) -> dict[str, Any]:
        """All but the arrays: what fits into a line of JSON."""
        return {name: getattr(self, name) for name in _NUMBERS}


_NUMBERS = tuple(f.name for f in fields(TrainerState) if f.name != "optimizer")


def publish_checkpoint(
    home: Path,
    policy: Policy,
    state: TrainerState,
    *,
    run: str,
    version: int,
    parent: int | None,
    day: str,
    seed: int,
    config_toml: str,
) -> tuple[str, str]:
    """Write a checkpoint durably and return (path relative to home, sha256 of its manifest).

    Note: a folder already under that name was never recorded in the ledger (a crash came
    between), so it is replaced.
    """
    relative = checkpoint_path(run, version)
    target = home / relative
    partial = target.with_name(f".{target.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    make_folder(partial)
    try:
        _write_folder(
            partial, policy, state, run=run, version=version, parent=parent, day=day, seed=seed,
            config_toml=config_toml,
        )  # fmt: skip
        publish_folder(partial, target)
    except (OSError, DiskError):
        shutil.rmtree(partial, ignore_errors=True)  # it would take the room of the next try
        raise
    return relative, sha256_file(target / "manifest.json")


def _write_folder(
    partial: Path, policy: Policy, state: TrainerState, *, run: str, version: int,
    parent: int | None, day: str, seed: int, config_toml: str,
) -> None:  # fmt: skip
    adapter = policy.adapter()
    _save_arrays(partial / "adapters.safetensors", adapter)
    if state.optimizer:
        _save_arrays(partial / "optimizer.safetensors", state.optimizer)
    if policy.reference is not None:
        _save_arrays(partial / "reference.safetensors", policy.reference)
    _write_json(
        partial / "adapter_config.json",
        {
            "fine_tune_type": policy.fine_tune,
            "model": str(policy.model_path),
            "num_layers": policy.n_layers,
            "lora_parameters": {
                "rank": policy.lora_rank,
                "scale": policy.lora_scale,
                "dropout": 0.0,
                "keys": list(LORA_KEYS),
            },
        },
    )
    _write_json(
        partial / "state.json",
        {
            "format": FORMAT,
            "run": run,
            "version": version,
            "parent": parent,
            "day": day,
            "base_sha256": policy.base_sha256,
            **state.numbers(),
            "rng": {"scheme": "H(seed, day, role, headline, k)", "seed": seed},
        },
    )
    (partial / "config.toml").write_text(config_toml, encoding="utf-8")
    manifest = {
        "n_tensors": len(adapter),
        "sha256": {file.name: sha256_file(file) for file in sorted(partial.iterdir())},
    }
    _write_json(partial / "manifest.json", manifest)


def load_checkpoint(home: Path, policy: Policy, *, path: str, sha256: str) -> TrainerState:
    """Put a checkpoint's adapter and reference into the policy and return the trainer's state.

    Raises: DamagedCheckpointError if a file is missing or has another hash; CheckpointError if it
    was trained over another base, with another kind, rank or scale of adapter, or by a newer Varro.
    """
    folder = home / path
    verify_checkpoint(folder, sha256)
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if state["base_sha256"] != policy.base_sha256:
        raise CheckpointError(
            f"{folder} was trained over a base with sha256 {state['base_sha256'][:12]}…, but "
            f"{policy.model_path} has {policy.base_sha256[:12]}…; set policy.model to that base, "
            "or start another run"
        )
    _refuse_other_kind(folder, policy)
    if state["format"] > FORMAT:
        raise CheckpointError(
            f"{folder} has format {state['format']}, this Varro reads up to {FORMAT}; upgrade it"
        )
    reference_file = folder / "reference.safetensors"
    if state.get("last_reset") is not None and not reference_file.exists():
        raise CheckpointError(f"{folder} lacks reference.safetensors, which its leash is tied to")
    try:
        policy.set_adapter(_load_arrays(folder / "adapters.safetensors"))
        policy.set_reference(_load_arrays(reference_file) if reference_file.exists() else None)
    except PolicyError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    optimizer_file = folder / "optimizer.safetensors"
    optimizer = _load_arrays(optimizer_file) if optimizer_file.exists() else {}
    policy.version = state["version"]
    known = {name: state[name] for name in _NUMBERS if name in state}
    return TrainerState(**known, optimizer=optimizer)


def _refuse_other_kind(folder: Path, policy: Policy) -> None:
    """The same tensors mean another policy at another scale."""
    saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    lora = saved["lora_parameters"]
    found = (saved["fine_tune_type"], lora["rank"], lora["scale"])
    wanted = (policy.fine_tune, policy.lora_rank, policy.lora_scale)
    if found[0] != wanted[0] or (found[0] == "lora" and found != wanted):
        raise CheckpointError(
            f"{folder} holds {found[0]} weights of rank {found[1]} and scale {found[2]}, the "
            f"policy is configured for {wanted[0]}, rank {wanted[1]} and scale {wanted[2]}; set "
            "policy.fine_tune, policy.lora_rank and policy.lora_scale to the checkpoint's"
        )


def _save_arrays(file: Path, arrays: Mapping[str, mx.array]) -> None:
    # MLX's own writer orders tensors as its hash map does: equal states, different bytes.
    save_arrays(file, {name: np.array(array) for name, array in arrays.items()})


def _load_arrays(file: Path) -> dict[str, mx.array]:
    arrays = mx.load(str(file))
    assert isinstance(arrays, dict)
    return arrays


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
