"""Prepared TFDS directories: finds them and reads their JSON and array_record files."""

import dataclasses
import functools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnn_jax import experiment, places, runtime
from cnn_jax.data.cache import Encoded
from cnn_jax.data.records import Prepared
from cnn_jax.data.sources import Source
from cnn_jax.errors import RunError, UsageError, UserError

_ID_FEATURES = ("id", "image/filename", "file_name", "filename", "image_id", "image/id")
_BLOCK = 1000
_MOST_CLASSES = 1_000_000  # a description with more is damaged


@dataclasses.dataclass(frozen=True)
class _Features:
    """The features of a TFDS data set that image classification needs.

    Attributes:
        image: the name of the image feature.
        label: the name of the class label.
        channels: the images' channels, 1 or 3.
        name: the text feature that names an example, or None.
        skipped: every image feature: TFDS is to decode none of them.
        num_classes: the number of classes.
    """

    image: str
    label: str
    channels: int
    name: str | None
    skipped: tuple[str, ...]
    num_classes: int


@dataclasses.dataclass(frozen=True)
class Places:
    """Directories that hold prepared data sets.

    Attributes:
        ours: where this package prepares, if it can be written; the first is looked at first.
        others: where TFDS prepares, which is only read: a directory of array_record there would
            take the place of the one that other programs can read.
    """

    ours: tuple[Path, ...]
    others: tuple[Path, ...]


def find_places(config: experiment.Dataset) -> Places:
    """Returns data_dir alone where it is given, else our own places and those of TFDS."""
    cached = runtime.cache_dir() / "tensorflow_datasets"
    if config.data_dir:
        place = places.place(config.data_dir, "--dataset.data_dir").absolute()
        return Places((place,), ())
    if given := os.environ.get("TFDS_DATA_DIR"):
        place = places.place(given, "TFDS_DATA_DIR").absolute()
        return Places((place / "cnn_jax", cached), (place,))
    usual = Path(os.path.expanduser("~/tensorflow_datasets"))  # "~" stays for a user without a home
    return Places((cached,), (usual,) if usual.is_absolute() else ())


def file_format(path: Path) -> str | None:
    """Returns the format of the files of a prepared directory; None where it is damaged."""
    try:
        return json.loads((path / "dataset_info.json").read_text()).get("fileFormat", "tfrecord")
    except (OSError, ValueError, AttributeError):
        return None


def find(place: Path, dataset: str, config: str | None, version: str | None) -> Path | None:
    """Returns the prepared directory of this version, else of the newest, else None."""
    folder = place / dataset / config if config else place / dataset
    versions = [version] if version else _versions(folder)
    paths = [folder / v for v in versions if (folder / v / "dataset_info.json").is_file()]
    return paths[0] if paths else None


def _versions(folder: Path) -> list[str]:
    """Returns the names of a folder's entries that are versions, the newest first."""
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    names = [name for name in names if re.fullmatch(r"\d+\.\d+\.\d+", name)]
    return sorted(names, key=lambda name: [int(part) for part in name.split(".")], reverse=True)


def classification_features(name: str, features: dict[str, Any]) -> _Features:
    """Selects the features that image classification needs.

    Args:
        name: the data set's, for messages.
        features: the features by name, described as in features.json.

    Raises:
        UsageError: the data set has no image, no class label, or images of another kind.
    """
    items = {key: value for key, value in features.items() if isinstance(value, dict)}
    images = [k for k, v in items.items() if str(v.get("pythonClassName")).endswith(".Image")]
    labels = [k for k, v in items.items() if "classLabel" in v]
    if not images or not labels:
        lacks = "no image" if not images else "no class label"
        listed = ", ".join(sorted(items)) or "nothing by name"
        raise UsageError(
            f"--dataset.name={name} is not image classification: it has {lacks} (it has {listed})"
        )
    image = "image" if "image" in images else images[0]
    label = "label" if "label" in labels else labels[0]
    described = items[image]["image"]
    channels = int(described.get("shape", {}).get("dimensions", ["-1", "-1", "-1"])[-1])
    if channels not in (-1, 1, 3) or described.get("dtype", "uint8") != "uint8":
        raise UsageError(
            f"--dataset.name={name}: its images have {channels} channels of "
            f"{described.get('dtype', 'uint8')}; 1 or 3 of uint8 are supported"
        )
    return _Features(
        image=image,
        label=label,
        channels=3 if channels == -1 else channels,
        name=next((k for k in _ID_FEATURES if "text" in items.get(k, {})), None),
        skipped=tuple(images),
        num_classes=int(items[label]["classLabel"].get("numClasses", 0)),
    )


