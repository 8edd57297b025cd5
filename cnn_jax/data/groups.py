"""Groups of examples that belong together, a patient's images, say: none is in two splits."""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Sequence

import numpy as np

from cnn_jax import text
from cnn_jax.data.splits import Split
from cnn_jax.errors import RunError, UsageError

# A file's name that ends in a number, which may count the images of one thing.
_COUNTED = re.compile(r"(.+?)[ _.-]+[a-z]{0,3}\d+(?:\.\w+)?$", re.IGNORECASE)
_NAMED = 3


def of_pattern(pattern: str) -> Callable[[str], str]:
    """Returns a function of an example's id that returns its group.

    Args:
        pattern: a regular expression, looked for in the id. The group is what its first pair of
            parentheses holds, or all that it matches.

    Raises:
        UsageError: it is no regular expression.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--dataset.group={pattern} is no regular expression: {error}") from error

    def group(name: str) -> str:
        found = compiled.search(name)
        if found is None:
            raise RunError(f"--dataset.group={pattern} matches nothing in {name!r}")
        chosen = found[1] if compiled.groups else found[0]
        if not chosen:
            raise RunError(f"--dataset.group={pattern} finds no group in {name!r}")
        return chosen

    return group


def assign(
    opened: dict[str, Split],
    group_of: Callable[[str], str] | None,
    others: dict[str, list[str]],
    notes: list[str],
) -> dict[str, Split]:
    """Returns the splits with the group of each example.

    Args:
        opened: {name: split}, the data's own splits.
        group_of: of an id; None: there are no groups, and names that look like some get a note.
        others: {name: ids} of splits that are not opened.
        notes: receives a line on the groups.

    Raises:
        RunError: a group is in two of the splits.
    """
    if group_of is None:
        notes += looks_grouped([name for split in opened.values() for name in split.ids])
        return opened
    found = {
        name: dataclasses.replace(split, groups=[group_of(each) for each in split.ids])
        for name, split in opened.items()
    }
    sets = {name: set(split.groups or ()) for name, split in found.items()}
    sets |= {name: set(map(group_of, ids)) for name, ids in others.items()}
    for i, one in enumerate(names := list(sets)):
        for other in names[i + 1 :]:
            both = sorted(sets[one] & sets[other])
            if both:
                listed = ", ".join(both[:_NAMED])
                more = f" and {len(both) - _NAMED} more" if len(both) > _NAMED else ""
                raise RunError(
                    f"{one} and {other} share {text.plural(len(both), 'group')} ({listed}"
                    f"{more}): what is measured on {other} would be known from {one}; move them "
                    "into one split"
                )
    count = sum(map(len, sets.values()))
    notes.append(f"groups: {count:,}, each in one split")
    return found


def looks_grouped(ids: Sequence[str]) -> list[str]:
    """Returns a note where names look like several images of one thing, or nothing."""
    stems: dict[str, list[str]] = {}
    for name in ids:
        if name.isdecimal():  # a position, which another split has too
            return []
        found = _COUNTED.match(name)
        stems.setdefault(found[1] if found else name, []).append(name)
    largest = max(stems.values(), key=len)
    many = len(ids) >= 1.2 * len(stems) and len(stems) >= 5 and 5 * len(largest) <= len(ids)
    if not many:
        return []
    examples = next(names for names in stems.values() if len(names) > 1)
    return [
        f"{examples[0]} and {examples[1]} look like images of one thing: keep such ones in one "
        "split with --dataset.group=REGEX"
    ]


def in_enough(labels: np.ndarray, groups: Sequence[str], splits: int) -> np.ndarray:
    """Returns bool [classes]: whether a class is in at least as many groups as there are splits.

    Args:
        labels: int [n].
        groups: n names.
        splits: the number of splits.
    """
    return (counts_of(labels, groups)[2] > 0).sum(axis=0) >= splits


def counts_of(
    labels: np.ndarray, groups: Sequence[str], classes: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (names of the groups, index of each example's, int [groups, classes])."""
    names, inverse = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.zeros((len(names), max(classes, labels.max() + 1)), np.int64)
    np.add.at(counts, (inverse, labels), 1)
    return names, inverse, counts


def hold_out(
    labels: np.ndarray, groups: Sequence[str], size: int, needed: np.ndarray, later: int
) -> np.ndarray:
    """Returns the ascending indices of about `size` examples, whole groups, stratified.

    Groups are taken in turn, the larger ones first, of equals in the order of the sha256 of their
    names; one is taken where it brings the number of each class nearer to its share. At least one
    group is held out, and one stays. A class that is needed and would have no example here gets
    its smallest group, as far as enough groups with it stay.

    Args:
        labels: int [n].
        groups: n names.
        size: how many examples to hold out, between 1 and n - 1.
        needed: bool [classes], the classes that every split is to have.
        later: how many splits are still to be served from what stays.
    """
    names, inverse, counts = counts_of(labels, groups, len(needed))
    hashes = [hashlib.sha256(str(n).encode(errors="surrogateescape")).digest() for n in names]
    order = sorted(range(len(names)), key=lambda i: (-counts[i].sum(), hashes[i]))
    target = counts.sum(axis=0) * (size / len(labels))
    weight = 1 / np.maximum(target, 1)  # a rare class counts as much as a frequent one
    held = np.zeros_like(target)
    taken: list[int] = []

    def distance(held: np.ndarray) -> float:
        return float((weight * (held - target) ** 2).sum())

    for i in order:
        if len(taken) < len(names) - 1 and distance(held + counts[i]) < distance(held):
            held = held + counts[i]
            taken.append(i)
    if not taken:
        taken = [order[-1]]
    has = counts > 0

    def is_enough(taken: list[int]) -> np.ndarray:
        """Returns bool [classes]: not needed, or in enough groups of those that stay."""
        return ~needed | (np.delete(has, taken, axis=0).sum(axis=0) >= later)

    for label in np.flatnonzero(needed):
        for i in reversed(order):  # the smaller ones first
            if has[taken, label].any():
                break
            if has[i, label] and is_enough([*taken, i])[has[i]].all():
                taken.append(i)
        for i in sorted(taken, key=order.index, reverse=True):
            kept = [other for other in taken if other != i]
            lost = has[i] & needed & ~has[kept].any(axis=0)
            if kept and not is_enough(taken)[label] and has[i, label] and not lost.any():
                taken = kept
    return np.flatnonzero(np.isin(inverse, taken))
