"""Weights from Keras' HDF5 files, in the old layout and in that of Keras 3."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cnn_jax.data import scaling
from cnn_jax.data.scaling import Scaling
from cnn_jax.errors import ContentError, RunError
from cnn_jax.pretrained import hdf5, keras_names, layouts

_NORM_LEAVES = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}


def read(
    path: Path, layers: tuple[layouts.Layer, ...], convention: layouts.Convention
) -> tuple[dict[str, np.ndarray], set[str], Scaling | None]:
    """Reads the arrays of a file under our paths.

    Args:
        path: the HDF5 file.
        layers: the model's layers, in order.
        convention: the convention of Keras' files of this model.

    Returns:
        {our path: float32 array}, with Keras' statistics of batch normalisations; the names of the
        file's layers; and the scaling of a layer that scales pixels, or None without one.

    Raises:
        RunError: nobody can tell which layer is which.
        OSError, KeyError, ValueError and others of h5py: the file is damaged.
    """
    ours = {layer.keras: layer for layer in layers if layer.keras}
    found: dict[str, hdf5.Arrays] = {}
    named = True
    for name, weights, certain in hdf5.layers(path, ours):
        name = keras_names.canonical(name)
        if weights and name in found:
            raise ContentError(f"two layers are called {name}")
        if weights:
            found[name] = weights
            named = named and certain
    scales = _scaling(path, found)
    if not named and (convention.automatic or not ours.keys() & found.keys()):
        if not convention.sequential:
            raise RunError(
                f"{path} was written by an early Keras 3, which kept no names of layers, and in a "
                "network with branches their order does not tell which is which; load it there and "
                "save its weights with a newer Keras"
            )
        ours = dict(zip(layouts.numbered(layers), layers, strict=True))
    elif convention.automatic:
        first = keras_names.from_the_first(found, ours)
        rest = {name: found[name] for name in found if name not in first.values()}
        found = rest | {new: found[old] for new, old in first.items()}
    for name in _OLD_TOPS & found.keys():
        if "predictions" in ours and "predictions" not in found:
            found["predictions"] = found.pop(name)
    arrays = {}
    for name, weights in found.items():
        layer = ours.get(name)
        first = weights[0][1]
        # Keras' ConvNeXt without top ends with a normalisation that no network was trained with.
        in_head = first.ndim == 2 or name.startswith("layer_normalization")
        place = layer.path if layer else f"{'head' if in_head else 'backbone'}/{name}"
        kind = layer.kind if layer else "batch_norm" if first.ndim == 1 else "conv"
        for leaf, array in _keras_leaves(weights, kind):
            arrays[f"{place}/{leaf}"] = _ours(array, kind)
    return arrays, set(found), scales


def _scaling(path: Path, found: dict[str, hdf5.Arrays]) -> Scaling | None:
    """Takes away the layer that scales pixels, EfficientNet's in Keras; returns what it does.

    Pixels are divided by 255 before it. In Keras' published files its mean is ImageNet's and its
    variance the deviation, which another layer takes the root of again.

    Raises:
        RunError: it is none of our scalings.
    """
    names = [name for name in found if re.fullmatch(r"normalization(_\d+)?", name)]
    layers = [found.pop(name) for name in names]
    if not layers:
        return None
    mean, var = (np.ravel(array) for _, array in layers[0][:2])
    for name, (known, std) in scaling.MEAN_AND_STD.items():
        roots = (np.array(std), np.array(std) ** 0.5)
        if np.allclose(mean, known, atol=1e-4) and any(
            np.allclose(np.sqrt(var), root, atol=1e-4) for root in roots
        ):
            return name
    said = [[round(float(x), 4) for x in each] for each in (mean, np.sqrt(var))]
    raise RunError(
        f"the network of {path} scales pixels by the mean {said[0]} and the standard deviation "
        f"{said[1]}, which is not known here"
    )


def _ours(array: np.ndarray, kind: layouts.Kind) -> np.ndarray:
    """Returns an array with its axes in our order."""
    if array.ndim == 4 and kind == "dense":  # MobileNetV3's head convolves a single position
        return array.reshape(-1, array.shape[-1])
    if array.ndim == 4 and array.shape[3] == 1:  # a depthwise kernel is [height, width, in, 1]
        return array.transpose(0, 1, 3, 2)
    return array


# Names of the last layer before it was called "predictions"; published files keep them.
_OLD_TOPS = {"fc1000", "probs"}


def _keras_leaves(weights: hdf5.Arrays, kind: layouts.Kind) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (our name, array) of a layer; arrays that such a layer does not have get a number."""
    names = ["kernel", "bias"]
    if kind == "batch_norm":
        inside = [re.search("|".join(_NORM_LEAVES), name) for name, _ in weights]
        names = [_NORM_LEAVES[match[0]] for match in inside if match]
        if len(names) != len(weights):
            names = list(_NORM_LEAVES.values())[-len(weights) :]  # the scale may be missing
    elif kind in ("layer_norm", "scale"):
        names = ["scale", "bias"]
    for number, (_, array) in enumerate(weights):
        yield (names[number] if number < len(names) else str(number)), array
