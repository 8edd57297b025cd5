"""Images from elsewhere, which a run was not trained on, as it would see them."""

import dataclasses

import numpy as np

from cnn_jax import experiment, text
from cnn_jax.data import bit_depth, groups, kept, loading
from cnn_jax.data.cache import Encoded
from cnn_jax.data.splits import DataInfo, Split
from cnn_jax.errors import RunError, UsageError


def load(
    config: experiment.Dataset, info: DataInfo, split: str | None = None, *, quiet: bool = False
) -> tuple[Split, tuple[str, ...]]:
    """Returns (examples, notes) of a data set whose classes a run knows.

    The images are decoded as the run's were: in their size, channels and, unless
    `config.bit_depth` says another, bit depth, with another aspect resized the same way.

    Args:
        config: where the images are.
        info: what is known of the run's data.
        split: one of the data set's own splits; None: the images of all of them.
        quiet: whether decoding shows no progress.

    Raises:
        UsageError: there is no such data set or split, or its arrays are not like the run's images.
        RunError: it cannot be had or read, or has a class that the run does not know.
    """
    source = loading.find(config, least_classes=1, multilabel=info.multilabel)
    unknown = [name for name in source.class_names if name not in info.class_names]
    if unknown:
        tip = text.did_you_mean(unknown[0], list(info.class_names))
        raise RunError(
            f"{config.path or config.name} has the class {unknown[0]!r}{tip}, which the run does "
            f"not know; its classes are {', '.join(info.class_names)}"
        )
    if split is not None and split not in source.splits:
        raise UsageError(
            f"{config.path or config.name} has no split {split!r}, only {', '.join(source.splits)}"
        )
    height, width, channels = info.image_shape
    size = height if height == width else None
    section = dataclasses.replace(config, image_size=size, resize=info.resize)
    notes = list(source.notes)
    missing = [name for name in info.class_names if name not in source.class_names]
    if info.multilabel and missing:
        notes.append(
            f"{config.path or config.name} does not name {', '.join(missing)}: no image counts as "
            "having it, whether or not anybody looked for it"
        )
    wanted = list(source.splits) if split is None else [split]
    bits = info.bit_depth if config.bit_depth == "auto" else int(config.bit_depth)
    stored = [each for name in wanted if isinstance(each := source.splits[name], Encoded)]
    if bits == info.bit_depth and stored:
        line = bit_depth.dark(kept.sources(stored), bits, config.max_megapixels)
        notes += [line] if line else []
    parts: list[Split] = []
    for name in wanted:
        found = loading.open_split(source, name, section, notes, quiet, bits, channels)
        if found.images.shape[1:] != info.image_shape or found.images.dtype != info.dtype:
            raise UsageError(
                f"the images of {config.path or config.name} are {found.images.dtype} of shape "
                f"{found.images.shape[1:]}, and the run takes {info.dtype} of {info.image_shape}"
            )
        parts.append(found)
    number = np.array([info.class_names.index(name) for name in source.class_names], np.int32)
    labels = np.concatenate([part.labels for part in parts])
    if info.multilabel:  # a finding that they do not know, no image has
        found = np.zeros((len(labels), len(info.class_names)), np.uint8)
        found[:, number] = labels
        labels = found
    else:
        labels = number[labels]
    ids = [each for part in parts for each in part.ids]
    whole = Split(
        np.concatenate([part.images for part in parts]),
        labels,
        ids,
    )
    group_of = source.group_of
    if config.group is not None:
        group_of = groups.of_pattern(config.group)
    if group_of is not None:
        whole = dataclasses.replace(whole, groups=[group_of(each) for each in ids])
    return whole, tuple(notes)
