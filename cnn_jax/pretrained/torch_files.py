"""Weights from safetensors files with torchvision's or timm's names, and into them."""

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import safetensors
import safetensors.numpy

from cnn_jax.data.scaling import Scaling
from cnn_jax.errors import ContentError, RunError
from cnn_jax.models.heads import HEADS
from cnn_jax.pretrained import layouts

# The entry of the metadata in which a file of ours says what torchvision's names cannot.
METADATA = "cnn_jax"
# {kind of a layer: {torch's name of a tensor after the layer's: ours}}.
_NORM = {"weight": "scale", "bias": "bias"}
LEAVES: dict[layouts.Kind, dict[str, str]] = {
    "conv": {"weight": "kernel", "bias": "bias"},
    "dense": {"weight": "kernel", "bias": "bias"},
    "layer_norm": _NORM,
    "batch_norm": {**_NORM, "running_mean": "mean", "running_var": "var"},
    "scale": {"": "scale"},  # the tensor has the layer's name itself
}
# Dense layers that are a convolution of a single position in timm.
_POSITIONS = ("conv_head",)
# What wrappers write in front of all names: DataParallel, Lightning, and classes around a backbone.
_PREFIXES = re.compile(r"^(?:(?:module|model|backbone|encoder|network|net|_orig_mod)\.)+")


def read(
    path: Path, layout: layouts.Layout
) -> tuple[layouts.Source, dict[str, np.ndarray], set[str]]:
    """Reads the arrays of a file under our paths.

    Prefixes that wrappers wrote are taken off, and names tell whose layout it is.

    Args:
        path: the safetensors file.
        layout: the model's.

    Returns:
        The source whose names the file has; {our path: float32 array}, with that source's
        statistics of batch normalisations; and the file's names.

    Raises:
        RunError: the file is damaged.
        KeyError, ValueError: its tensors are not those of the model.
    """
    with _whole(path):
        tensors = _tensors(path)
    source, tensors = _recognised(tensors, layout)
    known = names(layout, source)
    _reorder_flattened(tensors, layout, source)
    arrays: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        if name in known:
            layer, leaf = known[name]
            arrays[f"{layer.path}/{leaf}"] = _ours(tensor, layer.kind)
        else:
            weight = tensors.get(f"{name.rpartition('.')[0]}.weight", tensor)
            place = f"{'head' if weight.ndim == 2 else 'backbone'}/{name}"
            if name.startswith("AuxLogits."):  # Inception's, which ours does not have
                place = f"auxiliary/{name}"
            arrays[place] = _ours(tensor, "conv")
    return source, arrays, set(tensors)


def names(layout: layouts.Layout, source: layouts.Source) -> dict[str, tuple[layouts.Layer, str]]:
    """Returns {name of a tensor in a source's files: (layer, our name of the array in it)}."""
    return {
        f"{layer.name(source)}.{theirs}" if theirs else str(layer.name(source)): (layer, ours)
        for layer in layout.layers
        for theirs, ours in LEAVES[layer.kind].items()
    }


def _recognised(
    tensors: dict[str, np.ndarray], layout: layouts.Layout
) -> tuple[layouts.Source, dict[str, np.ndarray]]:
    """Returns whose names a file has, and its tensors without prefixes."""
    bare = {_PREFIXES.sub("", name): tensor for name, tensor in tensors.items()}
    forms = [tensors] if len(bare) < len(tensors) else [tensors, bare]
    both: tuple[layouts.Source, ...] = ("torch", "timm")
    sources: list[layouts.Source] = [s for s in both if s in layout.conventions]
    pairs: list[tuple[layouts.Source, dict[str, np.ndarray]]]
    pairs = [(source, form) for source in sources for form in forms]
    hits = [len(names(layout, source).keys() & form.keys()) for source, form in pairs]
    source, form = pairs[hits.index(max(hits))]
    return source, dict(form)


