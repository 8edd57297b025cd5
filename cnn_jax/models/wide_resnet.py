"""WideResNet: few layers with many filters, and normalisation and ReLU before each convolution.

Source: Zagoruyko and Komodakis 2016, arXiv:1605.07146; table 1, WRN-28-10: 36.5 M parameters.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import BatchNorm, Conv, Dropout, he_normal
from cnn_jax.models.classifier import Classifier, Stages
from cnn_jax.models.entry import Entry
from cnn_jax.models.heads import PooledHead

_AROUND = ((1, 1), (1, 1))


class WideBlock(nn.Module):
    """Two 3 x 3 convolutions, each after normalisation and ReLU, added to the input.

    Attributes:
        filters: the number of filters of each convolution.
        stride: the stride of the first convolution.
        dropout_rate: the share of values that is dropped between the convolutions in training.
        dtype: the dtype of activations.
    """

    filters: int
    stride: int
    dropout_rate: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height / stride, width / stride, out]`."""
        plain: Any = {"use_bias": False, "kernel_init": he_normal, "dtype": self.dtype}
        relu: Any = {"activation": "relu", "dtype": self.dtype}
        stride = (self.stride, self.stride)
        y = BatchNorm(name="bn1", **relu)(x, train)
        if x.shape[-1] != self.filters:  # the shortcut starts after the first normalisation
            x = Conv(self.filters, (1, 1), stride, name="projection", **plain)(y)
        y = Conv(self.filters, (3, 3), stride, _AROUND, name="conv1", **plain)(y)
        y = BatchNorm(name="bn2", **relu)(y, train)
        y = Dropout(self.dropout_rate, name="dropout")(y, deterministic=not train)
        return x + Conv(self.filters, (3, 3), padding=_AROUND, name="conv2", **plain)(y)


class WideStage(nn.Module):
    """Blocks with the same number of filters; the last stage ends with normalisation and ReLU."""

    blocks: int
    filters: int
    stride: int
    last: bool
    dropout_rate: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height / stride, width / stride, out]`."""
        for number in range(1, self.blocks + 1):
            stride = self.stride if number == 1 else 1
            block = WideBlock(
                self.filters, stride, self.dropout_rate, self.dtype, name=f"block{number}"
            )
            x = block(x, train)
        if self.last:
            x = BatchNorm(activation="relu", dtype=self.dtype, name="bn")(x, train)
        return x


class WideStem(nn.Module):
    """A 3 x 3 convolution with 16 filters."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images to `[batch, height, width, 16]`."""
        del train
        return Conv(
            16,
            (3, 3),
            padding=_AROUND,
            use_bias=False,
            kernel_init=he_normal,
            dtype=self.dtype,
            name="conv",
        )(x)


class WideResNet(Stages):
    """A stem and three stages: 32 x 32 images give 8 x 8 feature maps.

    Attributes:
        blocks: the number of blocks in each stage; the depth is 6 * blocks + 4.
        width: the factor by which the stages have more filters than 16, 32 and 64.
        dropout_rate: see `WideBlock`.
        dtype: the dtype of activations.
    """

    blocks: int
    width: int
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stem and the stages, in order."""
        return ("stem", "stage1", "stage2", "stage3")

    def stage(self, name: str) -> nn.Module:
        """Returns the stem or a stage."""
        if name == "stem":
            return WideStem(self.dtype, name=name)
        number = self.stage_names.index(name)
        return WideStage(
            self.blocks,
            8 * 2**number * self.width,
            1 if number == 1 else 2,
            number == 3,
            self.dropout_rate,
            self.dtype,
            name=name,
        )


def wide_resnet28_10(
    num_outputs: int, dtype: Any = jnp.float32, dropout_rate: float = 0.0
) -> Classifier:
    """Returns the network of 28 layers that are ten times as wide as a ResNet's."""
    return Classifier(
        WideResNet(4, 10, dropout_rate, dtype),
        PooledHead(num_outputs, dropout_rate=0.0, dtype=dtype),
    )


ENTRIES = {
    "wide_resnet28_10": Entry(
        builder=wide_resnet28_10,
        input_shape=(32, 32, 3),
        smallest=(4, 4),
        source="Zagoruyko and Komodakis 2016",
        outputs=10,
        parameters=36_479_194,
        flops=10_486_657_536,
        options={"dropout_rate": 0.0},
        published="CIFAR-10 96.00 %",
    ),
}
