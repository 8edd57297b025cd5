"""Scaling and augmentation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.data import augment as module
from cnn_jax.data.scaling import normalize
from cnn_jax.errors import UsageError

augment = jax.jit(module.augment, static_argnames=("flip", "crop_padding", "cutout"))

OFF = {"flip": False, "crop_padding": 0, "cutout": 0}


def images(n, height=6, width=8, channels=3, dtype=np.uint8):
    """Images whose every value tells its row, column and channel."""
    size = height * width * channels
    one = np.arange(size).reshape(height, width, channels) % 251 + 1
    return jnp.asarray(np.broadcast_to(one, (n, height, width, channels)), dtype)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("unit", lambda x, mean, std: x / 255),
        ("symmetric", lambda x, mean, std: x / 127.5 - 1),
        ("standardize", lambda x, mean, std: (x / 255 - mean) / std),
    ],
)
def test_normalize_scales_as_documented(mode, expected):
    x, mean, std = np.asarray(images(2)), np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.3, 0.1])
    y = normalize(x, mode, mean, std)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, expected(x.astype(np.float64), mean, std), atol=2e-6)
    assert normalize(x, mode, mean, std, jnp.bfloat16).dtype == jnp.bfloat16


def test_float_images_are_scaled_in_their_own_units():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 5, 2)), jnp.float32)
    mean, std = np.array([0.5, -3.0]), np.array([2.0, 0.1])
    np.testing.assert_allclose(
        normalize(x, "standardize", mean, std), (np.asarray(x) - mean) / std, atol=1e-5
    )
    np.testing.assert_array_equal(normalize(x, "none"), x)
    pixels = normalize(images(2), "none")
    assert pixels.dtype == jnp.float32
    np.testing.assert_array_equal(pixels, images(2))


def test_normalize_of_a_channel_without_variation_stays_finite():
    assert np.isfinite(normalize(images(1), "standardize", (0.5,) * 3, (0.0, 0.1, 0.0))).all()


def test_normalize_refuses_another_mode():
    with pytest.raises((ValueError, UsageError), match="other"):
        normalize(images(1), "other", (0,), (1,))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_everything_off_is_the_identity(dtype):
    x = images(3, dtype=dtype)
    np.testing.assert_array_equal(augment(x, jax.random.key(0), **OFF), x)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_same_key_same_images_also_under_jit(dtype):
    x = images(200, dtype=dtype)
    settings = {"flip": True, "crop_padding": 2, "cutout": 2}
    one = module.augment(x, jax.random.key(1), **settings)
    two = augment(x, jax.random.key(1), **settings)
    other = augment(x, jax.random.key(2), **settings)
    assert one.dtype == x.dtype
    assert one.shape == x.shape
    np.testing.assert_array_equal(one, two)
    assert (np.asarray(one) != np.asarray(other)).any()


def test_about_half_of_the_images_are_mirrored_and_the_others_untouched():
    n = 4000
    x = images(n)
    y = np.asarray(augment(x, jax.random.key(3), **{**OFF, "flip": True}))
    mirrored = (y == np.asarray(x)[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (y == np.asarray(x)).all(axis=(1, 2, 3))
    assert (mirrored ^ same).all()
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / n**0.5


@pytest.mark.parametrize("flip", [False, True])
def test_crops_are_cut_from_the_reflected_image_at_uniform_offsets(flip):
    n, p, height, width = 5000, 2, 6, 8
    x = np.asarray(images(n, height, width, 1))
    y = np.asarray(augment(jnp.asarray(x), jax.random.key(4), flip=flip, crop_padding=p, cutout=0))
    padded = np.pad(x[0], ((p, p), (p, p), (0, 0)), mode="reflect")
    counts = np.zeros((2 * p + 1, 2 * p + 1), int)
    for top in range(2 * p + 1):
        for left in range(2 * p + 1):
            crop = padded[top : top + height, left : left + width]
            counts[top, left] = (y == crop).all(axis=(1, 2, 3)).sum()
            if flip:
                counts[top, left] += (y == crop[:, ::-1]).all(axis=(1, 2, 3)).sum()
    assert counts.sum() == n  # every result is one of these crops, and of one alone
    expected = n / counts.size
    assert (abs(counts - expected) < 5 * expected**0.5).all()


def test_padding_wider_than_the_image_still_reflects():
    x = images(50, 3, 3, 1)
    y = np.asarray(augment(x, jax.random.key(5), flip=False, crop_padding=7, cutout=0))
    assert set(np.unique(y)) <= set(np.unique(np.asarray(x)))
    one = augment(images(4, 1, 1, 1), jax.random.key(5), flip=False, crop_padding=2, cutout=0)
    assert (np.asarray(one) == 1).all()


@pytest.mark.parametrize("side", [1, 3, 4])
def test_cutout_blanks_a_square_whose_centre_is_uniform(side):
    n, height, width = 4000, 6, 8
    x = images(n, height, width)
    y = np.asarray(augment(x, jax.random.key(6), **{**OFF, "cutout": side}, fill=0))
    blank = (y == 0).all(axis=-1)
    assert (y[~blank] == np.asarray(x)[~blank]).all()
    areas = blank.sum(axis=(1, 2))
    # The expected area by counting: each of the height * width centres is as likely.
    heights = [len(set(range(c - side // 2, c - side // 2 + side)) & set(range(height)))
               for c in range(height)]  # fmt: skip
    widths = [len(set(range(c - side // 2, c - side // 2 + side)) & set(range(width)))
              for c in range(width)]  # fmt: skip
    possible = np.outer(heights, widths)
    assert set(areas) == set(possible.ravel())
    assert areas.max() == side * side
    assert abs(areas.mean() - possible.mean()) < 5 * possible.std() / n**0.5 + 1e-9
    for mask in blank[:50]:  # a square: full rows of full columns
        assert mask.sum() == mask.any(axis=0).sum() * mask.any(axis=1).sum()


def test_cutout_puts_the_fill_of_each_channel():
    mean = np.array([0.2, 0.5, 0.9])
    x = jnp.full((20, 5, 5, 3), 7, jnp.uint8)
    y = np.asarray(augment(x, jax.random.key(7), **{**OFF, "cutout": 2}, fill=255 * mean))
    blank = (y != 7).any(axis=-1)
    assert blank.any(axis=(1, 2)).all()
    np.testing.assert_array_equal(np.unique(y[blank], axis=0), [np.round(255 * mean)])
    scaled = normalize(y, "standardize", mean, (0.25,) * 3)
    assert abs(np.asarray(scaled)[blank]).max() < 0.5 / 255 / 0.25 + 1e-6


def test_images_of_one_batch_are_augmented_independently():
    y = np.asarray(augment(images(200), jax.random.key(8), flip=True, crop_padding=2, cutout=2))
    assert len(np.unique(y.reshape(200, -1), axis=0)) > 150


def test_alternating_mirrors_show_every_image_from_both_sides_in_two_epochs():
    positions = jnp.arange(1000)
    first, second, third = (
        np.asarray(module.alternate(jax.random.key(3), positions, jnp.asarray(epoch)))
        for epoch in range(3)
    )
    np.testing.assert_array_equal(first, ~second)
    np.testing.assert_array_equal(first, third)
    assert 400 < first.sum() < 600
    shuffled = module.alternate(jax.random.key(3), positions[::-1], jnp.asarray(0))
    np.testing.assert_array_equal(shuffled, first[::-1])
    images = np.random.default_rng(0).integers(0, 256, (1000, 2, 3, 1), np.uint8)
    given = module.augment(
        jnp.asarray(images),
        jax.random.key(0),
        flip=False,
        crop_padding=0,
        cutout=0,
        mirrored=jnp.asarray(first),
    )
    np.testing.assert_array_equal(given[first], images[first][:, :, ::-1])
    np.testing.assert_array_equal(given[~first], images[~first])


def test_views_are_weighted_mirror_images_and_shifts():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 5, 3)), jnp.float32)
    for name, count in (("one", 1), ("mirror", 2), ("mirror_translate", 6)):
        found = module.views(images, name)
        assert len(found) == count
        assert sum(weight for weight, _ in found) == 1
        assert all(view.shape == images.shape for _, view in found)
    weights, views = zip(*module.views(images, "mirror_translate"), strict=True)
    assert weights == (0.25, 0.25, 0.125, 0.125, 0.125, 0.125)
    np.testing.assert_array_equal(views[0], images)
    np.testing.assert_array_equal(views[1], images[:, :, ::-1])
    np.testing.assert_array_equal(views[2][:, 1:, 1:], images[:, :-1, :-1])
    np.testing.assert_array_equal(views[2][:, 0, 1:], images[:, 1, :-1])  # the edge reflected
    np.testing.assert_array_equal(views[4][:, :-1, :-1], images[:, 1:, 1:])
    np.testing.assert_array_equal(views[5], views[4][:, :, ::-1])
