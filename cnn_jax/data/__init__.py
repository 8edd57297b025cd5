"""Data sets as arrays: where they come from, how they are split, cached, scaled and augmented."""

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
