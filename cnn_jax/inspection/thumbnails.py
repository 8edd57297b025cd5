"""Small pictures of all images, and descriptors whose products tell which two may be one image.

A thumbnail has 32 x 32 pixels whatever the image's size, so that two sizes or shapes of one
photograph look alike. Its descriptor is two vectors of length 1 side by side: the colours of 8 x 8
cells without each channel's mean, and how much brighter the grey picture gets in these cells to the
right, to the left, down and up (histograms of gradients, as Dalal and Triggs 2005 introduced them,
with as few directions as there can be).
"""

from collections.abc import Iterator

import numpy as np

SIDE = 32
CELLS = 8
_BLOCK = 256
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_SAMPLE = 5000  # images that say which directions descriptors vary in


def area_matrix(size: int, target: int) -> np.ndarray:
    """Returns float32 [target, size] whose product with pixels averages them over equal areas."""
    edges = np.linspace(0, size, target + 1)
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(size)
    overlap = np.minimum(high, pixel + 1) - np.maximum(low, pixel)
    return (np.maximum(overlap, 0) * (target / size)).astype(np.float32)


def blocks(images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index of the first, float32 [n, 32, 32, channels]) of all images, some at a time.

    Args:
        images: uint8 or float32 [n, height, width, channels]. Floats are scaled so that their
            range is 0..255.
    """
    _, height, width, channels = images.shape
    down, across = area_matrix(height, SIDE), area_matrix(width, SIDE).T
    low, scale = 0.0, 1.0
    if images.dtype != np.uint8:
        low, high = _range(images)
        scale = 255 / (high - low) if high > low else 1.0
    step = int(np.clip(_BLOCK * 4096 // (height * width), 8, _BLOCK))
    for start in range(0, len(images), step):
        block = images[start : start + step].astype(np.float32)
        if images.dtype != np.uint8:
            block = (block - low) * scale
        if (height, width) != (SIDE, SIDE):
            by_channel = np.moveaxis(block, -1, 1)
            block = np.moveaxis(down @ by_channel @ across, 1, -1)
        yield start, block.reshape(-1, SIDE, SIDE, channels)


def _range(images: np.ndarray) -> tuple[float, float]:
    """Returns the smallest and the largest value of float images, read in blocks."""
    ends = [
        (block.min(), block.max())
        for start in range(0, len(images), _BLOCK)
        if (block := images[start : start + _BLOCK]).size
    ]
    low, high = zip(*ends, strict=True)
    return float(min(low)), float(max(high))


def grey(block: np.ndarray) -> np.ndarray:
    """Returns the luma of float32 [n, height, width, channels] as [n, height, width]."""
    return block @ _LUMA if block.shape[-1] == 3 else block.mean(axis=-1)


def _cells(values: np.ndarray) -> np.ndarray:
    """Returns the means over cells of [n, 32, 32, k], as [n, 8, 8, k]."""
    each = SIDE // CELLS
    return values.reshape(len(values), CELLS, each, CELLS, each, -1).mean(axis=(2, 4))


def _unit(cells: np.ndarray) -> np.ndarray:
    """Returns [n, 8, 8, k] without the means of its k maps, as vectors of length 1 (or 0)."""
    flat = (cells - cells.mean(axis=(1, 2), keepdims=True)).reshape(len(cells), -1)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.maximum(length, 1e-3)


def describe(block: np.ndarray) -> np.ndarray:
    """Returns the descriptors of thumbnails, float32 [n, 8 * 8 * (channels + 4)], of length 1."""
    luma = grey(block)
    down = np.empty_like(luma)
    down[:, 1:-1] = luma[:, 2:] - luma[:, :-2]
    down[:, ::31] = 2 * (luma[:, 1::30] - luma[:, :-1:30])
    across = np.empty_like(luma)
    across[..., 1:-1] = luma[..., 2:] - luma[..., :-2]
    across[..., ::31] = 2 * (luma[..., 1::30] - luma[..., :-1:30])
    edges = [np.maximum(sign * each, 0) for each in (across, down) for sign in (1, -1)]
    strength = np.concatenate([_cells(each[..., None]) for each in edges], axis=-1)
    parts = [_unit(_cells(block)), _unit(np.sqrt(strength))]
    return np.concatenate(parts, axis=1) * np.float32(np.sqrt(0.5))


def mirror_order(channels: int) -> np.ndarray:
    """Returns the indices that make the descriptor of an image that of its mirror image."""
    colour = np.arange(CELLS * CELLS * channels).reshape(CELLS, CELLS, channels)
    edges = np.arange(CELLS * CELLS * 4).reshape(CELLS, CELLS, 4) + colour.size
    swapped = edges[:, ::-1][..., [1, 0, 2, 3]]
    return np.concatenate([colour[:, ::-1].ravel(), swapped.ravel()])


def principal(descriptors: np.ndarray, dimensions: int) -> np.ndarray:
    """Returns float32 [features, dimensions], the directions that hold most of the products.

    Args:
        descriptors: float32 [n, features]; of many a sample of equal distances is looked at.
        dimensions: how many directions; at most as many as there are features.
    """
    sample = descriptors[:: max(1, len(descriptors) // _SAMPLE)]
    _, vectors = np.linalg.eigh(sample.T @ sample)
    return np.ascontiguousarray(vectors[:, ::-1][:, :dimensions])
