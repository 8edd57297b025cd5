"""From settings to arrays: finds a data set, decodes it, and says which split serves for what."""

import dataclasses

import numpy as np

from cnn_jax import experiment
from cnn_jax.data import (
    bit_depth,
    cache,
    carve,
    catalogue,
    duplicates,
    folder,
    folds,
    grey,
    groups,
    images,
    npz,
    raw,
    reading,
    registry,
    splits,
    streaming,
    table,
)
from cnn_jax.data.sources import Source
from cnn_jax.data.splits import Data, Split
from cnn_jax.errors import RunError, UsageError

# The data sets whose images are files of the user's own, and those that have a path.
_FILES = ("folder", "table")
_FROM_PATH = {"folder": folder.source, "table": table.source, "npz": npz.source}


def load(
    config: experiment.Dataset,
    *,
    test: bool = True,
    quiet: bool = False,
    every_class: bool = True,
    multilabel: bool = False,
) -> Data:
    """Finds, prepares, decodes and splits a data set.

    Validation is a fold of 'train' where `config.fold` says so; else the split
    `config.validation_split`; else the data's own 'validation'; else a share of 'train'. Test is
    the data's own 'test'; if the data has only 'train', a share of it, the same one for every fold.
    Calibration is a share of 'train' where `config.calibration_fraction` asks for one.
    What is held out is stratified and depends on nothing but the examples' ids.

    Args:
        config: the section "dataset" of an experiment.
        test: whether the test split is wanted, and what is held out to calibrate; training wants
            none, and then it is not opened.
        quiet: whether decoding shows no progress.
        every_class: whether a class with few examples has one in every split that is held out.
        multilabel: whether an image may have several classes, or none; then labels are rows of 0
            and 1.

    Returns:
        The data; `splits` has train, validation and, as far as they are wanted and there are any,
        test and calibration.

    Raises:
        UsageError: there is no such data set or split, or a number does not fit the data.
        RunError: the data cannot be had or read, or a file is in two class folders.
    """
    source = find(config, multilabel=multilabel)
    notes = list(source.notes)
    chosen = _choose(source, config, notes)
    if not test:
        chosen.pop("test", None)

    stored = [each for each in source.splits.values() if isinstance(each, cache.Encoded)]
    in_files = source.root is not None or config.name in _FILES
    looked_at = stored if in_files or config.bit_depth != "auto" else []
    bits = (
        bit_depth.choose(looked_at, config.bit_depth, notes, config.max_megapixels)
        if looked_at
        else 16
    )
    channels = None if config.channels == "auto" else int(config.channels)
    if config.name in _FILES:
        looked_at = [source.splits[own] for name, own in chosen.items() if name != "test"]
        encoded = [each for each in looked_at if isinstance(each, cache.Encoded)]
        channels = grey.channels(encoded, config, _decoding(config, bits), notes)
    names = list(dict.fromkeys(chosen.values()))
    how = _decoding(config, bits)
    streams = streaming.wanted(source, names, config, how, channels, notes)
    opened = {
        name: open_split(
            source, name, config, notes, quiet, bits, channels, streams and name == chosen["train"]
        )
        for name in names
    }
    group_of = source.group_of
    if config.group is not None:
        group_of = groups.of_pattern(config.group)
    opened = groups.assign(opened, group_of, _other_ids(source, opened), notes)
    parts = {name: opened[own] for name, own in chosen.items()}
    _check_opened(source, parts, notes)

    whole = parts["train"]
    shares = {}
    if "validation" not in parts:
        if set(source.splits) == {"train"} and config.test_fraction > 0:
            shares["test"] = config.test_fraction
        if config.fold is None:
            shares["validation"] = config.validation_fraction
    if config.calibration_fraction > 0:
        shares["calibration"] = config.calibration_fraction
    parts |= carve.hold_out(whole, shares, notes, every_class=every_class)
    if config.fold is not None:
        parts |= folds.hold_out(parts["train"], config.fold, source.class_names, notes)
    if config.train_examples is not None:
        parts["train"] = _subset(source, parts["train"], config.train_examples, notes)
    parts = streaming.decode_evaluated(parts, config, quiet, notes)
    names = source.class_names
    duplicates.check(source.name, parts, names, notes, source.root, config.on_error)
    wanted = ("train", "validation", *(("test", "calibration") if test else ()))
    parts = {name: parts[name] for name in wanted if name in parts}
    in_train = config.name in _FROM_PATH
    carve.check_classes(
        source.name, names, whole, parts, notes, all_in_train=in_train, warns=every_class
    )
    return carve.describe(source.name, source.version, names, parts, notes, how)


def find(config: experiment.Dataset, least_classes: int = 2, multilabel: bool = False) -> Source:
    """Returns a data set as it is stored.

    Args:
        config: the section "dataset" of an experiment.
        least_classes: how few classes with images a folder or a table may have.
        multilabel: as in `load`.

    Raises:
        UsageError: there is no such data set.
        RunError: it cannot be had or read.
    """
    if config.name == "arrays":
        raise UsageError(
            "the run was trained on arrays given in Python; use it there: run = cnn_jax.load(DIR); "
            "run.evaluate((images, labels)); cnn_jax.explain_images(run, images)"
        )
    if config.name in ("table", "npz"):
        return _FROM_PATH[config.name](config, least_classes, multilabel)
    if config.name in _FROM_PATH:
        source = _FROM_PATH[config.name](config, least_classes)
    elif config.name in registry.REGISTRY:
        source = registry.source(config)
    elif config.path is not None:
        source = raw.source(config)
    else:
        source = catalogue.source(config)
    if multilabel:  # each image has one
        each = np.eye(len(source.class_names), dtype=np.uint8)
        source = dataclasses.replace(source, findings=each)
    return source


