"""What an Experiment and a data set become: model, preprocessing and initial state."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cnn_jax import experiment, models
from cnn_jax.data import DataInfo, augment
from cnn_jax.errors import UsageError
from cnn_jax.training import optimizers, state

# (images uint8, key or None when not training) -> float images as the model takes them.
Preprocess = Callable[[jax.Array, jax.Array | None], jax.Array]


def build_model(config: experiment.Experiment, info: DataInfo) -> models.Classifier:
    """Returns the experiment's model for a data set.

    Raises:
        UsageError: the model, the loss and the data set do not fit together.
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
    return models.create(
        config.model.name,
        outputs,
        dropout_rate=config.model.dropout_rate,
        dtype=jnp.dtype(config.train.precision),
    )


def make_preprocess(config: experiment.Experiment, info: DataInfo) -> Preprocess:
    """Returns uint8 images -> normalised images, augmented where a key is given."""
    dataset = config.dataset
    dtype = jnp.dtype(config.train.precision)

    def preprocess(images: jax.Array, key: jax.Array | None) -> jax.Array:
        if key is not None:
            images = augment.augment(
                images,
                key,
                flip=dataset.flip,
                crop_padding=dataset.crop_padding,
                cutout=dataset.cutout,
                fill=tuple(255 * mean for mean in info.mean),
            )
        return augment.normalize(images, dataset.normalize, info.mean, info.std, dtype)

    return preprocess


def initial_state(
    model: models.Classifier, config: experiment.Experiment, info: DataInfo
) -> state.TrainState:
    """Returns the state before the first step."""
    optimizer = optimizers.make_optimizer(config.optimizer, 0.0, 0.0)
    use_ema = config.optimizer.ema_decay is not None
    return state.create(model, optimizer, info.image_shape, config.seed, use_ema)
