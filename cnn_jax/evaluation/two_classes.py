"""Which of two classes is the positive one, and the rates that depend on it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn_jax.errors import UsageError
from cnn_jax.evaluation import intervals


def positive_class(name: str | None, class_names: Sequence[str]) -> int | None:
    """Returns the index of the positive one of two classes, by default the second; else None.

    Raises:
        UsageError: a name was given, and there are not two classes, or none of this name.
    """
    if name is None:
        return 1 if len(class_names) == 2 else None
    if len(class_names) != 2:
        raise UsageError(
            f"--dataset.positive={name} is for two classes, and there are {len(class_names)}"
        )
    if name not in class_names:
        raise UsageError(
            f"--dataset.positive={name} is no class; the classes are {' and '.join(class_names)}"
        )
    return list(class_names).index(name)


RATES = ("sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value")


def rates(
    said: np.ndarray, is_positive: np.ndarray, groups: Sequence[str] | None = None
) -> dict[str, Any]:
    """Returns the rates of two classes, each None where it has no example.

    Args:
        said: bool [n], which examples are taken for positive.
        is_positive: bool [n], which are.
        groups: n names of groups, or None.

    Returns:
        RATES, and under `rate_intervals` their intervals of 95 % by the same names.
    """
    own = intervals.group_numbers(groups, len(said))
    found, ends = {}, {}
    of = (is_positive, ~is_positive, said, ~said)
    hits = (said, ~said, is_positive, ~is_positive)
    for name, chosen, hit in zip(RATES, of, hits, strict=True):
        found[name] = float(hit[chosen].mean()) if chosen.any() else None
        ends[name] = intervals.proportion(hit[chosen], own[chosen])
    return {**found, "rate_intervals": ends}


def threshold(scores: np.ndarray, is_positive: np.ndarray, rate: str, least: float) -> float:
    """Returns the threshold at which a rate is reached, and the other one is as high as it gets.

    What scores at or above the threshold is taken for positive.

    Args:
        scores: float [n], the probability of the positive class.
        is_positive: bool [n].
        rate: "sensitivity" or "specificity".
        least: what it is to be at least, between 0 and 1.

    Raises:
        UsageError: there is no example to choose by.
    """
    chosen = np.sort(scores[is_positive if rate == "sensitivity" else ~is_positive])
    if not len(chosen):
        raise UsageError(f"there is no example to choose a threshold by its {rate}")
    if rate == "sensitivity":  # so many positives must lie at or above it
        return float(chosen[len(chosen) - math.ceil(least * len(chosen) - 1e-9)])
    below = math.ceil(least * len(chosen) - 1e-9)  # so many negatives must lie below it
    return float(np.nextafter(chosen[below - 1], np.inf))
