"""A folder of images, good and bad."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnn_jax.data import load
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Dataset


def save(path: Path, value: int, size: tuple[int, int] = (6, 5), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = {"L": value, "RGBA": (value,) * 4}
    color = grey.get(mode, (value, value, 255 - value))  # the others are no grey
    Image.new(mode, size, color).save(path)


@pytest.fixture
def flat(tmp_path):
    """DIR/CLASS/*: 20 images of a and 10 of b; the value tells which."""
    root = tmp_path / "flat"
    for i in range(20):
        save(root / "a" / f"{i:02d}.png", i)
    for i in range(10):
        save(root / "b" / f"{i:02d}.webp", 100 + i)
    return root


@pytest.fixture
def split(tmp_path):
    """DIR/SPLIT/CLASS/*, with three splits."""
    root = tmp_path / "split"
    for folder, first in (("train", 0), ("validation", 50), ("test", 80)):
        for i in range(4):
            save(root / folder / "cat" / f"{i}.png", first + i)
            save(root / folder / "dog" / f"{i}.jpg", first + 100 + i)
    return root


def config(root, **changes):
    return Dataset(name="folder", path=str(root), **changes)


def test_splits_classes_and_pixels_are_those_of_the_folder(split):
    data = load(config(split))
    info = data.info
    assert info.class_names == ("cat", "dog")
    assert info.image_shape == (5, 6, 3)
    assert info.sizes == {"train": 8, "validation": 8, "test": 8}
    assert info.class_counts["validation"] == (4, 4)
    assert list(data.splits) == ["train", "validation", "test"]
    for part in data.splits.values():
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == np.int32
        for image, label, name in zip(part.images, part.labels, part.ids, strict=True):
            with Image.open(split / name) as stored:
                np.testing.assert_array_equal(image, np.asarray(stored))
            assert info.class_names[label] == Path(name).parent.name


def test_no_path_is_asked_for_in_one_line():
    with pytest.raises(UsageError) as caught:
        load(Dataset(name="folder"))
    assert caught.value.for_command_line == "--dataset.name=folder needs --dataset.path=DIR"


def test_val_is_validation_and_test_may_be_absent(split):
    (split / "validation").rename(split / "val")
    (split / "test").rename(split.parent / "elsewhere")
    assert load(config(split)).info.sizes == {"train": 8, "validation": 8}


def test_a_flat_folder_is_split_by_fractions_without_overlap(flat):
    data = load(config(flat, validation_fraction=0.2, test_fraction=0.1))
    assert data.info.sizes == {"train": 21, "validation": 6, "test": 3}
    assert data.info.class_counts["validation"] == (4, 2)
    ids = [name for part in data.splits.values() for name in part.ids]
    assert len(set(ids)) == 30
    assert sum("held out" in note for note in data.info.notes) == 2
    again = load(config(flat, validation_fraction=0.2, test_fraction=0.1))
    assert again.info == data.info
    assert load(config(flat, test_fraction=0.0)).info.sizes == {"train": 27, "validation": 3}


def test_the_same_images_are_held_out_when_the_folder_moves(flat, tmp_path):
    before = load(config(flat))
    flat.rename(tmp_path / "moved")
    after = load(config(tmp_path / "moved"))
    assert after.info == before.info
    assert list(after.splits["validation"].ids) == list(before.splits["validation"].ids)


def test_images_are_resized_and_turned_to_rgb(flat):
    save(flat / "a" / "grey.png", 7, (30, 20), "L")
    save(flat / "b" / "clear.png", 7, (3, 2), "RGBA")
    assert load(config(flat, image_size=8)).info.image_shape == (8, 8, 3)


def test_various_sizes_need_a_size(flat):
    save(flat / "a" / "other.png", 7, (30, 20))
    with pytest.raises(RunError, match=r"5x6.*20x30.*dataset.image_size"):
        load(config(flat))


def test_sizes_that_differ_between_splits_need_a_size(split):
    for path in (split / "test").glob("*/*"):
        save(path, 1, (9, 9))
    with pytest.raises(RunError, match=r"5x6.*9x9.*dataset.image_size"):
        load(config(split))


