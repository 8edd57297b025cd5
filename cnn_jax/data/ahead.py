"""Computes the items of an iterator on a thread of its own, ahead of whoever takes them."""

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any


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

    threading.Thread(target=produce, daemon=True).start()
    try:
        while (item := buffer.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
