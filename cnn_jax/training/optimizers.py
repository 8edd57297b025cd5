"""Learning-rate schedules and optimizers, with their numbers as arrays.

Learning rate and weight decay may be traced arrays: one compilation serves every value of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cnn_jax import experiment
from cnn_jax.training import muon
from cnn_jax.training.freezing import Group


def schedule_factor(
    step: jax.Array,
    *,
    schedule: str,
    warmup_steps: int,
    total_steps: int,
    milestones: Sequence[float] = (),
) -> jax.Array:
    """Returns the learning rate at a step, as a share of its peak, float32 [].

    Args:
        step: int32 [], the number of updates made before.
        schedule: constant, cosine or triangular (both end at 0, the latter along a line), or step.
        warmup_steps: updates over which the rate rises along a line to its peak.
        total_steps: updates of the whole run.
        milestones: shares of the whole run; from each of them on, "step" has a tenth of the rate.
    """
    if schedule == "constant":
        return jnp.ones((), jnp.float32)
    step = step.astype(jnp.float32)
    rise = (step + 1) / max(warmup_steps, 1)
    progress = jnp.clip((step - warmup_steps) / max(total_steps - warmup_steps, 1), 0, 1)
    if schedule == "step":
        passed = [step >= round(share * total_steps) for share in milestones]
        fall = jnp.prod(jnp.where(jnp.asarray(passed, bool), 0.1, 1.0))
    else:
        fall = (1 + jnp.cos(jnp.pi * progress)) / 2 if schedule == "cosine" else 1 - progress
    return jnp.where(step < warmup_steps, rise, fall)


def _is_kernel(params: optax.Params) -> optax.Params:
    """Marks what weight decay is for: kernels; biases and normalisation scales have one axis."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _is_filter_bank(params: optax.Params) -> optax.Params:
    return jax.tree.map(lambda leaf: leaf.ndim == 4, params)


def make_optimizer(
    config: experiment.Optimizer,
    groups: Mapping[str, Group],
    learning_rate: float | jax.Array = 0.0,
    weight_decay: float | jax.Array = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Returns the optimizer of the trainable parameters for one update.

    Its state does not depend on the two numbers, so each step may make it again with traced ones.
    Every group has a state of its own, Adam's count of steps included, so that a group which is set
    free later starts as if training began.

    Args:
        config: the optimizer's settings.
        groups: {path: group} of the trainable parameters, which stand in flat dicts by path.
        learning_rate: the learning rate of this update.
        weight_decay: the weight decay of this update.
    """

    def of_group(group: Group) -> optax.GradientTransformation:
        decay = optax.add_decayed_weights(weight_decay, mask=_is_kernel)
        momentum = optax.trace(decay=config.momentum, nesterov=config.momentum > 0)
        rate = optax.scale_by_learning_rate(group.lr_scale * learning_rate)
        if config.name == "muon":
            filters = optax.chain(muon.scale_by_muon(), rate, muon.keep_norm())
            # Biases decay as well, and nothing decays faster for its group's higher rate.
            even = optax.add_decayed_weights(weight_decay / group.lr_scale)
            others = optax.chain(even, momentum, rate)
            return optax.partition({True: filters, False: others}, _is_filter_bank)
        if config.name == "sgd":
            return optax.chain(decay, momentum, rate)
        adam = [optax.scale_by_adam()] + ([decay] if config.name == "adamw" else [])
        return optax.chain(*adam, rate)

    return grouped(of_group, config.clip_norm, groups)


def grouped(
    of_group: Callable[[Group], optax.GradientTransformation],
    clip_norm: float | None,
    groups: Mapping[str, Group],
) -> optax.GradientTransformationExtraArgs:
    """Returns one transformation that has a state for each group of parameters."""
    labels = {path: group.label for path, group in groups.items()}
    chains: dict[Any, Any] = {group.label: of_group(group) for group in set(groups.values())}
    whole = optax.partition(chains, labels, mask_compatible_extra_args=True)
    if clip_norm is None:
        return whole
    return optax.chain(optax.clip_by_global_norm(clip_norm), whole)


def carry_over(old: optax.OptState, new: optax.OptState) -> optax.OptState:
    """Returns a new phase's optimizer state, with the values that the old one has of it."""
    before = dict(jax.tree_util.tree_leaves_with_path(old))
    return jax.tree_util.tree_map_with_path(lambda path, leaf: before.get(path, leaf), new)
