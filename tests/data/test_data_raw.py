"""Published files in a folder of the user's: IDX, as MNIST's, and CIFAR's binary version."""

import gzip

import numpy as np
import pytest

from cnn_jax import data
from cnn_jax.data import raw
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Dataset, Experiment

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (50, 28, 28)).astype(np.uint8)
LABELS = (np.arange(50) % 10).astype(np.uint8)


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.tobytes()


def write(folder, pack=lambda content: content, ending="", dot=False):
    folder.mkdir(parents=True, exist_ok=True)
    for split, part in (("train", slice(0, 40)), ("t10k", slice(40, 50))):
        for kind, array in (("images-idx3", IMAGES[part]), ("labels-idx1", LABELS[part])):
            name = f"{split}-{kind}-ubyte{ending}"
            name = name.replace("-idx", ".idx") if dot else name
            (folder / name).write_bytes(pack(idx(array)))


@pytest.mark.parametrize(
    ("name", "inner", "options"),
    [
        ("mnist", "", {"pack": gzip.compress, "ending": ".gz"}),
        ("fashion_mnist", "", {}),
        ("kmnist", "raw", {}),
        ("fashion_mnist", "FashionMNIST/raw", {}),  # as torchvision has them
        ("mnist", "", {"dot": True}),
    ],
)
def test_idx_files_are_read_from_a_folder(tmp_path, name, inner, options):
    write(tmp_path / "files" / inner, **options)
    found = data.load(Dataset(name=name, path=str(tmp_path / "files"), validation_split="test"))
    assert found.info.sizes == {"train": 40, "validation": 10, "test": 10}
    np.testing.assert_array_equal(found.train.images[..., 0], IMAGES[:40])
    np.testing.assert_array_equal(found.test.images[..., 0], IMAGES[40:])
    np.testing.assert_array_equal(found.train.labels, LABELS[:40])
    assert len(found.info.class_names) == 10
    assert found.train.ids[3] == "train_00003"


def test_cifar_10_is_read_from_a_folder(tmp_path):
    pixels = RANDOM.integers(0, 256, (60, 32, 32, 3)).astype(np.uint8)
    rows = np.concatenate(
        [np.arange(60)[:, None] % 10, pixels.transpose(0, 3, 1, 2).reshape(60, -1)], axis=1
    ).astype(np.uint8)
    folder = tmp_path / "x" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for i in range(5):
        (folder / f"data_batch_{i + 1}.bin").write_bytes(rows[10 * i : 10 * i + 10].tobytes())
    (folder / "test_batch.bin").write_bytes(rows[50:].tobytes())
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    for path in (folder, folder.parent):
        found = data.load(Dataset(name="cifar10", path=str(path), validation_split="test"))
        assert found.info.class_names == tuple("abcdefghij")
        np.testing.assert_array_equal(found.train.images, pixels[:50])
        np.testing.assert_array_equal(found.train.labels, np.arange(50) % 10)
    (folder / "data_batch_3.bin").write_bytes(b"x" * 100)
    with pytest.raises(RunError, match=r"data_batch_3.bin in .* is damaged: it has no whole"):
        data.load(Dataset(name="cifar10", path=str(folder)))


def test_what_is_missing_or_damaged_is_named(tmp_path):
    section = Dataset(name="mnist", path=str(tmp_path / "files"))

    def refused(section=section):
        with pytest.raises(RunError) as info:
            data.load(section)
        assert "\n" not in str(info.value)
        return str(info.value)

    assert "does not exist; it is to hold train-images-idx3-ubyte" in refused()
    write(tmp_path / "files")
    labels = tmp_path / "files" / "train-labels-idx1-ubyte"
    whole = labels.read_bytes()
    for content, message in (
        (whole[:-1], "it has not the size that it says"),
        (b"hello, I am text", "is no IDX file of bytes"),
        (gzip.compress(whole)[:-9], "its end is missing"),
        (b"\x1f\x8b" + whole, "cannot be decompressed"),
        (idx(LABELS[:39]), "its labels one of"),
        (idx(LABELS[:40] + 5), "not those of mnist: the label 14 is in train"),
        (idx(IMAGES[:40]), "its labels one of"),
    ):
        labels.write_bytes(content)
        assert message in refused()
    labels.unlink()
    assert "has no train-labels-idx1-ubyte of mnist" in refused()
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert "files that Python pickled are not read" in refused(
        Dataset(name="cifar10", path=str(tmp_path))
    )
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"no archive")
    assert "is a damaged archive" in refused(Dataset(name="cifar10", path=str(tmp_path)))
    with pytest.raises(UsageError, match=r"belongs to .*mnist.*, not to 'digits'"):
        Experiment(dataset=Dataset(name="digits", path="x"))


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(monkeypatch):
    monkeypatch.setattr(raw, "_MOST_BYTES", 1 << 16)
    with pytest.raises(RunError, match="or it is too large"):
        raw.idx(gzip.compress(bytes(1 << 20)), "bomb")


def test_mutated_files_are_read_or_end_in_one_line():
    whole = idx(IMAGES[:3])
    for number in range(200):
        random = np.random.default_rng(number)
        content = bytearray(whole if number % 2 else gzip.compress(whole))
        for at in random.integers(min(len(content), 40), size=2).tolist():
            content[at] = int(random.integers(256))
        try:
            raw.idx(bytes(content), "x")
        except RunError as error:
            assert str(error).count("\n") == 0  # noqa: PT017
