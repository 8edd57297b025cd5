"""Arrays of the user's as a data set: checked, split and described, without a needless copy."""

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnn_jax.data import carve
from cnn_jax.data.splits import Data, DataInfo, Split
from cnn_jax.errors import UsageError

# (images, labels), or a Split, whose ids are kept.
Examples = tuple[Any, Any] | Split

NAME = "arrays"  # of data that were given in Python
_HELD_OUT = 0.1  # of the images, for validation
_MOST_CLASSES = 100_000  # more are a mistake, such as ids given as labels


def from_arrays(
    images: Any,
    labels: Any,
    *,
    validation: Examples | float | None = None,
    test: Examples | float | None = None,
    class_names: Sequence[str] | None = None,
    name: str = NAME,
) -> Data:
    """Makes a data set of arrays.

    Arrays of uint8 and float32 are not copied, except for the examples that are held out and those
    that stay: whoever changes them afterwards changes the data set.

    Args:
        images: [n, height, width, channels], or [n, height, width] for one channel. uint8, or other
            integers of 0 to 255, which become uint8: pixels, scaled by `--dataset.normalize` as
            those of any data set. Floats: kept as float32 in their own units, and not scaled by
            default; of the scalings, "standardize" and "none" take them.
        labels: n integers, each an index into `class_names`; or n strings, the names of classes.
        validation: the examples to validate on: (images, labels) or a `Split`; or the share of the
            images to hold out, between 0 and 1. None: a share of 0.1. What is held out is
            stratified, and depends only on n, the labels and the share.
        test: the examples to test on, likewise. None: there are none.
        class_names: the names of the classes, label i that of class_names[i]. None: "0", "1", ...
            up to the largest label; of labels that are strings, their values in sorted order.
        name: what messages call the data set.

    Returns:
        The data. An example's id is its position in the array that it came from, as a string.

    Raises:
        UsageError: the arrays are not images and labels, or do not belong together.
        RunError: what is held out leaves no image of a class to train on.
    """
    given: dict[str, Examples] = {}
    shares: dict[str, float] = {}
    for split, value in (("test", test), ("validation", validation)):
        if value is None:
            continue
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            shares[split] = float(value)
            if not 0 < shares[split] < 1:
                raise UsageError(f"{split}={value}: a share is more than 0 and less than 1")
        else:
            given[split] = _examples(value, split)
    if validation is None:
        shares["validation"] = _HELD_OUT
    names, parts = check((images, labels), given, class_names)
    notes: list[str] = []
    whole = parts["train"]
    parts |= carve.hold_out(whole, shares, notes, carve.ARGUMENT)
    carve.check_classes(name, names, whole, parts, notes, share_name=carve.ARGUMENT)
    return carve.describe(name, "", names, parts, notes)


def _examples(value: Any, split: str) -> Examples:
    if isinstance(value, Split) or (isinstance(value, tuple | list) and len(value) == 2):
        return value if isinstance(value, Split) else (value[0], value[1])
    raise UsageError(
        f"{split} is (images, labels), a Split or a share between 0 and 1, not "
        f"{type(value).__name__}"
    )


def check(
    train: Examples,
    others: Mapping[str, Examples],
    class_names: Sequence[str] | None,
    where: str = "",
) -> tuple[tuple[str, ...], dict[str, Split]]:
    """Checks arrays and returns (class names, splits).

    Args:
        train: the training examples.
        others: the other splits' examples by the splits' names.
        class_names: as `from_arrays` takes them.
        where: what messages begin with.

    Raises:
        UsageError: they are not images and labels, or do not belong together.
    """
    arrays = {}
    for split, examples in {"train": train, **others}.items():
        prefix = where if split == "train" else f"{where}{split} "
        images, labels, ids = _parts(examples)
        images = _images(images, prefix)
        arrays[split] = images, _labels(labels, len(images), prefix), ids, prefix
        first = arrays["train"][0]
        if images.shape[1:] != first.shape[1:] or images.dtype != first.dtype:
            raise UsageError(
                f"{prefix}images are {images.dtype} of shape {images.shape[1:]}, and those to "
                f"train on {first.dtype} of shape {first.shape[1:]}"
            )
    names = _class_names(class_names, arrays["train"][1], where)
    splits = {}
    for split, (images, labels, ids, prefix) in arrays.items():
        ids = list(map(str, range(len(images)))) if ids is None else ids
        if len(ids) != len(images):
            raise UsageError(f"{prefix}ids are {len(ids)}, for {len(images)} images")
        splits[split] = Split(images, _indices(labels, names, prefix), ids)
    return names, splits


