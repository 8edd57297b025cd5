"""The models: one file per architecture, and the registry that names them.

To add one: write its file with a builder `(num_outputs, dtype[, dropout_rate]) -> Classifier`, and
one entry below. The tests run over the registry.
"""

import dataclasses
import difflib
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from cnn_jax.errors import UsageError
from cnn_jax.models import heads
from cnn_jax.models.classifier import Classifier
from cnn_jax.models.lenet import lenet5
from cnn_jax.models.mlp import mlp
from cnn_jax.models.mnist_cnn import mnist_cnn
from cnn_jax.models.study_cnn import study_cnn, study_cnn_wide
from cnn_jax.models.vgg import vgg11, vgg13, vgg16, vgg19

__all__ = ["REGISTRY", "Classifier", "Entry", "check_input", "create"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered model.

    Attributes:
        builder: called with num_outputs and dtype=, and with dropout_rate= where it has dropout.
        input_shape: (height, width, channels) it was made for.
        smallest: (height, width) of the smallest image that it can take.
        source: where it comes from, in one line.
        dropout_rate: its own dropout rate; None where it has no dropout.
    """

    builder: Callable[..., Classifier]
    input_shape: tuple[int, int, int]
    smallest: tuple[int, int]
    source: str
    dropout_rate: float | None = None


_VGG = "Simonyan and Zisserman 2014"

REGISTRY: dict[str, Entry] = {
    "lenet5": Entry(lenet5, (32, 32, 1), (16, 16), "LeCun et al. 1998, with ReLU and max-pooling"),
    "mlp": Entry(mlp, (32, 32, 3), (1, 1), "the guides' dense baseline", dropout_rate=0.0),
    "mnist_cnn": Entry(mnist_cnn, (28, 28, 1), (18, 18), "TensorFlow's CNN tutorial"),
    "study_cnn": Entry(study_cnn, (32, 32, 3), (15, 17), "the CNN study guide"),
    "study_cnn_wide": Entry(
        study_cnn_wide, (32, 32, 3), (19, 17), "the CNN study guide's wide variant"
    ),
    "vgg11": Entry(vgg11, (224, 224, 3), (32, 32), _VGG, dropout_rate=0.5),
    "vgg13": Entry(vgg13, (224, 224, 3), (32, 32), _VGG, dropout_rate=0.5),
    "vgg16": Entry(vgg16, (224, 224, 3), (32, 32), _VGG, dropout_rate=0.5),
    "vgg19": Entry(vgg19, (224, 224, 3), (32, 32), _VGG, dropout_rate=0.5),
}


def create(
    name: str,
    num_outputs: int,
    *,
    head: str = "default",
    dropout_rate: float | None = None,
    dtype: Any = jnp.float32,
) -> Classifier:
    """Returns a registered model, without parameters yet.

    Args:
        name: a key of `REGISTRY`.
        num_outputs: logits for an image: the classes, or 1 for binary cross-entropy.
        head: "default" for the model's own, or a key of `heads.HEADS` in its place.
        dropout_rate: share of units dropped while training; None: the model's or the head's own.
        dtype: of activations (float32 or bfloat16); parameters and logits are float32 always.

    Raises:
        UsageError: no model or head has this name, or there is no dropout and a rate was given.
    """
    entry = _entry(name)
    if head != "default":
        own = {} if entry.dropout_rate is None else {"dropout_rate": entry.dropout_rate}
        backbone = entry.builder(num_outputs, dtype=dtype, **own).backbone
        new = heads.create(head, num_outputs, dropout_rate=dropout_rate, dtype=dtype)
        return Classifier(backbone, new)
    options: dict[str, Any] = {"dtype": dtype}
    if entry.dropout_rate is not None:
        options["dropout_rate"] = entry.dropout_rate if dropout_rate is None else dropout_rate
    elif dropout_rate is not None:
        having = ", ".join(key for key, e in REGISTRY.items() if e.dropout_rate is not None)
        raise UsageError(
            f"--model.dropout_rate has no effect on {name}, which has no dropout; "
            f"leave it out, or choose a model that has it ({having})"
        )
    return entry.builder(num_outputs, **options)


def check_input(name: str, image_shape: Sequence[int]) -> None:
    """Refuses images that a model's valid convolutions and pools would shrink to nothing.

    Args:
        name: a key of `REGISTRY`.
        image_shape: (height, width), or (height, width, channels).

    Raises:
        UsageError: the image is too small, or no model has this name.
    """
    height, width = _entry(name).smallest
    if image_shape[0] < height or image_shape[1] < width:
        raise UsageError(
            f"{name} needs images of at least {height} x {width} pixels (height x width), not "
            f"{image_shape[0]} x {image_shape[1]}; enlarge them with "
            f"--dataset.image_size={max(height, width)} or more"
        )


def _entry(name: str) -> Entry:
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"no model {name!r}.{hint} There are {', '.join(REGISTRY)}")
    return REGISTRY[name]
