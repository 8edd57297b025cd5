"""A network as a list of plain operations, which `engine.js` computes with typed arrays.

Every value has a number. Those of the inputs come first, then those of the constants, then one for
each operation's result. An operand is the number of a value, or a scalar.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np


class UnsupportedError(Exception):
    """The network has an operation that `engine.js` does not compute; the message names it."""


@dataclasses.dataclass(frozen=True)
class Scalar:
    """An operand that is a number."""

    value: float


Operand = int | Scalar


@dataclasses.dataclass
class Operation:
    """One operation.

    Attributes:
        name: what it computes, a function of `engine.js`.
        operands: values and scalars.
        result: the number of its value.
        shape: of the result, with the batch axis, which is 1.
        settings: what the function needs besides.
        scope: the names of the scopes around it.
        macs: its multiplications that are added up.
    """

    name: str
    operands: list[Operand]
    result: int
    shape: tuple[int, ...]
    settings: dict[str, Any]
    scope: str = ""
    macs: int = 0


@dataclasses.dataclass
class Program:
    """Operations in order.

    Attributes:
        inputs: the values that are given.
        constants: {value: (number of a leaf of the variables, None)} or {value: (None, array)}.
        operations: in the order in which they are computed.
        outputs: the values that it is for.
        shapes: {value: shape}.
        fixed: the values that do not depend on the inputs; the page computes them once.
    """

    inputs: list[int] = dataclasses.field(default_factory=list)
    constants: dict[int, tuple[int | None, np.ndarray | None]] = dataclasses.field(
        default_factory=dict
    )
    operations: list[Operation] = dataclasses.field(default_factory=list)
    outputs: list[int] = dataclasses.field(default_factory=list)
    shapes: dict[int, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    fixed: set[int] = dataclasses.field(default_factory=set)

    def new_value(self, shape: Sequence[int]) -> int:
        """Returns the number of a new value."""
        self.shapes[len(self.shapes)] = tuple(shape)
        return len(self.shapes) - 1

    def add(
        self,
        name: str,
        operands: Sequence[Operand],
        shape: Sequence[int],
        scope: str = "",
        macs: int = 0,
        **settings: Any,
    ) -> int:
        """Adds an operation and returns the number of its result."""
        result = self.new_value(shape)
        operands = list(operands)
        self.operations.append(
            Operation(name, operands, result, tuple(shape), settings, scope, macs)
        )
        if all(isinstance(each, Scalar) or each in self.fixed for each in operands):
            self.fixed.add(result)
        return result

    @property
    def macs(self) -> int:
        """The multiplications of one image that are added up."""
        return sum(each.macs for each in self.operations if each.result not in self.fixed)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values; constants that are no leaf are lists of numbers."""

        def operand(each: Operand) -> Any:
            return [_number(each.value)] if isinstance(each, Scalar) else each

        return {
            "inputs": self.inputs,
            "outputs": self.outputs,
            "leaves": [[v, leaf] for v, (leaf, _) in self.constants.items() if leaf is not None],
            "arrays": [
                [value, list(array.shape), [_number(x) for x in np.ravel(array)]]
                for value, (_, array) in self.constants.items()
                if array is not None
            ],
            "shapes": [list(self.shapes[value]) for value in sorted(self.shapes)],
            "operations": [
                {
                    "name": each.name,
                    "in": [operand(x) for x in each.operands],
                    "out": each.result,
                    **each.settings,
                    **({"once": True} if each.result in self.fixed else {}),
                }
                for each in self.operations
            ],
        }


def _number(value: float) -> float | str:
    """Returns a number as JSON has it; JSON has no infinity."""
    value = float(value)
    if math.isfinite(value):
        return int(value) if value == int(value) else value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
