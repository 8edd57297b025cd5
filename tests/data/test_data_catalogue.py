"""Data sets by name: prepared directories, preparing, downloads from a server on this machine."""

import gzip
import hashlib
import http.server
import io
import json
import shutil
import socket
import tarfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image
from sklearn.datasets import load_digits
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.core.utils import Size
from tensorflow_datasets.image_classification.cats_vs_dogs import CatsVsDogs
from tensorflow_datasets.image_classification.cifar import Cifar10, Cifar100
from tensorflow_datasets.image_classification.mnist import FashionMNIST

from cnn_jax import runtime
from cnn_jax.data import cache, catalogue, load, prepare, prepared, splits
from cnn_jax.data.images import Decoding
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Dataset

RNG = np.random.default_rng(0)


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def grey(value, size=6):
    return encode(np.full((size, size, 3), value, np.uint8))


class SomeShapes(tfds.core.GeneratorBasedBuilder):
    """A data set nobody knows, with a split of every kind."""

    VERSION = tfds.core.Version("1.2.3")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["round", "square"]),
            "mask": tfds.features.Image(shape=(None, None, 1)),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        sizes = {"train": 12, "validation": 4, "test": 4, "extra": 2, "odd": 2}
        return {split: self._generate_examples(split, n) for split, n in sizes.items()}

    def _generate_examples(self, split, n):
        for i in range(n):
            label = "square" if i % 2 else "round"
            image = b"broken" if split == "odd" and i == 0 else grey(100 * (i % 2) + i)
            yield i, {"image": image, "label": label, "mask": b"not decoded"}


class NoLabels(SomeShapes):
    def _info(self):
        features = {"image": tfds.features.Image(), "text": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples("train", 2)}

    def _generate_examples(self, split, n):
        for i in range(n):
            yield i, {"image": grey(i), "text": "x"}


