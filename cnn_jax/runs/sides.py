"""The small JSON files of a run directory: what shape each has, and what a checkpoint holds of it.

A power cut may leave any of them empty, torn or old. One that cannot be read is named
in a warning and, where the newest checkpoint or the data can tell what it held, made anew.
"""

import pathlib
import sys
from collections.abc import Callable
from typing import Any

from absl import logging

from cnn_jax.data import DataInfo
from cnn_jax.errors import RunError
from cnn_jax.files import read_json
from cnn_jax.runs import stored

_warned: set[tuple[str, int]] = set()


def _number(value: Any) -> bool:
    """Returns whether a value is a number that a float can hold."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max


def _dict_of_dicts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(part, dict) for part in value.values())


def _is_status(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("status"), str)


def _is_history(value: Any) -> bool:
    numbers = ("step", "epoch", "seconds", "validation_loss")
    return isinstance(value, list) and all(
        isinstance(record, dict)
        and _number(record.get("validation_accuracy"))
        and all(_number(record[name]) for name in numbers if name in record)
        for record in value
    )


def _is_result(value: Any) -> bool:
    if not _dict_of_dicts(value):
        return False
    evaluations = value.get("evaluation", {})
    return (
        _number(value.get("features", {"seconds": 0.0}).get("seconds"))
        and _number(value.get("probe", {"accuracy": 0.0}).get("accuracy"))
        and _dict_of_dicts(evaluations)
        and all(_number(record.get("accuracy")) for record in evaluations.values())
    )


def _is_data(value: Any) -> bool:
    try:
        info = DataInfo.from_dict(value)
    except (TypeError, ValueError, LookupError, AttributeError):
        return False
    return isinstance(info.digest, str) and isinstance(info.sizes, dict)


def _is_environment(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(start, dict) and isinstance(start.get("command"), list) for start in value
    )


def _is_code(value: Any) -> bool:
    return _dict_of_dicts(value) and all(
        {"name", "file", "given"} <= entry.keys() for entry in value.values()
    )


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "status": _is_status,
    "history": _is_history,
    "result": _is_result,
    "data": _is_data,
    "environment": _is_environment,
    "code": _is_code,
    "weights": lambda value: isinstance(value, dict) and isinstance(value.get("options", {}), dict),
    "config": lambda value: isinstance(value, dict),
}


def read(directory: pathlib.Path, name: str, default: Any) -> Any:
    """Returns the contents of `name`.json.

    Where it is damaged, and a checkpoint holds what it held, the newest one's is returned; where
    none does, the default. A history or a configuration that is not there counts as damaged.

    Raises:
        RunError: a damaged file is one that nothing else in the directory can stand in for.
    """
    path = directory / f"{name}.json"
    if path.exists():
        problem = None
        try:
            value = read_json(path)
        except RunError as error:
            problem, value = error.for_command_line, None
        is_right = _SHAPES.get(name)
        if problem is None and (is_right is None or is_right(value)):
            return value
        if problem is None:
            problem = f"{path} does not hold what {name}.json of a run holds"
        if is_right is None:
            raise RunError(problem)
        found = _of_checkpoint(directory, name)
        if name == "code" or (name == "config" and found is None):
            raise RunError(
                f"{problem}, and no checkpoint holds it; put the file back, or train again in "
                "another directory"
            )
        _warn(path, problem, "the newest checkpoint's is used" if found is not None else "left out")
        return default if found is None else found
    found = _of_checkpoint(directory, name)
    return default if found is None else found


def _of_checkpoint(directory: pathlib.Path, name: str) -> Any:
    """Returns what the newest readable checkpoint holds of a file, or None."""
    if name not in ("history", "config"):
        return None
    for meta in stored.metas(directory / "checkpoints"):
        if name in meta and _SHAPES[name](meta[name]):
            return meta[name]
    return None


def _warn(path: pathlib.Path, problem: str, instead: str) -> None:
    """Warns once of each damaged state of a file: a command reads it several times."""
    key = (str(path), path.stat().st_mtime_ns)
    if key not in _warned:
        _warned.add(key)
        logging.warning("%s: %s", problem, instead)
