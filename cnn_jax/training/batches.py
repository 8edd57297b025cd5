"""Which examples make up which batch: a pure function of (seed, epoch, step), on the host."""

import math
from typing import NamedTuple

import numpy as np


class BatchIndices(NamedTuple):
    """The examples of one batch.

    Attributes:
        index: int32 [batch], positions in the split.
        weight: float32 [batch], 1 for an example that counts and 0 for one that only fills up the
            last batch of an epoch or of an evaluation.
    """

    index: np.ndarray
    weight: np.ndarray


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
