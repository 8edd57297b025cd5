"""Paths that a user names: what can be none on this machine is refused in one line."""

import errno
import os
import pathlib
import re

from cnn_jax.errors import UsageError

# What a name on the Hugging Face hub begins with, where weights can come from.
HUB = "hf://"
# "gs://bucket/run", also as pathlib shortens it; a drive has one letter.
_ADDRESS = re.compile("[A-Za-z][A-Za-z0-9+.-]+:/")


def place(path: str | os.PathLike[str], name: str) -> pathlib.Path:
    """Returns the path of a file or folder that the user named, with the home directory for "~".

    Args:
        path: the path, which need not exist.
        name: what named it, for the message: a flag with its dashes, or a variable.

    Raises:
        UsageError: it is an address such as gs://bucket, or can be no path on this machine.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"{name.lstrip('-')} is a path, not {path!r}")
    given = f"{name}={os.fspath(path)}"
    if _ADDRESS.match(os.fspath(path)):
        raise UsageError(
            f"{given}: only folders and files of this machine can be used; mount or copy it, and "
            "give that path"
        )
    try:
        found = pathlib.Path(path)
        if os.fspath(path).startswith("~"):  # "./~a" is a folder called ~a
            found = found.expanduser()
    except RuntimeError:
        raise UsageError(f"{given}: nobody knows that home directory; write the path out") from None
    try:
        found.stat()
    except ValueError as error:  # a null character
        raise UsageError(f"{given}: {error}") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise UsageError(f"{given}: {error.strerror}") from None
    return found
