"""Formats beside PNG, JPEG and WebP: BMP, GIF, TIFF, DICOM, HEIC, and what is refused."""

import contextlib
import io
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset as Header
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from cnn_jax import data
from cnn_jax.data import bit_depth, encoded_images, images, named
from cnn_jax.data.images import Decoding, ImageError, decode, read_image
from cnn_jax.errors import RunError
from cnn_jax.experiment import Dataset

RGB = np.random.default_rng(0).integers(0, 256, (7, 9, 3)).astype(np.uint8)
GREY = RGB[..., 0]
DEEP = np.random.default_rng(1).integers(0, 65536, (7, 9)).astype(np.uint16)


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def as_dicom(pixels, syntax: Any = ExplicitVRLittleEndian, **fields: Any):
    """Returns a DICOM file of an array [height, width] or [height, width, 3]."""
    meta: Any = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    header = FileDataset("x.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID = meta.MediaStorageSOPClassUID
    header.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    header.Rows, header.Columns = pixels.shape[:2]
    header.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    header.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    header.PlanarConfiguration = 0
    header.BitsAllocated = 8 * pixels.itemsize
    header.BitsStored, header.HighBit = header.BitsAllocated, header.BitsAllocated - 1
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in fields.items():
        setattr(header, name, value)
    header.PixelData = pixels.tobytes()
    if syntax != ExplicitVRLittleEndian:
        header.compress(syntax)
    buffer = io.BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


# BMP, GIF, TIFF


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "packbits"}),
    ],
)
def test_lossless_images_come_back_exactly(kind, options):
    for image in (RGB, GREY):
        found = read_image(encode(image, kind, **options), channels=1 if image.ndim == 2 else 3)
        np.testing.assert_array_equal(np.squeeze(found), image)


def test_a_damaged_tiff_is_said_to_be_one_by_us_alone(capfd):
    """libtiff, in C, would write a line of its own to standard error."""
    data = bytearray(encode(RGB, "TIFF", compression="tiff_adobe_deflate"))
    place = data.index(b"\x78\x9c") if b"\x78\x9c" in data else data.index(b"\x78")
    data[place + 4 : place + 12] = bytes(8)
    with pytest.raises(ImageError):
        read_image(bytes(data))
    assert capfd.readouterr().err == ""


def test_the_first_frame_of_a_gif_and_the_first_page_of_a_tiff_count():
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue", "lime")]
    for kind in ("GIF", "TIFF"):
        many = encode(frames[0], kind, save_all=True, append_images=frames[1:])
        np.testing.assert_array_equal(read_image(many), np.asarray(frames[0]))