BAD = {
    "truncated.jpg": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "empty.png": lambda path: path.write_bytes(b""),
    "text.txt": lambda path: path.write_text("not an image"),
    "broken.png": lambda path: (path.unlink(), path.symlink_to(path.parent / "absent.png")),
    "pipe.png": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_and_refused_or_skipped(split, name):
    path = split / "train" / "cat" / name
    save(path.with_suffix(".jpg"), 9)
    if path.suffix != ".jpg":
        path.with_suffix(".jpg").rename(path)
    BAD[name](path)
    with pytest.raises(RunError, match=f"{name}: .*dataset.on_error=skip") as caught:
        load(config(split))
    assert "\n" not in str(caught.value)
    data = load(config(split, on_error="skip"))
    assert data.info.sizes["train"] == 8
    assert any(str(path) in note for note in data.info.notes)
    assert any("skipped 1 " in note for note in data.info.notes)
    for image, label in zip(data.splits["train"].images, data.splits["train"].labels, strict=True):
        assert (image.mean() >= 90) == (label == 1)  # labels follow their images


def test_the_first_bad_file_is_named_and_the_others_counted(split):
    for i in range(3):
        (split / "train" / "dog" / f"bad{i}.png").write_bytes(b"x")
    with pytest.raises(RunError, match=r"bad0.png: .*and 2 more"):
        load(config(split))


def test_a_file_mended_or_added_is_seen(split):
    before = load(config(split))
    save(split / "train" / "cat" / "0.png", 222)
    after = load(config(split))
    assert after.info.digest != before.info.digest
    save(split / "train" / "cat" / "new.png", 1)
    assert load(config(split)).info.sizes["train"] == 9


def test_hidden_files_and_litter_are_passed_over(split):
    for name in (".DS_Store", "Thumbs.db", ".hidden.png"):
        (split / "train" / "cat" / name).write_bytes(b"x")
        (split / name).write_bytes(b"x")
    (split / ".git").mkdir()
    data = load(config(split))
    assert data.info.sizes["train"] == 8
    assert data.info.notes == ()


def test_what_is_in_no_class_folder_is_noted(split):
    (split / "README.txt").write_text("about")
    (split / "train" / "labels.csv").write_text("a,b")
    (split / "extra" / "cat").mkdir(parents=True)
    notes = "\n".join(load(config(split)).info.notes)
    for name in ("README.txt", "labels.csv", "extra"):
        assert name in notes


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def test_an_empty_class_folder(split):
    empty(split / "train" / "dog")
    save(split / "train" / "bird" / "0.png", 1)
    save(split / "validation" / "bird" / "0.png", 1)
    save(split / "test" / "bird" / "0.png", 1)
    for folder in ("validation", "test"):
        empty(split / folder / "dog")
    with pytest.raises(RunError, match=r"train/dog has no images.*on_error=skip"):
        load(config(split))
    data = load(config(split, on_error="skip"))
    assert data.info.class_names == ("bird", "cat")
    assert any("train/dog has no images" in note for note in data.info.notes)


def test_a_class_that_validation_lacks(split):
    empty(split / "validation" / "dog")
    (split / "validation" / "dog").rmdir()
    with pytest.raises(RunError, match=r"validation lacks the class 'dog'.*on_error=skip"):
        load(config(split))
    data = load(config(split, on_error="skip"))
    assert data.info.class_counts["validation"] == (4, 0)
    assert any("lacks the class 'dog'" in note for note in data.info.notes)


def test_a_class_that_train_lacks_is_refused(split):
    save(split / "validation" / "bird" / "0.png", 1)
    with pytest.raises(RunError, match=r"validation/bird .* does not have"):
        load(config(split, on_error="skip"))


def test_a_class_whose_images_are_all_bad_is_refused(split):
    for path in (split / "train" / "dog").iterdir():
        path.write_bytes(b"x")
    with pytest.raises(RunError, match="nothing is left to train on of the class 'dog'"):
        load(config(split, on_error="skip"))


def test_no_image_that_can_be_read(flat):
    for path in flat.glob("*/*"):
        path.write_bytes(b"x")
    with pytest.raises(RunError, match="none of its 30 images can be read"):
        load(config(flat, on_error="skip"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "does not exist"),
        (lambda root: root.write_text("x"), "is not a folder"),
        (lambda root: root.mkdir(), "no folders of images"),
        (lambda root: save(root / "a.png", 1), "no folders of images"),
        (lambda root: save(root / "only" / "a.png", 1), "only class with images is 'only'"),
        (lambda root: (root / "a").mkdir(parents=True) or (root / "b").mkdir(), "has no images"),
        (lambda root: save(root / "validation" / "a" / "a.png", 1), "no train"),
        (lambda root: (root / "train").mkdir(parents=True), "has no class folders"),
        (lambda root: save(root / "a" / "deeper" / "a.png", 1), "folder inside the class folder"),
    ],
)
def test_other_layouts_are_refused_in_one_line(tmp_path, make, message):
    make(tmp_path / "root")
    with pytest.raises(RunError, match=message) as caught:
        load(config(tmp_path / "root"))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "root") in str(caught.value)


