"""The train step: a pure function, ready for `jax.jit`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cnn_jax import experiment, models
from cnn_jax.build import Assembly
from cnn_jax.data import augment
from cnn_jax.data.batches import Batch
from cnn_jax.evaluation import metrics
from cnn_jax.training import freezing, optimizers
from cnn_jax.training.state import TrainState


class Hyperparameters(NamedTuple):
    """The numbers of a step that are arrays, so that one compilation serves all their values.

    Attributes:
        learning_rate: float32 [], the peak of the schedule.
        weight_decay: float32 [].
        label_smoothing: float32 [].
        dropout_rate: float32 [], or None for the model as it was assembled.
    """

    learning_rate: jax.Array
    weight_decay: jax.Array
    label_smoothing: jax.Array
    dropout_rate: jax.Array | None = None

    @classmethod
    def of(cls, config: experiment.Experiment) -> "Hyperparameters":
        """Returns the experiment's."""
        rate = config.model.dropout_rate or None  # 0 is no dropout, and no random numbers
        return cls(
            jnp.float32(config.optimizer.learning_rate),
            jnp.float32(config.optimizer.weight_decay),
            jnp.float32(config.train.label_smoothing),
            None if rate is None else jnp.float32(rate),
        )


def make_train_step(
    assembly: Assembly,
    config: experiment.Experiment,
    steps_per_epoch: int,
    phase: int = 0,
    start: int = 0,
) -> Callable[[TrainState, Batch, Hyperparameters], TrainState]:
    """Returns the train step: (state, batch, hyperparameters) -> state after one update.

    Args:
        assembly: model, preprocessing and phases.
        config: the experiment.
        steps_per_epoch: for the schedule, which spans the whole run.
        phase: the index of the phase whose parameters are trained.
        start: the backbone's stage that the batch's images are the input of; above 0 they are
            cached features, float [batch, ...], and preprocessing was done before.
    """
    total_steps = config.train.epochs * steps_per_epoch
    warmup_steps = round(config.optimizer.warmup_epochs * steps_per_epoch)
    this = assembly.phases[phase]

    def train_step(state: TrainState, batch: Batch, hyper: Hyperparameters) -> TrainState:
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        mirrored = None
        if config.dataset.alternate_flip:
            epoch = state.step // steps_per_epoch
            mirrored = augment.alternate(state.key, batch.positions, epoch)
        inputs = batch.images
        if not start:
            inputs = assembly.preprocess(batch.images, augment_key, mirrored)
        trainable, frozen = freezing.split(state.params, this)
        model = assembly.model
        if hyper.dropout_rate is not None:
            model = assembly.with_dropout(hyper.dropout_rate)

        def mean_loss(trainable: dict[str, jax.Array]):
            params = freezing.unflatten({**frozen, **trainable})
            with freezing.frozen_batch_norm(this):
                logits, updated = model.apply(
                    {"params": params, "batch_stats": state.batch_stats},
                    inputs,
                    train=True,
                    start=start,
                    frozen=this.frozen_stages,
                    mutable=["batch_stats", "auxiliary"],
                    rngs={"dropout": dropout_key},
                )
            values = metrics.losses(logits, batch.labels, config.train.loss, hyper.label_smoothing)
            total = values
            for auxiliary in jax.tree.leaves(updated.get("auxiliary", {})):
                total += models.AUXILIARY_WEIGHT * metrics.losses(
                    auxiliary, batch.labels, config.train.loss, hyper.label_smoothing
                )
            mean = jnp.sum(total * batch.weights) / jnp.maximum(jnp.sum(batch.weights), 1)
            return mean, (metrics.batch_sums(values, logits, batch), updated.get("batch_stats", {}))

        (loss, (sums, batch_stats)), gradients = jax.value_and_grad(mean_loss, has_aux=True)(
            trainable
        )
        gradient_norm = jnp.asarray(optax.tree.norm(gradients))
        learning_rate = hyper.learning_rate * optimizers.schedule_factor(
            state.step,
            schedule=config.optimizer.schedule,
            warmup_steps=warmup_steps,
            total_steps=total_steps,
            milestones=config.optimizer.milestone_shares,
        )
        optimizer = optimizers.make_optimizer(
            config.optimizer, this.groups, learning_rate, hyper.weight_decay
        )
        updates, opt_state = optimizer.update(gradients, state.opt_state, trainable)
        trained: Any = optax.apply_updates(trainable, updates)
        finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
        return state.replace(
            step=state.step + 1,
            params=freezing.unflatten({**frozen, **trained}),
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema_params=_moving_average(state, trained, config.optimizer.ema_decay),
            interval=state.interval.add(sums),
            epoch=state.epoch.add(sums),
            gradient_norm=gradient_norm,
            nonfinite_step=jnp.where(
                finite | (state.nonfinite_step >= 0), state.nonfinite_step, state.step
            ),
        )

    return train_step


def _moving_average(state: TrainState, trained: Any, decay: float | None) -> Any:
    """Averages with a decay that starts low, so that the first parameters are soon forgotten."""
    if decay is None or state.ema_params is None:
        return None
    step = state.step.astype(jnp.float32)
    decay_now = jnp.minimum(decay, (1 + step) / (10 + step))
    return optax.incremental_update(trained, state.ema_params, 1 - decay_now)
