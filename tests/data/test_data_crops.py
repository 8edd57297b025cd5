"""Random parts of images, and how parts of JPEGs are decoded fast."""

import io

import numpy as np
import pytest
from PIL import Image

from cnn_jax.data import crops, images, turbo
from cnn_jax.data.images import Decoding, ImageError
from cnn_jax.data.records import Files
from cnn_jax.data.streamed import Reader

HOW = Decoding(48)
needs_turbo = pytest.mark.skipif(not turbo.AVAILABLE, reason="the jpeg extra is not installed")


def photograph(width, height, seed=0):
    """Returns a smooth image in colour, as photographs are."""
    noise = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def test_a_part_is_a_pure_function_inside_the_image_of_the_areas_and_aspects_asked_for():
    found = [crops.RandomPart(1, 2, i, 0, 0.1)(500, 375) for i in range(4000)]
    assert found == [crops.RandomPart(1, 2, i, 0, 0.1)(500, 375) for i in range(4000)]
    for other in ((2, 2, 5, 0), (1, 3, 5, 0), (1, 2, 6, 0), (1, 2, 5, 1)):
        assert crops.RandomPart(*other, 0.1)(500, 375) != found[5]
    left, top, wide, tall = np.array(found).T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (left + wide <= 500).all()
    assert (top + tall <= 375).all()
    area, aspect = wide * tall / (500 * 375), wide / tall
    assert area.min() > 0.09
    assert aspect.min() > 0.74
    assert aspect.max() < 1.36
    # Of the draws that fit: uniform areas up to where the first aspects no longer fit.
    small = np.histogram(area, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])[0]
    assert abs(small / small.mean() - 1).max() < 0.15
    places = left / np.maximum(500 - wide, 1)
    assert abs(np.mean(places) - 0.5) < 0.02


def test_no_draw_fits_a_narrow_image_and_its_middle_is_taken():
    assert crops.RandomPart(0, 0, 0, 0, 0.9)(1000, 30) == (480, 0, 40, 30)
    assert crops.RandomPart(0, 0, 0, 0, 0.9)(1, 1) == (0, 0, 1, 1)


@needs_turbo
@pytest.mark.parametrize("size", [(150, 110), (60, 40), (420, 333), (900, 700)])
def test_fast_parts_are_those_of_pillow(size):
    data, out = jpeg(photograph(*size)), np.empty((48, 48, 3), np.uint8)
    for i in range(12):
        part = crops.RandomPart(0, 0, i, 0, 0.08)
        assert turbo.decode_part(data, part, (48, 48), 1e9, out)
        off = abs(out.astype(int) - images.decode(data, HOW, None, part).pixels)
        assert off.mean() < 1.5
        assert off.max() <= 16


@needs_turbo
def test_rows_below_a_part_are_left_out_and_change_nothing(monkeypatch):
    data = jpeg(photograph(160, 200))

    def part(width, height):
        return 10, 5, 100, 60

    found = []
    for ended in (turbo._ended, lambda *_: None):
        monkeypatch.setattr(turbo, "_ended", ended)
        out = np.zeros((48, 48, 3), np.uint8)
        assert turbo.decode_part(data, part, (48, 48), 1e9, out)
        found.append(out)
    np.testing.assert_array_equal(*found)
    monkeypatch.undo()
    assert turbo._ended(data, 200, 96) is not None
    assert turbo._ended(data[:-40], 200, 96) is None  # it was cut off: Pillow is to say so
    assert turbo._ended(jpeg(photograph(160, 200), progressive=True), 200, 96) is None


def test_whatever_holds_the_image_a_part_is_taken_upright():
    """Turned JPEGs, CMYK, PNG and grey ones: each the part of the upright image in colour."""
    image = photograph(120, 90)
    turned = Image.Exif()
    turned[0x0112] = 6
    stored = image.transpose(Image.Transpose.ROTATE_90)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    kinds = {
        "turned": jpeg(stored, exif=turned),
        "upright, with EXIF": jpeg(image, exif=Image.Exif()),
        "CMYK": jpeg(image.convert("CMYK")),
        "PNG": buffer.getvalue(),
    }
    part = crops.RandomPart(0, 0, 3, 0, 0.2)
    left, top, wide, tall = part(120, 90)
    cut = image.crop((left, top, left + wide, top + tall))
    expected = np.asarray(cut.resize((48, 48), Image.Resampling.BILINEAR)).astype(int)
    reader = Reader(Files.of([]), HOW, 0.2)
    for kind, data in kinds.items():
        out = np.zeros((48, 48, 3), np.uint8)
        assert reader.into(kind, data, out, part) is None
        assert abs(out - expected).mean() < 4, kind
    out = np.zeros((48, 48, 1), np.uint8)
    grey = Reader(Files.of([]), Decoding(48, 1), 0.2)
    assert grey.into("grey", kinds["PNG"], out, part) is None
    luma = np.asarray(Image.fromarray(expected.astype(np.uint8)).convert("L")).astype(int)
    assert abs(out[..., 0] - luma).mean() < 1


def test_a_damaged_image_is_named_with_the_reason():
    data = jpeg(photograph(200, 150))
    reader, out = Reader(Files.of([]), HOW, 0.2), np.zeros((48, 48, 3), np.uint8)
    part = crops.RandomPart(0, 0, 3, 0, 0.2)
    assert "truncated" in str(reader.into("x", data[:900], out, part))
    assert reader.into("x", b"", out, part) == "the file is empty"
    with pytest.raises(ImageError, match="truncated"):
        images.decode(data[:900], HOW, "x", part)
