"""Random erasing, and images that are mixed with others of their batch: mixup and cutmix."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy import stats

# Shares of the area that are erased, and their aspect ratios (Zhong et al. 2017, section 3).
_ERASED = (0.02, 1 / 3)
_ASPECTS = (0.3, 1 / 0.3)
_QUANTILES = 4097  # of a distribution, between which it is linear


def erase(images: jax.Array, key: jax.Array, chance: float, fill: ArrayLike = 0) -> jax.Array:
    """Blanks a random rectangle of some images, each image independently.

    It covers a share of the area uniform over 0.02..1/3 with an aspect ratio log-uniform over
    0.3..3.3, both as far as whole pixels and the image's sides allow, and lies wholly in the image
    (Zhong et al. 2017, arXiv:1708.04896).

    Args:
        images: uint8 or float [n, height, width, channels].
        key: the key of this batch; the same key gives the same result.
        chance: that an image is erased in part.
        fill: scalar or [channels], the value of blank pixels, in the images' own units.
    """
    n, height, width, channels = images.shape
    keys = jax.random.split(key, 5)
    area = jax.random.uniform(keys[0], (n,), minval=_ERASED[0], maxval=_ERASED[1]) * height * width
    low, high = map(math.log, _ASPECTS)
    aspect = jnp.exp(jax.random.uniform(keys[1], (n,), minval=low, maxval=high))
    tall = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 1, height)
    wide = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 1, width)
    top = jnp.floor(jax.random.uniform(keys[2], (n,)) * (height - tall + 1))
    left = jnp.floor(jax.random.uniform(keys[3], (n,)) * (width - wide + 1))
    blank = _boxes(top, top + tall, left, left + wide, height, width)
    blank &= jax.random.bernoulli(keys[4], chance, (n, 1, 1, 1))
    value = jnp.broadcast_to(jnp.asarray(fill), (channels,))
    if jnp.issubdtype(images.dtype, jnp.integer):
        value = jnp.round(value)
    return jnp.where(blank, value.astype(images.dtype), images)


def mix(
    images: jax.Array,
    labels: jax.Array,
    key: jax.Array,
    *,
    classes: int,
    mixup: float = 0.0,
    cutmix: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Mixes each image, and its label, with another one of the batch.

    Mixup adds both images up with the weights w and 1 - w (Zhang et al. 2018, arXiv:1710.09412).
    Cutmix pastes a rectangle of the other image at its own place (Yun et al. 2019,
    arXiv:1905.04899); its sides have the same share of the image's, its centre is uniform, and w is
    the share of the area that is left. Where both are asked for, chance decides for each image.

    Args:
        images: float [n, height, width, channels], two or more.
        labels: int32 [n], or the shares of the classes, float32 [n, classes].
        key: the key of this batch; the same key gives the same result.
        classes: the number of classes.
        mixup: the a of the distribution Beta(a, a) of w; 0: no mixup.
        cutmix: that of cutmix, before the rectangle is cut off at the edges; 0: no cutmix.

    Returns:
        (images of the same shape and dtype, the shares of the classes, float32 [n, classes]).
    """
    n, height, width, _ = images.shape
    keys = jax.random.split(key, 5)
    shares = labels.astype(jnp.float32) if labels.ndim == 2 else jax.nn.one_hot(labels, classes)
    # All other images are as likely, and none is its own partner.
    other = (jnp.arange(n) + jax.random.randint(keys[0], (), 1, max(n, 2))) % n
    pasted: jax.Array = jnp.zeros((n, height, width, 1))  # the weight of the other image
    if mixup:
        pasted = jnp.broadcast_to(_beta(keys[1], mixup, n)[:, None, None, None], pasted.shape)
    if cutmix:
        side = jnp.sqrt(1 - _beta(keys[2], cutmix, n))
        middle = jax.random.uniform(keys[3], (2, n))

        def end(axis: int, sign: int) -> jax.Array:
            size = (height, width)[axis]
            return jnp.clip(jnp.round(size * (middle[axis] + sign * side / 2)), 0, size)

        boxes = _boxes(end(0, -1), end(0, 1), end(1, -1), end(1, 1), height, width)
        boxes = boxes.astype(jnp.float32)
        if mixup:
            boxes = jnp.where(jax.random.bernoulli(keys[4], 0.5, (n, 1, 1, 1)), boxes, pasted)
        pasted = boxes
    weight = pasted.mean(axis=(1, 2, 3))[:, None]
    mixed = images + pasted * (images[other].astype(jnp.float32) - images)
    return mixed.astype(images.dtype), shares + weight * (shares[other] - shares)


def _beta(key: jax.Array, a: float, n: int) -> jax.Array:
    """Returns float32 [n], drawn from Beta(a, a) by its quantiles.

    JAX's own draw is a loop that takes seconds to compile.
    """
    shares = np.linspace(0, 1, _QUANTILES)
    return jnp.interp(jax.random.uniform(key, (n,)), shares, stats.beta.ppf(shares, a, a))


def _boxes(
    top: jax.Array, bottom: jax.Array, left: jax.Array, right: jax.Array, height: int, width: int
) -> jax.Array:
    """Returns which pixels are in a rectangle for each image, bool [n, height, width, 1]."""
    row, column = jnp.arange(height), jnp.arange(width)
    in_rows = (row >= top[:, None]) & (row < bottom[:, None])
    in_columns = (column >= left[:, None]) & (column < right[:, None])
    return (in_rows[:, :, None] & in_columns[:, None, :])[..., None]
