"""LeNet-5 in its modern form: ReLU and max-pooling.

LeCun, Bottou, Bengio & Haffner, "Gradient-Based Learning Applied to Document Recognition" (1998)
had scaled tanh, trainable subsampling, a partial connection table in C3 and an RBF output; filters,
kernel sizes and the 32 x 32 input are the paper's. C5, a convolution of 5 x 5 on a 5 x 5 map, is
the dense layer of 120 units that it equals. At 32 x 32 x 1 it has 61,706 parameters.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import Conv
from cnn_jax.models.classifier import Classifier, DenseHead


class LeNetBackbone(nn.Module):
    """C1 to S4: two valid 5 x 5 convolutions, each with a pool; 32 x 32 images give 5 x 5 x 16.

    Attributes:
        dtype: of the computation.
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
    """Conv 6, pool, Conv 16, pool, Dense 120, Dense 84, logits."""
    return Classifier(LeNetBackbone(dtype), DenseHead(num_outputs, hidden=(120, 84), dtype=dtype))
