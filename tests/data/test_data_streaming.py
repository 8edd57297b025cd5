"""Training images that are decoded while they are trained on."""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np
import pytest
from absl import logging
from PIL import Image, ImageOps

import cnn_jax
from cnn_jax import distributed, experiment, runtime
from cnn_jax.assembly import assemble
from cnn_jax.data import arrays, duplicates, kept, load, loader, splits, streamed
from cnn_jax.data.batches import Batch, TrainBatches
from cnn_jax.data.feeding import Feed, Pace
from cnn_jax.data.streamed import Streamed
from cnn_jax.errors import RunError, UsageError


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for i in range(90):
        place = tmp_path / "photos" / f"class{i % 3}"
        place.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(random.integers(0, 256, (6, 5, 3), np.uint8))
        noise.resize((60 + i % 7, 50), Image.Resampling.BICUBIC).save(place / f"{i}.jpg")
    return tmp_path / "photos"


def section(folder, **changes):
    settings = {"streaming": "true", "image_size": 16, "workers": 0, "random_crop": 0.3}
    settings |= {"name": "folder", "path": str(folder)}
    return experiment.Dataset(**{**settings, **changes})


def some(split, start, count, seed=5, balance=None):
    order = TrainBatches(seed, len(split), 20, start, balance=balance)
    given = Feed(split, distributed.make_mesh(), 2.0).batches(order)
    found = [jax.device_get(batch) for batch in itertools.islice(given, count)]
    given.close()  # type: ignore[attr-defined]
    return found


def equal(one, other):
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_batches_depend_on_seed_and_step_alone(folder):
    train = load(section(folder), quiet=True).train
    assert isinstance(train.images, Streamed)
    whole = some(train, 0, 9)
    equal(some(train, 6, 3), whole[6:])  # in the middle of the second epoch
    first, second = whole[0], whole[4]
    np.testing.assert_array_equal(first.labels, train.labels[first.positions])
    again = {int(p): i for i, p in enumerate(second.positions)}
    both = [(i, again[int(p)]) for i, p in enumerate(first.positions) if int(p) in again]
    assert all((first.images[i] != second.images[j]).any() for i, j in both)  # other parts
    assert both
    plain = load(section(folder, random_crop=None), quiet=True).train
    batch = some(plain, 0, 1)[0]
    np.testing.assert_array_equal(batch.images, plain.images[batch.positions])


def test_processes_decode_what_threads_do_and_import_no_jax(folder):
    threads = load(section(folder), quiet=True).train
    processes = load(section(folder, workers=2), quiet=True).train
    equal(some(processes, 3, 4), some(threads, 3, 4))


def test_a_batch_shares_no_memory_with_what_the_processes_use_again(folder, monkeypatch):
    """Arrays on the processor may be the memory that they were made from, which must last."""
    train = load(section(folder), quiet=True).train
    expected = some(train, 0, 6)
    real = loader.load

    def overwritten(*args):
        for chunk in real(*args):
            yield chunk
            chunk.images[...] = 77  # as soon as the next one is asked for

    monkeypatch.setattr(loader, "load", overwritten)
    monkeypatch.setattr(distributed, "put_rows", lambda batch, *_: batch)
    held = some(train, 0, 6)
    equal(held, expected)
    for one, other in itertools.combinations(held, 2):
        assert not np.shares_memory(one.images, other.images)


def test_the_host_is_two_steps_ahead_and_no_more():
    """Else each batch that JAX is ahead by is held in memory."""

    @jax.jit
    def step(total, images):
        return jax.lax.fori_loop(0, 60, lambda _, x: jax.numpy.tanh(x + images), total)

    batch = Batch(*map(np.asarray, (np.ones((300, 1000), np.float32), 0, 0, 0)))
    pace = Pace()
    results: list[Any] = [jax.numpy.zeros((300, 1000))]
    for _ in range(7):
        results.append(step(results[-1], batch.images))
        pace.after(batch, results[-1])
        assert all(each.is_ready() for each in results[:-2])


