"""Parts of JPEGs, decoded and scaled by libjpeg-turbo and OpenCV: the `jpeg` extra, if it is there.

simplejpeg is libjpeg-turbo like Pillow's decoder, gives the same bits and decodes whole images;
`libturbojpeg` decodes the part alone where there is such a library. simplejpeg and OpenCV have
wheels for x86 and ARM.
Scaling is a blur of as much as the scale asks for, then bilinear interpolation: of 224 x 224
pixels out of 500 x 375 it takes a quarter of the time of Pillow's antialiased bilinear, from which
it differs by 0.4 levels of 255 on average, and by more than two in one value of a hundred
(benchmarks/random_crops.py). Pillow decodes whatever else there is: turned photographs, CMYK, other
formats, and files that are not quite sound.
"""

import importlib
import importlib.metadata
import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from cnn_jax.data import crops, libturbojpeg

_GAP = 2  # as in `images`: a reduced JPEG still has twice the target's pixels
_THREE_TAPS = 2.2  # the largest scale whose blur is one of three pixels
_MORE = 16  # rows that belong together in a JPEG of the usual kind
_memory = threading.local()


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_simplejpeg, _cv2 = _optional("simplejpeg"), _optional("cv2")
if _cv2 is not None:
    _cv2.setNumThreads(1)  # the processes and threads that decode have a core each

AVAILABLE = _simplejpeg is not None and _cv2 is not None


def decoder() -> str:
    """Returns what decodes parts of JPEGs, with its version."""
    if not AVAILABLE:
        return "Pillow (faster with the jpeg extra: pip install 'cnn-jax[jpeg]')"
    jpeg = f"simplejpeg {importlib.metadata.version('simplejpeg')}"
    if libturbojpeg.library() is not None:
        jpeg = "libturbojpeg"
    return f"{jpeg}, OpenCV {_cv2.__version__}, else Pillow"


class Frame(NamedTuple):
    """What the header of a JPEG says.

    Attributes:
        width: in pixels.
        height: in pixels.
        components: 1 for grey, 3 for colour.
        block: the width in pixels of the blocks that are decoded at a time.
        height_at: where in the file the height is; None where its rows are not in one piece.
        exif: whether there is EXIF data, which may turn it.
    """

    width: int
    height: int
    components: int
    block: int
    height_at: int | None
    exif: bool


def frame(data: bytes) -> Frame | None:
    """Returns what the header of a JPEG says; None if it is not one of the usual kind."""
    at, exif, found = 2, False, None
    if data[:2] != b"\xff\xd8":
        return None
    while at + 10 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xE1:
            exif = exif or data[at + 4 : at + 10] == b"Exif\0\0"
        elif marker in (0xC0, 0xC1, 0xC2) and data[at + 4] == 8 and found is None:
            height, width = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (5, 7))
            components = data[at + 9]
            sampling = data[at + 11 : at + 10 + 3 * components : 3]
            if components not in (1, 3) or len(sampling) != components or not width * height:
                return None
            block = 8 * max(each >> 4 for each in sampling)
            found = marker, at + 5, (width, height, components, block)
        elif marker == 0xDA:
            if found is None:
                return None
            one_piece = found[0] == 0xC0 and data[at + 4] == found[2][2]
            return Frame(*found[2], found[1] if one_piece else None, exif)
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return None
        at += 2 + length
    return None


def decode_part(
    data: bytes,
    about: Frame,
    part_of: Callable[[int, int], tuple[int, int, int, int]],
    target: tuple[int, int],
    most_pixels: float,
    out: np.ndarray,
) -> bool:
    """Decodes a part of an upright JPEG into an array.

    Args:
        data: the JPEG.
        about: what `frame` says of it.
        part_of: (width, height) -> (left, top, width, height) of the part, as `crops.RandomPart`.
        target: (width, height) of the result.
        most_pixels: larger ones are left to Pillow.
        out: uint8 [height, width, 3], receives the result.

    Returns:
        Whether it was done; if not, Pillow is to do it, or to say why it cannot be.
    """
    if about.width * about.height > most_pixels:
        return False
    pixels = decoded(data, about, part_of(about.width, about.height), target)
    if pixels is None:
        return False
    scale(pixels, target, out)
    return True


