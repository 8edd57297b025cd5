"""What was done to the pixels of a network in its training, and must be done to them ever after."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.errors import UsageError

Preprocessing = Literal["caffe", "symmetric", "torch"]

# Means over ImageNet's training images, 0..255, in the order blue, green, red (VGG, in Caffe).
_CAFFE_MEAN = (103.939, 116.779, 123.68)
# Mean and standard deviation of the same in red, green, blue, 0..1 (Torch, torchvision).
_TORCH_MEAN = (0.485, 0.456, 0.406)
_TORCH_STD = (0.229, 0.224, 0.225)


def preprocess(images: jax.Array | np.ndarray, name: str) -> jax.Array:
    """Scales images as the named family of networks had them, as Keras' `preprocess_input` does.

    Args:
        images: `[..., height, width, 3]`, red, green, blue, 0 to 255, any real dtype; for
            "symmetric" of any number of channels.
        name: "caffe": red, green, blue become blue, green, red and ImageNet's means are
            subtracted, without scaling (Keras' VGG and ResNet); "symmetric": [-1, 1]
            (InceptionV3, GoogLeNet, and the study guide's own scaling); "torch": [0, 1], less
            ImageNet's mean, over its standard deviation (DenseNet, and the rest of torchvision).

    Returns:
        float32 images of the same shape.

    Raises:
        UsageError: the name is unknown, or the images do not have the three channels it needs.
    """
    if name not in get_args(Preprocessing):
        known = ", ".join(get_args(Preprocessing))
        raise UsageError(f"the preprocessing is one of {known}, not {name!r}")
    if name != "symmetric" and images.shape[-1] != 3:
        raise UsageError(
            f"pretrained weights take colour images (3 channels), not {images.shape[-1]}; "
            "convert the images to RGB"
        )
    x = jnp.asarray(images, jnp.float32)
    if name == "symmetric":
        return x / 127.5 - 1
    if name == "torch":
        return (x / 255 - jnp.array(_TORCH_MEAN)) / jnp.array(_TORCH_STD)
    return x[..., ::-1] - jnp.array(_CAFFE_MEAN)
