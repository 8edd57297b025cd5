"""Equal images in two splits or in two classes."""

import shutil

import numpy as np
import pytest
from PIL import Image

from cnn_jax.data import Split, duplicates, from_arrays, load
from cnn_jax.errors import RunError
from cnn_jax.experiment import Dataset

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    """Two splits of two classes with four images each, all of them different."""
    root = tmp_path / "folder"
    for split in ("train", "validation"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(4):
                pixels = RNG.integers(256, size=(6, 6, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def notes(root, **changes):
    found = load(Dataset(name="folder", path=str(root), **changes), quiet=True).info.notes
    return [note for note in found if " also in " in note or "two classes" in note]


def test_equal_images_of_two_splits_are_counted_and_named(folder, caplog):
    assert notes(folder) == []
    for i in range(4):
        shutil.copy(folder / "train/cat" / f"{i}.png", folder / "validation/cat" / f"copy{i}.png")
    assert notes(folder) == [
        "4 images of validation also in train: "
        "train/cat/0.png = validation/cat/copy0.png, train/cat/1.png = validation/cat/copy1.png, "
        "train/cat/2.png = validation/cat/copy2.png and 1 more"
    ]
    assert "WARNING" not in caplog.text


def test_a_file_in_two_class_folders_is_refused(folder, caplog):
    shutil.copy(folder / "train/cat/1.png", folder / "train/dog/other.png")
    with pytest.raises(RunError) as caught:
        notes(folder)
    assert str(caught.value) == (
        f"{folder}/train/cat/1.png and {folder}/train/dog/other.png are one image in two classes; "
        "remove the wrong one, or keep both with dataset.on_error=skip"
    )
    want = "1 image in two classes (of 'cat', 'dog'): train/cat/1.png = train/dog/other.png"
    assert notes(folder, on_error="skip") == [want]
    assert want in caplog.text


def test_equal_pixels_of_files_that_differ_are_a_warning(folder, caplog):
    with Image.open(folder / "train/cat/1.png") as image:
        image.save(folder / "validation/dog/same.webp", lossless=True)
    assert len(notes(folder)) == 2  # in two classes, and in two splits
    assert "in two classes" in caplog.text


def test_a_test_split_that_training_does_not_open_is_not_compared(folder):
    shutil.copytree(folder / "train", folder / "test")
    section = Dataset(name="folder", path=str(folder))
    assert not any(" also in " in note for note in load(section, test=False, quiet=True).info.notes)
    assert notes(folder)[0].startswith("8 images of test also in train")


def test_evaluation_is_warned_of_a_test_split_that_was_trained_on(folder, caplog):
    shutil.copytree(folder / "train", folder / "test")
    assert notes(folder)[0] in caplog.text


def test_validation_on_the_images_that_are_trained_on_is_a_warning(folder, caplog):
    shutil.rmtree(folder / "validation")
    shutil.copytree(folder / "train", folder / "validation")
    (note,) = notes(folder)
    assert note.startswith("8 images of validation also in train: ")
    assert note.endswith("; the accuracy on validation says nothing of new images")
    assert note in caplog.text
    caplog.clear()
    images, labels = RNG.integers(256, size=(8, 5, 5, 1), dtype=np.uint8), np.arange(8) % 2
    data = from_arrays(images, labels, validation=(images, labels))
    (note,) = [note for note in data.info.notes if " also in " in note]
    assert note.startswith("8 images of validation also in train: train 0 = validation 0")
    assert note.endswith("; the accuracy on validation says nothing of new images")
    assert note in caplog.text


def test_copies_within_a_class_of_a_split_are_nobodys_business(folder):
    shutil.copy(folder / "train/cat/1.png", folder / "train/cat/again.png")
    assert notes(folder) == []


def test_a_split_under_two_names_is_not_compared_with_itself(folder):
    shutil.copytree(folder / "validation", folder / "test")
    shutil.rmtree(folder / "validation")
    assert notes(folder, validation_split="test") == []


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_arrays(dtype, caplog):
    images = RNG.integers(256, size=(40, 5, 5, 1)).astype(dtype)
    images[3] = images[4] = images[10]  # labels 1, 0, 0
    images[5:8, :4] = 0  # alike, but for one line
    others = np.concatenate([images[20:22], images[:1] + 1])
    data = from_arrays(images, np.arange(40) % 2, validation=(others, np.array([0, 1, 0])))
    found = [note for note in data.info.notes if " also in " in note or "two classes" in note]
    assert found == [
        "1 image in two classes (of '0', '1'): train 3 = train 4",
        "2 images of validation also in train: train 20 = validation 0, train 21 = validation 1",
    ]
    assert found[0] in caplog.text


def test_only_images_that_share_lines_are_read_whole(monkeypatch):
    hashed = []
    monkeypatch.setattr(duplicates.hashlib, "sha256", lambda data: hashed.append(data))
    images = RNG.integers(256, size=(100, 16, 16, 3), dtype=np.uint8)
    split = Split(images, np.zeros(100, np.int32), list(map(str, range(100))))
    assert duplicates.find({"train": split}) == []
    assert hashed == []
