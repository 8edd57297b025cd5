"""Images of 16 bits whose values use fewer: read over a data set, not one by one."""

import io

import numpy as np
import pytest
from PIL import Image

import cnn_jax
from cnn_jax import data, experiment
from cnn_jax.cli import given
from cnn_jax.data import bit_depth, outside, splits
from cnn_jax.data import images as decoding
from cnn_jax.errors import RunError


@pytest.fixture
def folder(tmp_path):
    """Writes a folder of two classes; each image is one value up to the one given, as 16 bits."""

    def write(largest: int, count: int = 12) -> experiment.Dataset:
        for i in range(count):
            for j, name in enumerate(("ill", "well")):
                values = np.full((8, 8), largest * (i + j) // count, np.uint16)
                values[j, 0] = 0  # or an image of the one class were one of the other
                path = tmp_path / "images" / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
        return experiment.Dataset(name="folder", path=str(tmp_path / "images"), image_size=8)

    return write


def values(loaded: data.Data) -> dict[str, int]:
    return {
        name: int(image.max())
        for split in loaded.splits.values()
        for name, image in zip(split.ids, split.images, strict=True)
    }


@pytest.mark.parametrize(
    ("largest", "depth"), [(255, 8), (1000, 10), (4095, 12), (16000, 14), (65535, 16)]
)
def test_the_range_is_that_of_the_data_set(folder, largest, depth):
    loaded = data.load(folder(largest))
    assert loaded.info.bit_depth == depth
    seen = values(loaded)
    # Absolute values are kept: the brightest image is as bright as the range says, a dark one dark.
    assert seen["well/11.png"] == round(largest * 255 / (2**depth - 1))
    assert seen["ill/0.png"] == 0
    assert seen["ill/6.png"] == pytest.approx(largest / 2 * 255 / (2**depth - 1), abs=1)
    (note,) = [note for note in loaded.info.notes if "16-bit" in note]
    assert f"24 images have 16-bit values, the largest {largest}: read as {depth} bits" in note
    assert splits.DataInfo.from_dict(loaded.info.to_dict()).bit_depth == depth


def test_the_depth_can_be_chosen_and_must_hold_every_value(folder):
    section = folder(1000)
    chosen = data.load(experiment.Dataset(**{**vars(section), "bit_depth": "12"}))
    assert chosen.info.bit_depth == 12
    assert values(chosen)["well/11.png"] == round(1000 * 255 / 4095)
    with pytest.raises(RunError, match=r"reach \d+, more than 8 bits hold; see dataset.bit_depth"):
        data.load(experiment.Dataset(**{**vars(section), "bit_depth": "8"}))


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"grey": 24, "colour": 0, "largest": 255}',
        b'{"range": {"grey": "a"}, "sha256": 1}',
        None,
    ],
)
def test_a_damaged_range_in_the_cache_is_looked_at_again(folder, tmp_path, monkeypatch, damaged):
    monkeypatch.setenv("CNN_JAX_CACHE", str(tmp_path / "cache"))
    section = folder(1000)
    before = data.load(section)
    (path,) = (tmp_path / "cache" / "arrays").glob("values-*.json")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"1000", b"3000") if damaged is None else damaged)
    assert data.load(section).info == before.info
    assert path.read_bytes() == whole


def test_data_from_before_the_range_was_looked_at_are_read_as_16_bits(folder):
    described = data.load(folder(4095)).info.to_dict()
    del described["bit_depth"]
    assert splits.DataInfo.from_dict(described).bit_depth == 16


def test_files_of_8_bits_are_not_spoken_of(tmp_path):
    for i in range(12):
        for j, name in enumerate(("a", "b")):
            path = tmp_path / name / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((8, 8), 18 * i + j, np.uint8)).save(path)
    info = data.load(experiment.Dataset(name="folder", path=str(tmp_path))).info
    assert info.bit_depth == 16
    assert not [note for note in info.notes if "bit" in note]