def make(builder, place):
    builder(data_dir=place, file_format="array_record").download_and_prepare()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """$TFDS_DATA_DIR, and no proxy between this machine and itself."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    tfds.disable_progress_bar()
    return tmp_path / "tfds"


@pytest.fixture
def own(place):
    """Where data sets are prepared."""
    return place / "cnn_jax"


@pytest.fixture
def shapes(place):
    make(SomeShapes, place)
    return place / "some_shapes" / "1.2.3"


def test_a_prepared_directory_is_read(shapes):
    data = load(Dataset(name="some_shapes"))
    info = data.info
    assert (info.name, info.version) == ("some_shapes", "1.2.3")
    assert info.class_names == ("round", "square")
    assert info.sizes == {"train": 12, "validation": 4, "test": 4}
    assert info.class_counts["train"] == (6, 6)
    assert any("not used: the splits extra, odd" in note for note in info.notes)
    train = data.splits["train"]
    np.testing.assert_array_equal(train.images[:, 0, 0, 0] >= 100, train.labels)
    assert len(set(train.ids)) == 12
    by_version = load(Dataset(name="some_shapes:1.2.3"))
    assert by_version.info == info


def test_the_test_split_is_not_opened_where_it_is_not_wanted(shapes):
    whole = load(Dataset(name="some_shapes"))
    for path in shapes.glob("*-test.*"):
        path.unlink()
    shutil.rmtree(runtime.cache_dir() / "arrays")
    data = load(Dataset(name="some_shapes"), test=False)
    assert data.info.sizes == {"train": 12, "validation": 4}
    assert data.info.digest == whole.info.digest
    with pytest.raises(RunError):
        load(Dataset(name="some_shapes"))


def test_data_dir_comes_before_the_environment(shapes, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "empty"))
    with pytest.raises(RunError, match=f"not prepared in {tmp_path / 'empty' / 'cnn_jax'}"):
        load(Dataset(name="some_shapes"))
    assert load(Dataset(name="some_shapes", data_dir=str(tmp_path / "tfds"))).info.sizes["test"]


def test_the_newest_version_is_read(shapes):
    for version in ("1.10.0", "1.9.0"):
        shutil.copytree(shapes, shapes.parent / version)
        info = shapes.parent / version / "dataset_info.json"
        info.write_text(info.read_text().replace("1.2.3", version))
    (shapes.parent / "2.0.0").mkdir()  # begun and not finished
    assert load(Dataset(name="some_shapes")).info.version == "1.10.0"


def test_a_split_can_be_named_for_validation(shapes):
    data = load(Dataset(name="some_shapes", validation_split="extra"))
    assert data.info.sizes == {"train": 12, "validation": 2, "test": 4}
    with pytest.raises(UsageError, match="only the splits extra, odd, test, train, validation"):
        load(Dataset(name="some_shapes", validation_split="holdout"))


def test_an_image_that_cannot_be_decoded_is_named(shapes):
    with pytest.raises(RunError, match=r"some_shapes odd odd_0000\d: not a PNG"):
        load(Dataset(name="some_shapes", validation_split="odd"))
    data = load(Dataset(name="some_shapes", validation_split="odd", on_error="skip"))
    assert data.info.sizes["validation"] == 1
    assert any("odd: skipped 1 " in note for note in data.info.notes)


def test_other_contents_under_the_same_version_are_not_confused(shapes, place, monkeypatch):
    before = load(Dataset(name="some_shapes")).info
    shutil.rmtree(shapes)
    monkeypatch.setattr(
        SomeShapes,
        "_split_generators",
        lambda self, _: {"train": self._generate_examples("train", 30)},
    )
    make(SomeShapes, place)
    after = load(Dataset(name="some_shapes")).info
    assert before.sizes["train"] == 12
    assert after.sizes == {"train": 24, "validation": 3, "test": 3}


def test_data_without_class_labels_is_refused(place):
    make(NoLabels, place)
    with pytest.raises(UsageError, match=r"no class label \(it has image, text\)"):
        load(Dataset(name="no_labels"))


def as_tfrecord(path):
    info = path / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))


def test_tfrecord_directories_are_refused_in_one_line(shapes, place, own, monkeypatch):
    as_tfrecord(shapes)
    monkeypatch.setattr(catalogue.extras, "has", lambda name: name != "tensorflow")
    for given in (None, str(place)):
        with pytest.raises(RunError, match=r"prepared as tfrecord.*`tf` extra") as caught:
            load(Dataset(name="some_shapes", data_dir=given))
        assert "\n" not in str(caught.value)
    shutil.copytree(shapes, place / "cifar10" / "3.0.2")
    with pytest.raises(RunError, match=r"and it is prepared as array_record there") as caught:
        load(Dataset(name="cifar10", data_dir=str(place)))
    assert "`tf` extra" not in str(caught.value)
    assert not own.exists()


def test_a_tfrecord_copy_of_ours_is_passed_over_with_a_note(shapes, place, own, serve):
    serve(Cifar10, "cifar-10-binary.tar.gz", cifar_archive())
    copy = place / "cifar10" / "3.0.2"
    shutil.copytree(shapes, copy)
    as_tfrecord(copy)
    before = sorted(path for path in place.rglob("*") if "downloads" not in path.parts)
    for _ in range(2):
        info = load(Dataset(name="cifar10")).info
        assert info.sizes["test"]
        assert f"not used: {copy}, which only TensorFlow can read" in info.notes
    assert (own / "cifar10" / "3.0.2" / "dataset_info.json").is_file()
    assert [path for path in before if not path.exists()] == []


def test_without_variables_ours_go_to_the_cache_and_both_are_read(tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cached = tmp_path / "cache" / "tensorflow_datasets"
    make(SomeShapes, tmp_path / "home" / "tensorflow_datasets")
    assert load(Dataset(name="some_shapes")).info.sizes["test"] == 4
    (tmp_path / "home" / "tensorflow_datasets").rename(cached.with_name("moved"))
    with pytest.raises(RunError, match=str(cached / "some_shapes")):
        load(Dataset(name="some_shapes"))
    make(SomeShapes, cached)
    assert load(Dataset(name="some_shapes")).info.sizes["test"] == 4


def damage_info(path):
    (path / "dataset_info.json").write_text("{")


def damage_features(path):
    (path / "features.json").unlink()


def damage_records(path):
    for record in path.glob("*.array_record*"):
        record.write_bytes(record.read_bytes()[:50])


def remove_records(path):
    for record in path.glob("*.array_record*"):
        record.unlink()


def damage_names(path):
    (path / "label.labels.txt").write_bytes(b"\xff\xfe")


def shorten_names(path):
    (path / "label.labels.txt").write_text("one\n")


def nest_features(path):
    (path / "features.json").write_text("[" * 100_000)


def reshape_features(path):
    values = json.loads((path / "features.json").read_text())
    values["featuresDict"]["features"]["image"]["image"]["shape"] = "8x8"
    (path / "features.json").write_text(json.dumps(values))


def count_classes(path):
    values = json.loads((path / "features.json").read_text())
    values["featuresDict"]["features"]["label"]["classLabel"]["numClasses"] = str(2**60)
    (path / "features.json").write_text(json.dumps(values))


def reshape_info(path):
    (path / "dataset_info.json").write_text(
        '{"fileFormat": "array_record", "splits": [{"a": 1}, 2]}'
    )


HARMS = (
    *(damage_info, damage_features, damage_records, remove_records, damage_names, shorten_names),
    *(nest_features, reshape_features, count_classes, reshape_info),
)


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_directory_is_named(shapes, harm):
    harm(shapes)
    with pytest.raises(RunError, match="cannot be read") as caught:
        load(Dataset(name="some_shapes"))
    assert str(shapes) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("cifar11", "cifar10"), ("Cifar10", "cifar10"), ("cats-vs-dogs", "cats_vs_dogs"),
     ("digit", "digits"), ("mnst", "mnist"), ("foldr", "folder"), ("../etc", None),
     ("a b", None), ("huggingface:x", None), ("", None)],
)  # fmt: skip
def test_an_unknown_name_gets_a_suggestion(place, name, meant):
    with pytest.raises(UsageError, match=f"did you mean {meant}" if meant else "no data set"):
        load(Dataset(name=name))
    assert not place.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10:9.9.9", "only: 3.0.2"),
        ("emnist/zzz", "byclass, bymerge"),
        ("glue", "not image classification"),
    ],
)
def test_what_tfds_does_not_have_is_refused_in_one_line(place, name, message):
    with pytest.raises(UsageError, match=message) as caught:
        load(Dataset(name=name))
    assert "\n" not in str(caught.value)


def test_other_data_sets_ask_for_the_tf_extra(place, monkeypatch):
    monkeypatch.setattr(prepare.extras, "has", lambda name: name != "tensorflow")
    with pytest.raises(RunError, match=r"pip install 'cnn-jax\[tf\]'") as caught:
        load(Dataset(name="emnist"))
    assert str(place / "cnn_jax" / "emnist" / "byclass" / "3.1.0") in str(caught.value)


def test_the_digits_are_those_of_scikit_learn(place, capsys):
    data = load(Dataset(name="digits"))
    assert capsys.readouterr().out == ""
    assert data.info.sizes == {"train": 1293, "validation": 144, "test": 360}
    assert data.info.image_shape == (8, 8, 1)
    assert data.info.class_names == tuple("0123456789")
    assert not place.exists()
    reference: Any = load_digits()
    seen = set()
    for part in data.splits.values():
        for image, label, name in zip(part.images, part.labels, part.ids, strict=True):
            index = int(name.removeprefix("digits_"))
            seen.add(index)
            assert label == reference.target[index]
            np.testing.assert_allclose(image[..., 0] / 255 * 16, reference.images[index], atol=0.04)
    assert len(seen) == 1797
    shares = np.array(data.info.class_counts["test"]) / 360
    np.testing.assert_allclose(shares, np.bincount(reference.target) / 1797, atol=0.003)


def test_the_digits_are_held_out_as_they_say():
    """In the order of earlier versions, so that a run on them goes on to the same bits."""
    data = load(Dataset(name="digits"))
    ids = [*data.splits["train"].ids, *data.splits["validation"].ids, *data.splits["test"].ids]
    reference: Any = load_digits()
    every = [f"digits_{i:04d}" for i in range(len(ids))]
    _, test = splits.hold_out(reference.target, every, 360)
    assert set(data.splits["test"].ids) == {every[i] for i in test}
    assert data.info.digest == "79b097e47ec6440ee1ed78f99f8ab1d759236006fa07b1f077ca5414e6e5a29f"
    assert load(Dataset(name="digits:1.0.0")).info.digest == data.info.digest
    with pytest.raises(UsageError, match=r"digits:2\.0\.0: there is only digits, of version 1"):
        load(Dataset(name="digits:2.0.0"))


def test_a_file_where_the_place_should_be(place, serve):
    place.write_text("not a directory")
    assert load(Dataset(name="digits", data_dir=str(place))).info.sizes["test"] == 360
    serve(Cifar10, "cifar-10-binary.tar.gz", cifar_archive())
    with pytest.raises(RunError, match="could not be prepared"):
        load(Dataset(name="cifar10", data_dir=str(place)))


# Downloads.


class Server(http.server.SimpleHTTPRequestHandler):
    files: dict[str, bytes] = {}  # noqa: RUF012

    def do_GET(self):
        data = self.files.get(self.path)
        self.send_response(200 if data is not None else 404)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, format, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Returns a function that serves bytes as a builder's registered download."""
    Server.files = {}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def register(builder, name, data, served=None):
        if served is not False:
            Server.files[f"/{name}"] = data if served is None else served
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        info = checksums.UrlInfo(
            size=Size(len(data)),
            checksum=hashlib.sha256(data).hexdigest(),
            filename=name,
        )
        monkeypatch.setattr(builder, "url_infos", {url: info})
        return url

    yield register
    server.shutdown()
    server.server_close()
    thread.join()


