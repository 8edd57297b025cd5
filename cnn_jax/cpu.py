"""Convolution and batch normalisation as a CPU computes them fastest.

Each is a function with derivatives of its own. A convolution is three of them: its result, and its
gradients with respect to images and to kernel, the derivatives of each of which are the other two.
On a CPU they are calls of oneDNN (`cnn_jax.onednn`), or, where that is faster and it is allowed,
Winograd's algorithm (`cnn_jax.winograd`); on other platforms what `jax.lax` says. So a program is
lowered for a GPU or TPU as if this module were not there.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cnn_jax import onednn, winograd
from cnn_jax.onednn import Geometry, Kind, Normalization, Pads, Pair

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def reference(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    strides: Pair,
    pads: Pads,
    relu: bool = False,
) -> jax.Array:
    """Convolves as `convolve` does, by XLA."""
    y = jax.lax.conv_general_dilated(
        x, kernel.astype(x.dtype), strides, pads, dimension_numbers=_DIMENSIONS
    )
    y = y if bias is None else y + bias.astype(x.dtype)
    return jnp.maximum(y, 0) if relu else y


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 6))
def convolve(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    strides: Pair,
    pads: Pads,
    relu: bool = False,
    fast: bool = False,
) -> jax.Array:
    """Convolves x with the kernel, on a CPU by oneDNN, elsewhere as `jax.lax` does.

    Args:
        x: float32 or bfloat16 `[batch, height, width, in]`.
        kernel: float32 `[height, width, in, out]`.
        bias: float32 `[out]`, added to it, or None.
        strides: (vertical, horizontal).
        pads: ((top, bottom), (left, right)) pixels of zeros, less than the kernel's size.
        relu: whether what is below zero becomes zero then.
        fast: whether a CPU uses Winograd's algorithm, in this and in the gradients, where it is
            faster; its rounding errors are about ten times as large.

    Returns:
        `[batch, height', width', out]`, of the type of x.

    Raises:
        ValueError: pads are not less than the kernel; oneDNN would read what is not there.
    """
    pairs = zip(pads, kernel.shape[:2], strict=True)
    if any(pad >= size for around, size in pairs for pad in around):
        raise ValueError(f"pads {pads} are not less than the kernel {kernel.shape[:2]}")

    def plain(x: jax.Array, kernel: jax.Array, *bias: jax.Array) -> list[jax.Array]:
        return [reference(x, kernel, bias[0] if bias else None, strides, pads, relu)]

    def with_fewer(x: jax.Array, kernel: jax.Array, *bias: jax.Array) -> list[jax.Array]:
        return [winograd.convolve(x, kernel, bias[0] if bias else None, pads, relu)]

    operands = (x, kernel) if bias is None else (x, kernel, bias)
    (y,) = jax.eval_shape(plain, *operands)
    shapes = (x.shape, kernel.shape, y.shape, strides, pads)
    geometry = Geometry(Kind.FORWARD, x.dtype == jnp.bfloat16, bias is not None, relu, *shapes)
    faster = with_fewer if fast and winograd.pays(geometry) else None
    return _by_platform(operands, [y], geometry, plain, faster)[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _images_gradient(
    g: jax.Array, kernel: jax.Array, shape: tuple[int, ...], strides: Pair, pads: Pads, fast: bool
) -> jax.Array:
    """Returns the gradient of x, `shape`, of g, that of y, and the kernel."""
    x = jax.ShapeDtypeStruct(shape, g.dtype)
    shapes = (shape, kernel.shape, g.shape, strides, pads)
    geometry = Geometry(Kind.IMAGES, g.dtype == jnp.bfloat16, False, False, *shapes)

    def plain(g: jax.Array, kernel: jax.Array) -> list[jax.Array]:
        transposed = jax.linear_transpose(lambda x: reference(x, kernel, None, strides, pads), x)
        return list(transposed(g))

    def with_fewer(g: jax.Array, kernel: jax.Array) -> list[jax.Array]:
        return [winograd.images_gradient(g, kernel, pads)]

    faster = with_fewer if fast and winograd.pays(geometry) else None
    return _by_platform((g, kernel), [x], geometry, plain, faster)[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5, 6))
def _kernel_gradient(
    x: jax.Array,
    g: jax.Array,
    shape: tuple[int, ...],
    bias: bool,
    strides: Pair,
    pads: Pads,
    fast: bool,
) -> list[jax.Array]:
    """Returns the gradient of the kernel, float32 `shape`, of x and g, that of y; of the bias."""
    kernel = jax.ShapeDtypeStruct(shape, jnp.float32)
    shapes = (x.shape, shape, g.shape, strides, pads)
    geometry = Geometry(Kind.KERNEL, x.dtype == jnp.bfloat16, bias, False, *shapes)
    results = [kernel, jax.ShapeDtypeStruct(shape[-1:], jnp.float32)]

    def plain(x: jax.Array, g: jax.Array) -> list[jax.Array]:
        of_kernel = jax.linear_transpose(lambda k: reference(x, k, None, strides, pads), kernel)(g)
        return [*of_kernel, jnp.sum(g, (0, 1, 2), jnp.float32)][: 1 + bias]

    def with_fewer(x: jax.Array, g: jax.Array) -> list[jax.Array]:
        of_kernel = winograd.kernel_gradient(x, g, shape[:2], pads)
        return [of_kernel, channel_sum(g)][: 1 + bias]

    faster = with_fewer if fast and winograd.pays(geometry) else None
    return _by_platform((x, g), results[: 1 + bias], geometry, plain, faster)


def _by_platform(
    operands: tuple[jax.Array, ...],
    results: list[Any],
    settings: Geometry | Normalization,
    plain: Callable[..., list[jax.Array]],
    faster: Callable[..., list[jax.Array]] | None = None,
) -> list[jax.Array]:
    """Returns what a CPU makes of the operands its way, and elsewhere what `plain` does.

    Args:
        operands: of the call.
        results: arrays or structures of their shapes and types.
        settings: of the library's call.
        plain: the same by XLA.
        faster: what a CPU computes in place of the library's call.
    """

    def by_library(*operands: jax.Array) -> list[jax.Array]:
        return onednn.call(operands, results, settings)

    return jax.lax.platform_dependent(*operands, cpu=faster or by_library, default=plain)


def _convolve_forward(
    x: Any, kernel: Any, bias: Any, strides: Pair, pads: Pads, relu: bool, fast: bool
):
    y = convolve(x, kernel, bias, strides, pads, relu, fast)
    return y, (x, kernel, bias, y if relu else None)


def _convolve_backward(
    strides: Pair, pads: Pads, relu: bool, fast: bool, residuals: Any, g: jax.Array
):
    x, kernel, bias, y = residuals
    g = jnp.where(y > 0, g, 0) if relu else g
    found: Any = _kernel_gradient(x, g, kernel.shape, bias is not None, strides, pads, fast)
    of_bias = None if bias is None else found[1]
    return _images_gradient(g, kernel, x.shape, strides, pads, fast), found[0], of_bias


def _images_backward(
    shape: Any, strides: Pair, pads: Pads, fast: bool, residuals: Any, c: jax.Array
):
    del shape
    g, kernel = residuals
    found: Any = _kernel_gradient(c, g, kernel.shape, False, strides, pads, fast)
    return convolve(c, kernel, None, strides, pads, False, fast), found[0]


def _kernel_backward(
    shape: Any,
    bias: bool,
    strides: Pair,
    pads: Pads,
    fast: bool,
    residuals: Any,
    c: list[jax.Array],
):
    del shape
    x, g = residuals
    of_g = convolve(x, c[0], c[1] if bias else None, strides, pads, False, fast)
    return _images_gradient(g, c[0], x.shape, strides, pads, fast), of_g


convolve.defvjp(_convolve_forward, _convolve_backward)
_images_gradient.defvjp(
    lambda g, kernel, *rest: (_images_gradient(g, kernel, *rest), (g, kernel)), _images_backward
)
_kernel_gradient.defvjp(
    lambda x, g, *rest: (_kernel_gradient(x, g, *rest), (x, g)), _kernel_backward
)


_PARTS = 32  # of a sum over pixels: enough for the threads of a CPU, and for few rounding errors


def channel_sum(x: jax.Array) -> jax.Array:
    """Sums `x [..., channels]` to `[channels]`."""
    count = math.prod(x.shape[:-1])
    parts = math.gcd(count, _PARTS) if count else 1

    def in_parts(x: jax.Array) -> jax.Array:
        """Sums as many parts at once as there are, since XLA divides results among threads."""
        if parts == 1:  # a product is faster then
            return (jnp.ones((1, count), x.dtype) @ x.reshape(count, x.shape[-1]))[0]
        sums = jnp.sum(x.reshape(parts, count // parts, x.shape[-1]), axis=1)
        return jnp.sum(jax.lax.optimization_barrier(sums), axis=0)

    def reference(x: jax.Array) -> jax.Array:
        return jnp.sum(x, axis=tuple(range(x.ndim - 1)))

    return jax.lax.platform_dependent(x, cpu=in_parts, default=reference)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def reference_normalize(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float):
    """Normalises `x [..., channels]` by the mean and variance of each channel.

    Args:
        x: float32 or float64 [..., channels].
        scale: [channels], which the normalised values are multiplied with.
        bias: [channels], added then.
        epsilon: added to the (biased) variance.

    Returns:
        The normalised values, shaped as x; mean and variance [channels], which have no gradient.
    """
    return _reference_forward(x, scale, bias, epsilon)[0]


def _reference_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float):
    count = math.prod(x.shape[:-1])
    mean = channel_sum(x) / count
    var = channel_sum(jnp.square(x - mean)) / count
    root = jax.lax.rsqrt(var + epsilon)
    y = (x - mean) * (root * scale) + bias
    return (y, mean, var), (x, mean, root, scale)


def _reference_backward(epsilon: float, residuals, gradients):
    del epsilon
    x, mean, root, scale = residuals
    g, *_ = gradients
    count = math.prod(x.shape[:-1])
    dbias = channel_sum(g)
    dscale = channel_sum(g * ((x - mean) * root))
    dx = (g - (dbias + (x - mean) * root * dscale) / count) * (root * scale)
    return dx, dscale, dbias


reference_normalize.defvjp(_reference_forward, _reference_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, relu: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises each channel by mean and variance; on a CPU by oneDNN, elsewhere by XLA.

    Args:
        x: float32 or bfloat16 `[batch, height, width, channels]`.
        scale: float32 `[channels]`, which the normalised values are multiplied with.
        bias: float32 `[channels]`, added then.
        epsilon: added to the (biased) variance.
        relu: whether what is below zero becomes zero then.

    Returns:
        The normalised values, of the shape and type of x; mean and variance, float32
        `[channels]`, which have no gradient. There are no second derivatives on a CPU.
    """
    return _normalize_forward(x, scale, bias, epsilon, relu)[0]


