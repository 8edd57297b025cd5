"""Pooling; max-pooling with derivative rules that are fast on a CPU.

XLA's CPU backend differentiates a max-pool through a slow general loop. Here, in a program for a
CPU, a pool compares the places of its windows with each other, and its gradient masks. Other
platforms, and tests as their reference, differentiate Linen's pool.

Exporters replace Linen's pools by functions that take keywords alone. jax2onnx 0.17.1 converts
`padding="SAME"` and leaves explicit pads out without a word, so the plain forms pad before a pool.
"""

import functools
import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.cpu import choice
from cnn_jax.cpu.convolution import Padding, Pads, Pair, explicit_pads


def max_pool(
    x: jax.Array, window: Pair, strides: Pair | None = None, padding: Padding = "VALID"
) -> jax.Array:
    """Max-pools `x [batch, height, width, channels]`.

    dL/dy goes to the first maximum of each window, in row order, as in XLA's own rule.

    Args:
        x: float images or feature maps.
        window: (height, width).
        strides: (vertical, horizontal); None: the window.
        padding: VALID, SAME, or ((top, bottom), (left, right)).

    Returns:
        `[batch, height', width', channels]`, of the type of x.
    """
    strides = strides or window
    if choice.is_plain():
        if not isinstance(padding, str):
            x, padding = _padded(x, padding, -jnp.inf), "VALID"
        return _linen(x, window, strides, padding)
    if strides == window and padding == "VALID":
        return _tiling(x, window)  # the common case; the general path takes 1.5 times as long
    return _sliding(x, window, strides, explicit_pads(padding, x.shape[1:3], window, strides))


def avg_pool(
    x: jax.Array, window: Pair, strides: Pair | None = None, padding: Padding = "VALID"
) -> jax.Array:
    """Average-pools; padded positions do not count. Arguments and result as for `max_pool`."""
    strides, pads, scale = strides or window, padding, None
    if choice.is_plain() and not isinstance(padding, str):
        counts = [
            _counts(*axis) for axis in zip(x.shape[1:3], window, strides, padding, strict=True)
        ]
        scale = math.prod(window) / np.outer(*counts)[:, :, None]
        x, pads = _padded(x, padding, 0), "VALID"
    averages: Any = nn.avg_pool
    y = averages(x, window_shape=window, strides=strides, padding=pads, count_include_pad=False)
    return y if scale is None else y * jnp.asarray(scale, y.dtype)


def _counts(size: int, window: int, stride: int, pads: Pair) -> np.ndarray:
    """Returns the number of positions in each window along an axis that are not padded."""
    first = np.arange(0, size + sum(pads) - window + 1, stride) - pads[0]
    return np.minimum(first + window, size) - np.maximum(first, 0)


def _padded(x: jax.Array, pads: Any, value: float) -> jax.Array:
    return jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def _linen(x: jax.Array, window: Pair, strides: Pair, padding: Any) -> jax.Array:
    return nn.max_pool(x, window_shape=window, strides=strides, padding=padding)


def _places(x: jax.Array, window: Pair) -> list[jax.Array]:
    """Returns, for each place in the window in row order, its values in all windows.

    The windows lie side by side; each array is `[batch, height', width', channels]`.
    """
    height, width = x.shape[1] // window[0], x.shape[2] // window[1]
    x = x[:, : height * window[0], : width * window[1]]
    x = x.reshape(x.shape[0], height, window[0], width, window[1], x.shape[3])
    return [x[:, :, i, :, j] for i in range(window[0]) for j in range(window[1])]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _tiling(x: jax.Array, window: Pair) -> jax.Array:
    return _tiling_forward(x, window)[0]


def _tiling_forward(x: jax.Array, window: Pair):
    y = jax.lax.platform_dependent(
        x,
        cpu=lambda x: functools.reduce(jnp.maximum, _places(x, window)),
        default=lambda x: _linen(x, window, window, "VALID"),
    )
    return y, (x, y)


def _tiling_backward(window: Pair, residuals, g: jax.Array):
    x, y = residuals

    def mask(x: jax.Array, y: jax.Array, g: jax.Array) -> jax.Array:
        taken = jnp.zeros(y.shape, bool)
        parts = []
        for values in _places(x, window):
            here = (values == y) & ~taken
            taken |= here
            parts.append(jnp.where(here, g, 0))
        batch, height, width, channels = y.shape
        grid = jnp.stack(parts, axis=3).reshape(batch, height, width, *window, channels)
        dx = grid.transpose(0, 1, 3, 2, 4, 5)
        dx = dx.reshape(batch, height * window[0], width * window[1], channels)
        rest = [(0, full - part) for full, part in zip(x.shape, dx.shape, strict=True)]
        return jnp.pad(dx, rest)

    def plain(x: jax.Array, y: jax.Array, g: jax.Array) -> jax.Array:
        del y
        return jax.vjp(lambda x: _linen(x, window, window, "VALID"), x)[1](g)[0]

    return (jax.lax.platform_dependent(x, y, g, cpu=mask, default=plain),)


_tiling.defvjp(_tiling_forward, _tiling_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _sliding(x: jax.Array, window: Pair, strides: Pair, pads: Pads) -> jax.Array:
    return _sliding_forward(x, window, strides, pads)[0]


def _sliding_forward(x: jax.Array, window: Pair, strides: Pair, pads: Pads):
    count = window[0] * window[1]
    index_type = jnp.uint8 if count <= 256 else jnp.int32

    def compare(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = _padded(x, pads, -jnp.inf)
        ends = [
            (size - w) // s * s + 1
            for size, w, s in zip(x.shape[1:3], window, strides, strict=True)
        ]
        values = (
            x[:, i : i + ends[0] : strides[0], j : j + ends[1] : strides[1]]
            for i, j in itertools.product(range(window[0]), range(window[1]))
        )
        y = next(values)
        first = jnp.zeros(y.shape, index_type)
        for place, value in enumerate(values, start=1):
            first = jnp.where(value > y, jnp.asarray(place, index_type), first)
            y = jnp.maximum(value, y)
        return y, first

    def plain(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = _linen(x, window, strides, pads)
        return y, jnp.zeros(y.shape, index_type)  # its gradient does not read the places

    y, first = jax.lax.platform_dependent(x, cpu=compare, default=plain)
    return y, (x, first)


def _sliding_backward(window: Pair, strides: Pair, pads: Pads, residuals, g: jax.Array):
    x, first = residuals

    def scatter(x: jax.Array, first: jax.Array, g: jax.Array) -> jax.Array:
        (top, bottom), (left, right) = pads
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

    def plain(x: jax.Array, first: jax.Array, g: jax.Array) -> jax.Array:
        del first
        return jax.vjp(lambda x: _linen(x, window, strides, pads), x)[1](g)[0]

    return (jax.lax.platform_dependent(x, first, g, cpu=scatter, default=plain),)


_sliding.defvjp(_sliding_forward, _sliding_backward)
