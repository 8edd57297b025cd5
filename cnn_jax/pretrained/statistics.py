"""Statistics of normalisations that other projects compute in another form than ours."""

from collections.abc import Mapping

import numpy as np

from cnn_jax.pretrained import layouts


def adapt(
    arrays: dict[str, np.ndarray],
    layers: tuple[layouts.Layer, ...],
    convention: layouts.Convention,
) -> None:
    """Adapts the statistics of another network to ours, in place; see `weights.Weights`."""
    for layer in layers:
        bias, mean, var = f"{layer.path}/bias", f"{layer.norm}/mean", f"{layer.path}/var"
        if layer.norm and bias in arrays and mean in arrays:
            arrays[mean] = arrays[mean] - arrays.pop(bias)
        if layer.kind == "batch_norm" and convention.epsilon and var in arrays:
            arrays[var] = arrays[var] + np.float32(convention.epsilon)
    if convention.scale_epsilon is not None:
        for layer in layers:
            if layer.norm and f"{layer.norm}/scale" in arrays:
                _take_in_scale(arrays, layer.path, layer.norm, convention.scale_epsilon)


def undone(
    arrays: Mapping[str, np.ndarray],
    layers: tuple[layouts.Layer, ...],
    convention: layouts.Convention,
) -> dict[str, np.ndarray]:
    """Returns arrays whose variances are those of another network, as `adapt` expects them."""
    found = dict(arrays)
    for layer in layers:
        var = f"{layer.path}/var"
        if layer.kind == "batch_norm" and convention.epsilon and var in found:
            found[var] = found[var] - np.float32(convention.epsilon)
    return found


def _take_in_scale(arrays: dict[str, np.ndarray], conv: str, norm: str, epsilon: float) -> None:
    """Takes a normalisation's scale into its variance; a negative one turns the filter around."""
    scale = arrays.pop(f"{norm}/scale").astype(np.float64)
    if (scale == 1).all():
        return
    sign, zero = np.sign(scale), scale == 0
    kernel, mean, var = f"{conv}/kernel", f"{norm}/mean", f"{norm}/var"
    arrays[kernel] = arrays[kernel] * sign.astype(np.float32)
    arrays[mean] = arrays[mean] * sign.astype(np.float32)
    wide = (arrays[var].astype(np.float64) + epsilon) / np.where(zero, 1, scale) ** 2 - epsilon
    arrays[var] = np.where(zero, 1, wide).astype(np.float32)
