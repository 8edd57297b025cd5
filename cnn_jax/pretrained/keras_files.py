"""Weights from Keras' HDF5 files, in the old layout and in that of Keras 3."""

import re
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnn_jax.errors import RunError
from cnn_jax.pretrained import layouts

# A damaged or hostile HDF5 file can declare more than it holds; VGG19 has 0.6 GB.
_MAX_BYTES = 4 << 30
_MAX_GROUPS = 10_000

# The arrays of a layer, in the file's order: (name in the file or "", array).
_Arrays = list[tuple[str, np.ndarray]]
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
    with h5py.File(path, "r") as file:
        root = _child(file, "model_weights") if "model_weights" in file else file
        legacy = _strings(root, "layer_names")
        triples = _legacy_layers(root, ours) if legacy else _keras3_layers(file)
        found: dict[str, _Arrays] = {}
        named = True
        for name, weights, certain in triples:
            name = name.replace("/", "_")  # the DenseNet of 2018 has conv1/conv, not conv1_conv
            if weights and name in found:
                raise ValueError(f"two layers are called {name}")
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
    path: Path, found: dict[str, _Arrays], ours: Mapping[str, layouts.Layer]
) -> dict[str, _Arrays]:
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


def _keras_leaves(weights: _Arrays, norm: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (our name, array) of a layer; arrays that such a layer does not have get a number."""
    names = ["kernel", "bias"]
    if norm:
        inside = [re.search("|".join(_NORM_LEAVES), name) for name, _ in weights]
        names = [_NORM_LEAVES[match[0]] for match in inside if match]
        if len(names) != len(weights):
            names = list(_NORM_LEAVES.values())[-len(weights) :]  # the scale may be missing
    for number, (_, array) in enumerate(weights):
        yield (names[number] if number < len(names) else str(number)), array


def _child(group: h5py.Group, name: str) -> Any:
    """Returns a member of a group or of its subgroups, but follows no link."""
    member: Any = group
    for part in name.split("/"):
        if not isinstance(member, h5py.Group):
            raise ValueError(f"{name} is not in a group")
        if not isinstance(member.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link, perhaps to another file")
        member = member[part]
    return member


class _Reader:
    """Reads datasets until the sum of their declared sizes exceeds `_MAX_BYTES`."""

    def __init__(self) -> None:
        self.total = 0

    def read(self, dataset: Any) -> list[np.ndarray]:
        """Returns the array in a list, or [] for integers: counters and the state of dropout."""
        if not isinstance(dataset, h5py.Dataset):
            raise ValueError("a group stands where an array should")
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"{dataset.name} is stored in another file")
        if dataset.dtype.kind in "iu":
            return []
        if dataset.dtype.kind != "f":
            raise ValueError(f"{dataset.name} holds {dataset.dtype}, not floats")
        self.total += dataset.nbytes
        if self.total > _MAX_BYTES:
            raise ValueError(f"it declares arrays of more than {_MAX_BYTES} bytes")
        return [np.asarray(dataset[()], np.float32)]


def _strings(group: h5py.Group, name: str) -> list[str]:
    """Returns an attribute of strings; Keras spreads a long one over NAME0, NAME1, ..."""
    if name in group.attrs:
        parts: list[Any] = [group.attrs[name]]
    else:
        parts = []
        while f"{name}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{name}{len(parts)}"])
    values = [value for part in parts for value in np.asarray(part).ravel().tolist()]
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values]


def _legacy_layers(root: h5py.Group, known: Container[str]) -> Iterator[tuple[str, _Arrays, bool]]:
    """Yields (layer, its arrays, True) of the old layout.

    There each layer has a group, and attributes hold the order. A model within a model is one such
    layer; the names of its weights hold the names of its layers.
    """
    reader = _Reader()
    for layer in _strings(root, "layer_names"):
        group = _child(root, layer)
        inner: dict[str, _Arrays] = {}
        for name in _strings(group, "weight_names"):
            *parts, leaf = name.split("/")
            owners = ["_".join(parts[start:]) for start in range(len(parts))] or [layer]
            owner = next((owner for owner in owners if owner in known), owners[-1])
            inner.setdefault(owner, []).extend(
                (leaf, array) for array in reader.read(_child(group, name))
            )
        if len(inner) == 1:
            inner = {layer: next(iter(inner.values()))}
        for name, arrays in inner.items():
            yield name, arrays, True


def _keras3_layers(file: h5py.Group) -> Iterator[tuple[str, _Arrays, bool]]:
    """Yields (layer, its arrays, whether the file holds its name) of Keras 3's layout.

    There each layer has a group `.../LAYER/vars` with arrays 0, 1, ...
    """
    reader = _Reader()
    todo: list[tuple[str, h5py.Group]] = [("", file)]
    seen = 0
    while todo:
        name, group = todo.pop()
        seen += 1
        if seen > _MAX_GROUPS:  # links can make endless circles
            raise ValueError(f"it has more than {_MAX_GROUPS} groups")
        for key in map(str, group):
            member = _child(group, key)
            if key == "optimizer" or not isinstance(member, h5py.Group):
                continue
            if key != "vars":
                todo.append((key, member))
                continue
            label = member.attrs.get("name", name)
            parts = [reader.read(_child(member, str(i))) for i in range(len(member))]
            yield (
                label.decode() if isinstance(label, bytes) else str(label),
                [("", array) for part in parts for array in part],
                "name" in member.attrs,
            )
