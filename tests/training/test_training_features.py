import errno
import os

import jax
import numpy as np
import pytest

from cnn_jax import data, experiment, models, trees
from cnn_jax.data import Split
from cnn_jax.errors import RunError
from cnn_jax.experiment import Checkpoint, Dataset, Experiment, Model, Optimizer, Train, Transfer
from cnn_jax.runs import stored
from cnn_jax.training import feature_cache, features, start
from cnn_jax.training.parts import prepare
from tests import tiny

N = 150  # three pieces, the last one short


def made_data():
    rng = np.random.default_rng(0)

    def split(n):
        labels = np.arange(n, dtype=np.int32) % 2
        images = rng.integers(0, 128, (n, 32, 32, 3), dtype=np.uint8)
        images[labels == 1, :16] += 100
        return Split(images, labels, [str(i) for i in range(n)])

    splits = {"train": split(N), "validation": split(40)}
    info = data.DataInfo(
        name="made",
        version="1",
        class_names=("a", "b"),
        image_shape=(32, 32, 3),
        mean=(0.3,) * 3,
        std=(0.2,) * 3,
        sizes={"train": N, "validation": 40},
        class_counts={"train": (75, 75), "validation": (20, 20)},
        notes=(),
        digest="made",
    )
    return data.Data(info, splits)


def experiment_with(epochs=2, dataset=None, **transfer):
    return Experiment(
        dataset=dataset or Dataset(batch_size=32, eval_batch_size=40),
        model=Model(name="tiny", head="pooled", dropout_rate=0.5),
        transfer=Transfer(**{"freeze": "backbone", **transfer}),
        optimizer=Optimizer(learning_rate=1e-2),
        train=Train(epochs=epochs, loss="binary_cross_entropy"),
        checkpoint=Checkpoint(keep=1),
    )


def train(path, config):
    loaded = made_data()
    cut = prepare(config, loaded).plan.cached_stages
    history = start.train(config, loaded, workdir=path).history
    variables, _ = stored.load_variables(path / "checkpoints", "last")
    return cut, history, trees.flatten(variables["params"])


@pytest.fixture(autouse=True)
def cache(undrawn, tmp_path, monkeypatch):
    del undrawn
    monkeypatch.setitem(models.REGISTRY, "tiny", tiny.ENTRY)
    monkeypatch.setenv("CNN_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.mark.parametrize(
    ("transfer", "stages"),
    [({}, 5), ({"unfreeze": "2:block5", "lr_scale": "block5:0.1"}, 4)],
)
def test_training_on_cached_features_is_training_on_images(tmp_path, cache, transfer, stages):
    cut, history, cached = train(tmp_path / "cached", experiment_with(**transfer))
    plain = experiment_with(cache_features=False, **transfer)
    no_cut, plain_history, uncached = train(tmp_path / "plain", plain)
    assert (cut, no_cut) == (stages, 0)
    assert len(list(cache.iterdir())) == 2  # train and validation
    ours, plains = (
        np.loadtxt(tmp_path / path / "projector/tensors.tsv", delimiter="\t")
        for path in ("cached", "plain")
    )
    np.testing.assert_allclose(ours, plains, atol=1e-4)
    for path in cached:
        np.testing.assert_allclose(cached[path], uncached[path], atol=1e-5, err_msg=path)
    for a, b in zip(history, plain_history, strict=True):
        for name in ("train_loss", "validation_loss"):
            assert a[name] == pytest.approx(b[name], abs=1e-5)


def counting(calls, fail_at=None):
    def forward(images, view, piece):
        if len(calls) == fail_at:
            raise KeyboardInterrupt
        calls.append((view, piece))
        return jax.numpy.asarray(images[:, :2, :2].astype(np.float32)) + view

    return forward


def extract(calls, fail_at=None, views=1, key="k"):
    split = made_data().splits["train"]
    got = features.cached(
        split, views, counting(calls, fail_at), (2, 2, 3), key, "features", quiet=True
    )
    want = split.images[:, :2, :2].astype(np.float32)
    for view in range(views):
        np.testing.assert_array_equal(got.images[view * N : (view + 1) * N], want + view)
    np.testing.assert_array_equal(got.labels, np.tile(split.labels, views))
    assert len(got.ids) == views * N


