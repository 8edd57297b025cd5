"""Makes a trained network, the value that `train` returns, of a run directory."""

import os
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from flax.traverse_util import flatten_dict

from cnn_jax import experiment, text
from cnn_jax.assembly import assemble
from cnn_jax.data import DataInfo
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.losses import Loss
from cnn_jax.runs import changes, code, leaves, stored
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.trained import Run


def load(
    directory: str | os.PathLike[str],
    checkpoint: str | int = "best",
    *,
    model: nn.Module | None = None,
    loss: Loss | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Run:
    """Returns the trained network of a run directory.

    Args:
        directory: the run directory, of this version or an older one.
        checkpoint: "best" by validation accuracy, "last", or a step.
        model: the user's own module that the run was trained with, where it was given as a value.
        loss: the user's own loss, likewise.
        settings: {dotted path: value} of settings that may differ from the run's, such as
            {"dataset.path": "moved/photos"}.

    Raises:
        UsageError: this is no run directory, it has no such checkpoint, the run needs code that is
            not there, or a setting may not change.
        RunError: a file of the directory cannot be read.
    """
    where = RunDirectory(directory)
    where.check_exists()
    asked = experiment.replace(where.config(), settings or {})
    config = changes.check_unchanged(where, asked, trains=False)
    code.check(own := where.read("code"), model, loss)
    described = where.read("data")
    if described is None and not stored.step_folders(where.checkpoints):
        raise UsageError(f"the run in {text.shown(where.path)} has not begun to train yet")
    if described is not None:
        info = DataInfo.from_dict(described)
    else:  # lost: the data themselves say what it said
        info = changes.data_of(config, where).info
    about = where.about_weights(config)
    assembly = assemble(config, info, about, model=model, loss=loss)
    code.check_parameters(own, assembly.shapes)
    which = str(checkpoint)
    stored.candidates(where.checkpoints, which, config)  # refuses now what is not there
    return Run(
        config,
        assembly,
        info,
        where.read("history", []),
        lambda: _variables(where, which, config, assembly.shapes),
        where.path,
        checkpoint=which,
    )


def _variables(
    where: RunDirectory, which: str, config: Experiment, shapes: Any
) -> tuple[dict[str, Any], int]:
    """Returns (variables, step) of a checkpoint, which must be those of the model."""
    variables, step = stored.load_variables(where.checkpoints, which, config)
    leaves.check_same_shapes(flatten_dict(variables), flatten_dict(shapes))
    return variables, step
