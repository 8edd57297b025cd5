"""The train step: a pure function, ready for `jax.jit`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cnn_jax import experiment, losses, models
from cnn_jax.data import augment
from cnn_jax.data.batches import Batch, Picked, fetch
from cnn_jax.evaluation import metrics
from cnn_jax.training import balance, freezing
from cnn_jax.training.plan import Plan
from cnn_jax.training.state import TrainState
from cnn_jax.trees import unflatten


class Hyperparameters(NamedTuple):
    """The numbers of a step that are arrays, so that one compilation serves all their values.

    Attributes:
        learning_rate: float32 [], the peak of the schedule.
        weight_decay: float32 [].
        label_smoothing: float32 [].
        dropout_rate: float32 [], or None for the model as it was assembled.
        class_weights: of the loss, as `balance.class_weights` returns them; None: all count alike.
    """

    learning_rate: jax.Array
    weight_decay: jax.Array
    label_smoothing: jax.Array
    dropout_rate: jax.Array | None = None
    class_weights: jax.Array | None = None

    @classmethod
    def of(cls, config: experiment.Experiment) -> "Hyperparameters":
        """Returns the numbers of an experiment."""
        rate = config.model.dropout_rate or None  # 0 is no dropout, and no random numbers
        return cls(
            jnp.float32(config.optimizer.learning_rate),
            jnp.float32(config.optimizer.weight_decay),
            jnp.float32(config.train.label_smoothing),
            None if rate is None else jnp.float32(rate),
        )


TrainStep = Callable[[TrainState, Batch | Picked, Hyperparameters], TrainState]


def make_train_step(plan: Plan, phase: int = 0) -> TrainStep:
    """Returns the train step: (state, batch, hyperparameters) -> the state after one update.

    With `plan.cached_stages` the batch's images are cached features, float [batch, ...], the input
    of the first stage that is not cached.

    Args:
        plan: the plan of the run.
        phase: the index of the phase whose parameters are trained.
    """
    assembly, now, start = plan.assembly, plan.phases[phase], plan.cached_stages

    def train_step(state: TrainState, picked: Batch | Picked, hyper: Hyperparameters) -> TrainState:
        batch = fetch(picked)
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        mirrored = None
        if plan.alternate_flip:
            epoch = state.step // plan.steps_per_epoch
            mirrored = augment.alternate(state.key, batch.positions, epoch)
        inputs = batch.images
        if not start:
            inputs = assembly.preprocess(batch.images, augment_key, mirrored)
            if assembly.mix is not None:
                inputs, labels = assembly.mix(inputs, batch.labels, augment_key)
                batch = batch._replace(labels=labels)
        trainable, frozen = freezing.split(state.params, now)
        paths = [*trainable, *frozen]
        model = assembly.model
        if hyper.dropout_rate is not None:
            model = assembly.with_dropout(hyper.dropout_rate)

        def loss_of(logits: jax.Array, labels: jax.Array) -> jax.Array:
            return losses.compute(assembly.loss, logits, labels, hyper.label_smoothing)

        def weighted(logits: jax.Array) -> jax.Array:
            if hyper.class_weights is None:
                return loss_of(logits, batch.labels)
            return balance.weighted(hyper.class_weights, loss_of, logits, batch.labels)

        def mean_loss(trainable: dict[str, jax.Array]):
            params = unflatten({**frozen, **trainable})
            variables = {"params": params, "batch_stats": state.batch_stats, **state.collections}
            with freezing.frozen_batch_norm(now, paths):
                logits, updated = model.apply(
                    variables,
                    inputs,
                    train=True,
                    start=start,
                    frozen=now.frozen_stages,
                    mutable=["batch_stats", "auxiliary", *state.collections],
                    rngs={"dropout": dropout_key},
                )
            values, total = loss_of(logits, batch.labels), weighted(logits)
            for auxiliary in jax.tree.leaves(updated.get("auxiliary", {})):
                total += models.AUXILIARY_WEIGHT * weighted(auxiliary)
            mean = jnp.sum(total * batch.weights) / jnp.maximum(jnp.sum(batch.weights), 1)
            sums = metrics.batch_sums(values, logits, batch, assembly.multilabel)
            return mean, (sums, updated)

        def only_loss(trainable: dict[str, jax.Array]) -> jax.Array:
            return mean_loss(trainable)[0]

        (loss, (sums, updated)), gradients = jax.value_and_grad(mean_loss, has_aux=True)(trainable)
        gradient_norm = jnp.asarray(optax.tree.norm(gradients))
        learning_rate = hyper.learning_rate * plan.schedule_factor(state.step)
        optimizer = plan.make_optimizer(phase, learning_rate, hyper.weight_decay)
        # Only optimizers of a user's own read the last three.
        updates, opt_state = optimizer.update(
            gradients, state.opt_state, trainable, value=loss, grad=gradients, value_fn=only_loss
        )
        trained: Any = optax.apply_updates(trainable, updates)
        finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
        return state.replace(
            step=state.step + 1,
            params=unflatten({**frozen, **trained}),
            batch_stats=updated.get("batch_stats", {}),
            opt_state=opt_state,
            ema_params=_moving_average(state, trained, plan.optimizer.ema_decay),
            ema_batch_stats=_average_statistics(
                state, updated.get("batch_stats", {}), plan.optimizer.ema_decay
            ),
            interval=state.interval.add(sums),
            epoch=state.epoch.add(sums),
            gradient_norm=gradient_norm,
            nonfinite_step=jnp.where(
                finite | (state.nonfinite_step >= 0), state.nonfinite_step, state.step
            ),
            collections={name: updated.get(name, old) for name, old in state.collections.items()},
        )

    return train_step


def _moving_average(state: TrainState, trained: Any, decay: float | None) -> Any:
    """Averages with a decay that starts low, so that the first parameters are soon forgotten."""
    if decay is None or state.ema_params is None:
        return None
    return optax.incremental_update(trained, state.ema_params, 1 - _decay_now(state, decay))


def _average_statistics(state: TrainState, statistics: Any, decay: float | None) -> Any:
    """Averages the running statistics like the parameters, whose activations they are to fit.

    Statistics that stay as they are, those of frozen layers, keep their bits.
    """
    if decay is None or state.ema_batch_stats is None:
        return None
    rate = 1 - _decay_now(state, decay)
    return jax.tree.map(
        lambda old, new: old + rate * (new - old), state.ema_batch_stats, statistics
    )


def _decay_now(state: TrainState, decay: float) -> jax.Array:
    step = state.step.astype(jnp.float32)
    return jnp.minimum(decay, (1 + step) / (10 + step))
