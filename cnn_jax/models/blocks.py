"""Blocks of newer networks: squeeze-and-excitation, stochastic depth, inverted residuals."""

import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import Activation, Conv, ConvBatchNorm, he_normal

# How a network of these blocks pads where it has a stride. "symmetric": k // 2 pixels on every
# side, as torchvision and timm do. "same": what the output needs, an odd pixel at the bottom or
# right, as TensorFlow and Keras do.
BlockPadding = Literal["symmetric", "same"]

# A depthwise filter reads one channel; the fan-out that he_normal counts is that of all filters.
depthwise_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def pads(kernel: int, padding: BlockPadding) -> Any:
    """Returns the padding of a convolution with a square kernel of odd size."""
    return "SAME" if padding == "same" else ((kernel // 2, kernel // 2),) * 2


class SqueezeExcite(nn.Module):
    """Scales each channel by a number of 0 to 1 that is computed from the means of all channels.

    Source: Hu et al. 2017, arXiv:1709.01507.

    Attributes:
        squeezed: the number of channels between its two layers.
        activation: between them.
        hard: whether the scale is the hard sigmoid, relu6(x + 3) / 6, else the sigmoid.
        dtype: the dtype of activations.
    """

    squeezed: int
    activation: Activation = "relu"
    hard: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, height, width, channels]` to the same shape."""
        conv = functools.partial(Conv, kernel_size=(1, 1), dtype=self.dtype)
        y = jnp.mean(x, axis=(1, 2), keepdims=True)
        y = conv(self.squeezed, activation=self.activation, name="reduce")(y)
        y = conv(x.shape[-1], name="expand")(y).astype(jnp.float32)
        gate = nn.hard_sigmoid(y) if self.hard else nn.sigmoid(y)
        return x * gate.astype(x.dtype)


class StochasticDepth(nn.Module):
    """In training, leaves the branch of a block out for a share of the images.

    Source: Huang et al. 2016, arXiv:1603.09382; the branches that stay are scaled up, so that
    evaluation needs no factor.

    Attributes:
        rate: the share of images.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, ...]` to the same shape, with a key of the collection "dropout"."""
        if not train or self.rate == 0:
            return x
        keep = 1 - self.rate
        kept = jax.random.bernoulli(
            self.make_rng("dropout"), keep, (x.shape[0], *(1,) * (x.ndim - 1))
        )
        return jnp.where(kept, x / jnp.asarray(keep, x.dtype), jnp.zeros((), x.dtype))


class InvertedResidual(nn.Module):
    """More channels, a depthwise convolution, squeeze-and-excitation, fewer channels.

    The input is added where it has the shape of the output. Source: Sandler et al. 2018,
    arXiv:1801.04381; the squeeze-and-excitation is MobileNetV3's and EfficientNet's.

    Attributes:
        filters: the number of output channels.
        expanded: the number of channels of the depthwise convolution; where the input has as many,
            there is no convolution in front of it.
        kernel: the size of the depthwise convolution, height and width.
        stride: its stride.
        squeezed: see `SqueezeExcite`; 0: there is none.
        activation: behind the first two convolutions.
        hard: whether the squeeze-and-excitation is MobileNetV3's, with ReLU and the hard sigmoid,
            else EfficientNet's, with the block's activation and the sigmoid.
        padding: see `BlockPadding`.
        drop_path: see `StochasticDepth`.
        epsilon: of the normalisations.
        dtype: the dtype of activations.
    """

    filters: int
    expanded: int
    kernel: int
    stride: int
    squeezed: int
    activation: Activation
    hard: bool = False
    padding: BlockPadding = "symmetric"
    drop_path: float = 0.0
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height / stride, width / stride, out]`."""
        conv = functools.partial(
            ConvBatchNorm,
            epsilon=self.epsilon,
            activation=self.activation,
            kernel_init=he_normal,
            dtype=self.dtype,
        )
        y = x
        if self.expanded != x.shape[-1]:
            y = conv(self.expanded, (1, 1), name="expand")(y, train)
        y = conv(
            self.expanded,
            (self.kernel, self.kernel),
            (self.stride, self.stride),
            pads(self.kernel, self.padding),
            groups=self.expanded,
            kernel_init=depthwise_init,
            name="depthwise",
        )(y, train)
        if self.squeezed:
            between: Activation = "relu" if self.hard else self.activation
            y = SqueezeExcite(self.squeezed, between, self.hard, self.dtype, name="squeeze_excite")(
                y
            )
        y = conv(self.filters, (1, 1), activation=None, name="project")(y, train)
        if x.shape != y.shape:
            return y
        y = StochasticDepth(self.drop_path, name="stochastic_depth")(y, train)
        return x.astype(y.dtype) + y


def rounded(channels: float) -> int:
    """Returns a multiple of 8 near a number of channels, not more than 10 % below it."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near
