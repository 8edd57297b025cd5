import jax
import numpy as np
import pytest

from cnn_jax import distributed
from cnn_jax.data import Split, batches
from cnn_jax.data.feeding import Feed


def test_order_depends_on_seed_and_epoch_alone():
    a = batches.epoch_order(1, 2, 1000)
    np.testing.assert_array_equal(a, batches.epoch_order(1, 2, 1000))
    assert sorted(a) == list(range(1000))
    assert not np.array_equal(a, batches.epoch_order(1, 3, 1000))
    assert not np.array_equal(a, batches.epoch_order(2, 2, 1000))


@pytest.mark.parametrize(("examples", "size"), [(10, 4), (8, 4), (3, 8), (1, 1), (7, 3)])
def test_every_example_counts_exactly_once_an_epoch(examples, size):
    order = batches.epoch_order(0, 0, examples)
    counted = np.zeros(examples)
    for step in range(batches.steps_per_epoch(examples, size)):
        batch = batches.take_batch(order, size, step)
        assert batch.positions.shape == batch.weights.shape == (size,)
        np.add.at(counted, batch.positions, batch.weights)
    np.testing.assert_array_equal(counted, 1)


def make_split(n=23, dtype=np.uint8):
    rng = np.random.default_rng(0)
    images = (rng.random((n, 4, 5, 3)) * 256).astype(dtype)
    return Split(images, np.arange(n, dtype=np.int32), [str(i) for i in range(n)])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_streamed_batches_are_the_resident_ones(dtype):
    split, mesh = make_split(dtype=dtype), distributed.make_mesh()
    order = batches.epoch_order(0, 0, 23)

    def all_batches(limit):
        feed = Feed(split, mesh, limit)
        indices = (batches.take_batch(order, 5, step) for step in range(5))
        fetch = jax.jit(batches.fetch)
        given = list(feed.batches(indices))
        return given, [jax.device_get(fetch(b)) for b in given]

    picked, resident = all_batches(1.0)
    read, streamed = all_batches(0.0)
    assert all(isinstance(batch, batches.Picked) for batch in picked)
    assert all(isinstance(batch, batches.Batch) for batch in read)
    for a, b in zip(resident, streamed, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(streamed[0].images, split.images[order[:5]])


def test_an_error_of_the_reading_thread_reaches_the_loop():
    feed = Feed(make_split(), distributed.make_mesh(), 0.0)
    bad = batches.BatchIndices(np.array([99]), np.ones(1, np.float32))
    with pytest.raises(IndexError):
        list(feed.batches(iter([bad])))
