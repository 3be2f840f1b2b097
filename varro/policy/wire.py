"""Values as bytes and back: plain data as JSON, arrays as they lie in memory.

No pickle: what a process reads from the network can not run anything.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from varro.policy.mlx import mx

_ARRAY = "\0array"
"""key of what stands for an array; no name in Varro begins with a null byte"""


def pack(value: Any) -> bytes:
    """Dicts, lists, tuples, strings, numbers, None and arrays of NumPy or MLX, in any nesting.

    Note: a tuple comes back as a list.
    """
    arrays: list[np.ndarray[Any, Any]] = []

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: plain(value) for key, value in item.items()}
        if isinstance(item, (list, tuple)):
            return [plain(value) for value in item]
        if isinstance(item, (np.ndarray, mx.array)):
            array = np.asarray(item, order="C")
            arrays.append(array)
            kind = "mlx" if isinstance(item, mx.array) else "numpy"
            return {_ARRAY: [kind, array.dtype.str, list(array.shape)]}
        return item

    text = json.dumps(plain(value)).encode()
    return b"".join([len(text).to_bytes(8, "little"), text, *(a.tobytes() for a in arrays)])


def unpack(data: bytes) -> Any:
    """What `pack` was given."""
    place = 8 + int.from_bytes(data[:8], "little")

    def whole(item: Any) -> Any:
        nonlocal place
        if isinstance(item, list):
            return [whole(value) for value in item]
        if not isinstance(item, dict):
            return item
        if _ARRAY not in item:
            return {key: whole(value) for key, value in item.items()}
        kind, dtype, shape = item[_ARRAY]
        start, place = place, place + np.dtype(dtype).itemsize * math.prod(shape)
        array = np.frombuffer(data[start:place], dtype=dtype).reshape(shape)
        return mx.array(array) if kind == "mlx" else array

    return whole(json.loads(data[8:place]))
