"""Loaded data, and how one split is held out from another: stratified, and always the same.

Which examples are held out depends only on their ids, never on an experiment's seed, so every run
of every experiment trains, validates and tests on the same images.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn_jax.data.indexed import Indexed, Lazy
from cnn_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples in a fixed order.

    Attributes:
        images: uint8 [n, height, width, channels], 0..255, possibly a read-only memory map or
            `Lazy`; or float32 of that shape, in whatever units their owner gave them.
        labels: int32 [n], indices into `DataInfo.class_names`; or, where an image may have several
            findings, uint8 [n, classes], 1 for each that it has.
        ids: n names of examples: the data set's own id or file name, a path in the folder, or the
            position in the user's array.
        groups: n names of groups, none of which is in two splits; None: there are none.
        identity: tells the images from all others, so that what was seen in them need not be
            looked for again; None: nothing is known that does.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: Sequence[str]
    groups: Sequence[str] | None = None
    identity: str | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.images.shape[1:]))
        return f"<Split of {len(self):,} examples, {self.images.dtype} {shape}>"


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """The description of loaded data, which data.json holds.

    Attributes:
        name: the data set's, as in `--dataset.name`.
        version: the data set's; folders of images and arrays have none ("").
        class_names: label i is class_names[i].
        image_shape: (height, width, channels).
        mean: of each channel over the train split: of uint8 in 0..1, of floats in their own units.
        std: the standard deviation of each channel, likewise.
        sizes: the number of examples in each split.
        class_counts: the examples of each class, or with each finding, in each split.
        notes: lines a log should show: what was held out, skipped or left unused.
        digest: sha256 (hex) of the images and labels that are trained and validated on.
        dtype: the images' dtype, "uint8" or "float32".
        bit_depth: how many bits the values of 16-bit images were taken to use.
        multilabel: whether an image may have several findings, or none.
        resize: what was done with images of another aspect, a `fitting.Resize`.
        streamed: whether the training images are decoded while they are trained on.
        crop_share: the share of the short side that a `resize` by crop kept.
        interpolation: the filter of Pillow's by which images are resized.
    """

    name: str
    version: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sizes: dict[str, int]
    class_counts: dict[str, tuple[int, ...]]
    notes: tuple[str, ...]
    digest: str
    dtype: str = "uint8"  # as in a data.json written before float images could be given
    bit_depth: int = 16  # as before the range of a data set was looked at
    resize: str = "squash"
    multilabel: bool = False
    streamed: bool = False
    crop_share: float = 1.0
    interpolation: str = "bilinear"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DataInfo":
        """Returns the DataInfo that `to_dict` was called on, also after a round through JSON."""
        counts = {name: tuple(n) for name, n in values["class_counts"].items()}
        tuples = ("class_names", "image_shape", "mean", "std", "notes")
        return cls(**{**values, **{k: tuple(values[k]) for k in tuples}, "class_counts": counts})


@dataclasses.dataclass(frozen=True)
class Data:
    """Loaded data.

    Attributes:
        info: the description.
        splits: "train", "validation" and, if there is one and it was wanted, "test".
        section: the experiment's section that the data were loaded by, or None.
    """

    info: DataInfo
    splits: dict[str, Split]
    section: Any = None

    def __repr__(self) -> str:
        shape, names = " x ".join(map(str, self.info.image_shape)), self.info.class_names
        sizes = ", ".join(f"{name} {len(split):,}" for name, split in self.splits.items())
        classes = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        return (
            f"<Data {self.info.name}: {sizes}; {self.info.dtype} {shape}; "
            f"{len(names)} classes: {classes}>"
        )

    @property
    def train(self) -> Split:
        """The examples to train on."""
        return self.splits["train"]

    @property
    def validation(self) -> Split:
        """The examples to choose by: the best epoch, the best settings."""
        return self.splits["validation"]

    @property
    def test(self) -> Split:
        """The examples to measure on once all is chosen.

        Raises:
            UsageError: there are none, or they were left out.
        """
        if "test" not in self.splits:
            raise UsageError(f"{self.info.name} has no test split, only {', '.join(self.splits)}")
        return self.splits["test"]


def strata(labels: np.ndarray) -> np.ndarray:
    """Returns int [n], by which examples are held out in proportion.

    It is the class; of several findings the number of their combination, so that combinations, and
    with them the findings, keep their shares.

    Args:
        labels: int [n], or uint8 [n, findings].
    """
    if labels.ndim == 1:
        return labels
    return np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)


def counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns int [classes], the examples of each class, or with each finding."""
    if labels.ndim == 2:
        return labels.sum(axis=0, dtype=np.int64)
    return np.bincount(labels, minlength=classes)


def stratified_order(labels: np.ndarray, ids: Sequence[str], offset: float) -> np.ndarray:
    """Orders examples so that every prefix holds the classes in proportion.

    Within a class, examples follow the sha256 of their id. The i-th example of a class of n stands
    at (i + offset) / n, and prefixes are nested by construction, unlike counts rounded per size.

    Args:
        labels: int [n].
        ids: n names. Adding or removing examples does not change the order of the others of a
            class.
        offset: 0 begins with one example of every class; 1/2 gives each class its nearest share.

    Returns:
        int64 [n], a permutation of 0..n-1.
    """
    digests = [hashlib.sha256(i.encode(errors="surrogateescape")).digest()[:8] for i in ids]
    hashes = np.frombuffer(b"".join(digests), dtype=">u8")
    by_class = np.lexsort((hashes, labels))
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(labels), np.int64)
    rank[by_class] = np.arange(len(labels)) - starts[labels[by_class]]
    return np.lexsort((hashes, (rank + offset) / counts[labels]))


def hold_out(labels: np.ndarray, ids: Sequence[str], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (indices that stay, indices of the n held out), both ascending, stratified."""
    order = stratified_order(labels, ids, offset=0.5)
    return np.sort(order[n:]), np.sort(order[:n])


def subset(labels: np.ndarray, ids: Sequence[str], n: int) -> np.ndarray:
    """Returns n ascending indices, stratified; a smaller subset is contained in a larger one.

    Every class has an example in it if n is at least the number of classes.
    """
    return np.sort(stratified_order(labels, ids, offset=0)[:n])


def take(split: Split, indices: np.ndarray) -> Split:
    """Returns the examples at the indices: images in memory are copied, others read when used."""
    ids = [split.ids[int(i)] for i in indices]
    groups = None if split.groups is None else [split.groups[int(i)] for i in indices]
    images: Any = split.images
    if isinstance(images, np.memmap):
        images = Indexed(images, np.arange(len(images)))
    images = images.rows(indices) if isinstance(images, Lazy) else images[indices]
    identity = split.identity
    if identity is not None:
        places = np.ascontiguousarray(indices, np.int64).tobytes()
        identity = hashlib.sha256(identity.encode() + places).hexdigest()
    return Split(images, split.labels[indices], ids, groups, identity)


def digest(splits: dict[str, Split]) -> str:
    """Returns the sha256 (hex) of every split's name, shape, images and labels."""
    sha = hashlib.sha256()
    for name, split in sorted(splits.items()):
        sha.update(f"{name} {split.images.shape}\n".encode())
        for start in range(0, len(split), 256):
            sha.update(np.ascontiguousarray(split.images[start : start + 256]).data)
        sha.update(np.ascontiguousarray(split.labels).data)
    return sha.hexdigest()
