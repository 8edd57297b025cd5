"""Convolution with fewer multiplications: Winograd's minimal filtering, on a CPU.

An image is cut into tiles that overlap by the kernel's size less one. Along each axis `alpha` sums
of a tile's pixels and as many of the kernel's taps are formed, and multiplied pairwise: a matrix
product over the channels for each of the alpha x alpha pairs. The outputs are sums of the products.
F(4, 3), four outputs of three taps along each axis, takes 36 products where the definition has 144.

    y = A [(G w) * (B x)], along each axis, with the matrices of `transforms`

In exact arithmetic that is the convolution. In float32 its rounding errors are about ten times
those of the definition, some 1e-5 of the largest output; the sums are built from the points (at
most five, and infinity) that keep them smallest.

Sums lie as `[rows, alpha * alpha, columns]`, where rows are tiles or input channels and columns
channels, so that all of a tile is in one place when it is read and written.

Sources: Winograd, "Arithmetic complexity of computations", SIAM 1980; Lavin and Gray 2015,
arXiv:1509.09308. The matrices are Toom's and Cook's for polynomials, transposed.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import onednn
from cnn_jax.onednn import Geometry, Kind, Pads

_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
_MOST = len(_POINTS) + 1  # sums along an axis
_PART = 32 * 2**20  # bytes of sums that are computed at a time, to stay near the caches

# What `pays` reckons with, in FLOPs of oneDNN's convolution, measured on AVX-512: a FLOP of a
# product, and of one that sums over tiles; and to form a sum, one that stays in the caches, and
# one of more than so many bytes of sums.
_PRODUCT, _SUM_OF_TILES = 1.25, 1.6
_SUM, _FAR_SUM, _NEAR_BYTES = 150, 300, 100e6
_GAIN = 1.3  # that is asked


class Transforms(NamedTuple):
    """The matrices of F(m, r) along one axis.

    Attributes:
        outputs: A `[m, alpha]`: outputs as sums of products.
        kernel: G `[alpha, r]`: sums of the kernel's taps.
        inputs: B `[alpha, alpha]`: sums of the inputs.
    """

    outputs: np.ndarray
    kernel: np.ndarray
    inputs: np.ndarray


@functools.cache
def transforms(m: int, r: int) -> Transforms:
    """Returns what gives m outputs of r taps of m + r - 1 = alpha inputs, by alpha products."""
    alpha = m + r - 1
    points = np.array(_POINTS[: alpha - 1])
    powers = points[:, None] ** np.arange(max(m, r))
    outputs, kernel, inputs = np.zeros((m, alpha)), np.zeros((alpha, r)), np.zeros((alpha, alpha))
    outputs[:, :-1], outputs[-1, -1] = powers[:, :m].T, 1
    for i, point in enumerate(points):
        others = np.delete(points, i)
        kernel[i] = powers[i, :r] / np.prod(point - others)
        inputs[i, :-1] = np.atleast_1d(np.poly(others))[::-1]
    kernel[-1, -1], inputs[-1] = 1, np.atleast_1d(np.poly(points))[::-1]
    return Transforms(outputs, kernel, inputs)


class _Axis(NamedTuple):
    """How one axis is cut: into `tiles` of m outputs, of r taps and alpha inputs each."""

    size: int  # outputs
    r: int

    @property
    def m(self) -> int:
        if self.r == 1:
            return 1
        return min(range(1, _MOST + 2 - self.r), key=lambda m: (m + self.r - 1) * self._tiles(m))

    def _tiles(self, m: int) -> int:
        return -(-self.size // m)

    @property
    def tiles(self) -> int:
        return self._tiles(self.m)

    @property
    def alpha(self) -> int:
        return self.m + self.r - 1

    @property
    def transforms(self) -> Transforms:
        return transforms(self.m, self.r)


Axes = tuple[_Axis, _Axis]


def _axes(size: Sequence[int], taps: Sequence[int]) -> Axes:
    return _Axis(size[0], taps[0]), _Axis(size[1], taps[1])


def pays(geometry: Geometry) -> bool:
    """Whether a convolution, or its gradient, can be computed so, and should be faster."""
    taps, gradient = geometry.kernel[:2], geometry.kind == Kind.KERNEL
    whole = geometry.x if geometry.kind == Kind.IMAGES else geometry.y
    if geometry.bfloat16 or geometry.strides != (1, 1) or max(taps) >= _MOST:
        return False
    axes = _axes(whole[1:3], taps)
    pairs = math.prod(axis.alpha for axis in axes)
    tiles = whole[0] * math.prod(axis.tiles for axis in axes)
    channels, filters = geometry.kernel[2:]
    sums = pairs * tiles * (channels + filters)
    product = _SUM_OF_TILES if gradient else _PRODUCT
    cost = product * 2 * pairs * tiles * channels * filters
    cost += (_SUM if 4 * sums < _NEAR_BYTES else _FAR_SUM) * sums
    cost += _SUM * pairs * channels * filters
    return 2 * math.prod(geometry.y[:3]) * math.prod(geometry.kernel) > _GAIN * cost


def convolve(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, pads: Pads, relu: bool = False
) -> jax.Array:
    """Convolves with strides of one.

    Args:
        x: float32 `[batch, height, width, in]`.
        kernel: float32 `[height, width, in, out]`, of at most five by five taps.
        bias: float32 `[out]`, added to it, or None.
        pads: ((top, bottom), (left, right)) pixels of zeros.
        relu: whether what is below zero becomes zero then.

    Returns:
        float32 `[batch, height', width', out]`.
    """
    return _convolve(x, kernel, bias, pads, relu, turned=False)


def images_gradient(g: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    """Returns the gradient of the images of `convolve`, given g, that of its result."""
    back = [(r - 1 - a, r - 1 - b) for (a, b), r in zip(pads, kernel.shape[:2], strict=True)]
    return _convolve(g, kernel, None, (back[0], back[1]), False, turned=True)


def kernel_gradient(x: jax.Array, g: jax.Array, taps: Sequence[int], pads: Pads) -> jax.Array:
    """Returns the gradient of the kernel of `convolve`, given g, that of its result.

    Args:
        x: float32 `[batch, height, width, in]`.
        g: float32 `[batch, height', width', out]`.
        taps: the kernel's (height, width).
        pads: ((top, bottom), (left, right)) pixels of zeros.

    Returns:
        float32 `[height, width, in, out]`.
    """
    axes = _axes(g.shape[1:3], taps)
    matrices = [axis.transforms for axis in axes]
    ends = [(0, axis.tiles * axis.m - axis.size) for axis in axes]
    total = None
    parts = (_in_parts(one, axes, max(x.shape[-1], g.shape[-1])) for one in (x, g))
    for some, of_some in zip(*parts, strict=True):
        of_inputs = _sums(_whole_tiles(some, axes, pads), axes)
        of_outputs = _sums(_pad(of_some, (ends[0], ends[1])), axes, of_outputs=True)
        found = _products(of_inputs, of_outputs, transpose_a=True)
        total = found if total is None else total + found
    assert total is not None
    u = total.reshape(len(total), axes[0].alpha, axes[1].alpha, g.shape[-1])
    of_taps = [[u[:, i, j] for j in range(u.shape[2])] for i in range(u.shape[1])]
    kernel = _mix_both(of_taps, [matrix.kernel.T for matrix in matrices])
    return jax.lax.optimization_barrier(kernel).transpose(1, 2, 0, 3)


def _convolve(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, pads: Pads, relu: bool, turned: bool
) -> jax.Array:
    """Convolves; with `turned`, by the kernel turned by 180 degrees, from `out` to `in`."""
    taps = kernel.shape[:2]
    padded = [n + sum(pad) for n, pad in zip(x.shape[1:3], pads, strict=True)]
    axes = _axes([n - r + 1 for n, r in zip(padded, taps, strict=True)], taps)
    # Else the sums of all kernels of a network might be computed, and kept, at its beginning.
    x, kernel = jax.lax.optimization_barrier((x, kernel))
    kernel = kernel[::-1, ::-1] if turned else kernel
    each = [[kernel[i, j] for j in range(taps[1])] for i in range(taps[0])]
    whole = _mix_both(each, [axis.transforms.kernel for axis in axes])
    of_taps = jax.lax.optimization_barrier(whole.reshape(kernel.shape[2], -1, kernel.shape[3]))
    parts = []
    for some in _in_parts(x, axes, max(kernel.shape[2:])):
        of_inputs = _sums(_whole_tiles(some, axes, pads), axes)
        products = _products(of_inputs, of_taps, transpose_b=turned)
        y = _outputs(products, len(some), axes)
        y = y if bias is None else y + bias
        parts.append(jnp.maximum(y, 0) if relu else y)
    return jnp.concatenate(parts) if len(parts) > 1 else parts[0]


def _in_parts(x: jax.Array, axes: Axes, channels: int) -> list[jax.Array]:
    """Returns x in parts of some images each, whose sums the caches can hold."""
    size = 4 * channels * math.prod(axis.tiles * axis.alpha for axis in axes)
    count = max(1, _PART // size)
    return [x[i : i + count] for i in range(0, len(x), count)]


def _pad(x: jax.Array, pads: Pads) -> jax.Array:
    return jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), *pads, (0, 0))))


def _whole_tiles(x: jax.Array, axes: Axes, pads: Pads) -> jax.Array:
    """Returns x padded, and further at its ends so that the last tiles are whole."""
    full = [
        (before, after + axis.tiles * axis.m - axis.size)
        for axis, (before, after) in zip(axes, pads, strict=True)
    ]
    return _pad(x, (full[0], full[1]))


def _mix(parts: Sequence[jax.Array], matrix: np.ndarray, trailing: int) -> jax.Array:
    """Returns the matrix's sums of the parts, on a new axis before the `trailing` last ones.

    As one sum of products with constants that broadcast, which XLA makes into one loop.
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
    """Returns the sums of parts[row][column] by both matrices, on two new axes.

    Args:
        parts: one array for each pair.
        matrices: vertical and horizontal.
        between: so many axes of the parts, before the last, come between the new ones.
    """
    rows = [_mix(row, matrices[1], 1) for row in parts]
    return _mix(rows, matrices[0], 2 + between)


