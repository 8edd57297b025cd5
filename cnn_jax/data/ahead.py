"""Computes the items of an iterator on a thread of its own, ahead of whoever takes them."""

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any

_SECONDS = 60  # that are waited for an item that nobody takes any more


def ahead(items: Iterator[Any], depth: int = 2) -> Iterator[Any]:
    """Yields the items, which a thread computes `depth` ahead; its exceptions are raised here."""
    buffer: queue.Queue[Any] = queue.Queue(depth)
    stop = threading.Event()
    end = object()

    def put(item: Any) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                buffer.put(item, timeout=0.1)
                return

    def produce() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(end)
        except BaseException as error:
            put(error)
        finally:
            if isinstance(items, Generator):
                items.close()  # where it was made, with what it holds open

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        while (item := buffer.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join(_SECONDS)  # what it holds open is closed before the program may end