CIFAR_IMAGES = RNG.integers(0, 256, (60, 32, 32, 3)).astype(np.uint8)
CIFAR_LABELS = np.arange(60) % 10
CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer",
                 "dog", "frog", "horse", "ship", "truck"]  # fmt: skip


def cifar_archive():
    """The binary version of CIFAR-10, with ten images in a file."""
    rows = np.concatenate(
        [CIFAR_LABELS[:, None], CIFAR_IMAGES.transpose(0, 3, 1, 2).reshape(60, -1)], axis=1
    ).astype(np.uint8)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    files = {name: rows[10 * i : 10 * i + 10].tobytes() for i, name in enumerate(names)}
    files["batches.meta.txt"] = ("\n".join(CIFAR_CLASSES) + "\n\n").encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def check_cifar10(data):
    assert data.info.class_names == tuple(CIFAR_CLASSES)
    assert data.info.sizes == {"train": 50, "validation": 10, "test": 10}
    for name, first in (("train", 0), ("test", 50)):
        part = data.splits[name]
        index = [first + int(i.removeprefix(f"{name}_")) for i in part.ids]
        np.testing.assert_array_equal(part.images, CIFAR_IMAGES[index])
        np.testing.assert_array_equal(part.labels, CIFAR_LABELS[index])


