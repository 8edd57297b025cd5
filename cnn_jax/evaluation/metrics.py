"""Losses, probabilities and the sums that means are made of."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from cnn_jax.data.batches import Batch


class Sums(flax.struct.PyTreeNode):
    """Sums over examples; means come of dividing by `examples`.

    Attributes:
        loss: float32 [].
        correct: float32 [].
        examples: float32 [].
    """

    loss: jax.Array
    correct: jax.Array
    examples: jax.Array

    @classmethod
    def zero(cls) -> "Sums":
        """Returns sums over nothing."""
        return cls(*(jnp.zeros((), jnp.float32) for _ in range(3)))

    def add(self, other: "Sums") -> "Sums":
        """Returns the sums over both."""
        return jax.tree.map(jnp.add, self, other)

    def means(self) -> dict[str, float]:
        """Returns loss and accuracy as Python numbers (waits for the device)."""
        loss, correct, examples = jax.device_get((self.loss, self.correct, self.examples))
        count = max(float(examples), 1.0)
        return {"loss": float(loss) / count, "accuracy": float(correct) / count}


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
        z = logits[:, 0]
        targets = labels.astype(logits.dtype)
        log_p, log_q = jnp.asarray(jax.nn.log_sigmoid(z)), jnp.asarray(jax.nn.log_sigmoid(-z))
        return -(targets * log_p + (1 - targets) * log_q)
    log_p = jnp.asarray(jax.nn.log_softmax(logits))
    of_label = jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    values: Any = -(1 - label_smoothing) * of_label - label_smoothing * jnp.mean(log_p, axis=1)
    return values


def probabilities(logits: jax.Array) -> jax.Array:
    """Returns class probabilities [batch, classes]; one logit is that of the second class."""
    if logits.shape[-1] == 1:
        p = jax.nn.sigmoid(logits)
        return jnp.concatenate([1 - p, p], axis=-1)
    return jnp.asarray(jax.nn.softmax(logits))


def batch_sums(values: jax.Array, logits: jax.Array, batch: Batch) -> Sums:
    """Returns the sums over a batch, given the loss of every example and the logits."""
    predicted = jnp.argmax(probabilities(logits), axis=-1)
    return Sums(
        loss=jnp.sum(values * batch.weights),
        correct=jnp.sum((predicted == batch.labels) * batch.weights),
        examples=jnp.sum(batch.weights),
    )
