"""The pictures of a data report, and images before and after augmentation."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from cnn_jax import assembly
from cnn_jax.data import Data, augment, augmentation, images
from cnn_jax.data.splits import Split
from cnn_jax.experiment import Experiment
from cnn_jax.inspection import facts
from cnn_jax.inspection.near import Pair
from cnn_jax.inspection.originals import Originals
from cnn_jax.reporting import figures

_SEEN = 25
_MEGAPIXELS = 500  # of an image that is only looked at; training's own limit has let it through


def save(
    data: Data,
    across_splits: Sequence[Pair],
    across_classes: Sequence[Pair],
    originals: Originals | None,
    folder: Path,
) -> list[Path]:
    """Writes the pictures that there is something to see on, and returns their paths.

    Args:
        data: the data.
        across_splits: pairs of nearly equal images, the most similar ones first.
        across_classes: likewise.
        originals: the images before they were resized, or None.
        folder: where to write to.
    """
    written = []
    for name, pairs, what in (
        ("near_across_splits.png", across_splits, "in two splits"),
        ("near_across_classes.png", across_classes, "in two classes"),
    ):
        if pairs:
            drawn = [_shown(data, pair) for pair in _one_each(pairs)[:_SEEN]]
            title = f"{data.info.name}: nearly equal images {what}"
            note = f"{len(drawn)} of {len(pairs):,} pairs, each image once, the most similar first"
            figures.save(figures.pair_grid(drawn, title, note), folder / name)
            written.append(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)  # of an earlier state of the data
    if originals is not None and originals.examples:
        figures.save(_resized(data, originals), folder / "resized.png")
        written.append(folder / "resized.png")
    return written


def _one_each(pairs: Sequence[Pair]) -> list[Pair]:
    """Returns pairs of which no two show the same image, the most similar ones first."""
    seen: set[tuple[str, str]] = set()
    chosen = []
    for pair in pairs:
        both = {(member.split, member.id) for member in (pair.one, pair.other)}
        if not both & seen:
            chosen.append(pair)
            seen |= both
    return chosen


def _shown(data: Data, pair: Pair) -> figures.Shown:
    names = data.info.class_names
    left, right = (
        _pixels(data.splits[member.split], at)
        for member, at in zip((pair.one, pair.other), pair.positions, strict=True)
    )
    classes = [
        facts.class_text(data.splits[member.split], at, names)
        for member, at in zip((pair.one, pair.other), pair.positions, strict=True)
    ]
    said = classes[0] if classes[0] == classes[1] else " | ".join(classes)
    mirrored = ", mirrored" if pair.mirrored else ""
    ids = f"{pair.one} | {pair.other}"
    return figures.Shown(left, right, (ids, f"{said}: {pair.similarity:.2f}{mirrored}"))


def _pixels(split: Split, index: int) -> np.ndarray:
    """Returns one image as uint8; floats are scaled to the range that they have."""
    return _as_uint8(np.asarray(split.images[index]))


def _as_uint8(image: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    low, high = (float(end) for end in (np.min(image if like is None else like), np.max(image)))
    high = high if like is None else float(np.max(like))
    scale = 255 / (high - low) if high > low else 1.0
    return np.rint(np.clip((image - low) * scale, 0, 255)).astype(np.uint8)


def _resized(data: Data, originals: Originals) -> Figure:
    """Draws images as they are stored, and as training takes them."""
    info = data.info
    position = {
        id_: (split, i) for split in data.splits.values() for i, id_ in enumerate(split.ids)
    }
    drawn = []
    for shape, source in originals.examples:
        if shape.id not in position:  # it was left out, as --dataset.train_examples does
            continue
        before = images.read_image(
            source,
            None,
            info.image_shape[-1],
            bit_depth=info.bit_depth,
            max_megapixels=_MEGAPIXELS,
            name=shape.id,
        )
        after = _pixels(*position[shape.id])
        sizes = f"{before.shape[1]} x {before.shape[0]} to {after.shape[1]} x {after.shape[0]}"
        drawn.append(figures.Shown(before, after, (shape.id, sizes)))
    title = f"{info.name}: stored, and as training takes it"
    return figures.pair_grid(drawn, title, "the oddest shapes first; width x height in pixels")


def augmented(config: Experiment, data: Data, count: int = _SEEN) -> Figure:
    """Draws training images before and after augmentation, by the function that a step applies.

    Args:
        config: the experiment, whose section `dataset` says how images are augmented.
        data: its data.
        count: how many images; they are spread over the training split.
    """
    split, info = data.train, data.info
    chosen = np.linspace(0, len(split) - 1, min(count, len(split))).astype(int)
    chosen = np.random.default_rng(0).permutation(chosen)  # classes stand together in a folder
    before = np.stack([split.images[i] for i in chosen])
    section = dataclasses.replace(config.dataset, normalize="none")
    apply = assembly.make_preprocess(section, "float32", info, "none")
    key = jax.random.key(config.seed)
    mirrored = None
    if section.alternate_flip:
        mirrored = augment.alternate(key, jnp.asarray(chosen), jnp.int32(0))
    after, shares = jax.jit(apply)(before, key, mirrored), None
    mix = augmentation.make_mix(section, len(info.class_names))
    if mix is not None and len(chosen) > 1:
        after, shares = jax.jit(mix)(after, jnp.asarray(split.labels[chosen]), key)
    after = np.asarray(after)
    if before.dtype == np.uint8:
        after = np.rint(np.clip(after, 0, 255)).astype(np.uint8)
    changed = int(np.any(after != before, axis=(1, 2, 3)).sum())
    names = info.class_names
    drawn = []
    for at, (one, other, i) in enumerate(zip(before, after, chosen.tolist(), strict=True)):
        classes = facts.class_text(split, i, names)
        if shares is not None:
            largest = np.argsort(-np.asarray(shares[at]), kind="stable")[:2]
            mixed = [f"{shares[at, c]:.0%} {names[c]}" for c in largest if shares[at, c] >= 0.005]
            classes = " + ".join(mixed)
        said = classes, str(split.ids[i])
        drawn.append(figures.Shown(_as_uint8(one), _as_uint8(other, like=one), said))
    title = f"{info.name}: before and after augmentation"
    return figures.pair_grid(drawn, title, f"{changed} of {len(drawn)} images are changed")


def save_labels(split: Split, rows: Sequence[Sequence[Any]], order: np.ndarray, path: Path) -> None:
    """Draws the images whose labels are least likely, as `figures.prediction_grid` does.

    Args:
        split: the training examples.
        rows: as `LabelErrors.rows` returns them.
        order: int [m], the examples' positions.
        path: the file.
    """
    names = list(dict.fromkeys(name for row in rows for name in row[1:3]))
    images_ = np.stack([_pixels(split, i) for i in order.tolist()])
    given, suggested = (np.array([names.index(row[k]) for row in rows]) for k in (1, 2))
    figure = figures.prediction_grid(
        images_,
        given,
        suggested,
        np.array([row[4] for row in rows]),
        names,
        ids=[row[0] for row in rows],
        title="The training labels that are least likely out of fold",
        given="label",
    )
    figures.save(figure, path)