def test_cifar10_is_downloaded_and_prepared(own, serve, capfd):
    serve(Cifar10, "cifar-10-binary.tar.gz", cifar_archive())
    check_cifar10(load(Dataset(name="cifar10", validation_split="test")))
    assert capfd.readouterr().out == ""
    features = json.loads((own / "cifar10" / "3.0.2" / "features.json").read_text())
    assert set(features["featuresDict"]["features"]) == {"id", "image", "label"}
    Server.files.clear()  # from now on nothing is downloaded
    check_cifar10(load(Dataset(name="cifar10", validation_split="test")))
    builder: Any = tfds.builder("cifar10", data_dir=own)  # TFDS itself reads it, too
    assert builder.is_prepared()
    example = builder.as_data_source("test")[0]
    index = 50 + int(example["id"].decode().removeprefix("test_"))
    np.testing.assert_array_equal(example["image"], CIFAR_IMAGES[index])


def test_a_download_that_is_there_already_needs_no_network(own, serve):
    serve(Cifar10, "cifar-10-binary.tar.gz", cifar_archive())
    load(Dataset(name="cifar10", validation_split="test"))
    shutil.rmtree(own / "cifar10")
    Server.files.clear()
    check_cifar10(load(Dataset(name="cifar10", validation_split="test")))


