"""Encoded images by their numbers, read where they are decoded; nothing here imports JAX."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cnn_jax import extras


class Records(Protocol):
    """Encoded images 0..n-1, which any process can read."""

    def read(self, numbers: Sequence[int]) -> list[tuple[str, Path | bytes]]:
        """Returns (what messages call it, the file or its bytes) of some images."""
        ...


@dataclasses.dataclass(frozen=True)
class Files:
    """Images in files.

    Attributes:
        paths: bytes [n], in one array: a million of Path would take a gigabyte.
    """

    paths: np.ndarray

    @classmethod
    def of(cls, paths: Sequence[Path]) -> "Files":
        """Returns the records of some files."""
        return cls(np.array([os.fsencode(path) for path in paths], np.bytes_))

    def read(self, numbers: Sequence[int]) -> list[tuple[str, Path | bytes]]:
        """Returns the files; their content is read when they are decoded."""
        paths = [Path(os.fsdecode(self.paths[number])) for number in numbers]
        return [(os.fspath(path), path) for path in paths]


@dataclasses.dataclass
class Prepared:
    """Images in the array_record files of a prepared TFDS directory.

    Attributes:
        path: the directory.
        split: the split's name.
        image: the feature that is the image.
        skipped: every image feature: none is to be decoded by TFDS.
    """

    path: Path
    split: str
    image: str
    skipped: tuple[str, ...]

    def read(self, numbers: Sequence[int]) -> list[tuple[str, Path | bytes]]:
        """Returns the bytes; only the records with these numbers are read."""
        examples = self.source.__getitems__([int(number) for number in numbers])
        names = (f"{self.path} {self.split} example {number}" for number in numbers)
        return [(name, e[self.image]) for name, e in zip(names, examples, strict=True)]

    @property
    def source(self) -> Any:
        """The split as TFDS reads it, opened in each process when it is first used."""
        if "_source" not in self.__dict__:
            tfds = extras.need("tensorflow_datasets", f"reading {self.path}", "tfds")
            decoders = {name: tfds.decode.SkipDecoding() for name in self.skipped}
            builder: Any = tfds.builder_from_directory(self.path)
            self._source = builder.as_data_source(self.split, decoders=decoders)
        return self._source

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_source"}
