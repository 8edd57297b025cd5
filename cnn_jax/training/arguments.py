"""The arguments of `train` and `create`, as a person gives them: names, values and settings."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import optax

from cnn_jax.data import Data, arrays
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.losses import Loss
from cnn_jax.training.values import check_effects


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
