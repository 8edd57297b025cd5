"""The steps of a network that the page shows.

A step is some operations, and shows the result of the last of them. A convolution, product, pool,
sum of branches, activation, cut or change of shape begins one. Additions and products with
constants, such as a bias or the normalisation of a batch, belong to the step that they follow.
"""

import dataclasses
from typing import Any

from cnn_jax.page.program import Operation, Program, Scalar
from cnn_jax.page.tracing import Network

_ACTIVATIONS = {"erf": "GELU", "erfc": "GELU", "logistic": "sigmoid", "tanh": "tanh"}


@dataclasses.dataclass
class Field:
    """Which pixels a position of a map depends on, along height and width.

    Attributes:
        size: pixels.
        jump: pixels from the field of a position to that of the next one.
        start: the first pixel of the field of position 0; negative in the padding.
    """

    size: tuple[float, float] = (1, 1)
    jump: tuple[float, float] = (1, 1)
    start: tuple[float, float] = (0, 0)


@dataclasses.dataclass
class Step:
    """A step; its first operation says what it is.

    Attributes:
        kind: "input", "conv", "dense", "pool", "activation", "flatten", "mean", "sum",
            "dropout", "concat" or "other".
        title: its kind in words.
        layer: the path of its module.
        value: its result in the program.
        shape: of the result, without the batch axis.
        parameters: learned numbers that are used here first.
        macs: multiplications that are added up, for one image.
        field: the receptive field of a position; None: the whole image.
        settings: window, strides and padding, where there are any.
        source: the value that it takes.
    """

    kind: str
    title: str
    layer: str
    value: int
    shape: tuple[int, ...]
    parameters: int = 0
    macs: int = 0
    field: Field | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    source: int | None = None


