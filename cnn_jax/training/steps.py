"""The train step and the eval step: pure functions, ready for `jax.jit`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from cnn_jax import experiment
from cnn_jax.training import optimizers
from cnn_jax.training.state import Sums, TrainState


class Batch(NamedTuple):
    """Examples of one step.

    Attributes:
        images: uint8 [batch, height, width, channels].
        labels: int32 [batch].
        weights: float32 [batch], 1 or 0; an example of weight 0 does not count.
    """

    images: jax.Array
    labels: jax.Array
    weights: jax.Array


class Hyperparameters(NamedTuple):
    """The numbers of a step that are arrays, so that one compilation serves all their values.

    Attributes:
        learning_rate: float32 [], the peak of the schedule.
        weight_decay: float32 [].
        label_smoothing: float32 [].
    """

    learning_rate: jax.Array
    weight_decay: jax.Array
    label_smoothing: jax.Array

    @classmethod
    def of(cls, config: experiment.Experiment) -> "Hyperparameters":
        """Returns the experiment's."""
        values = (
            config.optimizer.learning_rate,
            config.optimizer.weight_decay,
            config.train.label_smoothing,
        )
        return cls(*(jnp.asarray(value, jnp.float32) for value in values))


class EvalSums(NamedTuple):
    """What an evaluation adds up.

    Attributes:
        sums: loss, correct and examples.
        confusion: int32 [classes, classes], rows are true classes.
    """

    sums: Sums
    confusion: jax.Array


# (images uint8, key or None when not training) -> float images as the model takes them.
Preprocess = Callable[[jax.Array, jax.Array | None], jax.Array]


def losses(
    logits: jax.Array, labels: jax.Array, loss: str, label_smoothing: jax.typing.ArrayLike
) -> jax.Array:
    """Returns the loss of every example, float32 [batch].

    Args:
        logits: float32 [batch, classes], or [batch, 1] for binary_cross_entropy.
        labels: int32 [batch].
        loss: cross_entropy or binary_cross_entropy.
        label_smoothing: share of the target spread evenly over all classes.
    """
    if loss == "binary_cross_entropy":
        return optax.sigmoid_binary_cross_entropy(logits[:, 0], labels.astype(logits.dtype))
    log_p = jax.nn.log_softmax(logits)
    of_label = jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    return -(1 - label_smoothing) * of_label - label_smoothing * jnp.mean(log_p, axis=1)


def probabilities(logits: jax.Array) -> jax.Array:
    """Returns class probabilities [batch, classes]; one logit is that of the second class."""
    if logits.shape[-1] == 1:
        p = jax.nn.sigmoid(logits)
        return jnp.concatenate([1 - p, p], axis=-1)
    return jax.nn.softmax(logits)


def _sums(values: jax.Array, logits: jax.Array, batch: Batch) -> Sums:
    predicted = jnp.argmax(probabilities(logits), axis=-1)
    return Sums(
        loss=jnp.sum(values * batch.weights),
        correct=jnp.sum((predicted == batch.labels) * batch.weights),
        examples=jnp.sum(batch.weights),
    )


def make_train_step(
    model: nn.Module, config: experiment.Experiment, preprocess: Preprocess, steps_per_epoch: int
) -> Callable[[TrainState, Batch, Hyperparameters], TrainState]:
    """Returns the train step: (state, batch, hyperparameters) -> state after one update."""
    total_steps = config.train.epochs * steps_per_epoch
    warmup_steps = round(config.optimizer.warmup_epochs * steps_per_epoch)

    def train_step(state: TrainState, batch: Batch, hyper: Hyperparameters) -> TrainState:
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        images = preprocess(batch.images, augment_key)

        def mean_loss(params: Any):
            logits, updated = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key},
            )
            values = losses(logits, batch.labels, config.train.loss, hyper.label_smoothing)
            mean = jnp.sum(values * batch.weights) / jnp.maximum(jnp.sum(batch.weights), 1)
            return mean, (_sums(values, logits, batch), updated.get("batch_stats", {}))

        (loss, (sums, batch_stats)), gradients = jax.value_and_grad(mean_loss, has_aux=True)(
            state.params
        )
        gradient_norm = optax.tree.norm(gradients)
        learning_rate = hyper.learning_rate * optimizers.schedule_factor(
            state.step,
            schedule=config.optimizer.schedule,
            warmup_steps=warmup_steps,
            total_steps=total_steps,
        )
        optimizer = optimizers.make_optimizer(config.optimizer, learning_rate, hyper.weight_decay)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
        return state.replace(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema_params=_moving_average(state, params, config.optimizer.ema_decay),
            interval=state.interval.add(sums),
            epoch=state.epoch.add(sums),
            gradient_norm=gradient_norm,
            nonfinite_step=jnp.where(
                finite | (state.nonfinite_step >= 0), state.nonfinite_step, state.step
            ),
        )

    return train_step


def _moving_average(state: TrainState, params: Any, decay: float | None) -> Any:
    """Averages with a decay that starts low, so that the first parameters are soon forgotten."""
    if decay is None:
        return None
    step = state.step.astype(jnp.float32)
    decay_now = jnp.minimum(decay, (1 + step) / (10 + step))
    return optax.incremental_update(params, state.ema_params, 1 - decay_now)


def make_eval_step(
    model: nn.Module, config: experiment.Experiment, preprocess: Preprocess, num_classes: int
) -> Callable[[Any, Batch], tuple[EvalSums, jax.Array]]:
    """Returns the eval step: (variables, batch) -> (sums, probabilities [batch, classes])."""

    def eval_step(variables: Any, batch: Batch) -> tuple[EvalSums, jax.Array]:
        logits = model.apply(variables, preprocess(batch.images, None), train=False)
        values = losses(logits, batch.labels, config.train.loss, 0.0)
        p = probabilities(logits)
        predicted = jnp.argmax(p, axis=-1)
        confusion = jnp.zeros((num_classes, num_classes), jnp.int32)
        confusion = confusion.at[batch.labels, predicted].add(batch.weights.astype(jnp.int32))
        return EvalSums(_sums(values, logits, batch), confusion), p

    return eval_step
