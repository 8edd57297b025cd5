"""Data sets as uint8 arrays: where they come from, how they are split, cached and augmented."""

from cnn_jax.data.loading import load
from cnn_jax.data.splits import Data, DataInfo, Split

__all__ = ["Data", "DataInfo", "Split", "load"]
