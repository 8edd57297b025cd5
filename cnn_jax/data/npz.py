"""An .npz file of arrays as a data set, with the names that MedMNIST or Keras give them."""

import zipfile
from pathlib import Path

import numpy as np

from cnn_jax import experiment, runtime
from cnn_jax.data import arrays
from cnn_jax.data.sources import Source, file_of
from cnn_jax.errors import RunError, UsageError

# The names of (images, labels) of each split, in the files that are known.
_LAYOUTS = (
    {
        "train": ("train_images", "train_labels"),
        "validation": ("val_images", "val_labels"),
        "test": ("test_images", "test_labels"),
    },
    {
        "train": ("x_train", "y_train"),
        "validation": ("x_val", "y_val"),
        "test": ("x_test", "y_test"),
    },
    {"train": ("images", "labels")},
    {"train": ("x", "y")},
)
_EXPECTED = (
    "expected train_images and train_labels (also val_..., test_...), x_train and y_train (also "
    "..._val, ..._test), or images and labels"
)
# Numbers of an array that may be had of a file: anything else would have to be unpickled.
_KINDS = "biuf"


def source(config: experiment.Dataset, least_classes: int = 2, multilabel: bool = False) -> Source:
    """Reads the arrays of `config.path`, which are of two classes at least.

    Raises:
        UsageError: no path is given, or its arrays are not images and labels.
        RunError: there is no such file, it is damaged, or it is larger than the memory.
    """
    del least_classes
    path = file_of(config)
    with _opened(path) as archive:
        named = {Path(each.filename).stem: each for each in archive.infolist()}
        layout = _layout(path, list(named))
        wanted = {name: named[name] for pair in layout.values() for name in pair}
        _check_size(path, archive, wanted)
        found = {name: _read(path, archive, entry) for name, entry in wanted.items()}
    pairs = {split: (found[images], found[labels]) for split, (images, labels) in layout.items()}
    for images, _ in pairs.values():
        if images.ndim == 4 and images.shape[-1] not in (1, 3):
            raise UsageError(
                f"{path} has images of shape {images.shape[1:]}, with {images.shape[-1]} channels; "
                "images of 1 or 3 channels are taken, and no volumes"
            )
    train = pairs.pop("train")
    names, parts = arrays.check(train, pairs, None, f"{path}: ", multilabel)
    return Source("npz", "", names, dict(parts))


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or 'it is damaged'}") from error
    except Exception as error:  # a damaged directory of it makes Python raise nearly anything
        raise RunError(f"{path} is no .npz file, or it is damaged") from error


def _layout(path: Path, names: list[str]) -> dict[str, tuple[str, str]]:
    """Returns {split: names of its images and labels} of the layout that a file has."""
    for layout in _LAYOUTS:
        if set(layout["train"]) <= set(names):
            found = {split: pair for split, pair in layout.items() if set(pair) & set(names)}
            for pair in found.values():
                if missing := [name for name in pair if name not in names]:
                    raise RunError(f"{path} has no {missing[0]}, only {', '.join(names)}")
            return found
    listed = ", ".join(names[:10]) or "none"
    raise RunError(f"{path} has the arrays {listed}; {_EXPECTED}")


def _check_size(path: Path, archive: zipfile.ZipFile, wanted: dict[str, zipfile.ZipInfo]) -> None:
    """Refuses arrays that do not fit into the memory, and sizes that are not those of the file."""
    size = 0
    for name, entry in wanted.items():
        shape, dtype, start = _header(path, archive, entry)
        if dtype.kind not in _KINDS:
            raise RunError(f"{path}: the array {name} holds {dtype}, and only numbers are read")
        expected = start + int(np.prod(shape, dtype=object)) * dtype.itemsize
        if expected != entry.file_size:
            raise RunError(f"{path} is damaged: the array {name} has not the size that it says")
        size += entry.file_size
    if size > runtime.host_memory():
        raise RunError(
            f"{path} holds {size / 2**30:,.1f} GiB of arrays, more than this machine's memory; "
            "make a folder of images of it, for --dataset.name=folder"
        )


def _header(
    path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype, int]:
    """Returns (shape, dtype, where the numbers begin) of an array."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        with archive.open(entry) as file:
            shape, _, dtype = readers[np.lib.format.read_magic(file)](file)
            return shape, dtype, file.tell()
    except Exception as error:  # a damaged header makes NumPy raise nearly anything
        raise RunError(f"{path} is damaged: {entry.filename} in it is no array") from error


def _read(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    try:
        with archive.open(entry) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:
        raise RunError(f"{path} is damaged: {entry.filename} in it cannot be read") from error
