"""What every kind of data set offers to `loading.load`."""

import dataclasses
from pathlib import Path

from cnn_jax.data.cache import Encoded
from cnn_jax.data.splits import Split

# The data sets that this package prepares without TensorFlow.
BUILT_IN = ("digits", "cifar10", "cats_vs_dogs")


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set as it is stored.

    Attributes:
        name: the name in `--dataset.name`.
        version: the data set's version, or "".
        class_names: label i is class_names[i].
        splits: its own splits under its own names: encoded images, none of them decoded yet, or
            arrays in memory.
        notes: lines a log should show.
        root: of a folder of images, the folder, in which ids are paths.
    """

    name: str
    version: str
    class_names: tuple[str, ...]
    splits: dict[str, Encoded | Split]
    notes: tuple[str, ...] = ()
    root: Path | None = None