def test_both_names_of_validation_are_refused(split):
    save(split / "val" / "cat" / "0.png", 1)
    with pytest.raises(RunError, match="both val"):
        load(config(split))


def test_links_within_the_folder_are_followed(split):
    (split / "train" / "cat" / "z.png").symlink_to(split / "train" / "cat" / "0.png")
    assert load(config(split)).info.sizes["train"] == 9


def test_train_examples_are_a_fixed_nested_subset(flat):
    sizes = (2, 7, 14)
    parts = [load(config(flat, train_examples=n)) for n in sizes]
    ids = [set(part.splits["train"].ids) for part in parts]
    assert [len(i) for i in ids] == list(sizes)
    assert ids[0] <= ids[1] <= ids[2]
    assert parts[0].info.class_counts["train"] == (1, 1)
    held = [part.splits["validation"].ids for part in parts]
    assert held[0] == held[1] == held[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_examples": 1}, "less than one for each of the 2 classes"),
        ({"train_examples": 500}, "but there are 24"),
        ({"validation_split": "dev"}, "only the splits train"),
        ({"validation_fraction": 0.6, "test_fraction": 0.39}, "leaves none"),
    ],
)
def test_settings_that_do_not_fit_the_data(tmp_path, changes, message):
    for i in range(15):
        save(tmp_path / "few" / "a" / f"{i}.png", i)
        save(tmp_path / "few" / "b" / f"{i}.png", i)
    if "leaves" in message:
        for path in [*(tmp_path / "few").glob("*/*")]:
            if path.stem not in ("0", "1"):
                path.unlink()
    with pytest.raises(UsageError, match=message):
        load(config(tmp_path / "few", **changes))


def test_holding_out_every_image_of_a_class_is_refused(flat):
    for path in (flat / "b").iterdir():
        if path.stem != "00":
            path.unlink()
    with pytest.raises(RunError, match="nothing is left to train on of the class 'b'"):
        load(config(flat, validation_fraction=0.9, test_fraction=0.0))


def test_validating_on_test_keeps_both_and_says_so(split):
    data = load(config(split, validation_split="test"))
    assert data.splits["validation"] is data.splits["test"]
    assert set(data.splits["test"].ids) == {p for p in data.splits["test"].ids if p[:4] == "test"}
    assert any("'test'" in note for note in data.info.notes)
    assert any("not used: the split validation" in note for note in data.info.notes)
