"""What an Experiment, a data set and weights come to: model, preprocessing, phases, first state."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from cnn_jax import experiment, models, runtime
from cnn_jax.data import DataInfo, augment
from cnn_jax.errors import UsageError
from cnn_jax.models.classifier import Stages
from cnn_jax.pretrained import loading
from cnn_jax.training import freezing, optimizers, state

# (images uint8, key or None when not training[, which to mirror: bool [batch]]) -> float images as
# the model takes them.
Preprocess = Callable[..., jax.Array]


@dataclasses.dataclass(frozen=True)
class Assembly:
    """The parts of a run that do not change while it runs.

    Attributes:
        model: images to logits.
        with_dropout: the same with another dropout rate, which may be an array.
        image_shape: (height, width, channels).
        shapes: of the model's variables.
        phases: which parameters are trainable, epoch by epoch.
        normalize: the scaling of the images, never "auto".
        preprocess: images to what the model takes.
    """

    model: models.Classifier
    with_dropout: Callable[[Any], models.Classifier]
    image_shape: tuple[int, int, int]
    shapes: Any
    phases: Sequence[freezing.Phase]
    normalize: str
    preprocess: Preprocess


def assemble(
    config: experiment.Experiment,
    info: DataInfo,
    weights_preprocessing: str | None = None,
    weights_options: Mapping[str, Any] | None = None,
) -> Assembly:
    """Returns the parts of an experiment on a data set.

    Args:
        config: the experiment.
        info: of the data set.
        weights_preprocessing: the scaling that belongs to the pretrained weights, where known.
        weights_options: options of the model that belong to them.

    Raises:
        UsageError: the model, the loss, the data set and what is frozen do not fit together.
    """
    classes = len(info.class_names)
    outputs = classes
    if config.train.loss == "binary_cross_entropy":
        if classes != 2:
            raise UsageError(
                f"--train.loss=binary_cross_entropy needs two classes, {info.name} has {classes}; "
                "use --train.loss=cross_entropy"
            )
        outputs = 1
    models.check_input(config.model.name, info.image_shape)
    create = functools.partial(
        models.create,
        config.model.name,
        outputs,
        head=config.model.head,
        dtype=jnp.dtype(config.train.precision),
    )
    options = _model_options(config, weights_options or {})
    model = create(**options)
    images = jax.ShapeDtypeStruct((1, *info.image_shape), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    paths = list(freezing.flatten(shapes["params"]))
    normalize = _normalization(config, weights_preprocessing)
    return Assembly(
        model=model,
        with_dropout=lambda rate: create(**{**options, "dropout_rate": rate}),
        image_shape=info.image_shape,
        shapes=shapes,
        phases=freezing.plan(config.transfer, paths, model.stage_names),
        normalize=normalize,
        preprocess=make_preprocess(config, info, normalize),
    )


def _model_options(
    config: experiment.Experiment, weights_options: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the model's options: those of the flags, and those that the weights need."""
    options = config.model.options()
    for name, value in weights_options.items():
        if options[name] not in (None, value):
            raise UsageError(
                f"--model.{name}={options[name]}: the weights of "
                f"--transfer.weights={config.transfer.weights} were trained with {value}; "
                "leave the flag out"
            )
        options[name] = value
    return options


def _normalization(config: experiment.Experiment, weights_preprocessing: str | None) -> str:
    """Returns the scaling that was asked for, or that which belongs to the weights."""
    if config.dataset.normalize != "auto":
        return config.dataset.normalize
    if config.transfer.weights is None:
        return "unit"
    if weights_preprocessing is None:
        raise UsageError(
            f"nobody knows how the images of --transfer.weights={config.transfer.weights} were "
            "scaled; say it with --dataset.normalize"
        )
    return weights_preprocessing


def make_preprocess(config: experiment.Experiment, info: DataInfo, normalize: str) -> Preprocess:
    """Returns uint8 images -> normalised images, augmented where a key is given."""
    dataset = config.dataset
    dtype = jnp.dtype(config.train.precision)

    def preprocess(
        images: jax.Array, key: jax.Array | None, mirrored: jax.Array | None = None
    ) -> jax.Array:
        if key is not None:
            images = augment.augment(
                images,
                key,
                flip=dataset.flip,
                crop_padding=dataset.crop_padding,
                cutout=dataset.cutout,
                fill=tuple(255 * mean for mean in info.mean),
                mirrored=mirrored,
            )
        return augment.normalize(images, normalize, info.mean, info.std, dtype)

    return preprocess


def initial_state(
    assembly: Assembly,
    config: experiment.Experiment,
    weights: loading.Weights | None,
    sharding: NamedSharding,
    images: np.ndarray | None = None,
) -> state.TrainState:
    """Returns the state before the first step, on the devices.

    Only what no weights replace, parameters and batch statistics, starts as the model has it.

    Args:
        assembly: model and preprocessing.
        config: the experiment.
        weights: pretrained ones to start from.
        sharding: of the state.
        images: uint8 `[n, height, width, channels]`, some of the training images, for parameters
            that start from data; None: they start as others do.
    """
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    loaded: dict[str, Any] = {}
    if images is not None and isinstance(assembly.model.backbone, Stages):
        scaled = np.asarray(assembly.preprocess(jnp.asarray(images), None), np.float32)
        values = assembly.model.backbone.initial_values(scaled)
        loaded = {f"params/backbone/{path}": value for path, value in values.items()}
    if weights is not None:
        flat = freezing.flatten(assembly.shapes)
        merged = freezing.flatten(loading.merge(assembly.shapes, weights, config.transfer.include))
        loaded |= {path: leaf for path, leaf in merged.items() if leaf is not flat[path]}

    def create(loaded: dict[str, Any], init_key: jax.Array, run_key: jax.Array) -> state.TrainState:
        variables = assembly.model.init(init_key, jnp.zeros((1, *assembly.image_shape)))
        variables = freezing.unflatten({**freezing.flatten(variables), **loaded})
        return new_state(assembly, config, variables, run_key)

    options = runtime.compiler_options(once=True)
    return jax.jit(create, out_shardings=sharding, compiler_options=options)(
        loaded, init_key, run_key
    )


def new_state(
    assembly: Assembly,
    config: experiment.Experiment,
    variables: Any,
    key: jax.Array,
    phase: int = 0,
) -> state.TrainState:
    """Returns the state that a phase begins with where it is the first."""
    this = assembly.phases[phase]
    optimizer = optimizers.make_optimizer(config.optimizer, this.groups)
    return state.create(
        variables, key, optimizer, this, use_ema=config.optimizer.ema_decay is not None
    )


def abstract_state(assembly: Assembly, config: experiment.Experiment, phase: int) -> Any:
    """Returns the shapes of a state in a phase, as checkpoints are restored with."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(
        lambda variables, key: new_state(assembly, config, variables, key, phase),
        assembly.shapes,
        key,
    )
