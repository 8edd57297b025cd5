"""One image file to one array: the only place where images are decoded."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cnn_jax.errors import RunError

_FORMATS = ("PNG", "JPEG", "WEBP")

# Pillow itself advises this: above its limit of pixels it only warns, above twice that it refuses.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


class ImageError(RunError):
    """An image that cannot be read.

    Attributes:
        path: which one.
        reason: why.
    """

    def __init__(self, path: str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def read_image(
    source: str | os.PathLike[str] | bytes,
    size: int | None = None,
    channels: int = 3,
    *,
    name: str | None = None,
) -> np.ndarray:
    """Decodes a PNG, JPEG or WebP image, whatever its name ends in.

    A photograph is turned upright as its EXIF orientation says; transparency is laid over white;
    16-bit values are scaled to 8 bits; palettes, CMYK and grey are converted; of an animation the
    first frame is taken.

    Args:
        source: a path, or the encoded image.
        size: height and width to resize to, not keeping the aspect; None keeps the image's own.
            Bilinear with antialiasing (Pillow's), as `tf.image.resize` and `jax.image.resize` with
            `antialias=True` to within one level of rounding.
        channels: 3 for RGB, 1 for grey (ITU-R 601 luma).
        name: what errors call the image; by default its path.

    Returns:
        uint8 [height, width, channels].

    Raises:
        ImageError: there is no such file, or it is empty, truncated, damaged, not an image of the
            three formats, or larger than `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    if name is None:
        name = "image" if isinstance(source, bytes) else os.fspath(source)
    if not isinstance(source, bytes):
        try:
            path = Path(source)
            if path.exists() and not path.is_file():  # a pipe would be waited for without end
                raise ImageError(name, "not a regular file")
            source = path.read_bytes()
        except OSError as error:
            raise ImageError(name, error.strerror or str(error)) from error
    if not source:
        raise ImageError(name, "the file is empty")
    try:
        with Image.open(io.BytesIO(source), formats=_FORMATS) as image:
            image.load()
            return _to_array(image, size, channels)
    except UnidentifiedImageError as error:
        raise ImageError(name, "not a PNG, JPEG or WebP image") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"more than {Image.MAX_IMAGE_PIXELS:,} pixels"
        raise ImageError(name, f"{limit}: too large, possibly a decompression bomb") from error
    except Exception as error:  # damaged files make Pillow raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(name, f"cannot be decoded: {reason}") from error


def _to_array(image: Image.Image, size: int | None, channels: int) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # Pillow's own conversion would clip 16 bits, not scale them
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        image = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert({1: "L", 3: "RGB"}[channels])
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.array(image).reshape(image.height, image.width, channels)
