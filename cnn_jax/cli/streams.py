"""Standard output and standard error, on which nothing that is printed can do harm.

Names of classes and files may hold control characters, a terminal may know ASCII only, and the
program that reads may end. None of these may end a training.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from cnn_jax import text


class Stream:
    r"""A text stream that shows control characters as \x1b and goes silent when a write fails.

    Everything else is the stream's own.

    Attributes:
        failed: the first error of a write; None while all have succeeded.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failed: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, words: str) -> int:
        """Writes text; returns its length, also where nobody reads it."""
        # A bar goes back to the start of its line; in a name that character is shown.
        start = "\r" if words.startswith("\r") else ""
        bare = words[len(start) :]
        end = "\r" if start and bare.endswith("\r") else ""
        shown = start + text.printable(bare.removesuffix(end) if end else bare) + end
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._try("write", shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(words)

    def silence(self) -> None:
        """Shows nothing from now on."""
        self.flush()
        self._stream = None

    def flush(self) -> None:
        """Flushes the stream if it still takes text."""
        self._try("flush")

    def isatty(self) -> bool:
        """Returns whether this is a terminal that still takes text."""
        return self._stream is not None and self.failed is None and self._stream.isatty()

    def _try(self, method: str, *words: str) -> None:
        if self._stream is None or self.failed is not None:
            return
        try:
            getattr(self._stream, method)(*words)
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self.failed = error
            # What is still in the buffer would fail once more when the process ends.
            with contextlib.suppress(OSError, ValueError):
                descriptor = self._stream.fileno()
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


@contextlib.contextmanager
def safe() -> Iterator[Stream]:
    """Within, `sys.stdout` and `sys.stderr` are safe; yields the first."""
    before = sys.stdout, sys.stderr
    out = Stream(sys.stdout)
    sys.stdout, sys.stderr = out, Stream(sys.stderr)
    try:
        yield out
        out.flush()
    finally:
        sys.stdout, sys.stderr = before


def open_closed() -> None:
    """Opens the null device where a standard stream is closed.

    Otherwise the next file that is opened would get its number, and libraries that write messages
    to standard error would write them into that file.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
