"""Classes of unequal size: how much each counts in the loss, and what a run says of them."""

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import losses, patterns, text
from cnn_jax.data import DataInfo
from cnn_jax.errors import UsageError
from cnn_jax.sections import Train

# Classes whose sizes differ by more than this factor are worth a word.
_LARGE_RATIO = 3


def class_weights(setting: str, info: DataInfo) -> np.ndarray | None:
    """Returns the weight of each class in the loss, float32 [classes]; None: all count alike.

    Where an image may have several findings they are float32 [2, findings], of images without the
    finding and of those with it, by the same formulas: "balanced" gives n / (2 n_c) to those with
    it, so that both halves count alike, and a weight by name is that of the images with it.

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
    if info.multilabel:
        counts = np.stack([info.sizes["train"] - counts, counts])
    weights = np.ones(counts.shape)
    if setting == "balanced":
        weights = np.divide(1.0, counts, out=np.zeros(counts.shape), where=counts > 0)
    names = list(info.class_names)
    for name, weight in patterns.parse_class_weights(setting).items():
        if name not in names:
            shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
            raise UsageError(
                f"--train.class_weights names {name!r}, which is no class"
                f"{text.did_you_mean(name, names)}; the classes are {shown}"
            )
        place = names.index(name)
        weights[(1, place) if info.multilabel else place] = weight
    axis = 0 if info.multilabel else None
    return (weights * counts.sum(axis) / (weights * counts).sum(axis)).astype(np.float32)


def check(train: Train, info: DataInfo) -> None:
    """Refuses weights and sampling that do not fit the data.

    Raises:
        UsageError: a name is no class, or an image may have several.
    """
    if info.multilabel and train.sampling != "natural":
        raise UsageError(
            "--train.sampling draws each image for one class, and these may have several findings; "
            "use --train.class_weights=balanced"
        )
    class_weights(train.class_weights, info)


def weighted(
    weights: jax.Array, loss: losses.Loss, logits: jax.Array, labels: jax.Array
) -> jax.Array:
    """Returns the loss of each example as the gradient sees it, float32 [batch].

    Of an example that is mixed of several, each class has its own weight: sum_c s_c w_c L(c). Our
    losses are linear in the shares s, so this is m L(s w / m) with m = sum_c s_c w_c.

    Args:
        weights: float32 [classes]; or [2, findings], see `class_weights`.
        loss: maps logits and labels to the loss of each example without them.
        logits: float32 [batch, outputs].
        labels: int32 [batch]; float32 [batch, classes], the shares of the classes; or uint8
            [batch, findings].
    """
    if weights.ndim == 2:
        return losses.multilabel(logits, labels, weights)
    if labels.ndim == 2:
        scaled = labels * weights
        total = scaled.sum(axis=1)
        return total * loss(logits, scaled / jnp.maximum(total, 1e-12)[:, None])
    return loss(logits, labels) * weights[labels]


def hints(train: Train, info: DataInfo) -> list[str]:
    """Returns a line on classes of very different size, where nothing is done about them."""
    counts = np.asarray(info.class_counts["train"])
    if info.multilabel:
        return _hints_of_findings(train, info, counts)
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


def _hints_of_findings(train: Train, info: DataInfo, counts: np.ndarray) -> list[str]:
    have = np.flatnonzero(counts)
    if train.class_weights != "none" or not len(have):
        return []
    least = have[counts[have].argmin()]
    ratio = info.sizes["train"] / counts[least] - 1
    if ratio <= _LARGE_RATIO:
        return []
    return [
        f"imbalance  {ratio:.1f} images without {info.class_names[least]} to one with it: "
        "--train.class_weights=balanced makes them count alike"
    ]
