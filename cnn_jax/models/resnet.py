"""ResNet: blocks whose output is their input plus what a few convolutions add to it.

Source: He, Zhang, Ren and Sun 2015, arXiv:1512.03385; table 1 for ImageNet (18 to 152 layers),
section 4.2 for CIFAR-10 (20, 32 and 56 layers). Bottlenecks have their stride in the 3 x 3
convolution ("v1.5", as torchvision and most results since 2016 have it); `bottleneck_stride="1x1"`
is the paper's, which Keras Applications kept, and its weights need it.
"""

import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import ConvBatchNorm, MaxPool, he_normal
from cnn_jax.models.classifier import Classifier, Stages
from cnn_jax.models.heads import PooledHead

BottleneckStride = Literal["3x3", "1x1"]

# Name: (blocks in each stage, whether they are bottlenecks).
STAGES: dict[str, tuple[tuple[int, ...], bool]] = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
# Blocks in each of the three stages for CIFAR-10: depth = 6 n + 2.
CIFAR_BLOCKS = {"resnet20": 3, "resnet32": 5, "resnet56": 9}


class ResNetBlock(nn.Module):
    """Two 3 x 3 convolutions, or a bottleneck of 1 x 1, 3 x 3 and 1 x 1, added to the input.

    Attributes:
        filters: of the 3 x 3 convolutions; a bottleneck gives four times as many channels.
        stride: of the block.
        bottleneck: which of the two.
        bottleneck_stride: the convolution of a bottleneck that has the stride.
        projection: how an input of another shape is fitted. True: a 1 x 1 convolution (option B of
            the paper); False: every stride-th pixel, with zeros for the new channels (option A).
        dtype: of the computation.
    """

    filters: int
    stride: int
    bottleneck: bool
    bottleneck_stride: BottleneckStride = "3x3"
    projection: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height / stride, width / stride, out]`."""
        conv = functools.partial(ConvBatchNorm, kernel_init=he_normal, dtype=self.dtype)
        stride = (self.stride, self.stride)
        # Not SAME, which with a stride would pad an even map on one side only.
        around = ((1, 1), (1, 1))
        if self.bottleneck:
            channels = 4 * self.filters
            first, second = (
                (stride, (1, 1)) if self.bottleneck_stride == "1x1" else ((1, 1), stride)
            )
            y = conv(self.filters, (1, 1), first, name="conv1")(x, train)
            y = conv(self.filters, (3, 3), second, around, name="conv2")(y, train)
            y = conv(channels, (1, 1), activation=None, name="conv3")(y, train)
        else:
            channels = self.filters
            y = conv(channels, (3, 3), stride, around, name="conv1")(x, train)
            y = conv(channels, (3, 3), padding=around, activation=None, name="conv2")(y, train)
        if x.shape != y.shape and self.projection:
            x = conv(channels, (1, 1), stride, activation=None, name="projection")(x, train)
        elif x.shape != y.shape:
            new = channels - x.shape[-1]
            x = x[:, :: self.stride, :: self.stride]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))
        return nn.relu(x.astype(y.dtype) + y)


class ResNetStem(nn.Module):
    """The first convolution, and the max-pool that follows it on large images.

    Attributes:
        filters: of the convolution.
        small_images: True for 3 x 3 at stride 1 and no pool; False for 7 x 7 at stride 2 and a
            3 x 3 max-pool at stride 2.
        dtype: of the computation.
    """

    filters: int
    small_images: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images to `[batch, height', width', filters]`."""
        conv = functools.partial(ConvBatchNorm, kernel_init=he_normal, dtype=self.dtype)
        if self.small_images:
            return conv(self.filters, (3, 3), name="conv")(x, train)
        x = conv(self.filters, (7, 7), (2, 2), ((3, 3), (3, 3)), name="conv")(x, train)
        return MaxPool((3, 3), (2, 2), ((1, 1), (1, 1)), name="pool")(x)


class ResNetStage(nn.Module):
    """Blocks of the same filters, the first of which may have a stride."""

    blocks: int
    filters: int
    stride: int
    bottleneck: bool
    bottleneck_stride: BottleneckStride
    projection: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height / stride, width / stride, out]`."""
        for number in range(1, self.blocks + 1):
            x = ResNetBlock(
                self.filters,
                self.stride if number == 1 else 1,
                self.bottleneck,
                self.bottleneck_stride,
                self.projection,
                self.dtype,
                name=f"block{number}",
            )(x, train)
        return x


class ResNet(Stages):
    """A stem and stages of blocks; each stage but the first halves height and width.

    Attributes:
        blocks: in each stage.
        filters: of the first stage; every further one has twice as many as the one before it.
        bottleneck: whether the blocks are bottlenecks.
        bottleneck_stride: see `ResNetBlock`.
        projection: see `ResNetBlock`.
        small_images: see `ResNetStem`.
        dtype: of the computation.
    """

    blocks: tuple[int, ...]
    filters: int = 64
    bottleneck: bool = False
    bottleneck_stride: BottleneckStride = "3x3"
    projection: bool = True
    small_images: bool = False
    dtype: Any = jnp.float32

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stem, then stage1, stage2, ..."""
        return ("stem", *(f"stage{number}" for number in range(1, len(self.blocks) + 1)))

    def stage(self, name: str) -> nn.Module:
        """Returns the stem or a stage."""
        if name == "stem":
            return ResNetStem(self.filters, self.small_images, self.dtype, name=name)
        number = self.stage_names.index(name) - 1
        return ResNetStage(
            self.blocks[number],
            self.filters * 2**number,
            1 if number == 0 else 2,
            self.bottleneck,
            self.bottleneck_stride,
            self.projection,
            self.dtype,
            name=name,
        )


def _resnet(
    name: str,
    num_outputs: int,
    dtype: Any = jnp.float32,
    dropout_rate: float = 0.0,
    bottleneck_stride: BottleneckStride = "3x3",
) -> Classifier:
    blocks, bottleneck = STAGES[name]
    return Classifier(
        ResNet(blocks, bottleneck=bottleneck, bottleneck_stride=bottleneck_stride, dtype=dtype),
        PooledHead(num_outputs, dropout_rate=dropout_rate, dtype=dtype),
    )


resnet18, resnet34, resnet50, resnet101, resnet152 = (
    functools.partial(_resnet, name) for name in STAGES
)


def resnet18_cifar(
    num_outputs: int, dtype: Any = jnp.float32, dropout_rate: float = 0.0
) -> Classifier:
    """ResNet-18 with a 3 x 3 stem for 32 x 32 images, as it is common for CIFAR-10."""
    return Classifier(
        ResNet(STAGES["resnet18"][0], small_images=True, dtype=dtype),
        PooledHead(num_outputs, dropout_rate=dropout_rate, dtype=dtype),
    )


def _cifar_resnet(
    name: str, num_outputs: int, dtype: Any = jnp.float32, dropout_rate: float = 0.0
) -> Classifier:
    return Classifier(
        ResNet(
            (CIFAR_BLOCKS[name],) * 3, filters=16, projection=False, small_images=True, dtype=dtype
        ),
        PooledHead(num_outputs, dropout_rate=dropout_rate, dtype=dtype),
    )


resnet20, resnet32, resnet56 = (functools.partial(_cifar_resnet, name) for name in CIFAR_BLOCKS)
