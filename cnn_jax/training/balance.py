"""Classes of unequal size: how much each counts in the loss, and what a run says of them."""

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import patterns, text
from cnn_jax.data import DataInfo
from cnn_jax.errors import UsageError
from cnn_jax.sections import Train

# Classes whose sizes differ by more than this factor are worth a word.
_LARGE_RATIO = 3


def class_weights(setting: str, info: DataInfo) -> np.ndarray | None:
    """Returns the weight of each class in the loss, float32 [classes]; None: all count alike.

    Of n training images, n_c of them of class c and K classes that have any, "balanced" gives
    n / (K n_c). Weights by name, 1 where a class is not named, are scaled by n / sum(n_c w_c).
    Either way the mean weight over the training images is 1, so that the learning rate keeps its
    meaning.

    Args:
        setting: none, balanced or NAME:W,...
        info: the data, with the number of training images of each class.

    Raises:
        UsageError: a name is no class.
    """
    if setting == "none":
        return None
    counts = np.asarray(info.class_counts["train"], np.float64)
    weights = np.ones(len(counts))
    if setting == "balanced":
        weights = np.divide(1.0, counts, out=np.zeros(len(counts)), where=counts > 0)
    names = list(info.class_names)
    for name, weight in patterns.parse_class_weights(setting).items():
        if name not in names:
            shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
            raise UsageError(
                f"--train.class_weights names {name!r}, which is no class"
                f"{text.did_you_mean(name, names)}; the classes are {shown}"
            )
        weights[names.index(name)] = weight
    return (weights * counts.sum() / (weights @ counts)).astype(np.float32)


def check(train: Train, info: DataInfo) -> None:
    """Refuses weights and sampling that do not fit the data.

    Raises:
        UsageError: a name is no class, or an image may have several.
    """
    if info.multilabel and (train.class_weights != "none" or train.sampling != "natural"):
        name = "sampling" if train.class_weights == "none" else "class_weights"
        raise UsageError(
            f"--train.{name} counts each image for one class, and these may have several findings; "
            "leave it out"
        )
    class_weights(train.class_weights, info)


def of_labels(weights: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the weight of each example, float32 [batch].

    Args:
        weights: float32 [classes].
        labels: int32 [batch], or float32 [batch, classes], the shares of the classes.
    """
    return jnp.asarray(labels @ weights if labels.ndim == 2 else weights[labels])


def hints(train: Train, info: DataInfo) -> list[str]:
    """Returns a line on classes of very different size, where nothing is done about them."""
    counts = np.asarray(info.class_counts["train"])
    if info.multilabel:
        return []
    there = np.flatnonzero(counts)
    if train.class_weights != "none" or train.sampling != "natural" or len(there) < 2:
        return []
    most, least = there[counts[there].argmax()], there[counts[there].argmin()]
    ratio = counts[most] / counts[least]
    if ratio <= _LARGE_RATIO:
        return []
    first, last = (info.class_names[i] for i in (most, least))
    return [
        f"imbalance  {ratio:.1f} images of {first} to one of {last}: "
        "--train.class_weights=balanced or --train.sampling=balanced makes them count alike"
    ]
