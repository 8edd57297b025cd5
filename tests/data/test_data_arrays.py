"""Arrays of the user's as a data set."""

import dataclasses
import re

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import cnn_jax
from cnn_jax.data import DataInfo, Split, arrays, channels, from_arrays, splits
from cnn_jax.errors import RunError, UsageError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 5, 4, 3)).astype(np.uint8)
LABELS = np.arange(60) % 3
FLOATS = RNG.normal(size=(60, 5, 4, 1)).astype(np.float32)
VALIDATION = (IMAGES[:9], LABELS[:9])
VALIDATION_BY_NAME = (IMAGES[:9], np.array(["a", "b", "c"])[LABELS[:9]])


def test_a_share_is_held_out_by_the_positions_of_the_images():
    data = from_arrays(IMAGES, LABELS)
    assert data.info.sizes == {"train": 54, "validation": 6}
    assert data.info.class_counts["validation"] == (2, 2, 2)
    assert data.info.class_names == ("0", "1", "2")
    stay, held = splits.hold_out(LABELS, [str(i) for i in range(60)], 6)
    for part, expected in ((data.train, stay), (data.validation, held)):
        assert [int(i) for i in part.ids] == expected.tolist()
        np.testing.assert_array_equal(part.images, IMAGES[expected])
        np.testing.assert_array_equal(part.labels, LABELS[expected])
        assert part.labels.dtype == np.int32
    assert any("validation: 6 of the 60 images" in note for note in data.info.notes)
    with pytest.raises(UsageError, match=r"arrays has no test split, only train, validation"):
        _ = data.test


def test_the_description_is_that_of_any_data_set():
    data = from_arrays(IMAGES, LABELS, validation=VALIDATION, name="mine")
    info = data.info
    assert (info.name, info.version, info.dtype) == ("mine", "", "uint8")
    assert info.image_shape == (5, 4, 3)
    assert (info.mean, info.std) == channels.channel_statistics(IMAGES)
    assert info.digest == splits.digest(data.splits)
    assert info == DataInfo.from_dict(info.to_dict())


def test_shares_pairs_and_splits_in_any_combination():
    data = from_arrays(IMAGES, LABELS, validation=0.2, test=0.3)
    assert data.info.sizes == {"train": 30, "validation": 12, "test": 18}
    ids = [name for part in data.splits.values() for name in part.ids]
    assert sorted(ids, key=int) == [str(i) for i in range(60)]
    ready = Split(IMAGES[:3], np.array([0, 1, 2], np.int32), ["a", "b", "c"])
    data = from_arrays(IMAGES, LABELS, validation=ready, test=VALIDATION)
    assert data.info.sizes == {"train": 60, "validation": 3, "test": 9}
    assert list(data.validation.ids) == ["a", "b", "c"]
    assert list(data.test.ids) == [str(i) for i in range(9)]
    assert data.info.digest == from_arrays(IMAGES, LABELS, validation=ready).info.digest


def test_arrays_are_not_copied_needlessly():
    labels = LABELS.astype(np.int32)
    data = from_arrays(IMAGES, labels, validation=(IMAGES[:9], labels[:9]))
    for part in (data.train, data.validation):
        assert np.shares_memory(part.images, IMAGES)
        assert np.shares_memory(part.labels, labels)
    floats = from_arrays(FLOATS, labels, validation=(FLOATS, labels))
    assert np.shares_memory(floats.train.images, FLOATS)


def test_two_axes_are_one_channel_and_small_integers_are_pixels():
    grey = IMAGES[..., 0]
    for images in (grey, grey.astype(np.int16), grey.astype(np.uint64), grey.tolist()):
        data = from_arrays(images, LABELS.tolist(), validation=(grey, LABELS))
        assert data.info.image_shape == (5, 4, 1)
        assert data.train.images.dtype == np.uint8
        np.testing.assert_array_equal(data.train.images[..., 0], grey)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16, np.dtype(">f4")])
