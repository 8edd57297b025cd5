"""One channel where all images are grey, three where one is not, and as many again later."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

import cnn_jax
from cnn_jax import data
from cnn_jax.data import grey, images, outside
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Dataset, Experiment, from_dict, to_dict
from cnn_jax.runs import changes
from cnn_jax.runs.directory import RunDirectory


@pytest.fixture
def folder(tmp_path):
    """Returns a function that writes images of two classes, the last one perhaps coloured."""

    def make(mode="L", coloured=False):
        for name in ("a", "b"):
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            for i in range(10):
                pixels = np.random.default_rng([i, ord(name)]).integers(
                    256, size=(6, 6), dtype="u1"
                )
                image = Image.fromarray(pixels).convert(mode)
                if coloured and name == "b" and i == 9:
                    image = image.convert("RGB")
                    image.putpixel((0, 0), (1, 2, 3))
                image.save(tmp_path / "photos" / name / f"{i}.png")
        return Dataset(name="folder", path=str(tmp_path / "photos"))

    return make


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "LA"])
def test_grey_images_have_one_channel_however_they_are_stored(folder, mode):
    info = data.load(folder(mode), quiet=True).info
    assert info.image_shape == (6, 6, 1)
    assert [note for note in info.notes if "all images are grey" in note]


def test_one_coloured_image_makes_three_channels(folder):
    info = data.load(folder(coloured=True), quiet=True).info
    assert info.image_shape == (6, 6, 3)
    assert not [note for note in info.notes if "grey" in note]


def test_the_setting_decides_where_it_is_given(folder):
    section = dataclasses.replace(folder(), channels="3")
    three = data.load(section, quiet=True)
    assert three.info.image_shape == (6, 6, 3)
    assert (three.train.images == three.train.images[..., :1]).all()
    one = data.load(dataclasses.replace(folder(coloured=True), channels="1"), quiet=True)
    assert one.info.image_shape == (6, 6, 1)


def test_the_test_images_decide_nothing(folder, tmp_path):
    """Else training, which does not open them, and evaluation would see other channels."""
    section = folder()
    for split in ("train", "validation", "test"):
        (tmp_path / "all" / split).mkdir(parents=True)
        for name in ("a", "b"):
            (tmp_path / "photos" / name).rename(tmp_path / "all" / split / name)
        folder(coloured=split == "validation")
    section = Dataset(name="folder", path=str(tmp_path / "all"))  # only test has a coloured image
    for test in (False, True):
        found = data.load(section, test=test, quiet=True, every_class=False)
        assert found.info.image_shape == (6, 6, 1)


def test_weights_say_how_many_channels_they_want(folder, tmp_path):
    section = folder()
    assert changes.load_data(None, section, quiet=True).info.image_shape[-1] == 1
    for weights in ("imagenet", str(tmp_path / "file.h5")):
        found = changes.load_data(None, section, weights=weights, quiet=True)
        assert found.info.image_shape[-1] == 3
    run = RunDirectory(tmp_path / "run")
    run.create()
    one = data.load(section, quiet=True).info
    run.write("data", one.to_dict())
    found = changes.load_data(None, section, weights=str(run.path), quiet=True)
    assert found.info.image_shape[-1] == 1


def test_grey_arrays_become_colours_for_the_weights_of_imagenet_alone(tmp_path):
    pixels = np.arange(20 * 36).reshape(20, 6, 6) % 256
    np.savez(tmp_path / "x.npz", images=pixels, labels=[0, 1] * 10)
    section = Dataset(name="npz", path=str(tmp_path / "x.npz"))
    for weights, channels in ((None, 1), ("imagenet", 3), (str(tmp_path / "file.h5"), 1)):
        found = changes.load_data(None, section, weights=weights, quiet=True)
        assert found.info.image_shape == (6, 6, channels)


def test_a_run_keeps_the_channels_that_it_was_started_with(folder, tmp_path):
    """Grey images had three channels once; such a run goes on with three."""
    section = folder()
    three = data.load(dataclasses.replace(section, channels="3"), quiet=True).info
    run = RunDirectory(tmp_path / "run")
    run.create()
    run.write("config", to_dict(Experiment(dataset=section)))
    run.write("data", three.to_dict())
    assert changes.load_data(run, section, quiet=True).info.digest == three.digest
    saved = to_dict(Experiment())
    del saved["dataset"]["channels"]
    assert from_dict(saved).dataset.channels == "auto"


def test_what_others_see_has_the_channels_of_the_run(folder, tmp_path):
    info = data.load(folder(), quiet=True).info
    (tmp_path / "other" / "a").mkdir(parents=True)
    Image.new("RGB", (6, 6), (200, 10, 10)).save(tmp_path / "other" / "a" / "red.png")
    elsewhere = Dataset(name="folder", path=str(tmp_path / "other"))
    split, _ = outside.load(elsewhere, info, quiet=True)
    assert split.images.shape == (1, 6, 6, 1)
    assert images.like(info).channels == 1
    np.savez(tmp_path / "x.npz", images=np.full((4, 6, 6, 3), 9, "u1"), labels=[0, 1, 0, 1])
    arrays = Dataset(name="npz", path=str(tmp_path / "x.npz"))
    split, _ = outside.load(arrays, dataclasses.replace(info, class_names=("0", "1")), quiet=True)
    assert split.images.shape == (4, 6, 6, 1)


def test_arrays_are_converted_as_files_are(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(5, 7, 9, 3), dtype="u1")
    converted = grey.as_channels(pixels, 1)
    assert converted is not None
    for one, colours in zip(converted, pixels, strict=True):
        np.testing.assert_array_equal(one[..., 0], Image.fromarray(colours).convert("L"))
    three = grey.as_channels(converted, 3)
    assert three is not None
    assert three.shape == pixels.shape
    assert (three == converted).all()

    np.savez(tmp_path / "x.npz", images=pixels.astype("f4") / 255, labels=[0, 1, 0, 1, 0])
    section = Dataset(name="npz", path=str(tmp_path / "x.npz"), channels="1")
    with pytest.raises(UsageError, match=r"dataset.channels=1: the images of npz are float32"):
        data.load(section, quiet=True)


def test_a_damaged_image_is_named_and_does_not_decide(folder, tmp_path):
    section = folder()
    (tmp_path / "photos" / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n and nonsense")
    with pytest.raises(RunError, match=r"0\.png: cannot be decoded"):
        data.load(section, quiet=True)
    skipping = dataclasses.replace(section, on_error="skip")
    assert data.load(skipping, quiet=True).info.image_shape == (6, 6, 1)


def test_python_says_how_to_load_grey_images_for_weights(folder):
    section = folder()
    found = cnn_jax.from_folder(section.path or "", channels="3")
    assert found.info.image_shape == (6, 6, 3)
