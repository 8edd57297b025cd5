"""Computes the terms of a convolutional network, one pure function for each.

These are the terms that the study guides explain on paper, in the smallest form that computes: the
sliding window, the output-size formula, the classical kernels, pooling, flattening and the dense
layer. They work on ONE image of shape (height, width) or (height, width, channels). Models are
built from `layers.py`, which works on batches; the layer table of `describe` uses the output-size
formula from here.

Images of integers (uint8 pixels) are computed in float32; images of floats keep their dtype.

Source: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning" (2016) for sizes and
padding; Gonzalez & Woods, "Digital Image Processing", for the kernels.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Padding = str | int | Sequence[tuple[int, int]]
"""'valid', 'same', P pixels on every side, or pixels as ((top, bottom), (left, right))."""


def output_size(
    input_size: int, kernel_size: int, stride: int = 1, padding: int | tuple[int, int] = 0
) -> int:
    """Returns the number of positions of a window along one axis: floor((W - F + 2P) / S) + 1.

    Args:
        input_size: W, pixels of the input along the axis.
        kernel_size: F, pixels of the window along the axis.
        stride: S, pixels from one position to the next.
        padding: P, pixels added at each end; or (before, after), whose sum replaces 2P.

    Raises:
        ValueError: a size or stride is below 1, the padding is negative, or the window is larger
            than the padded input.
    """
    before, after = (padding, padding) if isinstance(padding, int) else padding
    for name, value in (("input", input_size), ("kernel", kernel_size), ("stride", stride)):
        if value < 1:
            raise ValueError(f"the {name} size must be at least 1, not {value}")
    if before < 0 or after < 0:
        raise ValueError(f"the padding must be at least 0, not {padding}")
    padded = input_size + before + after
    if kernel_size > padded:
        raise ValueError(
            f"a window of {kernel_size} does not fit into an input of {input_size} "
            f"padded by {before} + {after}"
        )
    return (padded - kernel_size) // stride + 1


def same_padding(input_size: int, kernel_size: int, stride: int = 1) -> tuple[int, int]:
    """Returns the padding (before, after) that gives an output of ceil(W / S) positions.

    An odd pixel is added after (at the bottom or the right), as in TensorFlow, Keras and XLA's
    SAME. The symmetric padding of PyTorch differs where the stride is 2.
    """
    positions = -(-input_size // stride)
    total = max((positions - 1) * stride + kernel_size - input_size, 0)
    return total // 2, total - total // 2


def padding_pairs(
    padding: Padding, image: Sequence[int], window: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Returns any form of padding as pixels, ((top, bottom), (left, right)).

    Args:
        padding: see `Padding`; 'valid' and 'same' in upper or lower case.
        image: (height, width) before padding.
        window: (height, width) of the kernel or pooling window.
        strides: (vertical, horizontal), in pixels.

    Raises:
        ValueError: the padding has none of these forms.
    """
    if isinstance(padding, str):
        if padding.lower() == "valid":
            return ((0, 0), (0, 0))
        if padding.lower() == "same":
            return tuple(map(same_padding, image, window, strides))
        raise ValueError(f"padding is 'valid', 'same' or pixels, not {padding!r}")
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    (top, bottom), (left, right) = padding
    return ((top, bottom), (left, right))


def correlate2d(
    image: Any, kernel: Any, stride: int | tuple[int, int] = 1, padding: Padding = "valid"
) -> jax.Array:
    """Computes the cross-correlation: the kernel slides over the image and is NOT flipped.

    Every deep learning library calls this a convolution; `convolve2d` is the mathematical one.

    Args:
        image: (h, w) or (h, w, c).
        kernel: (kh, kw) for one filter, applied to each channel separately; or (kh, kw, c, f) for
            the f filters of a convolution layer, each of which sums over the c channels.
        stride: pixels from one position to the next, one number or (vertical, horizontal).
        padding: zeros around the image. 'same' equals that of `scipy.signal` for kernels of odd
            size; for even sizes SciPy adds the odd pixel before, this function after (see
            `same_padding`).

    Returns:
        (h', w'), (h', w', c) or (h', w', f), with h' and w' from `output_size`.

    Raises:
        ValueError: the shapes do not fit, or the kernel is larger than the padded image.
    """
    image, kernel = _as_float(image), _as_float(kernel)
    if kernel.ndim == 4 and image.ndim == 3 and kernel.shape[2] == image.shape[2]:
        groups = 1
    elif kernel.ndim == 2 and image.ndim in (2, 3):
        groups = 1 if image.ndim == 2 else image.shape[2]
        kernel = jnp.tile(kernel[:, :, None, None], (1, 1, 1, groups))
    else:
        raise ValueError(f"a kernel {kernel.shape} does not fit an image {image.shape}")
    strides, pairs = _geometry(image, kernel.shape[:2], stride, padding)
    result = lax.conv_general_dilated(
        (image if image.ndim == 3 else image[:, :, None])[None],
        kernel.astype(image.dtype),
        strides,
        pairs,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision=lax.Precision.HIGHEST,  # by default a TPU multiplies in bfloat16
    )[0]
    return result if image.ndim == 3 else result[:, :, 0]


