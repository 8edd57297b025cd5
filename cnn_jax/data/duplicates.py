"""Equal images: in two splits they flatter an accuracy, in two classes they contradict."""

import collections
import contextlib
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from cnn_jax import files, text
from cnn_jax.data import kept
from cnn_jax.data.splits import Split
from cnn_jax.data.streamed import Streamed
from cnn_jax.errors import RunError

_BLOCK = 4096
_LINES = 4  # of pixels in an image, that tell candidates from the others
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Member:
    """One of several equal images: the name of its split, its label and its id.

    Its text is the id; of a number, which may be that of another split's image as well, with the
    split.
    """

    split: str
    label: int
    id: str

    def __str__(self) -> str:
        return f"{self.split} {self.id}" if self.id.isdecimal() else self.id


def find(parts: dict[str, Split]) -> list[list[Member]]:
    """Returns the groups of equal images that are in two splits or have two labels.

    Only images that share a few lines of pixels with another are looked at as a whole.

    Args:
        parts: {name: split}; a split that stands under two names counts once.
    """

    def look() -> list[list[tuple[str, int, str]]]:
        return [[dataclasses.astuple(each) for each in group] for group in _look(parts)]

    found = kept.of_splits("equal", parts, look, ids=True)
    return [[Member(*each) for each in group] for group in found]


def _look(parts: dict[str, Split]) -> list[list[Member]]:
    """Reads the images of all splits and returns the groups."""
    unique = {id(split): (name, split) for name, split in reversed(parts.items())}
    prints: list[np.ndarray] = []
    places: list[tuple[str, int]] = []
    for name, split in reversed(unique.values()):
        prints.append(_fingerprints(split.images))
        places += [(name, index) for index in range(len(split))]
    _, inverse, counts = np.unique(np.concatenate(prints), return_inverse=True, return_counts=True)
    groups: dict[bytes, list[Member]] = collections.defaultdict(list)
    for place in np.flatnonzero(counts[inverse] > 1):
        name, index = places[int(place)]
        split = parts[name]
        whole = hashlib.sha256(np.ascontiguousarray(split.images[index]).data).digest()
        groups[whole].append(member(name, split, index))
    return [
        group
        for group in groups.values()
        if len({member.split for member in group}) > 1
        or len({member.label for member in group}) > 1
    ]


def member(name: str, split: Split, index: int) -> Member:
    """Returns one example of a split; several findings count as one number, their bits."""
    label = np.asarray(split.labels[index])
    number = int(label) if label.ndim == 0 else int.from_bytes(np.packbits(label), "big")
    return Member(name, number, str(split.ids[index]))


def pairs(split: Split, others: Split) -> list[tuple[str, str]] | None:
    """Returns (id, id of an equal image among the others) of the examples that have one.

    None: one of them is streamed, and nobody looks.
    """
    if any(isinstance(each.images, Streamed) for each in (split, others)):
        return None
    if split.images.shape[1:] != others.images.shape[1:]:
        return []
    found = []
    for group in find({"these": split, "others": others}):
        known = next((each.id for each in group if each.split == "others"), None)
        if known is not None:
            found += [(each.id, known) for each in group if each.split == "these"]
    return found


def _fingerprints(images: np.ndarray) -> np.ndarray:
    """Returns uint64 [n], equal for equal images and hardly ever for others."""
    height = images.shape[1]
    lines = np.unique(np.linspace(0, height - 1, _LINES + 2)[1:-1].round().astype(int))
    found = np.zeros(len(images), np.uint64)
    random = np.random.default_rng(0)
    for line in lines.tolist():
        weights = None
        for start in range(0, len(images), _BLOCK):
            block = np.ascontiguousarray(images[start : start + _BLOCK, line])
            pixels = block.reshape(len(block), -1).view(np.uint8)
            words = np.pad(pixels, ((0, 0), (0, -pixels.shape[1] % 8))).view(np.uint64)
            if weights is None:
                weights = random.integers(2**63, size=words.shape[1], dtype=np.uint64) * 2 + 1
            found[start : start + _BLOCK] += (words * weights).sum(axis=1, dtype=np.uint64)
    return found


