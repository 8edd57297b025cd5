"""FLOPs of a traced function, counted in its equations.

Only matrix products and convolutions count, 2 for each multiply-add, as usual in the field. They
are found in the jaxpr wherever they come from: a layer of this package, of Linen, or an expression
in a user's own module.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from jax.extend import core


class Window(NamedTuple):
    """The terms of the output-size formula of a convolution, along its spatial axes.

    Attributes:
        input_size: W, the size of the input.
        window: F, from the first to the last tap of the kernel.
        stride: S; of a transposed convolution the factor by which the output grows.
        padding: P, (before, after) of each axis; None of a transposed convolution, for which the
            formula does not hold.
    """

    input_size: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...] | None


class Equation(NamedTuple):
    """An equation of a jaxpr that contains no other jaxpr.

    Attributes:
        scope: the named scopes around it, the outermost first, separated by "/".
        times: how often it runs: the product of the lengths of the scans around it.
        flops: the FLOPs of all of these times; 0 for all but matrix products and convolutions.
        window: the terms of a convolution; None for all others.
    """

    scope: str
    times: int
    flops: int
    window: Window | None


def equations(jaxpr: core.Jaxpr, scope: str = "", times: int = 1) -> Iterator[Equation]:
    """Yields the equations of a jaxpr, and of all jaxprs in it, in the order of their execution.

    The body of a scan counts as often as it runs. The body of a while loop counts once, since the
    number of its iterations is not known, and of the branches of a conditional the one with the
    most FLOPs counts.

    Args:
        jaxpr: the traced function.
        scope: the named scopes around it.
        times: how often it runs.
    """
    for eqn in jaxpr.eqns:
        inside = f"{scope}/{eqn.source_info.name_stack}"
        name, repeated = eqn.primitive.name, times
        if name == "cond":
            branches = [
                list(equations(each.jaxpr, inside, times)) for each in eqn.params["branches"]
            ]
            yield from max(branches, key=lambda branch: sum(each.flops for each in branch))
            continue
        if name == "scan":
            repeated *= eqn.params["length"]
        inner = [jaxpr for value in eqn.params.values() for jaxpr in _jaxprs(value)]
        for each in inner:
            yield from equations(each, inside, repeated)
        if not inner:
            flops, window = 0, None
            if name == "dot_general":
                flops = _product_flops(eqn)
            elif name == "conv_general_dilated":
                flops, window = _convolution_flops(eqn), _window(eqn)
            yield Equation(inside, times, times * flops, window)


def _jaxprs(value: Any) -> list[core.Jaxpr]:
    """Returns the jaxprs in a parameter of an equation."""
    if isinstance(value, core.ClosedJaxpr):  # pyright: ignore[reportPrivateImportUsage]
        return [value.jaxpr]
    if isinstance(value, core.Jaxpr):
        return [value]
    if isinstance(value, tuple | list):
        return [jaxpr for each in value for jaxpr in _jaxprs(each)]
    return []


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _product_flops(eqn: core.JaxprEqn) -> int:
    """Returns the FLOPs of a matrix product."""
    (contracted, _), _ = eqn.params["dimension_numbers"]
    terms = math.prod(_shape(eqn.invars[0])[axis] for axis in contracted)
    return 2 * terms * math.prod(_shape(eqn.outvars[0]))


def _convolution_flops(eqn: core.JaxprEqn) -> int:
    """Returns the FLOPs of a convolution.

    Products with padding count. Products with the zeros between the pixels of a transposed
    convolution's input do not: there each pixel meets each tap of the kernel once.
    """
    numbers = eqn.params["dimension_numbers"]
    images, kernel = map(_shape, eqn.invars)
    outputs = _shape(eqn.outvars[0])
    batch, features, *spatial = numbers.out_spec
    # Of a grouped convolution the kernel has the inputs of one group.
    flops = 2 * outputs[batch] * outputs[features] * kernel[numbers.rhs_spec[1]]
    for out_axis, in_axis, kernel_axis, dilation in zip(
        spatial,
        numbers.lhs_spec[2:],
        numbers.rhs_spec[2:],
        eqn.params["lhs_dilation"],
        strict=True,
    ):
        positions = outputs[out_axis] if dilation == 1 else images[in_axis]
        flops *= kernel[kernel_axis] * positions
    return flops


def _window(eqn: core.JaxprEqn) -> Window:
    """Returns the terms of a convolution."""
    numbers, params = eqn.params["dimension_numbers"], eqn.params
    images, kernel = map(_shape, eqn.invars)
    transposed = any(dilation != 1 for dilation in params["lhs_dilation"])
    return Window(
        input_size=tuple(images[axis] for axis in numbers.lhs_spec[2:]),
        window=tuple(
            (kernel[axis] - 1) * dilation + 1
            for axis, dilation in zip(numbers.rhs_spec[2:], params["rhs_dilation"], strict=True)
        ),
        stride=tuple(params["lhs_dilation"] if transposed else params["window_strides"]),
        padding=None if transposed else tuple(map(tuple, params["padding"])),
    )
