"""Images that are strange on purpose, made of ordinary ones: what the second gate is tried on."""

import numpy as np

_GRID = 4  # rows and columns of blocks that are shuffled


def planted(images: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns {kind: images like the given ones}: noise, blank, inverted, blocks shuffled.

    Args:
        images: uint8 or float32 [n, height, width, channels].
        seed: of what is drawn.
    """
    random = np.random.default_rng(seed)
    low, high = (0.0, 255.0) if images.dtype == np.uint8 else (images.min(), images.max())
    n, height, width, channels = images.shape

    def stored(values: np.ndarray) -> np.ndarray:
        return (np.round(values) if images.dtype == np.uint8 else values).astype(images.dtype)

    found = {
        "noise": stored(random.uniform(low, high, images.shape)),
        "blank": stored(np.broadcast_to(random.uniform(low, high, (n, 1, 1, 1)), images.shape)),
        "inverted": stored(high + low - images.astype(np.float32)),
    }
    rows, columns = height // _GRID, width // _GRID
    if rows and columns:
        whole = images[:, : rows * _GRID, : columns * _GRID]
        blocks = whole.reshape(n, _GRID, rows, _GRID, columns, channels).swapaxes(2, 3)
        blocks = blocks.reshape(n, _GRID * _GRID, rows, columns, channels)
        for i in range(n):
            blocks[i] = blocks[i, random.permutation(_GRID * _GRID)]
        blocks = blocks.reshape(n, _GRID, _GRID, rows, columns, channels).swapaxes(2, 3)
        shuffled = images.copy()
        shuffled[:, : rows * _GRID, : columns * _GRID] = blocks.reshape(whole.shape)
        found["blocks shuffled"] = shuffled
    return found
