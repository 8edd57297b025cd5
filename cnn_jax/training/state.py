"""What a training run carries from step to step."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from cnn_jax.evaluation.metrics import Sums

Tree = Any


class TrainState(flax.struct.PyTreeNode):
    """Everything that a checkpoint holds, so that a resumed run goes on to the same bits.

    Attributes:
        step: int32 [], updates made.
        key: the run's random key; a step's key is folded from it and the step's number.
        params: float32 parameters.
        batch_stats: running statistics of batch normalisation, {} where there is none.
        opt_state: the optimizer's.
        ema_params: moving average of the parameters, or None.
        interval: sums since the last point of the training curves.
        epoch: sums since the epoch's start.
        gradient_norm: float32 [], global norm of the last gradient.
        nonfinite_step: int32 [], the first step whose loss or gradient was not finite, or -1.
    """

    step: jax.Array
    key: jax.Array
    params: Tree
    batch_stats: Tree
    opt_state: optax.OptState
    ema_params: Tree | None
    interval: Sums
    epoch: Sums
    gradient_norm: jax.Array
    nonfinite_step: jax.Array

    def variables(self) -> dict[str, Tree]:
        """Returns the variables to evaluate with: the moving average where there is one."""
        params = self.params if self.ema_params is None else self.ema_params
        return {"params": params, "batch_stats": self.batch_stats}


def create(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
    seed: int,
    use_ema: bool,
) -> TrainState:
    """Returns the state before the first step; a pure function of its arguments.

    Args:
        model: maps float images to logits.
        optimizer: whose state to make.
        image_shape: (height, width, channels).
        seed: of the parameters and of the run's random key.
        use_ema: whether to keep a moving average of the parameters.
    """
    init_key, run_key = jax.random.split(jax.random.key(seed))
    variables = model.init(init_key, jnp.zeros((1, *image_shape)))
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=run_key,
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        ema_params=jax.tree.map(jnp.copy, params) if use_ema else None,
        interval=Sums.zero(),
        epoch=Sums.zero(),
        gradient_norm=jnp.zeros((), jnp.float32),
        nonfinite_step=jnp.full((), -1, jnp.int32),
    )
