"""Random geometry of image batches: crop, zoom, shear, rotation and shift in one resampling.

Each image gets an affine map of its own, and is read once, with bilinear interpolation; beyond its
edges it goes on as in a mirror, the edge itself not repeated (NumPy's "reflect").
"""

import math

import jax
import jax.numpy as jnp

# Aspect ratios of random crops, width to height, as in Szegedy et al. 2015 (GoogLeNet).
_ASPECTS = (3 / 4, 4 / 3)


def transform(
    images: jax.Array,
    key: jax.Array,
    *,
    smallest_crop: float = 1.0,
    zoom: float = 0.0,
    shear: float = 0.0,
    rotation: float = 0.0,
    translation: float = 0.0,
) -> jax.Array:
    """Crops, zooms, shears, rotates and shifts images at random, each image independently.

    Args:
        images: uint8 or float [n, height, width, channels].
        key: the key of this batch; the same key gives the same result.
        smallest_crop: a < 1 takes a part of each image, of a share of the area uniform over a..1
            and an aspect ratio log-uniform over 3/4..4/3, as far as it fits, at a uniform place,
            and stretches it to the whole size (Szegedy et al. 2015, section 6).
        zoom: each image is magnified about its centre by a factor uniform over 1 - zoom..1 + zoom.
        shear: the most degrees by which columns lean, uniform in either direction.
        rotation: the most degrees of a turn about the centre, uniform in either direction.
        translation: the most that an image is shifted in each direction, as a share of its side.

    Returns:
        Images of the same shape and dtype; integers are rounded.
    """
    n, height, width, _ = images.shape
    keys = jax.random.split(key, 8)

    def uniform(number: int, low: float, high: float) -> jax.Array:
        return jax.random.uniform(keys[number], (n,), minval=low, maxval=high)

    maps = identity(n)
    if smallest_crop < 1:
        area, aspect = (
            uniform(0, smallest_crop, 1.0),
            jnp.exp(uniform(1, *map(math.log, _ASPECTS))),
        )
        # In shares of the height and the width.
        tall = jnp.minimum(jnp.sqrt(area / aspect * width / height), 1)
        wide = jnp.minimum(jnp.sqrt(area * aspect * height / width), 1)
        down = (uniform(2, 0.0, 1.0) - 0.5) * (1 - tall) * height
        right = (uniform(3, 0.0, 1.0) - 0.5) * (1 - wide) * width
        maps = then(maps, linear(tall, 0.0, 0.0, wide, n), down, right)
    if zoom:
        factor = 1 / uniform(4, 1 - zoom, 1 + zoom)
        maps = then(maps, linear(factor, 0.0, 0.0, factor, n))
    if shear:
        lean = jnp.tan(uniform(5, -math.radians(shear), math.radians(shear)))
        maps = then(maps, linear(1.0, 0.0, lean, 1.0, n))
    if rotation:
        maps = then(maps, turn(uniform(6, -math.radians(rotation), math.radians(rotation))))
    if translation:
        shift = jax.random.uniform(keys[7], (2, n), minval=-translation, maxval=translation)
        maps = then(maps, linear(1.0, 0.0, 0.0, 1.0, n), -shift[0] * height, -shift[1] * width)
    found = resample(images, maps)
    return as_dtype(found, images.dtype)


def identity(n: int) -> jax.Array:
    """Returns the maps that leave n images as they are, float32 [n, 2, 3]."""
    return jnp.broadcast_to(jnp.eye(2, 3, dtype=jnp.float32), (n, 2, 3))


def linear(
    rows_by_row: jax.Array | float,
    rows_by_column: jax.Array | float,
    columns_by_row: jax.Array | float,
    columns_by_column: jax.Array | float,
    n: int,
) -> jax.Array:
    """Returns float32 [n, 2, 2] of numbers or [n]."""
    parts = (rows_by_row, rows_by_column, columns_by_row, columns_by_column)
    whole = jnp.stack([jnp.broadcast_to(jnp.asarray(each, jnp.float32), (n,)) for each in parts])
    return whole.T.reshape(n, 2, 2)


def turn(angle: jax.Array) -> jax.Array:
    """Returns float32 [n, 2, 2] of angles [n] in radians: positive ones turn counterclockwise."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return linear(cos, sin, -sin, cos, len(angle))


def then(
    maps: jax.Array,
    matrix: jax.Array,
    down: jax.Array | float = 0.0,
    right: jax.Array | float = 0.0,
) -> jax.Array:
    """Returns the maps of images that are changed by `maps` first, and then once more.

    A map says where a pixel of the result is read, in pixels from the centre: (row, column) of the
    source = matrix @ (row, column) of the result + (down, right).

    Args:
        maps: float32 [n, 2, 3].
        matrix: float32 [n, 2, 2], of what follows.
        down: [n] or a number, likewise.
        right: likewise.
    """
    n = len(maps)
    offset = jnp.stack([jnp.broadcast_to(jnp.asarray(v, jnp.float32), (n,)) for v in (down, right)])
    after = jnp.concatenate([matrix, offset.T[:, :, None]], axis=2)
    moved = jnp.matmul(maps[:, :, :2], after, precision="highest")
    return moved.at[:, :, 2].add(maps[:, :, 2])


def resample(images: jax.Array, maps: jax.Array) -> jax.Array:
    """Returns images that are read at the places of their maps, float32 of the same shape.

    Args:
        images: uint8 or float [n, height, width, channels].
        maps: float32 [n, 2, 3]; see `then`.
    """
    thin = [(0, int(size == 1)) for size in images.shape[1:3]]  # there is no pixel to mirror
    height, width = images.shape[1:3]
    images = jnp.pad(images, ((0, 0), *thin, (0, 0)), mode="edge")
    n, padded_height, padded_width, channels = images.shape
    row = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    column = jnp.arange(width, dtype=jnp.float32)[None] - (width - 1) / 2

    def place(axis: int, size: int, centre: float) -> tuple[jax.Array, jax.Array]:
        """Returns the pixel before each place, int32 [n, height, width], and the rest."""
        a, b, c = (maps[:, axis, i, None, None] for i in range(3))
        at = a * row + b * column + c + centre
        at = jnp.abs((at + (size - 1)) % (2 * (size - 1)) - (size - 1))
        before = jnp.clip(jnp.floor(at), 0, size - 2)
        return before.astype(jnp.int32), (at - before)[..., None]

    top, down = place(0, padded_height, (height - 1) / 2)
    left, right = place(1, padded_width, (width - 1) / 2)
    pixels = images.reshape(n, padded_height * padded_width, channels)
    index = (top * padded_width + left).reshape(n, -1)

    def read(offset: int) -> jax.Array:
        # Four gathers of whole pixels take less time on a CPU than one of 2 x 2 pixels.
        found = jax.vmap(lambda image, at: image[at])(pixels, index + offset)
        return found.reshape(n, height, width, channels).astype(jnp.float32)

    above = read(0) * (1 - right) + read(1) * right
    below = read(padded_width) * (1 - right) + read(padded_width + 1) * right
    return above * (1 - down) + below * down


def as_dtype(values: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Returns float32 values as images; integers are rounded and kept between 0 and 255."""
    if jnp.issubdtype(dtype, jnp.integer):
        values = jnp.clip(jnp.round(values), 0, 255)
    return values.astype(dtype)
