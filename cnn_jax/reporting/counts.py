"""How many examples each class has: rows of a table, and a sentence on how unequal they are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn_jax.reporting import order
from cnn_jax.text import plural

Counts = Mapping[str, Sequence[int] | np.ndarray]


def largest_and_smallest(
    counts: Counts, class_names: Sequence[str], most: int, shown: int
) -> np.ndarray:
    """Returns the indices of all classes; of too many, of the largest and of the smallest.

    Args:
        counts: {split: int `[classes]`}.
        class_names: the name of each class.
        most: up to so many classes, all are returned, in the order of `order.shown`.
        shown: how many are returned of more, half of them from each end, the largest first; by
            their examples in all splits.
    """
    sizes = np.sum([np.asarray(numbers) for numbers in counts.values()], axis=0)
    if len(sizes) <= most:
        return np.array(order.shown(class_names))
    by_size = np.argsort(-sizes, kind="stable")
    return np.concatenate([by_size[: shown // 2], by_size[-(shown // 2) :]])


def rows(counts: Counts, class_names: Sequence[str], most: int) -> list[list[Any]]:
    """Returns a row for each class: its name, and its examples in each split.

    Args:
        counts: {split: int `[classes]`}.
        class_names: the name of each class.
        most: of more classes, half as many of the largest and of the smallest have a row.
    """
    chosen = largest_and_smallest(counts, class_names, most, most)
    return [[class_names[i], *(int(n[i]) for n in counts.values())] for i in chosen.tolist()]


def ratio(counts: Counts, class_names: Sequence[str]) -> str:
    """Returns how much larger the largest class is than the smallest, in the training split."""
    train = np.asarray(counts["train"])
    large, small = int(train.argmax()), int(train.argmin())
    ends = f"{class_names[large]} {train[large]:,}, {class_names[small]} {train[small]:,}"
    if train[small] == 0:
        empty = int((train == 0).sum())
        return f"{empty:,} of {len(train):,} classes have no training image ({ends})"
    if train[large] == train[small]:
        return f"every class has {plural(int(train[small]), 'training image')}"
    times = train[large] / train[small]
    shown = f"{times:,.0f}" if times >= 100 else f"{times:.3g}"
    return f"{shown} : 1 in train ({ends})"
