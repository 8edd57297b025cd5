"""AlexNet in one tower.

Source: Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep Convolutional
Neural Networks", figure 2; filters of the single-GPU form in Krizhevsky 2014, arXiv:1404.5997
("one weird trick", footnote 1), as torchvision has it: 61,100,840 parameters at 224 x 224 x 3 and
1,000 classes. The paper's two towers have 96, 256, 384, 384 and 256 filters with half of the
connections in three layers, and its local response normalisation is an option here.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import Conv, Dense, Dropout, Flatten, MaxPool
from cnn_jax.models.classifier import Classifier, Stages

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

    Section 3.3 of the paper, with its constants: the sum goes over `size` channels, and is not
    divided by their number.

    Args:
        x: `[batch, height, width, channels]`.
        size: how many neighbouring channels are summed over, the value's own in the middle.
        k: see above.
        alpha: see above.
        beta: see above.
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
        dtype: of the computation.
    """

    local_response_norm: bool = False
    dtype: Any = jnp.float32

    @property
    def stage_names(self) -> tuple[str, ...]:
        """In the order in which an image passes them."""
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
    """Two dense layers of 4096 units with ReLU, each with dropout before it, then the logits.

    Attributes:
        num_outputs: logits for an image.
        dropout_rate: share of units dropped while training; 0.5 in the paper.
        dtype: of the computation.
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
    """Five convolutions, three pools, Dense 4096 twice, logits."""
    return Classifier(
        AlexNet(local_response_norm, dtype), AlexNetHead(num_outputs, dropout_rate, dtype)
    )
