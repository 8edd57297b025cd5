"""Declares, reads and checks settings: dataclass fields with help, bounds and choices."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from absl import flags as absl_flags
from absl import logging

from cnn_jax.errors import UsageError

# Of settings that name no bound of their own: steps and examples are counted in int32, and numbers
# are used in float32.
LARGEST_INT = 2**31 - 1
_LARGEST_FLOAT, _SMALLEST_FLOAT = 3e38, 1e-30  # float32 holds 3.4e38


def setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    resumable: bool = False,
    before: Any = None,
) -> Any:
    """Returns the dataclass field of a setting.

    Args:
        default: the value where neither preset nor flag gives one.
        help: one sentence for `--help`, with the unit where there is one.
        minimum: smallest legal value.
        maximum: largest legal value.
        above: legal values are larger than this.
        below: legal values are smaller than this.
        resumable: whether a run may be resumed with another value: True where the value does not
            change a result.
        before: the value of an experiment that was saved before there was this setting; None: the
            default.
    """
    bounds = {"minimum": minimum, "maximum": maximum, "above": above, "below": below}
    metadata = {"help": help, "resumable": resumable, "before": before, **bounds}
    return dataclasses.field(default=default, metadata=metadata)


def fields(cls: type, prefix: str = "") -> list[tuple[str, dataclasses.Field]]:
    """Returns every setting as (dotted path, field), in the order of definition.

    Args:
        cls: a dataclass, which may hold others.
        prefix: the start of each path, such as "sweep.".
    """
    leaves = []
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(field.type):
            leaves += fields(typing.cast(type, field.type), f"{prefix}{field.name}.")
        else:
            leaves.append((prefix + field.name.rstrip("_"), field))  # `class_` is "class"
    return leaves


def get(values: Any, path: str) -> Any:
    """Returns the value at a dotted path of a dataclass."""
    for name in path.split("."):
        values = getattr(values, name)
    return values


def field_type(field: dataclasses.Field) -> tuple[type, bool, tuple[str, ...]]:
    """Returns the scalar type of a setting, whether None is legal, and its choices or ()."""
    kind: Any = field.type
    optional = typing.get_origin(kind) in (types.UnionType, typing.Union)
    if optional:
        kind = next(arg for arg in typing.get_args(kind) if arg is not type(None))
    if typing.get_origin(kind) is Literal:
        return str, optional, typing.get_args(kind)
    return kind, optional, ()


def plain(value: Any) -> Any:
    """Returns a number of NumPy or JAX, an array without axes among them, as Python's own."""
    is_scalar = getattr(value, "shape", None) == () and hasattr(value, "item")
    return value.item() if is_scalar else value


def check_value(path: str, field: dataclasses.Field, value: Any) -> None:
    """Raises UsageError where a value is not legal for its field.

    Args:
        path: the dotted path, which the message names.
        field: the setting.
        value: the value to check.
    """
    kind, optional, choices = field_type(field)
    if value is None and optional:
        return
    legal = kind if kind is not float else (float, int)
    if not isinstance(value, legal) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"--{path} takes {kind.__name__}, not {value!r}")
    if choices and value not in choices:
        raise UsageError(f"--{path} is one of {', '.join(choices)}, not {value!r}")
    m = field.metadata
    number: Any = value
    # Not isfinite, which refuses an int that is too large for a float.
    if kind is float and not abs(number) < math.inf:
        raise UsageError(f"--{path} takes a finite number, not {value!r}")
    if kind is float and 0 < abs(number) < _SMALLEST_FLOAT:
        raise UsageError(f"--{path} is too small a number for float32: {value!r}")
    if kind in (int, float) and m.get("maximum") is None and m.get("below") is None:
        highest = LARGEST_INT if kind is int else _LARGEST_FLOAT
        if number > highest:
            raise UsageError(f"--{path} must be at most {highest}, not {value!r}")
    tests = [
        ("minimum", lambda bound: value >= bound, "at least"),
        ("maximum", lambda bound: value <= bound, "at most"),
        ("above", lambda bound: value > bound, "more than"),
        ("below", lambda bound: value < bound, "less than"),
    ]
    for key, holds, words in tests:
        if m.get(key) is not None and not holds(m[key]):
            raise UsageError(f"--{path} must be {words} {m[key]}, not {value!r}")


def check_all(section: Any, prefix: str) -> None:
    """Raises UsageError where a value of a section of settings is not legal.

    Args:
        section: a dataclass that holds no others.
        prefix: the start of each path, such as "sweep.".
    """
    for path, field in fields(type(section), prefix):
        check_value(path, field, getattr(section, field.name))


def convert(kind: type, text: str) -> Any:
    """Returns a text as a bool, int or float, or unchanged where it is none."""
    try:
        return absl_flags.BooleanParser().parse(text) if kind is bool else kind(text)
    except ValueError:
        return text


def shorter_warmup(old: Any, changes: Mapping[str, Any]) -> dict[str, float]:
    """Returns the warm-up that gives way to fewer epochs or to a constant rate, where it has to.

    It keeps its share of the run. One that is among the changes stands, and is refused if it is too
    long.

    Args:
        old: the Experiment that is changed.
        changes: {dotted path: value}.
    """
    name = "optimizer.warmup_epochs"
    before, epochs = old.optimizer.warmup_epochs, changes.get("train.epochs")
    if name in changes or before == 0:
        return {}
    if changes.get("optimizer.schedule") == "constant":
        now = 0.0
    elif isinstance(epochs, int) and 0 < epochs <= before:
        now = before * epochs / old.train.epochs
    else:
        return {}
    logging.warning("%s=%g of the preset gives way, and is %g", name, before, now)
    return {name: now}
