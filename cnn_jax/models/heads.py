"""Heads for feature maps of any size: the transfer heads of the study guides."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.errors import UsageError
from cnn_jax.layers import Dense, Dropout, GlobalAveragePool


class PooledHead(nn.Module):
    """Global average pooling, dropout, hidden dense layers with ReLU, logits.

    Source: the transfer study guides. One has pooling, dropout 0.2 and one logit (cats and dogs),
    the other has pooling, Dense 128 with ReLU and ten classes.

    Attributes:
        num_outputs: the number of logits for an image.
        hidden: the number of units of each dense layer before the logits.
        dropout_rate: the share of the pooled features that is dropped in training.
        dtype: the dtype of the hidden layers.
    """

    num_outputs: int
    hidden: tuple[int, ...] = ()
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_outputs]`.

        Raises:
            UsageError: the features have no height and width, like those of a dense backbone.
        """
        if features.ndim != 4:
            raise UsageError(
                "--model.head=pooled needs a backbone whose output is a feature map; "
                "leave it out for a model of dense layers"
            )
        x = GlobalAveragePool(name="pool")(features)
        x = Dropout(self.dropout_rate, name="dropout")(x, deterministic=not train)
        for number, units in enumerate(self.hidden, start=1):
            x = Dense(units, activation="relu", dtype=self.dtype, name=f"dense{number}")(x)
        return Dense(self.num_outputs, name="logits")(x)  # float32, as in every head


# {name of a head: (its hidden layers, its default dropout rate)}.
HEADS: dict[str, tuple[tuple[int, ...], float]] = {
    "pooled": ((), 0.2),
    "pooled_dense128": ((128,), 0.0),
}


def create(
    name: str, num_outputs: int, *, dropout_rate: float | None = None, dtype: Any = jnp.float32
) -> PooledHead:
    """Returns a named head, without parameters yet.

    Args:
        name: a key of `HEADS`.
        num_outputs: the number of logits for an image.
        dropout_rate: the share of the pooled features that is dropped; None: the study guide's.
        dtype: the dtype of the hidden layers.

    Raises:
        UsageError: no head has this name.
    """
    if name not in HEADS:
        raise UsageError(f"the head is one of default, {', '.join(HEADS)}, not {name!r}")
    hidden, own_rate = HEADS[name]
    rate = own_rate if dropout_rate is None else dropout_rate
    return PooledHead(num_outputs, hidden=hidden, dropout_rate=rate, dtype=dtype)
