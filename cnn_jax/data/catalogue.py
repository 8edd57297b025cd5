"""The data sets that exist by name: ours, the user's registered ones, and those of TFDS."""

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cnn_jax import experiment, extras, text
from cnn_jax.data import digits, prepared, registry
from cnn_jax.data.sources import BUILT_IN, Source
from cnn_jax.errors import UsageError

_NAME = re.compile(r"(?P<dataset>\w+)(/(?P<config>[\w.\-]+))?(:(?P<version>\d+\.\d+\.\d+))?")


def source(config: experiment.Dataset) -> Source:
    """Opens the prepared directory of `config.name`, which is prepared first if there is none.

    The digits are in the package.

    Raises:
        UsageError: no data set has this name, it is not image classification, or TensorFlow
            Datasets is needed and is not installed.
        RunError: it is not prepared and cannot be, or its directory cannot be read.
    """
    name = config.name
    match = _NAME.fullmatch(name)
    if match is None:
        raise _unknown(name)
    if match["dataset"] == "digits":
        return _digits(name, **match.groupdict())
    where, ours = prepared.find_places(config), match["dataset"] in BUILT_IN
    found = [prepared.find(place, **match.groupdict()) for place in (*where.ours, *where.others)]
    there = [path for path in found if path is not None]
    passed = [path for path in there if prepared.file_format(path) not in ("array_record", None)]
    readable = [path for path in there if path not in passed]
    if readable:
        path = readable[0]
    elif passed and (config.data_dir or not (ours or extras.has("tensorflow"))):
        path = passed[0]  # the error says what to do
    else:
        if match["dataset"] not in (*BUILT_IN, *_names_of_tfds()):
            raise _unknown(name)
        extras.need("tensorflow_datasets", f"--dataset.name={name}", "tfds")
        from cnn_jax.data import prepare  # imports TFDS, which takes seconds

        path = prepare.prepare(name, _to_prepare_in(where.ours), (*where.ours, *where.others))
    read = prepared.read(name, path, ours)
    notes = [f"not used: {each}, which only TensorFlow can read" for each in passed if each != path]
    return dataclasses.replace(read, notes=(*read.notes, *notes))


def _digits(name: str, dataset: str, config: str | None, version: str | None) -> Source:
    if config or version not in (None, digits.VERSION):
        raise UsageError(
            f"--dataset.name={name}: there is only digits, of version {digits.VERSION}"
        )
    return Source(dataset, digits.VERSION, digits.CLASS_NAMES, {**digits.splits()})


def _to_prepare_in(places: Sequence[Path]) -> Path:
    """Returns the first place that can be written, or the first."""
    return next(filter(_writable, places), places[0])


def _writable(folder: Path) -> bool:
    """Returns whether a folder, or the nearest one above it that exists, can be written."""
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def _names_of_tfds() -> list[str]:
    if not extras.has("tensorflow_datasets"):
        return []
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def _unknown(name: str) -> UsageError:
    """Returns the error for a name that no data set has, with similar names."""
    ours = [*BUILT_IN, "folder", *registry.REGISTRY]
    tip = text.did_you_mean(name, [*ours, *_names_of_tfds()])
    there_are = f"; there are {', '.join(ours)}, and the image classification data sets of TFDS"
    if not extras.has("tensorflow_datasets"):
        there_are += f", which is not installed: {extras.install('tfds')}"
    return UsageError(f"--dataset.name={name}: no data set has this name{tip or there_are}")