def _parts(examples: Examples) -> tuple[Any, Any, Sequence[str] | None]:
    if isinstance(examples, Split):
        return examples.images, examples.labels, examples.ids
    return examples[0], examples[1], None


def _array(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of lists of different lengths
        raise UsageError(f"{what} do not form one array; give them all one shape") from error


def _images(values: Any, prefix: str) -> np.ndarray:
    """Returns images as uint8 or float32 [n, height, width, channels]."""
    images = _array(values, f"{prefix}images")
    kinds = "uint8, or floats, which are taken as they are"
    if images.dtype == object:
        raise UsageError(f"{prefix}images are an array of objects; give one array of {kinds}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise UsageError(
            f"{prefix}images have shape {np.shape(values)}; give [n, height, width, channels], or "
            "[n, height, width] for one channel"
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


def _labels(values: Any, count: int, prefix: str) -> np.ndarray:
    """Returns labels as integers or strings [n]."""
    labels = _array(values, f"{prefix}labels")
    if labels.ndim != 1:
        tip = ""
        if labels.ndim == 2:
            tip = "; give labels[:, 0]" if labels.shape[1] == 1 else "; give labels.argmax(axis=1)"
        raise UsageError(f"{prefix}labels have shape {labels.shape}, not one for each image{tip}")
    if len(labels) != count:
        raise UsageError(f"{prefix}labels are {len(labels)}, for {count} images")
    if labels.dtype.kind in "iu" and labels.min() < 0:
        raise UsageError(f"{prefix}label {labels.min()} is no class; classes are counted from 0")
    if labels.dtype.kind in "iuU":
        return labels
    if labels.dtype == object and all(isinstance(label, str) for label in labels):
        return labels.astype(str)
    raise UsageError(
        f"{prefix}labels are {labels.dtype}; give integers, or strings, the names of the classes"
    )


def _class_names(given: Sequence[str] | None, labels: np.ndarray, where: str) -> tuple[str, ...]:
    """Returns the names of the classes: those given, else those that the labels tell."""
    if given is not None:
        if isinstance(given, str) or not all(isinstance(name, str) for name in given):
            raise UsageError(f"{where}class_names are strings, one for each class")
        names = tuple(given)
        if len(set(names)) != len(names):
            raise UsageError(f"{where}class_names has a name twice")
    elif labels.dtype.kind == "U":
        names = tuple(np.unique(labels).tolist())
    else:
        largest = int(labels.max())
        if largest >= _MOST_CLASSES:
            raise UsageError(f"{where}the largest label is {largest}; give class_names if it is so")
        names = tuple(map(str, range(largest + 1)))
    if len(names) < 2:
        raise UsageError(
            f"{where}there is only the class {', '.join(names)!r}, and two are the least"
        )
    return names


def _indices(labels: np.ndarray, names: tuple[str, ...], prefix: str) -> np.ndarray:
    """Returns labels as int32 [n], indices into the names of the classes."""
    if labels.dtype.kind == "U":
        values, inverse = np.unique(labels, return_inverse=True)
        places = {name: place for place, name in enumerate(names)}
        unknown = [value for value in values.tolist() if value not in places]
        if unknown:
            raise UsageError(
                f"{prefix}label {unknown[0]!r} is no class; the classes are {_some(names)}"
            )
        return np.array([places[value] for value in values.tolist()], np.int32)[inverse]
    if labels.max() >= len(names):
        raise UsageError(
            f"{prefix}label {labels.max()} is no class; the {len(names)} classes are 0 to "
            f"{len(names) - 1} ({_some(names)})"
        )
    return labels.astype(np.int32, copy=False)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def check_images(images: Any, like: DataInfo) -> np.ndarray:
    """Returns images as uint8 or float32 [n, height, width, channels], like those of a data set.

    Raises:
        UsageError: they have another shape or type.
    """
    checked = _images(images, "")
    if checked.shape[1:] != like.image_shape or str(checked.dtype) != like.dtype:
        height, width, channels = like.image_shape
        raise UsageError(
            f"images are {checked.dtype} of shape {checked.shape[1:]}; the network takes "
            f"{like.dtype} images of {height} x {width} with {channels} channels"
        )
    return checked


def make_split(images: Any, labels: Any, like: DataInfo) -> Split:
    """Returns examples as a Split, with images and classes like those of a data set.

    Raises:
        UsageError: the images have another shape or type, or a label is no class of it.
    """
    checked = check_images(images, like)
    indices = _indices(_labels(labels, len(checked), ""), like.class_names, "")
    return Split(checked, indices, [str(i) for i in range(len(checked))])
