"""Declares, reads and checks settings: dataclass fields with help, bounds and choices."""

import dataclasses
import types
import typing
from typing import Any, Literal

from absl import flags as absl_flags

from cnn_jax.errors import UsageError


def setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    resumable: bool = False,
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
    """
    bounds = {"minimum": minimum, "maximum": maximum, "above": above, "below": below}
    metadata = {"help": help, "resumable": resumable, **bounds}
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
            leaves.append((prefix + field.name, field))
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
    tests = [
        ("minimum", lambda bound: value >= bound, "at least"),
        ("maximum", lambda bound: value <= bound, "at most"),
        ("above", lambda bound: value > bound, "more than"),
        ("below", lambda bound: value < bound, "less than"),
    ]
    for key, holds, words in tests:
        if m.get(key) is not None and not holds(m[key]):
            raise UsageError(f"--{path} must be {words} {m[key]:g}, not {value!r}")


def convert(kind: type, text: str) -> Any:
    """Returns a text as a bool, int or float, or unchanged where it is none."""
    try:
        return absl_flags.BooleanParser().parse(text) if kind is bool else kind(text)
    except ValueError:
        return text
