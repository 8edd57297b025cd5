"""Weights from safetensors files with torchvision's names."""

import math
import re
from pathlib import Path

import numpy as np
import safetensors

from cnn_jax.errors import ContentError, RunError
from cnn_jax.pretrained import layouts

_TORCH_LEAVES = {"weight": "kernel", "bias": "bias"}
_TORCH_NORM_LEAVES = {
    "weight": "scale",
    "bias": "bias",
    "running_mean": "mean",
    "running_var": "var",
}


def read(path: Path, layers: tuple[layouts.Layer, ...]) -> dict[str, np.ndarray]:
    """Reads the arrays of a file under our paths.

    Args:
        path: the safetensors file.
        layers: the model's layers, in order.

    Returns:
        {our path: float32 array}, with torchvision's statistics of batch normalisations.

    Raises:
        RunError: the file is damaged.
        KeyError, ValueError: its tensors are not those of the model.
    """
    try:
        tensors = _tensors(path)
    except safetensors.SafetensorError as error:
        raise RunError(f"{path} is damaged: it is no whole safetensors file") from error
    ours = {layer.torch: layer for layer in layers}
    channels = 0
    arrays: dict[str, np.ndarray] = {}
    for layer in layers:  # in order, for the channels of the feature map
        weight = tensors.get(f"{layer.torch}.weight")
        if weight is not None and weight.ndim == 4:
            channels = weight.shape[0]
        if weight is not None and layer.flattened and weight.ndim == 2 and channels:
            side = math.isqrt(weight.shape[1] // channels)
            if side * side * channels != weight.shape[1]:
                raise ContentError(
                    f"{layer.torch}.weight has {weight.shape[1]} columns, which is no square "
                    f"feature map of {channels} channels"
                )
            maps = weight.reshape(weight.shape[0], channels, side, side)
            tensors[f"{layer.torch}.weight"] = maps.transpose(0, 2, 3, 1).reshape(weight.shape)
    for name, tensor in tensors.items():
        owner, _, leaf = name.rpartition(".")
        layer = ours.get(owner)
        norm = layer is not None and layer.kind == "batch_norm"
        leaf = (_TORCH_NORM_LEAVES if norm else _TORCH_LEAVES).get(leaf)
        if layer and leaf:
            place = f"{layer.path}/{leaf}"
        else:
            weight = tensors.get(f"{owner}.weight", tensor)
            place = f"{'head' if weight.ndim == 2 else 'backbone'}/{name}"
        if tensor.ndim == 4:
            tensor = tensor.transpose(2, 3, 1, 0)
        elif tensor.ndim == 2:
            tensor = tensor.T
        arrays[place] = tensor
    return arrays


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
