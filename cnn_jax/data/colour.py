"""Random colours of image batches: brightness, contrast, saturation and hue.

Integers are kept between 0 and 255 after each change, as Pillow does. Floats are in units of their
owner, whose limits nobody knows: they are not limited.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.data.geometry import as_dtype

# The luma of red, green and blue (ITU-R BT.601), which Pillow's "L" has too.
_LUMA = (0.299, 0.587, 0.114)
# From red, green and blue to the luma and two axes of colour (NTSC's YIQ).
_YIQ = np.array([_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])


def jitter(
    images: jax.Array,
    key: jax.Array,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> jax.Array:
    """Changes brightness, contrast, saturation and hue at random, each image independently.

    The four are applied in this order. Factors are uniform over 1 - x..1 + x, but not below 0.

    Args:
        images: uint8 or float [n, height, width, channels].
        key: the key of this batch; the same key gives the same result.
        brightness: x of the factor of all values.
        contrast: x of the factor of the differences from the mean grey of the image.
        saturation: x of the factor of the differences from each pixel's grey; needs three channels.
        hue: h turns the colours by an angle uniform over -h..h turns about the axis of greys, with
            the luma as it was (in YIQ; other programs turn in HSV); needs three channels.

    Returns:
        Images of the same shape and dtype; integers are rounded.
    """
    keys = jax.random.split(key, 4)
    limited = jnp.issubdtype(images.dtype, jnp.integer)
    x = images.astype(jnp.float32)

    def factor(number: int, most: float) -> jax.Array:
        shape, low = (len(x), 1, 1, 1), max(0.0, 1 - most)
        return jax.random.uniform(keys[number], shape, minval=low, maxval=1 + most)

    def limit(values: jax.Array) -> jax.Array:
        return jnp.clip(values, 0, 255) if limited else values

    if brightness:
        x = limit(x * factor(0, brightness))
    if contrast:
        x = limit(blend(grey(x).mean(axis=(1, 2, 3), keepdims=True), x, factor(1, contrast)))
    if saturation:
        x = limit(blend(grey(x), x, factor(2, saturation)))
    if hue:
        turns = jax.random.uniform(keys[3], (len(x),), minval=-hue, maxval=hue)
        x = limit(turn_hue(x, turns))
    return as_dtype(x, images.dtype)


def blend(from_: jax.Array, to: jax.Array, share: jax.Array) -> jax.Array:
    """Returns the first where the share is 0, the second where it is 1, and what is beyond."""
    return from_ + share * (to - from_)


def grey(images: jax.Array) -> jax.Array:
    """Returns the luma of colours, or the mean of other channels, float [n, height, width, 1]."""
    if images.shape[-1] == 3:
        return (images * jnp.array(_LUMA)).sum(axis=-1, keepdims=True)
    return images.mean(axis=-1, keepdims=True)


def turn_hue(images: jax.Array, turns: jax.Array) -> jax.Array:
    """Returns colours that are turned about the axis of greys, float32.

    Args:
        images: float32 [n, height, width, 3].
        turns: float32 [n], 1 is a whole turn.
    """
    cos, sin = jnp.cos(2 * math.pi * turns), jnp.sin(2 * math.pi * turns)
    one, zero = jnp.ones_like(cos), jnp.zeros_like(cos)
    rotation = jnp.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], axis=1)
    to, back = jnp.asarray(_YIQ, jnp.float32), jnp.asarray(np.linalg.inv(_YIQ), jnp.float32)
    matrix = jnp.einsum("ij,njk,kl->nil", back, rotation.reshape(-1, 3, 3), to, precision="highest")
    # Written out: as a product of matrices it would be 128 small ones.
    red, green, blue = (images[..., i, None] for i in range(3))
    each = matrix[:, None, None]
    return red * each[..., 0] + green * each[..., 1] + blue * each[..., 2]
