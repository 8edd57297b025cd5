"""Decoding one image."""

import contextlib
import io
import os
import struct
import warnings
import zlib

import jax
import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from cnn_jax.data.images import Decoding, ImageError, decode, read_image
from cnn_jax.errors import RunError

RGB = np.random.default_rng(0).integers(0, 256, (7, 9, 3)).astype(np.uint8)


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        buffer, kind, **options
    )
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_lossless_images_come_back_exactly(tmp_path, kind, options):
    data = encode(RGB, kind, **options)
    (tmp_path / "named.jpg").write_bytes(data)  # what counts is the content
    for source in (data, tmp_path / "named.jpg", str(tmp_path / "named.jpg")):
        image = read_image(source)
        assert image.dtype == np.uint8
        assert image.flags.writeable
        np.testing.assert_array_equal(image, RGB)


def test_jpeg_is_decoded_as_pillow_does():
    data = encode(RGB, "JPEG")
    np.testing.assert_array_equal(read_image(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_and_colour_are_converted_to_the_channels_asked_for(kind):
    grey = encode(RGB[..., 0], kind)
    one, three = read_image(grey, channels=1), read_image(grey, channels=3)
    assert one.shape == (7, 9, 1)
    np.testing.assert_array_equal(three, np.repeat(one, 3, axis=-1))
    luma = read_image(encode(RGB), channels=1)[..., 0]
    np.testing.assert_allclose(luma, RGB @ [0.299, 0.587, 0.114], atol=1)


def test_transparency_is_laid_over_white():
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    rgba[0, 0, 3] = 0
    rgba[0, 1, 3] = 128
    image = read_image(encode(rgba))
    np.testing.assert_array_equal(image[0, 0], [255, 255, 255])
    np.testing.assert_allclose(image[0, 1], RGB[0, 1] * (128 / 255) + 127, atol=1)
    np.testing.assert_array_equal(image[1:], RGB[1:])


def test_palettes_with_and_without_transparency():
    indices = Image.new("P", (2, 1))
    indices.putpalette([10, 20, 30, 40, 50, 60])
    indices.putpixel((1, 0), 1)
    np.testing.assert_array_equal(read_image(encode(indices))[0], [[10, 20, 30], [40, 50, 60]])
    image = read_image(encode(indices, transparency=1))
    np.testing.assert_array_equal(image[0], [[10, 20, 30], [255, 255, 255]])


def test_16_bit_grey_is_scaled_not_clipped():
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    image = read_image(encode(values), channels=1)
    np.testing.assert_array_equal(image[0, :, 0], [0, 1, 128, 255])


def test_cmyk_jpeg_becomes_rgb():
    flat = Image.new("RGB", (16, 16), (200, 100, 50)).convert("CMYK")
    image = read_image(encode(flat, "JPEG", quality=100))
    assert image.shape == (16, 16, 3)
    assert abs(image.astype(int) - [200, 100, 50]).max() < 6


def turned(upright, orientation):
    """What a camera stores of an image beside this EXIF orientation."""
    undo = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270}  # fmt: skip
    return upright.transpose(undo[orientation]) if orientation in undo else upright


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(orientation):
    stored = turned(Image.fromarray(RGB), orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(read_image(encode(stored, exif=exif)), RGB)


@pytest.mark.parametrize("size", [4, 7, 30])
def test_resizing_is_bilinear_with_antialiasing(size):
    image = np.random.default_rng(1).integers(0, 256, (23, 17, 3)).astype(np.uint8)
    reference = jax.image.resize(
        image.astype(np.float32), (size, size, 3), "linear", antialias=True
    )
    np.testing.assert_allclose(read_image(encode(image), size), reference, atol=1.01)


def photograph(height, width):
    """Smooth areas, edges, a fine texture and noise, as a photograph has."""
    rng = np.random.default_rng(2)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8))
    image = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    y, x = np.mgrid[:height, :width]
    image[(y - 0.4 * height) ** 2 + (x - 0.6 * width) ** 2 < (0.2 * height) ** 2] *= 0.3
    image += (12 * np.sin(0.9 * x + 0.5 * y))[..., None] + rng.normal(0, 6, image.shape)
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


