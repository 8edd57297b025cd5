"""Who serves for what: images to tune by, images to certify with, images to report on.

Tuning images fit the temperature, the choice of score, the thresholds that are tested and what
counts as strange. Certifying images make the counts of the promise and the sets, and nothing else.
Reporting images are looked at once, at the end.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from cnn_jax.trust.outputs import hashes

QUARTERS = (0.25, 0.5, 0.25)
THIRDS = (1 / 3, 2 / 3)


def divide(
    ids: Sequence[str], groups: Sequence[str] | None, shares: Sequence[float]
) -> list[np.ndarray]:
    """Returns the ascending indices of each part; no group is in two of them.

    Groups, or images where there are none, are taken in the order of the sha256 of their names: a
    draw that has nothing to do with their labels, and the same every time.

    Args:
        ids: n names of images.
        groups: n names of groups, or None.
        shares: of the parts; they sum to 1.
    """
    names = list(ids if groups is None else groups)
    unique, inverse = np.unique(np.asarray(names, object), return_inverse=True)
    order = np.argsort(hashes([f"trust {name}" for name in unique]), kind="stable")
    place = np.empty(len(unique), np.int64)
    place[order] = np.arange(len(unique))
    ends = np.round(np.cumsum(shares) * len(unique)).astype(np.int64)
    part = np.searchsorted(ends, place, side="right")[inverse]
    return [np.flatnonzero(part == i) for i in range(len(shares))]


def digest(ids: Sequence[str], labels: np.ndarray) -> str:
    """Returns the sha256 (hex) of the names and labels of some images, in any order."""
    lines = sorted(f"{name} {int(label)}" for name, label in zip(ids, labels, strict=True))
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