def _choose(source: Source, config: experiment.Dataset, notes: list[str]) -> dict[str, str]:
    """Returns {train, validation, test: which of the data's own splits}, as far as it has them."""
    own = source.splits
    if "train" not in own:
        raise RunError(f"{source.name} has no 'train' split, only {', '.join(sorted(own))}")
    chosen = {name: name for name in ("train", "validation", "test") if name in own}
    if config.fold is not None:
        chosen.pop("validation", None)
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
        why = "" if config.fold is None else "; the folds are of 'train'"
        notes.append(f"not used: the split{'s'[: len(unused) > 1]} {', '.join(unused)}{why}")
    return chosen


def open_split(
    source: Source,
    name: str,
    config: experiment.Dataset,
    notes: list[str],
    quiet: bool,
    bits: int,
    channels: int | None,
    streams: bool = False,
) -> Split:
    """Returns one of the data's own splits as arrays; they are decoded, or in memory already.

    The images have 1 or 3 `channels`; None: as they are stored. Those of a split that `streams`
    are decoded when they are asked for.
    """
    stored = source.splits[name]
    if isinstance(stored, Split):
        opened = _in_memory(source.name, stored, config, channels)
    else:
        stored = dataclasses.replace(stored, channels=channels or stored.channels)
        how = _decoding(config, bits)
        if streams:
            return _with_findings(source, streaming.open_split(stored, config, how, notes, quiet))
        opened, skipped = cache.open_or_decode(
            stored, how, config.on_error, quiet, notes, config.verify
        )
        cache.note_skipped(name, skipped, notes)
    return _with_findings(source, opened)


def _with_findings(source: Source, opened: Split) -> Split:
    labels = opened.labels
    if source.findings is None or labels.ndim == 2 or labels.min() < 0:
        return opened
    return dataclasses.replace(opened, labels=source.findings[labels])


def _in_memory(name: str, split: Split, config: experiment.Dataset, channels: int | None) -> Split:
    """Returns a split of arrays in the size and with the channels that are asked for."""
    pixels = split.images if channels is None else grey.as_channels(split.images, channels)
    if pixels is None:
        raise UsageError(
            f"--dataset.channels={channels}: the images of {name} are {split.images.dtype} of "
            f"{split.images.shape[-1]} channels, of which no others are made; leave it out"
        )
    height, width = pixels.shape[1:3]
    if config.image_size is None or (height, width) == 2 * (config.image_size,):
        return dataclasses.replace(split, images=pixels)
    if pixels.dtype != np.uint8:
        raise UsageError(
            f"--dataset.image_size={config.image_size}: the images of {name} are floats of "
            f"{height}x{width}, which are not resized; leave it out"
        )
    resized = reading.resize(pixels, config.image_size, config.resize, config.crop_share)
    return dataclasses.replace(split, images=resized)


def _decoding(config: experiment.Dataset, bits: int) -> images.Decoding:
    return images.Decoding(
        config.image_size,
        bit_depth=bits,
        max_megapixels=config.max_megapixels,
        resize=config.resize,
        crop_share=config.crop_share,
    )


def _other_ids(source: Source, opened: dict[str, Split]) -> dict[str, list[str]]:
    """Returns {split: ids} of files in splits that are not opened; of other sources nothing."""
    found = {}
    for name, stored in source.splits.items():
        if name not in opened and source.root is not None and isinstance(stored, cache.Encoded):
            found[name] = [each for ids, *_ in stored.blocks() for each in ids]
    return found


def _check_opened(source: Source, parts: dict[str, Split], notes: list[str]) -> None:
    """Refuses arrays that do not belong together, and leaves out a test split without labels."""
    for name in list(parts):
        one, other = parts["train"].images.shape[1:], parts[name].images.shape[1:]
        if one != other:
            raise cache.various_sizes(source.name, one, other)
        labels = parts[name].labels
        if labels.ndim == 1 and (labels.min() < 0 or labels.max() >= len(source.class_names)):
            if name != "test":
                raise RunError(f"the split {name!r} of {source.name} has examples without a class")
            notes.append("not used: the split test, which has examples without a class")
            del parts[name]


def _subset(source: Source, train: Split, size: int, notes: list[str]) -> Split:
    """Returns `size` of the training examples, class by class in proportion."""
    if size > len(train):
        raise UsageError(f"--dataset.train_examples={size}, but there are {len(train)} to train on")
    strata = splits.strata(train.labels)
    classes = len(np.unique(strata))
    if size < classes:
        raise UsageError(
            f"--dataset.train_examples={size} is less than one for each of the {classes} classes "
            f"of {source.name}"
        )
    notes.append(
        f"train: {size} of {len(train)} images, class by class in proportion, the same ones in "
        "every run"
    )
    return splits.take(train, splits.subset(strata, train.ids, size))
