"""Merged weights, tokenizer and configuration: a model on its own, which mlx_lm loads as any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from varro.config import Config
from varro.errors import CheckpointError
from varro.export.chosen import WEIGHTS, Chosen
from varro.files import new_folder


def export_fused(config: Config, chosen: Chosen, out: Path) -> dict[str, Any]:
    """Write a whole model to a new folder, and measure it against base and adapter; returns what
    was written and found.

    Raises: PolicyError if the base is quantized, or the merged model is another; CheckpointError
    if the base is not the one that was trained over.
    """
    with new_folder(out, f"export to {out}") as partial:
        return fill_fused(config, chosen, partial)


def fill_fused(config: Config, chosen: Chosen, folder: Path) -> dict[str, Any]:
    """The same, into a folder that is there."""
    from varro.policy.folder import check_model_config, hash_weights, resolve_model
    from varro.policy.fuse import compare_logits, write_full, write_fused

    base = resolve_model(config.policy.model)
    check_model_config(base)
    if (found := hash_weights(base)) != chosen.base_sha256:
        raise CheckpointError(
            f"v{chosen.checkpoint.version} was trained over a base with sha256 "
            f"{chosen.base_sha256[:12]}…, but {base} has {found[:12]}…; set policy.model to that "
            "base"
        )
    trained = chosen.folder / WEIGHTS
    if chosen.is_full:
        made = write_full(base, trained, folder)
    else:
        made = write_fused(base, trained, folder, scale=chosen.scale)
    return made | compare_logits(base, chosen.folder, folder, dtype=made["dtype"])
