"""The rows of a layer table: one for each layer of a traced model."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn

from cnn_jax import layers
from cnn_jax.convolution import output_size, padding_pairs
from cnn_jax.describe.trace import Shape, TracedModule, trace
from cnn_jax.trees import flatten

# These have a row although they have no parameters, and count no FLOPs whatever they compute.
_WITHOUT_PARAMETERS = (
    layers.MaxPool,
    layers.AvgPool,
    layers.GlobalAveragePool,
    layers.Flatten,
    layers.Dropout,
)


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """One layer of the table. Shapes are those of one image, without the batch axis.

    Attributes:
        name: the layer's path in the parameter tree, such as "backbone/conv1", "" for a user's
            module itself; the pool inside a `Conv` has "/pool" after it.
        kind: the layer's class, and the activation where it has one.
        input_shape: (height, width, channels) or (units,).
        output_shape: likewise.
        parameters: the number of learned numbers.
        flops: the FLOPs of one image forward: 2 for each multiply-add of a convolution or matrix
            product. Products with padding count; products whose result a pool leaves out do not,
            as they are not computed. Bias, activation, normalisation and pooling count nothing, as
            usual in the field.
        window: F of the output-size formula, (height, width) in pixels; None where it has none.
        stride: S, (vertical, horizontal); of a transposed convolution the factor by which its
            output grows.
        padding: P, ((top, bottom), (left, right)); None where the formula does not hold.
        weights: the paths of the layer's parameters with several axes, whose gradients are
            products.
        biases: the paths of its other parameters.
        times: how often the layer runs for an image: more than once where calls share parameters,
            and in a scan.
    """

    name: str
    kind: str
    input_shape: Shape
    output_shape: Shape
    parameters: int = 0
    flops: int = 0
    window: tuple[int, ...] | None = None
    stride: tuple[int, ...] | None = None
    padding: tuple[tuple[int, int], ...] | None = None
    weights: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()
    times: int = 1


def variables_and_rows(
    model: nn.Module, input_shape: Sequence[int], variables: Any = None
) -> tuple[Any, list[LayerRow]]:
    """Returns the shapes of a model's variables, and its layer table; see `layer_table`."""
    with nn.intercept_methods(_check_window):
        variables, modules = trace(model, input_shape, variables)
    held: dict[str, dict[str, Any]] = {path: {} for path in modules}
    for path, leaf in flatten(variables.get("params", {})).items():
        owner = path
        while owner and owner not in modules:
            owner = owner.rpartition("/")[0]
        held[owner][path] = leaf
    in_order = sorted(modules.values(), key=lambda each: (each.position, -len(each.path)))
    return variables, [row for each in in_order for row in _rows(each, held[each.path])]


def _check_window(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    """Calls a method of a module, after a check that its window fits into its input."""
    module: Any = context.module
    if context.method_name == "__call__" and isinstance(module, layers.Conv):
        shape = args[0].shape[1:]
        sizes, _ = _sizes(shape, module.kernel_size, module.strides, module.padding)
        if module.pool is not None:
            _sizes(sizes, module.pool, module.pool, "VALID")
    elif context.method_name == "__call__" and isinstance(module, layers.MaxPool | layers.AvgPool):
        _sizes(args[0].shape[1:], module.window, module.strides or module.window, module.padding)
    return call(*args, **kwargs)


def _rows(traced: TracedModule, held: Mapping[str, Any]) -> Iterator[LayerRow]:
    """Yields the rows of a module; none for a module that only calls others.

    Args:
        traced: the module.
        held: {path: shape} of the parameters of the module itself.
    """
    module: Any = traced.module
    always = isinstance(module, _WITHOUT_PARAMETERS)
    if not (held or traced.products or always):
        return
    kind, activation = type(module).__name__, getattr(module, "activation", None)
    if isinstance(activation, str):
        kind += f" + {activation}"

    def several_axes(path: str, leaf: Any) -> bool:
        # A scan stacks the parameters of its iterations along one more axis.
        return traced.axes.get(path.rpartition("/")[2], len(leaf.shape)) > 1

    weights = tuple(path for path, leaf in held.items() if several_axes(path, leaf))
    row = LayerRow(
        traced.path,
        kind,
        traced.input_shape,
        traced.output_shape,
        parameters=sum(math.prod(leaf.shape) for leaf in held.values()),
        flops=0 if always else sum(product.flops for product in traced.products),
        weights=weights,
        biases=tuple(path for path in held if path not in weights),
        times=traced.times,
    )
    if isinstance(module, layers.Conv):
        row = _windowed(row, module.kernel_size, module.strides, module.padding, module.features)
        yield row
        if module.pool is not None:
            pool = LayerRow(f"{row.name}/pool", "MaxPool", row.output_shape, row.output_shape)
            yield _windowed(pool, module.pool, module.pool, "VALID")
    elif isinstance(module, layers.MaxPool | layers.AvgPool):
        yield _windowed(row, module.window, module.strides or module.window, module.padding)
    else:
        yield _with_terms(row, traced)


def _windowed(
    row: LayerRow,
    window: tuple[int, int],
    stride: tuple[int, int],
    padding: layers.Padding,
    features: int | None = None,
) -> LayerRow:
    """Returns the row of a convolution or pool of `layers`, its output by the formula."""
    sizes, pairs = _sizes(row.input_shape, window, stride, padding)
    output_shape = (*sizes, features or row.input_shape[2])
    return dataclasses.replace(
        row, output_shape=output_shape, window=window, stride=stride, padding=pairs
    )


def _sizes(
    shape: Shape, window: tuple[int, int], stride: tuple[int, int], padding: layers.Padding
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Returns (height, width) of the output and the padding in pixels, by the formula."""
    pairs = padding_pairs(padding, shape[:2], window, stride)
    return tuple(map(output_size, shape[:2], window, stride, pairs)), pairs


def _with_terms(row: LayerRow, traced: TracedModule) -> LayerRow:
    """Returns the row with the terms of the module's convolution, where it has exactly one."""
    windows = [product.window for product in traced.products if product.window is not None]
    if len(windows) != 1:
        return row
    (terms,) = windows
    # A module may have padded its input itself.
    as_given = terms.input_size == row.input_shape[:-1]
    padding = terms.padding if as_given else None
    return dataclasses.replace(row, window=terms.window, stride=terms.stride, padding=padding)
