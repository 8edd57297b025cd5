"""Weights from safetensors files with torchvision's or timm's names."""

import math
import re
from pathlib import Path

import numpy as np
import safetensors

from cnn_jax.errors import ContentError, RunError
from cnn_jax.pretrained import layouts

# {kind of a layer: {torch's name of a tensor after the layer's: ours}}.
_NORM = {"weight": "scale", "bias": "bias"}
LEAVES: dict[layouts.Kind, dict[str, str]] = {
    "conv": {"weight": "kernel", "bias": "bias"},
    "dense": {"weight": "kernel", "bias": "bias"},
    "layer_norm": _NORM,
    "batch_norm": {**_NORM, "running_mean": "mean", "running_var": "var"},
    "scale": {"": "scale"},  # the tensor has the layer's name itself
}
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
    try:
        tensors = _tensors(path)
    except safetensors.SafetensorError as error:
        raise RunError(f"{path} is damaged: it is no whole safetensors file") from error
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
