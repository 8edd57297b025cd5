"""Opens encoded images with Pillow, each by itself: no limit or warning of the process counts.

Pillow's own limits are of the whole process. Here a caller says how many pixels it decodes, and
texts, colour profiles and EXIF data that cannot be read spoil no image.
"""

import contextlib
import io
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from cnn_jax.data import dicom, silence, tiff
from cnn_jax.data.refused import RefusedError

HEAD = dicom.PREAMBLE + len(dicom.MARK)  # bytes that tell a format
_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# The chunks of a PNG that pixels and their orientation depend on, besides those in capitals.
_ANIMATION, _TRANSPARENCY, _EXIF = (b"acTL", b"fcTL", b"fdAT"), b"tRNS", b"eXIf"


class Kind(NamedTuple):
    """A format: its name, and what opens an image of it."""

    name: str
    opens: Callable[[io.BytesIO], ImageFile.ImageFile]


def kind(head: bytes) -> Kind | None:
    """Returns the format of a file that begins with some bytes, `HEAD` of them; None: no image."""
    if head[:8] == _PNG:
        return Kind("PNG", PngImagePlugin.PngImageFile)
    if head[:3] == b"\xff\xd8\xff":
        return Kind("JPEG", JpegImagePlugin.JpegImageFile)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Kind("WebP", WebPImagePlugin.WebPImageFile)
    if head[:4] in _TIFF and head[8:10] != b"CR":  # so a Canon's raw image begins
        return Kind("TIFF", tiff.TiffImage)
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return Kind("GIF", GifImagePlugin.GifImageFile)
    if head[:2] == b"BM":
        return Kind("BMP", BmpImagePlugin.BmpImageFile)
    if head[dicom.PREAMBLE : HEAD] == dicom.MARK:
        return Kind("DICOM", dicom.DicomImage)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        return Kind("HEIC", _open_heic)
    return None


def _open_heic(file: io.BytesIO) -> ImageFile.ImageFile:
    try:
        import pillow_heif
    except ImportError as error:
        raise RefusedError(
            "a HEIC image, and reading it needs pillow-heif: install the `heic` extra "
            "(pip install 'cnn-jax[heic]'), or convert it to JPEG: heif-convert FILE FILE.jpg"
        ) from error
    return pillow_heif.HeifImageFile(file)


def open_image(data: bytes) -> ImageFile.ImageFile | None:
    """Returns an image that is not decoded yet; None if it is of no format that is read.

    Raises:
        RefusedError: it is of a kind that is not read, or a package is missing.
        Exception: whatever Pillow raises for a damaged file.
    """
    found = kind(data[:HEAD])
    if found is None:
        return None
    try:
        with silence.silent() if found.name != "DICOM" else contextlib.nullcontext():
            return found.opens(io.BytesIO(data))
    except SyntaxError as error:  # with which Pillow says that it is no image of the format
        raise ValueError(f"it is no sound {found.name} image") from error


def versions(data: bytes) -> Iterator[bytes]:
    """Yields an image; if it is a PNG, then what is left of it without texts, and without EXIF.

    Pillow refuses a PNG for what is no pixel, such as a colour profile of more than 1 MiB.
    """
    yield data
    if data[:8] == _PNG:
        yield _chunks(data, (_TRANSPARENCY, _EXIF, *_ANIMATION))
        yield _chunks(data, (_TRANSPARENCY,))


def _chunks(data: bytes, kept: tuple[bytes, ...]) -> bytes:
    """Returns a PNG with those of its chunks that every reader must know, and some others."""
    parts, at = [data[:8]], 8
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        name, end = data[at + 4 : at + 8], at + 12 + length
        if name[:1].isupper() or name in kept:
            parts.append(data[at:end])
        at = end
    return b"".join(parts)


def pixels_to_decode(image: ImageFile.ImageFile, whole: tuple[int, int]) -> int:
    """Returns for how many pixels memory is needed.

    Args:
        image: the image, of a JPEG as `draft` has left it.
        whole: its width and height as stored.
    """
    # A progressive JPEG is kept whole, as coefficients, at whatever size it is decoded.
    width, height = whole if "progressive" in image.info else image.size
    tile = image.tile_pixels if isinstance(image, tiff.TiffImage) else 0
    return max(width * height, tile)


def orientation(image: ImageFile.ImageFile) -> tuple[int | None, bool]:
    """Returns the EXIF orientation of an image, if there is one, and whether its EXIF is sound.

    The pixels of a PNG are loaded before: its EXIF may stand behind them. TIFF and HEIC images are
    upright when they are loaded, and have no orientation then.
    """
    if image.format not in ("PNG", "JPEG", "WEBP"):
        return None, True
    try:
        with silence.silent() as warned:
            return image.getexif().get(ExifTags.Base.Orientation), not warned
    except Exception:  # nonsense makes Pillow raise nearly anything
        return None, False
