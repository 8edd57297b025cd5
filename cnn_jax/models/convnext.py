"""ConvNeXt: a ResNet with the choices of vision transformers: 7 x 7 depthwise, LayerNorm, GELU.

Source: Liu et al. 2022, arXiv:2201.03545, section 2 and table 9.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import Conv, Dense, Dropout, GlobalAveragePool
from cnn_jax.models.blocks import StochasticDepth
from cnn_jax.models.classifier import Classifier, Stages
from cnn_jax.models.entry import Entry

# {name: the number of blocks in each stage, and the rate of stochastic depth of the last block}.
STAGES: dict[str, tuple[tuple[int, ...], float]] = {
    "convnext_tiny": ((3, 3, 9, 3), 0.1),
    "convnext_small": ((3, 3, 27, 3), 0.4),
}
_EPSILON = 1e-6
_SCALE = 1e-6  # the initial value of a block's scale: it begins close to the identity
_init = nn.initializers.truncated_normal(0.02)


class LayerScale(nn.Module):
    """Multiplies each channel by a learned number; Touvron et al. 2021, arXiv:2103.17239."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[..., channels]` to the same shape."""
        scale = self.param("scale", nn.initializers.constant(_SCALE), (x.shape[-1],))
        return x * scale.astype(x.dtype)


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution, LayerNorm, and two dense layers over channels, added to the input.

    Attributes:
        drop_path: see `StochasticDepth`.
        dtype: the dtype of activations.
    """

    drop_path: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to the same shape."""
        channels = x.shape[-1]
        dense = functools.partial(Dense, dtype=self.dtype, kernel_init=_init)
        y = Conv(
            channels,
            (7, 7),
            padding=((3, 3), (3, 3)),
            groups=channels,
            dtype=self.dtype,
            kernel_init=_init,
            name="depthwise",
        )(x)
        y = nn.LayerNorm(_EPSILON, dtype=self.dtype, name="norm")(y)
        y = dense(4 * channels, activation="gelu", name="dense1")(y)
        y = dense(channels, name="dense2")(y)
        y = LayerScale(name="layer_scale")(y)
        return x.astype(y.dtype) + StochasticDepth(self.drop_path, name="stochastic_depth")(
            y, train
        )


class ConvNeXtStem(nn.Module):
    """A convolution of patches of 4 x 4 pixels, and LayerNorm."""

    filters: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images to `[batch, height / 4, width / 4, filters]`."""
        del train
        x = Conv(self.filters, (4, 4), (4, 4), dtype=self.dtype, kernel_init=_init, name="conv")(x)
        return nn.LayerNorm(_EPSILON, dtype=self.dtype, name="norm")(x)


class ConvNeXtStage(nn.Module):
    """Blocks; in front of them, of all stages but the first, a convolution that halves the map.

    Attributes:
        filters: the number of channels.
        halves: whether there is that convolution.
        drop_path: the rate of `StochasticDepth` of each block.
        dtype: the dtype of activations.
    """

    filters: int
    halves: bool
    drop_path: tuple[float, ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height', width', filters]`."""
        if self.halves:
            x = nn.LayerNorm(_EPSILON, dtype=self.dtype, name="norm")(x)
            x = Conv(
                self.filters, (2, 2), (2, 2), dtype=self.dtype, kernel_init=_init, name="downsample"
            )(x)
        for number, rate in enumerate(self.drop_path, start=1):
            x = ConvNeXtBlock(rate, self.dtype, name=f"block{number}")(x, train)
        return x


class ConvNeXt(Stages):
    """A stem and stages of blocks; each stage but the first halves height and width.

    Attributes:
        blocks: the number of blocks in each stage.
        drop_path: the rate of stochastic depth of the last block; it grows linearly with the depth.
        filters: the number of filters of the first stage; each next stage has twice as many.
        dtype: the dtype of activations.
    """

    blocks: tuple[int, ...]
    drop_path: float = 0.0
    filters: int = 96
    dtype: Any = jnp.float32

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stem, then stage1, stage2, ..."""
        return ("stem", *(f"stage{number}" for number in range(1, len(self.blocks) + 1)))

    def stage(self, name: str) -> nn.Module:
        """Returns the stem or a stage."""
        if name == "stem":
            return ConvNeXtStem(self.filters, self.dtype, name=name)
        number = self.stage_names.index(name) - 1
        before, last = sum(self.blocks[:number]), max(sum(self.blocks) - 1, 1)
        rates = (self.drop_path * (before + i) / last for i in range(self.blocks[number]))
        return ConvNeXtStage(
            self.filters * 2**number, number > 0, tuple(rates), self.dtype, name=name
        )


class ConvNeXtHead(nn.Module):
    """Global average pooling, LayerNorm, dropout, logits.

    Attributes:
        num_outputs: the number of logits for an image.
        dropout_rate: the share of the pooled features that is dropped in training.
    """

    num_outputs: int
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_outputs]`."""
        x = GlobalAveragePool(name="pool")(features)
        x = nn.LayerNorm(_EPSILON, name="norm")(x)
        x = Dropout(self.dropout_rate, name="dropout")(x, deterministic=not train)
        return Dense(self.num_outputs, kernel_init=_init, name="logits")(x)


def _convnext(
    name: str, num_outputs: int, dtype: Any = jnp.float32, dropout_rate: float = 0.0
) -> Classifier:
    blocks, drop_path = STAGES[name]
    return Classifier(
        ConvNeXt(blocks, drop_path, dtype=dtype), ConvNeXtHead(num_outputs, dropout_rate)
    )


def _entry(name: str, parameters: int, multiply_adds: int, accuracy: str) -> Entry:
    return Entry(
        builder=functools.partial(_convnext, name),
        input_shape=(224, 224, 3),
        smallest=(32, 32),
        source="Liu et al. 2022",
        outputs=1000,
        parameters=parameters,
        flops=2 * multiply_adds,
        options={"dropout_rate": 0.0},
        published=f"ImageNet {accuracy} %",
    )


ENTRIES = {
    "convnext_tiny": _entry("convnext_tiny", 28_589_128, 4_455_531_264, "82.1"),
    "convnext_small": _entry("convnext_small", 50_223_688, 8_683_712_256, "83.1"),
}
