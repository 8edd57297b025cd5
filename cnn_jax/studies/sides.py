"""The JSON files of a sweep and of an advise: what shape each has, and what to do about damage.

A power cut may leave any of them empty or torn. Results are made anew by the same command, from the
runs; a plan is what only the command line that started it knows.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from absl import logging

from cnn_jax import files, text
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Experiment, from_dict
from cnn_jax.options import Advise, Sweep
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.shapes import is_number

# Fields that older versions had. They made a sweep faster and changed none of its settings.
_RETIRED_FIELDS = ("vectorize",)
_OTHER_TYPES = "its values have other types than settings have"
_OPTIONS = {"advise": Advise, "sweep": Sweep}


def _is_plan(value: Any) -> bool:
    parts = [value.get(key, {}) for key in ("experiment", "advise", "sweep")]
    fitted, code = value.get("fitted"), value.get("code")
    return (
        "experiment" in value
        and all(isinstance(part, dict) for part in parts)
        and (fitted is None or _is_fitted(fitted))
        and (code is None or isinstance(code, dict))
        and all(isinstance(value.get(key, ""), str | None) for key in ("question", "command"))
        and isinstance(value.get("settings", 0), int)
    )


def _is_fitted(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"strategies", "seeds", "epochs"}
        and isinstance(value["strategies"], list)
        and all(isinstance(value[key], int) and value[key] > 0 for key in ("seeds", "epochs"))
    )


def _is_record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("place"), str)
        and isinstance(value.get("setting"), dict)
        and isinstance(value.get("state"), str)
        and all(is_number(value.get(key, 0)) for key in ("seconds", "epochs"))
        and all(value.get(key) is None or is_number(value[key]) for key in ("value", "std"))
        and (value["state"] != "complete" or is_number(value.get("value")))
    )


def _is_advice(value: Any) -> bool:
    def is_budget(budget: Any) -> bool:
        return (
            isinstance(budget, dict)
            and isinstance(budget.get("recommendation"), dict)
            and isinstance(budget.get("cells"), list)
            and all(isinstance(cell, dict) and _is_cell(cell) for cell in budget["cells"])
        )

    budgets, runs = value.get("budgets"), value.get("runs")
    return (
        isinstance(budgets, dict)
        and all(map(is_budget, budgets.values()))
        and isinstance(runs, list)
        and all(isinstance(run, dict) and isinstance(run.get("run"), str) for run in runs)
    )


def _is_cell(cell: dict[str, Any]) -> bool:
    numbers = ("images", "epochs", "diverged", "flops", "seconds")
    accuracies = cell.get("accuracies")
    return (
        isinstance(cell.get("strategy"), str)
        and all(is_number(cell.get(key)) for key in numbers)
        and isinstance(accuracies, list)
        and all(map(is_number, accuracies))
    )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_worker(value: Any) -> bool:
    pid = value.get("pid")
    is_pid = isinstance(pid, int) and not isinstance(pid, bool) and 0 < pid < 2**31
    return isinstance(value.get("host"), str) and is_pid


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "study": lambda value: isinstance(value, dict) and _is_name(value.get("name")),
    "worker": lambda value: isinstance(value, dict) and _is_worker(value),
    "plan": lambda value: isinstance(value, dict) and _is_plan(value),
    "advise": lambda value: isinstance(value, dict) and _is_advice(value),
    "sweep": lambda value: isinstance(value, list) and all(map(_is_record, value)),
}


def read(directory: RunDirectory, name: str) -> Any:
    """Returns the contents of plan.json, sweep.json or advise.json, or None where there is none.

    Raises:
        RunError: the file is damaged.
    """
    path = directory.path / f"{name}.json"
    if not path.exists():
        return None
    try:
        value = directory.read(name)
    except RunError as error:
        raise RunError(f"{error}; {_remedy(directory, name)}") from error
    if not _SHAPES[name](value):
        what = "does not hold what it should"
        raise RunError(f"{text.shown(path)} {what}; {_remedy(directory, name)}")
    return value


def value_in(path: pathlib.Path, name: str) -> Any:
    """Returns the value in study.json or worker.json, or None where it is lost or damaged."""
    try:
        value = files.read_json(path)
    except RunError:
        return None
    return value if _SHAPES[name](value) else None


def _remedy(directory: RunDirectory, name: str) -> str:
    if name == "plan":
        return (
            "give the command that started it once more, with all its flags, and it is made anew; "
            "runs that are trained stay"
        )
    return f"made anew by: {text.command_line(name, directory.path)}"


def read_plan(directory: RunDirectory, command: str, is_given: bool) -> dict[str, Any] | None:
    """Returns the plan of an advise or a sweep, or None where there is none to go by.

    A damaged one is named in a warning where the command line says all that it said.

    Args:
        directory: where the plan is.
        command: "advise" or "sweep".
        is_given: whether the command line says what is planned.

    Raises:
        UsageError: another command made the directory.
        RunError: the plan is damaged, and the command line does not say it.
    """
    try:
        plan = read(directory, "plan")
    except RunError as error:
        if not is_given:
            raise
        logging.warning("%s", error.for_command_line.replace("; give the", "; by the"))
        return None
    if plan is not None and command not in plan:
        raise UsageError(
            f"--workdir={text.shown(directory.path)} is the directory of another command; give "
            f"{command} another one"
        )
    return plan


def options_of(plan: dict[str, Any], command: str) -> Any:
    """Returns the options of a plan.

    Raises:
        RunError: a later version wrote it, or its values are none of the options.
    """
    kept = {k: v for k, v in plan[command].items() if k not in _RETIRED_FIELDS}
    known = {field.name for field in dataclasses.fields(_OPTIONS[command])}
    if unknown := sorted(kept.keys() - known):
        raise RunError(
            f"plan.json has --{command}.{unknown[0]}, which this version does not know; go on with "
            "the version that wrote it, or give another --workdir"
        )
    try:
        return _OPTIONS[command](**kept)
    except UsageError as error:
        raise RunError(f"plan.json: {error.for_command_line}") from error
    except TypeError as error:
        raise RunError(f"plan.json: {_OTHER_TYPES}") from error


def experiment_of(directory: RunDirectory, plan: dict[str, Any]) -> Experiment:
    """Returns the experiment of a plan.

    Raises:
        RunError: it has settings that this version does not know, or values that are none.
    """
    try:
        return from_dict(plan["experiment"])
    except (UsageError, TypeError) as error:
        reason = getattr(error, "for_command_line", _OTHER_TYPES)
        raise RunError(f"{text.shown(directory.path / 'plan.json')}: {reason}") from error
