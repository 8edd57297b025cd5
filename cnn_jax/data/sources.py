"""What every kind of data set offers to `loading.load`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from cnn_jax import experiment, places
from cnn_jax.data.cache import Encoded
from cnn_jax.data.splits import Split
from cnn_jax.errors import RunError, UsageError

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
        group_of: an example's id to the name of its group; None: there are no groups.
    """

    name: str
    version: str
    class_names: tuple[str, ...]
    splits: dict[str, Encoded | Split]
    notes: tuple[str, ...] = ()
    root: Path | None = None
    group_of: Callable[[str], str] | None = None


def file_of(config: experiment.Dataset) -> Path:
    """Returns the file that `config.path` names.

    Raises:
        UsageError: no path is given.
        RunError: there is no such file.
    """
    if not config.path:
        raise UsageError(f"--dataset.name={config.name} needs --dataset.path=FILE")
    path = places.place(config.path, "--dataset.path")
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise RunError(f"--dataset.path={config.path} {what}")
    return path
