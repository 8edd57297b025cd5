"""How much of a network's first running statistics a run leaves, which few steps leave too much of.

Batch normalisation trains with the statistics of the batch and evaluates with running ones, which
start at mean 0 and variance 1 and move towards the batch's by a tenth of the difference a step.
"""

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax import cpu
from cnn_jax.layers import BatchNorm
from cnn_jax.training import freezing
from cnn_jax.training.plan import Plan
from cnn_jax.trees import flatten

# A larger share of the first statistics is warned of.
_MOST_LEFT = 0.01


def remainder(plan: Plan) -> tuple[float, float, int] | None:
    """Returns what the plan leaves of the first statistics, in the layer that keeps most of them.

    Returns:
        The share that is left, the layer's momentum and its updates; None where nothing moves.
    """
    found: dict[str, float] = {}

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name == "__call__" and isinstance(module, BatchNorm | nn.BatchNorm):
            found["/".join(module.path)] = module.momentum
        return call(*args, **kwargs)

    assembly = plan.assembly
    if "batch_stats" not in assembly.shapes:
        return None
    images = jax.ShapeDtypeStruct((1, *assembly.image_shape), jnp.float32)
    with cpu.using("plain"), nn.intercept_methods(record):
        jax.eval_shape(assembly.model.apply, assembly.shapes, images)
    paths = list(flatten(assembly.shapes["params"]))
    firsts = [phase.first_epoch for phase in plan.phases]
    epochs = [end - first for first, end in itertools.pairwise([*firsts, plan.epochs])]
    left = []
    for path, momentum in found.items():
        steps = plan.steps_per_epoch * sum(
            count
            for phase, count in zip(plan.phases, epochs, strict=True)
            if not freezing.is_frozen(path, phase.groups, paths)
        )
        if steps:
            left.append((momentum**steps, momentum, steps))
    return max(left, default=None)


def warning(plan: Plan) -> str | None:
    """Returns a line where a plan has too few steps for batch normalisation, else None."""
    found = remainder(plan)
    if found is None or found[0] < _MOST_LEFT:
        return None
    share, momentum, steps = found
    return (
        f"batch normalisation: {steps} updates leave {share:.0%} of the statistics it starts with "
        f"(momentum {momentum:g}), and evaluation uses these, so accuracy in validation may be far "
        "below that in training; make more steps, by more train.epochs or a smaller "
        "dataset.batch_size"
    )
