"""libjpeg-turbo's decoding of a part of a JPEG alone, in ctypes: TurboJPEG's interface, 3 or later.

No well-kept wheel offers it, so it is used where the library is: of the system (Fedora has it,
Debian 12 and Ubuntu 24.04 have version 2, which does not decode parts) or of conda. The pixels are
those of a whole decode, to the bit.
https://libjpeg-turbo.org/Documentation/Documentation describes the interface.
"""

import contextlib
import ctypes
import functools
import os
import sys
import threading
from ctypes import c_char_p, c_int, c_size_t, c_void_p
from typing import Any

import numpy as np

_NAME = "libturbojpeg.so.0"
_DECOMPRESS = 1  # TJINIT_DECOMPRESS
_STOP_ON_WARNING = 0  # TJPARAM_STOPONWARNING
_ERROR = 1  # TJERR_FATAL; a warning is 0
_RGB = 0  # TJPF_RGB
_memory = threading.local()


class _Scale(ctypes.Structure):
    _fields_ = (("numerator", c_int), ("denominator", c_int))


class _Region(ctypes.Structure):
    _fields_ = (("left", c_int), ("top", c_int), ("width", c_int), ("height", c_int))


@functools.cache
def library() -> Any:
    """Returns the library, or None where there is none that decodes parts."""
    for path in (_NAME, os.path.join(sys.prefix, "lib", _NAME)):  # conda's is in the latter
        with contextlib.suppress(OSError, AttributeError):
            found = ctypes.CDLL(path)
            found.tj3Init.argtypes, found.tj3Init.restype = [c_int], c_void_p
            found.tj3Destroy.argtypes, found.tj3Destroy.restype = [c_void_p], None
            found.tj3Set.argtypes = [c_void_p, c_int, c_int]
            found.tj3GetErrorCode.argtypes = [c_void_p]
            found.tj3SetScalingFactor.argtypes = [c_void_p, _Scale]
            found.tj3SetCroppingRegion.argtypes = [c_void_p, _Region]
            found.tj3DecompressHeader.argtypes = [c_void_p, c_char_p, c_size_t]
            to = [c_void_p, c_char_p, c_size_t, c_void_p, c_int, c_int]
            found.tj3Decompress8.argtypes = to
            return found
    return None


class _Decoder:
    """A decoder of one thread's, which ends with it."""

    def __init__(self, found: Any):
        self.library, self.handle = found, found.tj3Init(_DECOMPRESS)
        if not self.handle:
            raise MemoryError("libjpeg-turbo makes no decoder")

    def __del__(self) -> None:
        if self.handle:
            self.library.tj3Destroy(self.handle)


def decode(
    data: bytes, region: tuple[int, int, int, int], k: int, strict: bool, out: np.ndarray
) -> bool:
    """Decodes a part of a JPEG to RGB.

    Args:
        data: a JPEG in colour or grey.
        region: (left, top, width, height) in pixels of the image reduced by k; left is a multiple
            of the width that its blocks have there.
        k: 1, 2, 4 or 8: by how much it is reduced.
        strict: whether what libjpeg-turbo warns of is a failure too.
        out: uint8, contiguous, of at least width * height * 3; receives the pixels.

    Returns:
        Whether it was done.

    Raises:
        ValueError: `out` is too small.
    """
    if out.nbytes < region[2] * region[3] * 3:
        raise ValueError(f"{out.nbytes} bytes do not hold {region[2]} x {region[3]} pixels")
    decoder = getattr(_memory, "decoder", None)
    if decoder is None:
        decoder = _memory.decoder = _Decoder(library())
    tj, handle = decoder.library, decoder.handle
    tj.tj3Set(handle, _STOP_ON_WARNING, strict)
    if (
        tj.tj3DecompressHeader(handle, data, len(data))
        or tj.tj3SetScalingFactor(handle, _Scale(1, k))
        or tj.tj3SetCroppingRegion(handle, _Region(*region))
    ):
        return False
    failed = tj.tj3Decompress8(handle, data, len(data), out.ctypes.data, 0, _RGB)
    return not failed or (not strict and tj.tj3GetErrorCode(handle) != _ERROR)
