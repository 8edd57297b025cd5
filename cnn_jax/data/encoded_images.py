"""Opens encoded images with Pillow, each by itself: no limit or warning of the process counts.

Pillow's own limits are of the whole process. Here a caller says how many pixels it decodes, and
texts, colour profiles and EXIF data that cannot be read spoil no image.
"""

import contextlib
import io
import struct
import threading
import warnings
from collections.abc import Iterator

from PIL import ExifTags, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

HEAD = 132  # bytes that tell a format
_PNG = b"\x89PNG\r\n\x1a\n"
# The chunks of a PNG that pixels and their orientation depend on, besides those in capitals.
_ANIMATION, _TRANSPARENCY, _EXIF = (b"acTL", b"fcTL", b"fdAT"), b"tRNS", b"eXIf"
_WARNING = threading.Lock()


def kind(head: bytes) -> type[ImageFile.ImageFile] | None:
    """Returns what opens an image that begins with some bytes, `HEAD` of them at least; or None."""
    if head[:8] == _PNG:
        return PngImagePlugin.PngImageFile
    if head[:3] == b"\xff\xd8\xff":
        return JpegImagePlugin.JpegImageFile
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    return None


def open_image(data: bytes) -> ImageFile.ImageFile | None:
    """Returns an image that is not decoded yet; None if it is no PNG, JPEG or WebP image.

    Raises:
        Exception: whatever Pillow raises for a damaged file.
    """
    opens = kind(data[:HEAD])
    if opens is None:
        return None
    try:
        with _silent():
            return opens(io.BytesIO(data))
    except SyntaxError:
        return None


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


@contextlib.contextmanager
def _silent() -> Iterator[list[warnings.WarningMessage]]:
    """Yields what Pillow warns of, which is what it passes over.

    One thread at a time, because the filters of warnings are those of the whole process.
    """
    with _WARNING, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield warned


def pixels_to_decode(image: ImageFile.ImageFile, whole: tuple[int, int]) -> int:
    """Returns for how many pixels memory is needed.

    Args:
        image: the image, of a JPEG as `draft` has left it.
        whole: its width and height as stored.
    """
    # A progressive JPEG is kept whole, as coefficients, at whatever size it is decoded.
    width, height = whole if "progressive" in image.info else image.size
    return width * height


def orientation(image: ImageFile.ImageFile) -> tuple[int | None, bool]:
    """Returns the EXIF orientation of an image, if there is one, and whether its EXIF is sound.

    The pixels of a PNG are loaded before: its EXIF may stand behind them.
    """
    try:
        with _silent() as warned:
            return image.getexif().get(ExifTags.Base.Orientation), not warned
    except Exception:  # nonsense makes Pillow raise nearly anything
        return None, False
