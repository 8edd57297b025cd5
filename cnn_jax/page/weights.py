"""Packs the variables of a network as small numbers, and says what the page makes of them."""

import base64
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

# Networks of at most this many numbers have them as they were trained, or as float16; larger ones
# as int8.
MOST_SINGLES, MOST_HALVES = 150_000, 1_000_000
_SMALL = 4096  # leaves of fewer numbers, such as biases and statistics, stay float32
_LARGEST_HALF = 65504.0


def pack(leaves: Sequence[jax.Array]) -> tuple[dict[str, Any], list[np.ndarray], str]:
    """Packs variables.

    A float16 has eleven binary digits. An int8 is one of 255 steps between plus and minus the
    largest weight of its output channel.

    Args:
        leaves: the variables.

    Returns:
        What the page holds, the variables as the page has them, and the kind of numbers, "float32",
        "float16" or "int8".
    """
    arrays = [np.asarray(leaf, np.float32) for leaf in leaves]
    count = sum(each.size for each in arrays)
    kind = "float32" if count <= MOST_SINGLES else "float16" if count <= MOST_HALVES else "int8"
    parts, described, stored, at = [], [], [], 0
    for array in arrays:
        entry: dict[str, Any] = {"at": at, "size": int(array.size), "type": kind}
        if kind == "float32" or array.ndim < 2 or (array.size < _SMALL and kind == "int8"):
            entry["type"], packed, value = "float32", array.astype("<f4"), array
        elif kind == "int8":
            largest = np.abs(array).reshape(-1, array.shape[-1]).max(axis=0)
            scales = (np.where(largest > 0, largest, 1) / 127).astype(np.float32)
            packed = np.round(array / scales).astype(np.int8)
            entry["scales"] = [float(each) for each in scales]
            value = packed.astype(np.float32) * scales
        elif np.abs(array).max(initial=0) > _LARGEST_HALF:
            entry["type"], packed, value = "float32", array.astype("<f4"), array
        else:
            packed = array.astype("<f2")
            value = packed.astype(np.float32)
        content = np.ascontiguousarray(packed).tobytes()
        parts.append(content)
        described.append(entry)
        stored.append(value)
        at += len(content)
    data = base64.b64encode(b"".join(parts)).decode()
    return {"leaves": described, "data": data}, stored, kind
