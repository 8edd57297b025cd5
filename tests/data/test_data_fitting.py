"""Images of another aspect than the network's: squashed, cropped or padded, everywhere alike."""

import io
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

import cnn_jax
from cnn_jax import data, experiment
from cnn_jax.data import fitting, images, outside, reading, splits
from cnn_jax.errors import UsageError
from cnn_jax.pretrained import catalogue
from cnn_jax.sections import Dataset
from cnn_jax.training import opening

WAYS = get_args(fitting.Resize)


def encode(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def photograph(height, width):
    """A smooth image, whose three channels differ."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    waves = [np.sin(x / 17 + k) + np.cos(y / (11 + k)) for k in range(3)]
    return np.round(np.stack(waves, -1) * 60 + 128).astype(np.uint8)


def test_the_setting_and_the_module_know_the_same_ways():
    field = next(f for path, f in experiment.fields() if path == "dataset.resize")
    assert get_args(field.type) == WAYS
    assert field.default == "squash"


@pytest.mark.parametrize(("height", "width"), [(40, 100), (100, 40), (64, 64)])
def test_a_crop_is_the_middle_of_the_image_with_its_short_side_scaled(height, width):
    """As torchvision's Resize(size) and CenterCrop(size), where the scale leaves whole pixels."""
    image = photograph(height, width)
    found = images.read_image(encode(image), 20, resize="crop")
    short = min(height, width)
    whole = Image.fromarray(image).resize(
        (width * 20 // short, height * 20 // short), Image.Resampling.BILINEAR
    )
    left, top = ((side - 20) // 2 for side in whole.size)
    reference = np.asarray(whole)[top : top + 20, left : left + 20]
    assert np.abs(found[2:-2, 2:-2].astype(int) - reference[2:-2, 2:-2]).max() <= 1
    # At the rim nothing outside of the crop is mixed in.
    assert np.abs(found.astype(int) - reference).max() <= 8


@pytest.mark.parametrize("how", ["pad", "pad_mean"])
def test_padding_keeps_the_whole_image_and_its_aspect(how):
    image = photograph(30, 90)
    found = images.read_image(encode(image), 45, resize=how)
    inner = np.asarray(Image.fromarray(image).resize((45, 15), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(found[15:30], inner)
    fill = np.round(inner.mean(axis=(0, 1))) if how == "pad_mean" else np.zeros(3)
    for rows in (found[:15], found[30:]):
        np.testing.assert_array_equal(rows, np.broadcast_to(fill, rows.shape))
    grey = images.read_image(encode(image[..., 0]), 45, 1, resize=how)
    assert grey.shape == (45, 45, 1)
    np.testing.assert_array_equal(grey[20, :, 0], found[20, :, 0])


@pytest.mark.parametrize("how", WAYS)
def test_a_square_image_is_resized_the_same_in_every_way(how):
    data = encode(photograph(33, 33))
    np.testing.assert_array_equal(
        images.read_image(data, 16, resize=how), images.read_image(data, 16)
    )


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright_before_it_is_cropped_or_padded(how, orientation):
    upright = photograph(61, 100)
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = Image.fromarray(upright)
    stored = stored if undo is None else stored.transpose(undo)
    exif = Image.Exif()
    exif[274] = orientation
    turned = images.read_image(encode(np.asarray(stored), exif=exif), (20, 33), resize=how)
    expected = images.read_image(encode(upright), (20, 33), resize=how)
    assert np.abs(turned.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("how", ["crop", "pad"])
def test_large_jpegs_decoded_at_reduced_size_are_fitted_as_the_full_decode(how):
    data = encode(photograph(611, 903), "JPEG", quality=95)
    full = images.read_image(encode(images.read_image(data)), 48, resize=how)
    found = images.read_image(data, 48, resize=how)
    assert np.abs(found.astype(int) - full).mean() < 1


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (1, 1), (7, 5)])
@pytest.mark.parametrize("size", [1, 3, (64, 3)])
def test_extreme_shapes_are_fitted(how, shape, size):
    height, width = (size, size) if isinstance(size, int) else size
    found = images.read_image(encode(photograph(*shape)), size, resize=how)
    assert found.shape == (height, width, 3)


@pytest.fixture
def folder(tmp_path):
    """A folder whose classes are the colour of the middle; the sides are white."""
    for name, middle in (("dark", 0), ("grey", 128)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(6):
            wide = np.full((8, 24, 3), 255, np.uint8)
            wide[:, 8:16] = middle + i
            wide[0, 0] = i, 0, 0  # not grey
            (tmp_path / "photos" / name / f"{i}.png").write_bytes(encode(wide))
    return tmp_path / "photos"


def load(path, **settings):
    return data.load(Dataset(name="folder", path=str(path), image_size=8, **settings), quiet=True)


def test_every_source_is_fitted_as_the_setting_says(folder, tmp_path):
    cropped, squashed = load(folder, resize="crop"), load(folder)
    assert cropped.train.images.max() <= 128 + 5
    assert squashed.train.images.max() == 255  # and the cache of the one is not that of the other
    assert (cropped.info.resize, squashed.info.resize) == ("crop", "squash")

    table = tmp_path / "photos" / "labels.csv"
    rows = [f"{p.parent.name}/{p.name},{p.parent.name}" for p in sorted(folder.glob("*/*.png"))]
    table.write_text("\n".join(["path,label", *rows]))
    section = Dataset(name="table", path=str(table), image_size=8, resize="crop")
    same = data.load(section, quiet=True)
    assert same.train.images.max() <= 128 + 5

    arrays = np.stack([images.read_image(p) for p in sorted(folder.glob("*/*.png"))])
    np.savez(tmp_path / "x.npz", images=arrays, labels=np.arange(12) // 6)
    section = Dataset(name="npz", path=str(tmp_path / "x.npz"), image_size=8, resize="crop")
    from_npz = data.load(section, quiet=True)
    assert from_npz.info.digest  # and its images are those of the files, cropped
    np.testing.assert_array_equal(
        reading.resize(arrays, 8, "crop"),
        np.stack([images.read_image(p, 8, resize="crop") for p in sorted(folder.glob("*/*.png"))]),
    )
    paths = sorted(folder.glob("*/*.png"))
    np.testing.assert_array_equal(
        cnn_jax.read_images(paths, 8, resize="crop"), reading.resize(arrays, 8, "crop")
    )
    with pytest.raises(UsageError, match="resize is one of squash, crop, pad, pad_mean"):
        cnn_jax.read_images(paths, 8, resize="stretch")


def test_what_others_see_is_fitted_as_the_data_of_training_were(folder):
    """data.json says it; images from elsewhere and those of predict follow it."""
    info = load(folder, resize="crop").info
    kept = splits.DataInfo.from_dict(info.to_dict())
    assert kept.resize == "crop"
    assert images.like(kept).resize == "crop"
    elsewhere = Dataset(name="folder", path=str(folder))  # says nothing, so squash
    split, _ = outside.load(elsewhere, kept, quiet=True)
    assert split.images.max() <= 128 + 5
    described = info.to_dict()
    del described["resize"]
    assert splits.DataInfo.from_dict(described).resize == "squash"


def test_a_run_says_where_its_weights_were_evaluated_on_another_aspect():
    def said(model="vgg16", weights="imagenet", **settings):
        config = experiment.Experiment().replace(
            {"model.name": model, "transfer.weights": weights, **settings}
        )
        known = catalogue.find(model).evaluated if weights == "imagenet" else None
        return opening._aspect(config, known)

    folder = {"dataset.name": "folder", "dataset.path": "x"}
    published = "87.5% of the short side, resized by crop; here it is 100.0%, by"
    assert f"{published} squash" in said(**folder)[0]
    folder |= {"dataset.resize": "crop"}
    assert f"{published} crop (--dataset.crop_share" in said(**folder)[0]
    cropped: dict[str, Any] = {**folder, "dataset.crop_share": 0.875}
    assert said(**cropped) == []
    folder.pop("dataset.resize")
    assert said("inception_v3", **folder) == []
    assert said(weights="file.h5", **folder) == []
    assert said() == []  # of other data the aspect is what it is


@pytest.mark.parametrize(("height", "width"), [(384, 504), (576, 384), (256, 288)])
def test_a_crop_of_a_share_is_the_usual_one_of_imagenet(height, width):
    """As torchvision's Resize(64) and CenterCrop(56), where the scale leaves whole pixels."""
    pixels = photograph(height, width)
    found = images.read_image(encode(pixels), 56, resize="crop")
    how = images.Decoding(56, resize="crop", crop_share=0.875)
    shared = images.decode(encode(pixels), how).pixels
    scale = 64 / min(height, width)
    size = round(width * scale), round(height * scale)
    short = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - 56) // 2, (size[1] - 56) // 2
    expected = np.asarray(short.crop((left, top, left + 56, top + 56))).astype(int)
    assert abs(shared - expected).mean() < 1
    assert abs(found - expected).mean() > 3
    with pytest.raises(UsageError, match=r"crop_share=0\.875 needs"):
        experiment.Experiment(dataset=Dataset(crop_share=0.875))
