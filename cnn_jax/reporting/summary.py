"""The layer table of a model: shapes, parameters, FLOPs, and the terms of the output-size formula.

Everything is found by tracing the model with shapes alone; nothing is computed or allocated, so a
table of a network that would not fit into memory is as quick as any.
"""

import dataclasses
import itertools
import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax import layers
from cnn_jax.convolution import output_size, padding_pairs
from cnn_jax.models.classifier import Classifier
from cnn_jax.reporting.tables import table

Shape = tuple[int, ...]

# What the names of auxiliary classifiers begin with; the name of their stage follows.
AUXILIARY = "auxiliary_"

_WITHOUT_PARAMETERS = (
    layers.MaxPool,
    layers.AvgPool,
    layers.GlobalAveragePool,
    layers.Flatten,
    layers.Dropout,
)


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """One layer of the table. Shapes are of one image, without the batch axis.

    Attributes:
        name: its path in the parameter tree, such as "backbone/conv1"; the pool that a `Conv` does
            itself has "/pool" after it.
        kind: the layer's class, and the activation where it has one.
        input_shape: (height, width, channels) or (units,).
        output_shape: likewise.
        parameters: how many numbers it learns.
        flops: of one image forward: 2 for each multiply-add of a convolution or matrix product,
            those with padding too, those whose result a pool leaves out not, as they are not
            made. Bias, activation, normalization and pooling count nothing, as usual in the field.
        window: F of the output-size formula, (height, width) in pixels; None where it has none.
        stride: S, (vertical, horizontal).
        padding: P, ((top, bottom), (left, right)).
    """

    name: str
    kind: str
    input_shape: Shape
    output_shape: Shape
    parameters: int = 0
    flops: int = 0
    window: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    padding: tuple[tuple[int, int], ...] | None = None


class Totals(NamedTuple):
    """Sums over a layer table, with what it has of auxiliary classifiers.

    Attributes:
        parameters: how many numbers the model learns.
        flops: forward, one image.
        training_flops: forward and backward, one image, all layers trained: each product again for
            the gradient of its weights and of its input, except for the input of the first.
    """

    parameters: int
    flops: int
    training_flops: int


def layer_table(model: Classifier, input_shape: Sequence[int]) -> list[LayerRow]:
    """Returns a row for every layer, in the order in which an image passes through them.

    A convolution that pools is two rows, the convolution and its pool. Modules that only hold
    others have no row of their own. Auxiliary classifiers are in it, behind their stage.

    Args:
        model: an image classifier.
        input_shape: (height, width, channels).

    Raises:
        ValueError: a window is larger than its input, where the image is too small for the model;
            `models.check_input` says so in the user's terms.
    """
    rows: list[LayerRow] = []

    def record(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        result = call(*args, **kwargs)
        if context.method_name == "__call__":
            rows.extend(_rows(context.module, args[0].shape[1:], result.shape[1:]))
        return result

    with nn.intercept_methods(record):
        _trace(model, input_shape)
    return rows


def totals(rows: Sequence[LayerRow]) -> Totals:
    """Returns the sums of a layer table."""
    flops = [row.flops for row in rows if row.flops]
    return Totals(
        parameters=sum(row.parameters for row in rows),
        flops=sum(flops),
        training_flops=3 * sum(flops) - sum(flops[:1]),
    )


def step_flops(
    rows: Sequence[LayerRow],
    trainable: Collection[str],
    stage_names: Sequence[str] = (),
    cut: int = 0,
) -> dict[str, int]:
    """Returns what a training step costs for one image, in FLOPs.

    Going backward, every trained layer repeats its product for the gradient of its weights, and
    every layer behind the first trained one for that of its input. With all layers trained that is
    three times the forward pass, less one product of the first layer. What the optimizer does is
    not in it: some ten operations for each trained parameter, not for each image.

    Args:
        rows: of `layer_table`, in the order in which an image passes.
        trainable: paths of the trained parameters, such as "backbone/block5/conv1/kernel".
        stage_names: of the backbone.
        cut: so many of its first stages are not run: their output comes from a cache.

    Returns:
        "forward", "backward" and their "total".
    """
    run = [row for row in rows if not cut or _is_behind(row.name, stage_names[cut:])]
    # An auxiliary classifier runs where its stage, or one before it, is trained.
    idle = tuple(
        f"{AUXILIARY}{name}/"
        for number, name in enumerate(stage_names, start=1)
        if not any(path.startswith(_inside(stage_names[:number])) for path in trainable)
    )
    run = [row for row in run if not row.name.startswith(idle)]
    trained = {path.rpartition("/")[0] for path in trainable}
    kernels = {path.rpartition("/")[0] for path in trainable if path.endswith("/kernel")}
    first = next((i for i, row in enumerate(run) if row.name in trained), len(run))
    forward = sum(row.flops for row in run)
    backward = sum(row.flops for row in run if row.name in kernels)
    backward += sum(row.flops for row in run[first + 1 :])
    return {"forward": forward, "backward": backward, "total": forward + backward}


def _is_behind(name: str, stages: Sequence[str]) -> bool:
    """Whether a layer belongs to one of these stages, or to no backbone at all."""
    return not name.startswith("backbone/") or name.startswith(_inside(stages))


def _inside(stages: Sequence[str]) -> tuple[str, ...]:
    """Returns what the paths of these stages begin with."""
    return tuple(f"backbone/{stage}/" if stage else "backbone/" for stage in stages)


def memory_estimate(
    model: Classifier,
    input_shape: Sequence[int],
    batch_size: int,
    optimizer_slots: int,
    dtype_bytes: int = 4,
) -> dict[str, int]:
    """Returns what one training step holds, in bytes; an estimate.

    Parameters, batch statistics, gradients and the optimizer's state are exact, in float32.
    Activations are the images and one output of every layer (a pooling convolution: the map before
    and after pooling), which is what the backward pass reads; their gradients are those of the one
    layer with the largest input and output, as each is let go of when the layer before it is done.
    The compiler may keep less, by recomputing, or more, as its workspace. The data set on the
    device is not in it.

    Args:
        model: an image classifier, all of it trained.
        input_shape: (height, width, channels).
        batch_size: images in one step on one device.
        optimizer_slots: numbers the optimizer keeps for a parameter: adam 2, sgd with momentum 1.
        dtype_bytes: of an activation: float32 4, bfloat16 2.

    Returns:
        "parameters", "batch_stats", "gradients", "optimizer", "activations", "activation_gradients"
        and their "total".
    """
    variables = dict(_trace(model, input_shape))
    parameters = 4 * _count(variables.pop("params"))
    # A flattened map is the same memory in another shape.
    rows = [row for row in layer_table(model, input_shape) if row.kind != "Flatten"]
    maps = [math.prod(input_shape), *(math.prod(row.output_shape) for row in rows)]
    widest = max(before + after for before, after in itertools.pairwise(maps))
    parts = {
        "parameters": parameters,
        "batch_stats": 4 * _count(variables),
        "gradients": parameters,
        "optimizer": optimizer_slots * parameters,
        "activations": batch_size * sum(maps) * dtype_bytes,
        "activation_gradients": batch_size * widest * dtype_bytes,
    }
    return {**parts, "total": sum(parts.values())}


def render(rows: Sequence[LayerRow]) -> str:
    """Returns the layer table as text, with the totals in the end.

    Where there are auxiliary classifiers, the totals are those without them and those with them.
    F, S and P are the window, stride and padding of the output-size formula
    (W - F + 2P) / S + 1; one number stands for both axes where they agree.
    """
    headers = ["layer", "kind", "input", "F", "S", "P", "output", "parameters", "FLOPs"]
    run = [row for row in rows if not row.name.startswith(AUXILIARY)]
    lines = [
        [
            row.name,
            row.kind,
            by(row.input_shape),
            _axes(row.window),
            _axes(row.stride),
            _axes(row.padding),
            by(row.output_shape),
            f"{row.parameters:,}",
            f"{row.flops:,}",
        ]
        for row in rows
    ]

    def last_line(name: str, some: Sequence[LayerRow]) -> list[str]:
        sums = totals(some)
        return [name, *[""] * 6, f"{sums.parameters:,}", f"{sums.flops:,}"]

    lines.append(last_line("total", run))
    if len(run) < len(rows):
        lines.append(last_line("in training", rows))
    return table(lines, headers)


def _trace(model: Classifier, input_shape: Sequence[int]) -> Any:
    """Returns the shapes of the model's variables."""
    image = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x), image)


