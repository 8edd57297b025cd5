"""Data sets in the files in which they are published: IDX (MNIST and its like), and CIFAR's binary.

They are read from a folder that the user names, and by `prepare` from what it has downloaded.
"""

import io
import math
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cnn_jax import experiment, places
from cnn_jax.data.sources import Source
from cnn_jax.data.splits import Split
from cnn_jax.errors import RunError
from cnn_jax.sections import PUBLISHED

_FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
# The classes of data sets whose files do not name them, as TFDS names them.
_CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": tuple(_FASHION.split(",")),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}
_MOST_BYTES = 1 << 30  # of the content of one file; those of MNIST have 47 MB
# {split: (images, labels)} of MNIST and its like, without the ending .gz.
IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
# {name: (archive, folder in it, {split: files}, file of the classes, bytes of labels in a row)}.
_CIFAR = {
    "cifar10": (
        "cifar-10-binary.tar.gz",
        "cifar-10-batches-bin",
        {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]},
        "batches.meta.txt",
        1,
    ),
    "cifar100": (
        "cifar-100-binary.tar.gz",
        "cifar-100-binary",
        {"train": ["train.bin"], "test": ["test.bin"]},
        "fine_label_names.txt",
        2,
    ),
}
# Where torchvision keeps the files of a data set, below the folder that it is given.
_TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
assert set(PUBLISHED) == {*_CLASSES, *_CIFAR}

# Returns the content of a file by its name.
Files = Callable[[str], bytes]


def source(config: experiment.Dataset) -> Source:
    """Reads the files of `config.name` in the folder `config.path`.

    Raises:
        RunError: there is no such folder, or a file is missing, damaged or of another data set.
    """
    folder = places.place(config.path or "", "--dataset.path")
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise RunError(f"--dataset.path={config.path} {what}; it is to hold {_wanted(config.name)}")
    if config.name in _CLASSES:
        inner = ("", "raw", f"{_TORCHVISION[config.name]}/raw", config.name)
        where = [folder / name for name in inner]
        names = _CLASSES[config.name]
        parts = {split: _idx_split(where, split, config.name) for split in IDX_FILES}
    else:
        names, rows = cifar(config.name, _cifar_files(folder, config.name), str(folder))
        parts = {
            split: Split(images, labels[:, -1].astype(np.int32), _ids(split, len(images)))
            for split, (images, labels) in rows.items()
        }
    for split, part in parts.items():
        if len(part) and part.labels.max() >= len(names):
            raise RunError(
                f"the files in {folder} are not those of {config.name}: the label "
                f"{part.labels.max()} is in {split}, and there are {len(names)} classes"
            )
    return Source(config.name, "", names, dict(parts))


def _wanted(name: str) -> str:
    if name in _CIFAR:
        return f"{_CIFAR[name][0]}, or the folder {_CIFAR[name][1]} of it"
    return ", ".join(file for pair in IDX_FILES.values() for file in pair) + ", each .gz or not"


def _ids(split: str, count: int) -> list[str]:
    return [f"{split}_{i:05d}" for i in range(count)]


def _idx_split(where: Sequence[Path], split: str, name: str) -> Split:
    paths = []
    for stem in IDX_FILES[split]:
        names = (f"{stem}.gz", stem, stem.replace("-idx", ".idx"))
        there = [f for folder in where for each in names if (f := folder / each).is_file()]
        if not there:
            raise RunError(f"{where[0]} has no {stem} of {name}; it is to hold {_wanted(name)}")
        paths.append(there[0])
    images, labels = (idx(_content(path), str(path)) for path in paths)
    check_pair(images, labels, str(paths[0]))
    return Split(images[..., None], labels.astype(np.int32), _ids(split, len(images)))


def check_pair(images: np.ndarray, labels: np.ndarray, where: str) -> None:
    """Raises RunError where arrays of IDX files are no images and their labels."""
    if images.ndim != 3 or labels.shape != images.shape[:1] or 0 in images.shape:
        raise RunError(
            f"{where} has an array of shape {images.shape} and its labels one of {labels.shape}; "
            "images are [n, height, width], and labels [n]"
        )


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise RunError(f"{path} is too large for a file of this kind")
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error


def idx(content: bytes, where: str) -> np.ndarray:
    """Returns the array in an IDX file of bytes, which may be compressed by gzip.

    Args:
        content: the file's. It begins with two zeros, 8 for bytes, the number of axes, and their
            lengths as big-endian numbers of 4 bytes.
        where: how messages name it.

    Returns:
        uint8 of the shape that the file says.

    Raises:
        RunError: it is damaged, or no IDX file of bytes.
    """
    if content[:2] == b"\x1f\x8b":
        unpack = zlib.decompressobj(wbits=31)
        try:
            content = unpack.decompress(content, _MOST_BYTES)
        except zlib.error as error:
            raise RunError(f"{where} is damaged: it cannot be decompressed") from error
        if not unpack.eof:
            raise RunError(f"{where} is damaged: its end is missing, or it is too large")
    if len(content) < 8 or content[:3] != b"\0\0\x08" or not 1 <= content[3] <= 4:
        raise RunError(f"{where} is no IDX file of bytes, as MNIST's are")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist()) if start < len(content) else ()
    if not shape or start + math.prod(shape) != len(content):
        raise RunError(f"{where} is damaged: it has not the size that it says")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _cifar_files(folder: Path, name: str) -> Files:
    """Returns a reader of the files of CIFAR, in a folder, the folder in it, or the archive."""
    archive, inner, splits, classes, _ = _CIFAR[name]
    for place in (folder, folder / inner):
        if (place / splits["test"][0]).is_file() and (place / classes).is_file():
            return lambda file: _content(place / file)
    if not (folder / archive).is_file():
        pickled = " (files that Python pickled are not read)" * any(folder.glob("cifar-*-py*"))
        raise RunError(f"{folder} has no {_wanted(name)}{pickled}")
    return tar_files(folder / archive)


def tar_files(archive: Path) -> Files:
    """Returns a reader of the files in an archive by their last names; nothing is extracted.

    Raises:
        RunError: it is damaged.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() else None
                if file is not None and member.size <= _MOST_BYTES:
                    found[Path(member.name).name] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise RunError(f"{archive} is a damaged archive") from error

    def read(name: str) -> bytes:
        if name not in found:
            raise RunError(f"{archive} has no {name}")
        return found[name]

    return read


def cifar(
    name: str, files: Files, where: str
) -> tuple[tuple[str, ...], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Reads the binary version of CIFAR-10 or CIFAR-100.

    Args:
        name: cifar10 or cifar100.
        files: returns the content of a file.
        where: how messages name the place.

    Returns:
        (names of the classes, {split: (images, labels)}): uint8 [n, 32, 32, 3], and uint8
        [n, 1], or [n, 2] of CIFAR-100, the coarse class and the fine one.

    Raises:
        RunError: a file is missing or damaged.
    """
    _, _, splits, classes, label_bytes = _CIFAR[name]
    words = files(classes).decode(errors="replace")
    names = tuple(line.strip() for line in io.StringIO(words) if line.strip())
    found = {}
    for split, wanted in splits.items():
        parts = []
        for file in wanted:
            content = files(file)
            if not content or len(content) % (label_bytes + 3072):
                raise RunError(f"{file} in {where} is damaged: it has no whole number of images")
            parts.append(np.frombuffer(content, np.uint8).reshape(-1, label_bytes + 3072))
        rows = np.concatenate(parts)
        images = rows[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        found[split] = np.ascontiguousarray(images), rows[:, :label_bytes]
    return names, found
