"""What is given as a value in place of a name, and which settings then have no effect."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import optax

from cnn_jax import experiment
from cnn_jax.data import Data, arrays
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.losses import Loss

# The settings of a data set that matter after it is loaded; the others say what is loaded.
_AFTER_LOADING = (
    "batch_size",
    "eval_batch_size",
    "normalize",
    "flip",
    "alternate_flip",
    "crop_padding",
    "cutout",
    "positive",
    "resident_limit",
)
# The settings of an optimizer that hold for a user's own too.
_AROUND_AN_OPTIMIZER = ("clip_norm", "ema_decay")


def name_values(
    config: Experiment,
    data: Data | None,
    model: nn.Module | None,
    loss: Loss | None,
    optimizer: optax.GradientTransformation | None,
) -> Experiment:
    """Returns the experiment with the names of what was given as a value, and checks the rest.

    Raises:
        UsageError: a setting stands for a value that was not given, or excludes one that was.
    """
    sections: dict[str, Any] = {}
    if data is not None:
        section = data.section or experiment.Dataset(name=arrays.NAME)
        after = {name: getattr(config.dataset, name) for name in _AFTER_LOADING}
        sections["dataset"] = dataclasses.replace(section, **after)
    if model is not None:
        sections["model"] = experiment.Model(name=type(model).__name__)
    if loss is not None:
        name = getattr(loss, "__name__", type(loss).__name__)
        sections["train"] = dataclasses.replace(config.train, loss=name, label_smoothing=0.0)
    if optimizer is not None:
        kept = {name: getattr(config.optimizer, name) for name in _AROUND_AN_OPTIMIZER}
        sections["optimizer"] = experiment.Optimizer(name="own", **kept)
    elif config.optimizer.name == "own":
        raise UsageError(
            "--optimizer.name=own stands for an optimizer that is given in Python; give it to "
            "cnn_jax.train(optimizer=...), or name another one"
        )
    if model is not None and config.transfer.weights is not None:
        raise UsageError(
            f"--transfer.weights={config.transfer.weights} are for a registered model, and the "
            "model is your own; load its weights yourself"
        )
    return dataclasses.replace(config, **sections)


def check_effects(
    settings: Mapping[str, Any],
    data: Data | None,
    model: nn.Module | None,
    loss: Loss | None,
    optimizer: optax.GradientTransformation | None,
) -> None:
    """Refuses settings that were asked for and that what was given as a value leaves unused.

    Args:
        settings: {dotted path: value}, as they were asked for.
        data: the images, or None.
        model: a module of the user's own, or None.
        loss: a loss of the user's own, or None.
        optimizer: an optimizer of the user's own, or None.

    Raises:
        UsageError: a setting has no effect.
    """
    for path in settings:
        section, _, name = path.rpartition(".")
        reason = None
        if section == "dataset" and data is not None and name not in _AFTER_LOADING:
            how = "arrays" if data.section is None else "data that are loaded already"
            reason = f"{how}; change the {'arrays' if data.section is None else 'data'} instead"
        elif section == "model" and model is not None:
            reason = "a model of your own; give it to the module"
        elif section == "optimizer" and optimizer is not None and name not in _AROUND_AN_OPTIMIZER:
            reason = "an optimizer of your own; give it to the optimizer"
        elif path in ("train.loss", "train.label_smoothing") and loss is not None:
            reason = "a loss of your own; leave it out"
        if reason is not None:
            raise UsageError(f"--{path} has no effect on {reason}")
