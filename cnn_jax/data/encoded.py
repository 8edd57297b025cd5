"""A split of images as it is stored."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cnn_jax.data.records import Records


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A split as it is stored, before decoding.

    Attributes:
        name: the data set's name, for messages and the directory's name.
        version: the data set's version, likewise.
        split: the split's name, likewise.
        content: whatever tells these files from others of the same name, ready for JSON.
        num_examples: the number of examples.
        channels: the channels that images are decoded to, 1 or 3.
        blocks: yields (ids, labels, encoded images or their paths) of some examples at a time.
        records: returns them for reading one by one; None: they cannot be.
        portable: what tells these examples from others wherever they lie, ready for JSON.
    """

    name: str
    version: str
    split: str
    content: Any
    num_examples: int
    channels: int
    blocks: Callable[[], Iterator[tuple[list[str], list[int], list[bytes] | list[Path]]]]
    records: Callable[[], Records] | None = None
    portable: Any = None
