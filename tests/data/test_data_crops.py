"""Random parts of images, and how parts of JPEGs are decoded fast."""

import io

import numpy as np
import pytest
from PIL import Image

from cnn_jax.data import crops, images, libturbojpeg, turbo
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


@pytest.fixture(params=["whole", "region"])
def way(request, monkeypatch):
    """Both ways of decoding: whole images by simplejpeg, and the part alone by libjpeg-turbo."""
    if request.param == "whole":
        monkeypatch.setattr(libturbojpeg, "library", lambda: None)
    elif libturbojpeg.library() is None:
        pytest.skip("there is no libturbojpeg 3 here")


def frame(data):
    """Returns what the header of a JPEG says, of one that has such a header."""
    about = turbo.frame(data)
    assert about is not None
    return about


def decoded(data, part, size=48):
    """Returns a part by the fast way, or None."""
    out = np.empty((size, size, 3), np.uint8)
    return out if turbo.decode_part(data, frame(data), part, (size, size), 1e9, out) else None


@needs_turbo
@pytest.mark.parametrize("size", [(150, 110), (60, 40), (420, 333), (900, 700)])
def test_fast_parts_are_those_of_pillow(size, way):
    data = jpeg(photograph(*size))
    for i in range(12):
        part = crops.RandomPart(0, 0, i, 0, 0.08)
        off = abs(
            np.asarray(decoded(data, part)).astype(int)
            - images.decode(data, HOW, None, part).pixels
        )
        assert off.mean() < 1.5
        assert off.max() <= 16


@needs_turbo
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0", "grey"])
def test_a_part_that_is_decoded_alone_has_the_bits_of_a_whole_decode(
    sampling, progressive, monkeypatch
):
    if libturbojpeg.library() is None:
        pytest.skip("there is no libturbojpeg 3 here")
    random = np.random.default_rng(1)
    for width, height in ((97, 61), (203, 151), (512, 384)):
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        image = Image.blend(photograph(width, height), Image.fromarray(pixels), 0.3)
        if sampling == "grey":
            data = jpeg(image.convert("L"), progressive=progressive)
        else:
            data = jpeg(image, progressive=progressive, subsampling=sampling)
        for size in (8, 48):  # at 8 pixels the image is reduced while it is decoded
            parts = [crops.RandomPart(0, 0, i, 0, 0.02) for i in range(25)]
            alone = [decoded(data, part, size) for part in parts]
            with monkeypatch.context() as patch:
                patch.setattr(libturbojpeg, "library", lambda: None)
                whole = [decoded(data, part, size) for part in parts]
            np.testing.assert_array_equal(alone, whole)


@needs_turbo
def test_rows_below_a_part_are_left_out_and_change_nothing(monkeypatch, way):
    data = jpeg(photograph(160, 200))

    def part(width, height):
        return 10, 5, 100, 60

    found = [decoded(data, part)]
    with monkeypatch.context() as patch:
        patch.setattr(turbo, "_ended", lambda *_: None)
        found.append(decoded(data, part))
    assert found[0] is not None
    np.testing.assert_array_equal(found[0], found[1])
    assert turbo._ended(data, frame(data), 96) is not None
    cut = data[:-40]
    assert turbo._ended(cut, frame(cut), 96) is None  # Pillow is to say that it was cut off
    progressive = jpeg(photograph(160, 200), progressive=True)
    assert turbo._ended(progressive, frame(progressive), 96) is None


@needs_turbo
def test_damaged_jpegs_neither_crash_nor_pass_for_sound_ones(way):
    """Bytes are overwritten and cut off at random: what is decoded is all of a part, or nothing."""
    random, data = np.random.default_rng(0), jpeg(photograph(200, 150))
    part = crops.RandomPart(0, 0, 1, 0, 0.2)
    results = set()
    for _ in range(300):
        damaged = bytearray(data)
        for place in random.integers(2, len(data), random.integers(1, 6)):
            damaged[place] = random.integers(256)
        end = random.integers(100, len(data)) if random.random() < 0.3 else len(data)
        damaged = bytes(damaged[:end])
        about = turbo.frame(damaged)
        if about is None or about.width * about.height > 1e6:
            continue
        found = decoded(damaged, part)
        results.add(found is None)
        assert found is None or found.shape == (48, 48, 3)
    assert results == {True, False}
    for cut in (data[:-40], data[: len(data) // 2]):
        assert decoded(cut, lambda w, h: (0, 0, w, h)) is None


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
