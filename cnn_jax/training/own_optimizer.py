"""A user's own optimizer: any transformation of optax that a train step can serve.

Besides gradients and parameters a step gives what optax's own optimizers ask for by keyword:
`value`, the loss of the batch; `grad`, its gradient; and `value_fn`, the loss of the batch as a
function of the trained parameters, for optimizers that search along a line, such as `optax.lbfgs`.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from absl import logging

from cnn_jax import experiment, text
from cnn_jax.errors import UsageError
from cnn_jax.training import freezing, optimizers
from cnn_jax.training.freezing import Group, Phase

_MISSING = re.compile(r"missing \d+ required (?:keyword-only|positional) arguments?: (.*)")


def by_group(
    optimizer: optax.GradientTransformation,
    clip_norm: float | None,
    groups: Mapping[str, Group],
) -> optax.GradientTransformationExtraArgs:
    """Returns a user's own optimizer with a state for each group, and its share of the updates."""

    def of_group(group: Group) -> optax.GradientTransformation:
        return optax.chain(_tolerant(optimizer), optax.scale(group.lr_scale))

    return optimizers.grouped(of_group, clip_norm, groups)


def _tolerant(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns the optimizer, made to overlook the arguments by keyword that it does not have."""
    if not isinstance(optimizer, optax.GradientTransformationExtraArgs):
        return optimizer  # optax itself gives it none
    known = inspect.signature(optimizer.update).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in known):
        return optimizer
    names = {each.name for each in known}

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        some = {name: value for name, value in extra.items() if name in names}
        return optimizer.update(updates, state, params, **some)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def check(
    optimizer: optax.GradientTransformation,
    phases: Sequence[Phase],
    params: Any,
    settings: experiment.Optimizer,
) -> None:
    """Refuses an optimizer that no step could be made with, before anything is trained.

    Args:
        optimizer: the user's own.
        phases: the phases of the run.
        params: the shapes of the model's parameters.
        settings: those that stay in force beside an optimizer of one's own.

    Raises:
        UsageError: it needs an argument that a step does not give, it fails, its updates are not
            like the parameters, or it searches along a line while parameters are in several groups.
    """
    state: Any = None
    for phase in phases:
        trainable, _ = freezing.split(params, phase)
        searched: list[bool] = []

        def value_fn(params: Any, searched: list[bool] = searched) -> jax.Array:
            searched.append(True)
            return sum((jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(params)), jnp.zeros(()))

        def update(
            params: Any, groups: Mapping[str, Group] = phase.groups, value_fn: Any = value_fn
        ) -> Any:
            whole = by_group(optimizer, settings.clip_norm, groups)
            extra = {"value": jnp.zeros(()), "grad": params, "value_fn": value_fn}
            updates, state = whole.update(params, whole.init(params), params, **extra)
            return updates, state

        problem = None
        try:
            updates, state = jax.eval_shape(update, trainable)
        except Exception as error:  # whatever somebody's own code raises
            updates, problem = None, error
        if searched and len(set(phase.groups.values())) > 1:
            raise UsageError(
                "the optimizer searches along a line, which it does for all trained parameters "
                "together; leave out --transfer.unfreeze and --transfer.lr_scale, or give another"
            )
        if problem is not None:
            raise UsageError(_say(problem)) from problem
        shapes = [leaf.shape for leaf in jax.tree.leaves(trainable)]
        if [getattr(leaf, "shape", None) for leaf in jax.tree.leaves(updates)] != shapes:
            raise UsageError("the optimizer returns updates of other shapes than the parameters")
    if "ScheduleFreeState" in str(jax.tree.structure(state)):
        logging.warning(
            "optax.contrib.schedule_free is for evaluating other parameters than those that it "
            "trains; here the trained ones are evaluated and saved"
        )


def _say(error: Exception) -> str:
    """Returns the line on an optimizer that failed."""
    if isinstance(error, TypeError) and (found := _MISSING.search(str(error))):
        return (
            f"the optimizer asks for {found[1]}, which a train step does not give; it gives value, "
            "grad and value_fn. Choose another optimizer, or write a loop of your own"
        )
    reason = f"{type(error).__name__}: {text.one_line(str(error))[:300]}"
    return f"the optimizer fails in a train step, which gives it value, grad and value_fn: {reason}"
