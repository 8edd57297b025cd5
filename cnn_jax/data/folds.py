"""Cross-validation: divides the training examples into folds, of which one is validated on.

Every example is in one fold, so over all folds each is validated on once. Which fold it is in
depends on nothing but the examples' ids and groups: runs of every seed have the same folds.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from cnn_jax import patterns, text
from cnn_jax.data import groups as grouping
from cnn_jax.data import splits
from cnn_jax.data.splits import Split
from cnn_jax.errors import RunError

_NAMED = 3


def hold_out(
    train: Split,
    fold: str,
    class_names: Sequence[str],
    notes: list[str],
    name: str = "--dataset.fold",
) -> dict[str, Split]:
    """Returns "train" and "validation": the other folds of the examples, and the one of them.

    Args:
        train: the examples that are divided.
        fold: which, such as "2/5".
        class_names: label i is class_names[i].
        notes: receives a line on what is validated on.
        name: what the fold was given as, for messages.

    Raises:
        RunError: there are fewer examples or groups than folds, or a class would have no example to
            train on in one of them.
    """
    number, count = patterns.parse_fold(fold)
    check(train, f"{name}={fold}", count, class_names)
    own = None if train.groups is None else list(train.groups)
    is_held = assign(splits.strata(train.labels), train.ids, own, count) == number - 1
    how = "class by class in proportion"
    if own is not None:
        how = "of whole groups, class by class in proportion as far as these allow"
    notes.append(
        f"validation: fold {number} of {count}, {int(is_held.sum())} of the {len(train)} images of "
        "'train' that are not held out for testing; the other folds are trained on. Folds are made "
        f"{how}, and are the same ones in every run"
    )
    return {
        "train": splits.take(train, np.flatnonzero(~is_held)),
        "validation": splits.take(train, np.flatnonzero(is_held)),
    }


def check(train: Split, given: str, count: int, class_names: Sequence[str]) -> None:
    """Refuses examples that cannot be divided into a number of folds.

    Raises:
        RunError: there are fewer examples or groups than folds, or a class has only one.
    """
    members = train.ids if train.groups is None else sorted(set(train.groups))
    noun = "image" if train.groups is None else "group"
    if len(members) < count:
        raise RunError(
            f"{given}: there are {text.plural(len(members), noun)} to divide into "
            f"{count} folds; give fewer folds"
        )
    per_class = splits.counts(train.labels, len(class_names))
    if train.groups is not None and train.labels.ndim == 2:
        has = train.labels > 0
        names = np.asarray(train.groups)
        per_class = np.array([len(np.unique(names[column])) for column in has.T])
    elif train.groups is not None:
        per_class = (grouping.counts_of(train.labels, train.groups)[2] > 0).sum(axis=0)
    if lonely := [class_names[int(i)] for i in np.flatnonzero(per_class == 1)]:
        listed = ", ".join(map(repr, lonely[:_NAMED])) + (", ..." if len(lonely) > _NAMED else "")
        raise RunError(
            f"{given}: of the class {listed} there is one {noun}, and the fold that "
            "has it would leave none to train on; add images, or leave that class out"
        )


def assign(
    labels: np.ndarray, ids: Sequence[str], groups: Sequence[str] | None, count: int
) -> np.ndarray:
    """Returns int64 [n], the fold of each example, from 0.

    Without groups the folds' sizes, and the numbers of a class in them, differ by one at most. With
    groups, these are dealt out in turn, the larger ones first, each to the fold that has the
    smallest share of their classes so far; of equals to the smaller fold.

    Args:
        labels: int [n].
        ids: n names.
        groups: n names of groups, each of which stays in one fold, or None.
        count: the number of folds, at most that of examples or groups.
    """
    if groups is None:
        hashes = _hashes(ids)
        order = sorted(range(len(ids)), key=lambda i: (labels[i], hashes[i]))
        fold = np.empty(len(ids), np.int64)
        fold[order] = np.arange(len(ids)) % count
        return fold
    names, inverse, counts = grouping.counts_of(labels, groups, int(labels.max()) + 1)
    hashes = _hashes(names.tolist())
    order = sorted(range(len(names)), key=lambda i: (-counts[i].sum(), hashes[i]))
    # A rare class counts as much as a frequent one.
    weight = 1 / np.maximum(counts.sum(axis=0), 1).astype(float) ** 2
    held = np.zeros((count, counts.shape[1]))
    own = np.empty(len(names), np.int64)
    for i in order:
        cost = (held * counts[i] * weight).sum(axis=1)
        own[i] = min(range(count), key=lambda f: (cost[f], held[f].sum(), f))
        held[own[i]] += counts[i]
    return own[inverse]


def _hashes(names: Sequence[str]) -> list[bytes]:
    return [hashlib.sha256(str(n).encode(errors="surrogateescape")).digest() for n in names]
