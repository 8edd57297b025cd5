"""The figures of groups, of patients, say: each group is judged by the mean over its images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn_jax.evaluation import intervals, measures, two_classes


def measure(
    probabilities: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str],
    class_names: Sequence[str],
    *,
    positive: int | None = None,
    ordered: bool = False,
) -> dict[str, Any] | None:
    """Measures the mean probabilities of each group; None where each group has one image.

    A group whose images are of several classes has no label, and is left out.

    Args:
        probabilities: float [n, classes], of images.
        labels: int [n].
        groups: n names.
        class_names: the names of the classes.
        positive: the positive one of two classes, or None.
        ordered: whether the classes are grades in their order.

    Returns:
        What `measures.measure` finds of the groups, without `per_class` and with `groups` as their
        number, `left_out` as the number of groups with several classes, and of two classes the
        rates; only `groups` (0) and `left_out` where none is left.
    """
    own = intervals.group_numbers(groups, len(labels))
    sizes = np.bincount(own)
    if len(sizes) == len(labels):
        return None
    sums = np.zeros((len(sizes), probabilities.shape[1]))
    np.add.at(sums, own, probabilities)
    first = np.zeros(len(sizes), np.int64)
    first[own[::-1]] = labels[::-1]
    is_one = np.bincount(own, labels != first[own]) == 0
    about = {"groups": int(is_one.sum()), "left_out": int((~is_one).sum())}
    if not is_one.any():
        return about
    means, label = (sums / sizes[:, None])[is_one], first[is_one]
    found = measures.measure(means, label, class_names, positive=positive, ordered=ordered)
    del found["per_class"]
    if positive is not None:
        said = means.argmax(axis=1) == positive
        found |= two_classes.rates(said, label == positive)
    return {**found, **about}
