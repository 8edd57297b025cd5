"""The pictures of a page: some of the run's images, or made ones where those are private."""

from collections.abc import Sequence

import numpy as np

from cnn_jax.data import Split
from cnn_jax.evaluation import confusion

CHECKED = 6  # at most; pictures whose logits the page compares with JAX's at its start
_MOST_PICTURES = 24
_MOST_PICTURE_BYTES = 1_200_000


def choose(
    split: Split | None, shape: Sequence[int], hard: Sequence[int] = ()
) -> tuple[np.ndarray, list[int | None]]:
    """Returns uint8 pictures and their labels: the first ones of each class, or made ones.

    Args:
        split: what they are chosen from; None: pictures are made.
        shape: (height, width, channels) of an image.
        hard: examples that come last.
    """
    if split is None:
        made = made_pictures(shape)
        return made, [None] * len(made)
    most = max(1, min(_MOST_PICTURES, _MOST_PICTURE_BYTES // int(np.prod(shape))))
    hard = list(hard)[: max(0, most - 2)]
    labels = np.asarray(split.labels)
    rank = np.zeros(len(labels), int)  # of an example among those of its class
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        rank[places] = np.arange(len(places))
    chosen = [i for i in np.lexsort((labels, rank)) if i not in hard][: most - len(hard)] + hard
    images = np.stack([np.asarray(split.images[i]) for i in chosen])
    if images.dtype != np.uint8:
        low, high = span_of("float32", split)
        images = np.clip(np.round((images - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    return images, [int(labels[i]) for i in chosen]


def hard_ones(probabilities: np.ndarray, labels: np.ndarray) -> list[int]:
    """Returns the surest error and the example whose class is the least certain, if they differ.

    Args:
        probabilities: float [n, classes] of the first examples of a split.
        labels: int [n].
    """
    surest = confusion.surest_errors(probabilities, labels, 1)
    least = int(probabilities.max(axis=1).argmin())
    return [int(i) for i in dict.fromkeys([*surest.tolist(), least])]


def values_of(stored: np.ndarray, span: Sequence[float], dtype: str) -> np.ndarray:
    """Returns pictures as the run's images are stored."""
    if dtype == "uint8":
        return stored
    low, high = span
    return (low + stored.astype(np.float32) / 255 * (high - low)).astype(np.float32)


def span_of(dtype: str, split: Split | None) -> list[float]:
    """Returns (low, high): the numbers that 0 and 255 of a picture stand for."""
    if dtype == "uint8":
        return [0.0, 255.0]
    if split is None:
        return [0.0, 1.0]
    some = np.asarray(split.images[:1000], np.float32)
    return [float(some.min()), float(max(some.max(), some.min() + 1e-6))]


def made_pictures(shape: Sequence[int]) -> np.ndarray:
    """Returns uint8 pictures that show nothing of anybody's data.

    They are stripes, a slope, a disc, a checkerboard, noise and a cross.
    """
    height, width, channels = shape
    y, x = np.mgrid[:height, :width] / max(height, width)
    noise = np.random.default_rng(0).random((height, width))
    planes = [
        (np.sin(x * 25) > 0) * 1.0,
        x,
        (np.hypot(x - 0.5, y - 0.5) < 0.3) * 1.0,
        ((x * 6).astype(int) + (y * 6).astype(int)) % 2 * 1.0,
        noise,
        (np.minimum(abs(x - 0.5), abs(y - 0.5)) < 0.08) * 1.0,
    ]
    factors = [np.roll([1.0, 0.7, 0.4], i)[np.arange(channels) % 3] for i in range(len(planes))]
    pictures = [plane[..., None] * f for plane, f in zip(planes, factors, strict=True)]
    return np.round(255 * np.stack(pictures)).astype(np.uint8)
