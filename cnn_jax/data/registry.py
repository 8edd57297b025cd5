"""Data sets that a user registers under a name, for `--dataset.name`."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from cnn_jax import experiment, files
from cnn_jax.data import array_values, arrays
from cnn_jax.data.sources import BUILT_IN, Source
from cnn_jax.data.splits import Data
from cnn_jax.errors import UsageError

_TAKEN = (*BUILT_IN, "arrays", "folder", "table", "npz")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered data set.

    Attributes:
        load: returns the data; see `register_dataset`.
        defined_in: the file that `load` is defined in, or "".
    """

    load: Callable[..., Any]
    defined_in: str


REGISTRY: dict[str, Entry] = {}


def register_dataset(name: str, load: Callable[..., Any] | None = None) -> Any:
    """Registers a data set under a name for `--dataset.name`; without `load`, a decorator.

    Args:
        name: the name, not that of another data set.
        load: a function without arguments, or of the experiment's section "dataset". It returns
            what `from_arrays` returns; or (images, labels), of which validation and test examples
            are held out as the section says; or two or three such pairs: train, validation and, if
            there is one, test.

    Returns:
        `load`.

    Raises:
        UsageError: another data set has this name.
    """
    if load is None:
        return lambda load: register_dataset(name, load)
    known, taken = REGISTRY.get(name), name in _TAKEN
    found = taken or (known.load if known else None)
    files.check_free("data set", name, load, found, known.defined_in if known else None)
    REGISTRY[name] = Entry(load, files.source_of(load)[0])
    return load


def source(config: experiment.Dataset) -> Source:
    """Calls the registered function of `config.name`.

    Raises:
        UsageError: it returns something else than `register_dataset` says.
    """
    load = REGISTRY[config.name].load
    found = load(config) if _takes_section(load) else load()
    where = f"the data set {config.name!r}: "
    if isinstance(found, Data):
        others = {name: split for name, split in found.splits.items() if name != "train"}
        names, parts = arrays.check(found.train, others, found.info.class_names, where)
        return Source(config.name, found.info.version, names, dict(parts), found.info.notes)
    pairs = [found] if _is_pair(found) else found
    if (
        not isinstance(pairs, Sequence)
        or not all(map(_is_pair, pairs))
        or len(pairs) not in (1, 2, 3)
    ):
        raise UsageError(
            f"{where}its function returns {type(found).__name__}; it must return (images, labels), "
            "two or three such pairs (train, validation, test), or what from_arrays returns"
        )
    train, *others = pairs
    given = {name: pair for name, pair in zip(("validation", "test"), others, strict=False)}
    names, parts = arrays.check(train, given, None, where)
    notes = tuple(array_values.doubts(parts["train"].images))
    return Source(config.name, "", names, dict(parts), notes)


def _takes_section(load: Callable[..., Any]) -> bool:
    """Returns whether a function has a positional argument without a default."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(load).parameters.values()
    return any(p.kind in kinds and p.default is p.empty for p in parameters)


def _is_pair(value: Any) -> bool:
    """Returns whether a value is (images, labels), and not two such pairs."""
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and not any(isinstance(part, tuple) and len(part) == 2 for part in value)
    )