def _reorder_flattened(
    tensors: dict[str, np.ndarray], layout: layouts.Layout, source: layouts.Source
) -> None:
    """Brings the dense layers that take a flattened map from channel, height, width to our order.

    Raises:
        ContentError: the map would be no square.
    """
    channels = 0
    for layer in layout.layers:  # in order, for the channels of the feature map
        name = f"{layer.name(source)}.weight"
        weight = tensors.get(name)
        if weight is not None and weight.ndim == 4:
            channels = weight.shape[0]
        if weight is not None and layer.flattened and weight.ndim == 2 and channels:
            side = math.isqrt(weight.shape[1] // channels)
            if side * side * channels != weight.shape[1]:
                raise ContentError(
                    f"{name} has {weight.shape[1]} columns, which is no square "
                    f"feature map of {channels} channels"
                )
            maps = weight.reshape(weight.shape[0], channels, side, side)
            tensors[name] = maps.transpose(0, 2, 3, 1).reshape(weight.shape)


def _ours(tensor: np.ndarray, kind: layouts.Kind) -> np.ndarray:
    """Returns a tensor with its axes in our order."""
    if kind == "scale":  # torchvision's are [channels, 1, 1]
        return tensor.reshape(-1)
    if tensor.ndim == 4:
        kernel = tensor.transpose(2, 3, 1, 0)
        # timm has convolutions where the map is a single position.
        return kernel.reshape(-1, kernel.shape[-1]) if kind == "dense" else kernel
    return tensor.T if tensor.ndim == 2 else tensor


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except safetensors.SafetensorError as error:
        raise RunError(f"{path} is damaged: it is no whole safetensors file") from error


def _tensors(path: Path) -> dict[str, np.ndarray]:
    """Returns the file's tensors by their names, as float32."""
    with safetensors.safe_open(path, framework="numpy") as file:
        # The DenseNets of 2017 have norm.1 where torchvision now has norm1.
        names = {
            re.sub(r"(denselayer\d+\.(?:norm|conv))\.(?=\d\.)", r"\1", name): name
            for name in file.keys()  # noqa: SIM118 (the file is no mapping)
            if not name.endswith("num_batches_tracked")  # needed only without a momentum
        }
        return {new: file.get_tensor(old).astype(np.float32) for new, old in names.items()}


def said(path: Path) -> dict[str, Any]:
    """Returns what a file that we wrote says of itself; {} of another.

    They are `head`, the head of the model; `preprocessing`, a fixed scaling or None; and `source`,
    whose names and conventions it has.

    Raises:
        ValueError: it says what we would not have written.
    """
    with _whole(path), safetensors.safe_open(path, framework="numpy") as file:
        text = (file.metadata() or {}).get(METADATA)
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # no JSON, or nested without end
        raise ContentError("its metadata are not ours: they are no JSON") from error
    if not isinstance(found, dict):
        raise ContentError("its metadata are not ours")
    head, scaling = found.get("head"), found.get("preprocessing")
    source = found.get("source", "torch")
    known = head in ("default", *HEADS) and scaling in (None, *get_args(Scaling))
    if not known or source not in get_args(layouts.Source):
        raise ContentError(
            f"its metadata have a head {head!r}, a scaling {scaling!r} and names of {source!r}"
        )
    return {"head": head, "preprocessing": scaling, "source": source}


def write(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    layers: tuple[layouts.Layer, ...],
    metadata: Mapping[str, str],
    source: layouts.Source = "torch",
) -> None:
    """Writes arrays under the names of a source, so that `read` returns them to the bit.

    A normalisation without a scale gets one of 1, which torch's has.

    Args:
        path: the file.
        arrays: {our path: float32 array}, as `read` returns them.
        layers: the model's layers, in order.
        metadata: of the file.
        source: whose names.

    Raises:
        ValueError: a feature map that is flattened is no square.
    """
    tensors: dict[str, np.ndarray] = {}
    channels = 0
    for layer in layers:
        for theirs, ours in LEAVES[layer.kind].items():
            array = arrays.get(f"{layer.path}/{ours}")
            if array is None and ours == "scale" and f"{layer.path}/bias" in arrays:
                array = np.ones_like(arrays[f"{layer.path}/bias"])
            if array is None:
                continue
            if array.ndim == 4:
                array, channels = array.transpose(3, 2, 0, 1), array.shape[3]
            elif array.ndim == 2 and layer.flattened:
                side = math.isqrt(len(array) // channels)
                if side * side * channels != len(array):
                    raise ContentError("the feature map that is flattened is no square")
                maps = array.T.reshape(array.shape[1], side, side, channels)
                array = maps.transpose(0, 3, 1, 2).reshape(array.shape[1], len(array))
            elif array.ndim == 2:
                array = array.T
                if source != "torch" and layer.timm in _POSITIONS:
                    array = array[:, :, None, None]
            elif layer.kind == "scale" and source == "torch":
                array = array[:, None, None]
            name = str(layer.name(source))
            tensors[f"{name}.{theirs}" if theirs else name] = np.ascontiguousarray(array)
    safetensors.numpy.save_file(tensors, path, dict(metadata))