def full_decode_resized(data, size):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("shape", [(331, 497), (500, 375), (257, 1023)])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}])
def test_large_jpegs_decoded_at_reduced_size_stay_close_to_the_full_decode(shape, options):
    data = encode(photograph(*shape), "JPEG", quality=90, **options)
    for size in (16, 31, 64):
        error = np.abs(read_image(data, size).astype(int) - full_decode_resized(data, size))
        assert error.mean() < 0.6
        assert error.max() <= 8


@pytest.mark.parametrize("size", [84, 150, 224, 400])
def test_jpegs_less_than_four_times_the_target_are_exactly_the_full_decode_resized(size):
    data = encode(photograph(335, 497), "JPEG")
    np.testing.assert_array_equal(read_image(data, size), full_decode_resized(data, size))


def test_reduced_decoding_is_used(monkeypatch):
    decoded = []
    load = JpegImagePlugin.JpegImageFile.load

    def spy(self):
        decoded.append(self.size)
        return load(self)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", spy)
    data = encode(photograph(331, 497), "JPEG")
    for size, expected in ((83, (497, 331)), (82, (249, 166)), (41, (125, 83)), (9, (63, 42))):
        decoded.clear()
        read_image(data, size)
        assert set(decoded) == {expected}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_resized_photographs_are_upright(orientation, kind):
    upright = photograph(333, 221)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(turned(upright, orientation), kind, exif=exif)
    image = read_image(data, (30, 20))
    reference = np.asarray(upright.resize((20, 30), Image.Resampling.BILINEAR)).astype(int)
    np.testing.assert_allclose(image, reference, atol=1 if kind == "PNG" else 16)
    assert np.abs(image - reference).mean() < 1.5


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_size_is_height_and_width(kind):
    image = read_image(encode(photograph(120, 200), kind), (12, 40))
    assert image.shape == (12, 40, 3)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_large_grey_and_cmyk_jpegs_become_rgb(mode):
    data = encode(photograph(400, 300).convert(mode), "JPEG")
    error = np.abs(read_image(data, 32).astype(int) - full_decode_resized(data, 32))
    assert error.mean() < 0.6
    if mode == "L":
        assert (np.ptp(read_image(data, 32), axis=-1) == 0).all()


def test_a_truncated_large_jpeg_is_refused_at_any_size():
    data = encode(photograph(400, 300), "JPEG")[:-3000]
    for size in (None, 300, 32):
        with pytest.raises(ImageError, match="truncated"):
            read_image(data, size)


