"""Augmentation of image batches: pure functions that run inside the jitted step.

`augment` takes images as they are stored and comes before `scaling.normalize`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from cnn_jax.errors import UsageError
from cnn_jax.options import VIEWS


def _reflect(index: jax.Array, size: int) -> jax.Array:
    """Folds indices back into 0..size-1 without repeating the edge, as numpy's 'reflect' does."""
    period = max(2 * (size - 1), 1)
    index = index % period
    return jnp.minimum(index, period - index)


def alternate(key: jax.Array, positions: jax.Array, epoch: jax.Array) -> jax.Array:
    """Returns which images are mirrored in an epoch, bool [n], if mirroring alternates.

    One draw for each image says whether it is mirrored in even epochs; in odd epochs it is the
    other way round, so that two epochs in a row show it from both sides. Source: Jordan 2024,
    arXiv:2404.00498, section 3.6.

    Args:
        key: the run's key, the same in every epoch.
        positions: int32 [n], the images' positions in their split.
        epoch: int32 [], the epoch, counted from 0.
    """

    def drawn(position: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(key, position))

    return jax.vmap(drawn)(positions) ^ (epoch % 2 == 1)


def views(images: jax.Array, name: str) -> list[tuple[float, jax.Array]]:
    """Returns [(weight, images)]; the weighted mean of their logits evaluates the images.

    Source: Jordan 2024, arXiv:2404.00498, section 3.5.

    Args:
        images: `[n, height, width, channels]`, scaled or not.
        name: "one": the images themselves; "mirror": these and their mirror images;
            "mirror_translate": these two with half of the weight, and with the other half the same
            shifted by a pixel up and left, and down and right, the edge reflected.

    Raises:
        UsageError: there are no such views.
    """
    if name not in VIEWS:
        raise UsageError(f"views is one of {', '.join(VIEWS)}, not {name!r}")
    if name == "one":
        return [(1.0, images)]
    if name == "mirror":
        return [(0.5, images), (0.5, images[:, :, ::-1])]
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    shifted = [padded[:, i : i + height, i : i + width] for i in (0, 2)]
    shares = [(0.5, images), (0.25, shifted[0]), (0.25, shifted[1])]
    return [(share * weight, v) for share, x in shares for weight, v in views(x, "mirror")]


def augment(
    images: jax.Array,
    key: jax.Array,
    *,
    flip: bool,
    crop_padding: int,
    cutout: int,
    fill: ArrayLike | Sequence[float] = 0,
    mirrored: jax.Array | None = None,
) -> jax.Array:
    """Mirrors, crops and blanks images at random, each image independently.

    Args:
        images: uint8 or float [n, height, width, channels].
        key: the key of this batch; the same key gives the same result.
        flip: whether to mirror left to right with probability 1/2.
        crop_padding: p > 0 pads every side by p reflected pixels, then cuts out the old height and
            width at an offset uniform over 0..2p in each direction (He et al. 2015, section 4.2,
            with reflection in place of zeros).
        cutout: s > 0 blanks an s x s square whose centre is uniform over the pixels; the part
            beyond the border is lost, so fewer than s * s pixels may be blank (DeVries and
            Taylor 2017, section 3.2).
        fill: scalar or [channels], the value of blank pixels, in the images' own units. The mean of
            the train split (`255 * info.mean` of uint8 images) becomes zero if images are
            standardized.
        mirrored: bool [n], which images to mirror, in place of `flip`'s chance.

    Returns:
        Images of the same shape and dtype; the same array if nothing is asked for.
    """
    n, height, width, channels = images.shape
    flip_key, crop_key, cutout_key = jax.random.split(key, 3)

    if flip:
        mirrored = jax.random.bernoulli(flip_key, 0.5, (n,))
    if mirrored is not None or crop_padding:
        rows = jnp.broadcast_to(jnp.arange(height), (n, height))
        columns = jnp.broadcast_to(jnp.arange(width), (n, width))
        if crop_padding:
            low, high = -crop_padding, crop_padding + 1
            shift = jax.random.randint(crop_key, (2, n, 1), low, high)
            rows = _reflect(rows + shift[0], height)
            columns = _reflect(columns + shift[1], width)
            # Whole rows, then whole pixels: about half the time of padding and slicing on a CPU.
            images = jax.vmap(lambda image, index: image[index])(images, rows)
        if mirrored is not None:
            columns = jnp.where(mirrored[:, None], columns[:, ::-1], columns)
        images = jax.vmap(lambda image, index: image[:, index])(images, columns)

    if cutout:
        row_key, column_key = jax.random.split(cutout_key)
        top = jax.random.randint(row_key, (n, 1), 0, height) - cutout // 2
        left = jax.random.randint(column_key, (n, 1), 0, width) - cutout // 2
        row, column = jnp.arange(height), jnp.arange(width)
        in_rows = (row >= top) & (row < top + cutout)
        in_columns = (column >= left) & (column < left + cutout)
        blank = (in_rows[:, :, None] & in_columns[:, None, :])[..., None]
        value = jnp.broadcast_to(jnp.asarray(fill), (channels,))
        if jnp.issubdtype(images.dtype, jnp.integer):
            value = jnp.round(value)
        images = jnp.where(blank, value.astype(images.dtype), images)
    return images
