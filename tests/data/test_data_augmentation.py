"""Geometry, colours, TrivialAugment, erasing, mixing: against Pillow and SciPy, or by properties.

Every change is the identity at strength 0, is a pure function of its key, and changes images of a
batch independently.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage, stats

from cnn_jax import experiment
from cnn_jax.data import augmentation, colour, geometry, mixing, trivial
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Dataset
from tests.tiny import UNOPTIMISED

SETTINGS: dict[str, Any] = {
    "random_crop": 0.3,
    "zoom": 0.3,
    "shear": 20.0,
    "rotation": 30.0,
    "translation": 0.2,
    "brightness": 0.5,
    "contrast": 0.5,
    "saturation": 0.5,
    "hue": 0.2,
    "trivial_augment": True,
    "random_erasing": 1.0,
}


def photograph(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Returns a smooth image with some noise, uint8 [height, width, channels]."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 255, (4, 5, channels))
    zoomed: Any = ndimage.zoom(coarse, (height / 4, width / 5, 1), order=1)
    return np.clip(zoomed + random.normal(0, 8, zoomed.shape), 0, 255).astype(np.uint8)


def stack(n: int, height: int = 12, width: int = 14, channels: int = 3, dtype=np.uint8):
    return jnp.asarray(np.stack([photograph(height, width, channels)] * n), dtype)


# Compiling takes longer than what is compiled here.
jit = functools.partial(jax.jit, compiler_options=UNOPTIMISED)
resample = jit(geometry.resample)


@pytest.mark.parametrize("names", [["trivial_augment"], [n for n in SETTINGS if n[:3] != "tri"]])
def test_changes_are_functions_of_their_key_and_independent_for_each_image(names):
    x = stack(40)
    dataset = Dataset(**{name: SETTINGS[name] for name in names})
    apply = jit(lambda x, key: augmentation.apply(dataset, x, key, (7.0,)))
    one, again, other = (np.asarray(apply(x, jax.random.key(k))) for k in (1, 1, 2))
    assert (one.dtype, one.shape) == (np.uint8, x.shape)
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    # Three of TrivialAugment's changes have no strength.
    least = 20 if names == ["trivial_augment"] else 40
    assert len(np.unique(one.reshape(40, -1), axis=0)) >= least
    assert 0 < np.abs(one.astype(int) - np.asarray(x)).mean() < 90


def test_floats_and_integers_are_changed_alike_up_to_rounding():
    dataset = Dataset(rotation=20.0, zoom=0.2, brightness=0.2, contrast=0.2)
    x = np.asarray(stack(6, channels=1)) // 2 + 40  # far from 0 and 255
    apply = jit(lambda x: augmentation.apply(dataset, x, jax.random.key(0)))
    whole, exact = (np.asarray(apply(jnp.asarray(x, dtype))) for dtype in (np.uint8, np.float32))
    assert exact.dtype == np.float32
    assert abs(whole - exact).max() <= 1.2  # rounded once after the geometry, once at the end


def test_without_settings_nothing_happens_and_strength_0_is_the_identity():
    x = stack(3)
    assert augmentation.apply(Dataset(), x, jax.random.key(0)) is x
    np.testing.assert_array_equal(jit(geometry.transform)(x, jax.random.key(0)), x)
    np.testing.assert_array_equal(colour.jitter(x, jax.random.key(0)), x)
    np.testing.assert_array_equal(jit(mixing.erase)(x, jax.random.key(0), 0.0), x)
    assert augmentation.make_mix(Dataset(), 3) is None
    assert augmentation.describe(Dataset()) == []
    assert not Dataset().augments
    for name, value in {**SETTINGS, "mixup": 0.2, "cutmix": 1.0}.items():
        assert Dataset(**{name: value}).augments
        assert len(augmentation.describe(Dataset(**{name: value}))) == 1


def test_resampling_is_scipys_in_a_mirror():
    random = np.random.default_rng(1)
    image = random.normal(size=(12, 14))
    centre = np.array([5.5, 6.5])
    for _ in range(5):
        matrix = np.eye(2) + random.normal(0, 0.6, (2, 2))
        offset = random.normal(0, 5, 2)
        start: Any = centre - matrix @ centre + offset
        want = ndimage.affine_transform(image, matrix, start, order=1, mode="mirror")
        np.testing.assert_allclose(one_map(image, matrix, offset), want, atol=2e-4)
    # SciPy does not mirror where there is one pixel: only along the other axis.
    line = random.normal(size=9)
    want = ndimage.affine_transform(line, [1.3], 4 - 1.3 * 4 + 2.5, order=1, mode="mirror")
    got = one_map(line[None], np.diag([1.0, 1.3]), np.array([7.0, 2.5]))
    np.testing.assert_allclose(got[0], want, atol=2e-4)


def one_map(image: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    maps = jnp.asarray(np.concatenate([matrix, offset[:, None]], axis=1)[None], jnp.float32)
    return np.asarray(resample(jnp.asarray(image[None, ..., None], jnp.float32), maps))[0, ..., 0]


def test_rotations_are_pillows_where_they_are_in_the_image():
    image = photograph(33, 33)
    row, column = np.indices((33, 33)) - 16
    inside = row**2 + column**2 < 15**2
    for degrees in (-70, 10, 90):
        maps = geometry.then(
            geometry.identity(1), geometry.turn(jnp.array([np.radians(degrees)], jnp.float32))
        )
        got = np.asarray(resample(jnp.asarray(image[None]), maps))[0]
        want = Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR)
        assert abs(got - np.asarray(want))[inside].max() <= 1.01


def test_a_map_that_follows_another_is_one_resampling():
    """A quarter turn and then a shift by two pixels, both exact."""
    x = stack(1, 9, 9)
    maps = geometry.then(geometry.identity(1), geometry.turn(jnp.array([np.pi / 2])))
    maps = geometry.then(maps, geometry.linear(1.0, 0.0, 0.0, 1.0, 1), 2.0, 0.0)
    got = np.round(resample(x, maps))[0]
    np.testing.assert_array_equal(got[:7], np.rot90(np.asarray(x)[0])[2:])


def places(n: int, **settings) -> np.ndarray:
    """Returns where `transform` reads the pixels of a large image, float [n, side, side, 2]."""
    side = 25
    ramp = np.moveaxis(np.indices((side, side)) - 12.0, 0, -1)
    x = jnp.asarray(np.broadcast_to(ramp, (n, side, side, 2)), jnp.float32)
    return np.asarray(jit(lambda x: geometry.transform(x, jax.random.key(3), **settings))(x))


def test_strengths_have_the_ranges_that_the_settings_name():
    n, near = 1000, (12, 16)  # a place 4 pixels right of the centre
    turned = places(n, rotation=30.0)[:, *near]
    assert abs(np.hypot(*turned.T) - 4).max() < 1e-3
    assert is_uniform(np.degrees(np.arctan2(turned[:, 0], turned[:, 1])), -30, 30)
    assert is_uniform(4 / places(n, zoom=0.25)[:, *near, 1], 0.75, 1.25)
    moved = places(n, translation=0.1)[:, 12, 12]
    assert is_uniform(moved.ravel(), -2.5, 2.5)
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.13
    sheared = places(n, shear=20.0)[:, 16, 12]
    assert abs(sheared[:, 0] - 4).max() < 1e-3
    assert is_uniform(np.degrees(np.arctan(sheared[:, 1] / 4)), -20, 20)


def is_uniform(values: np.ndarray, low: float, high: float) -> bool:
    return stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_crops_lie_in_the_image_and_have_the_area_that_is_asked_for():
    read = places(1500, smallest_crop=0.25)
    assert abs(read).max() <= 12.01  # nothing is read beyond the edges
    tall, wide = read[:, 18, 12, 0] - read[:, 6, 12, 0], read[:, 12, 18, 1] - read[:, 12, 6, 1]
    area, aspect = tall * wide / 144, wide / tall
    assert 0.24 < area.min() < 0.28
    assert 0.95 < area.max() <= 1.001
    assert 0.74 < aspect.min() < 0.79
    assert 1.27 < aspect.max() < 1.35
    free = (tall < 11) & (wide < 11)
    room = 12.5 * (1 - np.stack([tall, wide], axis=1)[free] / 12)
    assert is_uniform((read[free][:, 12, 12] / room).ravel(), -1, 1)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colours_are_pillows_at_the_same_factor(name, monkeypatch):
    pillow = {"brightness": "Brightness", "contrast": "Contrast", "saturation": "Color"}[name]
    image = photograph(20, 24)
    for factor in (0.4, 1.0, 1.7):
        given = functools.partial(np.full, fill_value=factor, dtype=np.float32)
        monkeypatch.setattr(jax.random, "uniform", lambda _, shape, given=given, **__: given(shape))
        got = colour.jitter(jnp.asarray(image[None]), jax.random.key(0), **{name: 0.9})
        want = getattr(ImageEnhance, pillow)(Image.fromarray(image)).enhance(factor)
        difference = abs(np.asarray(got[0], int) - np.asarray(want, int))
        assert difference.max() <= 2
        assert difference.mean() < 0.8  # Pillow cuts off where we round


def test_factors_of_colour_are_uniform_and_never_negative():
    x = jnp.ones((2000, 1, 1, 3))
    for most, low, high in ((0.4, 0.6, 1.4), (1.5, 0.0, 2.5)):
        factors = np.asarray(colour.jitter(x, jax.random.key(0), brightness=most))[:, 0, 0, 0]
        assert is_uniform(factors, low, high)


def test_a_turn_of_hue_keeps_greys_and_the_luma_and_comes_back():
    x = jnp.asarray(photograph(8, 8)[None], jnp.float32)
    for turns in (0.25, -0.4):
        turned = colour.turn_hue(x, jnp.array([turns]))
        np.testing.assert_allclose(colour.grey(turned), colour.grey(x), atol=0.05)
        assert abs(np.asarray(turned - x)).max() > 5
        back = colour.turn_hue(turned, jnp.array([-turns]))
        np.testing.assert_allclose(back, x, atol=1e-2)
    grey = jnp.full((1, 2, 2, 3), 100.0)
    np.testing.assert_allclose(colour.turn_hue(grey, jnp.array([0.3])), grey, atol=0.05)
    np.testing.assert_allclose(colour.turn_hue(x, jnp.array([1.0])), x, atol=1e-2)


@functools.cache
def changed(channels: int):
    """Returns (images, kinds, strengths, signs, what `trivial.change` makes of them)."""
    strengths = np.array([0.0, 0.3, 0.7, 1.0], np.float32)
    kinds = np.repeat(np.arange(len(trivial.CHANGES)), 2 * len(strengths))
    strength = np.tile(np.repeat(strengths, 2), len(trivial.CHANGES))
    sign = np.tile([1.0, -1.0], len(kinds) // 2).astype(np.float32)
    x = np.stack([photograph(32, 36, channels, seed) // 2 + 30 for seed in range(len(kinds))])
    found = jit(trivial.change)(x, kinds, strength, sign)
    return x, kinds, strength, sign, np.asarray(found)


def pillow(name: str, image: Image.Image, strength: float, sign: float) -> Image.Image:
    """Returns one change of TrivialAugment as Pillow makes it."""
    factor = 1 + 0.99 * strength * sign
    if name == "posterize":
        return ImageOps.posterize(image, 8 - int(np.round(6 * strength)))
    if name == "solarize":
        return ImageOps.solarize(image, int(np.round(255 * (1 - strength))))
    if name in ("autocontrast", "equalize"):
        return getattr(ImageOps, name)(image)
    if name in ("brightness", "color", "contrast", "sharpness"):
        return getattr(ImageEnhance, name.capitalize())(image).enhance(factor)
    return image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", trivial.CHANGES[:9])
def test_trivial_augments_changes_of_values_are_pillows(name, channels):
    x, kinds, strengths, signs, found = changed(channels)
    for i in np.flatnonzero(kinds == trivial.CHANGES.index(name)):
        image = Image.fromarray(x[i][..., 0] if channels == 1 else x[i])
        want = np.asarray(pillow(name, image, strengths[i], signs[i])).reshape(x[i].shape)
        difference = abs(found[i].astype(int) - want.astype(int))
        exact = name in ("identity", "posterize", "solarize", "equalize")
        # Pillow rounds the grey that colours are mixed with, before it mixes and rounds again.
        assert difference.max() <= (0 if exact else 2 if name == "color" else 1)


def test_trivial_augments_changes_of_place_have_its_strengths():
    x, kinds, strengths, signs, found = changed(3)
    one = geometry.identity(1)
    for i in np.flatnonzero(kinds >= trivial.CHANGES.index("rotate")):
        name, amount = trivial.CHANGES[kinds[i]], float(strengths[i] * signs[i])
        maps = {
            "rotate": lambda a: geometry.then(one, geometry.turn(jnp.array([np.radians(135 * a)]))),
            "shear_x": lambda a: geometry.then(one, geometry.linear(1, 0, 0.99 * a, 1, 1)),
            "shear_y": lambda a: geometry.then(one, geometry.linear(1, 0.99 * a, 0, 1, 1)),
            "translate_x": lambda a: geometry.then(one, geometry.linear(1, 0, 0, 1, 1), 0, 32 * a),
            "translate_y": lambda a: geometry.then(one, geometry.linear(1, 0, 0, 1, 1), 32 * a),
        }[name](amount)
        want = np.round(resample(jnp.asarray(x[i : i + 1]), maps))[0]
        assert abs(found[i] - want).max() <= 1
        if amount == 0:
            np.testing.assert_array_equal(found[i], x[i])


def test_trivial_augment_draws_every_change_as_often(monkeypatch):
    seen = {}
    monkeypatch.setattr(trivial, "change", lambda x, *drawn: seen.update(drawn=drawn) or x)
    trivial.trivial_augment(jnp.zeros((14_000, 1, 1, 1), jnp.uint8), jax.random.key(0))
    kind, strength, sign = map(np.asarray, seen["drawn"])
    assert abs(np.bincount(kind, minlength=14) - 1000).max() < 160
    assert len(np.unique(strength)) == 31
    assert (strength.min(), strength.max()) == (0, 1)
    assert abs(sign.mean()) < 0.05
    flat = jnp.full((4, 5, 5, 3), 9, jnp.uint8)  # nothing to stretch or to spread
    numbers = jnp.array([1, 2, 2, 1])
    np.testing.assert_array_equal(trivial.change(flat, numbers, jnp.ones(4), jnp.ones(4)), flat)


def test_erasing_blanks_one_rectangle_of_the_area_that_is_documented():
    n, height, width = 3000, 30, 40
    x = jnp.full((n, height, width, 3), 9, jnp.uint8)
    fill = jnp.array([1.4, 2.0, 3.0])
    y = np.asarray(jit(mixing.erase)(x, jax.random.key(0), 0.4, fill))
    blank = (y != 9).any(axis=-1)
    some = blank.any(axis=(1, 2))
    assert abs(some.mean() - 0.4) < 4 * 0.5 / n**0.5
    np.testing.assert_array_equal(np.unique(y[blank], axis=0), [[1, 2, 3]])
    tall, wide = blank.any(axis=2).sum(axis=1)[some], blank.any(axis=1).sum(axis=1)[some]
    assert (blank[some].sum(axis=(1, 2)) == tall * wide).all()  # all of these rows and columns
    share = tall * wide / (height * width)
    assert 0.012 < share.min() < 0.03
    assert 0.32 < share.max() < 0.36
    assert abs(share.mean() - (0.02 + 1 / 3) / 2) < 0.012
    row, column = np.argwhere(blank[some])[:, 1:].T
    assert abs(row.mean() - 14.5) < 0.6
    assert abs(column.mean() - 19.5) < 0.8
    floats = jit(mixing.erase)(jnp.full((50, 4, 4, 1), 0.5), jax.random.key(1), 1.0, 0.25)
    assert set(np.unique(floats)) == {0.25, 0.5}


def numbered(n: int, height: int = 6, width: int = 8) -> jax.Array:
    """Returns images whose every pixel is the number of the image."""
    number = jnp.arange(n, dtype=jnp.float32)[:, None, None, None]
    return jnp.broadcast_to(number, (n, height, width, 1))


mix = jit(mixing.mix, static_argnames=("classes", "mixup", "cutmix"))


def test_mixup_adds_images_and_labels_with_the_same_weights():
    n, a = 800, 0.2
    x, labels = numbered(n), jnp.arange(n, dtype=jnp.int32)
    mixed, shares = mix(x, labels, jax.random.key(0), classes=n, mixup=a)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(mixed[:, 0, 0, 0], shares @ x[:, 0, 0, 0], rtol=1e-3, atol=1e-2)
    assert (np.asarray((shares > 0).sum(axis=1)) <= 2).all()
    own = np.asarray(shares)[np.arange(n), np.arange(n)]
    assert stats.kstest(own, stats.beta(a, a).cdf).pvalue > 1e-3
    assert mixed.dtype == jnp.float32
    bits = mix(x.astype(jnp.bfloat16), labels, jax.random.key(0), classes=n, mixup=a)[0]
    assert bits.dtype == jnp.bfloat16


def test_cutmix_pastes_a_rectangle_and_its_share_is_the_labels():
    n, height, width = 2000, 20, 24
    x = numbered(n, height, width)
    mixed, shares = mix(x, jnp.arange(n), jax.random.key(1), classes=n, cutmix=1.0)
    foreign = np.asarray(mixed != x)[..., 0]
    area = foreign.mean(axis=(1, 2))
    np.testing.assert_allclose(np.asarray(shares)[np.arange(n), np.arange(n)], 1 - area, atol=1e-5)
    tall, wide = foreign.any(axis=2).sum(axis=1), foreign.any(axis=1).sum(axis=1)
    assert (foreign.sum(axis=(1, 2)) == tall * wide).all()
    own = np.flatnonzero(foreign[:, 10, 12])
    partners = np.asarray(mixed)[own, 10, 12, 0]
    np.testing.assert_array_equal((partners - own) % n, (partners[0] - own[0]) % n)
    # Of a uniform w the mean of 1 - w is 1/2; what is cut off at the edges leaves 4/15 or so.
    assert 0.24 < area.mean() < 0.34


def test_both_mixtures_take_turns_by_chance_and_labels_may_be_shares():
    n = 1000
    x, shares = numbered(n), jnp.eye(n)[:, :2] * 0 + jnp.array([0.3, 0.7])
    mixed, found = mix(x, shares, jax.random.key(2), classes=2, mixup=1.0, cutmix=1.0)
    np.testing.assert_allclose(found, shares, atol=1e-6)
    kinds = np.array([len(np.unique(each)) for each in np.asarray(mixed)])
    is_paste = np.asarray((mixed == x).any(axis=(1, 2, 3)))
    assert 0.4 < is_paste.mean() < 0.6
    assert kinds.max() == 2


def test_what_has_no_meaning_is_refused():
    check = functools.partial(augmentation.check, image_shape=(8, 8, 1), dtype="uint8")
    for dataset in (Dataset(saturation=0.1), Dataset(hue=0.1)):
        with pytest.raises(UsageError, match="changes colours, and the images have 1 channel;"):
            check(dataset)
    with pytest.raises(UsageError, match="takes uint8 images of one or three channels, not float"):
        augmentation.check(Dataset(trivial_augment=True), (8, 8, 1), "float32")
    with pytest.raises(UsageError, match="leaves nothing to mix with"):
        check(Dataset(mixup=0.2, batch_size=1))
    with pytest.raises(UsageError, match="more than the images have: 8 pixels"):
        check(Dataset(cutout=9))
    views = {"transfer.freeze": "backbone", "transfer.cache_views": 2, "dataset.mixup": 0.2}
    with pytest.raises(UsageError, match="mix images of every batch anew"):
        experiment.Experiment().replace(views)
    with pytest.raises(UsageError, match=r"hue must be at most 0\.5"):
        experiment.Experiment(dataset=Dataset(hue=0.7))
    with pytest.raises(UsageError, match="random_crop must be less than 1"):
        experiment.Experiment(dataset=Dataset(random_crop=1.0))


def test_the_key_of_cached_views_changes_with_what_is_drawn():
    assert augmentation.fingerprint(Dataset(flip=True), (0.5,)) == [True, 0, 0, [0.5]]
    seen = [augmentation.fingerprint(Dataset(**{k: v}), (0.5,)) for k, v in SETTINGS.items()]
    assert len({repr(each) for each in seen}) == len(SETTINGS)
