"""MobileNetV3: inverted residuals with hard swish, found by a search for a fast network on a phone.

Source: Howard et al. 2019, arXiv:1905.02244, tables 1 and 2. Padding and batch statistics are as in
EfficientNet, see `efficientnet.py`.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import Activation, ConvBatchNorm, Dense, Dropout, GlobalAveragePool, he_normal
from cnn_jax.models.blocks import BlockPadding, InvertedResidual, pads, rounded
from cnn_jax.models.classifier import Classifier, Stages
from cnn_jax.models.entry import Entry


class Row(NamedTuple):
    """A block: a row of table 1 or 2."""

    kernel: int
    expanded: int
    filters: int
    squeeze: bool
    activation: Activation
    stride: int


# {name: stages of blocks, cut where timm cuts them}.
STAGES: dict[str, tuple[tuple[Row, ...], ...]] = {
    "mobilenet_v3_large": (
        (Row(3, 16, 16, False, "relu", 1),),
        (Row(3, 64, 24, False, "relu", 2), Row(3, 72, 24, False, "relu", 1)),
        (Row(5, 72, 40, True, "relu", 2), *[Row(5, 120, 40, True, "relu", 1)] * 2),
        (
            Row(3, 240, 80, False, "hard_swish", 2),
            Row(3, 200, 80, False, "hard_swish", 1),
            *[Row(3, 184, 80, False, "hard_swish", 1)] * 2,
        ),
        (Row(3, 480, 112, True, "hard_swish", 1), Row(3, 672, 112, True, "hard_swish", 1)),
        (Row(5, 672, 160, True, "hard_swish", 2), *[Row(5, 960, 160, True, "hard_swish", 1)] * 2),
    ),
    "mobilenet_v3_small": (
        (Row(3, 16, 16, True, "relu", 2),),
        (Row(3, 72, 24, False, "relu", 2), Row(3, 88, 24, False, "relu", 1)),
        (Row(5, 96, 40, True, "hard_swish", 2), *[Row(5, 240, 40, True, "hard_swish", 1)] * 2),
        (Row(5, 120, 48, True, "hard_swish", 1), Row(5, 144, 48, True, "hard_swish", 1)),
        (Row(5, 288, 96, True, "hard_swish", 2), *[Row(5, 576, 96, True, "hard_swish", 1)] * 2),
    ),
}
EPSILON = 1e-3  # of batch normalisations: TensorFlow's, which torchvision kept
# {name: the units of the hidden layer of its head}.
HIDDEN = {"mobilenet_v3_large": 1280, "mobilenet_v3_small": 1024}


class MobileNetStage(nn.Module):
    """Blocks; see `Row`."""

    rows: tuple[Row, ...]
    padding: BlockPadding
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height / stride, width / stride, out]`."""
        for number, row in enumerate(self.rows, start=1):
            x = InvertedResidual(
                row.filters,
                row.expanded,
                row.kernel,
                row.stride,
                rounded(row.expanded / 4) if row.squeeze else 0,
                row.activation,
                hard=True,
                padding=self.padding,
                epsilon=EPSILON,
                dtype=self.dtype,
                name=f"block{number}",
            )(x, train)
        return x


class MobileNetV3(Stages):
    """A stem, stages of inverted residuals, and a 1 x 1 convolution to six times the channels.

    Attributes:
        rows: the blocks of each stage.
        padding: see `BlockPadding`.
        dtype: the dtype of activations.
    """

    rows: tuple[tuple[Row, ...], ...]
    padding: BlockPadding = "symmetric"
    dtype: Any = jnp.float32

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stem, stage1, stage2, ..., and the last convolution."""
        return ("stem", *(f"stage{number}" for number in range(1, len(self.rows) + 1)), "top")

    def stage(self, name: str) -> nn.Module:
        """Returns the stem, a stage or the last convolution."""
        conv = functools.partial(
            ConvBatchNorm,
            epsilon=EPSILON,
            activation="hard_swish",
            kernel_init=he_normal,
            dtype=self.dtype,
            name=name,
        )
        if name == "stem":
            return conv(16, (3, 3), (2, 2), pads(3, self.padding))
        if name == "top":
            return conv(6 * self.rows[-1][-1].filters, (1, 1))
        number = self.stage_names.index(name) - 1
        return MobileNetStage(self.rows[number], self.padding, self.dtype, name=name)


class MobileNetHead(nn.Module):
    """Global average pooling, a dense layer with hard swish, dropout, logits.

    Attributes:
        num_outputs: the number of logits for an image.
        hidden: the number of units of the hidden layer.
        dropout_rate: the share of its units that is dropped in training.
        dtype: the dtype of the hidden layer.
    """

    num_outputs: int
    hidden: int
    dropout_rate: float = 0.2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_outputs]`."""
        x = GlobalAveragePool(name="pool")(features)
        x = Dense(self.hidden, activation="hard_swish", dtype=self.dtype, name="dense1")(x)
        x = Dropout(self.dropout_rate, name="dropout")(x, deterministic=not train)
        return Dense(self.num_outputs, name="logits")(x)


def _mobilenet_v3(
    name: str,
    num_outputs: int,
    dtype: Any = jnp.float32,
    dropout_rate: float = 0.2,
    padding: BlockPadding = "symmetric",
) -> Classifier:
    return Classifier(
        MobileNetV3(STAGES[name], padding, dtype),
        MobileNetHead(num_outputs, HIDDEN[name], dropout_rate, dtype),
    )


def _entry(name: str, parameters: int, multiply_adds: int, accuracy: str) -> Entry:
    return Entry(
        builder=functools.partial(_mobilenet_v3, name),
        input_shape=(224, 224, 3),
        smallest=(32, 32),
        source="Howard et al. 2019",
        outputs=1000,
        parameters=parameters,
        flops=2 * multiply_adds,
        options={"dropout_rate": 0.2, "padding": "symmetric"},
        published=f"ImageNet {accuracy} %",
    )


ENTRIES = {
    "mobilenet_v3_large": _entry("mobilenet_v3_large", 5_483_032, 216_589_760, "75.2"),
    "mobilenet_v3_small": _entry("mobilenet_v3_small", 2_542_856, 56_510_400, "67.4"),
}
