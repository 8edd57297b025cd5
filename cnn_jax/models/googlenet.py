"""GoogLeNet (Inception v1): blocks of convolutions of several sizes side by side.

Source: Szegedy et al. 2014, arXiv:1409.4842, table 1, and section 5 for the auxiliary classifiers.

The network is torchvision's, whose weights fit it: batch normalisation follows every convolution,
and the branch that has 5 x 5 convolutions in the paper has 3 x 3.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import ConvBatchNorm, Dense, Dropout, Flatten, GlobalAveragePool, MaxPool
from cnn_jax.models.classifier import Classifier, Stages
from cnn_jax.models.entry import Entry
from cnn_jax.models.heads import PooledHead

EPSILON = 1e-3

# The filters of each block: 1 x 1; 1 x 1, then 3 x 3; 1 x 1, then the second 3 x 3; 1 x 1 after the
# pool.
GOOGLENET_BLOCKS: dict[str, tuple[int, int, int, int, int, int]] = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
# The stages whose output an auxiliary classifier takes.
GOOGLENET_AUXILIARY = ("inception4a", "inception4d")
# {block: the window of the max-pool of stride 2 that ends it}.
_POOLS = {"inception3b": 3, "inception4e": 2}


def _ceil_max_pool(x: jax.Array, window: int, name: str) -> jax.Array:
    """Max-pools at stride 2; the last window may reach over the edge."""
    pads = []
    for size in x.shape[1:3]:
        windows = max(-((window - size) // 2) + 1, 0)
        pads.append((0, max(2 * (windows - 1) + window - size, 0) if windows else 0))
    return MaxPool((window, window), (2, 2), tuple(pads), name=name)(x)


class AdaptiveAveragePool(GlobalAveragePool):
    """The mean over each of size x size regions that cover the map.

    Region i of n positions reaches from floor(i n / size) to ceil((i + 1) n / size).

    Attributes:
        size: the number of regions along the height, and along the width.
    """

    size: int = 1

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, height, width, channels]` to `[batch, size, size, channels]`."""
        rows, columns = (self._regions(n).astype(x.dtype) for n in x.shape[1:3])
        return jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns)

    def _regions(self, n: int) -> jax.Array:
        """Returns the weights of n positions in each region's mean, float `[size, n]`."""
        starts = [i * n // self.size for i in range(self.size)]
        stops = [-(-(i + 1) * n // self.size) for i in range(self.size)]
        place = jnp.arange(n)
        inside = jnp.stack(
            [(start <= place) & (place < stop) for start, stop in zip(starts, stops, strict=True)]
        )
        return inside / jnp.sum(inside, axis=1, keepdims=True)


class GoogLeNetStem(nn.Module):
    """The layers before the first block: an image of 224 x 224 gives 28 x 28 x 192."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to `[batch, height / 8, width / 8, 192]`."""
        conv = functools.partial(ConvBatchNorm, epsilon=EPSILON, dtype=self.dtype)
        x = conv(64, (7, 7), (2, 2), ((3, 3), (3, 3)), name="conv1")(x, train)
        x = _ceil_max_pool(x, 3, "pool1")
        x = conv(64, (1, 1), name="conv2")(x, train)
        x = conv(192, (3, 3), name="conv3")(x, train)
        return _ceil_max_pool(x, 3, "pool2")


class InceptionV1Block(nn.Module):
    """Four branches side by side, and a max-pool after them in some blocks.

    Attributes:
        filters: see `GOOGLENET_BLOCKS`.
        pool: the window of the max-pool; 0: no pool.
        dtype: the dtype of activations.
    """

    filters: tuple[int, int, int, int, int, int]
    pool: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to the concatenated channels of the branches."""
        conv = functools.partial(ConvBatchNorm, epsilon=EPSILON, dtype=self.dtype)
        one, reduce3, three, reduce5, five, projection = self.filters
        branch1 = conv(one, (1, 1), name="branch1")(x, train)
        branch2 = conv(reduce3, (1, 1), name="branch2_reduce")(x, train)
        branch2 = conv(three, (3, 3), name="branch2")(branch2, train)
        branch3 = conv(reduce5, (1, 1), name="branch3_reduce")(x, train)
        branch3 = conv(five, (3, 3), name="branch3")(branch3, train)
        branch4 = MaxPool((3, 3), (1, 1), "SAME", name="branch4_pool")(x)
        branch4 = conv(projection, (1, 1), name="branch4")(branch4, train)
        x = jnp.concatenate([branch1, branch2, branch3, branch4], axis=-1)
        return _ceil_max_pool(x, self.pool, "pool") if self.pool else x


class GoogLeNet(Stages):
    """The stem and nine blocks: an image of 224 x 224 gives a feature map of 7 x 7 x 1024.

    Attributes:
        dtype: the dtype of activations.
    """

    dtype: Any = jnp.float32

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stem and the blocks, in order."""
        return ("stem", *GOOGLENET_BLOCKS)

    def stage(self, name: str) -> nn.Module:
        """Returns the stem or a block."""
        if name == "stem":
            return GoogLeNetStem(self.dtype, name=name)
        pool = _POOLS.get(name, 0)
        return InceptionV1Block(GOOGLENET_BLOCKS[name], pool, self.dtype, name=name)


class AuxiliaryHead(nn.Module):
    """A classifier in the middle of GoogLeNet, whose gradient reaches the first layers directly.

    Attributes:
        num_outputs: the number of logits for an image.
        dropout_rate: the share of the hidden units that is dropped in training; 0.7 in the paper.
        dtype: the dtype of the hidden layers.
    """

    num_outputs: int
    dropout_rate: float = 0.7
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_outputs]`."""
        x = AdaptiveAveragePool(4, name="pool")(features)
        x = ConvBatchNorm(128, (1, 1), epsilon=EPSILON, dtype=self.dtype, name="conv")(x, train)
        x = Flatten(name="flatten")(x)
        x = Dense(1024, activation="relu", dtype=self.dtype, name="fc1")(x)
        x = Dropout(self.dropout_rate, name="dropout")(x, deterministic=not train)
        return Dense(self.num_outputs, name="logits")(x)


def googlenet(
    num_outputs: int,
    dtype: Any = jnp.float32,
    dropout_rate: float = 0.4,
    auxiliary: bool = True,
) -> Classifier:
    """Returns nine blocks, average pooling, dropout and logits, and two auxiliary classifiers."""
    heads = {name: AuxiliaryHead(num_outputs, dtype=dtype) for name in GOOGLENET_AUXILIARY}
    return Classifier(
        GoogLeNet(dtype),
        PooledHead(num_outputs, dropout_rate=dropout_rate, dtype=dtype),
        heads if auxiliary else {},
    )


ENTRIES = {
    "googlenet": Entry(
        builder=googlenet,
        input_shape=(224, 224, 3),
        smallest=(15, 15),
        source="Szegedy et al. 2014, with batch normalisation",
        outputs=1000,
        parameters=6_624_904,
        flops=2_996_752_384,
        options={"dropout_rate": 0.4, "auxiliary": True},
    ),
}
