"""Which code of a user's own a run needs: code.json says it, and loading checks it.

The file is named, so that a person can give it again; it is never run from here.
"""

from pathlib import Path
from typing import Any

import flax.linen as nn
from absl import logging

from cnn_jax import files, losses, models, text
from cnn_jax.data import registry
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.losses import Loss
from cnn_jax.trees import flatten


def describe(
    config: Experiment, model: nn.Module | None = None, loss: Loss | None = None
) -> dict[str, Any]:
    """Returns {"model" | "loss" | "dataset": {"name", "file", "sha256", "given"}} of foreign code.

    Args:
        config: the experiment.
        model: the user's own module that was given in place of a name, or None.
        loss: the user's own loss that was given in place of a name, or None.
    """
    found: dict[str, Any] = {}
    if model is not None:
        found["model"] = _entry(config.model.name, files.source_of(type(model))[0], True)
    elif (entry := models.REGISTRY.get(config.model.name)) and entry.defined_in:
        found["model"] = _entry(config.model.name, entry.defined_in, False)
    if loss is not None:
        found["loss"] = _entry(config.train.loss, files.source_of(loss)[0], True)
    elif config.train.loss not in losses.OURS and config.train.loss in losses.REGISTRY:
        file = files.source_of(losses.REGISTRY[config.train.loss])[0]
        found["loss"] = _entry(config.train.loss, file, False)
    if (dataset := registry.REGISTRY.get(config.dataset.name)) is not None:
        found["dataset"] = _entry(config.dataset.name, dataset.defined_in, False)
    return found


def _entry(name: str, file: str, given: bool) -> dict[str, Any]:
    known = bool(file) and Path(file).is_file()
    digest = files.sha256(Path(file)) if known else None
    return {"name": name, "file": file, "sha256": digest, "given": given}


def command_line(command: str, directory: Path, code: dict[str, Any]) -> str:
    """Returns the command line for a run, with the files that its code.json names."""
    needed = dict.fromkeys(entry["file"] for entry in code.values() if entry["file"])
    return text.command_line(command, directory, code=needed)


def check(
    code: dict[str, Any] | None, model: nn.Module | None = None, loss: Loss | None = None
) -> None:
    """Refuses to load a run whose own code is not there, and warns where its file has changed.

    Args:
        code: the contents of code.json, or None.
        model: the user's own module, where it was given.
        loss: the user's own loss, where it was given.

    Raises:
        UsageError: the model, the loss or the data set is missing, or is another one; the message
            says what to give.
    """
    code, given = code or {}, {"model": model, "loss": loss}
    for kind, value in given.items():
        if value is not None and kind not in code:
            raise UsageError(
                f"the run was trained on a {kind} of cnn_jax, by name; leave {kind}= out"
            )
    for kind, entry in code.items():
        name, value = entry["name"], given.get(kind)
        file = entry["file"] or "a file that is not known"
        if value is not None:
            now = _name_of(value)
            if entry["given"] and now != name:
                raise UsageError(
                    f"the run was trained on the {kind} {name}, and {now} was given; give {name}"
                )
            source = value
        elif entry["given"]:
            raise UsageError(
                f"the run was trained on a {kind} of your own, {name} of {file}; load it in "
                f"Python and give it again: cnn_jax.load(DIR, {kind}=...)"
            )
        elif (source := _registered(kind, name)) is None:
            noun = {"dataset": "data set"}.get(kind, kind)
            needs = f"the run needs the {noun} {name!r} that {file} registers"
            raise UsageError(
                f"{needs}; import that file first, or call cnn_jax.preset(FILE)",
                on_command_line=f"{needs}; give that file with --code=FILE.py",
            )
        _warn_if_changed(kind, name, files.source_of(source)[0], entry.get("sha256"))


def check_parameters(code: dict[str, Any] | None, shapes: Any) -> None:
    """Refuses a module of the user's own whose parameters are not those of the run.

    Raises:
        UsageError: they are not; the message names one that differs.
    """
    before = (code or {}).get("model", {}).get("parameters")
    now = parameter_shapes(shapes)
    if before is None or before == now:
        return
    path = next(p for p in sorted({*before, *now}) if before.get(p) != now.get(p))
    was, is_now = (str(x[path]) if path in x else "not there" for x in (before, now))
    raise UsageError(
        f"the model is not the one that the run was trained on: its parameter {path} was {was} "
        f"and is now {is_now}; give the run's own model"
    )


def _name_of(value: Any) -> str:
    return getattr(value, "__name__", type(value).__name__)


def _registered(kind: str, name: str) -> Any:
    """Returns the function that was registered under a name, or None."""
    if kind == "loss":
        return losses.REGISTRY.get(name)
    if kind == "dataset":
        return entry.load if (entry := registry.REGISTRY.get(name)) else None
    return entry.builder if (entry := models.REGISTRY.get(name)) else None


def _warn_if_changed(kind: str, name: str, file: str, sha256: str | None) -> None:
    """Warns where a file of the user's own is not the one that the run was trained with."""
    if sha256 is None or not file or not Path(file).is_file() or files.sha256(Path(file)) == sha256:
        return
    logging.warning(
        "%s, which defines the %s %s, is not as it was when the run began (its sha256 differs): "
        "what is computed now is that of the file as it is",
        file,
        {"dataset": "data set"}.get(kind, kind),
        name,
    )


def parameter_shapes(shapes: Any) -> dict[str, list[int]]:
    """Returns {path: shape} of a model's parameters, ready for JSON."""
    return {path: list(leaf.shape) for path, leaf in flatten(shapes["params"]).items()}
