"""Builds the model and the preprocessing of an experiment on a data set."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax import cpu, experiment, losses, models
from cnn_jax.data import DataInfo, arrays, augmentation, scaling
from cnn_jax.errors import UsageError
from cnn_jax.losses import Loss
from cnn_jax.models import own

# (images, key or None when not training[, which to mirror: bool [batch]]) -> float images as the
# model takes them.
Preprocess = Callable[..., jax.Array]


_WITH_FINDINGS = "the images have several findings each: use --train.loss=multilabel"
_WITHOUT_FINDINGS = (
    "--train.loss=multilabel takes labels of 0 and 1 for each finding: in Python "
    "cnn_jax.from_arrays(..., multilabel=True)"
)


@dataclasses.dataclass(frozen=True)
class Assembly:
    """The model of an experiment, with all that stands between images and a loss.

    Attributes:
        model: maps preprocessed images to logits: a `models.Classifier`, or a user's own module
            behind the same interface (`models.own`).
        with_dropout: the same model with another dropout rate, which may be an array.
        image_shape: (height, width, channels).
        image_dtype: of the images as they are stored, "uint8" or "float32".
        shapes: the shapes of the model's variables.
        normalize: the scaling of the images, never "auto".
        preprocess: maps stored images to what the model takes.
        loss: maps logits and labels to the loss of each example.
        multilabel: whether an image may have several classes, or none.
        mix: mixes scaled images and labels of a batch with each other in training, or None.
        about_weights: what weights.json says of the pretrained weights, or None.
    """

    model: Any
    with_dropout: Callable[[Any], Any]
    image_shape: tuple[int, int, int]
    image_dtype: str
    shapes: Any
    normalize: str
    preprocess: Preprocess
    loss: Loss
    multilabel: bool = False
    mix: augmentation.Mix | None = None
    about_weights: Mapping[str, Any] | None = None


def assemble(
    config: experiment.Experiment,
    info: DataInfo,
    about_weights: Mapping[str, Any] | None = None,
    *,
    model: nn.Module | None = None,
    loss: Loss | None = None,
) -> Assembly:
    """Builds model, preprocessing and loss.

    Args:
        config: the experiment.
        info: what is known of the data set.
        about_weights: what weights.json says of the pretrained weights: "preprocessing", the
            scaling that belongs to them or None, and "options", the model's that they need.
        model: a user's own module, in place of the one that the experiment names.
        loss: a user's own loss, likewise.

    Raises:
        UsageError: the model, the loss, the data set and the weights do not fit together.
    """
    about = about_weights or {}
    classes = len(info.class_names)
    chosen_loss = losses.find(config.train.loss if loss is None else loss, config.train.focal_gamma)
    if chosen_loss is losses.binary_cross_entropy and classes != 2:
        raise UsageError(
            f"--train.loss=binary_cross_entropy needs two classes, {info.name} has {classes}; "
            "use --train.loss=cross_entropy"
        )
    is_ours = chosen_loss in losses.OURS_BY_VALUE
    if is_ours and (chosen_loss is losses.multilabel) != info.multilabel:
        raise UsageError(_WITHOUT_FINDINGS if chosen_loss is losses.multilabel else _WITH_FINDINGS)
    if config.dataset.mixes and (loss is not None or config.train.loss not in losses.OURS):
        raise UsageError(
            "--dataset.mixup and --dataset.cutmix give shares of classes in place of labels, which "
            f"a loss of your own does not take; use {', '.join(losses.OURS)}"
        )
    if info.streamed and config.transfer.cache_views and config.dataset.random_crop is not None:
        raise UsageError(
            "--transfer.cache_views keeps whole images, of which --dataset.random_crop cuts parts "
            "where they are streamed: leave one of them out, or give --dataset.streaming=false"
        )
    if model is None:
        outputs = 1 if chosen_loss is losses.binary_cross_entropy else classes
        build, options = _builder(config, info, outputs, about)
    else:
        build, options = lambda **_: own.adapt(model), {}
    built = build(**options)
    images = jax.ShapeDtypeStruct((1, *info.image_shape), jnp.float32)
    with cpu.using("plain"):  # the shapes are the same, and traced in half of the time
        shapes = jax.eval_shape(built.init, jax.random.key(0), images)
    # A module may have sown what it computed; that is no variable of it.
    shapes = {name: tree for name, tree in shapes.items() if name != "intermediates"}
    normalize = _normalization(config, info, about.get("preprocessing"))
    assembly = Assembly(
        model=built,
        with_dropout=lambda rate: build(**{**options, "dropout_rate": rate}),
        image_shape=info.image_shape,
        image_dtype=info.dtype,
        shapes=shapes,
        normalize=normalize,
        preprocess=make_preprocess(config.dataset, config.train.precision, info, normalize),
        loss=chosen_loss,
        multilabel=info.multilabel,
        mix=augmentation.make_mix(config.dataset, classes),
        about_weights=about_weights,
    )
    entry = models.REGISTRY.get(config.model.name)
    if model is not None or (entry and entry.defined_in) or chosen_loss not in losses.OURS_BY_VALUE:
        _check_shapes(assembly, classes)
    return assembly


def _builder(
    config: experiment.Experiment, info: DataInfo, outputs: int, about: Mapping[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Returns the builder of the registered model, and its options."""
    models.check_input(config.model.name, info.image_shape, config.dataset.name != arrays.NAME)
    dtype = jnp.dtype(config.train.precision)
    build = functools.partial(
        models.create, config.model.name, outputs, head=config.model.head, dtype=dtype
    )
    return build, _model_options(config, about.get("options") or {})


