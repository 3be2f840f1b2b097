"""A checkpoint's folder without its arrays: where it lies, and whether it is what was written."""

from __future__ import annotations

import json
from pathlib import Path

from varro.errors import DamagedCheckpointError
from varro.files import sha256_file


def checkpoint_path(run: str, version: int) -> str:
    """Folder of a version, relative to home."""
    return f"checkpoints/{run}/v{version:05d}"


def verify_checkpoint(folder: Path, sha256: str) -> None:
    """Read all of a checkpoint and hold it against its manifest, and that against the ledger.

    Raises: DamagedCheckpointError naming the file that is missing or another.
    """
    manifest_file = folder / "manifest.json"
    if not manifest_file.exists():
        raise DamagedCheckpointError(f"no checkpoint at {folder}; the ledger says there is one")
    if sha256_file(manifest_file) != sha256:
        raise DamagedCheckpointError(f"{manifest_file} is not the one the ledger recorded")
    expected = json.loads(manifest_file.read_text(encoding="utf-8"))["sha256"]
    for name, digest in expected.items():
        file = folder / name
        if not file.exists():
            raise DamagedCheckpointError(f"{folder} lacks {name}; restore it from a backup")
        if sha256_file(file) != digest:
            raise DamagedCheckpointError(f"{file} is damaged: its sha256 is not the manifest's")
