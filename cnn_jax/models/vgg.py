"""VGG: blocks of 3 x 3 convolutions, each with a 2 x 2 max-pool after it.

Source: Simonyan and Zisserman 2014, arXiv:1409.1556; configurations A (11 layers with weights),
B (13), D (16) and E (19). The parameters have the names of Keras Applications, grouped by block, so
that `block[1-4]` selects the first four; `pretrained` knows where their ImageNet weights are.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import Conv, Dense, Dropout, Flatten
from cnn_jax.models.classifier import Classifier

# Convolutions in each block; every convolution of a block has the filters of FILTERS.
STAGES: dict[str, tuple[int, ...]] = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
FILTERS = (64, 128, 256, 512, 512)


class VGGBlock(nn.Module):
    """Convolutions with ReLU that keep height and width, then a max-pool that halves them."""

    filters: int
    convolutions: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height // 2, width // 2, filters]`."""
        for number in range(1, self.convolutions + 1):
            x = Conv(
                self.filters,
                (3, 3),
                padding="SAME",
                activation="relu",
                pool=(2, 2) if number == self.convolutions else None,
                dtype=self.dtype,
                name=f"conv{number}",
            )(x)
        return x


class VGG(nn.Module):
    """The five blocks: an image of 224 x 224 gives a feature map of 7 x 7 x 512.

    Attributes:
        stages: convolutions in each block.
        dtype: of the computation.
    """

    stages: tuple[int, ...]
    dtype: Any = jnp.float32

    stage_names = ("block1", "block2", "block3", "block4", "block5")

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, start: int = 0, stop: int | None = None
    ) -> jax.Array:
        """Maps images `[batch, height, width, 3]` to `[batch, height // 32, width // 32, 512]`.

        Args:
            x: images, or the output of the stage before `start`.
            train: has no effect: nothing here differs in training.
            start: the first block to run.
            stop: the block to stop before; None: all.
        """
        del train
        blocks = list(zip(FILTERS, self.stages, strict=True))
        for number in range(start, len(blocks) if stop is None else stop):
            filters, convolutions = blocks[number]
            name = self.stage_names[number]
            x = VGGBlock(filters, convolutions, self.dtype, name=name)(x)
        return x


class VGGHead(nn.Module):
    """The original top: two dense layers of 4096 units with ReLU and dropout, then the logits.

    Keras' VGG has no dropout; in evaluation the two are the same function.

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
            x = Dense(4096, activation="relu", dtype=self.dtype, name=f"fc{number}")(x)
            x = Dropout(self.dropout_rate, name=f"dropout{number}")(x, deterministic=not train)
        return Dense(self.num_outputs, name="predictions")(x)  # float32, as in every head


def _vgg(
    name: str, num_outputs: int, dtype: Any = jnp.float32, dropout_rate: float = 0.5
) -> Classifier:
    return Classifier(
        VGG(STAGES[name], dtype), VGGHead(num_outputs, dropout_rate=dropout_rate, dtype=dtype)
    )


vgg11, vgg13, vgg16, vgg19 = (functools.partial(_vgg, name) for name in STAGES)
