"""From settings to arrays: which splits there are, and what is carved from which."""

import numpy as np

from cnn_jax import experiment
from cnn_jax.data import cache, catalogue, folder, splits
from cnn_jax.data.sources import Source
from cnn_jax.data.splits import Data, DataInfo, Split
from cnn_jax.errors import RunError, UsageError


def load(config: experiment.Dataset, *, test: bool = True) -> Data:
    """Finds, prepares, decodes and splits a data set.

    Validation is the split `config.validation_split`; else the data's own 'validation'; else a
    share of 'train'. Test is the data's own 'test'; where the data has 'train' alone, a share of
    it. What is carved is stratified and depends on nothing but the examples' ids.

    Args:
        config: of the data.
        test: whether the test split is wanted; training wants none, and then it is not opened.

    Returns:
        The data; `splits` has train, validation and, where it is wanted and there is one, test.

    Raises:
        UsageError: there is no such data set or split, or a number does not fit the data.
        RunError: the data cannot be had or read.
    """
    source = folder.source(config) if config.name == "folder" else catalogue.source(config)
    notes = list(source.notes)
    chosen = _choose(source, config, notes)
    if not test:
        chosen.pop("test", None)

    loaded: dict[str, Split] = {}
    for name in dict.fromkeys(chosen.values()):
        loaded[name], skipped = cache.open_or_decode(
            source.splits[name], config.image_size, config.on_error
        )
        if skipped:
            notes.append(f"{name}: skipped {len(skipped)} images that cannot be read")
            notes += [f"skipped {line}" for line in skipped]
    parts = {name: loaded[own] for name, own in chosen.items()}
    _check_loaded(source, parts, notes)

    whole = parts["train"]
    parts = _carve(source, parts, config, notes)
    if config.train_examples is not None:
        parts["train"] = _subset(source, parts["train"], config.train_examples, notes)
    wanted = ("train", "validation", "test")[: 2 + test]
    parts = {name: parts[name] for name in wanted if name in parts}
    _check_classes(source, whole, parts, notes)

    mean, std = splits.channel_statistics(parts["train"].images)
    classes = len(source.class_names)
    info = DataInfo(
        name=source.name,
        version=source.version,
        class_names=source.class_names,
        image_shape=parts["train"].images.shape[1:],
        mean=mean,
        std=std,
        sizes={name: len(part) for name, part in parts.items()},
        class_counts={
            name: tuple(np.bincount(part.labels, minlength=classes).tolist())
            for name, part in parts.items()
        },
        notes=tuple(notes),
        digest=splits.digest({name: parts[name] for name in wanted[:2]}),
    )
    return Data(info, parts)


def _choose(source: Source, config: experiment.Dataset, notes: list[str]) -> dict[str, str]:
    """Returns {train, validation, test: which of the data's own splits}, as far as it has them."""
    own = source.splits
    if "train" not in own:
        raise RunError(f"{source.name} has no 'train' split, only {', '.join(sorted(own))}")
    chosen = {name: name for name in ("train", "validation", "test") if name in own}
    if config.validation_split is not None:
        if config.validation_split not in own:
            raise UsageError(
                f"--dataset.validation_split={config.validation_split}: {source.name} has only "
                f"the splits {', '.join(sorted(own))}"
            )
        chosen["validation"] = config.validation_split
        if config.validation_split == "test":
            notes.append(
                "validation is the split 'test': what is selected by it is selected on test images"
            )
    if unused := sorted(set(own) - set(chosen.values())):
        notes.append(f"not used: the split{'s'[: len(unused) > 1]} {', '.join(unused)}")
    return chosen


def _check_loaded(source: Source, parts: dict[str, Split], notes: list[str]) -> None:
    """Refuses arrays that do not belong together, and leaves out a test split without labels."""
    for name in list(parts):
        one, other = parts["train"].images.shape[1:], parts[name].images.shape[1:]
        if one != other:
            raise cache.various_sizes(source.name, one, other)
        labels = parts[name].labels
        if labels.min() < 0 or labels.max() >= len(source.class_names):
            if name != "test":
                raise RunError(f"the split {name!r} of {source.name} has examples without a class")
            notes.append("not used: the split test, which has examples without a class")
            del parts[name]


def _carve(
    source: Source, parts: dict[str, Split], config: experiment.Dataset, notes: list[str]
) -> dict[str, Split]:
    """Holds out shares of the whole of 'train' where no split of the data serves."""
    wanted = []
    if "validation" not in parts:
        if set(source.splits) == {"train"} and config.test_fraction > 0:
            wanted.append(("test", config.test_fraction))
        wanted.append(("validation", config.validation_fraction))
    train = parts["train"]
    whole = len(train)
    rest = np.arange(whole)
    for name, fraction in wanted:
        size = max(1, round(fraction * whole))
        if size >= len(rest):
            raise UsageError(
                f"--dataset.{name}_fraction={fraction:g} of {whole} images leaves none to train on"
            )
        stay, held = splits.hold_out(train.labels[rest], [train.ids[int(i)] for i in rest], size)
        parts[name] = splits.take(train, rest[held])
        rest = rest[stay]
        notes.append(
            f"{name}: {size} of the {whole} images of 'train' are held out, class by class in "
            "proportion, the same ones in every run"
        )
    if wanted:
        parts["train"] = splits.take(train, rest)
    return parts


def _subset(source: Source, train: Split, size: int, notes: list[str]) -> Split:
    if size > len(train):
        raise UsageError(f"--dataset.train_examples={size}, but there are {len(train)} to train on")
    classes = len(np.unique(train.labels))
    if size < classes:
        raise UsageError(
            f"--dataset.train_examples={size} is less than one for each of the {classes} classes "
            f"of {source.name}"
        )
    notes.append(
        f"train: {size} of {len(train)} images, class by class in proportion, the same ones in "
        "every run"
    )
    return splits.take(train, splits.subset(train.labels, train.ids, size))


def _check_classes(source: Source, whole: Split, parts: dict[str, Split], notes: list[str]) -> None:
    """Refuses a class that lost all its training images; names those that validation lacks."""
    classes = len(source.class_names)
    before = np.bincount(whole.labels, minlength=classes)
    for name, part in parts.items():
        counts = np.bincount(part.labels, minlength=classes)
        missing = [source.class_names[i] for i in np.flatnonzero(counts == 0)]
        if not missing:
            continue
        listed = ", ".join(repr(m) for m in missing[:5]) + (", ..." if len(missing) > 5 else "")
        lost = name == "train" and (source.name == "folder" or (counts[before > 0] == 0).any())
        if lost:
            raise RunError(
                f"{source.name}: nothing is left to train on of the class {listed}; add images, or "
                "hold out less (--dataset.validation_fraction, --dataset.test_fraction)"
            )
        notes.append(f"{name} has no example of {listed}")
