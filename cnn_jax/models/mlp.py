"""The dense baseline that the study guides hold convolutional networks against.

It sees pixels without their places: a permutation of the pixels would train as well. Two hidden
layers of 512 and 256 units give it 1,707,274 parameters at 32 x 32 x 3, thirty times the study
CNN's. The sizes are a choice of this project; the guides give none.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import Dense, Dropout, Flatten
from cnn_jax.models.classifier import Classifier, DenseHead


class MlpBackbone(nn.Module):
    """Flatten, then dense layers with ReLU, each followed by dropout.

    Attributes:
        hidden: units of each layer.
        dropout_rate: share of units dropped while training.
        dtype: of the computation.
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
    """Dense 512, Dense 256, logits, with dropout after each hidden layer."""
    return Classifier(
        MlpBackbone(dropout_rate=dropout_rate, dtype=dtype), DenseHead(num_outputs, dtype=dtype)
    )