def test_floats_stay_in_their_own_units_as_float32(dtype):
    images = (100 * FLOATS - 7).astype(dtype)
    data = from_arrays(images, LABELS, validation=(images, LABELS))
    assert data.train.images.dtype == np.float32
    np.testing.assert_array_equal(data.train.images, images.astype(np.float32))
    assert data.info.dtype == "float32"
    wide = images.astype(np.float64)
    np.testing.assert_allclose(data.info.mean, wide.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(data.info.std, wide.std(axis=(0, 1, 2)), rtol=1e-6)
    assert DataInfo.from_dict(data.info.to_dict()) == data.info


def test_arrays_of_jax_are_taken():
    data = from_arrays(jnp.asarray(IMAGES), jnp.asarray(LABELS))
    assert data.info == from_arrays(IMAGES, LABELS).info


@pytest.mark.parametrize("dtype", [str, object])
def test_strings_name_the_classes_in_sorted_order_or_in_that_given(dtype):
    labels = np.array(["dog", "ant", "cat"], dtype)[LABELS]
    data = from_arrays(IMAGES, labels, validation=(IMAGES, labels))
    assert data.info.class_names == ("ant", "cat", "dog")
    np.testing.assert_array_equal(data.train.labels, np.array([2, 0, 1])[LABELS])
    names = ["dog", "emu", "ant", "cat"]
    data = from_arrays(IMAGES, labels, validation=(IMAGES, labels), class_names=names)
    assert data.info.class_names == tuple(names)
    np.testing.assert_array_equal(data.train.labels, np.array([0, 2, 3])[LABELS])
    assert "train has no example of 'emu'" in data.info.notes


NAN = np.where(np.arange(60)[:, None, None, None] == 41, np.nan, FLOATS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.array([IMAGES, None], object)}, "array of objects"),
        ({"images": [[1, 2], [3]]}, "images do not form one array"),
        ({"images": IMAGES[0, 0]}, r"images have shape \(4, 3\); give \[n, height, width"),
        ({"images": IMAGES[:0]}, r"shape \(0, 5, 4, 3\)"),
        ({"images": IMAGES.astype(np.int16) - 1}, "int16 from -1 to 254, beyond"),
        ({"images": IMAGES > 3}, "images are bool; give uint8"),
        ({"images": IMAGES.astype(str)}, r"images are <U\d+; give uint8"),
        ({"images": IMAGES.astype(complex)}, "images are complex128"),
        ({"images": NAN}, "image 41 holds values that are not finite"),
        ({"images": FLOATS.astype(np.float64) * 1e300}, "image 0 holds values"),
        ({"labels": LABELS[:-1]}, "labels are 59, for 60 images"),
        ({"images": np.moveaxis(IMAGES, -1, 1)[..., [0] * 9]}, "3 x 5 pixels with 9 .*moveaxis"),
        ({"images": IMAGES.reshape(60, 60)}, r"images have shape \(60, 60\); give \[n, height"),
        ({"images": np.ma.masked_less(IMAGES, 9)}, "images have masked values"),
        ({"labels": np.ma.masked_less(LABELS, 1)}, "labels have masked values"),
        ({"labels": np.eye(3)[LABELS] / 2}, r"shape \(60, 3\) and are not one-hot.*argmax"),
        ({"labels": np.full((60, 3), np.nan)}, r"shape \(60, 3\) and are not one-hot"),
        ({"labels": LABELS[:, None, None]}, r"shape \(60, 1, 1\), not one for each image"),
        ({"labels": LABELS + 0.5}, "label 0 is 0.5, which is no class"),
        ({"labels": np.where(LABELS > 1, np.nan, LABELS)}, "label 2 is nan, which is no class"),
        ({"labels": [*LABELS[:-1], None]}, "labels are object"),
        ({"labels": LABELS.astype("S")}, r"labels are \|S21"),
        ({"labels": LABELS - 1}, "label -1 is no class; classes are counted from 0"),
        ({"labels": LABELS + 1}, "labels are 1 to 3, and classes are counted from 0; give labels"),
        ({"labels": LABELS * 0, "class_names": ["a", "b"]}, "every label to train on is 'a'"),
        ({"labels": LABELS * 10**6}, "largest label is 2000000; give class_names"),
        ({"labels": LABELS * 0}, "only the class '0', and two are the least"),
        ({"class_names": ["a", "b"]}, r"label 2 is no class; the 2 classes are 0 to 1 \(a, b\)"),
        ({"class_names": ["a", "b", "a"]}, "class_names has a name twice"),
        ({"class_names": "abc"}, "class_names are strings"),
        ({"class_names": [1, 2, 3]}, "class_names are strings"),
        ({"validation": (IMAGES, LABELS + 1)}, "validation label 3 is no class"),
        ({"validation": (IMAGES[:, 1:], LABELS)}, r"validation images are uint8 of shape \(4, 4"),
        ({"validation": (IMAGES / 255, LABELS)}, "validation images are float32"),
        ({"validation": (IMAGES, LABELS.astype(str) + "x")}, "validation label '0x' is no class"),
        ({"validation": Split(IMAGES, LABELS, ["a"])}, "validation ids are 1, for 60 images"),
        ({"test": (IMAGES, LABELS[:1])}, "test labels are 1, for 60 images"),
        ({"validation": IMAGES}, r"validation is \(images, labels\), a Split or a share"),
        ({"validation": True}, r"validation is \(images, labels\), a Split or a share"),
        ({"validation": 1}, "validation=1: a share is more than 0 and less than 1"),
        ({"test": 0.0}, "test=0.0: a share"),
        ({"validation": 0.7, "test": 0.3}, "validation=0.7 of 60 images leaves none"),
    ],
)
def test_what_is_no_data_set_is_refused_in_one_line(changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        from_arrays(**{"images": IMAGES, "labels": LABELS, **changes})
    assert "\n" not in str(caught.value)
    assert "--" not in caught.value.for_command_line


@pytest.mark.parametrize(
    "labels",
    [
        LABELS[:, None],
        np.eye(3)[LABELS],
        np.eye(3, dtype=bool)[LABELS],
        np.eye(3, dtype=np.int64)[LABELS].tolist(),
        LABELS.astype(np.float32),
        LABELS.astype(object),
    ],
    ids=["column", "one-hot", "boolean one-hot", "lists", "floats", "objects"],
)
def test_labels_with_one_meaning_are_taken(labels):
    assert from_arrays(IMAGES, labels).info == from_arrays(IMAGES, LABELS).info
    data = from_arrays(IMAGES, LABELS > 1, validation=0.2)
    assert data.info.class_names == ("0", "1")


@pytest.mark.parametrize(
    ("images", "doubt"),
    [
        (IMAGES * 0, "every value of the images is 0"),
        (IMAGES // 255, "uint8 from 0 to 1, where pixels go up to 255"),
        (IMAGES.astype(np.float32), "float32 from 0 to 255, and are taken as they are; give"),
        (IMAGES / 255**2, r"float32 from 0 to 0.00392, .*divided by 255 twice\?"),
    ],
)
def test_values_that_look_wrongly_scaled_are_noted(images, doubt):
    assert re.search(doubt, from_arrays(images, LABELS).info.notes[0])
    for sound in (IMAGES, IMAGES / 255, FLOATS):
        assert len(from_arrays(sound, LABELS).info.notes) == 1  # what is held out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": IMAGES / np.float32(255)}, "train images are float32 .*takes uint8 images"),
        ({"images": IMAGES[..., 0]}, r"train images are uint8 of shape \(5, 4, 1\)"),
        ({"labels": LABELS + 1}, "train label 3 is no class; the 3 classes are 0 to 2"),
        ({"labels": LABELS[1:]}, "train labels are 59, for 60 images"),
        ({"ids": ["a"]}, "train ids are 1, for 60 images"),
    ],
)
def test_splits_that_were_put_together_by_hand_are_checked(changes, message):
    data = from_arrays(IMAGES, LABELS, validation=VALIDATION)
    wrong = dataclasses.replace(data.train, **changes)
    by_hand = replaced(data, wrong)
    with pytest.raises(UsageError, match=message):
        cnn_jax.train(by_hand, model="mlp")
    with pytest.raises(UsageError, match=message):
        cnn_jax.train(cnn_jax.Experiment(), data=by_hand)
    one_hot = dataclasses.replace(data.train, labels=np.eye(3)[LABELS])
    checked = arrays.check_data(replaced(data, one_hot))
    np.testing.assert_array_equal(checked.train.labels, LABELS)
    assert np.shares_memory(checked.train.images, IMAGES)
    with pytest.raises(UsageError, match="no split 'validation'"):
        arrays.check_data(dataclasses.replace(data, splits={"train": data.train}))


