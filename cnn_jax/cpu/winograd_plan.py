"""Winograd's filtering, planned: the matrices of F(m, r), the tiles of an axis, whether it pays.

Sources: Winograd, "Arithmetic complexity of computations", SIAM 1980; Lavin and Gray 2015,
arXiv:1509.09308. The matrices are those of Toom and Cook for products of polynomials, transposed.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnn_jax.cpu.onednn_settings import Geometry, Kind

_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)  # these, and infinity, keep the rounding errors small
_MAX_ALPHA = len(_POINTS) + 1

# Costs for `pays`, measured on AVX-512. The unit is the time of one FLOP of oneDNN's convolution.
_PRODUCT_FLOP = 1.25  # of a matrix product over channels
_TILE_PRODUCT_FLOP = 1.6  # of a matrix product over tiles, in dL/dkernel
_SUM = 150  # to form one sum, while all sums together are smaller than _CACHED_BYTES
_UNCACHED_SUM = 300
_CACHED_BYTES = 100e6
_MIN_GAIN = 1.3  # the estimated gain that `pays` asks for


class Transforms(NamedTuple):
    """The matrices of F(m, r) along one axis.

    Attributes:
        outputs: A `[m, alpha]`, from products to outputs.
        kernel: G `[alpha, r]`, from taps to their sums.
        inputs: B `[alpha, alpha]`, from inputs to their sums.
    """

    outputs: np.ndarray
    kernel: np.ndarray
    inputs: np.ndarray


@functools.cache
def transforms(m: int, r: int) -> Transforms:
    """Returns the matrices of F(m, r): m outputs of r taps from alpha = m + r - 1 products."""
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


class Axis(NamedTuple):
    """One axis, cut into tiles of m outputs, which read alpha inputs each.

    Attributes:
        size: the number of outputs.
        r: the number of taps.
    """

    size: int
    r: int

    @property
    def m(self) -> int:
        """The member of the family that needs the fewest products for the axis."""
        if self.r == 1:
            return 1
        candidates = range(1, _MAX_ALPHA + 2 - self.r)
        return min(candidates, key=lambda m: (m + self.r - 1) * math.ceil(self.size / m))

    @property
    def tiles(self) -> int:
        """The number of tiles; the last may reach beyond the axis."""
        return math.ceil(self.size / self.m)

    @property
    def alpha(self) -> int:
        """The number of inputs that a tile reads, and of products."""
        return self.m + self.r - 1

    @property
    def transforms(self) -> Transforms:
        """The matrices of F(m, r)."""
        return transforms(self.m, self.r)


Axes = tuple[Axis, Axis]


def cut_axes(size: Sequence[int], taps: Sequence[int]) -> Axes:
    """Returns the vertical and the horizontal axis of `size` outputs (height, width)."""
    return Axis(size[0], taps[0]), Axis(size[1], taps[1])


def pays(geometry: Geometry) -> bool:
    """Whether a convolution, or a gradient of one, can be computed here and is likely faster."""
    taps = geometry.kernel[:2]
    outputs = geometry.x if geometry.kind == Kind.IMAGES_GRADIENT else geometry.y
    if geometry.bfloat16 or geometry.strides != (1, 1) or max(taps) >= _MAX_ALPHA:
        return False
    if geometry.groups > 1:
        return False
    axes = cut_axes(outputs[1:3], taps)
    pairs = math.prod(axis.alpha for axis in axes)
    tiles = outputs[0] * math.prod(axis.tiles for axis in axes)
    channels, filters = geometry.kernel[2:]
    sums = pairs * tiles * (channels + filters)
    flop = _TILE_PRODUCT_FLOP if geometry.kind == Kind.KERNEL_GRADIENT else _PRODUCT_FLOP
    cost = flop * 2 * pairs * tiles * channels * filters
    cost += (_SUM if 4 * sums < _CACHED_BYTES else _UNCACHED_SUM) * sums
    cost += _SUM * pairs * channels * filters
    return 2 * math.prod(geometry.y[:3]) * math.prod(geometry.kernel) > _MIN_GAIN * cost
