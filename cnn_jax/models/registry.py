"""The models by name: those of this package, and those that a user registers."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from cnn_jax import files
from cnn_jax.errors import UsageError
from cnn_jax.models import (
    airbench,
    alexnet,
    convnext,
    densenet,
    efficientnet,
    googlenet,
    heads,
    inception_v3,
    lenet,
    mlp,
    mnist_cnn,
    mobilenet_v3,
    own,
    resnet,
    study_cnn,
    vgg,
    wide_resnet,
)
from cnn_jax.models.classifier import Classifier
from cnn_jax.models.entry import Entry
from cnn_jax.text import did_you_mean

# The order is that of `launch.py models`.
REGISTRY: dict[str, Entry] = {
    **lenet.ENTRIES,
    **mlp.ENTRIES,
    **mnist_cnn.ENTRIES,
    **study_cnn.ENTRIES,
    **airbench.ENTRIES,
    **alexnet.ENTRIES,
    **vgg.ENTRIES,
    **googlenet.ENTRIES,
    **inception_v3.ENTRIES,
    **resnet.ENTRIES,
    **wide_resnet.ENTRIES,
    **densenet.ENTRIES,
    **efficientnet.ENTRIES,
    **mobilenet_v3.ENTRIES,
    **convnext.ENTRIES,
}


def register_model(
    name: str,
    builder: Callable[..., nn.Module] | None = None,
    *,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    smallest: tuple[int, int] = (1, 1),
    options: Mapping[str, Any] | None = None,
    source: str = "",
    outputs: int = 0,
    parameters: int = 0,
    flops: int = 0,
    published: str = "",
) -> Any:
    """Gives a model of the user's own a name, for `create` and for the flag `--model.name`.

    It is also a decorator of a function or of a class of modules: `@register_model("my_net")`.

    Args:
        name: the name.
        builder: a function called with num_outputs, dtype= (where it accepts one) and the options.
            It returns a Classifier or any Linen module that is called as (images) or
            (images, train).
        input_shape: see `Entry`.
        smallest: see `Entry`.
        options: see `Entry`; those that are fields of `experiment.Model` have a flag.
        source: see `Entry`.
        outputs: see `Entry`.
        parameters: see `Entry`.
        flops: see `Entry`.
        published: see `Entry`.

    Returns:
        The builder; without a builder, the decorator.

    Raises:
        UsageError: another builder has this name. The same one, by its file and its name there, may
            be registered again, as when a file is run twice in one process.
    """
    if builder is None:
        return functools.partial(
            register_model,
            name,
            input_shape=input_shape,
            smallest=smallest,
            options=options,
            source=source,
            outputs=outputs,
            parameters=parameters,
            flops=flops,
            published=published,
        )
    known = REGISTRY.get(name)
    found = (known.builder, known.defined_in) if known else (None, None)
    files.check_free("model", name, builder, *found)
    REGISTRY[name] = Entry(
        builder=builder,
        input_shape=input_shape,
        smallest=smallest,
        source=source,
        outputs=outputs,
        parameters=parameters,
        flops=flops,
        options=dict(options or {}),
        published=published,
        defined_in=files.source_of(builder)[0],
    )
    return builder


def create(
    name: str,
    num_outputs: int,
    *,
    head: str = "default",
    dtype: Any = jnp.float32,
    **options: Any,
) -> Any:
    """Returns a registered model, without parameters yet.

    Args:
        name: a key of `REGISTRY`.
        num_outputs: the number of logits for an image: the classes, or 1 for binary cross-entropy.
        head: "default" for the model's own head, or a key of `heads.HEADS` to replace it; another
            head also removes the auxiliary classifiers.
        dtype: the dtype of activations (float32 or bfloat16). Parameters and logits are float32.
        **options: the model's options, see `Entry.options`; None stands for the model's default.
            With another head, `dropout_rate` belongs to the head.

    Returns:
        A Classifier, or a user's own module behind the same interface (`own.adapt`).

    Raises:
        UsageError: no model or head has this name, an option has no effect on the model, or a
            user's model does not fit together with the other arguments.
    """
    entry = _entry(name)
    chosen = {key: value for key, value in options.items() if value is not None}
    defaults = dict(entry.options)
    rate = chosen.pop("dropout_rate", None) if head != "default" else None
    if head != "default":
        defaults.pop("auxiliary", None)
    for key in chosen:
        if key not in defaults:
            having = ", ".join(k for k, e in REGISTRY.items() if key in e.options)
            raise UsageError(
                f"--model.{key} has no effect on {name}"
                f"{'' if head == 'default' else f' with --model.head={head}'}; leave it out"
                f"{f', or choose a model that has it ({having})' if having else ''}"
            )
    arguments = defaults | chosen
    if _accepts_dtype(entry.builder):
        arguments["dtype"] = dtype
    elif jnp.dtype(dtype) != jnp.float32:
        raise UsageError(
            f"--train.precision={jnp.dtype(dtype)}: the builder of {name} has no argument dtype, "
            "so that the model computes in a precision of its own; leave it out"
        )
    model = own.adapt(entry.builder(num_outputs, **arguments))
    if head == "default":
        return model
    if not isinstance(model, Classifier):
        raise UsageError(
            f"--model.head={head} replaces the head of a models.Classifier, and {name} is a "
            f"{type(model.module).__name__}; leave it out"
        )
    return Classifier(
        model.backbone, heads.create(head, num_outputs, dropout_rate=rate, dtype=dtype)
    )


def check_input(name: str, image_shape: Sequence[int], resizable: bool = True) -> None:
    """Refuses images that a model's valid convolutions and pools would shrink to nothing.

    Args:
        name: a key of `REGISTRY`.
        image_shape: (height, width), or (height, width, channels).
        resizable: whether the images are resized as a setting says, which arrays are not.

    Raises:
        UsageError: the image is too small, or no model has this name.
    """
    height, width = _entry(name).smallest
    if image_shape[0] < height or image_shape[1] < width:
        how = f"them with --dataset.image_size={max(height, width)} or more"
        raise UsageError(
            f"{name} needs images of at least {height} x {width} pixels (height x width), not "
            f"{image_shape[0]} x {image_shape[1]}; enlarge {how if resizable else 'the arrays'}"
        )


def _entry(name: str) -> Entry:
    if name not in REGISTRY:
        hint = did_you_mean(name, list(REGISTRY)) or "."
        raise UsageError(f"there is no --model.name={name}{hint} There are {', '.join(REGISTRY)}")
    return REGISTRY[name]


def _accepts_dtype(builder: Callable[..., Any]) -> bool:
    parameters = inspect.signature(builder).parameters
    anything = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    return "dtype" in parameters or anything