def test_what_is_evaluated_is_what_decoding_beforehand_gives(folder):
    given = load(section(folder), quiet=True)
    before = load(section(folder, streaming="false"), quiet=True)
    for name in ("validation", "test"):
        np.testing.assert_array_equal(given.splits[name].images, before.splits[name].images)
        np.testing.assert_array_equal(given.splits[name].labels, before.splits[name].labels)
        assert list(given.splits[name].ids) == list(before.splits[name].ids)
    np.testing.assert_array_equal(given.train.images[:], before.train.images[:])
    np.testing.assert_allclose(given.info.mean, before.info.mean, atol=1e-6)
    np.testing.assert_allclose(given.info.std, before.info.std, atol=1e-6)
    assert given.info.streamed
    assert given.info.class_counts == before.info.class_counts
    assert "equal images are not looked for in train: it is streamed" in given.info.notes


def test_a_copy_of_the_folder_is_the_same_data_and_another_file_is_not(folder, tmp_path):
    digest = load(section(folder), quiet=True).info.digest
    moved = folder.rename(tmp_path / "moved")
    assert load(section(moved), quiet=True).info.digest == digest
    path = next(path for path in sorted(moved.rglob("*.jpg")))
    path.write_bytes(path.read_bytes() + b"\0")
    assert load(section(moved), quiet=True).info.digest != digest


def test_balanced_draws_of_one_example_are_other_parts(folder):
    for path in sorted((folder / "class0").iterdir())[4:]:
        path.unlink()
    split = load(section(folder, validation_fraction=0.2, test_fraction=0.0), quiet=True).train
    batches = some(split, 0, 3, balance=split.labels)
    positions = np.concatenate([batch.positions for batch in batches])
    images = np.concatenate([batch.images for batch in batches])
    values, counts = np.unique(positions, return_counts=True)
    repeated = int(values[counts.argmax()])
    assert counts.max() > 1
    parts = {image.tobytes() for image in images[positions == repeated]}
    assert len(parts) == counts.max()


def test_bad_images_are_refused_or_do_not_count(folder, monkeypatch):
    train = load(section(folder), quiet=True).train
    path = folder / str(train.ids[7])
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(RunError, match=rf"{path}: cannot be decoded: .*on_error=skip"):
        some(train, 0, 4)
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda *args: warnings.append(args[0] % args[1:]))
    train = load(section(folder, on_error="skip"), quiet=True).train
    place = list(train.ids).index(str(path.relative_to(folder)))
    batches = some(train, 0, 4)
    assert len(warnings) == 1
    assert f"skipped {path}: " in warnings[0]
    weights = {int(p): w for b in batches for p, w in zip(b.positions, b.weights, strict=True)}
    assert weights[place] == 0
    batch = next(b for b in batches if place in b.positions)
    row = list(batch.positions).index(place)
    others = np.delete(batch.images, row, axis=0)
    assert any((batch.images[row] == other).all() for other in others)
    assert sum(b.weights.sum() for b in batches) == len(train) - 1


def test_a_bad_image_that_is_evaluated_is_left_out(folder):
    bad = str(load(section(folder), quiet=True).validation.ids[2])
    (folder / bad).write_bytes(b"\xff\xd8\xff no image")
    with pytest.raises(RunError, match="cannot be decoded"):
        load(section(folder), quiet=True)
    validation = load(section(folder, on_error="skip"), quiet=True).validation
    assert bad not in validation.ids
    assert len(validation.images) == len(validation.labels) == len(validation.ids) == 8


