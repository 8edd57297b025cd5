"""Which parameters are trained, from which epoch on, and at which share of the learning rate.

Gradients are taken with respect to the trainable parameters alone, and the optimizer sees no
others: a frozen parameter costs no backward pass and no memory, and nothing (weight decay, moving
average) moves it.
"""

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn

from cnn_jax import experiment, patterns
from cnn_jax.errors import UsageError
from cnn_jax.layers import BatchNorm
from cnn_jax.trees import flatten


class Group(NamedTuple):
    """Parameters that are trained alike.

    Attributes:
        first_epoch: the epoch, from 0, in which they are first trained.
        lr_scale: their share of the learning rate.
    """

    first_epoch: int
    lr_scale: float

    @property
    def label(self) -> str:
        """The group's name in the optimizer's state, with the epoch from 1."""
        return f"since_epoch_{self.first_epoch + 1}_lr_x{self.lr_scale:g}"


class Phase(NamedTuple):
    """Epochs with the same trainable parameters.

    Attributes:
        first_epoch: from 0.
        groups: {path: group} of the trainable parameters, and of no others.
        frozen_stages: the number of first stages of the backbone without a trainable parameter.
    """

    first_epoch: int
    groups: Mapping[str, Group]
    frozen_stages: int


def split(params: Any, phase: Phase) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (trainable, frozen), both flat."""
    flat = flatten(params)
    trainable = {path: flat.pop(path) for path in phase.groups}
    return trainable, flat


def make_phases(
    config: experiment.Transfer,
    paths: Sequence[str],
    stage_names: Sequence[str],
    prefixes: Sequence[str],
) -> tuple[Phase, ...]:
    """Returns the phases of a run; most runs have one.

    Args:
        config: the transfer settings.
        paths: the paths of all parameters.
        stage_names: the stages of the model's backbone.
        prefixes: what the paths of each stage's parameters begin with.

    Raises:
        UsageError: a pattern selects nothing, or nothing is left to train.
    """

    def select(pattern: str, flag: str) -> set[str]:
        selected = {path for path in paths if patterns.matches(pattern, path)}
        if not selected:
            groups = sorted({"/".join(path.split("/")[:2]) for path in paths})
            raise UsageError(
                f"--transfer.{flag}: {pattern!r} selects no parameter of the model; "
                f"there are {', '.join(groups)}"
            )
        return selected

    frozen = select(config.freeze, "freeze") if config.freeze != "none" else set()
    first = dict.fromkeys((path for path in paths if path not in frozen), 0)
    for epoch, pattern in patterns.parse_unfreeze(config.unfreeze):
        freed = select(pattern, "unfreeze") & frozen
        if not freed:
            raise UsageError(
                f"--transfer.unfreeze={config.unfreeze}: {pattern!r} is not frozen at epoch {epoch}"
            )
        frozen -= freed
        first |= dict.fromkeys(freed, epoch - 1)
    for path in [path for path in first if path.startswith("auxiliary_")]:
        # It serves the stages up to its own, and runs only where one of them is trained.
        stage = path.split("/")[0].removeprefix("auxiliary_")
        served = tuple(prefixes[: stage_names.index(stage) + 1])
        epochs = [epoch for other, epoch in first.items() if other.startswith(served)]
        if epochs:
            first[path] = max(first[path], min(epochs))
        else:
            del first[path]
    scales = [
        (select(pattern, "lr_scale"), factor)
        for pattern, factor in patterns.parse_lr_scale(config.lr_scale)
    ]

    def scale(path: str) -> float:
        return math.prod(factor for selected, factor in scales if path in selected)

    phases = []
    for epoch in sorted({0, *first.values()}):
        groups = {
            path: Group(first[path], scale(path))
            for path in paths
            if path in first and first[path] <= epoch
        }
        if not groups:
            raise UsageError(
                f"--transfer.freeze={config.freeze} leaves nothing to train in epoch {epoch + 1}"
            )
        phases.append(Phase(epoch, groups, _frozen_stages(groups, prefixes)))
    return tuple(phases)


def _frozen_stages(groups: Mapping[str, Group], prefixes: Sequence[str]) -> int:
    trained = [any(path.startswith(prefix) for path in groups) for prefix in prefixes]
    # Parameters of the backbone outside every stage may stand before the first one.
    outside = [p for p in groups if p.startswith("backbone/") and not p.startswith(tuple(prefixes))]
    if outside:
        return 0
    return trained.index(True) if True in trained else len(prefixes)


def phase_of(phases: Sequence[Phase], epoch: int) -> int:
    """Returns the index of the phase that an epoch, from 0, belongs to."""
    return max(i for i, phase in enumerate(phases) if phase.first_epoch <= epoch)


def untrained(params: Any, phases: Sequence[Phase]) -> frozenset[str]:
    """Returns the paths of the parameters that no phase trains."""
    return frozenset(flatten(params)).difference(*(phase.groups for phase in phases))


def is_frozen(name: str, trainable: Collection[str], paths: Collection[str]) -> bool:
    """Returns whether a module has no trainable parameter.

    A module without parameters of its own shares the fate of the module around it.
    """
    while True:
        inside = f"{name}/" if name else ""
        if not name or any(path.startswith(inside) for path in paths):
            return not any(path.startswith(inside) for path in trainable)
        name = name.rpartition("/")[0]


@contextlib.contextmanager
def frozen_batch_norm(phase: Phase, paths: Collection[str]) -> Iterator[None]:
    """Runs every frozen batch normalisation, ours or Linen's, as in evaluation.

    Otherwise the running statistics of a frozen network would move, and its function with them.

    Args:
        phase: which parameters are trainable.
        paths: the paths of all parameters.
    """

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__" or not isinstance(module, BatchNorm | nn.BatchNorm):
            return call(*args, **kwargs)
        if not is_frozen("/".join(module.path), phase.groups, paths):
            return call(*args, **kwargs)
        if isinstance(module, BatchNorm):
            return call(args[0], False)
        # Linen takes the choice from the module or from the call, and refuses it from both.
        chosen = module.use_running_average
        object.__setattr__(module, "use_running_average", None)
        try:
            return call(args[0], use_running_average=True, mask=kwargs.get("mask"))
        finally:
            object.__setattr__(module, "use_running_average", chosen)

    with nn.intercept_methods(intercept):
        yield
