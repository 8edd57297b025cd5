"""Reads the small JSON files of a run directory, and mends what a checkpoint can mend.

A power cut may leave any of them empty, torn or old, and a person may copy one from another run.
One that cannot be read, or does not belong to the checkpoints beside it, is named in a warning and,
where the newest checkpoint or the data can tell what it held, made anew.
"""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import logging

from cnn_jax.errors import RunError
from cnn_jax.evaluation import confusion
from cnn_jax.files import read_json
from cnn_jax.runs import belonging, shapes, stored

_OF_CHECKPOINTS = ("config", "data", "weights", "code", "history")

_EVALUATION = {
    "loss",
    "examples",
    "checkpoint_step",
    "class_names",
    "per_class_accuracy",
}

_warned: set[tuple[str, int]] = set()


def read(directory: pathlib.Path, name: str, default: Any) -> Any:
    """Returns the contents of `name`.json.

    Where it is damaged or of another run, and a checkpoint holds what it held, the newest one's is
    returned; where none does, the default. What is not there, and a checkpoint holds, counts as
    damaged.

    Raises:
        RunError: a damaged file is one that nothing else in the directory can stand in for.
    """
    path = directory / f"{name}.json"
    is_right = shapes.CHECKS.get(name)
    found = None
    if not path.exists():
        problem = None
        if name == "data" and any(stored.metas(directory / "checkpoints")):
            problem = f"{path} is not there"
    else:
        value, problem = _read(path)
        if problem is None and is_right is not None and not is_right(value):
            problem = f"{path} does not hold what {name}.json of a run holds"
        if problem is None and (reason := _reason_against(directory, name, value)):
            problem = f"{path} is not of this run ({reason})"
        if problem is None:
            return _longer(directory, value) if name == "history" else value
        if is_right is None:
            raise RunError(problem)
    found = _of_checkpoint(directory, name)
    if problem is not None:
        if found is None and (name == "config" or (name == "code" and path.exists())):
            raise RunError(
                f"{problem}, and no checkpoint holds it; put the file back, or train again in "
                "another directory"
            )
        _warn(path, problem, "the newest checkpoint's is used" if found is not None else "left out")
    return default if found is None else found


def _read(path: pathlib.Path) -> tuple[Any, str | None]:
    """Returns (the value in a file, None), or (None, what is wrong with it)."""
    try:
        return read_json(path), None
    except RunError as error:
        return None, error.for_command_line


def _metas(directory: pathlib.Path, of_config: Any = None) -> Iterator[dict[str, Any]]:
    """Yields what the readable checkpoints of a configuration say, newest first."""
    for meta in stored.metas(directory / "checkpoints"):
        if of_config is None or belonging.reason_against(of_config, meta) is None:
            yield meta


def _of_checkpoint(directory: pathlib.Path, name: str) -> Any:
    """Returns what the newest readable checkpoint of the run holds of a file, or None."""
    if name not in _OF_CHECKPOINTS:
        return None
    config = None if name == "config" else read(directory, "config", None)
    for meta in _metas(directory, config):
        if shapes.CHECKS[name](meta.get(name)):
            return meta[name]
    return None


def _reason_against(directory: pathlib.Path, name: str, value: Any) -> str | None:
    """Returns why a file belongs to none of the checkpoints beside it; None where it does."""
    reason = None
    if name == "result":
        is_real = any(stored.metas(directory / "checkpoints"))
        return _reason_against_result(value, read(directory, "history", [])) if is_real else None
    if (disagrees := _DISAGREES.get(name)) is None:
        return None
    for meta in _metas(directory):
        if (reason := disagrees(value, meta)) is None:
            return None
    return reason


def _data(value: Any, meta: dict[str, Any]) -> str | None:
    digest = meta.get("data_digest")
    return "its digest is another" if digest not in (None, value["digest"]) else None


def _weights(value: Any, meta: dict[str, Any]) -> str | None:
    about = meta.get("weights", value)
    return "it names other weights" if about != value else None


def _code(value: Any, meta: dict[str, Any]) -> str | None:
    """Only names count: the file of a user's own may change between two starts."""

    def names(code: Any) -> Any:
        return {kind: entry["name"] for kind, entry in code.items()}

    code = meta.get("code", value)
    right = not shapes.CHECKS["code"](code) or names(code) == names(value)
    return None if right else "it names other code"


def _history(value: Any, meta: dict[str, Any]) -> str | None:
    known = meta.get("history")
    if not shapes.CHECKS["history"](known) or not known or not value:
        return None
    both = min(len(known), len(value))
    more = value[both:]
    if known[:both] != value[:both] or any(known[-1].keys() - x.keys() for x in more):
        return "its epochs are others than the checkpoint's"
    return None


_DISAGREES: dict[str, Callable[[Any, dict[str, Any]], str | None]] = {
    "config": belonging.reason_against,
    "data": _data,
    "weights": _weights,
    "code": _code,
    "history": _history,
}


def _reason_against_result(value: Any, history: list[dict[str, Any]]) -> str | None:
    """Returns why a result is not that of a history: the seconds of a training are its own."""
    for split, found in value.get("evaluation", {}).items():
        if missing := _EVALUATION - found.keys():
            return f"its evaluation on {split} has no {min(missing)}"
        if found.get("multilabel") is True:  # it has a matrix for each finding
            continue
        if not confusion.is_in(found):
            return f"its evaluation on {split} has no confusion_matrix"
        matrix = confusion.of_record(found)
        if abs(np.trace(matrix) - found["accuracy"] * matrix.sum()) > 0.01:
            return f"its accuracy on {split} is not that of its confusion matrix"
    training = value.get("training", {})
    epochs, seconds = training.get("epochs"), training.get("seconds")
    if epochs is None or seconds is None or not 0 < epochs <= len(history):
        return None
    own = history[int(epochs) - 1].get("seconds", seconds)
    return None if own == seconds else "its training took other seconds"


def _longer(directory: pathlib.Path, history: Any) -> Any:
    """Returns the history, or the newest checkpoint's where a power cut left the file behind it."""
    newest = _of_checkpoint(directory, "history")
    return newest if newest is not None and len(newest) > len(history) else history


def _warn(path: pathlib.Path, problem: str, instead: str) -> None:
    """Warns once of each damaged state of a file: a command reads it several times."""
    key = (str(path), path.stat().st_mtime_ns if path.exists() else 0)
    if key not in _warned:
        _warned.add(key)
        logging.warning("%s: %s", problem, instead)
