"""The small CNN of TensorFlow's tutorial "Convolutional Neural Network (CNN)", for 28 x 28 digits.

At 28 x 28 x 1 it has 93,322 parameters.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import Conv
from cnn_jax.models.classifier import Classifier, DenseHead
from cnn_jax.models.entry import Entry


class MnistBackbone(nn.Module):
    """Three valid 3 x 3 convolutions with ReLU and two pools; 28 x 28 images give 3 x 3 x 64.

    Attributes:
        dtype: the dtype of activations.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images `[batch, height, width, channels]` to a feature map."""
        del train
        relu: Any = {"activation": "relu", "dtype": self.dtype}
        x = Conv(32, (3, 3), pool=(2, 2), name="conv1", **relu)(x)
        x = Conv(64, (3, 3), pool=(2, 2), name="conv2", **relu)(x)
        return Conv(64, (3, 3), name="conv3", **relu)(x)


def mnist_cnn(num_outputs: int, dtype: Any = jnp.float32) -> Classifier:
    """Returns Conv 32, pool, Conv 64, pool, Conv 64, Dense 64, and logits."""
    return Classifier(MnistBackbone(dtype), DenseHead(num_outputs, hidden=(64,), dtype=dtype))


ENTRIES = {
    "mnist_cnn": Entry(
        builder=mnist_cnn,
        input_shape=(28, 28, 1),
        smallest=(18, 18),
        source="TensorFlow's CNN tutorial",
        outputs=10,
        parameters=93_322,
        flops=4_814_336,
    ),
}