def test_without_a_directory_they_are_in_memory(cache):
    config = experiment_with(dataset=Dataset(batch_size=32, flip=True), epochs=1, cache_views=2)
    loaded = made_data()
    parts = prepare(config, loaded)
    variables = parts.first_state().variables()
    assert start.train(config, loaded).history[0]["step"] == 5
    kept = parts.cache_features(variables, True, None, on_disk=False)
    assert not cache.exists()
    stored = parts.cache_features(variables, True, None)
    assert cache.exists()
    for name, split in stored.items():
        np.testing.assert_array_equal(split.images, kept[name].images)
        np.testing.assert_array_equal(split.labels, kept[name].labels)


def test_features_are_computed_once():
    calls = []
    extract(calls)
    extract(calls)
    assert calls == [(0, 0), (0, 1), (0, 2)]
    extract(calls, key="another")
    assert len(calls) == 6


def test_a_killed_extraction_goes_on_where_it_was():
    calls = []
    with pytest.raises(KeyboardInterrupt):
        extract(calls, fail_at=2)
    extract(calls)
    assert calls == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize("place", [-3, 200])
def test_a_damaged_piece_is_named_and_made_anew(cache, caplog, place):
    calls = []
    extract(calls)
    path = cache / "k" / "features.npy"
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)
    extract(calls)
    assert len(calls) == 4
    assert calls[3] == ((0, 2) if place < 0 else (0, 0))
    assert "is damaged" in caplog.text
    assert str(cache / "k") in caplog.text


@pytest.mark.parametrize("content", [b"", b"not an array", None])
def test_a_damaged_file_is_made_anew(cache, content):
    calls = []
    extract(calls)
    path = cache / "k" / "features.npy"
    path.unlink() if content is None else path.write_bytes(content)
    extract(calls)
    assert len(calls) == 6


@pytest.mark.parametrize(
    "content",
    [
        *("[]", "null", "{", "[" * 100_000, '{"0-0": 1}', '{"0-0": {"place": [0]}}'),
        '{"0-0": {"place": ["a", 1], "sha256": ""}}',
    ],
)
def test_a_damaged_list_of_pieces_is_made_anew(cache, content, caplog):
    calls = []
    extract(calls)
    (cache / "k" / "pieces.json").write_text(content)
    extract(calls)
    assert len(calls) == 6
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("failing", ["posix_fallocate", "fsync"])
def test_a_full_disk_is_one_line_and_what_is_done_stays(cache, monkeypatch, failing):
    calls = []
    with pytest.raises(KeyboardInterrupt):
        extract(calls, fail_at=1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    key = "k" if failing == "fsync" else "other"
    with monkeypatch.context() as patch:
        patch.setattr(os, failing, full, raising=False)
        with pytest.raises(RunError, match=r"No space left on device; .*CNN_JAX_CACHE") as caught:
            extract(calls, key=key)
    assert str(cache / key) in str(caught.value)
    assert not (cache / "other" / "features.npy").exists()
    extract(calls)
    assert calls.count((0, 0)) == 1  # computed before the disk was full


def test_views_of_augmented_images_are_cycled_through(tmp_path):
    augmented = Dataset(batch_size=32, eval_batch_size=40, flip=True, crop_padding=2)
    cut, _, _ = train(tmp_path / "none", experiment_with(epochs=1, dataset=augmented))
    assert cut == 0  # images are new in every epoch
    config = experiment_with(epochs=3, dataset=augmented, cache_views=2)
    cut, history, _ = train(tmp_path / "views", config)
    assert cut == 5
    assert len(history) == 3


def test_views_need_room(monkeypatch):
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda _: type("U", (), {"free": 10}))
    with pytest.raises(Exception, match=r"feature cache needs .* GiB"):
        extract([])


def test_what_the_cache_is_keyed_by():
    one = features.cache_key(parameters="x", stages=5)
    assert one == features.cache_key(stages=5, parameters="x")
    assert one != features.cache_key(parameters="y", stages=5)


def test_settings_of_the_head_share_a_cache(tmp_path, cache):
    train(tmp_path / "a", experiment_with(epochs=1))
    other = experiment.replace(
        experiment_with(epochs=1), {"optimizer.learning_rate": 0.1, "model.head": "pooled_dense128"}
    )
    train(tmp_path / "b", other)
    assert len(list(cache.iterdir())) == 2
