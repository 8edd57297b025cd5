"""How many bits the values of 16-bit images use, which their files do not tell.

X-rays and microscopes write values of 10 or 12 bits into files of 16: scaled as 16 bits they are
nearly black. The range is that of a whole data set, for a range of each image would make a dark
image bright and lose what the values mean.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnn_jax import text
from cnn_jax.data import encoded_images, images, kept
from cnn_jax.data.cache import Encoded, cores
from cnn_jax.errors import RunError

DEPTHS = (8, 10, 12, 14, 16)
_DARK = 8  # images without a value above this share of white are worth a word


class Largest(NamedTuple):
    """The largest value of an image of 16 bits, and whether it has several channels."""

    largest: int
    colour: bool


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
        splits: all splits of a folder or a table of images.
        asked: "auto", or the number of bits as text.
        notes: receives the note.
        max_megapixels: larger images are passed over.

    Raises:
        RunError: 16-bit images in colour have fewer bits, which cannot be read.
    """
    if asked != "auto":
        return int(asked)
    settings = None if max_megapixels == images.MAX_MEGAPIXELS else max_megapixels
    look = functools.partial(of_files, kept.sources(splits), max_megapixels)
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


def dark(
    sources: Sequence[str | os.PathLike[str] | bytes],
    bits: int,
    max_megapixels: int = images.MAX_MEGAPIXELS,
) -> str | None:
    """Returns a line on images that are nearly black where they are read as a run reads its own.

    Args:
        sources: files, or their bytes.
        bits: those that the run reads 16-bit values with.
        max_megapixels: larger images are passed over.
    """
    found = of_files(sources, max_megapixels)
    if not found.grey or found.largest * _DARK >= 2**bits:
        return None
    return (
        f"{text.plural(found.grey, 'image')} of 16-bit values, the largest {found.largest}, read "
        f"as {bits} bits like those of the run: nearly black; "
        f"--dataset.bit_depth={found.depth} reads them as {found.depth}"
    )


def of_files(
    sources: Sequence[str | os.PathLike[str] | bytes], max_megapixels: int = images.MAX_MEGAPIXELS
) -> Range:
    """Returns the range of the 16-bit images among files, which may be given as their bytes.

    Others are looked at no further.
    """
    given = [each if isinstance(each, bytes) else Path(each) for each in sources]
    look = functools.partial(largest_of_16_bits, max_megapixels=max_megapixels)
    with ThreadPoolExecutor(cores()) as pool:
        found = [value for value in pool.map(look, given) if value]
    return Range(
        grey=sum(not value.colour for value in found),
        colour=sum(value.colour for value in found),
        largest=max((value.largest for value in found), default=0),
    )


def largest_of_16_bits(
    source: Path | bytes, max_megapixels: int = images.MAX_MEGAPIXELS
) -> Largest | None:
    """Returns the largest value of an image of 16 bits; None for any other one, or if damaged.

    Of colours Pillow reads the upper 8 bits alone; their value is the largest that it may be.
    """
    try:
        head = _head(source)
        kind = encoded_images.kind(head)
        name = None if kind is None else kind.name
        is_deep_png = name == "PNG" and head[24:25] == b"\x10"
        if not is_deep_png and name not in ("TIFF", "DICOM"):
            return None
        data = source if isinstance(source, bytes) else source.read_bytes()
    except OSError:  # decoding names it, where it is refused or skipped
        return None
    limit = max_megapixels * 1_000_000
    for version in encoded_images.versions(data):
        with contextlib.suppress(Exception):
            image = encoded_images.open_image(version)
            if image is None or encoded_images.pixels_to_decode(image, image.size) > limit:
                continue
            grey = image.mode.startswith("I")
            if grey or is_deep_png or getattr(image, "has_16_bits_in_colour", False):
                with image:
                    largest = int(np.asarray(image).max())
                return Largest(largest if grey else largest * 256 + 255, not grey)
            return None
    return None


def _head(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[: encoded_images.HEAD]
    if not source.is_file():  # a pipe would be waited for
        return b""
    with source.open("rb") as file:
        return file.read(encoded_images.HEAD)
