"""The report on a data set: what it says, writes and draws."""

import json
import re

import numpy as np
import pytest
from PIL import Image

import cnn_jax
from cnn_jax.data import Split, from_arrays
from cnn_jax.errors import UsageError
from cnn_jax.inspection import facts, pictures

RNG = np.random.default_rng(0)


def photograph(path, width, height, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    small = RNG.integers(256, size=(6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    picture.convert(mode).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two splits of two classes, among them a wide image, a grey one, a constant one, a copy."""
    root = tmp_path / "photos"
    for split in ("train", "validation"):
        for name in ("cat", "dog"):
            for i in range(5):
                photograph(root / split / name / f"{i}.png", 40, 30)
    photograph(root / "train/cat/wide.png", 90, 30)
    photograph(root / "train/dog/grey.png", 40, 30, "L")
    Image.new("RGB", (40, 30), (9, 200, 7)).save(root / "validation/dog/plain.png")
    with Image.open(root / "train/cat/0.png") as image:
        bright = image.crop((1, 1, 40, 30)).point(lambda value: 30 + 0.7 * value)
    bright.save(root / "validation/dog/copy.png")
    return root


def test_a_report_says_what_is_wrong_with_the_data(folder, tmp_path):
    report = cnn_jax.inspect(cnn_jax.from_folder(folder, image_size=32))
    said = str(report)
    assert "train/cat/wide.png 90 x 30" in said
    assert "1 of 12 images of train have three equal channels; most of them dog" in said
    assert "1 image of validation of one colour: validation/dog/plain.png" in said
    assert "1 of 12 images of validation (8.33%) have a nearly equal one in train" in said
    assert "1 nearly equal pair in two classes" in said
    assert repr(report) == (
        "<DataReport on folder: train 12, validation 12; 1 nearly equal pair across splits>"
    )
    (pair,) = report.across_splits
    assert {pair.one.id, pair.other.id} == {"train/cat/0.png", "validation/dog/copy.png"}
    assert report.originals is not None
    assert report.originals.widths == (39, 40, 90)
    assert report.originals.modes == {"RGB": 23, "L": 1}

    written = report.save(tmp_path / "out")
    names = ["data_report.json", "near_across_splits.png", "near_across_classes.png", "resized.png"]
    assert [path.name for path in written] == names
    stored = json.loads(written[0].read_text())
    assert stored["near"]["pairs"][0]["other"]["id"] == "validation/dog/copy.png"
    assert stored["splits"]["validation"]["class_counts"] == {"cat": 5, "dog": 7}
    assert stored["originals"]["odd"][0]["id"] == "train/cat/wide.png"
    for path in written[1:]:
        with Image.open(path) as image:
            assert np.asarray(image.convert("L")).std() > 5

    # Where nothing is wrong any more, no picture of an earlier state stays.
    (folder / "validation/dog/copy.png").unlink()
    again = cnn_jax.inspect(cnn_jax.from_folder(folder, image_size=32)).save(tmp_path / "out")
    assert [path.name for path in again] == ["data_report.json", "resized.png"]
    assert not (tmp_path / "out/near_across_splits.png").exists()


def test_facts_are_those_of_numpy():
    images = RNG.integers(256, size=(700, 9, 7, 3), dtype=np.uint8)
    images[3] = images[3, 0, 0]
    images[5] = images[5, :, :, :1]
    split = Split(images, RNG.integers(3, size=700), [f"x{i}" for i in range(700)])
    found = facts.of_split("train", split, 4)
    np.testing.assert_allclose(found.mean, images.mean(axis=(0, 1, 2)) / 255)
    np.testing.assert_allclose(found.std, images.std(axis=(0, 1, 2)) / 255)
    assert [member.id for member in found.constant] == ["x3"]
    assert found.grey[split.labels[5]] >= 1
    assert sum(found.grey) == 1 + (np.ptp(images[3, 0, 0]) <= 2)
    assert found.class_counts == (*np.bincount(split.labels, minlength=4),)
    assert found.ratio is None


def test_arrays_of_floats_have_a_report():
    images = RNG.normal(size=(60, 16, 16, 1)).astype(np.float32)
    images[50] = images[0]
    labels = np.arange(60) % 2
    data = from_arrays(images[:50], labels[:50], validation=(images[50:], labels[50:]))
    report = cnn_jax.inspect(data)
    assert report.originals is None
    assert [pair.positions for pair in report.across_splits] == [(0, 0)]
    assert "1 group of equal images" in str(report)


def test_something_else_is_refused():
    with pytest.raises(UsageError, match="give data, such as"):
        cnn_jax.inspect(np.zeros((3, 8, 8, 3)))  # pyright: ignore[reportArgumentType]


def test_the_command_prints_and_writes_the_report(main, tmp_path, capsys):
    assert main("data", "--config=digits_lenet", "--dataset.image_size=none") == 0
    said = capsys.readouterr().out
    assert "not looked for: no side has 16 pixels" in said
    assert (tmp_path / "data_report/digits/data_report.json").exists()
    assert main("data", "--config=digits_lenet", "--output=a.png") == 2
    assert "--output of data is a directory" in capsys.readouterr().err


def test_augmented_images_are_those_that_the_step_makes(main, digits, tmp_path, capsys):
    arguments = ("--config=digits_lenet", "--dataset.image_size=none", "--output=x")
    assert main("data", "--augmented", "--dataset.cutout=3", *arguments) == 0
    assert (tmp_path / "x/augmented.png").exists()
    assert not (tmp_path / "x/data_report.json").exists()
    assert main("data", "--augmented", *arguments) == 0
    assert "no augmentation is on" in capsys.readouterr().out
    config = cnn_jax.Experiment().replace({"dataset.cutout": 3})
    drawn = pictures.augmented(config, digits)
    assert any("25 of 25 images are changed" in t.get_text() for t in drawn.axes[0].texts)
    drawn = pictures.augmented(cnn_jax.Experiment().replace({"dataset.mixup": 1.0}), digits)
    mixed = [re.findall(r"(\d+)% \d", t.get_text()) for t in drawn.axes[0].texts]
    assert sum(len(shares) == 2 and sum(map(int, shares)) in (99, 100, 101) for shares in mixed) > 9
