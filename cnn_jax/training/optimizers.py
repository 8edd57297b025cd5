"""Learning-rate schedules and optimizers, with their numbers as arrays.

Learning rate and weight decay may be traced arrays: one compilation serves every value of them.
"""

import jax
import jax.numpy as jnp
import optax

from cnn_jax import experiment


def schedule_factor(
    step: jax.Array, *, schedule: str, warmup_steps: int, total_steps: int
) -> jax.Array:
    """Returns the learning rate at a step, as a share of its peak, float32 [].

    Args:
        step: int32 [], the number of updates made before.
        schedule: constant, cosine or triangular (both end at 0, the latter along a line).
        warmup_steps: updates over which the rate rises along a line to its peak.
        total_steps: updates of the whole run.
    """
    if schedule == "constant":
        return jnp.ones((), jnp.float32)
    step = step.astype(jnp.float32)
    rise = (step + 1) / max(warmup_steps, 1)
    progress = jnp.clip((step - warmup_steps) / max(total_steps - warmup_steps, 1), 0, 1)
    fall = (1 + jnp.cos(jnp.pi * progress)) / 2 if schedule == "cosine" else 1 - progress
    return jnp.where(step < warmup_steps, rise, fall)


def _is_kernel(params: optax.Params) -> optax.Params:
    """Weight decay is for kernels; biases and normalisation scales have one axis."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def make_optimizer(
    config: experiment.Optimizer,
    learning_rate: float | jax.Array,
    weight_decay: float | jax.Array,
) -> optax.GradientTransformation:
    """Returns the optimizer for one update at this learning rate.

    Its state does not depend on the two numbers, so it may be made anew, with traced ones, in
    every step.
    """
    parts = []
    if config.clip_norm is not None:
        parts.append(optax.clip_by_global_norm(config.clip_norm))
    decay = optax.add_decayed_weights(weight_decay, mask=_is_kernel)
    if config.name == "sgd":
        parts += [decay, optax.trace(decay=config.momentum, nesterov=config.momentum > 0)]
    else:
        parts.append(optax.scale_by_adam())
        if config.name == "adamw":
            parts.append(decay)
    return optax.chain(*parts, optax.scale_by_learning_rate(learning_rate))
