"""Says which examples form which batch, and hands them to a jitted step.

The order is a pure function of (seed, epoch, step), computed on the host. The images wait on the
devices, or are streamed from disk if they are too many.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from cnn_jax import distributed
from cnn_jax.data import sampling
from cnn_jax.data.ahead import ahead
from cnn_jax.data.splits import Split


def train_batches(
    seed: int | None,
    num_examples: int,
    batch_size: int,
    start: int = 0,
    views: int = 0,
    balance: np.ndarray | None = None,
) -> Iterator["BatchIndices"]:
    """Yields the batches of training from a step on, epoch after epoch, without end.

    Args:
        seed: the seed of the order; None keeps the order of the split.
        num_examples: examples in the training split.
        batch_size: examples in a batch.
        start: the number of steps done before.
        views: the number of cached views of each example, view v of example i at
            v * num_examples + i; epoch e takes view e mod views. 0: there are none.
        balance: the labels, int [num_examples], of classes that an epoch draws equally often;
            None: it takes every example once.
    """
    per_epoch = steps_per_epoch(num_examples, batch_size)
    for epoch in itertools.count(start // per_epoch):
        if seed is None:
            order = np.arange(num_examples, dtype=np.int32)
        elif balance is not None:
            order = sampling.balanced_order(seed, epoch, balance)
        else:
            order = epoch_order(seed, epoch, num_examples)
        if views:
            order = order + np.int32(epoch % views * num_examples)
        for step in range(max(0, start - epoch * per_epoch), per_epoch):
            yield take_batch(order, batch_size, step)


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
    """Returns the number of batches that hold every example once."""
    return math.ceil(num_examples / batch_size)


def epoch_order(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """Returns a permutation, int32 [num_examples], which depends only on (seed, epoch)."""
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
    """The examples of one step.

    Attributes:
        images: uint8 [batch, height, width, channels], or float: cached features, or float images.
        labels: int32 [batch].
        weights: float32 [batch], 1 or 0; an example of weight 0 does not count.
        positions: int32 [batch], of the examples in their split, or None.
    """

    images: Any
    labels: Any
    weights: Any
    positions: Any = None


class Picked(NamedTuple):
    """A batch as positions in a split that waits on the devices.

    A jitted step that takes it gathers the examples itself (`fetch`), and only positions and
    weights travel to the devices in each step.

    Attributes:
        all_images: the images of the split.
        all_labels: int32 [examples].
        positions: int32 [batch].
        weights: float32 [batch], as those of a Batch.
    """

    all_images: Any
    all_labels: Any
    positions: Any
    weights: Any

    @property
    def images(self) -> Any:
        """The images of the batch, gathered."""
        return self.all_images[self.positions]

    @property
    def labels(self) -> Any:
        """The labels of the batch, gathered."""
        return self.all_labels[self.positions]


def fetch(batch: Batch | Picked) -> Batch:
    """Returns the batch with its examples gathered; a pure part of every jitted step."""
    if isinstance(batch, Picked):
        return Batch(batch.images, batch.labels, batch.weights, batch.positions)
    return batch


class Feed:
    """Hands batches of one split to a jitted step: from the devices, or streamed from disk.

    A split of up to `resident_limit` GiB is put on the devices once, and a batch is `Picked`. A
    larger one is read batch by batch on a thread of its own, ahead of the step.

    Args:
        split: the examples.
        mesh: the devices.
        resident_limit: in GiB.
    """

    def __init__(self, split: Split, mesh: Mesh, resident_limit: float):
        self._split = split
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
        order = np.argsort(batch.positions)  # a memory map reads faster in order
        stored = self._split.images
        images = np.empty((len(order), *stored.shape[1:]), stored.dtype)
        images[order] = stored[batch.positions[order]]
        host = Batch(images, self._split.labels[batch.positions], batch.weights, batch.positions)
        return distributed.put(host, self._sharding)