def test_mnist_and_its_like_are_downloaded_and_prepared(own, serve, monkeypatch, capfd):
    """As TFDS does: the same features and keys, so that its files are the same."""
    images = RNG.integers(0, 256, (40, 28, 28)).astype(np.uint8)
    labels = (np.arange(40) % 10).astype(np.uint8)
    infos = {}
    for split, part in (("train", slice(0, 30)), ("t10k", slice(30, 40))):
        for kind, array in (("images-idx3", images[part]), ("labels-idx1", labels[part])):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            content = gzip.compress(header + array.tobytes())
            serve(FashionMNIST, f"{split}-{kind}-ubyte.gz", content)
            infos.update(FashionMNIST.url_infos or {})
    monkeypatch.setattr(FashionMNIST, "url_infos", infos)
    for _ in range(2):
        found = load(Dataset(name="fashion_mnist", validation_split="test"))
        assert capfd.readouterr().out == ""
        assert found.info.class_names[:2] == ("T-shirt/top", "Trouser")
        assert found.info.sizes == {"train": 30, "validation": 10, "test": 10}
        assert found.info.image_shape == (28, 28, 1)
        for name, first in (("train", 0), ("test", 30)):
            split = found.splits[name]
            order = [
                np.flatnonzero((images == image[..., 0]).all((1, 2))) for image in split.images
            ]
            assert sorted(int(i[0]) for i in order) == list(range(first, first + len(split)))
            assert [labels[i[0]] for i in order] == split.labels.tolist()
        Server.files.clear()  # from now on nothing is downloaded
    builder: Any = tfds.builder("fashion_mnist", data_dir=own)
    assert builder.is_prepared()