def check(
    name: str,
    parts: dict[str, Split],
    class_names: Sequence[str],
    notes: list[str],
    root: Path | None = None,
    on_error: str = "refuse",
) -> None:
    """Notes equal images in two splits, and warns of those in test or in two classes.

    It warns also where every image of validation is in train, too.

    Args:
        name: the data set's, for messages.
        parts: the splits.
        class_names: label i is class_names[i].
        notes: receives a line for each two splits and one for the classes.
        root: the folder that ids are paths in; None: they are no files.
        on_error: `refuse` files that are in two classes, or `skip` the refusal.

    Raises:
        RunError: one file is in two class folders, byte for byte.
    """
    streamed = [part for part in parts if isinstance(parts[part].images, Streamed)]
    if streamed:
        notes.append(f"equal images are not looked for in {', '.join(streamed)}: it is streamed")
    groups = find({part: split for part, split in parts.items() if part not in streamed})
    contradicting = [group for group in groups if len({member.label for member in group}) > 1]
    if contradicting:
        if root is not None and on_error == "refuse":
            _refuse_equal_files(contradicting, root)
        count, named = len(contradicting), _named(contradicting, "label")
        how = "with different findings"
        if all(part.labels.ndim == 1 for part in parts.values()):
            classes = sorted({m.label for group in contradicting for m in group})
            listed = ", ".join(repr(class_names[i]) for i in classes[:5])
            how = f"in two classes (of {listed}{', ...' if len(classes) > 5 else ''})"
        notes.append(f"{text.plural(count, 'image')} {how}: {named}")
        logging.warning("%s: %s", name, notes[-1])
    order = list(parts)
    for i, one in enumerate(order):
        for other in order[i + 1 :]:
            both = [group for group in groups if {one, other} <= {m.split for m in group}]
            if both:
                count = sum(m.split == other for group in both for m in group)
                chosen = [[m for m in group if m.split in (one, other)] for group in both]
                notes.append(
                    f"{text.plural(count, 'image')} of {other} also in {one}: "
                    f"{_named(chosen, 'split')}"
                )
                if count == len(parts[other]):
                    notes[-1] += f"; the accuracy on {other} says nothing of new images"
                if "test" in (one, other) or count == len(parts[other]):  # not all show notes
                    logging.warning("%s: %s", name, notes[-1])


def _named(groups: list[list[Member]], by: str) -> str:
    """Returns "a = b, c = d and 5 more": of each group two members that differ in `by`."""
    pairs = []
    for group in groups[:_NAMED]:
        first = group[0]
        second = next(m for m in group if getattr(m, by) != getattr(first, by))
        pairs.append(f"{first} = {second}")
    more = f" and {len(groups) - _NAMED} more" if len(groups) > _NAMED else ""
    return ", ".join(pairs) + more


def _refuse_equal_files(groups: list[list[Member]], root: Path) -> None:
    """Raises RunError where files of two classes are equal."""
    equal = []
    for group in groups:
        by_content: dict[str, list[Member]] = collections.defaultdict(list)
        for member in group:
            with contextlib.suppress(OSError):  # it is gone since it was decoded
                by_content[files.sha256(root / member.id)].append(member)
        equal += [same for same in by_content.values() if len({m.label for m in same}) > 1]
    if not equal:
        return
    first = equal[0][0]
    second = next(m for m in equal[0] if m.label != first.label)
    more = f" (and {len(equal) - 1} more like it)" if len(equal) > 1 else ""
    raise RunError(
        f"{root / first.id} and {root / second.id} are one image in two classes{more}; remove the "
        "wrong one, or keep both with --dataset.on_error=skip"
    )
