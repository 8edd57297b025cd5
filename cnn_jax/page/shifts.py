"""What a network makes of many test images when they are moved to the left and to the right."""

from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnn_jax.data import Split
from cnn_jax.evaluation import intervals, metrics

_FARTHEST = 8
_MOST_IMAGES = 500
_MOST_MACS = 2e11
_BATCH = 100


def reach(width: int) -> int:
    """Returns by how many pixels at most images of this width are moved."""
    return min(_FARTHEST, width // 3)


def batches(split: Split, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the first images in batches with their labels; the last is filled up with copies.

    Args:
        split: the images.
        count: how many.
    """
    for start in range(0, count, _BATCH):
        images = np.asarray(split.images[start : min(start + _BATCH, count)])
        rest = np.repeat(images[:1], _BATCH - len(images), axis=0)
        yield np.concatenate([images, rest]), np.asarray(split.labels[start : start + len(images)])


def moved(images: np.ndarray, dx: int) -> np.ndarray:
    """Returns images moved to the right; the column at the edge fills what becomes free.

    Args:
        images: `[n, height, width, channels]`.
        dx: pixels; negative: to the left.
    """
    width = images.shape[2]
    return images[:, :, np.clip(np.arange(width) - dx, 0, width - 1)]


def measure(logits_of: Callable[[Any], Any], split: Split, macs: int) -> dict[str, Any]:
    """Returns the mean probability of the label, and the share that is right, for each shift.

    Args:
        logits_of: the network; it gets batches of one size.
        split: the images, of which the first are taken: 500, or fewer of a large network.
        macs: the multiplications of the network for an image.

    Returns:
        "shifts": pixels to the right; "p": mean probability of the label; "right": the share whose
        largest probability is that of the label, as (share, low, high) with the limits of Wilson's
        95 % interval; "images": how many.
    """
    far = reach(split.images.shape[2])
    shifts = range(-far, far + 1)
    affordable = int(_MOST_MACS / (len(shifts) * max(1, macs)))
    count = min(len(split), _MOST_IMAGES, max(_BATCH, affordable))
    p, right = np.zeros(len(shifts)), np.zeros(len(shifts), int)
    for images, labels in batches(split, count):
        for i, dx in enumerate(shifts):
            logits = jnp.asarray(logits_of(moved(images, dx)))[: len(labels)]
            probabilities = np.asarray(metrics.probabilities(logits))
            p[i] += probabilities[np.arange(len(labels)), labels].sum()
            right[i] += int((probabilities.argmax(1) == labels).sum())
    return {
        "shifts": list(shifts),
        "p": (p / count).tolist(),
        "right": [[each / count, *intervals.wilson(int(each), count)] for each in right],
        "images": count,
    }
