"""What every kind of data set offers to `loading.load`."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from cnn_jax import experiment, places
from cnn_jax.data.cache import Encoded
from cnn_jax.data.records import Files
from cnn_jax.data.splits import Split
from cnn_jax.errors import RunError, UsageError
from cnn_jax.sections import PUBLISHED

# The data sets that this package prepares without TensorFlow.
BUILT_IN = ("digits", *PUBLISHED, "cats_vs_dogs")
_BLOCK = 1024  # examples that are listed at a time


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
        findings: of data whose images may have several: uint8 [combinations, classes], which of
            them combination i has, where the labels of encoded images are such numbers.
    """

    name: str
    version: str
    class_names: tuple[str, ...]
    splits: dict[str, Encoded | Split]
    notes: tuple[str, ...] = ()
    root: Path | None = None
    group_of: Callable[[str], str] | None = None
    findings: np.ndarray | None = None


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


def encoded_files(
    name: str, split: str, examples: Sequence[tuple[str, int, Path | bytes]], root: Path
) -> Encoded:
    """Returns a split of images that lie in files of the user's own.

    What they hold is told by their bytes, where these are at hand, else by names, times and sizes.

    Args:
        name: the data set's.
        split: the split's.
        examples: (id, label, file or encoded image) of each.
        root: where the ids begin.
    """
    sha, portable = hashlib.sha256(), hashlib.sha256()  # without times, which a copy changes
    for id_, label, source in examples:
        if isinstance(source, bytes):
            state = size = hashlib.sha256(source).hexdigest()
        else:
            try:
                stat = source.stat()
                state, size = f"{stat.st_mtime_ns} {stat.st_size}", str(stat.st_size)
            except OSError:  # a broken link: an error follows when it is read
                state = size = "unreadable"
        sha.update(f"{id_}\0{label}\0{state}\n".encode(errors="surrogateescape"))
        portable.update(f"{id_}\0{label}\0{size}\n".encode(errors="surrogateescape"))

    def blocks() -> Iterator[tuple[list[str], list[int], list[Any]]]:
        for start in range(0, len(examples), _BLOCK):
            ids, labels, sources = zip(*examples[start : start + _BLOCK], strict=True)
            yield list(ids), list(labels), list(sources)

    content = {"root": os.fspath(root), "files": sha.hexdigest()}
    in_files = all(isinstance(source, Path) for _, _, source in examples)
    return Encoded(
        name,
        "",
        split,
        content,
        len(examples),
        3,
        blocks,
        (lambda: Files.of([cast(Path, each) for _, _, each in examples])) if in_files else None,
        portable.hexdigest(),
    )