def convolve2d(
    image: Any, kernel: Any, stride: int | tuple[int, int] = 1, padding: Padding = "valid"
) -> jax.Array:
    """Computes the convolution of mathematics: `correlate2d` with the kernel turned by 180 degrees.

    A kernel that is symmetric about its centre gives the same result with both; the result of
    Sobel's kernel changes its sign. A network learns its kernels, so it can express the same
    functions with either.
    """
    return correlate2d(image, jnp.flip(jnp.asarray(kernel), (0, 1)), stride, padding)


def sobel_magnitude(image: Any, padding: Padding = "valid") -> jax.Array:
    """Computes the edge strength sqrt(gx^2 + gy^2) by the two Sobel kernels, channel by channel."""
    return jnp.hypot(
        correlate2d(image, SOBEL_X, padding=padding), correlate2d(image, SOBEL_Y, padding=padding)
    )


def max_pool2d(
    image: Any,
    window: int | tuple[int, int] = 2,
    stride: int | tuple[int, int] | None = None,
    padding: Padding = "valid",
) -> jax.Array:
    """Computes the largest value of each window, channel by channel; padding is never the largest.

    Args:
        image: (h, w) or (h, w, c).
        window: pixels, one number or (height, width).
        stride: pixels from one window to the next, likewise; None: the size of the window, so
            windows do not overlap.
        padding: see `Padding`.

    Returns:
        (h', w') or (h', w', c), with h' and w' from `output_size`.

    Raises:
        ValueError: the window is larger than the padded image, or fits into the padding.
    """
    return _pool(_as_float(image), window, stride, padding, -jnp.inf, lax.max)


def average_pool2d(
    image: Any,
    window: int | tuple[int, int] = 2,
    stride: int | tuple[int, int] | None = None,
    padding: Padding = "valid",
) -> jax.Array:
    """Computes the mean of each window, channel by channel; padding is not counted, as in Keras.

    Arguments, result and errors are those of `max_pool2d`.
    """
    image = _as_float(image)
    total = _pool(image, window, stride, padding, 0.0, lax.add)
    return total / _pool(jnp.ones_like(image), window, stride, padding, 0.0, lax.add)


def flatten(feature_map: Any) -> jax.Array:
    """Returns a feature map (h, w, c) as a vector (h * w * c,): row by row, channels innermost."""
    return jnp.asarray(feature_map).reshape(-1)


def dense(x: Any, kernel: Any, bias: Any = 0.0) -> jax.Array:
    """Computes the dense layer x W + b, of shape (..., outputs).

    Args:
        x: (..., inputs).
        kernel: W, (inputs, outputs).
        bias: b, (outputs,).
    """
    return jnp.matmul(_as_float(x), kernel, precision=lax.Precision.HIGHEST) + bias


def averaging_kernel(size: int) -> np.ndarray:
    """Returns the kernel of the box blur, (size, size): every weight is 1 / size^2."""
    return np.full((size, size), 1 / size**2, np.float32)


def gaussian_kernel(size: int, sigma: float) -> np.ndarray:
    """Returns the kernel of the Gaussian blur, (size, size), whose sum is 1; sigma is in pixels."""
    x = np.arange(size) - (size - 1) / 2
    weights = np.exp(-(x**2) / (2 * sigma**2))
    kernel = np.outer(weights, weights)
    return (kernel / kernel.sum()).astype(np.float32)


def _constant(rows: list[list[int]]) -> np.ndarray:
    # NumPy, because a jnp array would start JAX's backend on import; read-only, because shared.
    kernel = np.array(rows, np.float32)
    kernel.flags.writeable = False
    return kernel


IDENTITY = _constant([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
"""Leaves the image as it is."""

EDGE = _constant([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]])
"""Edges in every direction: the negative Laplacian over eight neighbours; 0 where all is equal."""

LAPLACIAN = _constant([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
"""The Laplacian over four neighbours, the sum of the two second differences."""

SHARPEN = _constant([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])
"""The image minus its Laplacian."""

SOBEL_X = _constant([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
"""The slope from left to right (vertical edges), smoothed down the columns; for `correlate2d`."""

SOBEL_Y = _constant([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
"""The slope from top to bottom (horizontal edges), smoothed along the rows; for `correlate2d`."""


def _as_float(x: Any) -> jax.Array:
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _geometry(
    image: jax.Array, window: Sequence[int], stride: int | tuple[int, int], padding: Padding
) -> tuple[tuple[int, int], tuple[tuple[int, int], ...]]:
    """Returns the strides and the padding in pixels; a window that does not fit is an error."""
    strides = _pair(stride)
    pairs = padding_pairs(padding, image.shape[:2], window, strides)
    for size, extent, step, pair in zip(image.shape[:2], window, strides, pairs, strict=True):
        output_size(size, extent, step, pair)  # else XLA would return an empty array
    return strides, pairs


def _pool(image, window, stride, padding, start, combine) -> jax.Array:
    if image.ndim not in (2, 3):
        raise ValueError(f"an image is (h, w) or (h, w, c), not {image.shape}")
    window = _pair(window)
    strides, pairs = _geometry(image, window, window if stride is None else stride, padding)
    for extent, pair in zip(window, pairs, strict=True):
        if max(pair) >= extent:
            raise ValueError(f"padding {pair} holds a whole pooling window of {extent} pixels")
    rest = image.ndim - 2
    return lax.reduce_window(
        image,
        jnp.asarray(start, image.dtype),
        combine,
        window + (1,) * rest,
        strides + (1,) * rest,
        pairs + ((0, 0),) * rest,
    )
