"""Silence for libraries that warn of what they pass over in files."""

import contextlib
import threading
import warnings
from collections.abc import Iterator

_WARNING = threading.Lock()


@contextlib.contextmanager
def silent() -> Iterator[list[warnings.WarningMessage]]:
    """Yields what is warned of inside, which is shown nowhere.

    One thread at a time, because the filters of warnings are those of the whole process.
    """
    with _WARNING, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield warned
