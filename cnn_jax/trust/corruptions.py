"""Shift on purpose: corruptions of images at five strengths, computed on the device.

Seven kinds of Hendrycks and Dietterich (2019, arXiv:1903.12261) that need no data: noise, blur,
brightness, contrast, pixelation, JPEG, rotation. The strengths are ours, for images of any size;
figures made with them are no CIFAR-10-C.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

STRENGTHS = (1, 2, 3, 4, 5)
_NOISE = (0.02, 0.04, 0.08, 0.12, 0.18)  # standard deviation, of 0..1
_BLUR = (0.4, 0.6, 0.8, 1.2, 1.8)  # standard deviation in pixels of a 32-pixel image
_BRIGHTNESS = (0.08, 0.16, 0.24, 0.34, 0.45)  # added, of 0..1
_CONTRAST = (0.75, 0.55, 0.4, 0.25, 0.15)  # factor around the image's mean
_PIXELATION = (0.9, 0.75, 0.6, 0.5, 0.4)  # share of the side that is kept
_JPEG = (80, 50, 25, 15, 7)  # quality
_ROTATION = (5.0, 10.0, 15.0, 22.0, 30.0)  # degrees

# The table of luminance in Annex K of the JPEG standard (ITU-T T.81).
_QUANTA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)


def _noise(x: jax.Array, strength: int, key: jax.Array) -> jax.Array:
    return x + _NOISE[strength - 1] * jax.random.normal(key, x.shape)


def _blur(x: jax.Array, strength: int, key: jax.Array) -> jax.Array:
    del key
    deviation = _BLUR[strength - 1] * max(1.0, min(x.shape[1:3]) / 32)
    reach = max(1, math.ceil(3 * deviation))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-(offsets**2) / (2 * deviation**2))
    weights /= weights.sum()
    for axis in (1, 2):
        size = x.shape[axis]
        index = jnp.clip(jnp.arange(size)[:, None] + offsets[None], 0, size - 1)
        x = (jnp.take(x, index, axis=axis) * _along(weights, axis)).sum(axis=axis + 1)
    return x


def _along(weights: np.ndarray, axis: int) -> jax.Array:
    """Returns weights that broadcast over [n, ..., offsets, ...] with the offsets after an axis."""
    return jnp.asarray(weights, jnp.float32).reshape((1,) * (axis + 1) + (-1,) + (1,) * (3 - axis))


def _brightness(x: jax.Array, strength: int, key: jax.Array) -> jax.Array:
    del key
    return x + _BRIGHTNESS[strength - 1]


def _contrast(x: jax.Array, strength: int, key: jax.Array) -> jax.Array:
    del key
    mean = x.mean(axis=(1, 2), keepdims=True)
    return mean + _CONTRAST[strength - 1] * (x - mean)


def _pixelation(x: jax.Array, strength: int, key: jax.Array) -> jax.Array:
    del key
    n, height, width, channels = x.shape
    kept = [max(1, round(side * _PIXELATION[strength - 1])) for side in (height, width)]
    small = jax.image.resize(x, (n, *kept, channels), "linear")
    return jax.image.resize(small, x.shape, "nearest")


def _jpeg(x: jax.Array, strength: int, key: jax.Array) -> jax.Array:
    """Quantises the cosine transform of blocks of 8 x 8 pixels, each channel by itself."""
    del key
    quality = _JPEG[strength - 1]
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    quanta = np.clip(np.floor((_QUANTA * scale + 50) / 100), 1, 255) / 255
    k = np.arange(8)
    basis = np.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    n, height, width, channels = x.shape
    pads = [(0, 0), (0, -height % 8), (0, -width % 8), (0, 0)]
    padded = jnp.pad(x, pads, mode="edge")
    rows, columns = padded.shape[1] // 8, padded.shape[2] // 8
    blocks = padded.reshape(n, rows, 8, columns, 8, channels) - 0.5
    table = quanta[None, None, :, None, :, None]
    coefficients = jnp.einsum("ui,vj,nricjk->nrucvk", basis, basis, blocks)
    coefficients = jnp.round(coefficients / table) * table
    blocks = jnp.einsum("ui,vj,nrucvk->nricjk", basis, basis, coefficients) + 0.5
    return blocks.reshape(padded.shape)[:, :height, :width]


def _rotation(x: jax.Array, strength: int, key: jax.Array) -> jax.Array:
    """Turns each image about its centre, left or right by chance; what is beyond it is repeated."""
    n, height, width, _ = x.shape
    signs = jnp.where(jax.random.bernoulli(key, 0.5, (n,)), 1.0, -1.0)
    angle = math.radians(_ROTATION[strength - 1]) * signs[:, None, None]
    rows = jnp.arange(height)[:, None] - (height - 1) / 2
    columns = jnp.arange(width)[None] - (width - 1) / 2
    y = jnp.cos(angle) * rows - jnp.sin(angle) * columns + (height - 1) / 2
    z = jnp.sin(angle) * rows + jnp.cos(angle) * columns + (width - 1) / 2

    def one(image: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
        def channel(plane: jax.Array) -> jax.Array:
            return jax.scipy.ndimage.map_coordinates(plane, [y, z], order=1, mode="nearest")

        return jax.vmap(channel, in_axes=-1, out_axes=-1)(image)

    return jax.vmap(one)(x, y, z)


KINDS: dict[str, Callable[[jax.Array, int, jax.Array], jax.Array]] = {
    "noise": _noise,
    "blur": _blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelation": _pixelation,
    "jpeg": _jpeg,
    "rotation": _rotation,
}


@functools.partial(jax.jit, static_argnums=(1, 2))
def _applied(x: jax.Array, kind: str, strength: int, key: jax.Array) -> jax.Array:
    return jnp.clip(KINDS[kind](x, strength, key), 0.0, 1.0)


def corrupt(images: np.ndarray, kind: str, strength: int, seed: int = 0) -> np.ndarray:
    """Returns corrupted images like the given ones.

    Args:
        images: uint8 [n, height, width, channels]; or float32, whose smallest and largest value
            stand for black and white.
        kind: one of KINDS.
        strength: 1 to 5.
        seed: of what is drawn.
    """
    is_bytes = images.dtype == np.uint8
    low, high = (0.0, 255.0) if is_bytes else (float(images.min()), float(images.max()))
    span = max(high - low, 1e-12)
    x = (jnp.asarray(images, jnp.float32) - low) / span
    found = np.asarray(_applied(x, kind, strength, jax.random.key(seed))) * span + low
    return (np.round(found) if is_bytes else found).astype(images.dtype)
