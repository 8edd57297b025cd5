"""What every model is: a backbone that makes features, and a head that makes logits of them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import Dense, Flatten


class Classifier(nn.Module):
    """An image classifier with parameters `{"backbone": ..., "head": ...}`.

    The two halves can be run apart, so that a frozen backbone's features are computed once.

    Attributes:
        backbone: called with (images, train), gives the features.
        head: called with (features, train), gives the logits.
    """

    backbone: nn.Module
    head: nn.Module

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps float images `[batch, height, width, channels]` to logits `[batch, outputs]`.

        Args:
            images: scaled as the data set or the weights demand.
            train: True turns dropout on (needs a "dropout" key) and lets batch statistics move.
        """
        return self.forward_head(self.forward_features(images, train), train)

    def forward_features(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps images to the features, in the dtype of the model's computation.

        They are `[batch, height, width, channels]`, or `[batch, units]` of a dense backbone.
        """
        return self.backbone(images, train)

    def forward_head(self, features: jax.Array, train: bool = False) -> jax.Array:
        """Maps features to float32 logits `[batch, outputs]`."""
        return self.head(features, train).astype(jnp.float32)


class DenseHead(nn.Module):
    """Flatten, dense layers with ReLU, and a dense layer to the logits.

    Attributes:
        num_outputs: logits.
        hidden: units of each layer with ReLU.
        dtype: of the hidden layers. The logits are computed in float32, since the loss takes
            exponentials of them.
    """

    num_outputs: int
    hidden: tuple[int, ...] = ()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, ...]` to logits `[batch, num_outputs]`."""
        del train
        x = Flatten(name="flatten")(features) if features.ndim > 2 else features
        for number, units in enumerate(self.hidden, start=1):
            x = Dense(units, activation="relu", dtype=self.dtype, name=f"dense{number}")(x)
        return Dense(self.num_outputs, name="logits")(x)
