"""Arrays in an .npz file, with the names of MedMNIST and Keras."""

import io
import random
import zipfile
from typing import Any

import numpy as np
import pytest

from cnn_jax import data, experiment
from cnn_jax.data import npz, reading
from cnn_jax.data.images import read_image
from cnn_jax.errors import RunError, UsageError
from tests import tiny
from tests.data.test_data_table import png

RANDOM = np.random.default_rng(0)


def images(count: int, shape: tuple[int, ...] = (6, 6)) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, *shape)).astype(np.uint8)


def labels(count: int) -> np.ndarray:
    return (np.arange(count) % 3).astype(np.uint8)


def save(path: Any, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def load(path: str, **settings: Any) -> data.Data:
    return data.load(experiment.Dataset(name="npz", path=path, **settings), quiet=True)


def test_the_names_of_medmnist(tmp_path):
    arrays = {
        f"{split}_{what}": values
        for split, n in (("train", 12), ("val", 6), ("test", 9))
        for what, values in (("images", images(n)), ("labels", labels(n)[:, None]))
    }
    found = load(save(tmp_path / "m.npz", **arrays))
    assert found.info.sizes == {"train": 12, "validation": 6, "test": 9}
    assert found.info.class_names == ("0", "1", "2")
    np.testing.assert_array_equal(found.validation.images[..., 0], arrays["val_images"])
    np.testing.assert_array_equal(found.test.labels, labels(9))


@pytest.mark.parametrize("names", [("x_train", "y_train"), ("images", "labels"), ("x", "y")])
def test_other_names(tmp_path, names):
    given = dict(zip(names, (images(30, (6, 6, 3)), labels(30)), strict=True))
    found = load(save(tmp_path / "m.npz", **given))
    assert found.info.sizes == {"train": 24, "validation": 3, "test": 3}


def test_arrays_are_resized_as_files_are(tmp_path):
    encoded = [png(40 * i) for i in range(3)]
    whole = np.stack([read_image(each) for each in encoded])
    noise = images(5, (9, 7, 3))
    np.testing.assert_array_equal(
        reading.resize(whole, 8), np.stack([read_image(each, 8) for each in encoded])
    )
    assert reading.resize(noise[..., :1], 4).shape == (5, 4, 4, 1)
    path = save(tmp_path / "m.npz", x=images(30), y=labels(30))
    assert load(path, image_size=12).info.image_shape == (12, 12, 1)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": images(3)}, r"has the arrays a; expected train_images"),
        ({"x_train": images(9), "y_train": labels(9), "x_test": images(3)}, "has no y_test"),
        ({"x": np.array([{}, 1], dtype=object), "y": labels(2)}, "holds object, and only numbers"),
        ({"x": images(9, (4, 4, 4)), "y": labels(9)}, "with 4 channels; .*no volumes"),
        ({"x": images(9), "y": labels(8)}, "labels are 8, for 9 images"),
        ({"x": images(9), "y": np.eye(3, dtype=int)[labels(9)] + 1}, "not one-hot"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, arrays, said):
    with pytest.raises((RunError, UsageError), match=said):
        load(save(tmp_path / "m.npz", **arrays))


def test_a_size_that_is_not_the_files_is_refused(tmp_path):
    path = save(tmp_path / "m.npz", x=images(9), y=labels(9))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 6, 6)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue() + b"0" * 100)
        buffer = io.BytesIO()
        np.save(buffer, labels(9))
        archive.writestr("y.npy", buffer.getvalue())
    with pytest.raises(RunError, match="the array x has not the size that it says"):
        load(path)


def test_mutated_files_end_in_one_line_or_are_read(tmp_path):
    path = tmp_path / "m.npz"
    np.savez_compressed(path, x=images(9), y=labels(9))
    whole, chance = path.read_bytes(), random.Random(0)
    config = experiment.Dataset(name="npz", path=str(path))
    refused = 0
    for _ in range(300):
        path.write_bytes(tiny.mutated(whole, chance, torn=0.2))
        try:
            npz.source(config)
        except (RunError, UsageError):
            refused += 1
    assert refused > 200
