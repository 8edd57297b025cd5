"""All augmentation of a run: which changes its settings ask for, and in which order they come.

Training images are mirrored and shifted (`augment`), cropped, zoomed, sheared, rotated and moved
(`geometry`), changed in colour (`colour`) or in one way at random (`trivial`), blanked in part
(`augment`, `mixing`), then scaled, and at last mixed with each other (`mixing`). Every change is a
pure function of the images and a key. Images that are evaluated are left as they are.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from cnn_jax.data import augment, colour, geometry, mixing, trivial
from cnn_jax.errors import UsageError
from cnn_jax.sections import Dataset

# Of `jax.random.fold_in`: far from the numbers that `jax.random.split` uses.
_GEOMETRY, _COLOUR, _TRIVIAL, _ERASING, _MIXING = range(0x41554700, 0x41554705)

# (images float [batch, ...], labels, key) -> (mixed images, shares of the classes [batch, classes])
Mix = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def apply(
    dataset: Dataset,
    images: jax.Array,
    key: jax.Array,
    fill: Sequence[float] = (0,),
    mirrored: jax.Array | None = None,
) -> jax.Array:
    """Augments a batch of training images as the settings say, all but mixing.

    Args:
        dataset: the settings.
        images: uint8 or float [n, height, width, channels], as they are stored.
        key: the key of this batch; the same key gives the same result.
        fill: [channels], the value of blank pixels, in the images' own units.
        mirrored: bool [n], which images to mirror, in place of `dataset.flip`'s chance.

    Returns:
        Images of the same shape and dtype.
    """
    images = augment.augment(
        images,
        key,
        flip=dataset.flip,
        crop_padding=dataset.crop_padding,
        cutout=0,
        mirrored=mirrored,
    )
    if geometric(dataset):
        images = geometry.transform(
            images,
            jax.random.fold_in(key, _GEOMETRY),
            smallest_crop=1.0 if dataset.random_crop is None else dataset.random_crop,
            zoom=dataset.zoom,
            shear=dataset.shear,
            rotation=dataset.rotation,
            translation=dataset.translation,
        )
        # XLA would else read the pixels anew for each use of them in what follows.
        images = jax.lax.optimization_barrier(images)
    if coloured(dataset):
        images = colour.jitter(
            images,
            jax.random.fold_in(key, _COLOUR),
            brightness=dataset.brightness,
            contrast=dataset.contrast,
            saturation=dataset.saturation,
            hue=dataset.hue,
        )
    if dataset.trivial_augment:
        images = trivial.trivial_augment(images, jax.random.fold_in(key, _TRIVIAL))
    if dataset.cutout:  # with the same key as ever, which `augment` splits
        images = augment.augment(
            images, key, flip=False, crop_padding=0, cutout=dataset.cutout, fill=fill
        )
    if dataset.random_erasing:
        chance = dataset.random_erasing
        images = mixing.erase(images, jax.random.fold_in(key, _ERASING), chance, jnp.array(fill))
    return images


def geometric(dataset: Dataset) -> bool:
    """Returns whether images are resampled."""
    moved = dataset.zoom or dataset.shear or dataset.rotation or dataset.translation
    return bool(moved or dataset.random_crop is not None)


def coloured(dataset: Dataset) -> bool:
    """Returns whether colours are changed."""
    return bool(dataset.brightness or dataset.contrast or dataset.saturation or dataset.hue)


def make_mix(dataset: Dataset, classes: int) -> Mix | None:
    """Returns the function that mixes a batch of scaled images and its labels, if one is wanted."""
    if not dataset.mixes:
        return None
    mix = functools.partial(mixing.mix, classes=classes, mixup=dataset.mixup, cutmix=dataset.cutmix)
    return lambda images, labels, key: mix(images, labels, jax.random.fold_in(key, _MIXING))


def check(dataset: Dataset, image_shape: tuple[int, int, int], dtype: str) -> None:
    """Refuses changes that images of this kind do not have.

    Args:
        dataset: the settings.
        image_shape: (height, width, channels).
        dtype: of the images as they are stored.

    Raises:
        UsageError: they are too small, not in colour, or floats.
    """
    smallest, channels = min(image_shape[:2]), image_shape[2]
    for name in ("crop_padding", "cutout"):
        if getattr(dataset, name) > smallest:
            raise UsageError(
                f"--dataset.{name}={getattr(dataset, name)} is more than the images have: "
                f"{smallest} pixels"
            )
    for name in ("saturation", "hue"):
        if getattr(dataset, name) and channels != 3:
            raise UsageError(
                f"--dataset.{name} changes colours, and the images have {channels} "
                f"channel{'s' if channels > 1 else ''}; leave it out"
            )
    if dataset.trivial_augment and (dtype != "uint8" or channels not in (1, 3)):
        raise UsageError(
            "--dataset.trivial_augment takes uint8 images of one or three channels, not "
            f"{dtype} of {channels}; use rotation, zoom, brightness and the like"
        )
    if dataset.mixes and dataset.batch_size < 2:
        raise UsageError(
            "--dataset.mixup and --dataset.cutmix mix the images of a batch, and "
            f"--dataset.batch_size={dataset.batch_size} leaves nothing to mix with"
        )


def fingerprint(dataset: Dataset, mean: Sequence[float]) -> list[Any]:
    """Returns the settings and numbers that augmented images depend on, besides their key.

    Args:
        dataset: the settings.
        mean: of each channel, with which parts of images are blanked.
    """
    names = [
        *("random_crop", "zoom", "shear", "rotation", "translation"),
        *("brightness", "contrast", "saturation", "hue", "trivial_augment", "random_erasing"),
    ]
    default = Dataset()
    changed = {
        name: value for name in names if (value := getattr(dataset, name)) != getattr(default, name)
    }
    known = [dataset.flip, dataset.crop_padding, dataset.cutout, list(mean)]
    return [*known, changed] if changed else known


def describe(dataset: Dataset) -> list[str]:
    """Returns what is done to training images, as short phrases in their order."""
    d = dataset
    found = [
        (d.flip, "mirrored by chance"),
        (d.alternate_flip, "mirrored in every other epoch"),
        (d.crop_padding, f"shifted by up to {d.crop_padding} pixels"),
        (d.random_crop is not None, f"cropped to {d.random_crop} to 1 of their area"),
        (d.zoom, f"zoomed by 1 ± {d.zoom:g}"),
        (d.shear, f"sheared by up to {d.shear:g}°"),
        (d.rotation, f"rotated by up to {d.rotation:g}°"),
        (d.translation, f"moved by up to {d.translation:g} of a side"),
        (d.brightness, f"brightness 1 ± {d.brightness:g}"),
        (d.contrast, f"contrast 1 ± {d.contrast:g}"),
        (d.saturation, f"saturation 1 ± {d.saturation:g}"),
        (d.hue, f"hue ± {d.hue:g} of a turn"),
        (d.trivial_augment, "TrivialAugment"),
        (d.cutout, f"a square of {d.cutout} pixels blanked"),
        (d.random_erasing, f"a rectangle of {d.random_erasing:.0%} of them blanked"),
        (d.mixup, f"mixup {d.mixup:g}"),
        (d.cutmix, f"cutmix {d.cutmix:g}"),
    ]
    return [words for wanted, words in found if wanted]
