"""The cache of decoded images."""

import contextlib
import errno
import io
import json
import multiprocessing
import os
import time

import numpy as np
import pytest
from absl import logging
from PIL import Image

from cnn_jax import files, locks
from cnn_jax.data import array_file, cache, sums
from cnn_jax.data.cache import Encoded
from cnn_jax.data.images import Decoding
from cnn_jax.errors import RunError


def png(value, size=(4, 3)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(buffer, "PNG")
    return buffer.getvalue()


class Counted:
    """Images 0..n-1 in blocks of four; counts how often it is read."""

    def __init__(self, images):
        self.images, self.reads = images, 0

    def __call__(self):
        self.reads += 1
        for start in range(0, len(self.images), 4):
            part = self.images[start : start + 4]
            numbers = range(start, start + len(part))
            yield [f"id{i}" for i in numbers], [i % 3 for i in numbers], part


def encoded(images, content="x", split="train", **changes):
    settings = {"name": "some", "version": "1.0.0", "split": split, "content": content}
    counted = Counted(images)
    values = {**settings, "num_examples": len(images), "channels": 3, "blocks": counted, **changes}
    return Encoded(**values), counted


IMAGES = [png(i) for i in range(10)]


def test_decoded_once_and_mapped_read_only(tmp_path):
    source, counted = encoded(IMAGES)
    for _ in range(3):
        split, skipped = cache.open_or_decode(source, Decoding(), "refuse")
        assert skipped == []
        assert split.images.shape == (10, 3, 4, 3)
        np.testing.assert_array_equal(split.images[:, 0, 0, 0], range(10))
        np.testing.assert_array_equal(split.labels, [i % 3 for i in range(10)])
        assert split.labels.dtype == np.int32
        assert list(split.ids) == [f"id{i}" for i in range(10)]
        assert isinstance(split.images, np.memmap)
        assert not split.images.flags.writeable
    assert counted.reads == 1
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == ["arrays", "locks"]


@pytest.mark.parametrize(
    "changes",
    [{"name": "other"}, {"version": "2.0.0"}, {"split": "test"}, {"content": "y"}, {"channels": 1}],
)
def test_each_part_of_the_key_counts(changes):
    cache.open_or_decode(encoded(IMAGES)[0], Decoding(), "refuse")
    other, counted = encoded(IMAGES[:5], **changes)
    split, _ = cache.open_or_decode(other, Decoding(), "refuse")
    assert counted.reads == 1
    assert len(split) == 5


def test_size_and_treatment_of_errors_count_too():
    source, counted = encoded(IMAGES)
    shapes = [
        cache.open_or_decode(source, Decoding(size), on_error)[0].images.shape
        for size, on_error in ((None, "refuse"), (2, "refuse"), (2, "skip"))
    ]
    assert shapes == [(10, 3, 4, 3), (10, 2, 2, 3), (10, 2, 2, 3)]
    assert counted.reads == 3


def test_another_decoder_decodes_anew(monkeypatch):
    source, counted = encoded(IMAGES)
    cache.open_or_decode(source, Decoding(), "refuse")
    monkeypatch.setattr(cache, "DECODER", f"{cache.DECODER}.1")
    cache.open_or_decode(source, Decoding(), "refuse")
    assert counted.reads == 2


def flip_byte(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "examples.json", "meta.json"])
@pytest.mark.parametrize(
    "damage",
    [
        flip_byte,
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"[" * 100_000),
        lambda path: path.write_bytes(b"[[]]"),
    ],
)
def test_a_damaged_cache_is_named_and_made_anew(tmp_path, monkeypatch, name, damage):
    source, counted = encoded(IMAGES)
    cache.open_or_decode(source, Decoding(), "refuse")
    [folder] = (tmp_path / "cache" / "arrays").iterdir()
    damage(folder / name)
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda *args: warnings.append(args[0] % args[1:]))
    split, _ = cache.open_or_decode(source, Decoding(), "refuse")
    np.testing.assert_array_equal(split.images[:, 0, 0, 0], range(10))
    assert counted.reads == 2
    assert len(warnings) == 1
    assert str(folder) in warnings[0]
    assert list((tmp_path / "cache" / "arrays").iterdir()) == [folder]


