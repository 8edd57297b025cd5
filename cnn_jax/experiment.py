"""The Experiment: every setting of a run, typed and checked, and the only place of its default.

Its sections stand in `sections.py`; flags and the saved `config.json` are made from their fields.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cnn_jax import combinations, patterns, places, settings, text
from cnn_jax.errors import UsageError
from cnn_jax.sections import (
    Checkpoint,
    Dataset,
    Logging,
    Model,
    Optimizer,
    Train,
    Transfer,
)
from cnn_jax.settings import check_value, get, setting

__all__ = [
    "PATHS",
    "Checkpoint",
    "Dataset",
    "Experiment",
    "Logging",
    "Model",
    "Optimizer",
    "Train",
    "Transfer",
    "difference",
    "fields",
    "flatten",
    "from_dict",
    "replace",
    "setting_name",
    "to_dict",
    "to_json",
    "with_absolute_paths",
]

# The settings that name a file or folder of this machine.
PATHS = ("dataset.path", "dataset.root", "dataset.data_dir", "transfer.weights")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All settings of a run, except where it is written.

    Raises:
        UsageError: a value is outside its range or choices, or two settings exclude each other.
    """

    name: str = setting("experiment", "what to call it; a preset's is its file's")
    seed: int = setting(
        0, "of parameters, batch order, augmentation and dropout", minimum=0, maximum=2**63 - 1
    )
    dataset: Dataset = dataclasses.field(default_factory=Dataset)
    model: Model = dataclasses.field(default_factory=Model)
    transfer: Transfer = dataclasses.field(default_factory=Transfer)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    train: Train = dataclasses.field(default_factory=Train)
    checkpoint: Checkpoint = dataclasses.field(default_factory=Checkpoint)
    logging: Logging = dataclasses.field(default_factory=Logging)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value: Any = settings.plain(getattr(self, field.name))
            if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
                kind = field.type.__name__
                if type(value) is not field.type:
                    raise UsageError(f"{field.name} is a cnn_jax.{kind}(...), not {value!r}")
                numbers = {name: settings.plain(number) for name, number in vars(value).items()}
                value = field.type(**numbers)
            object.__setattr__(self, field.name, value)
        for path, field in fields():
            check_value(path, field, get(self, path))
        combinations.check(self)

    def replace(self, changes: Mapping[str, Any] | None = None, /, **more: Any) -> "Experiment":
        """Returns the experiment with the values at dotted paths replaced.

        Args:
            changes: such as `{"train.epochs": 3, "model.name": "resnet20"}`.
            **more: the settings that are in no section, such as `seed=3`.

        Raises:
            UsageError: there is no such setting, or a value is not legal.
        """
        if not isinstance(changes, Mapping | None):
            raise UsageError(f"settings are given as {{dotted path: value}}, not {changes!r}")
        return replace(self, {**(changes or {}), **more})


def fields() -> list[tuple[str, dataclasses.Field]]:
    """Returns every setting of an Experiment as (dotted path, field), as they are defined."""
    return settings.fields(Experiment)


def replace(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """Returns the experiment with the values at dotted paths replaced, and checked again.

    Raises:
        UsageError: there is no such setting, or a value is not legal.
    """
    known = [path for path, _ in fields()]
    if unknown := [path for path in changes if path not in known]:
        raise UsageError(
            f"there is no setting {unknown[0]!r}{text.did_you_mean(unknown[0], known)}"
        )
    top: dict[str, Any] = {}
    for path, value in {**settings.shorter_warmup(experiment, changes), **changes}.items():
        section, _, name = path.rpartition(".")
        if section:
            top[section] = dataclasses.replace(
                top.get(section, getattr(experiment, section)), **{name: value}
            )
        else:
            top[name] = value
    return dataclasses.replace(experiment, **top)


def with_absolute_paths(experiment: Experiment) -> Experiment:
    """Returns the experiment with paths that also hold in another working directory.

    Raises:
        UsageError: a path can be none on this machine.
    """
    given = {path: get(experiment, path) for path in PATHS}
    return replace(experiment, {path: absolute(path, v) for path, v in given.items() if v})


def absolute(path: str, value: str) -> str:
    """Returns the value of one of PATHS so that it also holds in another working directory."""
    names_file = value not in ("imagenet", "none") and not value.startswith(places.HUB)
    return str(places.place(value, f"--{path}").absolute()) if names_file else value


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """Returns nested plain dicts, ready for JSON."""
    return dataclasses.asdict(experiment)


def from_dict(values: dict[str, Any]) -> Experiment:
    """Returns the experiment of `to_dict`.

    Raises:
        UsageError: a key is unknown or a value is not legal. A missing key takes the value that
            experiments had before there was the setting, as a rule its default.
    """
    return _build(Experiment, values, "")


def _build(cls: Any, values: Any, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise UsageError(f"{prefix.rstrip('.') or 'the configuration'} must hold named values")
    known = {field.name: field for field in dataclasses.fields(cls)}
    for name in values:
        if name not in known:
            raise UsageError(f"the configuration has an unknown setting {prefix}{name}")
    before = {n: f.metadata["before"] for n, f in known.items() if f.metadata.get("before")}
    return cls(
        **before
        | {
            name: _build(known[name].type, value, f"{prefix}{name}.")
            if dataclasses.is_dataclass(known[name].type)
            else value
            for name, value in values.items()
        }
    )


def setting_name(config: Experiment) -> str:
    """Returns a name that runs share where nothing but seed, fold and name differs."""
    ignored = {path for path, field in fields() if field.metadata["resumable"]} | {"name", "seed"}
    varied = {path: value for path, value in flatten(config).items() if path not in ignored}
    varied["dataset.fold"] = patterns.every_fold(config.dataset.fold)
    values = json.dumps(varied, sort_keys=True)
    return f"{config.name} {hashlib.sha256(values.encode()).hexdigest()[:6]}"


def to_json(experiment: Experiment) -> str:
    """Returns the experiment as indented JSON."""
    return json.dumps(to_dict(experiment), indent=2) + "\n"


def flatten(experiment: Experiment) -> dict[str, Any]:
    """Returns {dotted path: value} of every leaf field."""
    return {path: get(experiment, path) for path, _ in fields()}


def difference(old: Experiment, new: Experiment) -> dict[str, tuple[Any, Any]]:
    """Returns {dotted path: (old value, new value)} of the leaf fields that differ."""
    a, b = flatten(old), flatten(new)
    return {path: (a[path], b[path]) for path in a if a[path] != b[path]}
