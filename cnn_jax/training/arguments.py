"""The arguments of `train` and `create`, as a person gives them: names, values and settings.

What is given as a value takes the place of a name, and some settings then have no effect.
"""

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
    "random_crop",
    "zoom",
    "shear",
    "rotation",
    "translation",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "trivial_augment",
    "random_erasing",
    "mixup",
    "cutmix",
    "positive",
    "ordered",
    "resident_limit",
)
# The settings of an optimizer that hold for a user's own too.
_AROUND_AN_OPTIMIZER = ("clip_norm", "ema_decay")


def read(
    what: Data | Experiment | Any,
    labels: Any,
    data: Data | None,
    model: str | nn.Module | None,
    loss: str | Loss | None,
    optimizer: str | optax.GradientTransformation | None,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    seed: int | None,
    settings: Mapping[str, Any] | None,
) -> tuple[Experiment, Data | None, dict[str, Any]]:
    """Reads the arguments of `cnn_jax.train` and `create`, which are described there.

    Returns:
        (experiment, data where they were given, {argument: what was given as a value}).

    Raises:
        UsageError: the arguments do not fit together.
    """
    if labels is not None:
        if isinstance(what, Data | Experiment):
            raise UsageError("labels belong to images; give them to cnn_jax.from_arrays")
        what = arrays.from_arrays(what, labels)
    if isinstance(what, Data):
        if data is not None:
            raise UsageError("data was given twice")
        if model is None:
            raise UsageError(
                "train needs a model beside data: a name such as 'resnet20', or a Linen module"
            )
        data, config = arrays.check_data(what), Experiment()
        if what.section is not None:
            config = Experiment(dataset=what.section)
    elif isinstance(what, Experiment):
        config, data = what, None if data is None else arrays.check_data(data)
    else:
        raise UsageError(
            "the first argument is data (of cnn_jax.from_arrays or from_folder) or an Experiment "
            f"(of cnn_jax.preset), not {what!r:.40}"
        )
    if not isinstance(model, str | nn.Module | None):
        raise UsageError(f"model is a name or a Linen module (made: MyNet()), not {model!r}")
    if not (loss is None or isinstance(loss, str) or callable(loss)):
        raise UsageError(f"loss is a name or a function, not {loss!r}")
    if not isinstance(optimizer, str | optax.GradientTransformation | None):
        raise UsageError(
            "optimizer is a name or an optax.GradientTransformation (of optax.MultiSteps its "
            f".gradient_transformation()), not {optimizer!r}"
        )
    given = {"model": model, "loss": loss, "optimizer": optimizer}
    values = {name: None if isinstance(v, str) else v for name, v in given.items()}
    changes = {
        "model.name": model if isinstance(model, str) else None,
        "train.loss": loss if isinstance(loss, str) else None,
        "optimizer.name": optimizer if isinstance(optimizer, str) else None,
        "train.epochs": epochs,
        "dataset.batch_size": batch_size,
        "optimizer.learning_rate": learning_rate,
        "seed": seed,
    }
    changes = {path: value for path, value in changes.items() if value is not None}
    if not isinstance(settings, Mapping | None):
        raise UsageError(f"settings are {{dotted path: value}}, not {settings!r}")
    changes |= settings or {}
    check_effects(changes, data, **values)
    return config.replace(changes), data, values


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
        sections["train"] = dataclasses.replace(
            config.train, loss=name, label_smoothing=0.0, focal_gamma=None
        )
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
