"""What a user's arrays of images and labels may be, and the one line for what they may not."""

import numbers
from typing import Any, cast

import jax.numpy as jnp
import numpy as np

from cnn_jax.data.indexed import Lazy
from cnn_jax.errors import UsageError


def _array(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of lists of different lengths
        raise UsageError(f"{what} do not form one array; give them all one shape") from error


def as_images(values: Any, prefix: str) -> np.ndarray:
    """Returns images as uint8 or float32 [n, height, width, channels]."""
    if isinstance(values, Lazy):  # of a split of ours: as it should be, and not to be read here
        return cast(np.ndarray, values)
    images = _array(values, f"{prefix}images")
    kinds = "uint8, or floats, which are taken as they are"
    if np.ma.is_masked(values):
        raise UsageError(f"{prefix}images have masked values; fill them, and give a plain array")
    if images.dtype == object:
        raise UsageError(f"{prefix}images are an array of objects; give one array of {kinds}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise UsageError(
            f"{prefix}images have shape {np.shape(values)}; give [n, height, width, channels], or "
            "[n, height, width] for one channel"
        )
    first, height, last = images.shape[1:]
    if last > 4 and (first == 3 or (first == 1 and height == last)):
        raise UsageError(
            f"{prefix}images have shape {images.shape}, which is {first} x {height} pixels with "
            f"{last} channels; where the channels come first, give np.moveaxis(images, 1, -1)"
        )
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind in "iu":
        low, high = images.min(), images.max()
        if low < 0 or high > 255:
            raise UsageError(
                f"{prefix}images are {images.dtype} from {low} to {high}, beyond the pixels' 0 to "
                f"255; give {kinds}"
            )
        return images.astype(np.uint8)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UsageError(f"{prefix}images are {images.dtype}; give {kinds}")
    with np.errstate(over="ignore"):  # the next check finds what became infinite
        images = images.astype(np.float32, copy=False)
    for start in range(0, len(images), 256):
        finite = np.isfinite(images[start : start + 256]).all(axis=(1, 2, 3))
        if not finite.all():
            raise UsageError(
                f"{prefix}image {start + int(np.argmin(finite))} holds values that are not finite "
                "in float32"
            )
    return images


def as_labels(values: Any, count: int, prefix: str, multilabel: bool = False) -> np.ndarray:
    """Returns labels as integers or strings [n]; see `from_arrays` for what is taken.

    With `multilabel` rows of 0 and 1 are returned as uint8 [n, classes].
    """
    if np.ma.is_masked(values):
        raise UsageError(f"{prefix}labels have masked values; leave those images out")
    labels = _array(values, f"{prefix}labels")
    shape = labels.shape
    if labels.dtype == object and all(isinstance(label, str) for label in labels.flat):
        labels = labels.astype(str)
    elif labels.dtype == object and all(isinstance(label, numbers.Real) for label in labels.flat):
        labels = labels.astype(float)
    if labels.dtype.kind not in "biufU":
        raise UsageError(
            f"{prefix}labels are {labels.dtype}; give integers, or strings, the names of the "
            "classes"
        )
    if labels.ndim == 2 and shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and labels.dtype.kind in "biuf" and shape[1] > 1:
        whole = labels.astype(np.float32)
        if multilabel:
            if not ((whole == 0) | (whole == 1)).all():
                raise UsageError(
                    f"{prefix}labels of several findings are rows of 0 and 1, and some are others"
                )
            if len(labels) != count:
                raise UsageError(f"{prefix}labels are {len(labels)}, for {count} images")
            return whole.astype(np.uint8)
        if not (((whole == 0) | (whole == 1)).all() and (whole.sum(axis=1) == 1).all()):
            raise UsageError(
                f"{prefix}labels have shape {shape} and are not one-hot (one 1 in each row, else "
                "0); give the number of the class of each image, such as labels.argmax(axis=1); "
                "several findings in one image are learnt with train.loss=multilabel"
            )
        labels = whole.argmax(axis=1)
    if labels.ndim != 1:
        raise UsageError(f"{prefix}labels have shape {shape}, not one for each image")
    if len(labels) != count:
        raise UsageError(f"{prefix}labels are {len(labels)}, for {count} images")
    if labels.dtype.kind == "U":
        return labels
    if labels.dtype.kind == "f":
        fits = (np.abs(labels) < 2**31) & (labels == np.round(labels))  # not so of NaN
        if not fits.all():
            place = int(np.argmin(fits))
            raise UsageError(
                f"{prefix}label {place} is {labels[place]:g}, which is no class; give integers, "
                "or strings, the names of the classes"
            )
    labels = labels if labels.dtype.kind in "iu" else labels.astype(np.int32)
    if labels.min() < 0:
        raise UsageError(f"{prefix}label {labels.min()} is no class; classes are counted from 0")
    return labels


def doubts(images: np.ndarray) -> list[str]:
    """Returns a line where the values of images look as if they were scaled once too often, or not.

    Args:
        images: uint8 or float32 [n, height, width, channels].
    """
    low, high = float(images.min()), float(images.max())
    if low == high:
        return [f"every value of the images is {low:g}"]
    if images.dtype == np.uint8:
        if high <= 1:
            return [
                f"the images are uint8 from {low:g} to {high:g}, where pixels go up to 255; if "
                "they were divided by 255 before, give them as float32"
            ]
        return []
    told = f"the images are {images.dtype} from {low:.3g} to {high:.3g}, and are taken as they are"
    if high - low < 0.01:
        return [f"{told}; were they divided by 255 twice?"]
    if high - low > 20:
        return [
            f"{told}; give pixels of 0 to 255 as uint8, or have them scaled by "
            "settings={'dataset.normalize': 'standardize'}"
        ]
    return []
