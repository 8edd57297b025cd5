"""Whether all images of a data set are grey, so that one channel holds them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cnn_jax import experiment
from cnn_jax.data import cache, images, kept
from cnn_jax.data.cache import Encoded

_BLOCK = 64  # images that are looked at before it is decided whether to look at more


def channels(
    splits: Sequence[Encoded], config: experiment.Dataset, how: images.Decoding, notes: list[str]
) -> int:
    """Returns the channels of files: what the setting says, else 1 where all are grey, else 3.

    Args:
        splits: those that are trained and validated on; of the test images nothing may depend.
        config: the section "dataset" of an experiment.
        how: how the images are decoded.
        notes: receives a line where the images alone decide for one channel.
    """
    if config.channels != "auto":
        return int(config.channels)
    if not kept.kept("grey", splits, how.key(), lambda: _all_grey(splits, how)):
        return 3
    notes.append("all images are grey: they are read as one channel; dataset.channels=3 makes 3")
    return 1


def _all_grey(splits: Sequence[Encoded], how: images.Decoding) -> bool:
    """Returns whether every image that can be read is grey; stops soon after one that is not."""
    encoded: list[Path | bytes] = [
        source for each in splits for _, _, sources in each.blocks() for source in sources
    ]

    def is_coloured(source: Path | bytes) -> bool:
        try:
            if images.is_stored_grey(source):
                return False
            pixels = images.decode(source, how).pixels
        except images.ImageError:  # decoding names it, where it is refused or skipped
            return False
        return bool((pixels != pixels[..., :1]).any())

    with ThreadPoolExecutor(cache.cores()) as pool:
        for start in range(0, len(encoded), _BLOCK):
            if any(pool.map(is_coloured, encoded[start : start + _BLOCK])):
                return False
    return True


def as_channels(array: np.ndarray, count: int) -> np.ndarray | None:
    """Returns images with 1 or 3 channels; None where they cannot be had.

    Args:
        array: [n, height, width, channels]; of 3 channels uint8 alone can become grey.
        count: 1 (ITU-R 601 luma, rounded as Pillow does) or 3 (all the same).
    """
    if array.shape[-1] == count:
        return array
    if array.shape[-1] == 1:
        return np.repeat(array, count, axis=-1)
    if array.dtype != np.uint8 or array.shape[-1] != 3:
        return None
    luma = np.empty((*array.shape[:-1], 1), np.uint8)
    weights = np.array([19595, 38470, 7471], np.uint32)  # of 65536
    for start in range(0, len(array), _BLOCK):
        block = array[start : start + _BLOCK].astype(np.uint32) @ weights
        luma[start : start + _BLOCK, ..., 0] = (block + 0x8000) >> 16
    return luma
