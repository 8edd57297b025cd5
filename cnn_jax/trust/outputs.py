"""What a network said of labelled images, and its logits as those of all classes."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from cnn_jax.evaluation import intervals


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a network computes of some images.

    Attributes:
        logits: float64 [n, classes], finite.
        features: float32 [n, channels], what the layer takes that computes the logits.
        middle: float32 [n, channels], the output of its middle convolution, averaged over height
            and width; None: it has no convolution.
    """

    logits: np.ndarray
    features: np.ndarray
    middle: np.ndarray | None = dataclasses.field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.logits)


@dataclasses.dataclass(frozen=True)
class Outputs(Seen):
    """What a network computes of some images, and what they are.

    Attributes:
        logits: as those of `Seen`.
        features: likewise.
        middle: likewise.
        labels: int [n].
        ids: n names.
        groups: n names of what belongs together, a patient say; None: each image by itself.
    """

    labels: np.ndarray
    ids: Sequence[str]
    groups: Sequence[str] | None = None

    def take(self, indices: np.ndarray) -> "Outputs":
        """Returns those at the indices."""
        return Outputs(
            self.logits[indices],
            self.features[indices],
            self.labels[indices],
            [self.ids[int(i)] for i in indices],
            None if self.groups is None else [self.groups[int(i)] for i in indices],
            middle=None if self.middle is None else self.middle[indices],
        )

    def is_of(self, other: "Outputs") -> bool:
        """Returns whether these are the same images with the same labels in the same order."""
        same = list(self.ids) == list(other.ids)
        return same and bool(np.array_equal(self.labels, other.labels))

    @property
    def units(self) -> int:
        """The number of independent examples: of groups, or of images where there are none."""
        return len(self) if self.groups is None else len(set(self.groups))

    @property
    def numbers(self) -> np.ndarray:
        """The number of each image's group, int [n]."""
        return intervals.group_numbers(self.groups, len(self))

    def one_a_group(self) -> "Outputs":
        """Returns one image of each group, that with the smallest hash; without groups all.

        Images of one patient are not independent, patients are: a count over one image of each has
        an exact binomial law. The risk that it counts is that of a random image of a random group.
        """
        if self.groups is None:
            return self
        first: dict[str, int] = {}
        for i in np.argsort(hashes(self.ids), kind="stable"):
            first.setdefault(self.groups[int(i)], int(i))
        return self.take(np.sort(np.fromiter(first.values(), np.int64)))


def hashes(names: Sequence[str]) -> np.ndarray:
    """Returns uint64 [n], the first eight bytes of the sha256 of each name."""
    digests = [hashlib.sha256(i.encode(errors="surrogateescape")).digest()[:8] for i in names]
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)


def of_all_classes(logits: np.ndarray) -> np.ndarray:
    """Returns float64 [n, classes]: a single logit is that of the second class against 0.

    Args:
        logits: float [n, outputs].
    """
    logits = np.asarray(logits, np.float64)
    if logits.shape[1] > 1:
        return logits
    return np.concatenate([np.zeros_like(logits), logits], axis=1)
