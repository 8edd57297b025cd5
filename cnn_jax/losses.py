"""Losses: functions of logits and labels, by name for flags or as values in Python."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cnn_jax import files, text
from cnn_jax.errors import UsageError

# (logits float32 [batch, outputs], labels int32 [batch]) -> the loss of each example [batch].
# Ours also take labels as the shares of the classes in each example, float32 [batch, classes].
Loss = Callable[[jax.Array, jax.Array], jax.Array]


def cross_entropy(
    logits: jax.Array, labels: jax.Array, label_smoothing: jax.typing.ArrayLike = 0.0
) -> jax.Array:
    """Computes the cross-entropy of each example, float32 [batch].

    Args:
        logits: float32 [batch, classes].
        labels: int32 [batch], or float32 [batch, classes], shares that sum to 1.
        label_smoothing: the share of the target that is spread evenly over all classes.
    """
    log_p = jnp.asarray(jax.nn.log_softmax(logits))
    of_label = _of_label(log_p, labels)
    values: Any = -(1 - label_smoothing) * of_label - label_smoothing * jnp.mean(log_p, axis=1)
    return values


def _of_label(values: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the value of each example's class, [batch]; of shares their weighted mean."""
    if labels.ndim == 2:
        return jnp.sum(labels * values, axis=1)
    return jnp.take_along_axis(values, labels[:, None], axis=1)[:, 0]


def focal(logits: jax.Array, labels: jax.Array, gamma: float = 2.0) -> jax.Array:
    """Computes the focal loss -(1 - p)^gamma log(p), p of the right class, float32 [batch].

    Examples that are classified well count less (Lin et al. 2017, arXiv:1708.02002).

    Args:
        logits: float32 [batch, classes].
        labels: int32 [batch], or float32 [batch, classes], shares that sum to 1.
        gamma: 0 or more; 0 is the cross-entropy.
    """
    log_p = jnp.asarray(jax.nn.log_softmax(logits))
    wrong = jnp.maximum(-jnp.expm1(log_p), 1e-12)  # at 0 the gradient of a root is infinite
    return _of_label(-(wrong**gamma) * log_p, labels)


def binary_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Computes the binary cross-entropy of each example, float32 [batch].

    Args:
        logits: float32 [batch, 1], of the second class.
        labels: int32 [batch], 0 or 1, or float32 [batch, 2], shares that sum to 1.
    """
    z = logits[:, 0]
    targets = (labels[:, 1] if labels.ndim == 2 else labels).astype(logits.dtype)
    log_p, log_q = jnp.asarray(jax.nn.log_sigmoid(z)), jnp.asarray(jax.nn.log_sigmoid(-z))
    return -(targets * log_p + (1 - targets) * log_q)


def multilabel(logits: jax.Array, labels: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Computes the binary cross-entropy of each finding, and its mean over them, float32 [batch].

    Args:
        logits: float32 [batch, findings].
        labels: [batch, findings], 1 for each that an example has, else 0.
        weights: float32 [2, findings], of the findings that an example has not, and of those that
            it has; None: all count alike.
    """
    targets = labels.astype(logits.dtype)
    log_p, log_q = jnp.asarray(jax.nn.log_sigmoid(logits)), jnp.asarray(jax.nn.log_sigmoid(-logits))
    without, having = (1.0, 1.0) if weights is None else weights
    return -jnp.mean(having * targets * log_p + without * (1 - targets) * log_q, axis=1)


REGISTRY: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "focal": focal,
    "multilabel": multilabel,
}
OURS = tuple(REGISTRY)
OURS_BY_VALUE = tuple(REGISTRY.values())


def register_loss(name: str, loss: Loss | None = None) -> Any:
    """Registers a loss under a name for `--train.loss`; without `loss`, a decorator.

    Args:
        name: the name, not that of another loss.
        loss: (logits float32 [batch, classes], labels int32 [batch]) -> values [batch].

    Raises:
        UsageError: another loss has this name.
    """
    if loss is None:
        return lambda loss: register_loss(name, loss)
    known = REGISTRY.get(name)
    where = None if name in OURS or known is None else files.source_of(known)[0]
    files.check_free("loss", name, loss, known, where)
    REGISTRY[name] = loss
    return loss


def find(loss: str | Loss, focal_gamma: float | None = None) -> Loss:
    """Returns the loss of a name, or the function itself.

    Args:
        loss: the name or the function.
        focal_gamma: that of the focal loss; None: its own.

    Raises:
        UsageError: no loss has this name.
    """
    if callable(loss):
        return loss
    if loss not in REGISTRY:
        tip = text.did_you_mean(loss, list(REGISTRY))
        raise UsageError(f"there is no --train.loss={loss}{tip}; there are {', '.join(REGISTRY)}")
    if loss == "focal" and focal_gamma is not None:
        return functools.partial(focal, gamma=focal_gamma)
    return REGISTRY[loss]


def compute(
    loss: Loss, logits: jax.Array, labels: jax.Array, label_smoothing: jax.typing.ArrayLike = 0.0
) -> jax.Array:
    """Computes the loss of each example, with label smoothing where the loss has it."""
    if loss is cross_entropy:
        return cross_entropy(logits, labels, label_smoothing)
    return loss(logits, labels)
