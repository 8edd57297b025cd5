"""Linen layers, from which models are built.

They have Linen's parameter names and Keras' initial values. `cnn_jax.cpu` holds the forms of
convolution, normalisation and pooling that are fast on a CPU, and the choice among them.

Arrays are `[batch, height, width, channels]`; kernels `[height, width, in, out]`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax import cpu
from cnn_jax.cpu import convolution, normalization, pools, sums
from cnn_jax.cpu.convolution import Padding

Activation = Literal["relu", "gelu", "silu", "hard_swish"] | None  # gelu is the exact one
_CURVES: Any = {  # several operations each, of which every one would round to bfloat16
    "gelu": functools.partial(nn.gelu, approximate=False),
    "silu": nn.silu,
    "hard_swish": nn.hard_swish,
}

# Keras' defaults, which the study guides' figures come from.
default_kernel_init = nn.initializers.glorot_uniform()
default_bias_init = nn.initializers.zeros_init()
# He et al. 2015, arXiv:1502.01852, for networks of ReLU and batch normalisation.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def _activate(x: jax.Array, activation: Activation) -> jax.Array:
    if activation in _CURVES:
        at_least_single = jnp.promote_types(x.dtype, jnp.float32)
        return _CURVES[activation](x.astype(at_least_single)).astype(x.dtype)
    return nn.relu(x) if activation == "relu" else x


class Conv(nn.Module):
    """2-D convolution, then optionally max-pooling, bias and activation.

    With `pool`, pooling comes before bias and activation. Bias and ReLU are monotone in each
    channel, so with them the function is that of convolution, bias, ReLU and pooling in their usual
    order, and a quarter of the numbers passes through bias and ReLU.

    Attributes:
        features: the number of output channels.
        kernel_size: (height, width).
        strides: (vertical, horizontal).
        padding: VALID, SAME, or ((top, bottom), (left, right)).
        use_bias: whether a bias is added.
        activation: see `Activation`.
        pool: None, or the window of a max-pool with stride = window.
        groups: how many parts the channels are in, each convolved with filters of its own.
        dtype: the type to compute in; parameters are float32.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "VALID"
    use_bias: bool = True
    activation: Activation = None
    pool: tuple[int, int] | None = None
    groups: int = 1
    dtype: Any = jnp.float32
    kernel_init: Callable[..., jax.Array] = default_kernel_init
    bias_init: Callable[..., jax.Array] = default_bias_init

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height', width', features]`."""
        shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        x, padding = x.astype(self.dtype), self.padding
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        if self.pool is not None:
            x, padding = convolution.without_unpooled(
                x, self.kernel_size, self.strides, padding, self.pool
            )
        pads = convolution.explicit_pads(padding, x.shape[1:3], self.kernel_size, self.strides)
        x, pads = convolution.pad_beyond_kernel(x, pads, self.kernel_size)
        x = convolution.computed_once(x)
        if self.pool is None and cpu.by_onednn(x.dtype):  # whose call adds bias and ReLU
            relu = self.activation == "relu"
            x = convolution.convolve(x, kernel, bias, self.strides, pads, relu)
            return _activate(x, None if relu else self.activation)
        x = convolution.convolve(x, kernel, None, self.strides, pads)
        x = convolution.computed_once(x)
        if self.pool is not None:
            x = pools.max_pool(x, self.pool)
        if bias is not None:
            x = sums.add_bias(x, bias.astype(self.dtype))
        return _activate(x, self.activation)


class Dense(nn.Module):
    """Matrix product, bias and activation over the last axis.

    Attributes:
        features: the number of outputs.
        use_bias: whether a bias is added.
        activation: see `Activation`.
        dtype: the type to compute in; parameters are float32.
    """

    features: int
    use_bias: bool = True
    activation: Activation = None
    dtype: Any = jnp.float32
    kernel_init: Callable[..., jax.Array] = default_kernel_init
    bias_init: Callable[..., jax.Array] = default_bias_init

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[..., in]` to `[..., features]`."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        x = x.astype(self.dtype) @ kernel.astype(self.dtype)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,))
            x = sums.add_bias(x, bias.astype(self.dtype))
        return _activate(x, self.activation)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, then optionally an activation.

    While training, mean and (biased) variance of the batch are used, and the running ones move
    towards them; in evaluation the running ones are used. Source: Ioffe and Szegedy 2015,
    arXiv:1502.03167.

    Attributes:
        epsilon: added to the variance.
        momentum: the weight of the old statistics in the new running ones.
        use_scale: whether channels have a learned scale besides their bias.
        activation: see `Activation`.
        dtype: the type of the result; statistics and parameters are float32.
        scale_init: draws the scale.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    use_scale: bool = True
    activation: Activation = None
    dtype: Any = jnp.float32
    scale_init: Callable[..., jax.Array] = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps `[..., channels]` to the same shape; `train` chooses the statistics."""
        shape = (x.shape[-1],)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", self.scale_init, shape) if self.use_scale else jnp.ones(shape)
        bias = self.param("bias", default_bias_init, shape)
        activation: Activation = self.activation
        if train:
            if cpu.by_onednn(x.dtype) and x.ndim == 4:  # whose call applies the ReLU
                relu = activation == "relu"
                activation = None if relu else activation
                normalized: Any = normalization.by_onednn(x, scale, bias, self.epsilon, relu)
            else:
                wide = x.astype(jnp.float32)
                normalized = normalization.by_xla(wide, scale, bias, self.epsilon)
            x, mean, var = normalized
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * mean
            running_var.value = keep * running_var.value + (1 - keep) * var
        else:
            root = jax.lax.rsqrt(running_var.value + self.epsilon)
            x = (x.astype(jnp.float32) - running_mean.value) * (root * scale) + bias
        return _activate(x, activation).astype(self.dtype)


class ConvBatchNorm(nn.Module):
    """Convolution, batch normalisation and activation, with parameters `conv` and `bn`.

    Attributes:
        features: the number of output channels.
        kernel_size: (height, width).
        strides: (vertical, horizontal).
        padding: VALID, SAME, or ((top, bottom), (left, right)).
        use_bias: whether the convolution has a bias; in training the normalisation subtracts
            it again.
        use_scale: whether the normalisation has a learned scale.
        epsilon: added to the variance.
        activation: see `Activation`.
        groups: see `Conv`.
        dtype: the type to compute in; parameters are float32.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = False
    use_scale: bool = True
    epsilon: float = 1e-5
    activation: Activation = "relu"
    groups: int = 1
    dtype: Any = jnp.float32
    kernel_init: Callable[..., jax.Array] = default_kernel_init
    scale_init: Callable[..., jax.Array] = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height', width', features]`."""
        window = (self.features, self.kernel_size, self.strides, self.padding, self.use_bias)
        more: Any = {"groups": self.groups, "dtype": self.dtype, "kernel_init": self.kernel_init}
        x = Conv(*window, **more, name="conv")(x)
        rest: Any = {"use_scale": self.use_scale, "scale_init": self.scale_init}
        rest |= {"activation": self.activation, "dtype": self.dtype}
        return BatchNorm(self.epsilon, **rest, name="bn")(x, train)


class _Pool(nn.Module):
    """The settings of a pooling layer.

    Attributes:
        window: (height, width).
        strides: (vertical, horizontal); None: the window.
        padding: VALID, SAME, or ((top, bottom), (left, right)).
    """

    window: tuple[int, int] = (2, 2)
    strides: tuple[int, int] | None = None
    padding: Padding = "VALID"


class MaxPool(_Pool):
    """Max-pooling."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, height, width, channels]` to `[batch, height', width', channels]`."""
        return pools.max_pool(x, self.window, self.strides, self.padding)


class AvgPool(_Pool):
    """Average pooling; padded positions do not count towards the average."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, height, width, channels]` to `[batch, height', width', channels]`."""
        return pools.avg_pool(x, self.window, self.strides, self.padding)


class GlobalAveragePool(nn.Module):
    """The mean over height and width."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, height, width, channels]` to `[batch, channels]`."""
        return jnp.mean(x, axis=(1, 2))


class Flatten(nn.Module):
    """All axes but the first become one, in row order."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, ...]` to `[batch, product of the rest]`."""
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))


class Dropout(nn.Module):
    """Sets a share of the values to zero, and scales the rest so that the mean stays.

    The results are those of Linen's layer to the bit. Here the rate may be an array, so that one
    compilation serves all rates. Source: Srivastava et al. 2014, JMLR 15.

    Attributes:
        rate: the share, a number or float32 [].
    """

    rate: float | jax.Array

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Maps `[...]` to the same shape, with a key of the collection "dropout"."""
        if deterministic or (isinstance(self.rate, int | float) and self.rate == 0):
            return x
        keep = 1 - self.rate
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, x.shape)
        return jnp.where(kept, x / jnp.asarray(keep, x.dtype), jnp.zeros((), x.dtype))
