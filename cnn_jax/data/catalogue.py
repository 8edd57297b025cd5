"""The data sets that exist by name: ours, the user's registered ones, and those of TFDS."""

import os
import re
from pathlib import Path

from cnn_jax import experiment, runtime, text
from cnn_jax.data import prepared, registry
from cnn_jax.data.sources import BUILT_IN, Source
from cnn_jax.errors import UsageError

_NAME = re.compile(r"(?P<dataset>\w+)(/(?P<config>[\w.\-]+))?(:(?P<version>\d+\.\d+\.\d+))?")


def source(config: experiment.Dataset) -> Source:
    """Opens the prepared directory of `config.name`, which is prepared first if there is none.

    Raises:
        UsageError: no data set has this name, or it is not image classification.
        RunError: it is not prepared and cannot be, or its directory cannot be read.
    """
    name, place = config.name, prepared.data_dir(config)
    match = _NAME.fullmatch(name)
    if match is None:
        raise _unknown(name)
    places = [place]
    if name == "digits":
        places.append(runtime.cache_dir() / "tensorflow_datasets")
    path = next((p for p in (prepared.find(p, **match.groupdict()) for p in places) if p), None)
    if path is None:
        if match["dataset"] not in (*BUILT_IN, *_names_of_tfds()):
            raise _unknown(name)
        from cnn_jax.data import prepare  # imports TFDS, which takes seconds

        if name == "digits" and not _writable(place):
            place = places[1]
        path = prepare.prepare(name, place)
    return prepared.read(name, path, ours=name.partition(":")[0] in BUILT_IN)


def _writable(folder: Path) -> bool:
    """Returns whether a folder, or the nearest one above it that exists, can be written."""
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def _names_of_tfds() -> list[str]:
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def _unknown(name: str) -> UsageError:
    """Returns the error for a name that no data set has, with similar names."""
    ours = [*BUILT_IN, "folder", *registry.REGISTRY]
    tip = text.did_you_mean(name, [*ours, *_names_of_tfds()])
    there_are = f"; there are {', '.join(ours)}, and the image classification data sets of TFDS"
    return UsageError(f"--dataset.name={name}: no data set has this name{tip or there_are}")
