"""Silence for libraries that warn of what they pass over in files."""

import contextlib
import ctypes
import functools
import logging
import pathlib
import threading
import warnings
from collections.abc import Iterator

import PIL

_WARNING = threading.Lock()


@contextlib.contextmanager
def silent() -> Iterator[list[warnings.WarningMessage]]:
    """Yields what is warned of inside, which is shown nowhere.

    One thread at a time, because the filters of warnings are those of the whole process.
    """
    with _WARNING, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield warned


@functools.cache
def tiff() -> None:
    """Keeps Pillow's log, and libtiff in C, from saying a second time what is wrong with a file.

    Pillow raises it too, so nothing is lost. libtiff is found in Pillow's wheels for Linux;
    elsewhere its lines stand beside ours.
    """
    logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)
    beside = pathlib.Path(PIL.__file__).parents[1] / "pillow.libs"
    for path in beside.glob("libtiff-*"):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(str(path))  # the one that Pillow has loaded
            library.TIFFSetErrorHandler.argtypes = [ctypes.c_void_p]
            library.TIFFSetErrorHandler.restype = ctypes.c_void_p
            library.TIFFSetErrorHandler(None)