def test_what_is_transparent_in_a_gif_is_white():
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.putpixel((1, 1), 1)
    found = read_image(encode(palette, "GIF", transparency=0))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[1, 1].tolist() == [9, 9, 9]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_upright_once(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    as_png, as_tiff = (read_image(encode(RGB, kind, exif=exif), (4, 6)) for kind in ("PNG", "TIFF"))
    np.testing.assert_array_equal(as_tiff, as_png)


def test_16_bits_of_a_tiff_follow_the_rules_of_16_bits(tmp_path):
    deep, as_png = encode(DEEP, "TIFF"), encode(DEEP, "PNG")
    np.testing.assert_array_equal(read_image(deep, 4, 1), read_image(as_png, 4, 1))
    (tmp_path / "x.tif").write_bytes(encode(DEEP >> 4, "TIFF"))
    found = bit_depth.of_files([tmp_path / "x.tif"])
    assert (found.grey, found.depth) == (1, 12)
    twelve = read_image(tmp_path / "x.tif", channels=1, bit_depth=12)[..., 0]
    np.testing.assert_allclose(twelve, (DEEP >> 4) * (255 / 4095), atol=0.51)

    # With 0 as white, which Pillow passes over where there are 16 bits.
    inverted = deep.replace(
        struct.pack("<HHIHH", 262, 3, 1, 1, 0), struct.pack("<HHIHH", 262, 3, 1, 0, 0)
    )
    assert inverted != deep
    np.testing.assert_array_equal(
        read_image(inverted, channels=1), 255 - read_image(deep, channels=1)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_a_tiff_of_values_that_are_no_pixels_is_refused(dtype):
    with pytest.raises(ImageError, match=r"floats, have a sign or 32 bits.*save it with 8 or 16"):
        read_image(encode(Image.fromarray(DEEP.astype(dtype)), "TIFF"))


def test_limits_hold_for_every_format():
    large = np.zeros((1200, 1000), np.uint8)
    files = {
        **{kind: encode(large, kind) for kind in ("BMP", "GIF", "TIFF")},
        "DICOM": as_dicom(large),
    }
    for kind, content in files.items():
        assert read_image(content, 8, 1, max_megapixels=2).shape == (8, 8, 1), kind
        with pytest.raises(ImageError, match=r"1.2 million would be decoded|decompression bomb"):
            read_image(content, 8, max_megapixels=1)


def test_a_tile_larger_than_the_image_counts_as_what_is_decoded():
    def tag(number, value, kind=4):
        return struct.pack("<HHII", number, kind, 1, value)

    tags = [tag(256, 8), tag(257, 8), tag(258, 8), tag(259, 8), tag(262, 1), tag(277, 1)]
    tags += [tag(322, 20000), tag(323, 20000), tag(324, 8), tag(325, 8)]
    content = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + b"".join(tags)
    with pytest.raises(ImageError, match="400 million would be decoded"):
        read_image(content + bytes(4))


# DICOM


def test_dicom_without_a_window_follows_the_rules_of_16_bits(tmp_path):
    np.testing.assert_array_equal(read_image(as_dicom(GREY), channels=1)[..., 0], GREY)
    np.testing.assert_array_equal(read_image(as_dicom(RGB)), RGB)
    as_png = read_image(encode(DEEP, "PNG"), channels=1)
    np.testing.assert_array_equal(read_image(as_dicom(DEEP), channels=1), as_png)
    (tmp_path / "x.dcm").write_bytes(as_dicom(DEEP >> 4, BitsStored=12, HighBit=11))
    assert bit_depth.of_files([tmp_path / "x.dcm"]).depth == 12
    signed = (DEEP.astype(np.int32) - 32768).astype(np.int16)
    np.testing.assert_array_equal(read_image(as_dicom(signed), channels=1), as_png)


def test_monochrome1_is_inverted():
    inverse = {"PhotometricInterpretation": "MONOCHROME1"}
    window = {"WindowCenter": 30000, "WindowWidth": 20000}
    for pixels, fields in ((GREY, {}), (DEEP, {}), (DEEP, window)):
        plain = read_image(as_dicom(pixels, **fields), channels=1)
        found = read_image(as_dicom(pixels, **fields, **inverse), channels=1)
        np.testing.assert_array_equal(found, 255 - plain)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_values_are_rescaled_and_windowed_as_pydicom_does(function):
    hounsfield = {"RescaleSlope": 2, "RescaleIntercept": -1024, "VOILUTFunction": function}
    window = {"WindowCenter": [40, 500], "WindowWidth": [400, 100], **hounsfield}
    pixels = (DEEP >> 5).astype(np.int16)
    content = as_dicom(pixels, BitsStored=12, HighBit=11, **window)
    found = read_image(content, channels=1)[..., 0]
    header = pydicom.dcmread(io.BytesIO(content))
    rescaled = pydicom.pixels.apply_modality_lut(header.pixel_array, header)  # pyright: ignore
    shown = pydicom.pixels.apply_windowing(rescaled, header)  # pyright: ignore
    low, high = 2 * -2048 - 1024, 2 * 2047 - 1024  # what pydicom scales to
    np.testing.assert_allclose(found, (shown - low) / (high - low) * 255, atol=0.51)
    assert found.min() == 0
    assert found.max() == 255


def test_a_table_of_values_is_looked_up():
    table = Header()
    table.LUTDescriptor = [256, 0, 16]
    table.LUTData = (np.arange(256) * 257)[::-1].astype("<u2").tobytes()
    found = read_image(as_dicom(GREY, VOILUTSequence=[table]), channels=1)[..., 0]
    np.testing.assert_array_equal(found, 255 - GREY)


def test_compressed_frames_are_read_and_the_first_counts():
    compressed = as_dicom(DEEP, RLELossless)
    np.testing.assert_array_equal(read_image(compressed), read_image(as_dicom(DEEP)))
    two = np.concatenate([GREY, 255 - GREY])
    many = as_dicom(two, Rows=7, NumberOfFrames=2)
    np.testing.assert_array_equal(read_image(many, channels=1)[..., 0], GREY)


def encapsulated(frame, syntax, shape):
    from pydicom.encaps import encapsulate

    header = pydicom.dcmread(io.BytesIO(as_dicom(np.zeros(shape, np.uint8))))
    header.file_meta.TransferSyntaxUID = syntax
    header.PixelData = encapsulate([frame])
    header["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "syntax", "options"),
    [
        ("JPEG", "1.2.840.10008.1.2.4.50", {"quality": 95}),
        ("JPEG2000", "1.2.840.10008.1.2.4.90", {"no_jp2": True}),
    ],
)
def test_the_size_of_a_compressed_frame_is_looked_at_before_it_is_decoded(kind, syntax, options):
    smooth = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))
    frame = encode(smooth, kind, **options)
    found = read_image(encapsulated(frame, syntax, (48, 64)), channels=1)[..., 0]
    assert np.abs(found.astype(int) - smooth).max() <= 3
    with pytest.raises(ImageError, match="compressed image has another size than the file says"):
        read_image(encapsulated(frame, syntax, (8, 8)))


