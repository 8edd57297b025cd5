"""Hands batches to a jitted step: of images that wait on the devices, or are read from disk."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jax.sharding import Mesh

from cnn_jax import distributed
from cnn_jax.data.ahead import ahead
from cnn_jax.data.batches import Batch, BatchIndices, Picked
from cnn_jax.data.splits import Split


class Feed:
    """Hands batches of one split to a jitted step: from the devices, or streamed from disk.

    A split of up to `resident_limit` GiB is put on the devices once, and a batch is `Picked`. A
    larger one is read batch by batch on a thread of its own, ahead of the step; each process reads
    its own rows of it.

    Args:
        split: the examples.
        mesh: the devices.
        resident_limit: in GiB.
    """

    def __init__(self, split: Split, mesh: Mesh, resident_limit: float):
        self._split, self._mesh = split, mesh
        self._sharding = distributed.over_batch(mesh)
        self._resident: Any = None
        if split.images.nbytes <= resident_limit * 2**30:
            self._resident = distributed.put(
                (split.images, split.labels), distributed.replicated(mesh)
            )

    def __len__(self) -> int:
        return len(self._split.labels)

    def batches(self, indices: Iterable[BatchIndices]) -> Iterator[Batch | Picked]:
        """Yields the batches on the devices, as `fetch` takes them."""
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
