"""An .npy file that is written part by part, and read through a memory map afterwards.

It is written with plain writes, whose error says that the disk is full. A write through a map ends
the process by SIGBUS there, without a word.
"""

import errno
import os
from pathlib import Path

import numpy as np

_BUFFER = 1 << 20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ArrayFile:
    """An array in a file, open for writing; use it in a `with`.

    Args:
        path: the file. One that is there is gone on with, and has this shape and dtype.
        shape: of the array.
        dtype: of the array.

    Raises:
        OSError: the file cannot be written, or the disk has no room for the whole array: that is
            found at once, where the file system can reserve space, and nothing is left behind.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: type[np.generic]):
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._row = int(np.prod(shape[1:], dtype=np.int64)) * self._dtype.itemsize
        new = not path.exists()
        self._file = path.open("w+b" if new else "r+b", _BUFFER)
        self._at = -1  # where the next byte goes
        try:
            if new:
                self._write_header(shape)
                self._start = self._file.tell()
                self._reserve()
            else:
                np.lib.format.read_magic(self._file)
                np.lib.format.read_array_header_1_0(self._file)
                self._start = self._file.tell()
        except BaseException:
            self._file.close()
            if new:
                path.unlink(missing_ok=True)
            raise

    def __enter__(self) -> "ArrayFile":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def write(self, first: int, rows: np.ndarray) -> None:
        """Writes some rows, [n, ...], to the places from `first` on."""
        place = self._start + first * self._row
        if place != self._at:  # to seek is to flush
            self._file.seek(place)
        self._at = place + self._file.write(np.ascontiguousarray(rows, self._dtype).data)

    def sync(self) -> None:
        """Returns when all that was written is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def shorten(self, rows: int) -> None:
        """Keeps the first rows alone."""
        self._file.seek(0)
        self._write_header((rows, *self._shape[1:]))
        if self._file.tell() != self._start:  # NumPy leaves room for any number of rows
            raise ValueError("the header has another length")
        self._file.truncate(self._start + rows * self._row)

    def close(self) -> None:
        """Closes the file.

        Raises:
            OSError: what was written last did not reach it.
        """
        self._file.close()

    def _write_header(self, shape: tuple[int, ...]) -> None:
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def _reserve(self) -> None:
        """Takes the space of the whole array on the disk, before hours of work go into it."""
        size = self._start + self._shape[0] * self._row
        self._file.flush()
        try:
            os.posix_fallocate(self._file.fileno(), 0, size)
        except AttributeError:  # macOS
            self._file.truncate(size)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise
            self._file.truncate(size)  # a file system that reserves nothing: a write will tell


def reason(error: Exception | None) -> str:
    """Returns why something could not be written, without the number of the error."""
    return getattr(error, "strerror", None) or str(error)
