"""Which examples make up which batch, and handing them to a jitted step.

The order is a pure function of (seed, epoch, step), made on the host. The images wait on the
devices, or are streamed from disk where they are too many.
"""

import contextlib
import math
import queue
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from cnn_jax import distributed
from cnn_jax.data.splits import Split


class BatchIndices(NamedTuple):
    """The examples of one batch.

    Attributes:
        positions: int32 [batch], in the split.
        weights: float32 [batch], 1 for an example that counts and 0 for one that only fills up the
            last batch of an epoch or of an evaluation.
    """

    positions: np.ndarray
    weights: np.ndarray


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Returns the number of batches in which every example stands once."""
    return math.ceil(num_examples / batch_size)


def epoch_order(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """Returns a permutation, int32 [num_examples], drawn from (seed, epoch) alone."""
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return generator.permutation(num_examples).astype(np.int32)


def take_batch(order: np.ndarray, batch_size: int, step: int) -> BatchIndices:
    """Returns batch number `step` of an epoch.

    The last batch is filled up with examples from the epoch's start at weight 0, so that all
    batches have one shape, every example counts exactly once an epoch, and batch normalisation
    sees real images.

    Args:
        order: int32 [num_examples], the epoch's permutation.
        batch_size: examples in a batch.
        step: from 0 to `steps_per_epoch` - 1.
    """
    position = np.arange(step * batch_size, (step + 1) * batch_size)
    weight = (position < len(order)).astype(np.float32)
    return BatchIndices(order[position % len(order)], weight)


class Batch(NamedTuple):
    """Examples of one step.

    Attributes:
        images: uint8 [batch, height, width, channels].
        labels: int32 [batch].
        weights: float32 [batch], 1 or 0; an example of weight 0 does not count.
        positions: int32 [batch], of the examples in their split, or None.
    """

    images: Any
    labels: Any
    weights: Any
    positions: Any = None


class Feed:
    """Hands batches of one split to a jitted step: from the devices, or streamed from disk.

    A split of up to `resident_limit` GiB is put on the devices once, and a batch is a list of
    positions. A larger one is read batch by batch on a thread of its own, ahead of the step.
    """

    def __init__(self, split: Split, mesh: Mesh, resident_limit: float):
        self._split = split
        self._sharding = distributed.over_batch(mesh)
        self.resident: Any = None
        if split.images.nbytes <= resident_limit * 2**30:
            self.resident = distributed.put(
                (split.images, split.labels), distributed.replicated(mesh)
            )

    def __len__(self) -> int:
        return len(self._split.labels)

    def batches(self, indices: Iterator[BatchIndices]) -> Iterator[Any]:
        """Yields what `fetch`, inside the step, makes a Batch of."""
        if self.resident is not None:
            for batch in indices:
                yield distributed.put(tuple(batch), self._sharding)
        else:
            yield from _ahead(map(self._read, indices))

    def _read(self, batch: BatchIndices) -> Batch:
        order = np.argsort(batch.positions)  # a memory map reads faster in order
        stored = self._split.images
        images = np.empty((len(order), *stored.shape[1:]), stored.dtype)
        images[order] = stored[batch.positions[order]]
        host = Batch(images, self._split.labels[batch.positions], batch.weights, batch.positions)
        return distributed.put(host, self._sharding)


def fetch(resident: Any, batch: Any) -> Batch:
    """Returns the Batch; pure, part of the jitted step."""
    if resident is None:
        return batch
    images, labels = resident
    positions, weights = batch
    return Batch(images[positions], labels[positions], weights, positions)


def _ahead(items: Iterator[Any], depth: int = 2) -> Iterator[Any]:
    """Yields the items, made on a thread `depth` ahead; its exceptions are raised here."""
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
