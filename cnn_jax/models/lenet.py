"""LeNet-5 in its modern form: ReLU and max-pooling.

Source: LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document
Recognition". Filters, kernel sizes and the 32 x 32 input are the paper's. The paper also has scaled
tanh, trainable subsampling, a partial connection table in C3 and an RBF output. C5, a convolution
of 5 x 5 on a 5 x 5 map, equals a dense layer of 120 units and is one here. At 32 x 32 x 1 the
network has 61,706 parameters.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import Conv
from cnn_jax.models.classifier import Classifier, DenseHead
from cnn_jax.models.entry import Entry


class LeNetBackbone(nn.Module):
    """C1 to S4: two valid 5 x 5 convolutions, each with a pool; 32 x 32 images give 5 x 5 x 16.

    Attributes:
        dtype: the dtype of activations.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images `[batch, height, width, channels]` to a feature map."""
        del train
        relu: Any = {"activation": "relu", "dtype": self.dtype}
        x = Conv(6, (5, 5), pool=(2, 2), name="conv1", **relu)(x)
        return Conv(16, (5, 5), pool=(2, 2), name="conv2", **relu)(x)


def lenet5(num_outputs: int, dtype: Any = jnp.float32) -> Classifier:
    """Returns Conv 6, pool, Conv 16, pool, Dense 120, Dense 84, and logits."""
    return Classifier(LeNetBackbone(dtype), DenseHead(num_outputs, hidden=(120, 84), dtype=dtype))


ENTRIES = {
    "lenet5": Entry(
        builder=lenet5,
        input_shape=(32, 32, 1),
        smallest=(16, 16),
        source="LeCun et al. 1998, with ReLU and max-pooling",
        outputs=10,
        parameters=61_706,
        flops=833_040,
        published="MNIST 99.05 %",
    ),
}
