"""What arrays of images hold: channels, grey and constant images, classes and groups by split."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn_jax.data import splits
from cnn_jax.data.duplicates import Member
from cnn_jax.data.splits import Split

_BLOCK = 256
_SAME_GREY = 2  # levels of 255 by which the channels of a grey image differ at most


@dataclasses.dataclass(frozen=True)
class SplitFacts:
    """What is known of the images of a split.

    Attributes:
        size: the number of images.
        class_counts: the number of images of each class, or with each finding.
        groups: the number of groups; None: there are none.
        largest_group: the number of images of the largest group; None likewise.
        mean: of each channel over all pixels, of uint8 images scaled to 0..1.
        std: the standard deviation of each channel, likewise.
        grey: the number of images of each class whose three channels are the same; () of images
            with one channel.
        constant: the images that have one colour.
    """

    size: int
    class_counts: tuple[int, ...]
    groups: int | None
    largest_group: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    grey: tuple[int, ...]
    constant: tuple[Member, ...]

    @property
    def ratio(self) -> float | None:
        """The size of the largest class by that of the smallest; None: a class has no image."""
        low = min(self.class_counts)
        return max(self.class_counts) / low if low else None


def of_split(name: str, split: Split, classes: int) -> SplitFacts:
    """Reads all images of a split once, in blocks.

    Args:
        name: the split's.
        split: its examples.
        classes: the number of classes.
    """
    images, labels = split.images, np.asarray(split.labels)
    unit = 255.0 if images.dtype == np.uint8 else 1.0
    channels = images.shape[-1]
    sums, squares = np.zeros(channels), np.zeros(channels)
    constant, grey = np.zeros(len(split), bool), np.zeros(len(split), bool)
    step = int(np.clip(_BLOCK * 4096 // (images.shape[1] * images.shape[2]), 8, _BLOCK))
    for start in range(0, len(split), step):
        at = slice(start, start + step)
        block = np.ascontiguousarray(images[at])
        pixels = block.reshape(len(block), -1, channels)
        values = pixels.astype(np.float64)
        sums += values.sum(axis=(0, 1))
        squares += np.square(values).sum(axis=(0, 1))
        constant[at] = (pixels == pixels[:, :1]).all(axis=(1, 2))
        if channels == 3:
            spread = pixels.max(axis=2).astype(np.float32) - pixels.min(axis=2)
            grey[at] = spread.max(axis=1) <= _SAME_GREY * unit / 255
    count = len(split) * images.shape[1] * images.shape[2]
    mean = sums / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    members = [
        Member(name, int(labels[i]), str(split.ids[i])) for i in np.flatnonzero(constant).tolist()
    ]
    groups = None if split.groups is None else np.unique(split.groups, return_counts=True)[1]
    return SplitFacts(
        size=len(split),
        class_counts=tuple(splits.counts(labels, classes).tolist()),
        groups=None if groups is None else len(groups),
        largest_group=None if groups is None else int(groups.max()),
        mean=tuple((mean / unit).tolist()),
        std=tuple((std / unit).tolist()),
        grey=tuple(splits.counts(labels[grey], classes).tolist()) if channels == 3 else (),
        constant=tuple(members),
    )


def member_text(member: Member) -> dict[str, Any]:
    """Returns a member as JSON has it."""
    return {"split": member.split, "id": member.id, "label": member.label}


def class_text(split: Split, index: int, names: Sequence[str]) -> str:
    """Returns the name of an example's class, or of its findings."""
    label = np.asarray(split.labels[index])
    if label.ndim == 0:
        return names[int(label)]
    return ", ".join(names[i] for i in np.flatnonzero(label).tolist()) or "no finding"
