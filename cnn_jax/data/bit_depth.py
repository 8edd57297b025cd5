"""How many bits the values of 16-bit images use, which their files do not tell.

X-rays and microscopes write values of 10 or 12 bits into files of 16: scaled as 16 bits they are
nearly black. The range is that of a whole data set, for a range of each image would make a dark
image bright and lose what the values mean.
"""

import dataclasses
import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cnn_jax.data import images, kept
from cnn_jax.data.cache import Encoded, cores
from cnn_jax.errors import RunError

DEPTHS = (8, 10, 12, 14, 16)


@dataclasses.dataclass(frozen=True)
class Range:
    """What the 16-bit images of a data set hold.

    Attributes:
        grey: how many images have 16 bits and one channel.
        colour: how many have 16 bits and more channels; of these only the upper 8 bits are read.
        largest: the largest value in any of them; of colours, the largest that it may be.
    """

    grey: int = 0
    colour: int = 0
    largest: int = 0

    @property
    def depth(self) -> int:
        """The fewest bits of `DEPTHS` that hold the largest value; 16 without such images."""
        if not self.grey + self.colour:
            return 16
        return next(depth for depth in DEPTHS if self.largest < 2**depth)


def choose(
    splits: list[Encoded],
    asked: str,
    notes: list[str],
    max_megapixels: int = images.MAX_MEGAPIXELS,
) -> int:
    """Returns the bits that 16-bit images are read with; a note says what was seen.

    Args:
        splits: all splits of a folder of images.
        asked: "auto", or the number of bits as text.
        notes: receives the note.
        max_megapixels: larger images are passed over.

    Raises:
        RunError: 16-bit images in colour have fewer bits, which cannot be read.
    """
    if asked != "auto":
        return int(asked)
    settings = None if max_megapixels == images.MAX_MEGAPIXELS else max_megapixels
    look = functools.partial(of_files, kept.paths(splits), max_megapixels)
    values = kept.kept("values", splits, settings, lambda: dataclasses.asdict(look()))
    found = Range(**values)
    if found.grey + found.colour:
        notes.append(
            f"{found.grey + found.colour} images have 16-bit values, the largest {found.largest}: "
            f"read as {found.depth} bits; dataset.bit_depth chooses otherwise"
        )
    if found.colour and found.depth < 16:
        raise RunError(
            f"{found.colour} images are of 16 bits in colour, and their values use {found.depth} "
            "bits or fewer: they would be nearly black; convert them to 8 bits, or read them as "
            "they are with --dataset.bit_depth=16"
        )
    return found.depth


def of_files(
    paths: Sequence[str | os.PathLike[str]], max_megapixels: int = images.MAX_MEGAPIXELS
) -> Range:
    """Returns the range of the 16-bit images among files; others are looked at no further."""
    look = functools.partial(images.largest_of_16_bits, max_megapixels=max_megapixels)
    with ThreadPoolExecutor(cores()) as pool:
        found = [value for value in pool.map(look, map(Path, paths)) if value]
    return Range(
        grey=sum(not value.colour for value in found),
        colour=sum(value.colour for value in found),
        largest=max((value.largest for value in found), default=0),
    )
