"""All scaling of pixels: what a network was trained with, it needs ever after.

| name | what it does to pixels of 0 to 255 | whose it is |
|---|---|---|
| none | nothing | of float images, which their owner has scaled |
| unit | x / 255 | ours |
| standardize | (x / 255 - mean) / std, with those of the training images | ours |
| symmetric | x / 127.5 - 1 | InceptionV3, GoogLeNet, and the study guide |
| caffe | to blue, green, red, minus ImageNet's means | VGG and ResNet in Keras |
| torch | (x / 255 - ImageNet's mean) / its standard deviation | DenseNet, all of torchvision |
"""

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from cnn_jax.errors import UsageError

Scaling = Literal["none", "unit", "standardize", "caffe", "symmetric", "torch"]

# Means over ImageNet's training images, 0..255, in the order blue, green, red (VGG, in Caffe).
_CAFFE_MEAN = (103.939, 116.779, 123.68)
# The scalings that are a mean and a standard deviation of pixels of 0..1, whatever the images;
# "torch" those over ImageNet in red, green, blue (torchvision).
MEAN_AND_STD: dict[Scaling, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "unit": ((0.0,) * 3, (1.0,) * 3),
    "symmetric": ((0.5,) * 3, (0.5,) * 3),
    "torch": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def is_fixed(mode: str) -> bool:
    """Returns whether a scaling has no numbers that come from the training images."""
    return mode in get_args(Scaling) and mode != "standardize"


def normalize(
    images: ArrayLike,
    mode: str,
    mean: ArrayLike | Sequence[float] = 0.0,
    std: ArrayLike | Sequence[float] = 1.0,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """Scales images for a model.

    "caffe", "symmetric" and "torch" are the `preprocess_input` of Keras Applications.

    Args:
        images: [..., height, width, channels]: integers of 0 to 255, or floats. Floats are of 0 to
            255 too, except for "none" and "standardize", which take them in their own units.
        mode: a `Scaling`; see the table at the top.
        mean: [channels], which "standardize" subtracts: of images scaled to 0..1, for float images
            in their own units.
        std: [channels], by which it then divides; a channel without variation (0) is not divided.
        dtype: the dtype of the result; the arithmetic is in float32.

    Returns:
        dtype [..., height, width, channels].

    Raises:
        UsageError: the mode is unknown, or needs three channels and there are others.
    """
    if mode not in get_args(Scaling):
        known = ", ".join(get_args(Scaling))
        raise UsageError(f"--dataset.normalize is one of {known}, not {mode!r}")
    integers = jnp.issubdtype(jnp.result_type(images), jnp.integer)
    x = jnp.asarray(images, jnp.float32)
    if mode in ("caffe", "torch") and x.shape[-1] != 3:
        raise UsageError(
            f"pretrained weights take colour images (3 channels), not {x.shape[-1]}; "
            "load them with --dataset.channels=3"
        )
    if mode == "unit":
        x = x / 255
    elif mode == "standardize":
        deviation = jnp.asarray(std, jnp.float32)
        x = x / 255 if integers else x
        x = (x - jnp.asarray(mean, jnp.float32)) / jnp.where(deviation > 0, deviation, 1)
    elif mode == "symmetric":
        x = x / 127.5 - 1
    elif mode == "torch":
        torch_mean, torch_std = map(jnp.array, MEAN_AND_STD["torch"])
        x = (x / 255 - torch_mean) / torch_std
    elif mode == "caffe":
        x = x[..., ::-1] - jnp.array(_CAFFE_MEAN)
    return x.astype(dtype)