def decoded(
    data: bytes, about: Frame, part: tuple[int, int, int, int], target: tuple[int, int]
) -> np.ndarray | None:
    """Returns a part as it is before it is scaled, or None; it holds until this thread's next one.

    Args:
        data: the JPEG.
        about: what `frame` says of it.
        part: (left, top, width, height), in pixels as stored.
        target: (width, height) that it is for: what is much larger is reduced while it is decoded.
    """
    (left, top, wide, tall), width, height = part, about.width, about.height
    k = crops.reduction((wide, tall), target, _GAP)
    until = min(height, (top + tall + 2 * _MORE) // _MORE * _MORE)
    ended = _ended(data, about, until) if until < height else None
    if ended is not None:
        data, height = ended, until
    box = left // k, top // k, -(-(left + wide) // k), -(-(top + tall) // k)
    sides = -(-width // k), -(-height // k)
    if libturbojpeg.library() is None:
        return _whole(data, box, sides, k, ended is None)
    return _region(data, box, sides[0], max(1, about.block // k), k, ended is None)


def _whole(
    data: bytes,
    box: tuple[int, int, int, int],
    sides: tuple[int, int],
    k: int,
    strict: bool,
) -> np.ndarray | None:
    """Returns (left, top, right, bottom) of an image that is decoded whole; None: it cannot be."""
    width, height = sides
    try:
        pixels = _simplejpeg.decode_jpeg(
            data,
            min_height=height if k > 1 else 0,
            min_width=width if k > 1 else 0,
            min_factor=k,
            buffer=_buffer("pixels", width * height * 3),
            strict=strict,
        )
    except ValueError:  # damaged, or of a kind that it does not read
        return None
    left, top, right, bottom = box
    return pixels[top:bottom, left:right] if pixels.shape[:2] == (height, width) else None


def _region(
    data: bytes, box: tuple[int, int, int, int], width: int, block: int, k: int, strict: bool
) -> np.ndarray | None:
    """Returns what `_whole` does, to the bit; little more than the part is decoded.

    Colours are interpolated between columns, so those beside the part are needed.
    """
    left, top, right, bottom = box
    begin, end = max(0, (left // block - 1) * block), min(width, right + block)
    wide, tall = end - begin, bottom - top
    memory = _buffer("pixels", wide * tall * 3)
    if not libturbojpeg.decode(data, (begin, top, wide, tall), k, strict, memory):
        return None
    pixels = memory[: wide * tall * 3].reshape(tall, wide, 3)
    return pixels[:, left - begin : right - begin]


def scale(pixels: np.ndarray, target: tuple[int, int], out: np.ndarray) -> None:
    """Scales an image bilinearly; where it shrinks, after a blur that keeps it from aliasing.

    Bilinear interpolation has the variance of a triangle of half width 1, which is 1/6; one that
    shrinks by s must have that of half width s, s * s / 6. The blur adds the difference.

    Args:
        pixels: uint8 [h, w, 3].
        target: (width, height).
        out: uint8 [height, width, 3], receives the result.
    """
    across, down = pixels.shape[1] / target[0], pixels.shape[0] / target[1]
    if across > 1 or down > 1:
        x, y = _sigma(across), _sigma(down)
        taps = 3 if max(across, down) <= _THREE_TAPS else 2 * math.ceil(2.5 * max(x, y)) + 1
        edge = _cv2.BORDER_REPLICATE
        memory = _buffer("blurred", pixels.size)[: pixels.size].reshape(pixels.shape)
        pixels = _cv2.GaussianBlur(pixels, (taps, taps), x, dst=memory, sigmaY=y, borderType=edge)
    _cv2.resize(pixels, target, dst=out, interpolation=_cv2.INTER_LINEAR)


def _sigma(factor: float) -> float:
    """Returns the standard deviation, for OpenCV, of the blur before shrinking by a factor."""
    variance = max(1e-9, (factor * factor - 1) / 6)
    if factor > _THREE_TAPS:
        return math.sqrt(variance)
    # Each outer one of three pixels has half of the variance as its weight, which is
    # exp(-1 / (2 sigma**2)) times that of the inner one.
    outer = variance / 2
    return math.sqrt(-0.5 / math.log(outer / (1 - 2 * outer)))


def _ended(data: bytes, about: Frame, until: int) -> bytes | None:
    """Returns a JPEG that says of itself that it ends after some rows; None if it cannot.

    What follows is not decoded then. It can where the rows are in one piece (baseline, one scan),
    and its end is there: of one that was cut off, Pillow says so.
    """
    if about.height_at is None or data.find(b"\xff\xd9", -64) < 0:
        return None
    changed = bytearray(data)
    changed[about.height_at : about.height_at + 2] = until.to_bytes(2, "big")
    return bytes(changed)


def _buffer(name: str, size: int) -> np.ndarray:
    """Returns memory of this thread's for some bytes; fresh pages cost a third of the time."""
    found = getattr(_memory, name, None)
    if found is None or found.size < size:
        found = np.empty(size, np.uint8)
        setattr(_memory, name, found)
    return found
