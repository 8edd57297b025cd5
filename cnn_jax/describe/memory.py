"""The memory that a step needs, of training or evaluation, estimated from the layer table."""

import itertools
import math
from collections.abc import Collection, Sequence
from typing import Any

import flax.linen as nn
import jax

from cnn_jax.describe.layer_rows import LayerRow, variables_and_rows
from cnn_jax.trees import flatten

# (shapes of the variables, rows of the layer table)
Traced = tuple[Any, list[LayerRow]]


def memory_estimate(
    model: nn.Module,
    input_shape: Sequence[int],
    batch_size: int,
    optimizer_slots: int,
    dtype_bytes: int = 4,
    *,
    trainable: Collection[str] | None = None,
    cached: tuple[str, ...] = (),
    traced: Traced | None = None,
) -> dict[str, int]:
    """Returns the bytes that one training step holds; an estimate.

    Parameters, batch statistics, gradients and the optimizer's state are exact, in float32.
    Activations are the images (or cached features) and one output of every layer from the first
    trained one on (of a pooling convolution the maps before and after the pool), which the backward
    pass reads; of the layers before it, none stays. Their gradients are those of the layer with the
    largest input and output, since each gradient is freed when the layer before it is done; the
    frozen layers need such a pair too. The compiler may keep less, by computing values again, or
    more, as its workspace. The data set on the device is not counted.

    Args:
        model: a Classifier, or a user's own module.
        input_shape: (height, width, channels).
        batch_size: the number of images in one step on one device.
        optimizer_slots: the number of values that the optimizer keeps for each trained parameter:
            adam 2, sgd with momentum 1.
        dtype_bytes: the bytes of an activation: float32 4, bfloat16 2.
        trainable: the paths of the trained parameters; None: all of them.
        cached: what the paths of the stages begin with that do not run, as their output is cached.
        traced: what `variables_and_rows` says of the model, where it is at hand.

    Returns:
        "parameters", "batch_stats", "gradients", "optimizer", "activations", "activation_gradients"
        and their "total".
    """
    variables, chain, rows = _chain(
        traced or variables_and_rows(model, input_shape), input_shape, cached
    )
    sizes = {path: math.prod(leaf.shape) for path, leaf in flatten(variables.pop("params")).items()}
    trained = sizes.keys() if trainable is None else set(trainable)
    learned = sum(size for path, size in sizes.items() if path in trained)
    learns = [not trained.isdisjoint((*row.weights, *row.biases)) for row in rows]
    start = learns.index(True) if True in learns else len(rows)
    held = chain[0] + (chain[start] if start else 0)
    held += sum(
        row.times * size for row, size in zip(rows[start:], chain[start + 1 :], strict=True)
    )
    parts = {
        "parameters": 4 * sum(sizes.values()),
        "batch_stats": 4 * _count(variables),
        "gradients": 4 * learned,
        "optimizer": optimizer_slots * 4 * learned,
        "activations": batch_size * held * dtype_bytes,
        "activation_gradients": batch_size * _widest(chain) * dtype_bytes,
    }
    return {**parts, "total": sum(parts.values())}


def evaluation_estimate(
    model: nn.Module,
    input_shape: Sequence[int],
    batch_size: int,
    dtype_bytes: int = 4,
    cached: tuple[str, ...] = (),
    traced: Traced | None = None,
) -> int:
    """Returns the bytes that one evaluation step holds, an estimate; see `memory_estimate`."""
    variables, chain, _ = _chain(
        traced or variables_and_rows(model, input_shape), input_shape, cached
    )
    return 4 * _count(variables) + batch_size * (chain[0] + _widest(chain)) * dtype_bytes


def _chain(
    traced: Traced, input_shape: Sequence[int], cached: tuple[str, ...]
) -> tuple[dict[str, Any], list[int], list[LayerRow]]:
    """Returns (variables, sizes of the input and of each output, the layers that run)."""
    variables, rows = traced
    # A flattened map is the same memory in another shape.
    rows = [row for row in rows if row.kind != "Flatten"]
    runs = [row for row in rows if not (cached and row.name.startswith(cached))]
    first = input_shape if len(runs) == len(rows) or not runs else runs[0].input_shape
    return dict(variables), [math.prod(first), *(math.prod(r.output_shape) for r in runs)], runs


def _widest(chain: Sequence[int]) -> int:
    """Returns the largest sum of the input and the output of a layer."""
    return max((before + after for before, after in itertools.pairwise(chain)), default=0)


def _count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
