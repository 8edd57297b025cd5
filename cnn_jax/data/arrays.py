"""Arrays of the user's as a data set: checked, split and described, without a needless copy."""

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from cnn_jax import patterns
from cnn_jax.data import array_values, carve, duplicates, folds
from cnn_jax.data.indexed import Lazy
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
    validation: Examples | float | str | None = None,
    test: Examples | float | None = None,
    class_names: Sequence[str] | None = None,
    name: str = NAME,
    multilabel: bool = False,
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
            Also [n, 1], one-hot rows [n, classes], booleans, and whole numbers as floats. With
            `multilabel` rows of 0 and 1, of which several may be 1, or none.
        validation: the examples to validate on: (images, labels) or a `Split`; or the share of the
            images to hold out, between 0 and 1; or a fold of cross-validation, such as "2/5", of
            the images that are not held out for testing. None: a share of 0.1. What is held out is
            stratified, and depends only on n, the labels and the share.
        test: the examples to test on, likewise. None: there are none.
        class_names: the names of the classes, label i that of class_names[i]. None: "0", "1", ...
            up to the largest label; of labels that are strings, their values in sorted order.
        name: what messages call the data set.
        multilabel: whether an image may have several classes, or none; for loss="multilabel".

    Returns:
        The data. An example's id is its position in the array that it came from, as a string.

    Raises:
        UsageError: the arrays are not images and labels, or do not belong together.
        RunError: what is held out leaves no image of a class to train on.
    """
    given: dict[str, Examples] = {}
    shares: dict[str, float] = {}
    fold = validation if isinstance(validation, str) else None
    if fold is not None:
        patterns.parse_fold(fold, "validation")
    for split, value in (("test", test), ("validation", validation)):
        if value is None or (fold is not None and split == "validation"):
            continue
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            shares[split] = float(value)
            if not 0 < shares[split] < 1:
                raise UsageError(f"{split}={value}: a share is more than 0 and less than 1")
        else:
            given[split] = _examples(value, split)
    if validation is None:
        shares["validation"] = _HELD_OUT
    names, parts = check((images, labels), given, class_names, multilabel=multilabel)
    notes = array_values.doubts(parts["train"].images)
    for note in notes:
        logging.warning("%s: %s", name, note)
    whole = parts["train"]
    parts |= carve.hold_out(whole, shares, notes, carve.ARGUMENT)
    if fold is not None:
        parts |= folds.hold_out(parts["train"], fold, names, notes, "validation")
    duplicates.check(name, parts, names, notes)
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
    multilabel: bool = False,
) -> tuple[tuple[str, ...], dict[str, Split]]:
    """Checks arrays and returns (class names, splits).

    Args:
        train: the training examples.
        others: the other splits' examples by the splits' names.
        class_names: as `from_arrays` takes them.
        where: what messages begin with.
        multilabel: whether an image may have several classes, or none.

    Raises:
        UsageError: they are not images and labels, or do not belong together.
    """
    arrays = {}
    for split, examples in {"train": train, **others}.items():
        prefix = where if split == "train" else f"{where}{split} "
        images, labels, ids = _parts(examples)
        images = array_values.as_images(images, prefix)
        labels = array_values.as_labels(labels, len(images), prefix, multilabel)
        arrays[split] = images, labels, ids, prefix
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
        indices = _indices(labels, names, prefix)
        if multilabel and indices.ndim == 1:
            indices = np.eye(len(names), dtype=np.uint8)[indices]
        splits[split] = Split(images, indices, ids)
    train_labels = splits["train"].labels
    if not multilabel and train_labels.min() == train_labels.max():
        raise UsageError(
            f"{where}every label to train on is {names[train_labels[0]]!r}; a network needs images "
            "of two classes at least"
        )
    return names, splits


def _parts(examples: Examples) -> tuple[Any, Any, Sequence[str] | None]:
    if isinstance(examples, Split):
        return examples.images, examples.labels, examples.ids
    return examples[0], examples[1], None


def _class_names(given: Sequence[str] | None, labels: np.ndarray, where: str) -> tuple[str, ...]:
    """Returns the names of the classes: those given, else those that the labels tell."""
    if given is not None:
        if isinstance(given, str) or not all(isinstance(name, str) for name in given):
            raise UsageError(f"{where}class_names are strings, one for each class")
        names = tuple(given)
        if len(set(names)) != len(names):
            raise UsageError(f"{where}class_names has a name twice")
    elif labels.ndim == 2:
        names = tuple(map(str, range(labels.shape[1])))
    elif labels.dtype.kind == "U":
        names = tuple(np.unique(labels).tolist())
    else:
        smallest, largest = int(labels.min()), int(labels.max())
        if smallest > 0:
            raise UsageError(
                f"{where}labels are {smallest} to {largest}, and classes are counted from 0; give "
                f"labels - {smallest}, or class_names where the first classes have no image"
            )
        if largest >= _MOST_CLASSES:
            raise UsageError(f"{where}the largest label is {largest}; give class_names if it is so")
        names = tuple(map(str, range(largest + 1)))
    if len(names) < 2:
        raise UsageError(
            f"{where}there is only the class {', '.join(names)!r}, and two are the least"
        )
    return names


def _indices(labels: np.ndarray, names: tuple[str, ...], prefix: str) -> np.ndarray:
    """Returns labels as int32 [n], indices into the names; of several findings as they are."""
    if labels.ndim == 2:
        if labels.shape[1] != len(names):
            raise UsageError(
                f"{prefix}labels have {labels.shape[1]} columns, for {len(names)} classes"
            )
        return labels
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


def check_images(images: Any, like: DataInfo, prefix: str = "") -> np.ndarray:
    """Returns images as uint8 or float32 [n, height, width, channels], like those of a data set.

    Raises:
        UsageError: they have another shape or type.
    """
    checked = array_values.as_images(images, prefix)
    if checked.shape[1:] != like.image_shape or str(checked.dtype) != like.dtype:
        height, width, channels = like.image_shape
        raise UsageError(
            f"{prefix}images are {checked.dtype} of shape {checked.shape[1:]}; the network takes "
            f"{like.dtype} images of {height} x {width} with {channels} channels"
        )
    return checked


def make_split(
    images: Any, labels: Any, like: DataInfo, ids: Sequence[str] | None = None, prefix: str = ""
) -> Split:
    """Returns examples as a Split, with images and classes like those of a data set.

    Args:
        images: as `from_arrays` takes them.
        labels: likewise.
        like: the data set.
        ids: a name for each; None: their positions.
        prefix: what messages begin with.

    Raises:
        UsageError: the images have another shape or type, or a label is no class of it.
    """
    checked = check_images(images, like, prefix)
    values = array_values.as_labels(labels, len(checked), prefix, like.multilabel)
    indices = _indices(values, like.class_names, prefix)
    ids = [str(i) for i in range(len(checked))] if ids is None else ids
    if len(ids) != len(checked):
        raise UsageError(f"{prefix}ids are {len(ids)}, for {len(checked)} images")
    return Split(checked, indices, ids)


def check_data(data: Data) -> Data:
    """Returns data that somebody put together, with arrays that are what their description says.

    Raises:
        UsageError: an array is not.
    """
    parts = {}
    for name, split in data.splits.items():
        made = make_split(split.images, split.labels, data.info, split.ids, f"{name} ")
        if split.groups is not None and len(split.groups) != len(made):
            raise UsageError(f"{name} groups are {len(split.groups)}, for {len(made)} images")
        # Arrays may have been changed, rows that are read from files have not.
        identity = split.identity if isinstance(split.images, Lazy) else None
        parts[name] = dataclasses.replace(made, groups=split.groups, identity=identity)
    if missing := [name for name in ("train", "validation") if name not in parts]:
        raise UsageError(f"the data have no split {missing[0]!r}; make them by from_arrays")
    return dataclasses.replace(data, splits=parts)
