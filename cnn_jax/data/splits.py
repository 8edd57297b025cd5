"""What loaded data is, and how one split is carved from another: stratified, and always the same.

The order examples are carved in depends on their ids alone, never on an experiment's seed, so every
run of every experiment trains, validates and tests on the same images.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples in a fixed order.

    Attributes:
        images: uint8 [n, height, width, channels], 0..255; possibly a read-only memory map.
        labels: int32 [n], indices into `DataInfo.class_names`.
        ids: n names of examples: the data set's own id or file name, or a path in the folder.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """What is known of loaded data.

    Attributes:
        name: as in `--dataset.name`.
        version: of the data set; a folder of images has none ("").
        class_names: label i is class_names[i].
        image_shape: (height, width, channels).
        mean: per channel, of the train split's images scaled to 0..1.
        std: as mean; the standard deviation over all pixels.
        sizes: examples in each split.
        class_counts: examples of each class in each split.
        notes: lines a log should show: what was carved, skipped or left unused.
        digest: sha256 (hex) of the images and labels that are trained and validated on.
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

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DataInfo":
        """Returns the info of `to_dict`, also after a round through JSON."""
        counts = {name: tuple(n) for name, n in values["class_counts"].items()}
        tuples = ("class_names", "image_shape", "mean", "std", "notes")
        return cls(**{**values, **{k: tuple(values[k]) for k in tuples}, "class_counts": counts})


@dataclasses.dataclass(frozen=True)
class Data:
    """Loaded data: `splits` holds train, validation and, where there is one, test."""

    info: DataInfo
    splits: dict[str, Split]


def stratified_order(labels: np.ndarray, ids: Sequence[str], offset: float) -> np.ndarray:
    """Orders examples so that every prefix holds the classes in proportion.

    Within a class, examples follow the sha256 of their id. The i-th example of a class of n stands
    at (i + offset) / n, and prefixes are nested by construction, unlike counts rounded per size.

    Args:
        labels: int [n].
        ids: n names; other examples coming or going moves no example past another of its class.
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

    Every class has an example in it where n is at least the number of classes.
    """
    return np.sort(stratified_order(labels, ids, offset=0)[:n])


def take(split: Split, indices: np.ndarray) -> Split:
    """Returns the examples at the indices (a copy in memory)."""
    return Split(split.images[indices], split.labels[indices], [split.ids[int(i)] for i in indices])


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns (mean, standard deviation) per channel of uint8 images scaled to 0..1.

    The sums are of whole numbers: float32 holds them exactly for 256 images at a time (256 * 255**2
    is below 2**24), float64 for all, so that the result does not depend on the order of adding.
    """
    channels = images.shape[-1]
    total, square = np.zeros(channels), np.zeros(channels)
    block = min(256, max(1, 10_000_000 // images[0].size))
    for start in range(0, len(images), block):
        pixels = images[start : start + block].astype(np.float32).reshape(-1, images[0].size)
        total += pixels.sum(axis=0).astype(np.float64).reshape(-1, channels).sum(axis=0)
        squares = np.einsum("np,np->p", pixels, pixels)
        square += squares.astype(np.float64).reshape(-1, channels).sum(axis=0)
    count = images.size // channels
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0))
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def digest(splits: dict[str, Split]) -> str:
    """Returns the sha256 (hex) of every split's name, shape, images and labels."""
    sha = hashlib.sha256()
    for name, split in sorted(splits.items()):
        sha.update(f"{name} {split.images.shape}\n".encode())
        sha.update(np.ascontiguousarray(split.images).data)
        sha.update(np.ascontiguousarray(split.labels).data)
    return sha.hexdigest()
