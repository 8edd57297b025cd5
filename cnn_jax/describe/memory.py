"""The memory that a training step needs, estimated from the layer table."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from cnn_jax.describe.layer_rows import variables_and_rows


def memory_estimate(
    model: nn.Module,
    input_shape: Sequence[int],
    batch_size: int,
    optimizer_slots: int,
    dtype_bytes: int = 4,
) -> dict[str, int]:
    """Returns the bytes that one training step holds; an estimate.

    Parameters, batch statistics, gradients and the optimizer's state are exact, in float32.
    Activations are the images and one output of every layer (of a pooling convolution the maps
    before and after the pool), which the backward pass reads. Their gradients are those of the
    layer with the largest input and output, since each gradient is freed when the layer before it
    is done. The compiler may keep less, by computing values again, or more, as its workspace. The
    data set on the device is not counted.

    Args:
        model: a Classifier, or a user's own module; all of it is trained.
        input_shape: (height, width, channels).
        batch_size: the number of images in one step on one device.
        optimizer_slots: the number of values that the optimizer keeps for each parameter: adam 2,
            sgd with momentum 1.
        dtype_bytes: the bytes of an activation: float32 4, bfloat16 2.

    Returns:
        "parameters", "batch_stats", "gradients", "optimizer", "activations", "activation_gradients"
        and their "total".
    """
    variables, rows = variables_and_rows(model, input_shape)
    variables = dict(variables)
    parameters = 4 * _count(variables.pop("params"))
    # A flattened map is the same memory in another shape.
    rows = [row for row in rows if row.kind != "Flatten"]
    outputs = [math.prod(row.output_shape) for row in rows]
    images = math.prod(input_shape)
    held = images + sum(row.times * size for row, size in zip(rows, outputs, strict=True))
    widest = max(before + after for before, after in itertools.pairwise([images, *outputs]))
    parts = {
        "parameters": parameters,
        "batch_stats": 4 * _count(variables),
        "gradients": parameters,
        "optimizer": optimizer_slots * parameters,
        "activations": batch_size * held * dtype_bytes,
        "activation_gradients": batch_size * widest * dtype_bytes,
    }
    return {**parts, "total": sum(parts.values())}


def _count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