def _count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _rows(module: nn.Module, before: Shape, after: Shape) -> list[LayerRow]:
    """Returns the rows of a module that was called, none for one that only holds others."""
    held = module.variables.get("params", {})
    own = {name: leaf for name, leaf in held.items() if not isinstance(leaf, dict)}
    name, kind = "/".join(module.path), type(module).__name__
    if getattr(module, "activation", None):
        kind += f" + {module.activation}"
    if isinstance(module, layers.Conv):
        convolution = _windowed(
            name, kind, before, module.kernel_size, module.strides, module.padding, module.features
        )
        positions = convolution.output_shape[:2]
        if module.pool is not None:
            positions = layers.pooled_positions(positions, module.pool)
        flops = 2 * math.prod(own["kernel"].shape) * math.prod(positions)
        rows = [dataclasses.replace(convolution, parameters=_count(own), flops=flops)]
        if module.pool is not None:
            shape, window = convolution.output_shape, module.pool
            rows.append(_windowed(f"{name}/pool", "MaxPool", shape, window, window, "VALID"))
        return rows
    if isinstance(module, layers.MaxPool | layers.AvgPool):
        strides = module.strides or module.window
        return [_windowed(name, kind, before, module.window, strides, module.padding)]
    if own or isinstance(module, _WITHOUT_PARAMETERS):
        flops = 2 * _count(own["kernel"]) if isinstance(module, layers.Dense) else 0
        return [LayerRow(name, kind, before, after, _count(own), flops)]
    return []


def _windowed(
    name: str,
    kind: str,
    before: Shape,
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: layers.Padding,
    features: int | None = None,
) -> LayerRow:
    """Returns the row of a convolution or pool, its output by the output-size formula."""
    pairs = padding_pairs(padding, before[:2], window, strides)
    height, width = map(output_size, before[:2], window, strides, pairs)
    after = (height, width, features or before[2])
    return LayerRow(name, kind, before, after, window=window, stride=strides, padding=pairs)


def by(shape: Sequence[int]) -> str:
    """Returns a shape as text, such as "28 x 28 x 256"."""
    return " x ".join(map(str, shape))


def _axes(terms: Sequence[Any] | None) -> str:
    """Returns one number where all agree; else one an axis, a + b for padding before and after."""
    if terms is None:
        return ""
    axes = [term if isinstance(term, tuple) else (term,) for term in terms]
    texts = [str(axis[0]) if len(set(axis)) == 1 else "+".join(map(str, axis)) for axis in axes]
    return texts[0] if len(set(texts)) == 1 else " x ".join(texts)