def test_colours_of_16_bits_that_would_be_black_are_refused(folder, monkeypatch):
    section = folder(4095)
    found = bit_depth.Largest(4095, True)
    monkeypatch.setattr(bit_depth, "largest_of_16_bits", lambda *_, **__: found)
    with pytest.raises(RunError, match="24 images are of 16 bits in colour"):
        data.load(section)


def test_a_16_bit_png_in_colour_is_told_by_its_header(tmp_path):
    """Pillow writes none, so the header and the data are put together here."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    rows = b"".join(b"\0" + struct.pack(">6H", *[1000] * 6) for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path = tmp_path / "colour.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    assert bit_depth.largest_of_16_bits(path) == (3 * 256 + 255, True)
    path.write_bytes(path.read_bytes()[:40])
    assert bit_depth.largest_of_16_bits(path) is None
    assert bit_depth.largest_of_16_bits(tmp_path / "missing.png") is None


def test_a_run_reads_what_it_predicts_as_it_was_trained(folder, tmp_path, caplog):
    section = folder(4095)
    loaded = data.load(section)
    run = cnn_jax.train(loaded, model="mlp", epochs=1, batch_size=8)
    path = tmp_path / "images" / "well" / "11.png"
    as_trained = np.stack([decoding.read_image(path, 8, 1, bit_depth=12)])
    np.testing.assert_array_equal(run.logits([path]), run.logits(as_trained))
    assert as_trained.max() > 230
    assert given.decoding(run, [str(path)], "auto").bit_depth == 12
    assert given.decoding(run, [str(path)], "16").bit_depth == 16
    assert not caplog.records
    Image.fromarray(np.full((8, 8), 500, np.uint16)).save(path)
    assert given.decoding(run, [str(path)], "auto").bit_depth == 12
    assert "1 image of 16-bit values, the largest 500, read as 12 bits" in caplog.text
    Image.fromarray(np.full((8, 8), 5000, np.uint16)).save(path)
    with pytest.raises(RunError, match="reach 5000, more than 12 bits"):
        run.predict([path])


def test_files_read_alone_have_the_range_of_their_own(folder, tmp_path):
    folder(4095)
    paths = sorted((tmp_path / "images").rglob("*.png"))
    assert cnn_jax.read_images(paths, 8).max() > 230
    assert cnn_jax.read_images(paths, 8, bit_depth=16).max() == 16


def test_an_experiment_saved_before_there_was_the_setting_has_16_bits():
    saved = experiment.to_dict(experiment.Experiment())
    assert saved["dataset"].pop("bit_depth") == "auto"
    assert experiment.from_dict(saved).dataset.bit_depth == "16"


def test_encoded_images_in_a_table_have_the_range_of_all_of_them(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    def png(value: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(np.full((8, 8), value, np.uint16)).save(file, "PNG")
        return file.getvalue()

    rows = [{"bytes": png(150 * i + 40), "path": f"{i}.png"} for i in range(24)]
    table = pyarrow.table({"image": rows, "label": ["ill", "well"] * 12})
    parquet.write_table(table, tmp_path / "x.parquet")
    section = experiment.Dataset(name="table", path=str(tmp_path / "x.parquet"), image_size=8)
    loaded = data.load(section)
    assert loaded.info.bit_depth == 12
    assert max(values(loaded).values()) == round(3490 * 255 / 4095)


def test_images_from_elsewhere_that_would_be_nearly_black_are_noted(folder):
    section = folder(4095)
    of_8_bits = splits.DataInfo.from_dict(data.load(section).info.to_dict() | {"bit_depth": 16})
    split, notes = outside.load(section, of_8_bits, quiet=True)
    assert split.images.max() == 16
    (note,) = [note for note in notes if "nearly black" in note]
    assert "24 images of 16-bit values, the largest 4095, read as 16 bits" in note
    assert "--dataset.bit_depth=12 reads them as 12" in note
    chosen = experiment.Dataset(**{**vars(section), "bit_depth": "12"})
    split, notes = outside.load(chosen, of_8_bits, quiet=True)
    assert split.images.max() == 255
    assert not [note for note in notes if "nearly black" in note]
