"""Translates each kind of JAX's equations into operations of `engine.js`."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnn_jax.page import dropout
from cnn_jax.page.program import Operand, Program, Scalar, UnsupportedError

# Of one operand, element by element.
_UNARY = {
    "abs", "cbrt", "ceil", "cos", "erf", "erfc", "exp", "exp2", "expm1", "floor", "is_finite",
    "log", "log1p", "logistic", "neg", "not", "round", "rsqrt", "sign", "sin", "sqrt", "square",
    "tan", "tanh",
}  # fmt: skip
# Of two operands, element by element; one of them may have axes of length 1.
_BINARY = {
    "add", "add_any", "and", "atan2", "div", "eq", "ge", "gt", "le", "lt", "max", "min", "mul",
    "ne", "or", "pow", "rem", "sub", "xor",
}  # fmt: skip
_REDUCTIONS = {
    "reduce_sum": "sum",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_prod": "prod",
    "reduce_and": "min",
    "reduce_or": "max",
}
_WINDOWS = {"reduce_window_max": "max", "reduce_window_sum": "sum", "reduce_window_min": "min"}

Result = list[Operand]


def translate(program: Program, equation: Any, operands: Sequence[Operand], scope: str) -> Result:
    """Adds the operations of an equation, and returns the values of its results.

    Args:
        program: what is written to.
        equation: the equation.
        operands: its operands in the program.
        scope: the names of the scopes around it.

    Raises:
        UnsupportedError: there is no translation.
    """
    name = equation.primitive.name
    aval = equation.outvars[0].aval
    shape, parameters = tuple(aval.shape), equation.params
    dtype = str(aval.dtype)
    if dtype in ("float16", "complex64", "complex128"):
        raise UnsupportedError(f"{name} of {dtype}")
    extra: dict[str, Any] = {"scope": scope}
    if dtype == "bfloat16":
        extra["round"] = True
    if name in _UNARY:
        if name == "round" and int(parameters.get("rounding_method", 0)) != 1:
            raise UnsupportedError("round away from zero")
        if name == "not" and dtype != "bool":
            raise UnsupportedError(f"not of {dtype}")
        return [program.add("unary", operands, shape, f=name, **extra)]
    if name in _BINARY:
        if name in ("and", "or", "xor") and dtype != "bool":
            raise UnsupportedError(f"{name} of {dtype}")
        integer = np.issubdtype(aval.dtype, np.integer) and name == "div"
        kind = "quotient" if integer else name
        return [program.add("binary", operands, shape, f=kind, **extra)]
    if name in _REDUCTIONS:
        axes = list(parameters["axes"])
        kind = _REDUCTIONS[name]
        return [program.add("reduce", operands, shape, axes=axes, f=kind, **extra)]
    if name in _WINDOWS:
        return [_window(program, operands, shape, parameters, _WINDOWS[name], extra)]
    if name not in _OTHERS:
        raise UnsupportedError(name)
    return _OTHERS[name](program, operands, equation, extra)


def _spatial(values: Sequence[Any], name: str, outside: Any) -> list[Any]:
    """Returns what a setting of four axes says of height and width."""
    if len(values) != 4 or values[0] != outside or values[3] != outside:
        raise UnsupportedError(f"{name} over other axes than height and width")
    return [list(v) if isinstance(v, tuple | list) else int(v) for v in values[1:3]]


def _window(program, operands, shape, parameters, kind, extra, name="window") -> Operand:
    for dilation in ("base_dilation", "window_dilation"):
        if any(each != 1 for each in parameters.get(dilation, ())):
            raise UnsupportedError(f"a pool with {dilation}")
    return program.add(
        name,
        operands,
        shape,
        f=kind,
        window=_spatial(parameters["window_dimensions"], "a pool", 1),
        strides=_spatial(parameters["window_strides"], "a pool", 1),
        pads=_spatial([tuple(each) for each in parameters["padding"]], "a pool", (0, 0)),
        **extra,
    )


def _scatter_pool(program, operands, equation, extra) -> Result:
    """The gradient of a max-pool: each sum goes to the first maximum of its window."""
    if equation.params["select_prim"].name != "ge":
        raise UnsupportedError("the gradient of another pool than the maximum")
    shape = equation.outvars[0].aval.shape
    parameters = equation.params
    return [_window(program, operands, shape, parameters, "max", extra, name="scatter")]


def _transposed(program: Program, operand: Operand, order: Sequence[int], extra: Any) -> Operand:
    if list(order) == list(range(len(order))) or isinstance(operand, Scalar):
        return operand
    shape = program.shapes[operand]
    return program.add(
        "transpose", [operand], [shape[i] for i in order], order=list(order), scope=extra["scope"]
    )


def _reshaped(program: Program, operand: Operand, shape: Sequence[int], extra: Any) -> Operand:
    if not isinstance(operand, Scalar) and program.shapes[operand] == tuple(shape):
        return operand
    return program.add("reshape", [operand], shape, scope=extra["scope"])


def _convolution(program, operands, equation, extra) -> Result:
    """By numbers `[1, height, width, channels]` and kernels `[height, width, in, out]`."""
    parameters = equation.params
    numbers = parameters["dimension_numbers"]
    if len(numbers.lhs_spec) != 4:
        raise UnsupportedError("a convolution over other axes than height and width")
    if parameters["batch_group_count"] != 1:
        raise UnsupportedError("a convolution with batch groups")
    to_rows = [numbers.lhs_spec[i] for i in (0, 2, 3, 1)]
    to_kernel = [numbers.rhs_spec[i] for i in (2, 3, 1, 0)]
    x = _transposed(program, operands[0], to_rows, extra)
    kernel = _transposed(program, operands[1], to_kernel, extra)
    shape = equation.outvars[0].aval.shape
    rows = [shape[numbers.out_spec[i]] for i in (0, 2, 3, 1)]
    y = program.add(
        "conv",
        [x, kernel],
        rows,
        macs=math.prod(rows) * math.prod(program.shapes[kernel][:3]),
        strides=list(parameters["window_strides"]),
        pads=[list(each) for each in parameters["padding"]],
        spread=list(parameters["lhs_dilation"]),
        dilation=list(parameters["rhs_dilation"]),
        groups=int(parameters["feature_group_count"]),
        **extra,
    )
    back = [0] * 4
    for place, axis in zip(range(4), (0, 2, 3, 1), strict=True):
        back[numbers.out_spec[axis]] = place
    return [_transposed(program, y, back, extra)]


def _product(program, operands, equation, extra) -> Result:
    """Products of matrices `[batch, rows, sums] [batch, sums, columns]`."""
    (left, right), (left_batch, right_batch) = equation.params["dimension_numbers"]
    shapes = [each.aval.shape for each in equation.invars]
    free = [
        [i for i in range(len(shape)) if i not in (*sums, *batch)]
        for shape, sums, batch in zip(shapes, (left, right), (left_batch, right_batch), strict=True)
    ]

    def size(shape: Sequence[int], axes: Sequence[int]) -> int:
        return math.prod(shape[i] for i in axes)

    batch, sums = size(shapes[0], left_batch), size(shapes[0], left)
    rows, columns = size(shapes[0], free[0]), size(shapes[1], free[1])
    x = _transposed(program, operands[0], [*left_batch, *free[0], *left], extra)
    y = _transposed(program, operands[1], [*right_batch, *right, *free[1]], extra)
    x = _reshaped(program, x, (batch, rows, sums), extra)
    y = _reshaped(program, y, (batch, sums, columns), extra)
    macs = batch * rows * sums * columns
    found = program.add("matmul", [x, y], (batch, rows, columns), macs=macs, **extra)
    return [_reshaped(program, found, equation.outvars[0].aval.shape, extra)]


def _broadcast(program, operands, equation, extra) -> Result:
    shape = equation.outvars[0].aval.shape
    axes = list(equation.params["broadcast_dimensions"])
    return [program.add("broadcast", operands[:1], shape, axes=axes, **extra)]


def _reshape(program, operands, equation, extra) -> Result:
    if equation.params.get("dimensions") is not None:
        raise UnsupportedError("reshape in another order of axes")
    return [program.add("reshape", operands[:1], equation.outvars[0].aval.shape, **extra)]


def _simple(name: str, *settings: str) -> Callable[..., Result]:
    """Returns the translation of an equation whose settings are lists of whole numbers."""

    def translation(program, operands, equation, extra) -> Result:
        values = {key: [int(x) for x in equation.params[key]] for key in settings}
        shape = equation.outvars[0].aval.shape
        return [program.add(name, operands, shape, **values, **extra)]

    return translation


def _transpose(program, operands, equation, extra) -> Result:
    order = list(equation.params["permutation"])
    shape = equation.outvars[0].aval.shape
    return [program.add("transpose", operands, shape, order=order, **extra)]


def _slice(program, operands, equation, extra) -> Result:
    parameters, shape = equation.params, equation.outvars[0].aval.shape
    start = list(parameters["start_indices"])
    strides = list(parameters["strides"] or [1] * len(shape))
    return [program.add("slice", operands, shape, start=start, strides=strides, **extra)]


def _split(program, operands, equation, extra) -> Result:
    axis, found, at = equation.params["axis"], [], 0
    for variable in equation.outvars:
        shape = variable.aval.shape
        start = [at if i == axis else 0 for i in range(len(shape))]
        ones = [1] * len(shape)
        found.append(program.add("slice", operands, shape, start=start, strides=ones, **extra))
        at += shape[axis]
    return found


def _pad(program, operands, equation, extra) -> Result:
    config = [list(each) for each in equation.params["padding_config"]]
    return [program.add("pad", operands, equation.outvars[0].aval.shape, config=config, **extra)]


def _concatenate(program, operands, equation, extra) -> Result:
    axis = int(equation.params["dimension"])
    return [program.add("concat", operands, equation.outvars[0].aval.shape, axis=axis, **extra)]


def _cast(program, operands, equation, extra) -> Result:
    old = np.dtype(equation.invars[0].aval.dtype)
    new = equation.outvars[0].aval.dtype
    if str(new) == "bool":
        two = [operands[0], Scalar(0.0)]
        return [program.add("binary", two, equation.outvars[0].aval.shape, f="ne", **extra)]
    to_integer = np.issubdtype(new, np.integer) and not np.issubdtype(old, np.integer)
    if not (to_integer and str(old) != "bool") and "round" not in extra:
        return [operands[0]]
    kind = "trunc" if to_integer else "copy"
    return [program.add("unary", operands, equation.outvars[0].aval.shape, f=kind, **extra)]


def _power(program, operands, equation, extra) -> Result:
    two = [operands[0], Scalar(float(equation.params["y"]))]
    return [program.add("binary", two, equation.outvars[0].aval.shape, f="pow", **extra)]


def _select(program, operands, equation, extra) -> Result:
    if len(operands) != 3:
        raise UnsupportedError("a choice among more than two")
    return [program.add("select", operands, equation.outvars[0].aval.shape, **extra)]


def _clamp(program, operands, equation, extra) -> Result:
    low, x, high = operands
    shape = equation.outvars[0].aval.shape
    above = program.add("binary", [x, low], shape, f="max", **extra)
    return [program.add("binary", [above, high], shape, f="min", **extra)]


def _name(program, operands, equation, extra) -> Result:
    """A name changes nothing, but that of a dropout says where the page can drop values."""
    found = dropout.read(equation.params["name"])
    if found is None:
        return [operands[0]]
    rate, shared = found
    shape = equation.outvars[0].aval.shape
    return [program.add("dropout", operands, shape, rate=rate, shared=list(shared), **extra)]


_OTHERS: dict[str, Callable[..., Result]] = {
    "conv_general_dilated": _convolution,
    "dot_general": _product,
    "select_and_scatter_add": _scatter_pool,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _simple("reshape"),
    "expand_dims": _simple("reshape"),
    "transpose": _transpose,
    "rev": _simple("rev", "dimensions"),
    "slice": _slice,
    "split": _split,
    "pad": _pad,
    "concatenate": _concatenate,
    "convert_element_type": _cast,
    "integer_pow": _power,
    "select_n": _select,
    "clamp": _clamp,
    "name": _name,
}
