"""What every kind of data set offers to `loading.load`."""

import dataclasses

from cnn_jax.data.cache import Encoded


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set as it is stored.

    Attributes:
        name: as in `--dataset.name`.
        version: its version, or "".
        class_names: label i is class_names[i].
        splits: its own splits under its own names, none of them decoded yet.
        notes: lines a log should show.
    """

    name: str
    version: str
    class_names: tuple[str, ...]
    splits: dict[str, Encoded]
    notes: tuple[str, ...] = ()
