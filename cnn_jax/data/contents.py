"""The bytes of an encoded image, and the error that names one that cannot be read."""

import os
import stat

from cnn_jax.errors import RunError

# A pipe would be waited for. Windows translates line ends unless it is told not to.
_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class ImageError(RunError):
    """An image that cannot be read.

    Attributes:
        path: its path, or another name for it.
        reason: why it cannot be read.
    """

    def __init__(self, path: str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def content(source: str | os.PathLike[str] | bytes, name: str) -> bytes:
    """Returns the bytes of an image; ImageError says why there are none."""
    data = source if isinstance(source, bytes) else _read(source, name)
    if not data:
        raise ImageError(name, "the file is empty")
    return data


def _read(path: str | os.PathLike[str], name: str) -> bytes:
    try:
        opened = os.open(path, _READING)
        try:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise ImageError(name, "not a regular file")
            with open(opened, "rb", 0, closefd=False) as file:
                return file.read()
        finally:
            os.close(opened)
    except OSError as error:
        raise ImageError(name, error.strerror or str(error)) from error
