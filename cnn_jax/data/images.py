"""Decodes one image file to one array; no other place decodes images."""

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
from PIL import Image, ImageFile, features

from cnn_jax.data import crops, encoded_images, fitting, foreign
from cnn_jax.data.contents import ImageError, content
from cnn_jax.data.refused import RefusedError
from cnn_jax.data.splits import DataInfo

# The arrays depend on it beside the encoded images; benchmarks/decode.py compares it with others.
_LIBJPEG = features.version("libjpeg_turbo") or features.version("jpg")
DECODER = f"Pillow {PIL.__version__}, libjpeg {_LIBJPEG}"

# A JPEG is decoded at 1/2, 1/4 or 1/8 of its size only if this many times the target remain.
_REDUCING_GAP = 2

# EXIF orientation: the operation that turns the stored image upright. 5 to 8 exchange height and
# width.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Formats that tell the orientation, or apply it, when their pixels are loaded.
_LOADED_FIRST = ("PNG", "TIFF")

MAX_MEGAPIXELS = 100

PartOf = Callable[[int, int], tuple[int, int, int, int]]


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How encoded images become arrays: all that a data set says of it, the same for each.

    Attributes:
        size: (height, width) in pixels, or one number for both; None: as stored.
        channels: 3 for RGB, 1 for grey (ITU-R 601 luma).
        bit_depth: how many bits the values of a 16-bit grey image use: 2**bit_depth - 1 is white.
        max_megapixels: how many million pixels may be decoded; of a JPEG that is decoded at less
            than its size, that size counts.
        resize: a `fitting.Resize`: what is done with another aspect than that of `size`.
        crop_share: the share of the short side that its `crop` keeps.
        interpolation: the filter of Pillow's by which it is resized; see `fitting.resize`.
    """

    size: int | tuple[int, int] | None = None
    channels: int = 3
    bit_depth: int = 16
    max_megapixels: int = MAX_MEGAPIXELS
    resize: str = "squash"
    crop_share: float = 1.0
    interpolation: str = "bilinear"

    def key(self) -> dict[str, Any]:
        """Returns what the arrays depend on, ready for JSON; defaults that came later are out."""
        values = dataclasses.asdict(self)
        later = {field.name: field.default for field in dataclasses.fields(self)[2:]}
        return {name: v for name, v in values.items() if name not in later or v != later[name]}


def like(info: DataInfo, max_megapixels: int = MAX_MEGAPIXELS) -> Decoding:
    """Returns how other images are decoded as those of a data set were."""
    height, width, channels = info.image_shape
    size = height, width
    depth, how, share = info.bit_depth, info.resize, info.crop_share
    return Decoding(size, channels, depth, max_megapixels, how, share, info.interpolation)


class Decoded(NamedTuple):
    """An image as an array, and whether all that goes with its pixels could be read too."""

    pixels: np.ndarray
    sound: bool


def read_image(
    source: str | os.PathLike[str] | bytes,
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    *,
    bit_depth: int = 16,
    max_megapixels: int = MAX_MEGAPIXELS,
    resize: str = "squash",
    name: str | None = None,
) -> np.ndarray:
    """Decodes a PNG, JPEG, WebP, BMP, GIF, TIFF, DICOM or HEIC image, whatever its name says.

    A photograph is turned upright as its EXIF orientation says; transparency is laid over white;
    16-bit grey values are scaled to 8 bits, of 16-bit colours the upper 8 bits are taken; palettes,
    CMYK and grey are converted; of several frames or pages the first is taken. Texts, colour
    profiles and EXIF data that cannot be read are passed over. DICOM: see `dicom`.

    A JPEG at least four times as high and as wide as the target is decoded at 1/2, 1/4 or 1/8 of
    its size, the smallest of these that is at least twice the target: libjpeg's scaled inverse DCT
    replaces a mean over 2 x 2, 4 x 4 or 8 x 8 pixels, much as Pillow's `reducing_gap=2`. Measured
    on those of 3,000 photographs of cats and dogs that are decoded so, at 32, 64 and 96 pixels: the
    difference from the full decode, resized, is 0.3 of 255 levels on average (rounding to whole
    levels alone gives 0.25) and 1.5 in the worst image; one value in a thousand differs by more
    than 4, the worst by 26.

    The resize is bilinear with antialiasing (Pillow's), within one level of rounding the same as
    `tf.image.resize` and `jax.image.resize` with `antialias=True`, except for large JPEGs, see
    above.

    Args:
        source: a path, or the encoded image.
        size: as of `Decoding`, like the others up to `resize`.
        channels: likewise.
        bit_depth: likewise.
        max_megapixels: likewise.
        resize: likewise; by default the aspect is not kept.
        name: what errors call the image; by default its path.

    Returns:
        uint8 [height, width, channels].

    Raises:
        ImageError: there is no such file, or it is empty, truncated, damaged, not an image of
            these formats, or has more than `max_megapixels`; or its 16-bit values need more than
            `bit_depth` bits.
    """
    how = Decoding(size, channels, bit_depth, max_megapixels, resize)
    return decode(source, how, name).pixels


def decode(
    source: str | os.PathLike[str] | bytes,
    how: Decoding,
    name: str | None = None,
    part_of: PartOf | None = None,
) -> Decoded:
    """Decodes an image, or a part of it, and tells whether it was sound; see `read_image`.

    Args:
        source: as of `read_image`.
        how: how.
        name: as of `read_image`.
        part_of: (width, height) of the upright image -> (left, top, width, height) of the part
            that is scaled to the size in place of the whole; None: the whole.
    """
    if name is None:
        name = "image" if isinstance(source, bytes) else os.fspath(source)
    source = content(source, name)
    failure: Exception | None = None
    for number, version in enumerate(encoded_images.versions(source)):
        try:
            image = encoded_images.open_image(version)
            if image is not None:
                with image:
                    found = _to_array(image, how, name, part_of)
                    return found._replace(sound=found.sound and not number)
        except ImageError:
            raise
        except RefusedError as error:
            raise ImageError(name, str(error)) from error
        except Exception as error:  # damaged files make Pillow raise nearly anything
            failure = error
    if failure is None:
        raise ImageError(name, foreign.kind(source))
    reason = " ".join(str(failure).split()) or type(failure).__name__
    raise ImageError(name, f"cannot be decoded: {reason}") from failure


def is_stored_grey(source: Path | bytes) -> bool:
    """Returns whether a file says that it has one channel, so that no pixel need be looked at.

    Raises:
        ImageError: it cannot be read.
    """
    data = content(source, "image")
    try:
        image = encoded_images.open_image(data)
        return image is not None and image.mode in ("1", "L", "LA", "I", "I;16", "I;16B")
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise ImageError("image", str(error)) from error


def _check_pixels(
    image: ImageFile.ImageFile, whole: tuple[int, int], max_megapixels: int, name: str
) -> None:
    """Raises ImageError where more pixels would be decoded than are allowed."""
    count = encoded_images.pixels_to_decode(image, whole)
    if count > max_megapixels * 1_000_000:
        raise ImageError(
            name,
            f"{whole[0]:,} x {whole[1]:,} pixels, of which {count / 1e6:,.0f} million would be "
            f"decoded: a decompression bomb, or more than --dataset.max_megapixels="
            f"{max_megapixels} allows",
        )


def _to_array(
    image: ImageFile.ImageFile, how: Decoding, name: str, part_of: PartOf | None
) -> Decoded:
    whole = image.size
    if image.format in _LOADED_FIRST:
        _check_pixels(image, whole, how.max_megapixels, name)
        image.load()
    orientation, sound = encoded_images.orientation(image)
    upright = target = box = None  # width and height, turned upright and as stored
    part = None  # left, top, width and height, turned upright
    if part_of is not None:
        part = part_of(*(whole[::-1] if orientation in (5, 6, 7, 8) else whole))
    if how.size is not None:
        height, width = (how.size, how.size) if isinstance(how.size, int) else how.size
        upright = width, height
        target = (height, width) if orientation in (5, 6, 7, 8) else upright
        if image.format == "JPEG" and part is not None:
            k = crops.reduction(part[2:], upright, _REDUCING_GAP)
            image.draft(None, (-(-whole[0] // k), -(-whole[1] // k)))
        elif image.format == "JPEG":
            share = how.crop_share if how.resize == "crop" else 1
            wide, tall = (math.ceil(_REDUCING_GAP * side / share) for side in target)
            draft = image.draft(None, (wide, tall))
            # If the scale does not divide the size, it ends inside the last row or column.
            box = draft and draft[1]
    _check_pixels(image, whole, how.max_megapixels, name)
    image.load()
    found = _plain(image, how, name)
    if part is not None and upright is not None:
        k = round(whole[0] / image.width)
        found = found.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else found
        found = _cut(found, part, k).resize(upright, Image.Resampling.BILINEAR)
        return Decoded(np.array(found).reshape(found.height, found.width, how.channels), sound)
    if target is not None:
        found = fitting.resize(found, target, how.resize, box, how.crop_share, how.interpolation)
    if orientation in _UPRIGHT:
        found = found.transpose(_UPRIGHT[orientation])
    if upright is not None:
        found = fitting.pad(found, upright, how.resize)
    return Decoded(np.array(found).reshape(found.height, found.width, how.channels), sound)


def _cut(image: Image.Image, part: tuple[int, int, int, int], k: int) -> Image.Image:
    """Returns a part of an image that was reduced by k, the part being of the whole size."""
    left, top, width, height = part
    return image.crop((left // k, top // k, -(-(left + width) // k), -(-(top + height) // k)))


def _plain(image: Image.Image, how: Decoding, name: str) -> Image.Image:
    """Returns a loaded image in grey or RGB, of 8 bits and without transparency."""
    if image.mode.startswith("I"):  # Pillow's own conversion would clip 16 bits, not scale them
        values, white = np.clip(np.asarray(image).astype(np.int64), 0, 65535), 2**how.bit_depth - 1
        if (largest := values.max()) > white:
            raise ImageError(
                name,
                f"its values reach {largest}, more than {how.bit_depth} bits hold; see "
                "--dataset.bit_depth",
            )
        values = white - values if image.info.get("min_is_white") else values
        image = Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    mode = {1: "L", 3: "RGB"}[how.channels]
    return image if image.mode == mode else image.convert(mode)  # convert() copies for nothing
