"""Says which examples form which batch: a pure function of (seed, epoch, step), on the host."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from cnn_jax.data import sampling


class TrainBatches:
    """The batches of training, which iterating yields from a step on, epoch after epoch.

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

    def __init__(
        self,
        seed: int | None,
        num_examples: int,
        batch_size: int,
        start: int = 0,
        views: int = 0,
        balance: np.ndarray | None = None,
    ):
        self.seed, self.batch_size, self.start = seed, batch_size, start
        self._examples, self._views, self._balance = num_examples, views, balance
        self._order: tuple[int, np.ndarray] | None = None  # of the epoch asked for last

    def __iter__(self) -> Iterator["BatchIndices"]:
        return map(self.at, itertools.count(self.start))

    @property
    def repeats(self) -> bool:
        """Whether an epoch may take an example several times."""
        return self._balance is not None

    def place(self, step: int) -> tuple[int, int]:
        """Returns (epoch, the number of examples that come before in it) of a step."""
        epoch, batch = divmod(step, steps_per_epoch(self._examples, self.batch_size))
        return epoch, batch * self.batch_size

    def at(self, step: int) -> "BatchIndices":
        """Returns the batch of a step, a pure function of it."""
        epoch, before = self.place(step)
        order = self._order
        if order is None or order[0] != epoch:
            self._order = order = (epoch, self._epoch(epoch))
        return take_batch(order[1], self.batch_size, before // self.batch_size)

    def _epoch(self, epoch: int) -> np.ndarray:
        if self.seed is None:
            order = np.arange(self._examples, dtype=np.int32)
        elif self._balance is not None:
            order = sampling.balanced_order(self.seed, epoch, self._balance)
        else:
            order = epoch_order(self.seed, epoch, self._examples)
        return order + np.int32(epoch % self._views * self._examples) if self._views else order


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
