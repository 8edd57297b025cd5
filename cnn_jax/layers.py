"""What models are built from: Linen layers whose derivatives are fast on a CPU.

XLA's CPU backend differentiates max-pooling and bias addition through slow general loops, so these
two carry derivative rules of their own, used where a program is lowered for a CPU. Everywhere else,
and as the reference that tests compare with, the plain expression is differentiated.

Arrays are `[batch, height, width, channels]`; kernels `[height, width, in, out]`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax import cpu, runtime

Padding = Literal["VALID", "SAME"] | Sequence[tuple[int, int]]
Activation = Literal["relu", "gelu"] | None

# Keras' defaults, which the study guides' figures come from.
default_kernel_init = nn.initializers.glorot_uniform()
default_bias_init = nn.initializers.zeros_init()
# He et al. 2015, arXiv:1502.01852, for networks of ReLU and batch normalisation.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def _reference_max_pool(x: jax.Array, window: tuple[int, int]) -> jax.Array:
    return nn.max_pool(x, window, strides=window, padding="VALID")


def _pool(x: jax.Array, window: tuple[int, int]) -> jax.Array:
    return jax.lax.platform_dependent(
        x,
        cpu=lambda x: functools.reduce(jnp.maximum, _blocks(x, window)),
        default=lambda x: _reference_max_pool(x, window),
    )


def _blocks(x: jax.Array, window: tuple[int, int]) -> list[jax.Array]:
    """Returns, for each position in the window in row order, what stands there in every window."""
    height, width = x.shape[1] // window[0], x.shape[2] // window[1]
    x = x[:, : height * window[0], : width * window[1]]
    x = x.reshape(x.shape[0], height, window[0], width, window[1], x.shape[3])
    return [x[:, :, i, :, j] for i in range(window[0]) for j in range(window[1])]


def max_pool(
    x: jax.Array,
    window: tuple[int, int],
    strides: tuple[int, int] | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """Max-pools `x [batch, height, width, channels]`.

    The gradient goes to the first maximum of each window, in row order, as XLA's own rule has it.

    Args:
        x: the images or feature maps.
        window: (height, width).
        strides: (vertical, horizontal); None: the window.
        padding: VALID, SAME, or ((top, bottom), (left, right)).

    Returns:
        `[batch, height', width', channels]`.
    """
    strides = strides or window
    if strides == window and padding == "VALID":  # the commonest, and half as slow again below
        return _tiling_max_pool(x, window)
    return _sliding_max_pool(x, window, strides, _pads(padding, x.shape[1:3], window, strides))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _tiling_max_pool(x: jax.Array, window: tuple[int, int]) -> jax.Array:
    return _pool(x, window)


def _max_pool_forward(x: jax.Array, window: tuple[int, int]):
    y = _pool(x, window)
    return y, (x, y)


def _max_pool_backward(window: tuple[int, int], residuals, g: jax.Array):
    x, y = residuals

    def compare_and_mask(x: jax.Array, y: jax.Array, g: jax.Array) -> jax.Array:
        taken = jnp.zeros(y.shape, bool)
        parts = []
        for block in _blocks(x, window):
            here = (block == y) & ~taken
            taken |= here
            parts.append(jnp.where(here, g, 0))
        batch, height, width, channels = y.shape
        grid = jnp.stack(parts, axis=3).reshape(batch, height, width, *window, channels)
        dx = grid.transpose(0, 1, 3, 2, 4, 5)
        dx = dx.reshape(batch, height * window[0], width * window[1], channels)
        rest = [(0, full - part) for full, part in zip(x.shape, dx.shape, strict=True)]
        return jnp.pad(dx, rest)

    def reference(x: jax.Array, y: jax.Array, g: jax.Array) -> jax.Array:
        del y
        return jax.vjp(lambda x: _reference_max_pool(x, window), x)[1](g)[0]

    return (jax.lax.platform_dependent(x, y, g, cpu=compare_and_mask, default=reference),)


_tiling_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _sliding_max_pool(
    x: jax.Array, window: tuple[int, int], strides: tuple[int, int], padding: Any
) -> jax.Array:
    return _sliding_forward(x, window, strides, padding)[0]


def _sliding_forward(x: jax.Array, window: tuple[int, int], strides: tuple[int, int], padding: Any):
    count = window[0] * window[1]
    index_type = jnp.uint8 if count <= 256 else jnp.int32

    def compare(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=-jnp.inf)
        ends = [
            (size - w) // s * s + 1
            for size, w, s in zip(x.shape[1:3], window, strides, strict=True)
        ]
        parts = (
            x[:, i : i + ends[0] : strides[0], j : j + ends[1] : strides[1]]
            for i in range(window[0])
            for j in range(window[1])
        )
        y = next(parts)
        first = jnp.zeros(y.shape, index_type)
        for place, part in enumerate(parts, start=1):
            first = jnp.where(part > y, jnp.asarray(place, index_type), first)
            y = jnp.maximum(part, y)
        return y, first

    def reference(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = nn.max_pool(x, window, strides, padding)
        return y, jnp.zeros(y.shape, index_type)  # the reference's gradient does without

    y, first = jax.lax.platform_dependent(x, cpu=compare, default=reference)
    return y, (x, first)


def _sliding_backward(
    window: tuple[int, int], strides: tuple[int, int], padding: Any, residuals, g: jax.Array
):
    x, first = residuals

    def scatter(x: jax.Array, first: jax.Array, g: jax.Array) -> jax.Array:
        (top, bottom), (left, right) = padding
        height, width = x.shape[1] + top + bottom, x.shape[2] + left + right
        ends = [(size - 1) * stride + 1 for size, stride in zip(g.shape[1:3], strides, strict=True)]
        dx = jnp.zeros((), g.dtype)
        for place in range(window[0] * window[1]):
            i, j = divmod(place, window[1])
            part = jnp.where(first == place, g, 0)
            spread = [
                (0, 0, 0),
                (i, height - i - ends[0], strides[0] - 1),
                (j, width - j - ends[1], strides[1] - 1),
                (0, 0, 0),
            ]
            dx += jax.lax.pad(part, jnp.zeros((), g.dtype), spread)
        return dx[:, top : top + x.shape[1], left : left + x.shape[2]]

    def reference(x: jax.Array, first: jax.Array, g: jax.Array) -> jax.Array:
        del first
        return jax.vjp(lambda x: nn.max_pool(x, window, strides, padding), x)[1](g)[0]

    return (jax.lax.platform_dependent(x, first, g, cpu=scatter, default=reference),)


_sliding_max_pool.defvjp(_sliding_forward, _sliding_backward)


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """Returns `x [..., channels] + bias [channels]`."""
    return x + bias


def _add_bias_backward(bias: jax.Array, g: jax.Array):
    return g, cpu.channel_sum(g).astype(bias.dtype)


add_bias.defvjp(lambda x, bias: (x + bias, bias), _add_bias_backward)


def _materialize(x: jax.Array) -> jax.Array:
    """Returns x, and on a CPU has it and its gradient computed once, before what follows.

    A convolution's gradients read its input and output transposed. XLA's CPU backend would fuse
    what computes them into those copies, and compute it again, in an order that suits no cache.
    """
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


def _pads(
    padding: Padding, size: Sequence[int], window: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns ((top, bottom), (left, right)) of images of this (height, width)."""
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(size, window, strides, padding)
    vertical, horizontal = padding
    return (vertical[0], vertical[1]), (horizontal[0], horizontal[1])


