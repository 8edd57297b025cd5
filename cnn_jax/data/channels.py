"""The mean and the standard deviation of each channel, which describe data and scale them."""

from collections.abc import Iterator

import numpy as np


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Computes (mean, standard deviation) of each channel over all pixels.

    Of uint8 images the sums are of whole numbers, which float32 holds exactly for 256 images at a
    time (256 * 255**2 is below 2**24) and float64 for all: the result does not depend on the order
    of the images.

    Args:
        images: [n, height, width, channels]; uint8 are scaled to 0..1, floats are taken as they
            are.
    """
    size = int(np.prod(images.shape[1:]))
    step = min(256, max(1, 10_000_000 // size))

    def blocks() -> Iterator[np.ndarray]:  # one at a time: they may be read when they are asked for
        return (images[start : start + step] for start in range(0, len(images), step))

    channels = images.shape[-1]
    count = len(images) * size // channels
    if images.dtype != np.uint8:  # in two passes, since the mean may be far from zero
        total = sum(block.sum(axis=(0, 1, 2), dtype=np.float64) for block in blocks())
        mean = np.asarray(total) / count
        square = sum(np.square(block - mean).sum(axis=(0, 1, 2)) for block in blocks())
        return tuple(mean.tolist()), tuple(np.sqrt(np.asarray(square) / count).tolist())
    total, square = np.zeros(channels), np.zeros(channels)
    for block in blocks():
        pixels = block.astype(np.float32).reshape(-1, size)
        total += pixels.sum(axis=0).astype(np.float64).reshape(-1, channels).sum(axis=0)
        squares = np.einsum("np,np->p", pixels, pixels)
        square += squares.astype(np.float64).reshape(-1, channels).sum(axis=0)
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0))
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())
