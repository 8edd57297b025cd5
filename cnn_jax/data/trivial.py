"""TrivialAugment: one random change of each image, of random strength, and nothing to tune.

Source: Müller and Hutter 2021, arXiv:2103.10158; the "wide" set of changes and strengths. Unlike
there, shears are about the centre, and beyond the edges an image goes on as in a mirror.
"""

import math

import jax
import jax.numpy as jnp

from cnn_jax.data import colour, geometry

# The changes, and the greatest strength of those that have one.
CHANGES = (
    "identity",
    "autocontrast",
    "equalize",
    "posterize",
    "solarize",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
_NUMBER = {name: i for i, name in enumerate(CHANGES)}
_LEVELS = 31
_FACTOR, _SHEAR, _PIXELS, _DEGREES, _BITS = 0.99, 0.99, 32.0, 135.0, 6


def trivial_augment(images: jax.Array, key: jax.Array) -> jax.Array:
    """Changes each image in one way of `CHANGES`, all as likely, with one of 31 strengths.

    Args:
        images: uint8 [n, height, width, 1 or 3].
        key: the key of this batch; the same key gives the same result.
    """
    n = len(images)
    keys = jax.random.split(key, 3)
    kind = jax.random.randint(keys[0], (n,), 0, len(CHANGES))
    strength = jax.random.randint(keys[1], (n,), 0, _LEVELS) / (_LEVELS - 1)
    sign = jnp.where(jax.random.bernoulli(keys[2], shape=(n,)), 1.0, -1.0)
    return change(images, kind, strength, sign)


def change(images: jax.Array, kind: jax.Array, strength: jax.Array, sign: jax.Array) -> jax.Array:
    """Applies one of `CHANGES` to each image.

    Args:
        images: uint8 [n, height, width, 1 or 3].
        kind: int32 [n], indices into `CHANGES`.
        strength: float32 [n], from 0 to 1.
        sign: float32 [n], -1 or 1, of the changes that have a direction.
    """
    # XLA would else compute a stage anew for each of its uses in the next one.
    x = jax.lax.optimization_barrier(_move(images, kind, strength * sign))
    x = jax.lax.optimization_barrier(_tables(x, kind, strength))
    return _blend(x, kind, 1 + strength * sign * _FACTOR)


def _is(kind: jax.Array, name: str) -> jax.Array:
    """Returns bool [n, 1, 1, 1]."""
    return (kind == _NUMBER[name])[:, None, None, None]


def _move(images: jax.Array, kind: jax.Array, amount: jax.Array) -> jax.Array:
    """Rotates, shears or shifts those images whose change it is."""
    n = len(images)

    def only(name: str, most: float) -> jax.Array:
        return jnp.where(kind == _NUMBER[name], amount * most, 0.0)

    shear = geometry.linear(1.0, only("shear_y", _SHEAR), only("shear_x", _SHEAR), 1.0, n)
    maps = geometry.then(geometry.identity(n), shear)
    maps = geometry.then(maps, geometry.turn(only("rotate", math.radians(_DEGREES))))
    shift = [only(f"translate_{axis}", _PIXELS) for axis in "yx"]
    maps = geometry.then(maps, geometry.linear(1.0, 0.0, 0.0, 1.0, n), *shift)
    return geometry.as_dtype(geometry.resample(images, maps), images.dtype)


def _tables(images: jax.Array, kind: jax.Array, strength: jax.Array) -> jax.Array:
    """Changes the values of those images whose change depends on the value alone.

    There is a table of the 256 values for each channel of each image.
    """
    n, height, width, channels = images.shape
    values = images.astype(jnp.int32).transpose(0, 3, 1, 2).reshape(n * channels, height * width)
    row = jnp.arange(n * channels)[:, None]
    counts = jnp.zeros((n * channels, 256), jnp.int32).at[row, values].add(1)
    kind, strength = (jnp.repeat(each, channels)[:, None] for each in (kind, strength))
    table = jnp.broadcast_to(jnp.arange(256), counts.shape)
    ways = {
        "posterize": _posterize(table, strength),
        "solarize": jnp.where(table >= jnp.round(255 * (1 - strength)), 255 - table, table),
        "autocontrast": _autocontrast(table, counts),
        "equalize": _equalize(table, counts),
    }
    for name, changed in ways.items():
        table = jnp.where(kind == _NUMBER[name], changed, table)
    found = jnp.take_along_axis(table.astype(images.dtype), values, axis=1)
    return found.reshape(n, channels, height, width).transpose(0, 2, 3, 1)


def _posterize(table: jax.Array, strength: jax.Array) -> jax.Array:
    """Keeps the highest 8 to 2 bits."""
    lost = jnp.round(strength * _BITS).astype(jnp.int32)
    return table >> lost << lost


def _autocontrast(table: jax.Array, counts: jax.Array) -> jax.Array:
    """Stretches the values that there are to 0..255.

    Args:
        table: int32 [tables, 256].
        counts: int32 [tables, 256], how often there is each value.
    """
    low = jnp.argmax(counts > 0, axis=1, keepdims=True)
    high = _last(counts)
    stretched = jnp.clip((table - low) * 255 // jnp.maximum(high - low, 1), 0, 255)
    return jnp.where(high > low, stretched, table)


def _equalize(table: jax.Array, counts: jax.Array) -> jax.Array:
    """Spreads the values so that all are about as frequent; arguments as of `_autocontrast`."""
    of_last = jnp.take_along_axis(counts, _last(counts), axis=1)
    step = (counts.sum(axis=1, keepdims=True) - of_last) // 255
    before = jnp.cumsum(counts, axis=1) - counts
    spread = jnp.clip((step // 2 + before) // jnp.maximum(step, 1), 0, 255)
    return jnp.where(step > 0, spread, table)


def _last(counts: jax.Array) -> jax.Array:
    """Returns the greatest value that there is, int32 [tables, 1]."""
    return 255 - jnp.argmax(counts[:, ::-1] > 0, axis=1, keepdims=True)


def _blend(images: jax.Array, kind: jax.Array, factor: jax.Array) -> jax.Array:
    """Moves those images whose change it is away from black, grey, their mean or a blurred one."""
    x = images.astype(jnp.float32)
    grey = jnp.round(colour.grey(x))
    mean = jnp.round(grey.mean(axis=(1, 2, 3), keepdims=True))
    start = jnp.where(_is(kind, "brightness"), 0.0, x)
    start = jnp.where(_is(kind, "color"), grey, start)
    start = jnp.where(_is(kind, "contrast"), mean, start)
    start = jnp.where(_is(kind, "sharpness"), _smooth(x), start)
    found = colour.blend(start, x, factor[:, None, None, None])
    return geometry.as_dtype(found, images.dtype)


def _smooth(x: jax.Array) -> jax.Array:
    """Returns means over 3 x 3 pixels in which the middle counts five times; the edge stays."""
    height, width = x.shape[1:3]
    if min(height, width) < 3:
        return x
    rows = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    sums = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inner = jnp.round((sums + 4 * x[:, 1:-1, 1:-1]) / 13)
    return x.at[:, 1:-1, 1:-1].set(inner)
