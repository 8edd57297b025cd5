"""Holds out validation and test examples, and describes the data that result."""

from collections.abc import Sequence

import numpy as np
from absl import logging

from cnn_jax.data import groups, kept, splits, streaming
from cnn_jax.data.images import Decoding
from cnn_jax.data.splits import Data, DataInfo, Split
from cnn_jax.errors import RunError, UsageError

# How a message names the share that is held out: the setting, or the argument of `from_arrays`.
SETTING = "--dataset.{}_fraction"
ARGUMENT = "{}"


def hold_out(
    train: Split,
    shares: dict[str, float],
    notes: list[str],
    share_name: str = SETTING,
    every_class: bool = True,
) -> dict[str, Split]:
    """Holds out shares of the training examples, class by class in proportion.

    A class that has an example for each split, "train" among them, gets one in each.

    Args:
        train: the examples.
        shares: {split: its share of all the examples, between 0 and 1}; they are held out in this
            order.
        notes: receives a line for each split.
        share_name: SETTING or ARGUMENT.
        every_class: whether that is so; else a rare class may be left out.

    Returns:
        "train" (the examples that stay; the same object if nothing is held out) and the splits of
        `shares`.

    Raises:
        UsageError: nothing would be left to train on.
    """
    parts = {}
    rest = np.arange(len(train))
    strata = splits.strata(train.labels)
    is_large = np.bincount(strata) > len(shares)
    if train.groups is not None:
        is_large = groups.in_enough(strata, train.groups, len(shares) + 1)
    is_large &= every_class
    for later, (name, share) in zip(range(len(shares), 0, -1), shares.items(), strict=True):
        size = max(1, round(share * len(train)))
        if size >= len(rest):
            raise UsageError(
                f"{share_name.format(name)}={share:g} of {len(train)} images leaves none to train "
                "on"
            )
        how = "class by class in proportion"
        if train.groups is not None:
            how = f"whole groups, {how} as far as these allow"
            own = [train.groups[int(i)] for i in rest]
            if len(set(own)) < 2:
                raise RunError(f"{share_name.format(name)}: there are no two groups to share out")
            held = groups.hold_out(strata[rest], own, size, is_large, later)
        else:
            ids = [train.ids[int(i)] for i in rest]
            held = _hold_out(strata[rest], ids, size, is_large, later)
        parts[name] = splits.take(train, rest[held])
        rest = np.delete(rest, held)
        notes.append(
            f"{name}: {len(held)} of the {len(train)} images of 'train' are held out, {how}, the "
            "same ones in every run"
        )
    return {"train": splits.take(train, rest) if shares else train, **parts}


def _hold_out(
    labels: np.ndarray, ids: Sequence[str], size: int, is_large: np.ndarray, later: int
) -> np.ndarray:
    """Returns the ascending indices of about `size` examples, stratified.

    They are those of `splits.hold_out`, unless these leave a large class none here or none later.
    Then it gives or keeps one, for which the class that can best spare it makes up.

    Args:
        labels: int [n].
        ids: n names.
        size: how many to hold out; more are held out where the large classes are more.
        is_large: bool [classes], whether a class has enough examples for every split.
        later: how many splits are still to be served from what stays.
    """
    order = splits.stratified_order(labels, ids, offset=0.5)
    counts = np.bincount(labels, minlength=len(is_large))
    held = np.bincount(labels[order[:size]], minlength=len(is_large))
    least, most = is_large.astype(int), counts - later * is_large
    wanted = np.where(is_large, np.clip(held, least, most), held)
    while wanted.sum() > size and (spare := np.where(wanted > 1, wanted, 0)).any():
        wanted[spare.argmax()] -= 1
    while wanted.sum() < size and (spare := np.where(is_large, most - wanted, 0)).any():
        wanted[spare.argmax()] += 1
    if (wanted == held).all():
        return np.sort(order[:size])
    sorted_order = order[np.argsort(labels[order], kind="stable")]  # classes in turn, by rank
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(sorted_order[rank < np.repeat(wanted, counts)])


def check_classes(
    name: str,
    class_names: Sequence[str],
    whole: Split,
    parts: dict[str, Split],
    notes: list[str],
    *,
    all_in_train: bool = False,
    share_name: str = SETTING,
    warns: bool = True,
) -> None:
    """Refuses a class that lost all its training images; warns of classes that a split lacks.

    Args:
        name: the data set's, for messages.
        class_names: label i is class_names[i].
        whole: the training examples before any were held out.
        parts: the splits.
        notes: receives a line for each split that lacks classes.
        all_in_train: whether to refuse a class that had no training images to begin with, too.
        share_name: SETTING or ARGUMENT.
        warns: whether such a line is a warning, too.

    Raises:
        RunError: a class has no training image left.
    """
    before = splits.counts(whole.labels, len(class_names))
    for split, part in parts.items():
        counts = splits.counts(part.labels, len(class_names))
        missing = [class_names[int(i)] for i in np.flatnonzero(counts == 0)]
        if not missing:
            continue
        listed = ", ".join(repr(m) for m in missing[:5]) + (", ..." if len(missing) > 5 else "")
        if split == "train" and (all_in_train or (counts[before > 0] == 0).any()):
            raise RunError(
                f"{name}: nothing is left to train on of the class {listed}; add images, or hold "
                f"out less ({share_name.format('validation')}, {share_name.format('test')})"
            )
        notes.append(f"{split} has no example of {listed}")
        if split != "train" and warns:
            logging.warning(
                "%s: %s has no example of the class %s, so its accuracy says nothing of it; a "
                "class with an image for each split gets one in each that is held out",
                name,
                split,
                listed,
            )


def describe(
    name: str,
    version: str,
    class_names: Sequence[str],
    parts: dict[str, Split],
    notes: Sequence[str],
    how: Decoding | None = None,
) -> Data:
    """Returns the splits with their description, of every pixel of "train" and "validation"."""
    how = Decoding() if how is None else how
    order = ("train", "validation", "test", "calibration")
    ordered = {split: parts[split] for split in order if split in parts}
    train, notes = ordered["train"], list(notes)
    streamed = streaming.is_streamed(train)
    mean, std = streaming.statistics(train, notes) if streamed else kept.statistics(train)
    info = DataInfo(
        name=name,
        version=version,
        class_names=tuple(class_names),
        image_shape=ordered["train"].images.shape[1:],
        mean=mean,
        std=std,
        sizes={split: len(part) for split, part in ordered.items()},
        class_counts={
            split: tuple(splits.counts(part.labels, len(class_names)).tolist())
            for split, part in ordered.items()
        },
        notes=tuple(notes),
        digest=kept.digest({split: ordered[split] for split in ("train", "validation")}),
        dtype=str(ordered["train"].images.dtype),
        bit_depth=how.bit_depth,
        resize=how.resize,
        multilabel=ordered["train"].labels.ndim == 2,
        streamed=streamed,
        crop_share=how.crop_share,
    )
    return Data(info, ordered)