def _model_options(
    config: experiment.Experiment, weights_options: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the model's options: those of the settings, and those that the weights need."""
    options = config.model.options()
    for name, value in weights_options.items():
        if options[name] not in (None, value):
            raise UsageError(
                f"--model.{name}={options[name]}: the weights of "
                f"--transfer.weights={config.transfer.weights} were trained with {value}; "
                "leave it out"
            )
        options[name] = value
    return options


def _normalization(
    config: experiment.Experiment, info: DataInfo, weights_preprocessing: str | None
) -> str:
    """Returns the scaling that was asked for, or the one that belongs to weights or data."""
    chosen = config.dataset.normalize
    if chosen == "auto" and config.transfer.weights is not None:
        if weights_preprocessing is None:
            raise UsageError(
                f"nobody knows how the images of --transfer.weights={config.transfer.weights} "
                "were scaled; say it with --dataset.normalize"
            )
        chosen = weights_preprocessing
    elif chosen == "auto":
        chosen = "unit" if info.dtype == "uint8" else "none"
    if info.dtype != "uint8" and chosen not in ("none", "standardize"):
        raise UsageError(
            f"--dataset.normalize={chosen} scales pixels of 0 to 255, and the images are "
            f"{info.dtype}, taken as they are; give uint8 images, or --dataset.normalize=none or "
            "standardize"
        )
    return chosen


def make_preprocess(
    dataset: experiment.Dataset, precision: str, info: DataInfo, normalize: str
) -> Preprocess:
    """Returns a function that scales stored images, and augments them where a key is given."""
    dtype = jnp.dtype(precision)
    if info.streamed:  # parts were cut out where the images were decoded
        dataset = dataclasses.replace(dataset, random_crop=None)
    unit = 255 if info.dtype == "uint8" else 1

    def preprocess(
        images: jax.Array, key: jax.Array | None, mirrored: jax.Array | None = None
    ) -> jax.Array:
        if key is not None:
            fill = tuple(unit * mean for mean in info.mean)
            images = augmentation.apply(dataset, images, key, fill, mirrored)
        return scaling.normalize(images, normalize, info.mean, info.std, dtype)

    return preprocess


def _check_shapes(assembly: Assembly, classes: int) -> None:
    """Refuses a user's own model or loss whose result has another shape than training needs."""
    images = jax.ShapeDtypeStruct((2, *assembly.image_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((2, classes) if assembly.multilabel else (2,), jnp.int32)
    logits: Any = jax.eval_shape(assembly.model.apply, assembly.shapes, images)
    legal = [(2, classes), (2, 1)] if classes == 2 else [(2, classes)]
    why = "one for each class"
    if assembly.loss is losses.binary_cross_entropy:
        legal, why = [(2, 1)], "one for each image, with this loss"
    elif assembly.loss is losses.cross_entropy:
        legal = [(2, classes)]
    if getattr(logits, "shape", None) not in legal:
        raise UsageError(
            f"the model returns {getattr(logits, 'shape', type(logits).__name__)} for two images; "
            f"training needs logits of shape {legal[0]}, {why}"
        )
    key = jax.eval_shape(jax.random.key, 0)
    jax.eval_shape(  # what fails in training alone fails here, before anything is written
        lambda variables, x, key: assembly.model.apply(
            variables, x, train=True, mutable=True, rngs={"dropout": key}
        ),
        assembly.shapes,
        images,
        key,
    )
    values = jax.eval_shape(lambda x, y: assembly.loss(x, y), logits, labels)
    if getattr(values, "shape", None) != (2,):
        raise UsageError(
            f"the loss {getattr(assembly.loss, '__name__', assembly.loss)} returns "
            f"{getattr(values, 'shape', type(values).__name__)} for two examples; "
            "it must return one value for each, of shape [batch]"
        )
