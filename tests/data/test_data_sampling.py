"""Balanced sampling: what an epoch draws, and that it goes on where a run resumes."""

import itertools

import numpy as np
import pytest

from cnn_jax.data import batches, sampling

LABELS = np.repeat([2, 0, 3], [60, 5, 37])  # class 1 has no examples


def test_an_epoch_draws_equally_many_of_each_class_and_repeats_as_little_as_it_can():
    order = sampling.balanced_order(3, 4, LABELS)
    assert order.dtype == np.int32
    assert len(order) == len(LABELS)
    assert np.bincount(LABELS[order]).tolist() == [34, 0, 34, 34]
    times = np.bincount(order, minlength=len(LABELS))
    assert times[:60].max() == 1
    assert sorted(times[60:65]) == [6, 7, 7, 7, 7]
    assert times[65:].max() == 1


def test_the_order_depends_on_seed_epoch_and_labels_alone():
    first = sampling.balanced_order(3, 4, LABELS)
    np.testing.assert_array_equal(first, sampling.balanced_order(3, 4, LABELS))
    for other in ((3, 5), (4, 4)):
        assert not np.array_equal(first, sampling.balanced_order(*other, LABELS))
    # Over some epochs every image of the largest class is drawn.
    drawn = {int(i) for epoch in range(12) for i in sampling.balanced_order(0, epoch, LABELS)}
    assert drawn == set(range(len(LABELS)))


@pytest.mark.parametrize("classes", [1, 7])
def test_a_remainder_goes_to_classes_by_chance(classes):
    labels = np.arange(10) % classes
    counts = np.bincount(labels[sampling.balanced_order(0, 0, labels)])
    assert counts.sum() == 10
    assert counts.max() - counts.min() <= 1
    few = np.arange(3)  # more classes than draws would be possible only with one example each
    assert sorted(sampling.balanced_order(0, 0, few)) == [0, 1, 2]


@pytest.mark.parametrize("views", [0, 2])
def test_balanced_batches_go_on_where_a_run_resumes(views):
    """Also with cached views of each image, where the copy of an epoch is taken."""

    def some(first: int, last: int):
        found = batches.TrainBatches(9, len(LABELS), 16, first, views, LABELS)
        return list(itertools.islice(found, last - first))

    whole = some(0, 21)
    for first in (1, 7, 13):
        for a, b in zip(some(first, 21), whole[first:], strict=True):
            np.testing.assert_array_equal(a.positions, b.positions)
            np.testing.assert_array_equal(a.weights, b.weights)
    second = np.concatenate([batch.positions for batch in whole[7:14]])
    assert (second >= len(LABELS)).all() == bool(views)
    counted = [LABELS[p % len(LABELS)] for b in whole[:7] for p, w in zip(*b, strict=True) if w]
    assert np.bincount(counted).tolist() == [34, 0, 34, 34]
