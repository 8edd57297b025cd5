"""Batch normalisation in training: by XLA with a derivative rule of its own, and by oneDNN."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from cnn_jax.cpu import choice, onednn
from cnn_jax.cpu.onednn_settings import Kind, Normalization
from cnn_jax.cpu.sums import channel_sum


def by_xla(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises each channel of `x [..., channels]` by its mean and variance.

    Args:
        x: float32 or float64 [..., channels].
        scale: [channels], factors of the normalised values.
        bias: [channels], added to them.
        epsilon: added to the (biased) variance.

    Returns:
        The normalised values, shaped as x; mean and variance [channels], whose gradients are
        ignored.
    """
    normalize: Any = _formula if choice.is_plain() else _by_xla
    return normalize(x, scale, bias, epsilon)


def _formula(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float):
    return _formula_forward(x, scale, bias, epsilon)[0]


def _formula_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float):
    count = math.prod(x.shape[:-1])
    mean = channel_sum(x) / count
    var = channel_sum(jnp.square(x - mean)) / count
    root = jax.lax.rsqrt(var + epsilon)
    y = (x - mean) * (root * scale) + bias
    return (y, mean, var), (x, mean, root, scale)


def _formula_backward(epsilon: float, residuals, gradients):
    del epsilon
    x, mean, root, scale = residuals
    g, *_ = gradients
    count = math.prod(x.shape[:-1])
    dbias = channel_sum(g)
    dscale = channel_sum(g * ((x - mean) * root))
    dx = (g - (dbias + (x - mean) * root * dscale) / count) * (root * scale)
    return dx, dscale, dbias


_by_xla = jax.custom_vjp(_formula, nondiff_argnums=(3,))
_by_xla.defvjp(_formula_forward, _formula_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def by_onednn(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, relu: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises each channel by its mean and variance: with oneDNN on a CPU, else with XLA.

    Args:
        x: float32 or bfloat16 `[batch, height, width, channels]`.
        scale: float32 `[channels]`, factors of the normalised values.
        bias: float32 `[channels]`, added to them.
        epsilon: added to the (biased) variance.
        relu: whether negative results become zero, after the bias.

    Returns:
        The normalised values, of the shape and type of x; mean and variance, float32
        `[channels]`, whose gradients are ignored. There are no second derivatives on a CPU.
    """
    return _forward(x, scale, bias, epsilon, relu)[0]


def _with_relu(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, relu: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Computes `by_onednn` with XLA."""
    y, mean, var = by_xla(x.astype(jnp.float32), scale, bias, epsilon)
    return (jnp.maximum(y, 0) if relu else y).astype(x.dtype), mean, var


def _forward(x: Any, scale: Any, bias: Any, epsilon: float, relu: bool):
    settings = Normalization(Kind.NORMALIZE, x.dtype == jnp.bfloat16, relu, epsilon, x.shape)
    # oneDNN notes for the gradient which values the ReLU let pass, in a format of its own.
    masks = [jax.ShapeDtypeStruct((onednn.mask_size(settings),), jnp.uint8)] if relu else []

    def plain(x: jax.Array, scale: jax.Array, bias: jax.Array) -> list[jax.Array]:
        results = _with_relu(x, scale, bias, epsilon, relu)
        return [*results, *(jnp.zeros(mask.shape, mask.dtype) for mask in masks)]

    operands = (x, scale, bias)
    y, mean, var, *masks = onednn.call_on_cpu(operands, [x, scale, scale, *masks], settings, plain)
    return (y, mean, var), (x, scale, bias, mean, var, *masks)


def _backward(epsilon: float, relu: bool, residuals: Any, gradients: Any):
    x, scale, bias, *_ = residuals
    g, *_ = gradients
    kind = Kind.NORMALIZE_GRADIENT
    settings = Normalization(kind, x.dtype == jnp.bfloat16, relu, epsilon, x.shape)

    def plain(x: Any, scale: Any, bias: Any, g: Any, *rest: Any) -> list[jax.Array]:
        del rest

        def values(x: Any, scale: Any, bias: Any) -> Any:
            return _with_relu(x, scale, bias, epsilon, relu)[0]

        return list(jax.vjp(values, x, scale, bias)[1](g))

    operands = (x, scale, bias, g, *residuals[3:])
    return tuple(onednn.call_on_cpu(operands, [x, scale, bias], settings, plain))


by_onednn.defvjp(_forward, _backward)