def test_cifar100_is_downloaded_and_prepared_with_its_fine_classes(own, serve):
    fine, coarse = np.arange(20) % 100, np.arange(20) % 20
    pixels = CIFAR_IMAGES[:20].transpose(0, 3, 1, 2).reshape(20, -1)
    rows = np.concatenate([coarse[:, None], fine[:, None], pixels], axis=1).astype(np.uint8)
    files = {
        "train.bin": rows[:15].tobytes(),
        "test.bin": rows[15:].tobytes(),
        "fine_label_names.txt": "\n".join(f"fine{i}" for i in range(100)).encode() + b"\n",
        "coarse_label_names.txt": "\n".join(f"coarse{i}" for i in range(20)).encode() + b"\n",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"cifar-100-binary/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    serve(Cifar100, "cifar-100-binary.tar.gz", buffer.getvalue())
    found = load(Dataset(name="cifar100", validation_split="test"))
    assert found.info.class_names == tuple(f"fine{i}" for i in range(100))
    index = [int(name.removeprefix("train_")) for name in found.train.ids]
    np.testing.assert_array_equal(found.train.images, CIFAR_IMAGES[index])
    np.testing.assert_array_equal(found.train.labels, fine[index])
    builder: Any = tfds.builder("cifar100", data_dir=own)
    assert builder.info.features["coarse_label"].names[3] == "coarse3"

    # The same archive in a folder of the user's serves too, without preparation.
    (own / "here").mkdir()
    (own / "here" / "cifar-100-binary.tar.gz").write_bytes(buffer.getvalue())
    again = load(Dataset(name="cifar100", path=str(own / "here"), validation_split="test"))
    assert again.info.class_names == found.info.class_names
    np.testing.assert_array_equal(again.train.images, CIFAR_IMAGES[:15])
    np.testing.assert_array_equal(again.train.labels, fine[:15])


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def register_unreachable(monkeypatch, data=b"x"):
    url = f"http://127.0.0.1:{closed_port()}/cifar-10-binary.tar.gz"
    info = checksums.UrlInfo(
        size=Size(len(data)),
        checksum=hashlib.sha256(data).hexdigest(),
        filename="cifar-10-binary.tar.gz",
    )
    monkeypatch.setattr(Cifar10, "url_infos", {url: info})
    return url


def test_no_network_is_said_at_once_with_what_to_do(place, monkeypatch):
    url = register_unreachable(monkeypatch)
    start = time.monotonic()
    with pytest.raises(RunError, match="cannot be reached") as caught:
        load(Dataset(name="cifar10"))
    assert time.monotonic() - start < 10
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "127.0.0.1",
        url,
        str(place / "cnn_jax" / "cifar10" / "3.0.2"),
        str(place / "cnn_jax" / "downloads" / "manual" / "cifar-10-binary.tar.gz"),
        "dataset.data_dir",
    ):
        assert part in message
    assert not place.exists()


def test_a_file_put_where_the_message_says_is_used(place, monkeypatch):
    archive = cifar_archive()
    register_unreachable(monkeypatch, archive)
    with pytest.raises(RunError) as caught:
        load(Dataset(name="cifar10"))
    path = Path(str(caught.value).partition("put it at ")[2].partition(",")[0])
    path.parent.mkdir(parents=True)
    path.write_bytes(archive)
    check_cifar10(load(Dataset(name="cifar10", validation_split="test")))