def test_an_open_map_outlives_its_cache(tmp_path):
    source, _ = encoded(IMAGES)
    before, _ = cache.open_or_decode(source, Decoding(), "refuse")
    [folder] = (tmp_path / "cache" / "arrays").iterdir()
    (folder / "labels.npy").unlink()
    cache.open_or_decode(source, Decoding(), "refuse")
    np.testing.assert_array_equal(before.images[:, 0, 0, 0], range(10))


def test_skipped_images_are_named_also_from_the_cache():
    images = [*IMAGES]
    images[0], images[5] = b"", b"nonsense"
    source, counted = encoded(images)
    for _ in range(2):
        split, skipped = cache.open_or_decode(source, Decoding(), "skip")
        kept = [1, 2, 3, 4, 6, 7, 8, 9]
        np.testing.assert_array_equal(split.images[:, 0, 0, 0], kept)
        np.testing.assert_array_equal(split.labels, [i % 3 for i in kept])
        assert list(split.ids) == [f"id{i}" for i in kept]
        assert [s.partition(":")[0] for s in skipped] == ["some train id0", "some train id5"]
    assert counted.reads == 1
    with pytest.raises(RunError, match=r"id0: .*empty \(and 1 more"):
        cache.open_or_decode(source, Decoding(), "refuse")


def test_images_with_exif_that_cannot_be_read_are_counted_also_from_the_cache():
    images = [*IMAGES]
    for place in (2, 7):
        images[place] = images[place][:33] + b"\0\0\0\0tEXtnone" + images[place][33:]
    source, counted = encoded(images)
    for _ in range(2):
        notes = []
        split, _ = cache.open_or_decode(source, Decoding(), "refuse", notes=notes)
        np.testing.assert_array_equal(split.images[:, 0, 0, 0], range(10))
        assert notes == [
            "train: EXIF data or texts of 2 images cannot be read (id2, id7); their pixels are "
            "read as they are stored"
        ]
    assert counted.reads == 1


def test_images_of_too_many_pixels_are_another_cache():
    images = [*IMAGES, png(10, (1001, 1000))]
    source, _ = encoded(images)
    split, skipped = cache.open_or_decode(source, Decoding(4, max_megapixels=1), "skip")
    assert len(split) == 10
    assert "more than --dataset.max_megapixels=1 allows" in skipped[0]
    with pytest.raises(RunError, match=r"dataset.max_megapixels=1 allows; .*on_error=skip"):
        cache.open_or_decode(source, Decoding(4, max_megapixels=1), "refuse")
    assert len(cache.open_or_decode(source, Decoding(4), "skip")[0]) == 11


def test_nothing_is_left_behind_by_a_failure(tmp_path):
    source, _ = encoded([*IMAGES, png(1, (9, 9))])
    with pytest.raises(RunError, match="various sizes"):
        cache.open_or_decode(source, Decoding(), "skip")
    assert list((tmp_path / "cache" / "arrays").iterdir()) == []


def test_leftovers_of_killed_processes_go_after_a_day(tmp_path):
    arrays = tmp_path / "cache" / "arrays"
    for name, age in ((".making-old", 2), (".making-new", 0)):
        (arrays / name).mkdir(parents=True)
        (arrays / name / "images.npy").write_bytes(b"x")
        then = time.time() - age * 24 * 3600
        os.utime(arrays / name, (then, then))
    cache.open_or_decode(encoded(IMAGES)[0], Decoding(), "refuse")
    assert not (arrays / ".making-old").exists()
    assert (arrays / ".making-new").exists()


def test_leftovers_of_a_killed_process_go_at_once(tmp_path):
    arrays = tmp_path / "cache" / "arrays"
    for name in (".making-killed", ".making-alive"):
        (arrays / name).mkdir(parents=True)
        (arrays / name / ".lock").touch()
    with (arrays / ".making-alive" / ".lock").open() as lock:
        assert locks.take(lock)
        cache.open_or_decode(encoded(IMAGES)[0], Decoding(), "refuse")
    assert not (arrays / ".making-killed").exists()
    assert (arrays / ".making-alive").exists()


