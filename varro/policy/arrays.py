"""Tensors in a safetensors file, as NumPy arrays: where MLX need not be loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from varro.errors import DiskError

Arrays = dict[str, NDArray[Any]]


def save_arrays(
    file: Path, arrays: Mapping[str, NDArray[Any]], *, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors in the order of their names: equal states, equal bytes.

    Raises: DiskError.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file(dict(arrays), str(file), metadata=metadata)
    except SafetensorError as error:
        raise DiskError(
            f"cannot write {file}: {error}; mend that and run it again, what was finished stays"
        ) from error


def load_arrays(file: Path) -> Arrays:
    from safetensors.numpy import load_file

    found: Arrays = load_file(str(file))
    return found
