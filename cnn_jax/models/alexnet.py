"""AlexNet in one tower.

Source: Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep Convolutional
Neural Networks", figure 2. The numbers of filters are those of the single-GPU form in Krizhevsky
2014, arXiv:1404.5997 ("one weird trick", footnote 1), and of torchvision: 61,100,840 parameters at
224 x 224 x 3 and 1,000 classes. The paper's two towers have 96, 256, 384, 384 and 256 filters and
half of the connections in three layers. Its local response normalisation is an option here.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import Conv, Dense, Dropout, Flatten, MaxPool
from cnn_jax.models.classifier import Classifier, Stages
from cnn_jax.models.entry import Entry

# (filters, kernel size, stride, padding, whether a pool follows) of each convolution.
CONVOLUTIONS = (
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)


def local_response_norm(
    x: jax.Array, size: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75
) -> jax.Array:
    """Divides each value by (k + alpha * sum of the squares of its neighbours in channels) ** beta.

    The formula and its constants are those of section 3.3 of the paper: the sum goes over `size`
    channels, and is not divided by their number.

    Args:
        x: `[batch, height, width, channels]`.
        size: the number of neighbouring channels in the sum, with the value's own in the middle.
        k: see above.
        alpha: see above.
        beta: see above.

    Returns:
        An array with the shape and dtype of x.
    """
    squares = jnp.square(x.astype(jnp.float32))
    before = size // 2
    window = (1, 1, 1, size)
    padding = ((0, 0), (0, 0), (0, 0), (before, size - 1 - before))
    sums = jax.lax.reduce_window(squares, 0.0, jax.lax.add, window, (1, 1, 1, 1), padding)
    return (x * (k + alpha * sums) ** -beta).astype(x.dtype)


class AlexNetBlock(nn.Module):
    """One convolution with ReLU, then perhaps normalisation and a 3 x 3 max-pool of stride 2."""

    filters: int
    kernel: int
    stride: int
    padding: int
    pool: bool
    normalise: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height', width', filters]`."""
        del train
        x = Conv(
            self.filters,
            (self.kernel, self.kernel),
            (self.stride, self.stride),
            ((self.padding, self.padding),) * 2,
            activation="relu",
            dtype=self.dtype,
            name="conv",
        )(x)
        if self.normalise:
            x = local_response_norm(x)
        return MaxPool((3, 3), (2, 2), name="pool")(x) if self.pool else x


class AlexNet(Stages):
    """The five convolutions: an image of 224 x 224 gives a feature map of 6 x 6 x 256.

    Attributes:
        local_response_norm: whether the first two blocks normalise across channels, as in 2012.
        dtype: the dtype of activations.
    """

    local_response_norm: bool = False
    dtype: Any = jnp.float32

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The blocks, in order."""
        return ("block1", "block2", "block3", "block4", "block5")

    def stage(self, name: str) -> nn.Module:
        """Returns a block."""
        number = self.stage_names.index(name)
        return AlexNetBlock(
            *CONVOLUTIONS[number],
            normalise=self.local_response_norm and number < 2,
            dtype=self.dtype,
            name=name,
        )


class AlexNetHead(nn.Module):
    """Two dense layers of 4096 units with ReLU, each after dropout, then the logits.

    Attributes:
        num_outputs: the number of logits for an image.
        dropout_rate: the share of units that is dropped in training; 0.5 in the paper.
        dtype: the dtype of the hidden layers.
    """

    num_outputs: int
    dropout_rate: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False) -> jax.Array:
        """Maps features `[batch, height, width, channels]` to logits `[batch, num_outputs]`."""
        x = Flatten(name="flatten")(features)
        for number in (1, 2):
            x = Dropout(self.dropout_rate, name=f"dropout{number}")(x, deterministic=not train)
            x = Dense(4096, activation="relu", dtype=self.dtype, name=f"fc{number}")(x)
        return Dense(self.num_outputs, name="logits")(x)  # float32, as in every head


def alexnet(
    num_outputs: int,
    dtype: Any = jnp.float32,
    dropout_rate: float = 0.5,
    local_response_norm: bool = False,
) -> Classifier:
    """Returns five convolutions, three pools, Dense 4096 twice, and logits."""
    return Classifier(
        AlexNet(local_response_norm, dtype), AlexNetHead(num_outputs, dropout_rate, dtype)
    )


ENTRIES = {
    "alexnet": Entry(
        builder=alexnet,
        input_shape=(224, 224, 3),
        smallest=(63, 63),
        source="Krizhevsky et al. 2012, one tower",
        outputs=1000,
        parameters=61_100_840,
        flops=1_428_376_960,
        options={"dropout_rate": 0.5, "local_response_norm": False},
        published="ImageNet 59.3 % (two towers)",
    ),
}
