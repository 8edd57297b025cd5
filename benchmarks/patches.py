"""A network that takes so little time that reading its images is what a benchmark measures."""

from typing import Any

import flax.linen as nn
import jax

import cnn_jax


@cnn_jax.register_model("patches", input_shape=(224, 224, 3))
def patches(num_outputs: int, dtype: Any) -> nn.Module:
    """Returns the network for a number of classes."""
    del dtype  # it computes in float32 alone
    return Patches(num_outputs)


class Patches(nn.Module):
    """Pieces of 16 x 16 pixels that do not overlap, their mean features, and a dense layer."""

    num_outputs: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images [batch, height, width, 3] to logits [batch, num_outputs]."""
        x = nn.relu(nn.Conv(32, (16, 16), strides=16, name="pieces")(x))
        return nn.Dense(self.num_outputs, name="logits")(x.mean(axis=(1, 2)))