def _pad_beyond_kernel(
    x: jax.Array, pads: Sequence[tuple[int, int]], kernel_size: tuple[int, int]
) -> tuple[jax.Array, Any]:
    """Returns x padded where a convolution's pads are not less than its kernel, and those left.

    The gradient of such a convolution would have negative pads, with which XLA's CPU backend reads
    what is not there.
    """
    left = [
        (min(before, size - 1), min(after, size - 1))
        for (before, after), size in zip(pads, kernel_size, strict=True)
    ]
    beyond = [(before - b, after - a) for (before, after), (b, a) in zip(pads, left, strict=True)]
    if any(map(any, beyond)):
        x = jnp.pad(x, ((0, 0), *beyond, (0, 0)))
    return x, tuple(left)


def pooled_positions(positions: Sequence[int], window: Sequence[int]) -> tuple[int, ...]:
    """Returns how many of a convolution's outputs are computed before a pool, along each axis.

    Those that the pool leaves out, such as the last row of an odd height, are not.

    Args:
        positions: (height, width) of the outputs.
        window: (height, width) of the pool, whose stride is its window.
    """
    return tuple(
        size // part * part if size >= part else size
        for size, part in zip(positions, window, strict=True)
    )


def _without_unpooled(
    x: jax.Array,
    kernel_size: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
    window: tuple[int, int],
) -> tuple[jax.Array, Padding]:
    """Returns the part of x, and the padding, of the outputs that a pool behind them reads."""
    pads, ends = [], []
    around = _pads(padding, x.shape[1:3], kernel_size, strides)
    for size, kernel, stride, (before, after), part in zip(
        x.shape[1:3], kernel_size, strides, around, window, strict=True
    ):
        (positions,) = pooled_positions([(size + before + after - kernel) // stride + 1], [part])
        read = (positions - 1) * stride + kernel - before
        ends.append(min(read, size))
        pads.append((before, max(read - size, 0)))
    return x[:, : ends[0], : ends[1]], pads


def _activate(x: jax.Array, activation: Activation) -> jax.Array:
    if activation == "gelu":  # of many operations, each of which would round bfloat16
        at_least_single = jnp.promote_types(x.dtype, jnp.float32)
        return nn.gelu(x.astype(at_least_single), approximate=False).astype(x.dtype)
    return nn.relu(x) if activation == "relu" else x


class Conv(nn.Module):
    """2-D convolution, then optionally max-pooling, bias and activation.

    With `pool`, pooling comes before bias and activation. Bias and ReLU are monotone in each
    channel, so with them the function is that of convolution, bias, ReLU and pooling in their usual
    order, and a quarter of the numbers passes through bias and ReLU.

    Attributes:
        features: output channels.
        kernel_size: (height, width).
        strides: (vertical, horizontal).
        padding: VALID, SAME, or ((top, bottom), (left, right)).
        use_bias: whether a bias is added.
        activation: None, "relu" or "gelu" (the exact one).
        pool: None, or the window of a max-pool with stride = window.
        dtype: of the computation; parameters are float32.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "VALID"
    use_bias: bool = True
    activation: Activation = None
    pool: tuple[int, int] | None = None
    dtype: Any = jnp.float32
    kernel_init: Callable[..., jax.Array] = default_kernel_init
    bias_init: Callable[..., jax.Array] = default_bias_init

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height', width', features]`."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        x, padding = x.astype(self.dtype), self.padding
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        if self.pool is not None:
            x, padding = _without_unpooled(x, self.kernel_size, self.strides, padding, self.pool)
        pads = _pads(padding, x.shape[1:3], self.kernel_size, self.strides)
        x, pads = _pad_beyond_kernel(x, pads, self.kernel_size)
        x = _materialize(x)
        by_library = runtime.uses_onednn(x.dtype)
        convolve = cpu.reference
        if by_library:
            convolve = functools.partial(cpu.convolve, fast=runtime.uses_winograd())
        if by_library and self.pool is None:  # whose call has bias and ReLU
            relu = self.activation == "relu"
            x = convolve(x, kernel, bias, self.strides, pads, relu)
            return _activate(x, None if relu else self.activation)
        x = _materialize(convolve(x, kernel, None, self.strides, pads))
        if self.pool is not None:
            x = max_pool(x, self.pool)
        if bias is not None:
            x = add_bias(x, bias.astype(self.dtype))
        return _activate(x, self.activation)


class Dense(nn.Module):
    """Matrix product, bias and activation over the last axis.

    Attributes:
        features: outputs.
        use_bias: whether a bias is added.
        activation: None, "relu" or "gelu" (the exact one).
        dtype: of the computation; parameters are float32.
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
            x = add_bias(x, bias.astype(self.dtype))
        return _activate(x, self.activation)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, then optionally an activation.

    While training, mean and (biased) variance of the batch are used, and the running ones move
    towards them; in evaluation the running ones are used. Source: Ioffe and Szegedy 2015,
    arXiv:1502.03167.

    Attributes:
        epsilon: added to the variance.
        momentum: share of the old in the new running statistics.
        use_scale: whether channels have a learned scale besides their bias.
        activation: None, "relu" or "gelu" (the exact one).
        dtype: of what it gives; statistics and parameters are float32.
        scale_init: of the scale.
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
            by_library = runtime.uses_onednn(x.dtype) and x.ndim == 4
            if by_library:
                relu = activation == "relu"
                activation = None if relu else activation
                normalized: Any = cpu.normalize(x, scale, bias, self.epsilon, relu)
            else:
                normalized = cpu.reference_normalize(
                    x.astype(jnp.float32), scale, bias, self.epsilon
                )
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
        features: output channels.
        kernel_size: (height, width).
        strides: (vertical, horizontal).
        padding: VALID, SAME, or ((top, bottom), (left, right)).
        use_bias: whether the convolution has a bias, which the normalisation takes away again.
        use_scale: whether the normalisation has a learned scale.
        epsilon: of the normalisation.
        activation: None, "relu" or "gelu" (the exact one).
        dtype: of the computation; parameters are float32.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = False
    use_scale: bool = True
    epsilon: float = 1e-5
    activation: Activation = "relu"
    dtype: Any = jnp.float32
    kernel_init: Callable[..., jax.Array] = default_kernel_init
    scale_init: Callable[..., jax.Array] = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height', width', features]`."""
        x = Conv(
            self.features,
            self.kernel_size,
            self.strides,
            self.padding,
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )(x)
        return BatchNorm(
            self.epsilon,
            use_scale=self.use_scale,
            activation=self.activation,
            dtype=self.dtype,
            scale_init=self.scale_init,
            name="bn",
        )(x, train)


class _Pool(nn.Module):
    """What pooling layers have in common.

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
        return max_pool(x, self.window, self.strides, self.padding)


class AvgPool(_Pool):
    """Average pooling; padded positions do not count towards the average."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[batch, height, width, channels]` to `[batch, height', width', channels]`."""
        strides = self.strides or self.window
        padding: Any = self.padding
        return nn.avg_pool(x, self.window, strides, padding, count_include_pad=False)


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

    What Linen's layer does, bit by bit, for a rate that may be an array, so that one compilation
    serves all rates. Source: Srivastava et al. 2014, JMLR 15.

    Attributes:
        rate: the share, a number or float32 [].
    """

    rate: float | jax.Array

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Maps `[...]` to the same shape; the random key is that of the collection "dropout"."""
        if deterministic or (isinstance(self.rate, int | float) and self.rate == 0):
            return x
        keep = 1 - self.rate
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, x.shape)
        return jnp.where(kept, x / jnp.asarray(keep, x.dtype), jnp.zeros((), x.dtype))