def test_a_name_server_that_does_not_answer_does_not_hold_it_up(place, monkeypatch):
    register_unreachable(monkeypatch)
    over = threading.Event()

    def connect(*args):
        over.wait(30)
        raise OSError("too late")

    monkeypatch.setattr(prepare, "_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(prepare.socket, "create_connection", connect)
    with pytest.raises(RunError, match="no answer"):
        load(Dataset(name="cifar10"))
    over.set()


def test_the_preflight_asks_the_proxy_where_there_is_one(place, monkeypatch):
    register_unreachable(monkeypatch)
    monkeypatch.setenv("no_proxy", "")
    port = closed_port()
    monkeypatch.setenv("http_proxy", f"http://localhost:{port}")
    with pytest.raises(RunError, match=f"localhost:{port} cannot be reached"):
        load(Dataset(name="cifar10"))


@pytest.mark.parametrize(
    ("served", "message"), [(b"something else", "wrong checksum"), (False, "404")]
)
def test_a_wrong_or_missing_download_is_named(place, serve, served, message):
    url = serve(Cifar10, "cifar-10-binary.tar.gz", cifar_archive(), served)
    with pytest.raises(RunError, match=message) as caught:
        load(Dataset(name="cifar10"))
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (place / "cnn_jax" / "cifar10" / "3.0.2").exists()


def test_an_archive_without_its_files_is_named(place, serve):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz"):
        pass
    serve(Cifar10, "cifar-10-binary.tar.gz", buffer.getvalue())
    with pytest.raises(RunError, match=r"could not be prepared.*batches.meta.txt"):
        load(Dataset(name="cifar10"))


def test_cats_vs_dogs_keeps_jfif_and_names_what_it_drops(own, serve, monkeypatch):
    pixels = {}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for kind, level in (("Cat", 40), ("Dog", 200)):
            for i in range(12):
                name = f"PetImages/{kind}/{i}.jpg"
                pixels[name] = np.full((20 + i, 30, 3), level + i, np.uint8)
                archive.writestr(name, encode(pixels[name], "JPEG", quality=100))
        archive.writestr("PetImages/Cat/100.jpg", encode(np.zeros((9, 9, 3), np.uint8), "PNG"))
        archive.writestr("PetImages/Dog/101.jpg", b"")
        archive.writestr(
            "PetImages/Dog/102.jpg",
            encode(RNG.integers(0, 256, (90, 90, 3)).astype(np.uint8), "JPEG")[:3000],
        )
        archive.writestr("PetImages/Dog/103.jpg", encode(np.zeros((9, 9), np.uint8), "JPEG"))
        archive.writestr("PetImages/Dog/Thumbs.db", b"litter")
        archive.writestr("../PetImages/Dog/104.jpg", b"outside")
        archive.writestr("readme.txt", b"about")
    serve(CatsVsDogs, "kagglecatsanddogs_5340.zip", buffer.getvalue())
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda *args: warnings.append(args[0] % args[1:]))
    data = load(Dataset(name="cats_vs_dogs", image_size=10))
    assert data.info.class_names == ("cat", "dog")
    assert sum(data.info.sizes.values()) == 25
    assert set(data.info.sizes) == {"train", "validation", "test"}
    dropped = (own / "cats_vs_dogs" / "4.0.1" / "dropped.txt").read_text()
    reasons = dict(line.split(": ", 1) for line in dropped.splitlines())
    assert set(reasons) == {f"PetImages/{n}.jpg" for n in ("Cat/100", "Dog/101", "Dog/102")}
    assert "JFIF" in reasons["PetImages/Cat/100.jpg"]
    assert "truncated" in reasons["PetImages/Dog/102.jpg"]
    assert any("3 images" in note and "dropped.txt" in note for note in data.info.notes)
    assert any("3 images dropped" in warning for warning in warnings)
    for part in data.splits.values():
        for image, label, name in zip(part.images, part.labels, part.ids, strict=True):
            assert data.info.class_names[label] == name.split("/")[1].lower()
            if name in pixels:
                assert abs(image.astype(int) - pixels[name][0, 0, 0]).max() <= 2


def test_another_process_that_prepared_it_meanwhile_serves_both(own, serve, monkeypatch):
    serve(Cifar10, "cifar-10-binary.tar.gz", cifar_archive())
    builder: Any = tfds.builder("cifar10", data_dir=own, file_format="array_record")
    original = type(builder).download_and_prepare
    entered = []

    def race(self, **kwargs):
        if not entered:
            entered.append(True)
            prepare.prepare("cifar10", own)
            raise OSError("the directory is not empty")
        return original(self, **kwargs)

    monkeypatch.setattr(Cifar10, "download_and_prepare", race)
    check_cifar10(load(Dataset(name="cifar10", validation_split="test")))


# The real data, where it is prepared.


@pytest.fixture
def real_data():
    place = prepared.find_places(Dataset()).others[0]
    if prepared.find(place, "cifar10", None, None) is None:
        pytest.skip(f"no cifar10 in {place}")


def test_the_real_cifar10(real_data):
    source: Any = catalogue.source(Dataset(name="cifar10"))
    sizes = {name: encoded.num_examples for name, encoded in source.splits.items()}
    assert sizes == {"train": 50_000, "test": 10_000}
    assert source.class_names == tuple(CIFAR_CLASSES)
    test, skipped = cache.open_or_decode(source.splits["test"], Decoding(), "refuse")
    assert skipped == []
    np.testing.assert_array_equal(np.bincount(test.labels), [1000] * 10)
    place = prepared.find_places(Dataset()).others[0]
    builder: Any = tfds.builder("cifar10", data_dir=place)
    for example in builder.as_data_source("test[:20]"):
        index = test.ids.index(example["id"].decode())
        np.testing.assert_array_equal(test.images[index], example["image"])
        assert test.labels[index] == example["label"]