def test_prepared_data_sets_and_tables_are_streamed_too(folder, tmp_path):
    digits = {"streaming": "true", "image_size": 8, "workers": 0, "name": "digits"}
    given = load(experiment.Dataset(**digits), quiet=True)
    before = load(experiment.Dataset(**{**digits, "streaming": "false"}), quiet=True)
    np.testing.assert_array_equal(given.train.images[5:9], before.train.images[5:9])
    np.testing.assert_array_equal(given.train.labels, before.train.labels)
    rows = [f"{p.relative_to(folder)},{p.parent.name}" for p in sorted(folder.rglob("*.jpg"))]
    (folder / "table.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    table = load(section(folder / "table.csv", name="table"), quiet=True)
    batch = some(table.train, 0, 1)[0]
    np.testing.assert_array_equal(batch.labels, table.train.labels[batch.positions])


def test_auto_streams_what_memory_or_disk_do_not_hold_and_says_so(folder, monkeypatch):
    config = section(folder, streaming="auto")
    assert not load(config, quiet=True).info.streamed
    bigger = dataclasses.replace(config, image_size=24)
    monkeypatch.setattr(runtime, "host_memory", lambda: 50_000)
    info = load(bigger, quiet=True).info
    assert info.streamed
    [note] = [note for note in info.notes if "of memory" in note]
    assert note.startswith("train is streamed: 90 images of 24 x 24 take 0.0 GiB decoded")
    assert not load(config, quiet=True).info.streamed  # it is decoded already
    cropped = dataclasses.replace(config, resize="crop")
    assert load(cropped, quiet=True).info.streamed  # what is decoded is squashed
    monkeypatch.undo()
    load(cropped, quiet=True)
    monkeypatch.setattr(runtime, "host_memory", lambda: 50_000)
    assert not load(cropped, quiet=True).info.streamed


def test_nobody_looks_for_equal_images_among_streamed_ones(folder):
    data = load(section(folder), quiet=True)
    assert duplicates.pairs(data.splits["validation"], data.train) is None
    assert duplicates.pairs(data.splits["validation"], data.splits["validation"]) == []


def test_what_looks_at_all_images_finds_in_streamed_ones_what_it_finds_in_decoded_ones(folder):
    """Copies of one image in train and in validation, say, whatever the images wait in."""
    first = sorted((folder / "class0").glob("*.jpg"))[0]
    (folder / "class1" / "copy.jpg").write_bytes(first.read_bytes())
    plain = {"random_crop": None, "image_size": 32}
    found = {}
    for each in ("true", "false"):
        config = section(folder, streaming=each, on_error="skip", **plain)
        near = cnn_jax.inspect(load(config, quiet=True)).near
        found[each] = [(pair.one.id, pair.other.id, pair.similarity) for pair in near.pairs]
    assert found["true"] == found["false"]
    assert any("copy.jpg" in str(pair) for pair in found["true"])


def test_streamed_data_keep_their_identity_when_they_are_given_in_python(folder, tmp_path):
    """Else features of one folder would serve another whose labels are the same."""
    other = tmp_path / "negatives"
    for path in folder.rglob("*.jpg"):
        (other / path.parent.name).mkdir(parents=True, exist_ok=True)
        ImageOps.invert(Image.open(path)).save(other / path.parent.name / path.name)
    plain = {"random_crop": None, "image_size": 16}
    digests = []
    for each in (folder, other):
        given = arrays.check_data(load(section(each, **plain), quiet=True))
        assert given.train.identity is not None
        digests.append(kept.digest({"train": given.train}))
    assert digests[0] != digests[1]
    unnamed = {"train": dataclasses.replace(given.train, identity=None)}
    assert kept.digest(unnamed) == splits.digest(unnamed)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"image_size": None}, r"give dataset\.image_size"),
        ({"name": "npz"}, "not in files that could be read one by one"),
    ],
)
def test_what_cannot_be_streamed_is_refused_in_a_line(folder, changes, line):
    if changes.get("name") == "npz":
        np.savez(
            folder / "x.npz", images=np.zeros((20, 8, 8, 3), np.uint8), labels=np.arange(20) % 2
        )
        changes = {**changes, "path": str(folder / "x.npz")}
    with pytest.raises(UsageError, match=line):
        load(section(folder, **changes), quiet=True)


def test_asking_for_everything_at_once_is_refused_in_a_line(folder, monkeypatch):
    train = load(section(folder), quiet=True).train
    monkeypatch.setattr(streamed, "_SMALL", 0)
    monkeypatch.setattr(runtime, "host_memory", lambda: 10_000)
    with pytest.raises(RunError, match=r"give dataset\.streaming=false"):
        np.asarray(train.images)


def test_cached_views_of_random_parts_are_refused(folder):
    info = load(section(folder), quiet=True).info
    config = experiment.Experiment(
        dataset=section(folder),
        transfer=experiment.Transfer(cache_views=2, freeze="backbone"),
    )
    with pytest.raises(UsageError, match=r"transfer\.cache_views keeps whole images"):
        assemble(config, info)
