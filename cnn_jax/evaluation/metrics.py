"""Class probabilities, and sums over examples, from which means follow."""

import flax.struct
import jax
import jax.numpy as jnp

from cnn_jax.data.batches import Batch


class Sums(flax.struct.PyTreeNode):
    """Sums over examples; dividing by `examples` gives means.

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


def probabilities(logits: jax.Array, multilabel: bool = False) -> jax.Array:
    """Computes class probabilities [batch, classes]; a single logit is that of the second class.

    With `multilabel` each class has one of its own, and they do not sum to 1.
    """
    if multilabel:
        return jnp.asarray(jax.nn.sigmoid(logits))
    if logits.shape[-1] == 1:
        p = jax.nn.sigmoid(logits)
        return jnp.concatenate([1 - p, p], axis=-1)
    return jnp.asarray(jax.nn.softmax(logits))


def right(logits: jax.Array, labels: jax.Array, multilabel: bool = False) -> jax.Array:
    """Returns what share of each example is right, [batch]: 0 or 1; of several findings their mean.

    Args:
        logits: float32 [batch, outputs].
        labels: int32 [batch]; uint8 [batch, findings]; or, of examples that are mixed, the shares
            of the classes or findings, float32 [batch, outputs]. Of classes the largest is meant,
            of findings those with half or more.
        multilabel: whether shares are those of findings.
    """
    if multilabel or (labels.ndim == 2 and not jnp.issubdtype(labels.dtype, jnp.floating)):
        return jnp.mean((logits >= 0) == (labels >= 0.5), axis=1)
    if labels.ndim == 2:
        labels = jnp.argmax(labels, axis=1)
    return jnp.argmax(probabilities(logits), axis=-1) == labels


def batch_sums(
    values: jax.Array, logits: jax.Array, batch: Batch, multilabel: bool = False
) -> Sums:
    """Computes the sums over a batch.

    Args:
        values: float32 [batch], the loss of each example.
        logits: float32 [batch, outputs].
        batch: the examples.
        multilabel: as of `right`.
    """
    return Sums(
        loss=jnp.sum(values * batch.weights),
        correct=jnp.sum(right(logits, batch.labels, multilabel) * batch.weights),
        examples=jnp.sum(batch.weights),
    )