def test_a_dicom_file_that_is_not_read_is_named():
    def refused(content):
        with pytest.raises(ImageError) as info:
            read_image(content)
        return str(info.value)

    sound = as_dicom(GREY)
    deflated = sound.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    assert "a deflated DICOM file, which is not read; decompress it" in refused(deflated)
    assert "of the transfer syntax 1.2.840.10008.1.2.9; decompress" in refused(
        sound.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
    )
    header = pydicom.dcmread(io.BytesIO(sound))
    del header.PixelData
    buffer = io.BytesIO()
    header.save_as(buffer)
    assert "without an image" in refused(buffer.getvalue())
    wide = {"WindowCenter": 0, "WindowWidth": 0}
    assert "its window is 0 wide around 0" in refused(as_dicom(DEEP, **wide))
    assert "1 channel of 8 or 16 bits" in refused(as_dicom(DEEP.astype(np.uint32)))


def test_without_a_package_the_extra_is_named(monkeypatch):
    for module, content, extra in (
        ("pydicom", as_dicom(GREY), "dicom"),
        ("pillow_heif", b"\0\0\0\x18ftypheic" + bytes(40), "heic"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImageError, match=rf"install the `{extra}` extra .*or convert it to"):
            read_image(content)


@pytest.fixture
def xrays(tmp_path):
    """Sixteen DICOM files of four patients, two in each class."""
    for number in range(16):
        patient = number // 4
        folder = tmp_path / "xrays" / ("ill" if patient % 2 else "well")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.full((6, 6), 4000 - 100 * number, np.uint16)
        fields = {"PatientID": f"P{patient}"}
        if number < 3:
            fields |= {"PatientName": "Doe^Jane", "BurnedInAnnotation": "YES"}
        (folder / f"{number}.dcm").write_bytes(as_dicom(pixels, **fields))
    return tmp_path / "xrays"


def test_patients_of_dicom_files_are_groups(xrays):
    section = Dataset(name="folder", path=str(xrays), validation_fraction=0.3, test_fraction=0.0)
    for _ in range(2):  # the second time what was seen is in the cache
        found = data.load(section, quiet=True)
        groups = [set(split.groups or ()) for split in found.splits.values()]
        assert set.union(*groups) == {"P0", "P1", "P2", "P3"}
        assert not set.intersection(*groups)
        notes = "; ".join(found.info.notes)
        assert "groups: the PatientID of the DICOM files" in notes
        assert "3 DICOM files with the field PatientName" in notes
        assert "3 DICOM files with the field BurnedInAnnotation" in notes
        assert found.info.bit_depth == 12
        assert found.info.image_shape == (6, 6, 1)
    by_name = Dataset(name="folder", path=str(xrays), group="[0-9]", validation_fraction=0.3)
    assert set(data.load(by_name, quiet=True).train.groups or ()) <= set("0123456789")


def test_mutated_files_are_refused_in_one_line_or_read():
    """A few of what `benchmarks/mutated_images.py` does with hundreds."""
    random = np.random.default_rng(0)
    files = [encode(RGB, "TIFF", compression="tiff_lzw"), encode(RGB, "GIF"), encode(GREY, "BMP")]
    files += [as_dicom(DEEP, WindowCenter=9, WindowWidth=9), as_dicom(GREY, RLELossless)]
    for content in files:
        for _ in range(12):
            mutated = bytearray(content)
            for at in random.integers(len(mutated), size=3).tolist():
                mutated[at] = int(random.integers(256))
            cut = int(random.integers(len(mutated) // 2, len(mutated) + 1))
            with contextlib.suppress(ImageError):  # anything else would fail here
                assert decode(bytes(mutated[:cut]), Decoding(8)).pixels.shape == (8, 8, 3)


# HEIC


def test_heic_is_read_where_the_package_is_there():
    pillow_heif = pytest.importorskip("pillow_heif")
    smooth = np.tile(np.arange(64, dtype=np.uint8)[:, None] * 3, (1, 80))
    image = Image.fromarray(np.stack([smooth] * 3, -1))
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=90)
    found = read_image(buffer.getvalue())
    assert np.abs(found.astype(int) - np.asarray(image)).mean() < 4
    with pytest.raises(ImageError):
        read_image(buffer.getvalue()[:400])


# What is refused


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\0\x20ftypavif" + bytes(200), "an AVIF image, which is not read; convert it to PNG"),
        (b"\0\0\0\x20ftypisom" + bytes(200), "a video"),
        (b"8BPS\0\1" + bytes(200), "a Photoshop file"),
        (b"%PDF-1.7 ", "a PDF file, which is not read; save its pages as images: pdftoppm"),
        (b"P6\n3 3\n255\n", "a PNM image"),
        (b"<!DOCTYPE html><html>", "a web page in place of an image"),
        (b"<svg xmlns='x'></svg>", "an SVG drawing"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"\x93NUMPY\1\0", "a NumPy array"),
        (bytes(1000), "filled with zeros"),
        (bytes(344) + b"n+1\0", "a NIfTI volume"),
        (b"\x1f\x8b\x08", "a gzip archive"),
    ],
)
def test_what_is_no_image_that_is_read_is_named_and_how_to_convert_it(content, message):
    with pytest.raises(ImageError, match=message):
        read_image(content)


