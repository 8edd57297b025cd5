"""The dense baseline with which the study guides compare convolutional networks.

It does not know where a pixel is: with permuted pixels it would train as well. With hidden layers
of 512 and 256 units it has 1,707,274 parameters at 32 x 32 x 3, thirty times as many as the study
CNN. This project chose the sizes; the guides name none.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import Dense, Dropout, Flatten
from cnn_jax.models.classifier import Classifier, DenseHead
from cnn_jax.models.entry import Entry


class MlpBackbone(nn.Module):
    """Flatten, then dense layers with ReLU, each followed by dropout.

    Attributes:
        hidden: the number of units of each layer.
        dropout_rate: the share of units that is dropped in training.
        dtype: the dtype of activations.
    """

    hidden: tuple[int, ...] = (512, 256)
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images `[batch, height, width, channels]` to features `[batch, hidden[-1]]`."""
        x = Flatten(name="flatten")(x)
        for number, units in enumerate(self.hidden, start=1):
            x = Dense(units, activation="relu", dtype=self.dtype, name=f"dense{number}")(x)
            x = Dropout(self.dropout_rate, name=f"dropout{number}")(x, deterministic=not train)
        return x


def mlp(num_outputs: int, dtype: Any = jnp.float32, dropout_rate: float = 0.0) -> Classifier:
    """Returns Dense 512, Dense 256 and logits, with dropout after each hidden layer."""
    return Classifier(
        MlpBackbone(dropout_rate=dropout_rate, dtype=dtype), DenseHead(num_outputs, dtype=dtype)
    )


ENTRIES = {
    "mlp": Entry(
        builder=mlp,
        input_shape=(32, 32, 3),
        smallest=(1, 1),
        source="the guides' dense baseline",
        outputs=10,
        parameters=1_707_274,
        flops=3_412_992,
        options={"dropout_rate": 0.0},
    ),
}
