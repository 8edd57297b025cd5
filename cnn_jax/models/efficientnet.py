"""EfficientNet: inverted residuals, whose depth, width and image size grow together.

Source: Tan and Le 2019, arXiv:1905.11946, tables 1 and 2. Padding is torchvision's and timm's by
default; `padding="same"` is TensorFlow's, which the paper's weights, Keras' and timm's `tf_` ones
need. Batch statistics move with our momentum of 0.9, not 0.99, since small data sets have few
steps.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import ConvBatchNorm, he_normal
from cnn_jax.models.blocks import BlockPadding, InvertedResidual, pads, rounded
from cnn_jax.models.classifier import Classifier, Stages
from cnn_jax.models.entry import Entry
from cnn_jax.models.heads import PooledHead


class Row(NamedTuple):
    """A stage of table 1: how its blocks expand, how many there are, and the rest of them."""

    expansion: int
    filters: int
    blocks: int
    stride: int
    kernel: int


ROWS = (
    Row(1, 16, 1, 1, 3),
    Row(6, 24, 2, 2, 3),
    Row(6, 40, 2, 2, 5),
    Row(6, 80, 3, 2, 3),
    Row(6, 112, 3, 1, 5),
    Row(6, 192, 4, 2, 5),
    Row(6, 320, 1, 1, 3),
)
STEM, TOP = 32, 1280
# {name: the factor of the width, of the depth, and the rate of dropout}.
SCALES = {
    "efficientnet_b0": (1.0, 1.0, 0.2),
    "efficientnet_b1": (1.0, 1.1, 0.2),
    "efficientnet_b2": (1.1, 1.2, 0.3),
    "efficientnet_b3": (1.2, 1.4, 0.3),
}
# Of the last block; it grows linearly with the depth. Section 5 of the paper.
_DROP_PATH = 0.2


def scaled(width: float, depth: float) -> tuple[Row, ...]:
    """Returns the stages of a network with another width and depth."""
    return tuple(
        row._replace(filters=rounded(width * row.filters), blocks=math.ceil(depth * row.blocks))
        for row in ROWS
    )


class EfficientNetStage(nn.Module):
    """Blocks with the same number of filters; the first may have a stride.

    Attributes:
        row: see `Row`.
        drop_path: the rate of `StochasticDepth` of each block.
        padding: see `BlockPadding`.
        dtype: the dtype of activations.
    """

    row: Row
    drop_path: tuple[float, ...]
    padding: BlockPadding
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height / stride, width / stride, out]`."""
        row = self.row
        for number, drop_path in enumerate(self.drop_path, start=1):
            channels = x.shape[-1]
            x = InvertedResidual(
                row.filters,
                channels * row.expansion,
                row.kernel,
                row.stride if number == 1 else 1,
                max(1, channels // 4),
                "silu",
                padding=self.padding,
                drop_path=drop_path,
                dtype=self.dtype,
                name=f"block{number}",
            )(x, train)
        return x


class EfficientNet(Stages):
    """A stem, stages of inverted residuals, and a 1 x 1 convolution.

    Attributes:
        rows: the stages.
        stem: the number of filters of the first convolution.
        top: the number of filters of the last convolution.
        drop_path: the rate of stochastic depth of the last block.
        padding: see `BlockPadding`.
        dtype: the dtype of activations.
    """

    rows: tuple[Row, ...]
    stem: int = STEM
    top: int = TOP
    drop_path: float = _DROP_PATH
    padding: BlockPadding = "symmetric"
    dtype: Any = jnp.float32

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stem, stage1, stage2, ..., and the last convolution."""
        return ("stem", *(f"stage{number}" for number in range(1, len(self.rows) + 1)), "top")

    def stage(self, name: str) -> nn.Module:
        """Returns the stem, a stage or the last convolution."""
        conv = functools.partial(
            ConvBatchNorm, activation="silu", kernel_init=he_normal, dtype=self.dtype, name=name
        )
        if name == "stem":
            return conv(self.stem, (3, 3), (2, 2), pads(3, self.padding))
        if name == "top":
            return conv(self.top, (1, 1))
        number = self.stage_names.index(name) - 1
        blocks = [row.blocks for row in self.rows]
        before = sum(blocks[:number])
        rates = (self.drop_path * (before + i) / sum(blocks) for i in range(blocks[number]))
        return EfficientNetStage(
            self.rows[number], tuple(rates), self.padding, self.dtype, name=name
        )


def _efficientnet(
    name: str,
    num_outputs: int,
    dtype: Any = jnp.float32,
    dropout_rate: float | None = None,
    padding: BlockPadding = "symmetric",
) -> Classifier:
    width, depth, rate = SCALES[name]
    backbone = EfficientNet(
        scaled(width, depth),
        rounded(width * STEM),
        rounded(width * TOP),
        padding=padding,
        dtype=dtype,
    )
    rate = rate if dropout_rate is None else dropout_rate
    return Classifier(backbone, PooledHead(num_outputs, dropout_rate=rate, dtype=dtype))


def _entry(name: str, size: int, parameters: int, multiply_adds: int, accuracy: str) -> Entry:
    return Entry(
        builder=functools.partial(_efficientnet, name),
        input_shape=(size, size, 3),
        smallest=(32, 32),
        source="Tan and Le 2019",
        outputs=1000,
        parameters=parameters,
        flops=2 * multiply_adds,
        options={"dropout_rate": SCALES[name][2], "padding": "symmetric"},
        published=f"ImageNet {accuracy} %",
    )


ENTRIES = {
    name: _entry(name, *figures)
    for name, figures in {
        "efficientnet_b0": (224, 5_288_548, 385_814_752, "77.1"),
        "efficientnet_b1": (240, 7_794_184, 686_802_832, "79.1"),
        "efficientnet_b2": (260, 9_109_994, 993_561_872, "80.1"),
        "efficientnet_b3": (300, 12_233_232, 1_827_141_392, "81.6"),
    }.items()
}