def test_every_format_is_found_in_a_folder_whatever_its_name(tmp_path):
    (tmp_path / "x").mkdir()
    for number, kind in enumerate(("BMP", "GIF", "TIFF", "PNG")):
        (tmp_path / "x" / f"{number}").write_bytes(encode(RGB, kind))
    (tmp_path / "x" / "4").write_bytes(as_dicom(GREY))
    (tmp_path / "x" / "5.txt").write_text("no image")
    found = named.expand([str(tmp_path / "x")])
    assert [path[-1] for path in found] == list("01234")
    kinds = [encoded_images.kind(Path(path).read_bytes()) for path in found]
    assert [kind and kind.name for kind in kinds] == ["BMP", "GIF", "TIFF", "PNG", "DICOM"]
    assert [images.is_stored_grey(Path(path)) for path in found] == [False] * 4 + [True]


def test_a_refused_file_in_a_folder_says_what_it_is(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            (tmp_path / name / f"{number}.bmp").write_bytes(encode(RGB + number, "BMP"))
    (tmp_path / "a" / "4.jp2").write_bytes(encode(RGB, "JPEG2000"))
    with pytest.raises(
        RunError, match=r"4\.jp2: a JPEG 2000 image, which is not read.*on_error=skip"
    ):
        data.load(Dataset(name="folder", path=str(tmp_path)), quiet=True)