@pytest.mark.parametrize("place", ["reserve", "write"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, place):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if place == "reserve":
        monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    else:
        monkeypatch.setattr(array_file.ArrayFile, "write", full)
    with pytest.raises(RunError) as caught:
        cache.open_or_decode(encoded(IMAGES)[0], Decoding(), "refuse")
    assert str(tmp_path / "cache" / "arrays" / "some-1.0.0-train-stored-") in str(caught.value)
    assert "No space left on device; free some space, or set CNN_JAX_CACHE" in str(caught.value)
    assert list((tmp_path / "cache" / "arrays").iterdir()) == []


def test_the_folders_of_an_open_cache_are_open(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o1777)
    cache.open_or_decode(encoded(IMAGES)[0], Decoding(), "refuse")
    arrays = tmp_path / "cache" / "arrays"
    assert arrays.stat().st_mode & 0o7777 == 0o1777
    [folder] = arrays.iterdir()
    mask = os.umask(0)
    os.umask(mask)
    assert folder.stat().st_mode & 0o777 == 0o777 & ~mask  # others may read it


def test_a_cache_that_may_not_be_read_is_not_damaged(tmp_path, monkeypatch):
    source, _ = encoded(IMAGES)
    cache.open_or_decode(source, Decoding(), "refuse")

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(files, "sha256", refuse)
    with pytest.raises(RunError, match="Permission denied; free some space, or set CNN_JAX_CACHE"):
        cache.open_or_decode(source, Decoding(), "refuse")
    assert len(list((tmp_path / "cache" / "arrays").iterdir())) == 1


def test_a_place_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("CNN_JAX_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(RunError, match="CNN_JAX_CACHE"):
        cache.open_or_decode(encoded(IMAGES)[0], Decoding(), "refuse")


def test_another_process_that_was_faster_serves_both(tmp_path, monkeypatch):
    # As of two machines that see one directory and not each other's locks.
    monkeypatch.setattr(cache.locks, "FileLock", lambda *_, **__: contextlib.nullcontext())
    source, _ = encoded(IMAGES)
    inner, counted = encoded(IMAGES)

    def blocks():  # the other process finishes while this one decodes
        cache.open_or_decode(inner, Decoding(), "refuse")
        yield from Counted(IMAGES)()

    slow = Encoded(**{**source.__dict__, "blocks": blocks})
    split, _ = cache.open_or_decode(slow, Decoding(), "refuse")
    np.testing.assert_array_equal(split.images[:, 0, 0, 0], range(10))
    assert counted.reads == 1
    assert len(list((tmp_path / "cache" / "arrays").iterdir())) == 1


def _decode_in_a_process(results):
    split, _ = cache.open_or_decode(
        encoded([png(i % 256) for i in range(600)])[0], Decoding(8), "refuse"
    )
    results.put(int(split.images.astype(np.int64).sum()))


def test_processes_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_decode_in_a_process, args=(results,)) for _ in range(2)]
    for process in processes:
        process.start()
    sums = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sums == {sum(i % 256 for i in range(600)) * 8 * 8 * 3}
    assert len(list((tmp_path / "cache" / "arrays").iterdir())) == 1


def test_quick_verification_reads_a_sample_and_falls_back_to_all(tmp_path, monkeypatch):
    whole = [png(i, (40, 30)) for i in range(100)]
    source, counted = encoded(whole)
    cache.open_or_decode(source, Decoding(), "refuse")
    [folder] = (tmp_path / "cache" / "arrays").iterdir()
    read = []
    real = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: read.append(path.name) or real(path))
    monkeypatch.setattr(sums, "_PIECE", 64)  # the sample leaves gaps in so small a file
    sums.write(folder, json.loads((folder / "meta.json").read_text())["key"])

    def names(verify):
        read.clear()
        cache.open_or_decode(source, Decoding(), "refuse", verify=verify)
        return list(read)

    assert names("full") == list(sums.FILES)
    assert names("quick") == list(sums.FILES[1:])
    os.utime(folder / "images.npy")  # another time: all is read, and it is sound
    assert names("quick") == list(sums.FILES)
    assert counted.reads == 1
    with (folder / "images.npy").open("r+b") as file:
        file.truncate(5000)
    monkeypatch.setattr(logging, "warning", lambda *args: None)
    names("quick")
    assert counted.reads == 2
