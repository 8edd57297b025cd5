"""Which code of a user's own a run needs: code.json says it, and loading checks it.

The file is named, so that a person can give it again; it is never run from here.
"""

from pathlib import Path
from typing import Any

import flax.linen as nn

from cnn_jax import files, losses, models
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


def check(
    code: dict[str, Any] | None, model: nn.Module | None = None, loss: Loss | None = None
) -> None:
    """Refuses to load a run whose own code is not there.

    Args:
        code: the contents of code.json, or None.
        model: the user's own module, where it was given.
        loss: the user's own loss, where it was given.

    Raises:
        UsageError: the model, the loss or the data set is missing; the message says what to give.
    """
    given = {"model": model, "loss": loss}
    registries: dict[str, Any] = {
        "model": models.REGISTRY,
        "loss": losses.REGISTRY,
        "dataset": registry.REGISTRY,
    }
    for kind, entry in (code or {}).items():
        name, file = entry["name"], entry["file"] or "a file that is not known"
        if entry["given"] and given[kind] is None:
            raise UsageError(
                f"the run was trained on a {kind} of your own, {name} of {file}; load it in "
                f"Python and give it again: cnn_jax.load(DIR, {kind}=...)"
            )
        if not entry["given"] and given.get(kind) is None and name not in registries[kind]:
            noun = {"dataset": "data set"}.get(kind, kind)
            raise UsageError(
                f"the run needs the {noun} {name!r} that {file} registers; give that file with "
                "--code=FILE.py (in Python: run it before)"
            )


def parameter_shapes(shapes: Any) -> dict[str, list[int]]:
    """Returns {path: shape} of a model's parameters, ready for JSON."""
    return {path: list(leaf.shape) for path, leaf in flatten(shapes["params"]).items()}