def read(name: str, path: Path, ours: bool) -> Source:
    """Reads the description of a prepared directory; no example is opened yet.

    Args:
        name: as in `--dataset.name`.
        path: the directory.
        ours: whether we prepare this data set ourselves, for the advice in a message.

    Raises:
        UsageError: the data set is not image classification.
        RunError: the directory is damaged, or not in array_record files.
    """
    try:
        return _read(name, path, ours)
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        # A description may hold anything: it is JSON that another program wrote.
        what = error.strerror if isinstance(error, OSError) else "its description is damaged"
        raise _damaged(path, what) from error


def _read(name: str, path: Path, ours: bool) -> Source:
    info = json.loads((path / "dataset_info.json").read_text())
    features_json = json.loads((path / "features.json").read_text())
    described = features_json.get("featuresDict", {}).get("features", {})
    features = classification_features(name, described)
    stored_as = info.get("fileFormat", "tfrecord")
    if stored_as != "array_record":
        needs = "" if ours else "install the `tf` extra, "
        raise RunError(
            f"{path} is prepared as {stored_as}, and only array_record can be read: {needs}leave "
            "--dataset.data_dir out or give a new one, and it is prepared as array_record there"
        )
    if features.num_classes > _MOST_CLASSES:
        raise ValueError("it has no such number of classes")
    class_names = [str(i) for i in range(features.num_classes)]
    names_file = path / f"{features.label.replace('/', '-')}.labels.txt"
    if names_file.is_file():
        class_names = names_file.read_text().splitlines()
        if features.num_classes not in (0, len(class_names)):
            raise ValueError("it does not name every class")
    notes = []
    if (path / "dropped.txt").is_file():
        count = len((path / "dropped.txt").read_text().splitlines())
        notes.append(f"{count} images were dropped when it was prepared: {path / 'dropped.txt'}")
    version = str(info.get("version", path.name))
    encoded = {}
    for split in info.get("splits", []):
        count = sum(int(n) for n in split.get("shardLengths", []))
        if count > 0:
            shards = sorted(path.glob(f"*-{split['name']}.array_record*"))
            content = {
                "sizes": [shard.stat().st_size for shard in shards],
                "bytes": split.get("numBytes"),
                "shards": split["shardLengths"],
                "features": features_json,
            }
            encoded[split["name"]] = Encoded(
                name=name.partition(":")[0],
                version=version,
                split=split["name"],
                content=content,
                num_examples=count,
                channels=features.channels,
                blocks=_Blocks(path, split["name"], features, count),
                records=functools.partial(
                    Prepared, path, split["name"], features.image, features.skipped
                ),
                portable=content,
            )
    if not encoded:
        raise _damaged(path, "it has no examples")
    return Source(name.partition(":")[0], version, tuple(class_names), encoded, tuple(notes))


def _damaged(path: Path, reason: object) -> RunError:
    return RunError(
        f"{path} cannot be read: {' '.join(str(reason).split())[:300]}; remove it, and it will be "
        "prepared again"
    )


@dataclasses.dataclass(frozen=True)
class _Blocks:
    """Reads a split's examples in order, a thousand at a time, with the images still encoded."""

    path: Path
    split: str
    features: _Features
    count: int

    def __call__(self) -> Iterator[tuple[list[str], list[int], list[bytes]]]:
        f = self.features
        try:
            data = Prepared(self.path, self.split, f.image, f.skipped).source
            if len(data) != self.count:
                raise ValueError(f"{self.split} has {len(data)} examples in place of {self.count}")
            for start in range(0, self.count, _BLOCK):
                indices = range(start, min(start + _BLOCK, self.count))
                examples = data.__getitems__(list(indices))
                ids = [f"{self.split}_{i:05d}" for i in indices]
                if f.name is not None:
                    ids = [e[f.name].decode(errors="replace") for e in examples]
                yield ids, [int(e[f.label]) for e in examples], [e[f.image] for e in examples]
        except Exception as error:  # TFDS and array_record raise nearly anything
            if isinstance(error, UserError):
                raise
            raise _damaged(self.path, error) from error
