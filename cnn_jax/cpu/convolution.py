"""2-D convolution: by XLA, and by oneDNN with derivative rules of its own.

By oneDNN it is three functions: the result y, dL/dx and dL/dkernel. The derivatives of each are the
other two, so they can be differentiated again and again. In a program for a CPU each is a call of
oneDNN (`cnn_jax.cpu.onednn`) or Winograd's algorithm (`cnn_jax.cpu.winograd`); in a program for a
GPU or TPU it is the operation of `jax.lax`.

Images are `[batch, height, width, channels]`, kernels `[height, width, in, out]`. Where a
kernel has fewer inputs than the images have channels, the convolution is grouped: each group of
channels has its share of the outputs.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from cnn_jax.cpu import choice, onednn, winograd, winograd_plan
from cnn_jax.cpu.onednn_settings import Geometry, Kind, Pads, Pair
from cnn_jax.cpu.sums import channel_sum

Padding = Literal["VALID", "SAME"] | Sequence[tuple[int, int]]

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def explicit_pads(
    padding: Padding, size: Sequence[int], window: Sequence[int], strides: Sequence[int]
) -> Pads:
    """Returns ((top, bottom), (left, right)) for images of `size` (height, width)."""
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(size, window, strides, padding)
    vertical, horizontal = padding
    return (vertical[0], vertical[1]), (horizontal[0], horizontal[1])


def pad_beyond_kernel(x: jax.Array, pads: Pads, kernel_size: Pair) -> tuple[jax.Array, Pads]:
    """Pads x where a convolution's pads are not less than its kernel; returns it and the rest.

    The gradient of a convolution with such pads has negative pads, and with these XLA's CPU backend
    reads outside its arrays.
    """
    rest = tuple(
        (min(before, size - 1), min(after, size - 1))
        for (before, after), size in zip(pads, kernel_size, strict=True)
    )
    beyond = [(before - b, after - a) for (before, after), (b, a) in zip(pads, rest, strict=True)]
    if any(map(any, beyond)):
        x = jnp.pad(x, ((0, 0), *beyond, (0, 0)))
    return x, (rest[0], rest[1])


def pooled_positions(positions: Sequence[int], window: Sequence[int]) -> tuple[int, ...]:
    """Returns how many outputs a convolution in front of a pool computes, along each axis.

    It does not compute those that the pool leaves out, such as the last row of an odd height.

    Args:
        positions: (height, width) of the outputs.
        window: (height, width) of the pool, whose stride is its window.
    """
    return tuple(
        size // part * part if size >= part else size
        for size, part in zip(positions, window, strict=True)
    )


def without_unpooled(
    x: jax.Array, kernel_size: Pair, strides: Pair, padding: Padding, window: Pair
) -> tuple[jax.Array, Padding]:
    """Returns the part of x that a convolution and a pool behind it read, and its padding."""
    pads, ends = [], []
    around = explicit_pads(padding, x.shape[1:3], kernel_size, strides)
    for size, kernel, stride, (before, after), part in zip(
        x.shape[1:3], kernel_size, strides, around, window, strict=True
    ):
        (positions,) = pooled_positions([(size + before + after - kernel) // stride + 1], [part])
        read = (positions - 1) * stride + kernel - before
        ends.append(min(read, size))
        pads.append((before, max(read - size, 0)))
    return x[:, : ends[0], : ends[1]], pads


def computed_once(x: jax.Array) -> jax.Array:
    """Returns x; in a program for a CPU, x and dL/dx are each computed once and stored.

    A convolution's gradients read its input and output transposed. XLA's CPU backend would fuse the
    operations before into those copies, and compute them again in an order that suits no cache.
    """
    if choice.is_plain():
        return x
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    strides: Pair,
    pads: Pads,
    relu: bool = False,
) -> jax.Array:
    """Convolves by whom the context says (`cpu.using`); arguments as for `by_onednn`."""
    who = choice.chosen(x.dtype)
    if who in ("winograd", "onednn"):
        return by_onednn(x, kernel, bias, strides, pads, relu, who == "winograd")
    return by_xla(x, kernel, bias, strides, pads, relu)


def by_xla(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    strides: Pair,
    pads: Pads,
    relu: bool = False,
) -> jax.Array:
    """Convolves as `by_onednn` does, with XLA on every platform; kernel and bias of any type."""
    y = jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        strides,
        pads,
        dimension_numbers=_DIMENSIONS,
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )
    y = y if bias is None else y + bias.astype(x.dtype)
    return jnp.maximum(y, 0) if relu else y


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 6))
def by_onednn(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    strides: Pair,
    pads: Pads,
    relu: bool = False,
    with_winograd: bool = False,
) -> jax.Array:
    """Convolves x with the kernel: with oneDNN on a CPU, with `jax.lax` elsewhere.

    Args:
        x: float32 or bfloat16 `[batch, height, width, in]`.
        kernel: float32 `[height, width, in, out]`.
        bias: float32 `[out]`, added to the result; or None.
        strides: (vertical, horizontal).
        pads: ((top, bottom), (left, right)) pixels of zeros, less than the kernel's size.
        relu: whether negative results become zero, after the bias.
        with_winograd: whether a CPU uses Winograd's algorithm, for the result and its gradients,
            where it is faster. Its rounding errors are about ten times as large.

    Returns:
        `[batch, height', width', out]`, of the type of x.

    Raises:
        ValueError: pads are not less than the kernel; oneDNN would read outside the images.
    """
    pairs = zip(pads, kernel.shape[:2], strict=True)
    if any(pad >= size for around, size in pairs for pad in around):
        raise ValueError(f"pads {pads} are not less than the kernel {kernel.shape[:2]}")

    def plain(x: jax.Array, kernel: jax.Array, *bias: jax.Array) -> list[jax.Array]:
        return [by_xla(x, kernel, bias[0] if bias else None, strides, pads, relu)]

    def by_winograd(x: jax.Array, kernel: jax.Array, *bias: jax.Array) -> list[jax.Array]:
        return [winograd.convolve(x, kernel, bias[0] if bias else None, pads, relu)]

    operands = (x, kernel) if bias is None else (x, kernel, bias)
    (y,) = jax.eval_shape(plain, *operands)
    shapes = (x.shape, kernel.shape, y.shape, strides, pads)
    geometry = Geometry(Kind.RESULT, x.dtype == jnp.bfloat16, bias is not None, relu, *shapes)
    instead = by_winograd if with_winograd and winograd_plan.pays(geometry) else None
    return onednn.call_on_cpu(operands, [y], geometry, plain, instead)[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _images_gradient(
    g: jax.Array,
    kernel: jax.Array,
    shape: tuple[int, ...],
    strides: Pair,
    pads: Pads,
    with_winograd: bool,
) -> jax.Array:
    """Returns dL/dx, `shape`, of the type of g = dL/dy."""
    x = jax.ShapeDtypeStruct(shape, g.dtype)
    shapes = (shape, kernel.shape, g.shape, strides, pads)
    geometry = Geometry(Kind.IMAGES_GRADIENT, g.dtype == jnp.bfloat16, False, False, *shapes)

    def plain(g: jax.Array, kernel: jax.Array) -> list[jax.Array]:
        transposed = jax.linear_transpose(lambda x: by_xla(x, kernel, None, strides, pads), x)
        return list(transposed(g))

    def by_winograd(g: jax.Array, kernel: jax.Array) -> list[jax.Array]:
        return [winograd.images_gradient(g, kernel, pads)]

    instead = by_winograd if with_winograd and winograd_plan.pays(geometry) else None
    return onednn.call_on_cpu((g, kernel), [x], geometry, plain, instead)[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5, 6))
def _kernel_gradient(
    x: jax.Array,
    g: jax.Array,
    shape: tuple[int, ...],
    bias: bool,
    strides: Pair,
    pads: Pads,
    with_winograd: bool,
) -> list[jax.Array]:
    """Returns [dL/dkernel] or, with `bias`, [dL/dkernel, dL/dbias], float32, from g = dL/dy.

    Args:
        x: float32 or bfloat16 `[batch, height, width, in]`.
        g: `[batch, height', width', out]`, of the type of x.
        shape: the kernel's.
        bias: whether dL/dbias is asked for.
        strides: (vertical, horizontal).
        pads: ((top, bottom), (left, right)).
        with_winograd: as for `by_onednn`.
    """
    kernel = jax.ShapeDtypeStruct(shape, jnp.float32)
    shapes = (x.shape, shape, g.shape, strides, pads)
    geometry = Geometry(Kind.KERNEL_GRADIENT, x.dtype == jnp.bfloat16, bias, False, *shapes)
    results = [kernel, jax.ShapeDtypeStruct(shape[-1:], jnp.float32)][: 1 + bias]

    def plain(x: jax.Array, g: jax.Array) -> list[jax.Array]:
        dkernel = jax.linear_transpose(lambda k: by_xla(x, k, None, strides, pads), kernel)(g)
        return [*dkernel, jnp.sum(g, (0, 1, 2), jnp.float32)][: 1 + bias]

    def by_winograd(x: jax.Array, g: jax.Array) -> list[jax.Array]:
        dkernel = winograd.kernel_gradient(x, g, shape[:2], pads)
        return [dkernel, channel_sum(g)][: 1 + bias]

    instead = by_winograd if with_winograd and winograd_plan.pays(geometry) else None
    return onednn.call_on_cpu((x, g), results, geometry, plain, instead)


def _forward(
    x: Any, kernel: Any, bias: Any, strides: Pair, pads: Pads, relu: bool, with_winograd: bool
):
    y = by_onednn(x, kernel, bias, strides, pads, relu, with_winograd)
    return y, (x, kernel, bias, y if relu else None)


def _backward(
    strides: Pair, pads: Pads, relu: bool, with_winograd: bool, residuals: Any, g: jax.Array
):
    x, kernel, bias, y = residuals
    g = jnp.where(y > 0, g, 0) if relu else g
    has_bias = bias is not None
    gradients: Any = _kernel_gradient(x, g, kernel.shape, has_bias, strides, pads, with_winograd)
    dx = _images_gradient(g, kernel, x.shape, strides, pads, with_winograd)
    return dx, gradients[0], gradients[1] if has_bias else None


def _images_backward(
    shape: Any, strides: Pair, pads: Pads, with_winograd: bool, residuals: Any, c: jax.Array
):
    """Returns the gradients of g and kernel, from c, the gradient of dL/dx."""
    del shape
    g, kernel = residuals
    gradients: Any = _kernel_gradient(c, g, kernel.shape, False, strides, pads, with_winograd)
    return by_onednn(c, kernel, None, strides, pads, False, with_winograd), gradients[0]


def _kernel_backward(
    shape: Any,
    bias: bool,
    strides: Pair,
    pads: Pads,
    with_winograd: bool,
    residuals: Any,
    c: list[jax.Array],
):
    """Returns the gradients of x and g, from c, those of [dL/dkernel, dL/dbias]."""
    del shape
    x, g = residuals
    dg = by_onednn(x, c[0], c[1] if bias else None, strides, pads, False, with_winograd)
    return _images_gradient(g, c[0], x.shape, strides, pads, with_winograd), dg


by_onednn.defvjp(_forward, _backward)
_images_gradient.defvjp(
    lambda g, kernel, *rest: (_images_gradient(g, kernel, *rest), (g, kernel)), _images_backward
)
_kernel_gradient.defvjp(
    lambda x, g, *rest: (_kernel_gradient(x, g, *rest), (x, g)), _kernel_backward
)
