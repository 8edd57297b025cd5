"""Winograd's minimal filtering: convolution with fewer multiplications, on a CPU.

An image is cut into tiles that overlap by the kernel's size less one. Along each axis, `alpha`
sums of a tile's pixels and `alpha` sums of the kernel's taps are formed and multiplied pairwise.
For each of the alpha x alpha pairs that is a matrix product over the channels. The outputs are sums
of these products:

    y = A [(G w) * (B x)], along each axis, with the matrices of `winograd_plan.transforms`

F(4, 3), which computes four outputs of three taps along each axis, takes 36 products where the
definition takes 144. XLA forms the sums and the outputs; one call of oneDNN does the products.

In exact arithmetic this is the convolution. In float32 its rounding errors are about ten times
those of the definition, some 1e-5 of the largest output. The sums are built from the points (at
most five, and infinity) that keep the errors smallest.

Sums are arrays `[rows, alpha * alpha, columns]`, where rows are tiles or input channels and columns
are channels, so that all sums of a tile lie together when they are read and written.

Sources: as `winograd_plan.py` names them.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.cpu import onednn
from cnn_jax.cpu.onednn_settings import Pads, Products
from cnn_jax.cpu.winograd_plan import Axes, Axis, cut_axes

_PART_BYTES = 32 * 2**20  # of sums, computed at a time so that the caches hold them


def convolve(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, pads: Pads, relu: bool = False
) -> jax.Array:
    """Convolves with strides of one.

    Args:
        x: float32 `[batch, height, width, in]`.
        kernel: float32 `[height, width, in, out]`, of at most five by five taps.
        bias: float32 `[out]`, added to the result; or None.
        pads: ((top, bottom), (left, right)) pixels of zeros.
        relu: whether negative results become zero, after the bias.

    Returns:
        float32 `[batch, height', width', out]`.
    """
    return _convolve(x, kernel, bias, pads, relu, turned=False)


def images_gradient(g: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    """Returns dL/dx of `convolve`, given g = dL/dy."""
    back = [(r - 1 - a, r - 1 - b) for (a, b), r in zip(pads, kernel.shape[:2], strict=True)]
    return _convolve(g, kernel, None, (back[0], back[1]), False, turned=True)


def kernel_gradient(x: jax.Array, g: jax.Array, taps: Sequence[int], pads: Pads) -> jax.Array:
    """Returns dL/dkernel of `convolve`, given g = dL/dy.

    Args:
        x: float32 `[batch, height, width, in]`.
        g: float32 `[batch, height', width', out]`.
        taps: the kernel's (height, width).
        pads: ((top, bottom), (left, right)) pixels of zeros.

    Returns:
        float32 `[height, width, in, out]`.
    """
    axes = cut_axes(g.shape[1:3], taps)
    matrices = [axis.transforms for axis in axes]
    ends = [(0, axis.tiles * axis.m - axis.size) for axis in axes]
    total = None
    parts = (_in_parts(one, axes, max(x.shape[-1], g.shape[-1])) for one in (x, g))
    for images, gradients in zip(*parts, strict=True):
        inputs = _sums(_whole_tiles(images, axes, pads), axes)
        outputs = _sums(_pad(gradients, (ends[0], ends[1])), axes, of_outputs=True)
        products = _products(inputs, outputs, transpose_a=True)
        total = products if total is None else total + products
    assert total is not None
    u = total.reshape(len(total), axes[0].alpha, axes[1].alpha, g.shape[-1])
    pairs = [[u[:, i, j] for j in range(u.shape[2])] for i in range(u.shape[1])]
    kernel = _mix_both(pairs, [matrix.kernel.T for matrix in matrices])
    return jax.lax.optimization_barrier(kernel).transpose(1, 2, 0, 3)


def _convolve(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, pads: Pads, relu: bool, turned: bool
) -> jax.Array:
    """Convolves; with `turned`, the kernel is turned by 180 degrees and maps `out` to `in`."""
    taps = kernel.shape[:2]
    padded = [n + sum(pad) for n, pad in zip(x.shape[1:3], pads, strict=True)]
    axes = cut_axes([n - r + 1 for n, r in zip(padded, taps, strict=True)], taps)
    # The kernel waits for the input of its layer. Without this, XLA would compute the sums of all
    # kernels of a network at its beginning, and keep them.
    x, kernel = jax.lax.optimization_barrier((x, kernel))
    kernel = kernel[::-1, ::-1] if turned else kernel
    each = [[kernel[i, j] for j in range(taps[1])] for i in range(taps[0])]
    mixed = _mix_both(each, [axis.transforms.kernel for axis in axes])
    kernel_sums = jax.lax.optimization_barrier(mixed.reshape(kernel.shape[2], -1, kernel.shape[3]))
    parts = []
    for images in _in_parts(x, axes, max(kernel.shape[2:])):
        inputs = _sums(_whole_tiles(images, axes, pads), axes)
        products = _products(inputs, kernel_sums, transpose_b=turned)
        y = _outputs(products, len(images), axes)
        y = y if bias is None else y + bias
        parts.append(jnp.maximum(y, 0) if relu else y)
    return jnp.concatenate(parts) if len(parts) > 1 else parts[0]


def _in_parts(x: jax.Array, axes: Axes, channels: int) -> list[jax.Array]:
    """Returns x in parts: each as many images as have sums that the caches hold."""
    size = 4 * channels * math.prod(axis.tiles * axis.alpha for axis in axes)
    count = max(1, _PART_BYTES // size)
    return [x[i : i + count] for i in range(0, len(x), count)]


def _pad(x: jax.Array, pads: Pads) -> jax.Array:
    return jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), *pads, (0, 0))))


def _whole_tiles(x: jax.Array, axes: Axes, pads: Pads) -> jax.Array:
    """Pads x as asked, and then at its ends until the last tiles are whole."""
    full = [
        (before, after + axis.tiles * axis.m - axis.size)
        for axis, (before, after) in zip(axes, pads, strict=True)
    ]
    return _pad(x, (full[0], full[1]))


def _mix(parts: Sequence[jax.Array], matrix: np.ndarray, trailing: int) -> jax.Array:
    """Returns the matrix times the parts, on a new axis before the last `trailing` ones.

    It is written as a sum of products with constants that broadcast. XLA makes one vectorised loop
    of these; a stack of 36 expressions takes twice as long.
    """
    columns = matrix.astype(np.float32).T.reshape(len(parts), -1, *[1] * trailing)
    terms = (
        jnp.expand_dims(part, -1 - trailing) * column
        for part, column in zip(parts, columns, strict=True)
    )
    return functools.reduce(jnp.add, terms)


def _mix_both(
    parts: Sequence[Sequence[jax.Array]], matrices: Sequence[np.ndarray], between: int = 0
) -> jax.Array:
    """Applies both matrices to parts[row][column]; returns the sums on two new axes.

    Args:
        parts: one array for each pair.
        matrices: vertical and horizontal.
        between: the number of axes of the parts, before their last, that stand between the new
            axes.
    """
    rows = [_mix(row, matrices[1], 1) for row in parts]
    return _mix(rows, matrices[0], 2 + between)


# Does not change the program: parts of the same size are traced once instead of one by one.
_traced_once = functools.partial(jax.jit, inline=True)


@functools.partial(_traced_once, static_argnames=("axes", "of_outputs"))
def _sums(x: jax.Array, axes: Axes, of_outputs: bool = False) -> jax.Array:
    """Returns the sums of each tile's pixels, `[tiles, alpha * alpha, channels]`.

    Args:
        x: `[batch, height, width, channels]`, whole tiles.
        axes: how x is cut into tiles.
        of_outputs: whether x is dL/dy, whose tiles do not overlap and are summed by A transposed.
    """
    vertical, horizontal = axes
    matrices = [
        axis.transforms.outputs.T if of_outputs else axis.transforms.inputs for axis in axes
    ]

    def every(axis: Axis, first: int) -> slice:
        return slice(first, first + axis.m * (axis.tiles - 1) + 1, axis.m)

    columns = [x[:, :, every(horizontal, j)] for j in range(matrices[1].shape[1])]
    # Without the barrier XLA would compute the sums along one axis again for each row of the other.
    half = jax.lax.optimization_barrier(_mix(columns, matrices[1], 1))
    rows = [half[:, every(vertical, i)] for i in range(matrices[0].shape[1])]
    tiles = len(x) * vertical.tiles * horizontal.tiles
    whole = _mix(rows, matrices[0], 2).reshape(tiles, -1, x.shape[-1])
    return jax.lax.optimization_barrier(whole)


@functools.partial(_traced_once, static_argnames=("batch", "axes"))
def _outputs(products: jax.Array, batch: int, axes: Axes) -> jax.Array:
    """Maps products `[tiles, alpha * alpha, channels]` to `[batch, height, width, channels]`."""
    vertical, horizontal = axes
    tiles, alphas = (vertical.tiles, horizontal.tiles), (vertical.alpha, horizontal.alpha)
    products = jax.lax.optimization_barrier(products)
    products = products.reshape(batch, *tiles, *alphas, products.shape[-1])
    each = [[products[:, :, :, i, j] for j in range(alphas[1])] for i in range(alphas[0])]
    matrices = [axis.transforms.outputs for axis in axes]
    y = _mix_both(each, matrices, between=1)  # [batch, tiles, m, tiles, m, channels]
    y = y.reshape(batch, vertical.m * tiles[0], horizontal.m * tiles[1], y.shape[-1])
    return y[:, : vertical.size, : horizontal.size]


def _products(
    a: jax.Array, b: jax.Array, transpose_a: bool = False, transpose_b: bool = False
) -> jax.Array:
    """Multiplies the matrices of each pair of sums.

    Args:
        a: `[rows, pairs, inner]`; with transpose_a, `[inner, pairs, rows]`.
        b: `[inner, pairs, columns]`; with transpose_b, `[columns, pairs, inner]`.
        transpose_a: whether a is transposed.
        transpose_b: whether b is transposed.

    Returns:
        `[rows, pairs, columns]`.
    """
    rows, inner = (a.shape[2], a.shape[0]) if transpose_a else (a.shape[0], a.shape[2])
    columns = b.shape[0 if transpose_b else 2]
    settings = Products(transpose_a, transpose_b, a.shape[1], rows, inner, columns)
    result = jax.ShapeDtypeStruct((rows, a.shape[1], columns), jnp.float32)
    return onednn.call([a, b], [result], settings)[0]