# The same program, but parts of the same size are traced once together.
_traced_once = functools.partial(jax.jit, inline=True)


@functools.partial(_traced_once, static_argnames=("axes", "of_outputs"))
def _sums(x: jax.Array, axes: Axes, of_outputs: bool = False) -> jax.Array:
    """Returns the sums of each tile's pixels, `[tiles, alpha * alpha, channels]`.

    Args:
        x: `[batch, height, width, channels]`, of whole tiles.
        axes: how they are cut.
        of_outputs: whether x is shaped as the outputs, whose tiles do not overlap, and the sums
            are those of a gradient.
    """
    vertical, horizontal = axes
    matrices = [
        axis.transforms.outputs.T if of_outputs else axis.transforms.inputs for axis in axes
    ]

    def every(axis: _Axis, first: int) -> slice:
        return slice(first, first + axis.m * (axis.tiles - 1) + 1, axis.m)

    columns = [x[:, :, every(horizontal, j)] for j in range(matrices[1].shape[1])]
    # Else what one axis needs would be computed again for each row of the other.
    half = jax.lax.optimization_barrier(_mix(columns, matrices[1], 1))
    rows = [half[:, every(vertical, i)] for i in range(matrices[0].shape[1])]
    tiles = len(x) * vertical.tiles * horizontal.tiles
    whole = _mix(rows, matrices[0], 2).reshape(tiles, -1, x.shape[-1])
    return jax.lax.optimization_barrier(whole)


@functools.partial(_traced_once, static_argnames=("batch", "axes"))
def _outputs(products: jax.Array, batch: int, axes: Axes) -> jax.Array:
    """Returns `[batch, height, width, channels]` of products `[tiles, alpha * alpha, channels]`."""
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
        a: `[rows, pairs, inner]`; transposed, `[inner, pairs, rows]`.
        b: `[inner, pairs, columns]`; transposed, `[columns, pairs, inner]`.
        transpose_a: whether a is transposed.
        transpose_b: whether b is.

    Returns:
        `[rows, pairs, columns]`.
    """
    rows, inner = (a.shape[2], a.shape[0]) if transpose_a else (a.shape[0], a.shape[2])
    columns = b.shape[0 if transpose_b else 2]
    settings = onednn.Products(transpose_a, transpose_b, a.shape[1], rows, inner, columns)
    result = jax.ShapeDtypeStruct((rows, a.shape[1], columns), jnp.float32)
    return onednn.call([a, b], [result], settings)[0]
