"""Data sets as arrays: where they come from, how they are split, cached, scaled and augmented.

Names are imported when they are first used: the processes that decode images import no JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnn_jax.data.arrays import from_arrays
    from cnn_jax.data.loading import load
    from cnn_jax.data.registry import register_dataset
    from cnn_jax.data.splits import Data, DataInfo, Split

__all__ = [
    "Data",
    "DataInfo",
    "Split",
    "from_arrays",
    "load",
    "register_dataset",
]

_OF = {
    "Data": "splits",
    "DataInfo": "splits",
    "Split": "splits",
    "from_arrays": "arrays",
    "load": "loading",
    "register_dataset": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_OF[name]}"), name)
