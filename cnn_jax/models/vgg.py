"""VGG: blocks of 3 x 3 convolutions, each followed by a 2 x 2 max-pool.

Source: Simonyan and Zisserman 2014, arXiv:1409.1556; configurations A (11 layers with weights),
B (13), D (16) and E (19). The parameters have the names of Keras Applications, grouped by block, so
that `block[1-4]` selects the first four; `pretrained` knows where their ImageNet weights are. The
forms with batch normalisation are torchvision's: their convolutions keep a bias, which the
normalisation subtracts again.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import Conv, ConvBatchNorm, Dense, Dropout, Flatten, MaxPool, he_normal
from cnn_jax.models.classifier import Classifier, Stages
from cnn_jax.models.entry import Entry
from cnn_jax.models.heads import PooledHead

# The number of convolutions in each block, and the number of filters of each of them.
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
    batch_norm: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height // 2, width // 2, filters]`."""
        for number in range(1, self.convolutions + 1):
            name, last = f"conv{number}", number == self.convolutions
            if self.batch_norm:
                # A scale may be negative, so pooling before it would give another result.
                x = ConvBatchNorm(
                    self.filters,
                    (3, 3),
                    use_bias=True,
                    kernel_init=he_normal,
                    dtype=self.dtype,
                    name=name,
                )(x, train)
                if last:
                    x = MaxPool(name="pool")(x)
            else:
                x = Conv(
                    self.filters,
                    (3, 3),
                    padding="SAME",
                    activation="relu",
                    pool=(2, 2) if last else None,
                    dtype=self.dtype,
                    name=name,
                )(x)
        return x


class VGG(Stages):
    """The five blocks: an image of 224 x 224 gives a feature map of 7 x 7 x 512.

    Attributes:
        stages: the number of convolutions in each block.
        batch_norm: whether every convolution is followed by batch normalisation.
        dtype: the dtype of activations.
    """

    stages: tuple[int, ...]
    batch_norm: bool = False
    dtype: Any = jnp.float32

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The blocks, in order."""
        return ("block1", "block2", "block3", "block4", "block5")

    def stage(self, name: str) -> nn.Module:
        """Returns a block."""
        number = self.stage_names.index(name)
        return VGGBlock(
            FILTERS[number], self.stages[number], self.batch_norm, self.dtype, name=name
        )


class VGGHead(nn.Module):
    """The paper's head: two dense layers of 4096 units with ReLU and dropout, then the logits.

    The VGG of Keras has no dropout; in evaluation the two are the same function.

    Attributes:
        num_outputs: the number of logits for an image.
        dropout_rate: the share of units that is dropped in training; 0.5 in the paper.
        dtype: the dtype of the hidden layers.
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
    name: str,
    batch_norm: bool,
    num_outputs: int,
    dtype: Any = jnp.float32,
    dropout_rate: float = 0.5,
) -> Classifier:
    return Classifier(
        VGG(STAGES[name], batch_norm, dtype),
        VGGHead(num_outputs, dropout_rate=dropout_rate, dtype=dtype),
    )


vgg11, vgg13, vgg16, vgg19 = (functools.partial(_vgg, name, False) for name in STAGES)
vgg11_bn, vgg13_bn, vgg16_bn, vgg19_bn = (functools.partial(_vgg, name, True) for name in STAGES)


def vgg16_bn_cifar(
    num_outputs: int, dtype: Any = jnp.float32, dropout_rate: float = 0.5
) -> Classifier:
    """Returns the form for 32 x 32 images: its last map is 1 x 1 x 512, its head has one layer.

    Source: the common form for CIFAR-10, after Liu and Deng 2015 ("Very deep convolutional neural
    network based image classification using small training sample size"), without their hidden
    layer and their dropout between convolutions.
    """
    backbone = VGG(STAGES["vgg16"], True, dtype)
    return Classifier(backbone, PooledHead(num_outputs, dropout_rate=dropout_rate, dtype=dtype))


_imagenet = functools.partial(
    Entry,
    input_shape=(224, 224, 3),
    smallest=(32, 32),
    source="Simonyan and Zisserman 2014",
    outputs=1000,
    options={"dropout_rate": 0.5},
)

ENTRIES = {
    "vgg11": _imagenet(
        builder=vgg11,
        parameters=132_863_336,
        flops=15_218_180_096,
        published="ImageNet 70.4 %",
    ),
    "vgg13": _imagenet(
        builder=vgg13,
        parameters=133_047_848,
        flops=22_616_932_352,
        published="ImageNet 71.3 %",
    ),
    "vgg16": _imagenet(
        builder=vgg16,
        parameters=138_357_544,
        flops=30_940_528_640,
        published="ImageNet 74.4 %",
    ),
    "vgg19": _imagenet(
        builder=vgg19,
        parameters=143_667_240,
        flops=39_264_124_928,
        published="ImageNet 74.5 %",
    ),
    "vgg11_bn": _imagenet(
        builder=vgg11_bn,
        parameters=132_868_840,
        flops=15_218_180_096,
    ),
    "vgg13_bn": _imagenet(
        builder=vgg13_bn,
        parameters=133_053_736,
        flops=22_616_932_352,
    ),
    "vgg16_bn": _imagenet(
        builder=vgg16_bn,
        parameters=138_365_992,
        flops=30_940_528_640,
    ),
    "vgg19_bn": _imagenet(
        builder=vgg19_bn,
        parameters=143_678_248,
        flops=39_264_124_928,
    ),
    "vgg16_bn_cifar": Entry(
        builder=vgg16_bn_cifar,
        input_shape=(32, 32, 3),
        smallest=(32, 32),
        source="Liu and Deng 2015, simplified",
        outputs=10,
        parameters=14_728_266,
        flops=626_403_328,
        options={"dropout_rate": 0.5},
        published="CIFAR-10 91.55 %",
    ),
}
