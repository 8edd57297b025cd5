"""Carving one split from another, and what is told of the result."""

import json

import numpy as np

from cnn_jax.data import channels, splits
from cnn_jax.data.splits import DataInfo, Split

RNG = np.random.default_rng(0)
LABELS = RNG.choice(4, 1000, p=[0.55, 0.3, 0.13, 0.02])
IDS = [f"image {i}" for i in range(1000)]


def test_held_out_examples_are_in_proportion_and_leave_the_others():
    stay, held = splits.hold_out(LABELS, IDS, 100)
    assert sorted([*stay, *held]) == list(range(1000))
    assert (np.diff(stay) > 0).all()
    assert (np.diff(held) > 0).all()
    assert len(held) == 100
    expected = np.bincount(LABELS) / 10
    assert (abs(np.bincount(LABELS[held], minlength=4) - expected) <= 1).all()


def test_a_class_of_one_example_stays_in_train():
    labels = np.array([0] * 50 + [1])
    stay, _ = splits.hold_out(labels, IDS[:51], 10)
    assert 50 in stay


def test_few_examples_in_many_classes_are_still_held_out():
    labels = np.repeat(np.arange(100), 4)
    _, held = splits.hold_out(labels, IDS[:400], 40)
    assert len(held) == 40
    assert np.bincount(labels[held]).max() == 1


def test_smaller_subsets_are_contained_in_larger_ones_and_hold_every_class():
    before: set[int] = set()
    for n in range(1, 1001, 7):
        now = set(splits.subset(LABELS, IDS, n).tolist())
        assert len(now) == n
        assert before <= now
        before = now
        if n >= 4:
            counts = np.bincount(LABELS[sorted(now)], minlength=4)
            assert (counts > 0).all()
            assert (abs(counts - np.bincount(LABELS) * n / 1000) <= 2).all()


def test_the_choice_depends_on_ids_not_on_their_order():
    order = RNG.permutation(1000)
    _, held = splits.hold_out(LABELS, IDS, 100)
    _, shuffled = splits.hold_out(LABELS[order], [IDS[i] for i in order], 100)
    assert set(order[shuffled]) == set(held)


def test_the_choice_is_not_the_first_examples_and_does_not_change():
    labels = np.zeros(20, int)
    _, held = splits.hold_out(labels, IDS[:20], 5)
    # Written down, so that no later change moves images between train and validation unseen.
    assert held.tolist() == [11, 12, 15, 16, 19]


def test_statistics_are_those_of_all_pixels():
    images = RNG.integers(0, 256, (300, 5, 4, 3)).astype(np.uint8)
    mean, std = channels.channel_statistics(images)
    scaled = images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, scaled.std(axis=(0, 1, 2)), rtol=1e-9)


def test_statistics_do_not_depend_on_the_order_of_images():
    images = RNG.integers(0, 256, (700, 5, 4, 1)).astype(np.uint8)
    assert channels.channel_statistics(images) == channels.channel_statistics(images[::-1])


def test_statistics_of_constant_images():
    white = np.full((600, 3, 3, 3), 255, np.uint8)
    assert channels.channel_statistics(white) == ((1.0,) * 3, (0.0,) * 3)


def test_statistics_of_float_images_are_in_their_own_units():
    images = (RNG.normal(size=(300, 5, 4, 3)) + 1000).astype(np.float32)
    mean, std = channels.channel_statistics(images)
    wide = images.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, wide.std(axis=(0, 1, 2)), rtol=1e-9)


def test_digest_tells_pixels_labels_and_splits_apart():
    images = np.zeros((2, 2, 2, 1), np.uint8)
    base = {"train": Split(images, np.array([0, 1], np.int32), ["a", "b"])}
    other = images.copy()
    other[1, 1, 1] = 1
    variants = [
        base,
        {"train": Split(other, base["train"].labels, ["a", "b"])},
        {"train": Split(images, np.array([1, 0], np.int32), ["a", "b"])},
        {"train": Split(images.reshape(2, 4, 1, 1), base["train"].labels, ["a", "b"])},
        {"test": base["train"]},
    ]
    assert len({splits.digest(v) for v in variants}) == len(variants)
    assert splits.digest(base) == splits.digest({"train": Split(images, base["train"].labels, [])})


def test_info_goes_through_json():
    info = DataInfo(
        name="x",
        version="1.0.0",
        class_names=("a", "b"),
        image_shape=(8, 8, 1),
        mean=(0.5,),
        std=(0.25,),
        sizes={"train": 3},
        class_counts={"train": (1, 2)},
        notes=("one",),
        digest="00",
    )
    assert DataInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info


def test_info_of_a_file_that_does_not_say_the_dtype_is_of_uint8_images():
    info = DataInfo("x", "", ("a", "b"), (8, 8, 1), (0.5,), (0.2,), {}, {}, (), "00", "float32")
    values = json.loads(json.dumps(info.to_dict()))
    assert DataInfo.from_dict(values) == info
    del values["dtype"]
    assert DataInfo.from_dict(values).dtype == "uint8"
