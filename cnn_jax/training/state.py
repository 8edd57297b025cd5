"""What a training run carries from step to step."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from cnn_jax.evaluation.metrics import Sums
from cnn_jax.training import freezing, optimizers
from cnn_jax.training.freezing import Phase

Tree = Any


class TrainState(flax.struct.PyTreeNode):
    """Everything that a checkpoint holds, so that a resumed run goes on to the same bits.

    Attributes:
        step: int32 [], updates made.
        key: the run's random key; a step's key is folded from it and the step's number.
        params: float32 parameters.
        batch_stats: running statistics of batch normalisation, {} where there is none.
        opt_state: the optimizer's.
        ema_params: moving average of the trainable parameters, flat by path, or None.
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
        params = self.params
        if self.ema_params is not None:
            params = freezing.unflatten({**freezing.flatten(params), **self.ema_params})
        return {"params": params, "batch_stats": self.batch_stats}


def create(
    variables: Mapping[str, Tree],
    key: jax.Array,
    optimizer: optax.GradientTransformation,
    phase: Phase,
    use_ema: bool,
) -> TrainState:
    """Returns the state before the first step; a pure function of its arguments.

    Args:
        variables: params and, where the model has them, batch_stats.
        key: the run's random key.
        optimizer: of the trainable parameters, whose state to make.
        phase: which parameters are trainable.
        use_ema: whether to keep a moving average of the trainable parameters.
    """
    trainable, _ = freezing.split(variables["params"], phase)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(trainable),
        ema_params=jax.tree.map(jnp.copy, trainable) if use_ema else None,
        interval=Sums.zero(),
        epoch=Sums.zero(),
        gradient_norm=jnp.zeros((), jnp.float32),
        nonfinite_step=jnp.full((), -1, jnp.int32),
    )


def enter_phase(
    state: TrainState, optimizer: optax.GradientTransformation, phase: Phase
) -> TrainState:
    """Returns the state with the parameters of a new phase trainable.

    What was trained before keeps its optimizer state; what is set free starts afresh.
    """
    trainable, _ = freezing.split(state.params, phase)
    ema = None if state.ema_params is None else {**trainable, **state.ema_params}
    opt_state = optimizers.carry_over(state.opt_state, optimizer.init(trainable))
    return state.replace(opt_state=opt_state, ema_params=ema)
