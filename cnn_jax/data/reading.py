"""Image files as arrays, for those who put their own data sets together."""

import concurrent.futures
import os
from collections.abc import Sequence
from typing import get_args

import numpy as np
from PIL import Image

from cnn_jax.data import bit_depth as depths
from cnn_jax.data import cache, fitting, images
from cnn_jax.errors import UsageError

# Images that a thread reads at a time.
_PART = 32


def read_images(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    size: int | tuple[int, int],
    channels: int = 3,
    bit_depth: int | None = None,
    max_megapixels: int = images.MAX_MEGAPIXELS,
    resize: str = "squash",
) -> np.ndarray:
    """Reads files as data sets are read: upright, resized, with threads.

    Args:
        paths: the files, or one.
        size: height and width in pixels, or one number for both.
        channels: 3 or 1.
        bit_depth: bits that the values of 16-bit images use; None: the fewest that hold them all.
        max_megapixels: files of which more would be decoded are refused.
        resize: squash, crop, pad or pad_mean: what is done with another aspect; see `fitting`.

    Returns:
        uint8 [n, height, width, channels].

    Raises:
        UsageError: there is no path, or there are no such sizes, channels or ways to resize.
        RunError: a file cannot be read as an image.
    """
    paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    sides = [size] if isinstance(size, int) else list(size)
    if channels not in (1, 3) or min(sides) < 1 or len(sides) > 2 or not paths:
        raise UsageError(
            "give one path at least, a size of (height, width) above 0, and channels 3 or 1; not "
            f"{len(paths)} paths, size {size} and {channels} channels"
        )
    if resize not in get_args(fitting.Resize):
        known = ", ".join(get_args(fitting.Resize))
        raise UsageError(f"resize is one of {known}, not {resize!r}")
    parts = [paths[i : i + _PART] for i in range(0, len(paths), _PART)]
    bits = bit_depth or depths.of_files(paths, max_megapixels).depth

    height, width = sides * 2 if len(sides) == 1 else sides
    how = images.Decoding((height, width), channels, bits, max_megapixels, resize)

    def read(part: Sequence[str | os.PathLike[str]]) -> list[np.ndarray]:
        return [images.decode(os.fspath(path), how).pixels for path in part]

    with concurrent.futures.ThreadPoolExecutor(cache.cores()) as pool:
        return np.stack([image for part in pool.map(read, parts) for image in part])


def resize(array: np.ndarray, size: int, how: str = "squash", share: float = 1.0) -> np.ndarray:
    """Resizes images as `read_image` does, bilinearly with antialiasing.

    Args:
        array: uint8 [n, height, width, channels], of 1 or 3 channels.
        size: the new height and width, in pixels.
        how: a `fitting.Resize`.
        share: of the short side, that its `crop` keeps.

    Returns:
        uint8 [n, size, size, channels].
    """

    def one(image: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        return np.asarray(
            fitting.pad(fitting.resize(picture, (size, size), how, share=share), (size, size), how)
        )

    with concurrent.futures.ThreadPoolExecutor(cache.cores()) as pool:
        found = np.stack(list(pool.map(one, array, chunksize=_PART)))
    return found.reshape(len(array), size, size, array.shape[-1])
