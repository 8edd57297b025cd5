"""Inception v3: blocks of factorised convolutions side by side.

Source: Szegedy et al. 2015, arXiv:1512.00567, table 1 and figures 5 to 10.

The network is Keras Applications': it has no auxiliary classifier, and its normalisation has no
scale.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import AvgPool, ConvBatchNorm, MaxPool
from cnn_jax.models.classifier import Classifier, Stages
from cnn_jax.models.entry import Entry
from cnn_jax.models.heads import PooledHead

EPSILON = 1e-3

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
        """Maps images `[batch, height, width, channels]` to a feature map with 192 channels."""
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
    """Returns the convolutions of each branch; the branch "pool" pools before them."""
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
        filters: the number of filters of the pool's branch for "a", and of the first convolutions
            of the 7 x 7 branches for "b".
        dtype: the dtype of activations.
    """

    kind: str
    filters: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to the concatenated channels of the branches."""
        conv = functools.partial(ConvBatchNorm, use_scale=False, epsilon=EPSILON, dtype=self.dtype)
        pooled = AvgPool((3, 3), (1, 1), "SAME", name="branch_pool")
        if self.kind != "c":
            branches = _v3_branches(self.kind, self.filters)
            outputs = [
                _branch(conv, name, layers, pooled(x) if name == "pool" else x, train)
                for name, layers in branches.items()
            ]
            return jnp.concatenate(outputs, axis=-1)
        # Two branches end in a fork: 1 x 3 and 3 x 1 take the same input.
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
        first: True for the reduction after the blocks of kind "a", False for the one after "b".
        dtype: the dtype of activations.
    """

    first: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to a map of half the height and width."""
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
        dtype: the dtype of activations.
    """

    dtype: Any = jnp.float32

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stem and the blocks, with Keras' numbers."""
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
    """Returns eleven blocks, global average pooling, dropout and logits."""
    return Classifier(
        InceptionV3(dtype), PooledHead(num_outputs, dropout_rate=dropout_rate, dtype=dtype)
    )


ENTRIES = {
    "inception_v3": Entry(
        builder=inception_v3,
        input_shape=(299, 299, 3),
        smallest=(75, 75),
        source="Szegedy et al. 2015",
        outputs=1000,
        parameters=23_817_352,
        flops=11_426_432_192,
        options={"dropout_rate": 0.0},
        published="ImageNet 78.8 %",
    ),
}
