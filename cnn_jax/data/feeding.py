"""Hands batches to a jitted step: of images that wait on the devices, or are read from disk."""

import collections
import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cnn_jax import distributed
from cnn_jax.data import loader
from cnn_jax.data.ahead import ahead
from cnn_jax.data.batches import Batch, BatchIndices, Picked, TrainBatches
from cnn_jax.data.splits import Split
from cnn_jax.data.streamed import Bad, Chunks, Streamed
from cnn_jax.errors import RunError

_STEPS_AHEAD = 2


class Feed:
    """Hands batches of one split to a jitted step: from the devices, or streamed from disk.

    A split of up to `resident_limit` GiB is put on the devices once, and a batch is `Picked`. A
    larger one is read batch by batch on a thread of its own, ahead of the step; each process reads
    its own rows of it. Encoded images of training are decoded by processes, ahead of the step.

    Args:
        split: the examples.
        mesh: the devices.
        resident_limit: in GiB.
    """

    def __init__(self, split: Split, mesh: Mesh, resident_limit: float):
        self._split, self._mesh = split, mesh
        self._sharding = distributed.over_batch(mesh)
        self._resident: Any = None
        lazy = isinstance(split.images, Streamed)
        if not lazy and split.images.nbytes <= resident_limit * 2**30:
            self._resident = distributed.put(
                (split.images, split.labels), distributed.replicated(mesh)
            )

    def __len__(self) -> int:
        return len(self._split.labels)

    def batches(self, indices: Iterable[BatchIndices]) -> Iterator[Batch | Picked]:
        """Yields the batches on the devices, as `fetch` takes them."""
        images: Any = self._split.images
        if isinstance(images, Streamed) and isinstance(indices, TrainBatches):
            yield from ahead(self._decoded(images, indices))
            return
        if self._resident is None:
            yield from ahead(map(self._read, indices))
            return
        for batch in indices:
            yield Picked(*self._resident, *distributed.put(tuple(batch), self._sharding))

    def _read(self, batch: BatchIndices) -> Batch:
        size = len(batch.positions)
        own = distributed.rows_of_process(self._mesh, size)
        positions = batch.positions[own]
        order = np.argsort(positions)  # a memory map reads faster in order
        stored = self._split.images
        images = np.empty((len(order), *stored.shape[1:]), stored.dtype)
        images[order] = stored[positions[order]]
        host = Batch(images, self._split.labels[positions], batch.weights[own], positions)
        return distributed.put_rows(host, self._mesh, size)

    def _decoded(self, images: Streamed, order: TrainBatches) -> Iterator[Batch]:
        """Yields the batches of training; of each this process decodes the rows that it needs."""
        size = order.batch_size
        own = distributed.rows_of_process(self._mesh, size)
        rows = np.arange(own.start, own.stop)
        chunks = Chunks(images.reader, images.index, order, rows)
        with contextlib.closing(loader.load(chunks, images.workers, images.threads)) as given:
            for step in itertools.count(order.start):
                batch = order.at(step)
                found, bad, row = np.empty((len(rows), *images.shape[1:]), np.uint8), [], 0
                for part in itertools.islice(given, chunks.a_batch):
                    found[row : row + len(part.images)] = part.images
                    bad += part.bad
                    row += len(part.images)
                weights = _without(bad, found, batch.weights[own], images)
                positions = batch.positions[own]
                host = Batch(found, self._split.labels[positions], weights, positions)
                yield distributed.put_rows(host, self._mesh, size)


class Pace:
    """Keeps the host at most some steps ahead of the devices, which hold a batch until its step.

    JAX runs 32 steps ahead: so many batches of 128 images of 224 x 224 are 600 MB. Indices of
    images that wait on the devices are small, and are left alone.
    """

    def __init__(self) -> None:
        self._waiting: collections.deque[jax.Array] = collections.deque()

    def after(self, batch: Batch | Picked, result: jax.Array) -> None:
        """Waits for an earlier step, if there are too many; `result` is what this one computes."""
        if isinstance(batch, Picked):
            return
        self._waiting.append(jnp.copy(result))  # the next step may be given its memory
        if len(self._waiting) > _STEPS_AHEAD:
            self._waiting.popleft().block_until_ready()


def _without(
    bad: list[Bad], images: np.ndarray, weights: np.ndarray, source: Streamed
) -> np.ndarray:
    """Returns weights of rows of a batch in which images that cannot be read do not count.

    Each is replaced by the next one of the rows that can be, so that batch normalisation sees real
    images.

    Raises:
        RunError: such are refused, or there is no other.
    """
    if not bad:
        return weights
    for each in bad:
        source.complain(each.name, each.reason)
    at = np.array([each.row for each in bad])
    sound = np.setdiff1d(np.arange(len(weights)), at)
    if not len(sound):
        raise RunError(f"none of {len(weights)} images of a batch can be read; see the warnings")
    images[at] = images[sound[np.searchsorted(sound, at) % len(sound)]]
    return np.where(np.isin(np.arange(len(weights)), at), np.float32(0), weights)