def _plain_normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, relu: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    found: Any = reference_normalize(x.astype(jnp.float32), scale, bias, epsilon)
    y, mean, var = found
    return (jnp.maximum(y, 0) if relu else y).astype(x.dtype), mean, var


def _normalize_forward(x: Any, scale: Any, bias: Any, epsilon: float, relu: bool):
    settings = Normalization(Kind.NORMALIZE, x.dtype == jnp.bfloat16, relu, epsilon, x.shape)
    noted = [jax.ShapeDtypeStruct((onednn.workspace_size(settings),), jnp.uint8)] if relu else []

    def plain(x: jax.Array, scale: jax.Array, bias: jax.Array) -> list[jax.Array]:
        found = _plain_normalize(x, scale, bias, epsilon, relu)
        return [*found, *(jnp.zeros(one.shape, one.dtype) for one in noted)]

    found = _by_platform((x, scale, bias), [x, scale, scale, *noted], settings, plain)
    y, mean, var, *masks = found
    return (y, mean, var), (x, scale, bias, mean, var, *masks)


def _normalize_backward(epsilon: float, relu: bool, residuals: Any, gradients: Any):
    x, scale, bias, *_ = residuals
    g, *_ = gradients
    kind = Kind.NORMALIZE_GRADIENT
    settings = Normalization(kind, x.dtype == jnp.bfloat16, relu, epsilon, x.shape)

    def plain(x: Any, scale: Any, bias: Any, g: Any, *rest: Any) -> list[jax.Array]:
        del rest

        def values(x: Any, scale: Any, bias: Any) -> Any:
            return _plain_normalize(x, scale, bias, epsilon, relu)[0]

        return list(jax.vjp(values, x, scale, bias)[1](g))

    operands = (x, scale, bias, g, *residuals[3:])
    return tuple(_by_platform(operands, [x, scale, bias], settings, plain))


normalize.defvjp(_normalize_forward, _normalize_backward)
