"""ResNet: blocks that add the output of a few convolutions to their input.

Source: He, Zhang, Ren and Sun 2015, arXiv:1512.03385; table 1 for ImageNet (18 to 152 layers),
section 4.2 for CIFAR-10 (20, 32 and 56 layers). The stride of a bottleneck is in its 3 x 3
convolution ("v1.5", as in torchvision and most results since 2016). `bottleneck_stride="1x1"` is
the paper's form; Keras Applications kept it, and its weights need it.
"""

import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import ConvBatchNorm, MaxPool, he_normal
from cnn_jax.models.classifier import Classifier, Stages
from cnn_jax.models.entry import Entry
from cnn_jax.models.heads import PooledHead

BottleneckStride = Literal["3x3", "1x1"]

# {name: (the number of blocks in each stage, whether they are bottlenecks)}.
STAGES: dict[str, tuple[tuple[int, ...], bool]] = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
# {name: the number n of blocks in each of the three stages}, for CIFAR-10; the depth is 6 n + 2.
CIFAR_BLOCKS = {"resnet20": 3, "resnet32": 5, "resnet56": 9}


class ResNetBlock(nn.Module):
    """Two 3 x 3 convolutions, or a bottleneck of 1 x 1, 3 x 3 and 1 x 1, added to the input.

    Attributes:
        filters: the number of filters of the 3 x 3 convolutions; the output of a bottleneck has
            four times as many channels.
        stride: the stride of the block.
        bottleneck: whether the block is a bottleneck.
        bottleneck_stride: the convolution of a bottleneck that has the stride.
        projection: how the input is fitted where the output has another shape. True: a 1 x 1
            convolution (option B of the paper); False: every stride-th pixel, with zeros in the new
            channels (option A).
        dtype: the dtype of activations.
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
        # With a stride, SAME would pad an even map on one side only.
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
        filters: the number of filters.
        small_images: True for 3 x 3 at stride 1 and no pool; False for 7 x 7 at stride 2 and a
            3 x 3 max-pool at stride 2.
        dtype: the dtype of activations.
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
    """Blocks with the same number of filters; the first may have a stride."""

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
        blocks: the number of blocks in each stage.
        filters: the number of filters of the first stage; each next stage has twice as many.
        bottleneck: whether the blocks are bottlenecks.
        bottleneck_stride: see `ResNetBlock`.
        projection: see `ResNetBlock`.
        small_images: see `ResNetStem`.
        dtype: the dtype of activations.
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
    """Returns ResNet-18 with a 3 x 3 stem for 32 x 32 images, the common form for CIFAR-10."""
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


_NO_DROPOUT = {"dropout_rate": 0.0}
_imagenet = functools.partial(
    Entry, input_shape=(224, 224, 3), smallest=(32, 32), source="He et al. 2015", outputs=1000
)
_cifar = functools.partial(
    Entry, input_shape=(32, 32, 3), source="He et al. 2015", outputs=10, options=_NO_DROPOUT
)
_bottlenecks = functools.partial(_imagenet, options={**_NO_DROPOUT, "bottleneck_stride": "3x3"})

ENTRIES = {
    "resnet18": _imagenet(
        builder=resnet18,
        options=_NO_DROPOUT,
        parameters=11_689_512,
        flops=3_628_146_688,
        published="ImageNet 72.12 % (10 crops)",
    ),
    "resnet34": _imagenet(
        builder=resnet34,
        options=_NO_DROPOUT,
        parameters=21_797_672,
        flops=7_327_522_816,
        published="ImageNet 75.48 % (10 crops)",
    ),
    "resnet50": _bottlenecks(
        builder=resnet50,
        parameters=25_557_032,
        flops=8_178_368_512,
        published="ImageNet 77.15 % (10 crops)",
    ),
    "resnet101": _bottlenecks(
        builder=resnet101,
        parameters=44_549_160,
        flops=15_602_810_880,
        published="ImageNet 78.25 % (10 crops)",
    ),
    "resnet152": _bottlenecks(
        builder=resnet152,
        parameters=60_192_808,
        flops=23_027_253_248,
        published="ImageNet 78.57 % (10 crops)",
    ),
    "resnet18_cifar": _cifar(
        builder=resnet18_cifar,
        smallest=(8, 8),
        parameters=11_173_962,
        flops=1_110_845_440,
    ),
    "resnet20": _cifar(
        builder=resnet20,
        smallest=(4, 4),
        parameters=269_722,
        flops=81_102_080,
        published="CIFAR-10 91.25 %",
    ),
    "resnet32": _cifar(
        builder=resnet32,
        smallest=(4, 4),
        parameters=464_154,
        flops=137_725_184,
        published="CIFAR-10 92.49 %",
    ),
    "resnet56": _cifar(
        builder=resnet56,
        smallest=(4, 4),
        parameters=853_018,
        flops=250_971_392,
        published="CIFAR-10 93.03 %",
    ),
}
