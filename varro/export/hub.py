"""A folder for the model hub: what mlx_lm loads, and its card. Nothing is sent unless asked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from varro.config import Config
from varro.errors import ConfigError, PolicyError
from varro.evaluation.claim import claim
from varro.export.card import CardFacts, model_name, render_card
from varro.export.chosen import (
    ADAPTER_CONFIG,
    WEIGHTS,
    Chosen,
    copy_verified,
    hub_id,
    mlx_adapter_config,
    write_json,
)
from varro.export.fused import fill_fused
from varro.files import new_folder
from varro.ledger.extract import feed_counts
from varro.ledger.store import Ledger

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Hub(Protocol):
    """What is used of `huggingface_hub.HfApi`."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any: ...
    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any: ...


def export_hf(
    config: Config,
    ledger: Ledger,
    chosen: Chosen,
    out: Path,
    *,
    base_id: str | None = None,
    licence: str | None = None,
) -> dict[str, Any]:
    """Write an adapter (or, trained in full, a model) and its card to a new folder; returns what
    was written."""
    licence = licence or base_licence(config.policy.model)
    base_id = base_id or hub_id(config.policy.model)
    facts = card_facts(config, ledger, chosen, base_id=base_id, licence=licence)
    with new_folder(out, f"export to {out}") as partial:
        made: dict[str, Any] = {}
        if chosen.is_full:
            made = fill_fused(config, chosen, partial)
        else:
            copy_verified(chosen, WEIGHTS, partial / WEIGHTS)
            adapter = mlx_adapter_config(chosen) | ({"model": base_id} if base_id else {})
            write_json(partial / ADAPTER_CONFIG, adapter)
        (partial / "README.md").write_text(render_card(facts), encoding="utf-8")
    return {
        **made,
        "name": model_name(chosen),
        "base": base_id,
        "licence": licence,
        "lift": facts.claim["lift"]["mean"],
        "lift_low": facts.claim["lift"]["low"],
        "lift_high": facts.claim["lift"]["high"],
    }


def card_facts(
    config: Config,
    ledger: Ledger,
    chosen: Chosen,
    *,
    base_id: str | None,
    licence: str | None,
) -> CardFacts:
    """What the ledger knows up to the day that the version after this one was published."""
    run, version = chosen.run.name, chosen.checkpoint.version
    checkpoints = {c.version: c for c in ledger.checkpoints(run)}
    later = [c.day for c in checkpoints.values() if c.version > version]
    # The day that publishes the next version has first compared what this one forecast.
    evaluations = ledger.evaluations(run, until=min(later, default=None))
    compared = [e.day for e in evaluations if e.lift is not None]
    updates = [u for u in ledger.updates(run) if u.to_version <= version]
    newest = next((u for u in updates if u.to_version == version), None)
    lineage, at = [], checkpoints.get(version)
    while at is not None:
        lineage.append((at.version, at.day))
        at = None if at.parent is None else checkpoints.get(at.parent)
    return CardFacts(
        chosen=chosen,
        base_id=base_id,
        licence=licence,
        claim=claim(evaluations, seed=chosen.run.seed, n_bootstrap=config.evaluate.n_bootstrap),
        first_day=compared[0] if compared else None,
        last_day=compared[-1] if compared else None,
        n_updates=len(updates),
        update=newest.metrics if newest else {},
        reward_version=str(chosen.run.config.get("reward.version", "unknown")),
        lineage=lineage,
        feeds=feed_counts(ledger, chosen.run.corpus),
        is_placebo=bool(chosen.run.config.get("update.placebo")),
    )


def base_licence(model: str) -> str | None:
    """What the base's own card says, if it is at hand; nothing is fetched."""
    from huggingface_hub import ModelCard, try_to_load_from_cache
    from yaml import YAMLError

    card = Path(model) / "README.md"
    if hub_id(model) is not None:
        found = try_to_load_from_cache(model, "README.md")
        card = Path(found) if isinstance(found, str) else card
    if not card.is_file():
        return None
    try:
        licence = ModelCard.load(card).data.license
    except (ValueError, OSError, YAMLError):
        return None
    return None if licence is None else str(licence)


def check_push(repository: str, *, licence: str | None) -> None:
    """Refuse, before anything is written, what could not be sent or should not be.

    Raises: ConfigError for a name that is none, without a token, or without the base's licence.
    """
    from huggingface_hub import get_token

    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError(f"--push wants OWNER/NAME, found {repository!r}")
    if get_token() is None:
        raise ConfigError(
            "--push needs a token of the model hub: run 'hf auth login', or set HF_TOKEN"
        )
    if licence is None:
        raise ConfigError(
            "the base does not say its licence, and its weights are in what is sent or needed: "
            "give it with --licence, such as apache-2.0"
        )


def push(folder: Path, repository: str, *, name: str, hub: Callable[[], Hub]) -> str:
    """Send a folder to a repository, made private if it is new; returns its address.

    Raises: PolicyError if the hub does not take it.
    """
    try:
        api = hub()
        api.create_repo(repository, private=True, exist_ok=True)
        sent = api.upload_folder(repo_id=repository, folder_path=str(folder), commit_message=name)
    except Exception as error:
        raise PolicyError(
            f"{folder} is written, but the model hub did not take it: {type(error).__name__}: "
            f"{error}; send it with 'hf upload {repository} {folder}'"
        ) from error
    return str(sent)
