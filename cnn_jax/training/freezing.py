"""Which parameters are trained, from which epoch on, and at which share of the learning rate.

Gradients are taken of the trainable parameters alone, and the optimizer sees no others: a frozen
parameter costs no backward pass and no memory, and nothing (weight decay, moving average) moves it.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
from flax import traverse_util

from cnn_jax import experiment, patterns
from cnn_jax.errors import UsageError
from cnn_jax.layers import BatchNorm


class Group(NamedTuple):
    """Parameters that are trained alike.

    Attributes:
        since: the epoch, from 0, in which they are first trained.
        lr_scale: their share of the learning rate.
    """

    since: int
    lr_scale: float

    @property
    def label(self) -> str:
        """The group's name in the optimizer's state."""
        return f"since_epoch_{self.since + 1}_lr_x{self.lr_scale:g}"


class Phase(NamedTuple):
    """Epochs with the same trainable parameters.

    Attributes:
        first_epoch: from 0.
        groups: {path: group} of the trainable parameters, and of no others.
        frozen_stages: so many of the backbone's first stages have no trainable parameter.
    """

    first_epoch: int
    groups: Mapping[str, Group]
    frozen_stages: int


def flatten(params: Any) -> dict[str, Any]:
    """Returns {"backbone/block1/conv1/kernel": leaf, ...} of nested parameters."""
    return dict(traverse_util.flatten_dict(params, sep="/"))


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested parameters of flat ones."""
    return traverse_util.unflatten_dict(dict(flat), sep="/")


def split(params: Any, phase: Phase) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (trainable, frozen), both flat."""
    flat = flatten(params)
    trainable = {path: flat.pop(path) for path in phase.groups}
    return trainable, flat


def plan(
    config: experiment.Transfer, paths: Sequence[str], stage_names: Sequence[str]
) -> list[Phase]:
    """Returns the phases of a run; most runs have one.

    Args:
        config: the transfer settings.
        paths: of all parameters.
        stage_names: of the model's backbone.

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
    since = dict.fromkeys((path for path in paths if path not in frozen), 0)
    for epoch, pattern in patterns.parse_unfreeze(config.unfreeze):
        freed = select(pattern, "unfreeze") & frozen
        if not freed:
            raise UsageError(
                f"--transfer.unfreeze={config.unfreeze}: {pattern!r} is not frozen at epoch {epoch}"
            )
        frozen -= freed
        since |= dict.fromkeys(freed, epoch - 1)
    for path in [path for path in since if path.startswith("auxiliary_")]:
        # It serves the stages up to its own, and runs only where one of them is trained.
        stage = path.split("/")[0].removeprefix("auxiliary_")
        served = tuple(f"backbone/{n}/" for n in stage_names[: stage_names.index(stage) + 1])
        epochs = [epoch for other, epoch in since.items() if other.startswith(served)]
        if epochs:
            since[path] = max(since[path], min(epochs))
        else:
            del since[path]
    scales = [
        (select(pattern, "lr_scale"), factor)
        for pattern, factor in patterns.parse_lr_scale(config.lr_scale)
    ]

    def scale(path: str) -> float:
        return math.prod(factor for selected, factor in scales if path in selected)

    phases = []
    for first in sorted({0, *since.values()}):
        groups = {
            path: Group(since[path], scale(path))
            for path in paths
            if path in since and since[path] <= first
        }
        if not groups:
            raise UsageError(
                f"--transfer.freeze={config.freeze} leaves nothing to train in epoch {first + 1}"
            )
        phases.append(Phase(first, groups, _frozen_stages(groups, stage_names)))
    return phases


def _frozen_stages(groups: Mapping[str, Group], stage_names: Sequence[str]) -> int:
    count = 0
    for name in stage_names:
        inside = f"backbone/{name}/" if name else "backbone/"
        if any(path.startswith(inside) for path in groups):
            break
        count += 1
    # Parameters outside every stage may stand before the first one.
    covered = tuple(f"backbone/{name}/" if name else "backbone/" for name in stage_names)
    if any(path.startswith("backbone/") and not path.startswith(covered) for path in groups):
        return 0
    return count


def phase_of(phases: Sequence[Phase], epoch: int) -> int:
    """Returns the index of the phase that an epoch, from 0, belongs to."""
    return max(i for i, phase in enumerate(phases) if phase.first_epoch <= epoch)


@contextlib.contextmanager
def frozen_batch_norm(phase: Phase) -> Iterator[None]:
    """Runs every BatchNorm without a trainable parameter as in evaluation.

    Otherwise the running statistics of a frozen network would move, and its function with them.
    """

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if isinstance(module, BatchNorm) and context.method_name == "__call__":
            inside = "/".join(module.path) + "/"
            if not any(path.startswith(inside) for path in phase.groups):
                x, _ = args
                args = (x, False)
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        yield
