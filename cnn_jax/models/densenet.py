"""DenseNet: every layer takes the outputs of all layers before it in its block.

Source: Huang, Liu, van der Maaten and Weinberger 2016, arXiv:1608.06993; table 1 for ImageNet (121,
169, 201 layers, growth rate 32) and section 4 for CIFAR-10: DenseNet-BC with 100 layers and growth
rate 12. All of them have the BC form: a 1 x 1 bottleneck before each 3 x 3 convolution, and
transitions that halve the number of channels.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import AvgPool, BatchNorm, Conv, ConvBatchNorm, Dropout, MaxPool, he_normal
from cnn_jax.models.classifier import Classifier, Stages
from cnn_jax.models.entry import Entry
from cnn_jax.models.heads import PooledHead

# The number of layers in each block.
BLOCKS: dict[str, tuple[int, ...]] = {
    "densenet121": (6, 12, 24, 16),
    "densenet169": (6, 12, 32, 32),
    "densenet201": (6, 12, 48, 32),
}
_AROUND = ((1, 1), (1, 1))


class DenseLayer(nn.Module):
    """Normalisation, ReLU, 1 x 1; normalisation, ReLU, 3 x 3; concatenated with the input.

    Attributes:
        growth: the number of channels that the layer adds.
        dropout_rate: the share of the added values that is dropped in training.
        dtype: the dtype of activations.
    """

    growth: int
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height, width, in + growth]`."""
        plain: Any = {"use_bias": False, "kernel_init": he_normal, "dtype": self.dtype}
        relu: Any = {"activation": "relu", "dtype": self.dtype}
        y = BatchNorm(name="bn1", **relu)(x, train)
        y = Conv(4 * self.growth, (1, 1), name="conv1", **plain)(y)
        y = BatchNorm(name="bn2", **relu)(y, train)
        y = Conv(self.growth, (3, 3), padding=_AROUND, name="conv2", **plain)(y)
        y = Dropout(self.dropout_rate, name="dropout")(y, deterministic=not train)
        return jnp.concatenate([x, y], axis=-1)


class DenseBlock(nn.Module):
    """Dense layers, then a transition; the last block ends with normalisation and ReLU instead.

    Attributes:
        layers: the number of layers.
        growth: the number of channels that each layer adds.
        transition: whether a 1 x 1 convolution halves the number of channels and a pool halves
            height and width.
        dropout_rate: see `DenseLayer`.
        dtype: the dtype of activations.
    """

    layers: int
    growth: int
    transition: bool
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to a feature map."""
        for number in range(1, self.layers + 1):
            layer = DenseLayer(self.growth, self.dropout_rate, self.dtype, name=f"layer{number}")
            x = layer(x, train)
        x = BatchNorm(activation="relu", dtype=self.dtype, name="bn")(x, train)
        if not self.transition:
            return x
        x = Conv(
            x.shape[-1] // 2,
            (1, 1),
            use_bias=False,
            kernel_init=he_normal,
            dtype=self.dtype,
            name="transition",
        )(x)
        return AvgPool((2, 2), name="pool")(x)


class DenseNetStem(nn.Module):
    """The first convolution; on large images with normalisation, ReLU and a max-pool."""

    filters: int
    small_images: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images to `[batch, height', width', filters]`."""
        plain: Any = {"use_bias": False, "kernel_init": he_normal, "dtype": self.dtype}
        if self.small_images:
            return Conv(self.filters, (3, 3), padding=_AROUND, name="conv", **plain)(x)
        x = ConvBatchNorm(
            self.filters,
            (7, 7),
            (2, 2),
            ((3, 3), (3, 3)),
            kernel_init=he_normal,
            dtype=self.dtype,
            name="conv",
        )(x, train)
        return MaxPool((3, 3), (2, 2), ((1, 1), (1, 1)), name="pool")(x)


class DenseNet(Stages):
    """A stem and dense blocks, all but the last of which end with a transition.

    Attributes:
        blocks: the number of layers in each block.
        growth: the number of channels that each layer adds; the stem's output has twice as many.
        small_images: True for a 3 x 3 stem without a pool.
        dropout_rate: see `DenseLayer`.
        dtype: the dtype of activations.
    """

    blocks: tuple[int, ...]
    growth: int = 32
    small_images: bool = False
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stem, then block1, block2, ..."""
        return ("stem", *(f"block{number}" for number in range(1, len(self.blocks) + 1)))

    def stage(self, name: str) -> nn.Module:
        """Returns the stem or a block."""
        if name == "stem":
            return DenseNetStem(2 * self.growth, self.small_images, self.dtype, name=name)
        number = self.stage_names.index(name)
        return DenseBlock(
            self.blocks[number - 1],
            self.growth,
            number < len(self.blocks),
            self.dropout_rate,
            self.dtype,
            name=name,
        )


def _densenet(
    name: str, num_outputs: int, dtype: Any = jnp.float32, dropout_rate: float = 0.0
) -> Classifier:
    return Classifier(
        DenseNet(BLOCKS[name], dropout_rate=dropout_rate, dtype=dtype),
        PooledHead(num_outputs, dropout_rate=0.0, dtype=dtype),
    )


densenet121, densenet169, densenet201 = (functools.partial(_densenet, name) for name in BLOCKS)


def densenet_bc100_12(
    num_outputs: int, dtype: Any = jnp.float32, dropout_rate: float = 0.0
) -> Classifier:
    """Returns DenseNet-BC for 32 x 32 images: 100 layers, growth rate 12, three blocks."""
    backbone = DenseNet(
        (16, 16, 16), growth=12, small_images=True, dropout_rate=dropout_rate, dtype=dtype
    )
    return Classifier(backbone, PooledHead(num_outputs, dropout_rate=0.0, dtype=dtype))


_imagenet = functools.partial(
    Entry,
    input_shape=(224, 224, 3),
    smallest=(32, 32),
    source="Huang et al. 2016",
    outputs=1000,
    options={"dropout_rate": 0.0},
)

ENTRIES = {
    "densenet121": _imagenet(
        builder=densenet121,
        parameters=7_978_856,
        flops=5_668_323_328,
        published="ImageNet 74.98 %",
    ),
    "densenet169": _imagenet(
        builder=densenet169,
        parameters=14_149_480,
        flops=6_719_686_656,
        published="ImageNet 76.20 %",
    ),
    "densenet201": _imagenet(
        builder=densenet201,
        parameters=20_013_928,
        flops=8_582_731_776,
        published="ImageNet 77.42 %",
    ),
    "densenet_bc100_12": Entry(
        builder=densenet_bc100_12,
        input_shape=(32, 32, 3),
        smallest=(4, 4),
        source="Huang et al. 2016",
        outputs=10,
        parameters=769_162,
        flops=575_859_384,
        options={"dropout_rate": 0.0},
        published="CIFAR-10 95.49 %",
    ),
}