def steps_of(network: Network) -> list[Step]:
    """Returns the steps of a network, in the order in which an image passes through them."""
    program = network.forward
    leaves = _leaves_behind(program)
    fields = _fields(program)
    (image,) = program.inputs
    shape = program.shapes[image][1:]
    steps = [Step("input", "image, scaled", "", image, shape, field=Field())]
    counted: set[int] = set()
    data = [each for each in program.operations if each.result not in program.fixed]
    uses = _uses(data)
    begun = [image]  # the results of the operations of the step of now
    for operation in data:
        kind, title, settings = _kind(program, operation)
        new = sum(
            network.leaves[leaf].size
            for x in operation.operands
            if isinstance(x, int)
            for leaf in leaves.get(x, set()) - counted
            if network.names[leaf].startswith("params/")
        )
        for x in operation.operands:
            counted |= leaves.get(x, set()) if isinstance(x, int) else set()
        step = steps[-1]
        if kind == "activation" and title == "GELU":
            # x / 2 * erfc(-x / sqrt 2): the products before erfc belong to the activation.
            several = [value for value in begun if uses.get(value, 0) > 1]
            if several and several[-1] != step.value:
                step.value = several[-1]
                step.shape = _shape(program.shapes[several[-1]])
                step.field = fields.get(several[-1])
        if kind is not None:
            step = Step(kind, title, network.layer(operation.scope), 0, (), settings=settings)
            step.source = next((x for x in operation.operands if isinstance(x, int)), None)
            if step.source in program.fixed:
                step.source = None
            steps.append(step)
            begun = []
        begun.append(operation.result)
        step.value, step.shape = operation.result, _shape(operation.shape)
        # The bias of a convolution that pools comes behind the pool; it is the convolution's.
        weighted = [each for each in steps if each.kind in ("conv", "dense")]
        (weighted[-1] if weighted else step).parameters += new
        step.macs += operation.macs
        step.field = fields.get(operation.result)
    return [step for step in steps if step.shape]


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns a shape without the batch axis: (height, width, channels) or (units,)."""
    return tuple(shape[1:]) if len(shape) == 4 else (shape[-1],)


def _kind(program: Program, operation: Operation) -> tuple[str | None, str, dict[str, Any]]:
    """Returns (kind, title, settings) of the step that an operation begins; None: of none."""
    name, settings = operation.name, operation.settings
    shapes = [program.shapes[x] for x in operation.operands if isinstance(x, int)]
    both = [x for x in operation.operands if isinstance(x, int) and x not in program.fixed]
    if name == "conv":
        kernel = shapes[1]
        words = f"convolution {kernel[0]} x {kernel[1]}, {kernel[3]} filters"
        return "conv", words, {"kernel": kernel[:2], "depth": kernel[2], **_window_of(settings)}
    if name == "matmul":
        if len(both) > 1:
            return "other", "product of two maps", {}
        return "dense", f"dense, {operation.shape[-1]} units", {}
    if name == "window":
        height, width = settings["window"]
        word = {"max": "max", "sum": "average", "min": "min"}[settings["f"]]
        window = {"kernel": settings["window"], **_window_of(settings)}
        return "pool", f"{word}-pooling {height} x {width}", window
    if name == "reduce" and len(shapes[0]) == 4 and {1, 2} <= set(settings["axes"]):
        return "mean", "average over the whole map", {}
    if name == "reshape" and len(operation.shape) == 2 and len(shapes[0]) == 4:
        return "flatten", "flatten", {}
    if name == "slice" and len(operation.shape) == 4 and operation.shape[1:3] != shapes[0][1:3]:
        height, width = operation.shape[1:3]  # such as what no window of the next pool reaches
        return "other", f"cut to {height} x {width}", {}
    if name == "dropout":
        return "dropout", f"dropout {settings['rate']:g}", {}
    if name == "concat":
        return "concat", "branches side by side", {}
    if name == "unary" and settings["f"] in _ACTIVATIONS:
        return "activation", _ACTIVATIONS[settings["f"]], {}
    if name == "binary" and settings["f"] == "max" and _has_zero(program, operation):
        return "activation", "ReLU", {}
    if name == "binary" and settings["f"] in ("add", "add_any") and len(set(both)) == 2:
        return "sum", "sum of two branches", {}
    return None, "", {}


def _window_of(settings: dict[str, Any]) -> dict[str, Any]:
    return {"strides": settings["strides"], "pads": settings["pads"]}


def _has_zero(program: Program, operation: Operation) -> bool:
    del program
    return any(isinstance(x, Scalar) and x.value == 0 for x in operation.operands)


def _uses(operations: list[Operation]) -> dict[int, int]:
    found: dict[int, int] = {}
    for operation in operations:
        for value in operation.operands:
            if isinstance(value, int):
                found[value] = found.get(value, 0) + 1
    return found


def _leaves_behind(program: Program) -> dict[int, set[int]]:
    """Returns {value that does not depend on the image: the leaves that it depends on}."""
    found = {v: {leaf} for v, (leaf, _) in program.constants.items() if leaf is not None}
    for operation in program.operations:
        if operation.result in program.fixed:
            of = [found.get(x, set()) for x in operation.operands if isinstance(x, int)]
            found[operation.result] = set().union(*of)
    return found


def _fields(program: Program) -> dict[int, Field]:
    """Returns the receptive field of every value that is a map."""
    found = {program.inputs[0]: Field()}
    for operation in program.operations:
        known = [found[x] for x in operation.operands if isinstance(x, int) and x in found]
        if not known or len(operation.shape) != 4:
            continue
        field, settings = known[0], operation.settings
        if operation.name in ("conv", "window"):
            sizes = (
                settings["window"]
                if operation.name == "window"
                else [
                    (extent - 1) * spread + 1
                    for extent, spread in zip(
                        program.shapes[_int(operation.operands[1])][:2],
                        settings["dilation"],
                        strict=True,
                    )
                ]
            )
            field = _moved(field, sizes, settings["strides"], [p[0] for p in settings["pads"]])
        elif operation.name == "slice":
            begin = [-x for x in settings["start"][1:3]]
            field = _moved(field, (1, 1), settings["strides"][1:3], begin)
        elif operation.name == "pad":
            field = _moved(field, (1, 1), (1, 1), [p[0] for p in settings["config"][1:3]])
        elif operation.name in ("binary", "concat", "select"):
            field = _union(known)
        elif operation.name not in ("unary", "broadcast", "dropout") and not _swaps_colours(
            operation
        ):
            continue
        found[operation.result] = field
    return found


def _swaps_colours(operation: Operation) -> bool:
    """Returns whether an operation turns the order of the channels round, such as RGB to BGR."""
    return operation.name == "rev" and operation.settings["dimensions"] == [3]


def _int(operand: Any) -> int:
    assert isinstance(operand, int)
    return operand


def _pair(values: Any) -> tuple[float, float]:
    first, second = values
    return first, second


def _moved(field: Field, sizes: Any, strides: Any, before: Any) -> Field:
    axes = range(2)
    return Field(
        _pair(field.size[i] + (sizes[i] - 1) * field.jump[i] for i in axes),
        _pair(field.jump[i] * strides[i] for i in axes),
        _pair(field.start[i] - before[i] * field.jump[i] for i in axes),
    )


def _union(fields: list[Field]) -> Field:
    start = [min(each.start[i] for each in fields) for i in range(2)]
    end = [max(each.start[i] + each.size[i] for each in fields) for i in range(2)]
    size = _pair(end[i] - start[i] for i in range(2))
    return Field(size, fields[0].jump, _pair(start))