def test_patients_stay_patients_in_splits_that_were_put_together_by_hand():
    data = from_arrays(np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 2)
    train = data.splits["train"]
    patients = [f"p{i // 3}" for i in range(len(train))]
    grouped = replaced(data, dataclasses.replace(train, groups=patients))
    assert arrays.check_data(grouped).splits["train"].groups == patients
    with pytest.raises(UsageError, match=r"train groups are 2, for \d+ images"):
        arrays.check_data(replaced(data, dataclasses.replace(train, groups=["a", "b"])))


def replaced(data, train):
    return dataclasses.replace(data, splits={**data.splits, "train": train})


def test_a_class_that_would_lose_all_its_images_is_named():
    labels = np.where(np.arange(60) == 5, 3, LABELS)
    with pytest.raises(RunError, match=re.escape("class '3'; add images, or hold out less (val")):
        from_arrays(IMAGES, labels, validation=0.95)


def test_arrays_for_a_network_are_like_those_it_was_trained_on():
    data = from_arrays(IMAGES, np.array(["a", "b", "c"])[LABELS], validation=VALIDATION_BY_NAME)
    made = arrays.make_split(IMAGES[:6], np.array(["c", "b", "a"])[LABELS[:6]], data.info)
    np.testing.assert_array_equal(made.labels, 2 - LABELS[:6])
    assert np.shares_memory(made.images, IMAGES)
    with pytest.raises(UsageError, match="label 'd' is no class; the classes are a, b, c"):
        arrays.make_split(IMAGES[:1], ["d"], data.info)
    with pytest.raises(UsageError, match="takes uint8 images of 5 x 4 with 3 channels"):
        arrays.check_images(IMAGES[:, :4], data.info)
    with pytest.raises(UsageError, match="images are float32"):
        arrays.check_images(IMAGES / 255, data.info)
