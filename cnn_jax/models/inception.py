"""GoogLeNet (Inception v1) and Inception v3: blocks that look at several scales side by side.

Sources: Szegedy et al. 2014, arXiv:1409.4842, table 1 and section 5 (GoogLeNet and its auxiliary
classifiers); Szegedy et al. 2015, arXiv:1512.00567, table 1 and figures 5 to 10 (v3).

GoogLeNet is here as torchvision has it and as its weights are: every convolution is followed by
batch normalisation, and the branch that the paper gives 5 x 5 convolutions has 3 x 3. Inception v3
is Keras Applications': no auxiliary classifier, and normalisation without a scale.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import AvgPool, ConvBatchNorm, Dense, Dropout, Flatten, MaxPool
from cnn_jax.models.classifier import Classifier, Stages
from cnn_jax.models.heads import PooledHead

EPSILON = 1e-3

# Filters of each block: 1 x 1; 1 x 1 then 3 x 3; 1 x 1 then the second 3 x 3; 1 x 1 after the pool.
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
# The auxiliary classifiers stand behind these.
GOOGLENET_AUXILIARY = ("inception4a", "inception4d")
# Behind these stands a max-pool: (window, stride).
_GOOGLENET_POOLS = {"inception3b": 3, "inception4e": 2}


def _ceil_max_pool(x: jax.Array, window: int, name: str) -> jax.Array:
    """Max-pools at stride 2, with a last window that may reach over the edge."""
    pads = []
    for size in x.shape[1:3]:
        windows = max(-((window - size) // 2) + 1, 0)
        pads.append((0, max(2 * (windows - 1) + window - size, 0) if windows else 0))
    return MaxPool((window, window), (2, 2), tuple(pads), name=name)(x)


def _adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """Averages `[batch, height, width, channels]` over size x size regions that cover the map.

    Region i of n positions reaches from floor(i n / size) to ceil((i + 1) n / size).
    """

    def regions(n: int) -> jax.Array:
        starts = [i * n // size for i in range(size)]
        stops = [-(-(i + 1) * n // size) for i in range(size)]
        place = jnp.arange(n)
        inside = jnp.stack(
            [(start <= place) & (place < stop) for start, stop in zip(starts, stops, strict=True)]
        )
        return inside / jnp.sum(inside, axis=1, keepdims=True)

    rows, columns = regions(x.shape[1]).astype(x.dtype), regions(x.shape[2]).astype(x.dtype)
    return jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns)


class GoogLeNetStem(nn.Module):
    """The layers before the first block: an image of 224 x 224 gives 28 x 28 x 192."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images to a feature map."""
        conv = functools.partial(ConvBatchNorm, epsilon=EPSILON, dtype=self.dtype)
        x = conv(64, (7, 7), (2, 2), ((3, 3), (3, 3)), name="conv1")(x, train)
        x = _ceil_max_pool(x, 3, "pool1")
        x = conv(64, (1, 1), name="conv2")(x, train)
        x = conv(192, (3, 3), name="conv3")(x, train)
        return _ceil_max_pool(x, 3, "pool2")


class InceptionV1Block(nn.Module):
    """Four branches side by side, and perhaps a max-pool behind them.

    Attributes:
        filters: see `GOOGLENET_BLOCKS`.
        pool: the window of the max-pool, or 0.
        dtype: of the computation.
    """

    filters: tuple[int, int, int, int, int, int]
    pool: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to the branches' channels side by side."""
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
        dtype: of the computation.
    """

    dtype: Any = jnp.float32

    @property
    def stage_names(self) -> tuple[str, ...]:
        """In the order in which an image passes them."""
        return ("stem", *GOOGLENET_BLOCKS)

    def stage(self, name: str) -> nn.Module:
        """Returns the stem or a block."""
        if name == "stem":
            return GoogLeNetStem(self.dtype, name=name)
        pool = _GOOGLENET_POOLS.get(name, 0)
        return InceptionV1Block(GOOGLENET_BLOCKS[name], pool, self.dtype, name=name)


class AuxiliaryHead(nn.Module):
    """A classifier in the middle of GoogLeNet, which brings the gradient nearer to its start.

    Attributes:
        num_outputs: logits for an image.
        dropout_rate: share of the hidden units dropped while training; 0.7 in the paper.
        dtype: of the computation.
    """

    num_outputs: int
    dropout_rate: float = 0.7
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_outputs]`."""
        x = _adaptive_average_pool(features, 4)
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
    """Nine blocks, global average pooling, dropout, logits; two more classifiers in training."""
    heads = {name: AuxiliaryHead(num_outputs, dtype=dtype) for name in GOOGLENET_AUXILIARY}
    return Classifier(
        GoogLeNet(dtype),
        PooledHead(num_outputs, dropout_rate=dropout_rate, dtype=dtype),
        heads if auxiliary else {},
    )


_Conv = Callable[..., Callable[[jax.Array, bool], jax.Array]]


def _branch(
    conv: _Conv, name: str, layers: Sequence[tuple[int, tuple[int, int]]], x: jax.Array, train: bool
) -> jax.Array:
    """Runs convolutions of (filters, kernel size) one after another, as NAME_1, NAME_2, ..."""
    for number, (filters, kernel) in enumerate(layers, start=1):
        x = conv(filters, kernel, name=f"{name}_{number}")(x, train)
    return x


