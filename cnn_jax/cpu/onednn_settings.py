"""The settings of each call of oneDNN.

They are all that a call depends on except the numbers in its arrays. They travel through XLA's
program as one array of int64, whose first number is the kind of the call.
"""

import enum
from typing import NamedTuple

import numpy as np

Pads = tuple[tuple[int, int], tuple[int, int]]
Pair = tuple[int, int]


class Kind(enum.IntEnum):
    """Which primitive a call runs.

    A convolution, dL/dx or dL/dkernel of one; batch normalisation or its gradients; matrix
    products, many of one size.
    """

    RESULT = 0
    IMAGES_GRADIENT = 1
    KERNEL_GRADIENT = 2
    NORMALIZE = 3
    NORMALIZE_GRADIENT = 4
    PRODUCTS = 5


class Geometry(NamedTuple):
    """The settings of a convolution or one of its gradients.

    Attributes:
        kind: RESULT, IMAGES_GRADIENT or KERNEL_GRADIENT.
        bfloat16: whether images are bfloat16, else float32.
        bias: whether a bias is added; for KERNEL_GRADIENT, whether dL/dbias is computed.
        relu: whether negative results become zero.
        x: `[batch, height, width, in]`.
        kernel: `[height, width, in, out]`, with the inputs of one group.
        y: `[batch, height', width', out]`.
        strides: (vertical, horizontal).
        pads: ((top, bottom), (left, right)) pixels of zeros.
    """

    kind: Kind
    bfloat16: bool
    bias: bool
    relu: bool
    x: tuple[int, ...]
    kernel: tuple[int, ...]
    y: tuple[int, ...]
    strides: Pair
    pads: Pads

    @property
    def groups(self) -> int:
        """How many groups of channels have filters of their own."""
        return self.x[-1] // self.kernel[2]

    def pack(self) -> np.ndarray:
        """Returns the attribute of a call, int64 [22]."""
        sizes = (*self.x, *self.kernel, *self.y, *self.strides, *self.pads[0], *self.pads[1])
        return np.array((*self[:4], *sizes), np.int64)

    @classmethod
    def unpack(cls, packed: bytes) -> "Geometry":
        """Returns the settings from the bytes of `pack`."""
        n = np.frombuffer(packed, np.int64).tolist()
        x, kernel, y = tuple(n[4:8]), tuple(n[8:12]), tuple(n[12:16])
        strides, pads = (n[16], n[17]), ((n[18], n[19]), (n[20], n[21]))
        return cls(Kind(n[0]), bool(n[1]), bool(n[2]), bool(n[3]), x, kernel, y, strides, pads)


class Normalization(NamedTuple):
    """The settings of batch normalisation or its gradients.

    Attributes:
        kind: NORMALIZE or NORMALIZE_GRADIENT.
        bfloat16: whether images are bfloat16, else float32.
        relu: whether negative results become zero.
        epsilon: added to the variance.
        x: `[batch, height, width, channels]`.
    """

    kind: Kind
    bfloat16: bool
    relu: bool
    epsilon: float
    x: tuple[int, ...]

    def pack(self) -> np.ndarray:
        """Returns the attribute of a call, int64 [8]."""
        bits = np.float64(self.epsilon).view(np.int64)
        return np.array((*self[:3], bits, *self.x), np.int64)

    @classmethod
    def unpack(cls, packed: bytes) -> "Normalization":
        """Returns the settings from the bytes of `pack`."""
        n = np.frombuffer(packed, np.int64)
        epsilon = float(n[3:4].view(np.float64)[0])
        return cls(Kind(n[0]), bool(n[1]), bool(n[2]), epsilon, tuple(n[4:].tolist()))


class Products(NamedTuple):
    """The settings of matrix products a @ b, many of one size.

    Attributes:
        transpose_a: whether a is `[inner, pairs, rows]`; else `[rows, pairs, inner]`.
        transpose_b: whether b is `[columns, pairs, inner]`; else `[inner, pairs, columns]`.
        pairs: the number of products.
        rows: of each result.
        inner: the length of the sums.
        columns: of each result.
    """

    transpose_a: bool
    transpose_b: bool
    pairs: int
    rows: int
    inner: int
    columns: int

    def pack(self) -> np.ndarray:
        """Returns the attribute of a call, int64 [7]."""
        return np.array((Kind.PRODUCTS, *self), np.int64)

    @classmethod
    def unpack(cls, packed: bytes) -> "Products":
        """Returns the settings from the bytes of `pack`."""
        n = np.frombuffer(packed, np.int64).tolist()
        return cls(bool(n[1]), bool(n[2]), *n[3:])


Settings = Geometry | Normalization | Products
