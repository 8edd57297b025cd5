"""Which configuration belongs to a run: settings that may not change between its starts."""

from typing import Any

from cnn_jax import experiment
from cnn_jax.errors import UserError
from cnn_jax.experiment import Experiment


def differences(old: Experiment, new: Experiment) -> dict[str, tuple[Any, Any]]:
    """Returns {path: (old value, new value)} of the settings that change what is computed."""
    resumable = {path for path, field in experiment.fields() if field.metadata["resumable"]}
    return {
        path: values
        for path, values in experiment.difference(old, new).items()
        if path not in resumable and path != "name"
    }


def reason_against(config: Any, meta: dict[str, Any]) -> str | None:
    """Returns why a checkpoint is not of the run of a configuration; None where it may be.

    Args:
        config: an Experiment, or what a config.json holds.
        meta: what the checkpoint says.
    """
    try:
        old = experiment.from_dict(meta["config"])
    except (UserError, TypeError, LookupError):
        return None  # it does not say
    try:
        new = config if isinstance(config, Experiment) else experiment.from_dict(config)
    except (UserError, TypeError) as error:
        return getattr(error, "for_command_line", "its values have other types than settings have")
    changed = differences(old, new)
    for path in ("train.epochs", *experiment.PATHS):  # they may become more, and files may move
        changed.pop(path, None)
    if not changed:
        return None
    path, (there, here) = next(iter(changed.items()))
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"--{path} is {shown(here)} and the checkpoint's is {shown(there)}{more}"


def shown(value: Any) -> str:
    """Returns a setting's value as a flag takes it."""
    return "none" if value is None else str(value)
