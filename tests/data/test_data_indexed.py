"""Rows of a file that are read when they are asked for, and what is seen in them but once."""

import numpy as np
import pytest

from cnn_jax import experiment
from cnn_jax.data import channels, duplicates, load, splits
from cnn_jax.data.indexed import Indexed
from cnn_jax.data.splits import Split


@pytest.fixture
def stored(tmp_path):
    whole = np.random.default_rng(0).integers(0, 256, (20, 5, 4, 3), np.uint8)
    np.save(tmp_path / "images.npy", whole)
    return whole, np.load(tmp_path / "images.npy", mmap_mode="r")


@pytest.mark.parametrize(
    "key",
    [
        3,
        slice(2, 7),
        slice(None),
        np.array([4, 1, 1]),
        np.arange(8) % 2 == 0,
        (slice(0, 6), 2),
        (slice(None),) * 4,
        (np.array([5, 0]), slice(1, 3)),
        (..., slice(0, 1)),
    ],
)
def test_reads_as_an_array_does(stored, key):
    whole, array = stored
    index = np.array([3, 5, 6, 9, 12, 13, 17, 19])
    rows, expected = Indexed(array, index), whole[index]
    np.testing.assert_array_equal(rows[key], expected[key])
    assert (rows.shape, rows.dtype, rows.ndim, rows.size, rows.nbytes, len(rows)) == (
        *(expected.shape, expected.dtype, expected.ndim, expected.size, expected.nbytes, 8),
    )
    np.testing.assert_array_equal(np.asarray(rows), expected)
    np.testing.assert_array_equal(rows.rows(np.array([2, 7])), expected[[2, 7]])
    np.testing.assert_array_equal(rows / 255 == 0, expected / 255 == 0)
    assert (rows.max(), rows.astype(int).sum()) == (expected.max(), expected.astype(int).sum())


def test_what_is_taken_of_a_map_is_not_copied_and_has_the_same_facts(stored):
    whole, array = stored
    labels, ids = np.arange(20, dtype=np.int32) % 2, list(map(str, range(20)))
    index = np.array([0, 2, 3, 11])
    lazy = splits.take(Split(array, labels, ids, identity="a"), index)
    copied = splits.take(Split(whole, labels, ids), index)
    assert isinstance(lazy.images, Indexed)
    assert isinstance(copied.images, np.ndarray)
    assert splits.digest({"train": lazy}) == splits.digest({"train": copied})
    assert channels.channel_statistics(lazy.images) == channels.channel_statistics(copied.images)
    again = splits.take(lazy, np.array([1, 3]))
    np.testing.assert_array_equal(again.images[:], whole[[2, 11]])
    assert len({"a", lazy.identity, again.identity}) == 3


def test_pixels_are_looked_at_once_and_then_only_verified(places, monkeypatch):
    del places
    config = experiment.Dataset(name="digits")
    first = load(config)

    def fail(*given):
        raise AssertionError("the pixels are read again")

    for module, name in (
        (channels, "channel_statistics"),
        (splits, "digest"),
        (duplicates, "_look"),
    ):
        monkeypatch.setattr(module, name, fail)
    second = load(config)
    assert second.info == first.info
    assert isinstance(second.train.images, Indexed)
    assert second.train.images[:].tobytes() == first.train.images[:].tobytes()