def huge_png():
    """A PNG that says it has 40,000 x 40,000 pixels."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am text", "not a PNG, JPEG, WebP, BMP, GIF, TIFF, DICOM or HEIC"),
        (encode(RGB, "JPEG2000"), "a JPEG 2000 image, which is not read; convert it to PNG"),
        (encode(RGB)[:-40], "cannot be decoded"),
        (encode(np.tile(RGB, (20, 20, 1)), "JPEG")[:1500], "cannot be decoded"),
        (encode(RGB, "JPEG")[:10], "cannot be decoded"),
        (huge_png(), "pixels"),
    ],
    ids=["empty", "text", "gif", "truncated-png", "truncated-jpeg", "stub", "bomb"],
)
def test_what_cannot_be_read_is_named_with_the_reason(tmp_path, data, reason):
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    for source, name in ((path, str(path)), (data, "image")):
        with pytest.raises(ImageError, match=reason) as caught:
            read_image(source)
        assert caught.value.path == name
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, RunError)


def chunk(name, content):
    head = struct.pack(">I", len(content)) + name + content
    return head + struct.pack(">I", zlib.crc32(name + content))


def with_chunks(*chunks, image=RGB):
    """Returns an image as a PNG with chunks behind its header."""
    data = encode(image)
    return data[:33] + b"".join(chunks) + data[33:]


LONG = zlib.compress(bytes(2 << 20))
UNSOUND = {
    "exif": chunk(b"eXIf", b"nonsense"),
    "half-exif": chunk(b"eXIf", b"II*\0\x08\0\0\0\x05\0\x12\x01"),
    "text": chunk(b"zTXt", b"key\0\0" + LONG),
    "text-international": chunk(b"iTXt", b"key\0\x01\0\0\0" + LONG),
    "profile": chunk(b"iCCP", b"name\0\0" + LONG),
    "text-checksum": chunk(b"tEXt", b"key\0text")[:-4] + b"none",
    "text-method": chunk(b"zTXt", b"key\0\x07" + LONG),
    "exif-checksum": chunk(b"eXIf", b"nonsense")[:-4] + b"none",
}


@pytest.mark.parametrize("kind", UNSOUND)
def test_what_is_no_pixel_spoils_no_png(kind):
    found = decode(with_chunks(UNSOUND[kind]), Decoding())
    np.testing.assert_array_equal(found.pixels, RGB)
    assert not found.sound


def test_texts_that_cannot_be_read_leave_transparency_and_orientation():
    clear = np.zeros((4, 6, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = read_image(encode(clear, exif=exif))
    assert upright.shape == (6, 4, 3)
    assert upright.min() == 255
    data = encode(clear, exif=exif)
    data = data[:33] + UNSOUND["profile"] + data[33:]
    np.testing.assert_array_equal(read_image(data), upright)


HALF = b"II*\0\x08\0\0\0\x05\0\x12\x01"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("exif", [b"nonsense", b"Exif\0\0" + HALF, b"Exif\0\0MM"])
def test_exif_that_is_none_spoils_no_photograph(kind, exif):
    plain = decode(encode(RGB, kind), Decoding())
    found = decode(encode(RGB, kind, exif=exif), Decoding())
    np.testing.assert_array_equal(found.pixels, plain.pixels)
    assert plain.sound
    if kind == "WEBP":  # of a JPEG Pillow reads it unasked, and then says nothing more
        assert not found.sound


def test_no_setting_of_pillow_or_of_warnings_changes():
    before = list(warnings.filters)
    read_image(with_chunks(UNSOUND["half-exif"]))
    assert warnings.filters == before
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


def test_how_many_pixels_are_decoded_is_limited_by_name():
    grey = np.zeros((1500, 1000), np.uint8)
    for kind in ("PNG", "JPEG", "WEBP"):
        data = encode(grey, kind)
        assert read_image(data, 64, max_megapixels=2).shape == (64, 64, 3)
        size = 800 if kind == "JPEG" else 64  # there a smaller one is decoded at less than its size
        with pytest.raises(ImageError, match=r"1,000 x 1,500 pixels.*dataset.max_megapixels=1 "):
            read_image(data, size, max_megapixels=1)
    assert read_image(encode(grey, "JPEG"), 64, max_megapixels=1).shape == (64, 64, 3)
    with pytest.raises(ImageError, match="max_megapixels"):  # its coefficients are kept whole
        read_image(encode(grey, "JPEG", progressive=True), 64, max_megapixels=1)


def test_more_pixels_than_pillow_allows_can_be_allowed():
    data = encode(np.zeros((10_000, 9_100), np.uint8), "JPEG")
    assert read_image(data, 8, 1).shape == (8, 8, 1)
    assert read_image(data, (1, 2275), 1, max_megapixels=92).shape == (1, 2275, 1)


def test_every_cut_of_a_file_is_an_image_or_an_image_error():
    for kind in ("PNG", "JPEG", "WEBP"):
        data = encode(RGB, kind)
        for end in range(0, len(data), 7):
            with contextlib.suppress(ImageError):
                assert read_image(data[:end]).shape == RGB.shape


def test_files_that_are_not_there_or_not_regular(tmp_path):
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "absent.png")
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path):
        with pytest.raises(ImageError, match="regular file"):
            read_image(path)
