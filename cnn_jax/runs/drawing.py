"""Draws figures on a thread of its own, beside the training."""

import collections
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

_MOST = 8  # drawings that wait: a run that is asked to stop ends when they are done


class Drawing:
    """Draws one figure after the other on a thread.

    An error of a drawing is raised by a later call. As a context manager it ends the thread, and
    what waits is not drawn: call `wait` before.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "figures")
        self._waiting: collections.deque[Future[None]] = collections.deque()

    def __enter__(self) -> "Drawing":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def draw(self, function: Callable[..., None], *arguments: Any) -> None:
        """Has something drawn after all before; returns at once unless many wait."""
        self._finish(_MOST - 1)
        self._waiting.append(self._thread.submit(function, *arguments))

    def wait(self) -> None:
        """Returns when all is drawn."""
        self._finish(0)

    def _finish(self, most: int) -> None:
        """Returns when no more than some are not drawn yet."""
        while self._waiting and (len(self._waiting) > most or self._waiting[0].done()):
            self._waiting.popleft().result()
