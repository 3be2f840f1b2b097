"""Durable files: temp beside the target, fsync, rename, fsync of the folder."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)


def publish_folder(partial: Path, target: Path) -> None:
    """Make a finished folder visible under its name, replacing an unrecorded earlier one."""
    for file in sorted(partial.rglob("*")):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    sync_folder(partial)
    if target.exists():
        shutil.rmtree(target)
    os.rename(partial, target)
    sync_folder(target.parent)


def sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