class InceptionV3Stem(nn.Module):
    """The layers before the first block: an image of 299 x 299 gives 35 x 35 x 192."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images to a feature map."""
        conv = functools.partial(
            ConvBatchNorm, use_scale=False, epsilon=EPSILON, padding="VALID", dtype=self.dtype
        )
        x = conv(32, (3, 3), (2, 2), name="conv1")(x, train)
        x = conv(32, (3, 3), name="conv2")(x, train)
        x = conv(64, (3, 3), padding="SAME", name="conv3")(x, train)
        x = MaxPool((3, 3), (2, 2), name="pool1")(x)
        x = conv(80, (1, 1), name="conv4")(x, train)
        x = conv(192, (3, 3), name="conv5")(x, train)
        return MaxPool((3, 3), (2, 2), name="pool2")(x)


def _v3_branches(kind: str, filters: int) -> dict[str, list[tuple[int, tuple[int, int]]]]:
    """Returns the convolutions of each branch; the one called "pool" pools first."""
    square, row, column = (3, 3), (1, 7), (7, 1)
    return {
        "a": {  # figure 5
            "branch1": [(64, (1, 1))],
            "branch5": [(48, (1, 1)), (64, (5, 5))],
            "branch3": [(64, (1, 1)), (96, square), (96, square)],
            "pool": [(filters, (1, 1))],
        },
        "b": {  # figure 6, with n = 7
            "branch1": [(192, (1, 1))],
            "branch7": [(filters, (1, 1)), (filters, row), (192, column)],
            "branch7x2": [
                (filters, (1, 1)),
                (filters, column),
                (filters, row),
                (filters, column),
                (192, row),
            ],
            "pool": [(192, (1, 1))],
        },
    }[kind]


class InceptionV3Block(nn.Module):
    """Branches side by side that keep height and width.

    Attributes:
        kind: "a" for figure 5, "b" for figure 6, "c" for figure 7 of the paper.
        filters: of the pool's branch for "a", inside the 7 x 7 branches for "b".
        dtype: of the computation.
    """

    kind: str
    filters: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to the branches' channels side by side."""
        conv = functools.partial(ConvBatchNorm, use_scale=False, epsilon=EPSILON, dtype=self.dtype)
        pooled = AvgPool((3, 3), (1, 1), "SAME", name="branch_pool")
        if self.kind != "c":
            branches = _v3_branches(self.kind, self.filters)
            outputs = [
                _branch(conv, name, layers, pooled(x) if name == "pool" else x, train)
                for name, layers in branches.items()
            ]
            return jnp.concatenate(outputs, axis=-1)
        # Two branches end in a fork: 1 x 3 and 3 x 1 of the same input.
        branch1 = conv(320, (1, 1), name="branch1_1")(x, train)
        fork1 = conv(384, (1, 1), name="fork1_1")(x, train)
        fork1 = [
            conv(384, (1, 3), name="fork1_2a")(fork1, train),
            conv(384, (3, 1), name="fork1_2b")(fork1, train),
        ]
        fork2 = conv(448, (1, 1), name="fork2_1")(x, train)
        fork2 = conv(384, (3, 3), name="fork2_2")(fork2, train)
        fork2 = [
            conv(384, (1, 3), name="fork2_3a")(fork2, train),
            conv(384, (3, 1), name="fork2_3b")(fork2, train),
        ]
        pool = conv(192, (1, 1), name="pool_1")(pooled(x), train)
        return jnp.concatenate([branch1, *fork1, *fork2, pool], axis=-1)


class InceptionV3Reduction(nn.Module):
    """Branches side by side that halve height and width: figure 10 of the paper.

    Attributes:
        first: True for the one behind the blocks of kind "a".
        dtype: of the computation.
    """

    first: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to half of height and width."""
        conv = functools.partial(ConvBatchNorm, use_scale=False, epsilon=EPSILON, dtype=self.dtype)
        last = functools.partial(conv, strides=(2, 2), padding="VALID")
        if self.first:
            branch3 = last(384, (3, 3), name="branch3_1")(x, train)
            double = _branch(conv, "double", [(64, (1, 1)), (96, (3, 3))], x, train)
            double = last(96, (3, 3), name="double_3")(double, train)
            outputs = [branch3, double]
        else:
            branch3 = conv(192, (1, 1), name="branch3_1")(x, train)
            branch3 = last(320, (3, 3), name="branch3_2")(branch3, train)
            branch7 = _branch(
                conv, "branch7", [(192, (1, 1)), (192, (1, 7)), (192, (7, 1))], x, train
            )
            branch7 = last(192, (3, 3), name="branch7_4")(branch7, train)
            outputs = [branch3, branch7]
        pool = MaxPool((3, 3), (2, 2), name="branch_pool")(x)
        return jnp.concatenate([*outputs, pool], axis=-1)


class InceptionV3(Stages):
    """The stem and eleven blocks: an image of 299 x 299 gives a feature map of 8 x 8 x 2048.

    Attributes:
        dtype: of the computation.
    """

    dtype: Any = jnp.float32

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stem and the blocks as Keras numbers them."""
        return ("stem", *(f"mixed{number}" for number in range(11)))

    def stage(self, name: str) -> nn.Module:
        """Returns the stem or a block."""
        if name == "stem":
            return InceptionV3Stem(self.dtype, name=name)
        number = int(name.removeprefix("mixed"))
        if number in (3, 8):
            return InceptionV3Reduction(number == 3, self.dtype, name=name)
        if number < 3:
            return InceptionV3Block("a", 32 if number == 0 else 64, self.dtype, name=name)
        if number < 8:
            filters = {4: 128, 5: 160, 6: 160, 7: 192}[number]
            return InceptionV3Block("b", filters, self.dtype, name=name)
        return InceptionV3Block("c", dtype=self.dtype, name=name)


def inception_v3(
    num_outputs: int, dtype: Any = jnp.float32, dropout_rate: float = 0.0
) -> Classifier:
    """Eleven blocks, global average pooling, logits."""
    return Classifier(
        InceptionV3(dtype), PooledHead(num_outputs, dropout_rate=dropout_rate, dtype=dtype)
    )
