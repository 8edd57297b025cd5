"""Parts of JPEGs, decoded and scaled by simplejpeg and OpenCV: the `jpeg` extra, where it is there.

Both have wheels for x86 and ARM. simplejpeg is libjpeg-turbo like Pillow's decoder, and gives the
same bits; no wheel offers libjpeg-turbo's decoding of a part alone, and that saved tf.data a tenth.
Scaling is a blur of as much as the scale asks for, then bilinear interpolation: of 224 x 224
pixels out of 500 x 375 it takes a quarter of the time of Pillow's antialiased bilinear, from which
it differs by 0.4 levels of 255 on average, and by more than two in one value of a hundred
(benchmarks/decode.py). Pillow decodes whatever else there is: turned photographs, CMYK, other
formats, and files that are not quite sound.
"""

import importlib
import importlib.metadata
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from cnn_jax.data import crops

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
    found = f"simplejpeg {importlib.metadata.version('simplejpeg')}, OpenCV {_cv2.__version__}"
    return f"{found}, else Pillow"


def is_plain(data: bytes) -> bool:
    """Returns whether a file is a JPEG without EXIF data, which may turn it."""
    return data[:3] == b"\xff\xd8\xff" and data.find(b"Exif\0\0", 0, 1 << 16) < 0


def decode_part(
    data: bytes,
    part_of: Callable[[int, int], tuple[int, int, int, int]],
    target: tuple[int, int],
    most_pixels: float,
    out: np.ndarray,
) -> bool:
    """Decodes a part of an upright JPEG into an array.

    Args:
        data: the JPEG.
        part_of: (width, height) -> (left, top, width, height) of the part, as `crops.RandomPart`.
        target: (width, height) of the result.
        most_pixels: larger ones are left to Pillow.
        out: uint8 [height, width, 3], receives the result.

    Returns:
        Whether it was done; if not, Pillow is to do it, or to say why it cannot be.
    """
    try:
        height, width, colours, _ = _simplejpeg.decode_jpeg_header(data)
        if colours in ("CMYK", "YCCK") or width * height > most_pixels:
            return False
        left, top, wide, tall = part_of(width, height)
        k = crops.reduction((wide, tall), target, _GAP)
        until = min(height, (top + tall + 2 * _MORE) // _MORE * _MORE)
        ended = _ended(data, height, until) if k == 1 and until < height else None
        if ended is not None:
            data, height = ended, until
        rows, columns = -(-height // k), -(-width // k)
        pixels = _simplejpeg.decode_jpeg(
            data,
            min_height=rows if k > 1 else 0,
            min_width=columns if k > 1 else 0,
            min_factor=k,
            buffer=_buffer("pixels", rows * columns * 3),
            strict=ended is None,
        )
    except ValueError:  # damaged, or of a kind that it does not read
        return False
    if pixels.shape[:2] != (rows, columns):
        return False
    bottom, right = -(-(top + tall) // k), -(-(left + wide) // k)
    scale(pixels[top // k : bottom, left // k : right], target, out)
    return True


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


def _ended(data: bytes, height: int, until: int) -> bytes | None:
    """Returns a JPEG that says of itself that it ends after some rows; None if it cannot.

    What follows is not decoded then. It can where the rows are in one piece (baseline, one scan),
    and its end is there: of one that was cut off, Pillow says so.
    """
    if data.find(b"\xff\xd9", -64) < 0:
        return None
    at, frame, components = 2, 0, 0
    while at + 10 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xC0:
            frame, components = at + 5, data[at + 9]
        elif marker == 0xDA:
            if not frame or data[at + 4] != components:
                return None
            changed = bytearray(data)
            if int.from_bytes(data[frame : frame + 2], "big") != height:
                return None
            changed[frame : frame + 2] = until.to_bytes(2, "big")
            return bytes(changed)
        at += 2 + length
    return None


def _buffer(name: str, size: int) -> np.ndarray:
    """Returns memory of this thread's for some bytes; fresh pages cost a third of the time."""
    found = getattr(_memory, name, None)
    if found is None or found.size < size:
        found = np.empty(size, np.uint8)
        setattr(_memory, name, found)
    return found
