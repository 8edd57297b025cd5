"""Weights from Keras' HDF5 files, in the old layout and in that of Keras 3."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from cnn_jax.errors import ContentError, RunError
from cnn_jax.pretrained import hdf5, layouts

_NORM_LEAVES = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}


def read(
    path: Path, layers: tuple[layouts.Layer, ...], convention: layouts.Convention
) -> dict[str, np.ndarray]:
    """Reads the arrays of a file under our paths.

    Args:
        path: the HDF5 file.
        layers: the model's layers, in order.
        convention: the convention of Keras' files of this model.

    Returns:
        {our path: float32 array}, with Keras' statistics of batch normalisations.

    Raises:
        RunError: nobody can tell which layer is which.
        OSError, KeyError, ValueError and others of h5py: the file is damaged.
    """
    ours = {layer.keras: layer for layer in layers if layer.keras}
    found: dict[str, hdf5.Arrays] = {}
    named = True
    for name, weights, certain in hdf5.layers(path, ours):
        name = name.replace("/", "_")  # the DenseNet of 2018 has conv1/conv, not conv1_conv
        if weights and name in found:
            raise ContentError(f"two layers are called {name}")
        if weights:
            found[name] = weights
            named = named and certain
    if not named and (convention.automatic or not ours.keys() & found.keys()):
        if not convention.sequential:
            raise RunError(
                f"{path} was written by an early Keras 3, which kept no names of layers, and in a "
                "network with branches their order does not tell which is which; load it there and "
                "save its weights with a newer Keras"
            )
        ours = dict(zip(layouts.numbered(layers), layers, strict=True))
    elif convention.automatic:
        found = _renumbered(path, found, ours)
    for name in _OLD_TOPS & found.keys():
        if "predictions" in ours and "predictions" not in found:
            found["predictions"] = found.pop(name)
    arrays = {}
    for name, weights in found.items():
        layer = ours.get(name)
        first = weights[0][1]
        place = layer.path if layer else f"{'head' if first.ndim == 2 else 'backbone'}/{name}"
        norm = layer.kind == "batch_norm" if layer else first.ndim == 1
        arrays |= {f"{place}/{leaf}": array for leaf, array in _keras_leaves(weights, norm)}
    return arrays


# Names of the last layer before it was called "predictions"; published files keep them.
_OLD_TOPS = {"fc1000", "probs"}


def _renumbered(
    path: Path, found: dict[str, hdf5.Arrays], ours: Mapping[str, layouts.Layer]
) -> dict[str, hdf5.Arrays]:
    """Returns layers that Keras numbered, conv2d_95, ..., numbered from 0 as in `ours`."""
    result = dict(found)
    for prefix in ("conv2d", "batch_normalization"):
        automatic = re.compile(rf"{prefix}(?:_(\d+))?")
        names = {name: int(match[1] or 0) for name in found if (match := automatic.fullmatch(name))}
        wanted = [name for name in ours if automatic.fullmatch(name)]
        if names and len(names) != len(wanted):
            raise RunError(
                f"{path} has {len(names)} layers called {prefix} with numbers, and the network "
                f"{len(wanted)}, so that nobody can tell which is which"
            )
        for name in names:
            del result[name]
        for new, old in zip(wanted, sorted(names, key=lambda name: names[name]), strict=False):
            result[new] = found[old]
    return result


def _keras_leaves(weights: hdf5.Arrays, norm: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (our name, array) of a layer; arrays that such a layer does not have get a number."""
    names = ["kernel", "bias"]
    if norm:
        inside = [re.search("|".join(_NORM_LEAVES), name) for name, _ in weights]
        names = [_NORM_LEAVES[match[0]] for match in inside if match]
        if len(names) != len(weights):
            names = list(_NORM_LEAVES.values())[-len(weights) :]  # the scale may be missing
    for number, (_, array) in enumerate(weights):
        yield (names[number] if number < len(names) else str(number)), array
